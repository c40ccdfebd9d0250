//! The search in DNS: from the trust domain's name to places where its bundle may be served.
//!
//! ```text
//!   _spiffe-fed._tcp.<trust domain>   PTR ──► <instance>._spiffe-fed._tcp.<trust domain>
//!                                               SRV ──► host, port        TXT ──► profile, path, SPIFFE ID
//!                                     SRV ──► host, port                  nothing by PTR: an endpoint without a name
//!                                     TXT ──► profile, path, SPIFFE ID    of its own
//! ```
//!
//! Pure but for the look-ups. Whatever DNS says, the number of look-ups has a bound, and nothing found is followed
//! further than one step: a pointer to a pointer, or to itself, is a name without SRV records.

use std::str::FromStr as _;

use hickory_resolver::proto::rr::Name;
use quorate_proto_identity::{EndpointUrl, EndpointUrlError, TrustDomain, check_dns_name};

use super::records::{Answer, Records, RecordsError, Service};
use super::text::{Kind, TextError};

/// Service and protocol, as RFC 6763 writes them. A service's name has at most 15 characters (RFC 6335, section 5.1).
pub const SERVICE: &str = "_spiffe-fed._tcp";

/// Most instances that are looked at: two profiles and two Federation APIs, twice. An answer has room for hundreds.
pub const INSTANCES_LIMIT: usize = 8;

/// Most places of one instance that are looked at, those that are wanted most.
pub const PLACES_LIMIT: usize = 4;

/// How a place was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundBy {
    /// By DNS service discovery, as this instance.
    Instance(String),
    /// By an SRV record of the service itself.
    Service,
    /// In the document of a Federation API at this URL.
    Document(String),
}

/// A place where a bundle may be served, before anybody has looked there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// How it was found.
    pub by: FoundBy,
    /// Where it is.
    pub url: EndpointUrl,
    /// What it is; nothing where nobody said, and it is not guessed (FED-50).
    pub kind: Option<Kind>,
    /// DNSSEC vouches for every record that led here.
    pub vouched: bool,
}

/// Whether a host may be proposed for a trust domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the trust domain's name, or below it: whoever holds the name holds the host.
    Within,
    /// It is elsewhere, and the trust domain's signed zone says so.
    Vouched,
    /// It is elsewhere, and nobody vouches for that: an operator has to confirm it.
    Elsewhere,
}

/// Why a record leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error("it has no SRV record")]
    NoService,
    #[error("its SRV record says that the service is not there")]
    NotThere,
    #[error("its SRV record names the host {0:?}, which is no host name")]
    Host(String),
    #[error("its SRV record names port 0")]
    Port,
    #[error("its place is none: {0}")]
    Url(#[from] EndpointUrlError),
    #[error("it is an instance of something else")]
    OtherService,
}

/// What a search came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The places, those wanted most first.
    pub found: Vec<Found>,
    /// What was passed over and why, a sentence each.
    pub remarks: Vec<String>,
}

/// The trust domain has no name that DNS could know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no name that DNS can know: ask its operators for the endpoint, and create the relationship by hand")]
pub struct NoDnsName(TrustDomain);

/// Whether a host may be proposed for a trust domain; `vouched` when DNSSEC vouches for all that led there.
#[must_use]
pub fn standing(domain: &TrustDomain, host: &str, vouched: bool) -> Standing {
    let name = domain.as_str();
    let host = host.to_ascii_lowercase();
    let is_within = host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    if is_within {
        Standing::Within
    } else if vouched {
        Standing::Vouched
    } else {
        Standing::Elsewhere
    }
}

/// Searches: by instances, and if there are none by the service's own SRV records.
///
/// # Errors
/// When the trust domain's name is none that DNS can know.
pub async fn find(domain: &TrustDomain, records: &dyn Records) -> Result<Findings, NoDnsName> {
    let service = service_name(domain)?;
    let mut findings = Findings::default();
    by_instances(&service, records, &mut findings).await;
    if findings.found.is_empty() {
        let place = Place { name: &service, by: FoundBy::Service, led_by_vouched: true };
        match place.look(records).await {
            Ok(found) => findings.found = found,
            Err(Fault::NoService) => findings.remarks.push(format!("{} has no SRV record", shown(&service))),
            Err(fault) => findings.remarks.push(format!("{}: {fault}", shown(&service))),
        }
    }
    Ok(findings)
}

fn service_name(domain: &TrustDomain) -> Result<Name, NoDnsName> {
    let no_name = || NoDnsName(domain.clone());
    check_dns_name(domain.as_str()).map_err(|_| no_name())?;
    let mut name = Name::from_str(&format!("{SERVICE}.{}", domain.as_str())).map_err(|_| no_name())?;
    // With the final dot no search list of the host is tried.
    name.set_fqdn(true);
    Ok(name)
}

