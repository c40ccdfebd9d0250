//! ACME settings and orders, and the discovery provider.

use quorate_proto_identity::{EndpointUrl, UnixSeconds};

use crate::event::Event;
use crate::federation::SecretName;
use crate::outcome::{Done, OperationResult, Refusal, RefusalCode};
use crate::state::State;
use crate::web::{
    Acme, AcmeSettings, FAILURE_REASON_LIMIT, FORMER_ISSUERS_LIMIT, FormerIssuer, NewWebCertificate, OidcProvider,
    OidcSettings, WebCertificate, WebChallenge, WebDomain, WebFailure, WebOrder,
};

impl State {
    /// Sets what is ordered where, if the settings are still those that the new ones were made from. Domains that are no
    /// longer wanted lose their certificate; orders of another authority are given up.
    pub(super) fn set_acme(
        &mut self,
        settings: Option<&AcmeSettings>,
        expected_revision: u64,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let before = self.acme();
        check_revision("the ACME settings", before.revision, expected_revision)?;
        if let Some(settings) = settings {
            settings.check().map_err(|error| Refusal::invalid(error.to_string()))?;
        }
        let revision = before.revision.saturating_add(1);
        self.acme.put((), Acme { revision, settings: settings.cloned() });
        events.push(Event::AcmeChanged);
        let is_wanted = |domain: &str| settings.is_some_and(|settings| settings.domains.iter().any(|d| d == domain));
        let known: Vec<WebDomain> = self.web_domains().cloned().collect();
        for domain in known {
            if !is_wanted(&domain.domain) {
                self.forget_domain(&domain, events);
                continue;
            }
            // Whoever corrects the settings does not wait for the next try; an order of another authority is of no use.
            let stays = |order: &WebOrder| settings.is_some_and(|settings| settings.directory == order.directory);
            let changed = match domain.order.clone() {
                Some(order) if !stays(&order) => {
                    self.drop_secret(&order.key, events);
                    WebDomain { order: None, failure: None, ..domain.clone() }
                }
                Some(_) | None => WebDomain { failure: None, ..domain.clone() },
            };
            if changed != domain {
                self.put_domain(changed, events);
            }
        }
        for name in settings.map(|settings| settings.domains.clone()).unwrap_or_default() {
            if self.web_domain(&name).is_none() {
                self.put_domain(WebDomain { requested_at: Some(now), ..WebDomain::new(name) }, events);
            }
        }
        Ok(Done::AcmeSet { revision })
    }

    /// Notes that another certificate is wanted, and forgets what failed: it is tried again at once.
    pub(super) fn request_web_certificate(
        &mut self,
        domain: &str,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let known = self.known_domain(domain)?;
        self.put_domain(WebDomain { failure: None, requested_at: Some(now), ..known }, events);
        Ok(Done::WebDomainChanged { domain: domain.to_owned() })
    }

    /// Notes an order that was placed.
    pub(super) fn begin_web_order(
        &mut self,
        domain: &str,
        url: &str,
        directory: &EndpointUrl,
        key: &SecretName,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let known = self.known_domain(domain)?;
        if let Some(order) = &known.order {
            // A leader that was replaced while it placed its own; that one is forgotten where it was placed.
            return Err(Refusal::new(
                RefusalCode::AlreadyExists,
                format!("an order for {domain} is under way: {}", order.url),
            ));
        }
        if self.acme().settings.as_ref().map(|settings| &settings.directory) != Some(directory) {
            return Err(Refusal::wrong_state(format!("orders go to another authority than {directory} by now")));
        }
        if !WebOrder::is_url(url) {
            return Err(Refusal::invalid(format!("the order for {domain} has no usable URL")));
        }
        if self.secret(key).is_none() {
            return Err(Refusal::not_found(format!("the key of the certificate, {key}, is not there")));
        }
        if let Some(other) = self.web_domains().find(|other| other.keys().any(|used| used == key)) {
            // It would be erased with an order that fails, while it is served.
            return Err(Refusal::invalid(format!("the key {key} is in use for {} already", other.domain)));
        }
        let order = WebOrder {
            url: url.to_owned(),
            directory: directory.clone(),
            key: key.clone(),
            challenge: None,
            begun_at: now,
        };
        self.put_domain(WebDomain { order: Some(order), ..known }, events);
        Ok(Done::WebDomainChanged { domain: domain.to_owned() })
    }

    /// Notes what proves control over a domain: every member answers it from here on.
    pub(super) fn set_web_challenge(
        &mut self,
        domain: &str,
        order: &str,
        challenge: &WebChallenge,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let known = self.known_domain(domain)?;
        let under_way = under_way(&known, order)?;
        if !challenge.is_usable() {
            return Err(Refusal::invalid(format!("the challenge for {domain} is none that can be answered")));
        }
        let order = WebOrder { challenge: Some(challenge.clone()), ..under_way };
        self.put_domain(WebDomain { order: Some(order), ..known }, events);
        Ok(Done::WebDomainChanged { domain: domain.to_owned() })
    }

