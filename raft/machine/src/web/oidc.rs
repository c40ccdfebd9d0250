//! The OpenID Connect discovery provider: which issuers there are documents for, and for how long they are cached.

use quorate_proto_identity::{EndpointUrl, UnixSeconds};

use super::{WebSettingsError, check_domain, in_range, once};
use crate::state::State;

/// How long readers may keep the key set, in seconds, unless set: minutes, since a key that is replaced because it is
/// compromised is out of reach of nobody who holds it before then.
pub const JWKS_CACHE_TIME_DEFAULT: u32 = 300;

/// Longest cache time, in seconds. A token key waits for it before it signs, so a day would already hold up a rotation.
pub const JWKS_CACHE_TIME_LIMIT: u32 = 24 * 3_600;

/// Longest overlap of issuers, in seconds: a year.
pub const ISSUER_OVERLAP_LIMIT: u32 = 366 * 24 * 3_600;

/// Most issuers that documents are served for beside the one in tokens.
pub const ISSUERS_LIMIT: usize = 8;

/// Most former issuers that are still served.
pub const FORMER_ISSUERS_LIMIT: usize = 8;

/// Most further host names that are answered.
const HOSTS_LIMIT: usize = 32;

/// Longest issuer, in bytes. It is in every token.
const ISSUER_LIMIT: usize = 512;

/// What is served, as the operator wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcSettings {
    /// `iss` of every JWT-SVID from now on, and what the discovery document is for: `https://HOST` or
    /// `https://HOST/PATH`.
    pub issuer: String,
    /// Issuers that there are documents for as well, though no token names them: one that is to come, so that those who
    /// rely on us can be told of it before the first token.
    pub also: Vec<String>,
    /// Further host names that the document of `issuer` is served under; every other one is answered 404 or 421.
    pub domains: Vec<String>,
    /// How long readers may keep the key set, in seconds.
    pub jwks_cache_time: u32,
    /// How long the documents of an issuer are served after it was replaced, in seconds: at least as long as its tokens
    /// live, and as those who rely on it take to change over.
    pub issuer_overlap: u32,
}

impl OidcSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// The first rule that is broken, with what to write instead.
    pub fn check(&self) -> Result<(), WebSettingsError> {
        in_range("further issuers", self.also.len() as u64, 0, ISSUERS_LIMIT as u64)?;
        in_range("domains", self.domains.len() as u64, 0, HOSTS_LIMIT as u64)?;
        in_range("jwks_cache_time", self.jwks_cache_time.into(), 1, JWKS_CACHE_TIME_LIMIT.into())?;
        in_range("issuer_overlap", self.issuer_overlap.into(), 0, ISSUER_OVERLAP_LIMIT.into())?;
        let issuers = || std::iter::once(&self.issuer).chain(&self.also);
        issuers().try_for_each(|issuer| check_issuer(issuer))?;
        once(issuers())?;
        self.domains.iter().try_for_each(|domain| check_domain(domain))?;
        once(&self.domains)
    }
}

/// An issuer is compared byte for byte (OpenID Connect Discovery 1.0, section 4.3), and its document is found by putting
/// a path behind it: so it is what a URL prints, without a slash at its end, without query.
fn check_issuer(issuer: &str) -> Result<(), WebSettingsError> {
    let url = EndpointUrl::parse(issuer).map_err(|source| WebSettingsError::Url {
        field: "issuer",
        value: issuer.to_owned(),
        source,
    })?;
    let fault = |fault| Err(WebSettingsError::Issuer { value: issuer.to_owned(), fault });
    if issuer.len() > ISSUER_LIMIT {
        return fault("is longer than 512 bytes, and would be in every token");
    }
    if issuer.contains('?') {
        return fault("has a query");
    }
    if issuer.ends_with('/') {
        return fault("ends with a slash");
    }
    let printed = url.to_string();
    if printed.strip_suffix('/').unwrap_or(&printed) != issuer {
        return fault("is not in the form in which URLs are compared");
    }
    Ok(())
}

/// Host, and port if one is written, of an issuer that was checked.
#[must_use]
pub fn host_of(issuer: &str) -> &str {
    let rest = issuer.strip_prefix("https://").unwrap_or(issuer);
    rest.split_once('/').map_or(rest, |(host, _path)| host)
}

/// An issuer that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerIssuer {
    /// As it was in tokens.
    pub issuer: String,
    /// Until when its documents are served, in the log's time.
    pub until: UnixSeconds,
}