async fn by_instances(service: &Name, records: &dyn Records, findings: &mut Findings) {
    let pointers = match records.pointers(service).await {
        Ok(pointers) => pointers,
        Err(error) => return findings.remarks.push(error.to_string()),
    };
    if pointers.records.is_empty() {
        return findings.remarks.push(format!("{} has no PTR record", shown(service)));
    }
    let Answer { records: mut instances, vouched } = pointers;
    instances.sort();
    instances.dedup();
    if instances.len() > INSTANCES_LIMIT {
        findings.remarks.push(format!("of {} instances only {INSTANCES_LIMIT} were looked at", instances.len()));
    }
    for instance in instances.iter().take(INSTANCES_LIMIT) {
        let by = FoundBy::Instance(label_of(instance));
        let place = Place { name: instance, by, led_by_vouched: vouched };
        let looked = if is_instance(instance) { place.look(records).await } else { Err(Fault::OtherService) };
        match looked {
            Ok(found) => findings.found.extend(found),
            Err(fault) => findings.remarks.push(format!("the instance {}: {fault}", shown(instance))),
        }
    }
}

/// Whether a name is an instance of our service, in whichever domain.
fn is_instance(name: &Name) -> bool {
    let labels: Vec<&[u8]> = name.iter().skip(1).take(2).collect();
    let mut wanted = SERVICE.split('.').map(str::as_bytes);
    labels.iter().all(|label| wanted.next().is_some_and(|wanted| label.eq_ignore_ascii_case(wanted)))
        && labels.len() == 2
}

/// A name that has SRV and TXT records.
struct Place<'a> {
    name: &'a Name,
    by: FoundBy,
    led_by_vouched: bool,
}

impl Place<'_> {
    async fn look(self, records: &dyn Records) -> Result<Vec<Found>, Fault> {
        let services = records.services(self.name).await?;
        if services.records.is_empty() {
            return Err(Fault::NoService);
        }
        let texts = records.texts(self.name).await?;
        let kind = match (Kind::of_texts(&texts.records), &self.by) {
            (Ok(kind), _) => Some(kind),
            // Whoever has no more than an SRV record says the profile by another way, and it is not guessed meanwhile.
            (Err(TextError::NoProfile), FoundBy::Service) if texts.records.is_empty() => None,
            (Err(error), _) => return Err(error.into()),
        };
        let vouched = self.led_by_vouched && services.vouched && (texts.vouched || texts.records.is_empty());
        let mut places = services.records;
        places.sort_by_key(|place| (place.priority, std::cmp::Reverse(place.weight)));
        let at = |place: &Service| {
            let url = url(place, kind.as_ref())?;
            Ok(Found { by: self.by.clone(), url, kind: kind.clone(), vouched })
        };
        let found: Vec<Result<Found, Fault>> = places.iter().take(PLACES_LIMIT).map(at).collect();
        // One bad place does not spoil the others; when all are bad, the first says why.
        let (good, bad): (Vec<_>, Vec<_>) = found.into_iter().partition(Result::is_ok);
        let good: Vec<Found> = good.into_iter().flatten().collect();
        match bad.into_iter().find_map(Result::err) {
            Some(fault) if good.is_empty() => Err(fault),
            Some(_) | None => Ok(good),
        }
    }
}

fn url(place: &Service, kind: Option<&Kind>) -> Result<EndpointUrl, Fault> {
    if place.target.is_root() {
        return Err(Fault::NotThere);
    }
    let host = shown(&place.target).to_ascii_lowercase();
    if check_dns_name(&host).is_err() || host.starts_with('*') {
        return Err(Fault::Host(host));
    }
    if place.port == 0 {
        return Err(Fault::Port);
    }
    let path = match kind {
        Some(Kind::Web { path } | Kind::Spiffe { path, .. }) => path.as_str(),
        Some(Kind::Api { .. }) | None => "/",
    };
    let url = EndpointUrl::parse(&format!("https://{host}:{}{path}", place.port))?;
    // A name of digits is an address to a URL, which is not what an SRV record may say (RFC 2782).
    if url.ip().is_some() { Err(Fault::Host(host)) } else { Ok(url) }
}

/// A name as people write it, without the final dot.
fn shown(name: &Name) -> String {
    let text = name.to_ascii();
    text.strip_suffix('.').map_or_else(|| text.clone(), str::to_owned)
}

/// The first label, which is free text of the publisher.
fn label_of(name: &Name) -> String {
    name.iter().next().map(|label| String::from_utf8_lossy(label).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