    /// Takes a certificate into use; the key of the one before is erased.
    pub(super) fn record_web_certificate(
        &mut self,
        new: &NewWebCertificate,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let known = self.known_domain(&new.domain)?;
        let order = under_way(&known, &new.order)?;
        if !new.is_usable() {
            return Err(Refusal::invalid(format!("the certificate of {} has no usable chain", new.domain)));
        }
        if let Some(former) = known.certificate.as_ref().filter(|former| former.key != order.key) {
            self.drop_secret(&former.key, events);
        }
        let certificate =
            WebCertificate { chain: new.chain.clone(), key: order.key, validity: new.validity, recorded_at: now };
        self.put_domain(WebDomain { certificate: Some(certificate), ..WebDomain::new(new.domain.clone()) }, events);
        Ok(Done::WebDomainChanged { domain: new.domain.clone() })
    }

    /// Gives an order up, or notes that none could be placed.
    pub(super) fn fail_web_order(
        &mut self,
        domain: &str,
        order: Option<&str>,
        reason: &str,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let known = self.known_domain(domain)?;
        match (order, &known.order) {
            (Some(order), _) => {
                let failed = under_way(&known, order)?;
                self.drop_secret(&failed.key, events);
            }
            (None, None) => {}
            (None, Some(order)) => {
                return Err(Refusal::wrong_state(format!("an order for {domain} is under way: {}", order.url)));
            }
        }
        let count = known.failure.as_ref().map_or(0, |failure| failure.count).saturating_add(1);
        let mut reason = reason.to_owned();
        reason.truncate(reason.floor_char_boundary(FAILURE_REASON_LIMIT));
        let failure = WebFailure { count, reason, at: now };
        self.put_domain(WebDomain { order: None, failure: Some(failure), ..known }, events);
        Ok(Done::WebDomainChanged { domain: domain.to_owned() })
    }

    /// Sets the discovery provider. An issuer that is replaced is served until its overlap has ended.
    pub(super) fn set_oidc(
        &mut self,
        settings: Option<&OidcSettings>,
        expected_revision: u64,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let before = self.oidc().clone();
        check_revision("the settings of the discovery provider", before.revision, expected_revision)?;
        if let Some(settings) = settings {
            settings.check().map_err(|error| Refusal::invalid(error.to_string()))?;
        }
        let mut former = before.former;
        former.retain(|former| now < former.until);
        if let Some(replaced) = before.settings {
            // How long it stays is what the new settings say; where there are none, what it was said to be.
            let overlap = settings.map_or(replaced.issuer_overlap, |settings| settings.issuer_overlap);
            let until = now.plus(i64::from(overlap));
            former.push(FormerIssuer { issuer: replaced.issuer, until });
        }
        // One that is served beside the new one keeps its time: it is in tokens, whatever becomes of that wish.
        let is_current = |issuer: &str| settings.is_some_and(|settings| settings.issuer == issuer);
        former.retain(|former| now < former.until && !is_current(&former.issuer));
        // An issuer that was current twice is there once, for the longer time.
        former.sort_by(|one, other| (&one.issuer, other.until).cmp(&(&other.issuer, one.until)));
        former.dedup_by(|one, other| one.issuer == other.issuer);
        former.sort_by(|one, other| (one.until, &one.issuer).cmp(&(other.until, &other.issuer)));
        if former.len() > FORMER_ISSUERS_LIMIT {
            return Err(Refusal::new(
                RefusalCode::LimitReached,
                format!(
                    "{FORMER_ISSUERS_LIMIT} former issuers are still served, which is the most: wait, or shorten the overlap"
                ),
            ));
        }
        let revision = before.revision.saturating_add(1);
        self.oidc.put((), OidcProvider { revision, settings: settings.cloned(), former });
        events.push(Event::OidcChanged);
        Ok(Done::OidcSet { revision })
    }

    fn known_domain(&self, domain: &str) -> Result<WebDomain, Refusal> {
        let known = self.web_domain(domain).cloned();
        known.ok_or_else(|| Refusal::not_found(format!("{domain} is not among the domains of the ACME settings")))
    }

    fn put_domain(&mut self, domain: WebDomain, events: &mut Vec<Event>) {
        let name = domain.domain.clone();
        self.web_domains.put(name.clone(), domain);
        events.push(Event::WebDomainChanged { domain: name });
    }

    /// Erases a key; one that is gone already is gone.
    fn drop_secret(&mut self, name: &SecretName, events: &mut Vec<Event>) {
        drop(self.delete_secret(name, events));
    }

    fn forget_domain(&mut self, domain: &WebDomain, events: &mut Vec<Event>) {
        for key in domain.keys() {
            self.drop_secret(key, events);
        }
        self.web_domains.remove(&domain.domain);
        events.push(Event::WebDomainChanged { domain: domain.domain.clone() });
    }
}

fn under_way(domain: &WebDomain, order: &str) -> Result<WebOrder, Refusal> {
    match &domain.order {
        Some(known) if known.url == order => Ok(known.clone()),
        Some(_) | None => Err(Refusal::wrong_state(format!("order {order} for {} is not under way", domain.domain))),
    }
}

fn check_revision(what: &str, revision: u64, expected: u64) -> Result<(), Refusal> {
    if expected == 0 || expected == revision {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::Conflict,
        format!(
            "{what} are at revision {revision}, not {expected}: somebody else changed them; read them again and repeat the \
             change"
        ),
    ))
}