/// The settings, how often they were set, and the issuers before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OidcProvider {
    /// One higher with each change; 0 while nothing was ever set.
    pub revision: u64,
    /// The settings; none while the provider is off.
    pub settings: Option<OidcSettings>,
    /// Issuers that were replaced, the newest last.
    pub former: Vec<FormerIssuer>,
}

impl OidcProvider {
    /// `iss` of the tokens that are signed now.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.settings.as_ref().map(|settings| settings.issuer.as_str())
    }

    /// Every issuer that there are documents for at `now`, the one in tokens first.
    pub fn issuers(&self, now: UnixSeconds) -> impl Iterator<Item = &str> {
        let current = self.settings.iter().flat_map(|settings| std::iter::once(&settings.issuer).chain(&settings.also));
        let is_also = |issuer| self.settings.as_ref().is_some_and(|settings| settings.also.contains(issuer));
        let former = self.former.iter().filter(move |former| now < former.until).map(|former| &former.issuer);
        let former = former.filter(move |issuer| !is_also(*issuer));
        current.chain(former).map(String::as_str)
    }
}

impl State {
    /// The OpenID Connect discovery provider; revision 0 while nothing was ever set.
    #[must_use]
    pub fn oidc(&self) -> &OidcProvider {
        static NONE: OidcProvider = OidcProvider { revision: 0, settings: None, former: Vec::new() };
        self.oidc.get(&()).unwrap_or(&NONE)
    }

    /// `iss` of the JWT-SVIDs that are signed now; none where no discovery provider is set up.
    #[must_use]
    pub fn jwt_issuer(&self) -> Option<&str> {
        self.oidc().issuer()
    }

    /// How long those who rely on our tokens may keep the key set, in seconds: a new token key is to be published for so
    /// long before it signs.
    #[must_use]
    pub fn jwks_cache_time(&self) -> u32 {
        self.oidc().settings.as_ref().map_or(JWKS_CACHE_TIME_DEFAULT, |settings| settings.jwks_cache_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> OidcSettings {
        OidcSettings {
            issuer: "https://oidc.example.org".to_owned(),
            also: Vec::new(),
            domains: vec!["oidc.internal".to_owned()],
            jwks_cache_time: 300,
            issuer_overlap: 86_400,
        }
    }

    #[test]
    fn an_issuer_is_written_in_one_way() {
        for good in ["https://oidc.example.org", "https://oidc.example.org:8443", "https://example.org/oidc/a"] {
            OidcSettings { issuer: good.to_owned(), ..settings() }.check().unwrap_or_else(|error| panic!("{error}"));
        }
        for bad in [
            "http://oidc.example.org",
            "https://oidc.example.org/",
            "https://oidc.example.org/a/",
            "https://oidc.example.org/a?b",
            "https://oidc.example.org#a",
            "https://OIDC.example.org",
            "https://oidc.example.org:443",
            "https://user@oidc.example.org",
            "https://oidc.example.org/a/../b",
            "oidc.example.org",
            "",
        ] {
            assert!(OidcSettings { issuer: bad.to_owned(), ..settings() }.check().is_err(), "{bad}");
        }
    }

    #[test]
    fn settings_are_checked_value_by_value() {
        let changes: [fn(&mut OidcSettings); 7] = [
            |s| s.jwks_cache_time = 0,
            |s| s.jwks_cache_time = JWKS_CACHE_TIME_LIMIT + 1,
            |s| s.issuer_overlap = ISSUER_OVERLAP_LIMIT + 1,
            |s| s.also.push(s.issuer.clone()),
            |s| s.also = (0..=ISSUERS_LIMIT).map(|n| format!("https://i{n}.example.org")).collect(),
            |s| s.domains.push("Oidc.internal".to_owned()),
            |s| s.domains.push("oidc.internal".to_owned()),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = settings();
            change(&mut changed);
            assert!(changed.check().is_err(), "change {number}: {changed:?}");
        }
    }

    #[test]
    fn documents_are_served_for_the_issuer_those_to_come_and_those_before_until_their_overlap_ends() {
        let provider = OidcProvider {
            revision: 2,
            settings: Some(OidcSettings { also: vec!["https://next.example.org".to_owned()], ..settings() }),
            former: vec![FormerIssuer { issuer: "https://old.example.org".to_owned(), until: UnixSeconds(10) }],
        };
        let at = |now| provider.issuers(UnixSeconds(now)).collect::<Vec<_>>();
        assert_eq!(at(9), ["https://oidc.example.org", "https://next.example.org", "https://old.example.org"]);
        assert_eq!(at(10), ["https://oidc.example.org", "https://next.example.org"]);
        assert_eq!(host_of("https://example.org:8443/a/b"), "example.org:8443");
    }
}
