//! What a request is about: which issuer, and which of its documents.

use http::header::HOST;
use http::{HeaderMap, Request, StatusCode};
use quorate_proto_identity::UnixSeconds;
use quorate_raft_machine::web::{OidcProvider, host_of};

use super::documents::{CONFIGURATION_PATH, KEYS_PATH};

const FORWARDED_HOST: &str = "x-forwarded-host";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// A document of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Document {
    Configuration,
    Keys,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) issuer: String,
    pub(super) document: Document,
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misdirected {
    #[error("no discovery provider is set up; `quorate oidc set` does that")]
    Off,
    #[error("one host name is needed")]
    NoHost,
    #[error("the proxy forwards more than one value of a header: it must replace what clients send")]
    Forwarded,
    #[error("the proxy says that the client came without TLS")]
    NoTls,
    #[error(
        "this host name is not served here: it is neither of an issuer nor among the domains of `quorate oidc show`"
    )]
    OtherHost,
    #[error("there are /.well-known/openid-configuration and /keys behind each issuer")]
    OtherPath,
}

impl Misdirected {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Off | Self::OtherPath => StatusCode::NOT_FOUND,
            Self::NoHost | Self::Forwarded | Self::NoTls => StatusCode::BAD_REQUEST,
            Self::OtherHost => StatusCode::MISDIRECTED_REQUEST,
        }
    }
}

/// Finds out what is asked for. An issuer is known by its host and path; a host that names a port is compared with it where
/// the issuer names one, and without it otherwise, because those who forward a port say another one.
pub(super) fn asked<B>(
    provider: &OidcProvider,
    request: &Request<B>,
    now: UnixSeconds,
    behind_proxy: bool,
) -> Result<Asked, Misdirected> {
    let host = host(request, behind_proxy)?;
    if provider.issuers(now).next().is_none() {
        return Err(Misdirected::Off);
    }
    let path = request.uri().path();
    let split = [(CONFIGURATION_PATH, Document::Configuration), (KEYS_PATH, Document::Keys)]
        .into_iter()
        .find_map(|(suffix, document)| Some((path.strip_suffix(suffix)?, document)));
    let hosts = || provider.issuers(now).filter(|issuer| is_host(host_of(issuer), &host));
    let is_further = provider
        .settings
        .as_ref()
        .is_some_and(|settings| settings.domains.iter().any(|domain| domain == without_port(&host)));
    if !is_further && hosts().next().is_none() {
        return Err(Misdirected::OtherHost);
    }
    let (folder, document) = split.ok_or(Misdirected::OtherPath)?;
    // Under a further name there is the document of the issuer in tokens, which says where it really is.
    let current = provider.issuer().filter(|_| is_further);
    // Of two that differ in their ports alone, the one whose port was named.
    let exact = hosts().filter(|issuer| host_of(issuer) == host);
    let issuer = exact.chain(hosts()).chain(current).find(|issuer| path_of(issuer) == folder);
    let issuer = issuer.ok_or(Misdirected::OtherPath)?.to_owned();
    Ok(Asked { issuer, document })
}

/// The host that the client named, in lower case. What stands in front of us says it in `X-Forwarded-Host`, and it alone:
/// where nothing stands in front, those headers are anybody's and are not looked at.
fn host<B>(request: &Request<B>, behind_proxy: bool) -> Result<String, Misdirected> {
    if behind_proxy {
        let headers = request.headers();
        if let Some(proto) = forwarded(headers, FORWARDED_PROTO)?
            && !proto.eq_ignore_ascii_case("https")
        {
            return Err(Misdirected::NoTls);
        }
        if let Some(host) = forwarded(headers, FORWARDED_HOST)? {
            return Ok(host.to_ascii_lowercase());
        }
    }
    // HTTP/2 has the host in the URI.
    if let Some(authority) = request.uri().authority() {
        return Ok(authority.as_str().to_ascii_lowercase());
    }
    let mut named = request.headers().get_all(HOST).iter();
    match (named.next().and_then(|host| host.to_str().ok()), named.next()) {
        (Some(host), None) if !host.is_empty() => Ok(host.to_ascii_lowercase()),
        _ => Err(Misdirected::NoHost),
    }
}

/// The one value of a header that a proxy sets. A list has a value that the client sent in front of the proxy's.
fn forwarded<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Misdirected> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let value = value.to_str().map_err(|_| Misdirected::Forwarded)?.trim();
    if values.next().is_some() || value.contains(',') || value.is_empty() {
        return Err(Misdirected::Forwarded);
    }
    Ok(Some(value))
}

fn is_host(of_issuer: &str, named: &str) -> bool {
    of_issuer == named || without_port(of_issuer) == without_port(named)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        Some(_) | None => host,
    }
}

/// What stands behind the host in an issuer, without a slash at its end.
fn path_of(issuer: &str) -> &str {
    let rest = issuer.strip_prefix("https://").unwrap_or(issuer);
    rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use quorate_raft_machine::web::{FormerIssuer, OidcSettings};

    use super::*;

    fn provider() -> OidcProvider {
        let settings = OidcSettings {
            issuer: "https://oidc.example.org".to_owned(),
            also: vec!["https://example.org:8443/next".to_owned()],
            domains: vec!["internal.example.org".to_owned()],
            jwks_cache_time: 300,
            issuer_overlap: 60,
        };
        let former = FormerIssuer { issuer: "https://old.example.org/a".to_owned(), until: UnixSeconds(10) };
        OidcProvider { revision: 1, settings: Some(settings), former: vec![former] }
    }

    fn ask(host: &str, path: &str, now: i64) -> Result<String, Misdirected> {
        let request = Request::get(path).header(HOST, host).body(()).unwrap();
        asked(&provider(), &request, UnixSeconds(now), false).map(|asked| asked.issuer)
    }

    #[test]
    fn an_issuer_is_found_by_host_and_path() {
        let issuer = |issuer: &str| Ok(issuer.to_owned());
        for (host, path, found) in [
            ("oidc.example.org", "/keys", issuer("https://oidc.example.org")),
            ("OIDC.example.org:443", "/.well-known/openid-configuration", issuer("https://oidc.example.org")),
            ("internal.example.org", "/.well-known/openid-configuration", issuer("https://oidc.example.org")),
            ("example.org:8443", "/next/keys", issuer("https://example.org:8443/next")),
            ("example.org", "/next/.well-known/openid-configuration", issuer("https://example.org:8443/next")),
            ("old.example.org", "/a/keys", issuer("https://old.example.org/a")),
            ("old.example.org", "/keys", Err(Misdirected::OtherPath)),
            ("oidc.example.org", "/", Err(Misdirected::OtherPath)),
            ("oidc.example.org", "/keys/", Err(Misdirected::OtherPath)),
            ("oidc.example.org", "/next/keys", Err(Misdirected::OtherPath)),
            ("evil.example", "/keys", Err(Misdirected::OtherHost)),
            ("oidc.example.org.evil.example", "/keys", Err(Misdirected::OtherHost)),
            ("", "/keys", Err(Misdirected::NoHost)),
        ] {
            assert_eq!(ask(host, path, 9), found, "{host} {path}");
        }
        assert_eq!(ask("old.example.org", "/a/keys", 10), Err(Misdirected::OtherHost), "its overlap has ended");
    }

    #[test]
    fn what_a_client_says_of_forwarding_counts_behind_a_proxy_alone_and_once() {
        let with = |headers: &[(&'static str, &'static str)], behind_proxy| {
            let mut request = Request::get("/keys").header(HOST, "localhost");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(()).unwrap();
            asked(&provider(), &request, UnixSeconds(0), behind_proxy).map(|asked| asked.issuer)
        };
        let good = [(FORWARDED_HOST, "oidc.example.org"), (FORWARDED_PROTO, "https")];
        assert_eq!(with(&good, true), Ok("https://oidc.example.org".to_owned()));
        assert_eq!(with(&good, false), Err(Misdirected::OtherHost));
        assert_eq!(with(&[(FORWARDED_HOST, "oidc.example.org, evil.example")], true), Err(Misdirected::Forwarded));
        let twice = [(FORWARDED_HOST, "evil.example"), (FORWARDED_HOST, "oidc.example.org")];
        assert_eq!(with(&twice, true), Err(Misdirected::Forwarded));
        assert_eq!(
            with(&[(FORWARDED_HOST, "oidc.example.org"), (FORWARDED_PROTO, "http")], true),
            Err(Misdirected::NoTls)
        );
        assert_eq!(with(&[(FORWARDED_HOST, "evil.example")], true), Err(Misdirected::OtherHost));
    }
}
