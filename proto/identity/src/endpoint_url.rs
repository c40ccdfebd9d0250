//! The URL of a bundle endpoint, or of a Federation API (FED-18, FED-31).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::{Host, Url};

/// Longest URL, in bytes: more than any server takes in its request line by default, and short enough to be told whole.
pub const ENDPOINT_URL_LIMIT: usize = 2_048;

/// Where a trust domain's bundle is served: an `https` URL with a host, without user, password or fragment. Port, path and
/// query are free.
///
/// Whose bundle it serves, and by which profile, never follows from it (FED-50).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointUrl(Url);

impl EndpointUrl {
    /// Takes a URL as an operator, a redirect or a discovery gave it.
    ///
    /// # Errors
    /// When it is not one that a bundle can be fetched from. What browsers mend in silence (white space, backslashes,
    /// missing slashes) is refused: another program would read another host in it.
    pub fn parse(text: &str) -> Result<Self, EndpointUrlError> {
        if text.len() > ENDPOINT_URL_LIMIT {
            return Err(EndpointUrlError::TooLong { length: text.len() });
        }
        if let Some(found) = text.chars().find(|found| !found.is_ascii_graphic() || *found == '\\') {
            return Err(EndpointUrlError::Character { found });
        }
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        if !scheme.eq_ignore_ascii_case("https") {
            return Err(EndpointUrlError::Scheme);
        }
        let rest = text.split_at_checked(scheme.len()).map_or("", |(_, rest)| rest);
        let rest = rest.strip_prefix("://").ok_or(EndpointUrlError::Host)?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() {
            return Err(EndpointUrlError::Host);
        }
        if authority.contains('@') {
            return Err(EndpointUrlError::UserInfo);
        }
        if rest.contains('#') {
            return Err(EndpointUrlError::Fragment);
        }
        Self::check(Url::parse(text)?)
    }

    /// The target of a redirect from here (FED-25, FED-39): a URL, or a reference relative to this one. Its fragment is no
    /// part of what is asked for, and left out.
    ///
    /// # Errors
    /// As [`EndpointUrl::parse`]: a target must satisfy the same rules.
    pub fn join(&self, location: &str) -> Result<Self, EndpointUrlError> {
        let location = location.split('#').next().unwrap_or_default();
        if location.len() > ENDPOINT_URL_LIMIT {
            return Err(EndpointUrlError::TooLong { length: location.len() });
        }
        if let Some(found) = location.chars().find(|found| !found.is_ascii_graphic() || *found == '\\') {
            return Err(EndpointUrlError::Character { found });
        }
        let has_scheme = location.split(['/', '?']).next().is_some_and(|first| first.contains(':'));
        if has_scheme {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("https://{rest}"));
        }
        let joined = self.0.join(location)?;
        if joined.as_str().len() > ENDPOINT_URL_LIMIT {
            return Err(EndpointUrlError::TooLong { length: joined.as_str().len() });
        }
        Self::check(joined)
    }

    fn check(url: Url) -> Result<Self, EndpointUrlError> {
        if url.scheme() != "https" {
            return Err(EndpointUrlError::Scheme);
        }
        if url.host().is_none() {
            return Err(EndpointUrlError::Host);
        }
        if url.port() == Some(0) {
            return Err(EndpointUrlError::Port);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointUrlError::UserInfo);
        }
        Ok(Self(url))
    }

    /// The URL in its usual form; it parses back to the same one.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The host: a DNS name, or an IP address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    /// The host, when it is an IP address. Every way of writing one is known here (`0x7f.1` is 127.0.0.1), so that no
    /// name is left that a resolver would read as an address (ATK-37).
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }

    /// The port, 443 when none is written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }

    /// Host and port as the `Host` header and `:authority` have them: the port only when it is not 443.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// What is asked for at the host: path and query.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        match self.0.query() {
            Some(query) => format!("{}?{query}", self.0.path()),
            None => self.0.path().to_owned(),
        }
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "EndpointUrl({self})")
    }
}

impl FromStr for EndpointUrl {
    type Err = EndpointUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Why a text is not the URL of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointUrlError {
    /// Longer than [`ENDPOINT_URL_LIMIT`].
    #[error("the endpoint URL has {length} bytes, the most is {ENDPOINT_URL_LIMIT}")]
    TooLong {
        /// How many bytes it has.
        length: usize,
    },
    /// A space, a control character, a backslash, or a character outside ASCII, which must be percent-encoded.
    #[error(
        "the endpoint URL holds the character {found:?}, which must be percent-encoded, or written as punycode in a host"
    )]
    Character {
        /// The first one that is not allowed.
        found: char,
    },
    /// Any scheme but `https` (FED-18).
    #[error("the endpoint URL does not begin with https://")]
    Scheme,
    /// There is no host.
    #[error("the endpoint URL has no host; write https://host/path")]
    Host,
    /// The port is 0.
    #[error("the endpoint URL has port 0, at which nobody can be reached")]
    Port,
    /// A user or a password (FED-18): credentials have no place in a URL.
    #[error("the endpoint URL holds a user or a password in front of its host: leave out everything up to the @")]
    UserInfo,
    /// A fragment, which is never sent to a server.
    #[error("the endpoint URL has a fragment: leave out the # and what follows")]
    Fragment,
    /// Not a URL at all.
    #[error("the endpoint URL cannot be read: {0}")]
    Malformed(#[from] url::ParseError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> EndpointUrl {
        EndpointUrl::parse(text).unwrap()
    }

    /// Accepts: FED-18, FED-31
    #[test]
    fn host_port_path_and_query_are_free() {
        let plain = url("https://example.org");
        assert_eq!((plain.host(), plain.port(), plain.path_and_query().as_str()), ("example.org", 443, "/"));
        assert_eq!((plain.as_str(), plain.authority().as_str()), ("https://example.org/", "example.org"));
        let full = url("HTTPS://Bundles.Example.org:8443/a/b?c=d&e=/f");
        assert_eq!((full.host(), full.port()), ("bundles.example.org", 8443));
        assert_eq!(full.path_and_query(), "/a/b?c=d&e=/f");
        assert_eq!(full.authority(), "bundles.example.org:8443");
        let six = url("https://[::1]:9443/");
        assert_eq!(
            (six.host(), six.ip(), six.authority().as_str()),
            ("::1", Some("::1".parse().unwrap()), "[::1]:9443")
        );
        assert_eq!(full.to_string().parse::<EndpointUrl>().unwrap(), full);
    }

    /// Refuses: FED-18, FED-31
    #[test]
    fn other_schemes_users_and_fragments_are_refused() {
        use EndpointUrlError as E;
        for (text, error) in [
            ("http://example.org/", E::Scheme),
            ("spiffe://example.org/", E::Scheme),
            ("example.org", E::Scheme),
            ("", E::Scheme),
            ("https:example.org", E::Host),
            ("https:///example.org", E::Host),
            ("https://", E::Host),
            ("https://user@example.org/", E::UserInfo),
            ("https://user:secret@example.org/", E::UserInfo),
            ("https://@example.org/", E::UserInfo),
            ("https://example.org/#a", E::Fragment),
            ("https://example.org:0/", E::Port),
            ("https://example.org/a b", E::Character { found: ' ' }),
            (" https://example.org/", E::Character { found: ' ' }),
            ("https://example.org/\n", E::Character { found: '\n' }),
            ("https://example.org\\@evil.example/", E::Character { found: '\\' }),
            ("https://bücher.example/", E::Character { found: 'ü' }),
        ] {
            assert_eq!(EndpointUrl::parse(text), Err(error), "{text:?}");
        }
        assert!(matches!(EndpointUrl::parse("https://exa mple.org"), Err(E::Character { .. })));
        assert!(matches!(EndpointUrl::parse("https://example.org:99999/"), Err(E::Malformed(_))));
        let long = format!("https://example.org/{}", "a".repeat(ENDPOINT_URL_LIMIT));
        assert!(matches!(EndpointUrl::parse(&long), Err(E::TooLong { .. })));
    }

    #[test]
    fn an_address_is_known_however_it_is_written() {
        for text in
            ["https://127.0.0.1/", "https://127.1/", "https://0x7f000001/", "https://2130706433/", "https://0177.1/"]
        {
            assert_eq!(url(text).ip(), Some("127.0.0.1".parse().unwrap()), "{text}");
        }
        assert_eq!(url("https://[::ffff:169.254.169.254]/").ip(), Some("::ffff:169.254.169.254".parse().unwrap()));
        assert_eq!(url("https://127.0.0.1.example.org/").ip(), None);
    }

    /// Accepts: FED-25, FED-28, FED-39
    #[test]
    fn a_redirect_may_be_relative_or_lead_elsewhere() {
        let from = url("https://example.org:8443/a/b?c");
        for (location, target) in [
            ("/x", "https://example.org:8443/x"),
            ("d?e", "https://example.org:8443/a/d?e"),
            ("https://other.example/y#part", "https://other.example/y"),
            ("//other.example/z", "https://other.example/z"),
        ] {
            assert_eq!(from.join(location).unwrap().as_str(), target, "{location}");
        }
    }

    /// Refuses: FED-25, FED-28, FED-39
    #[test]
    fn a_redirect_away_from_https_or_with_a_user_is_refused() {
        let from = url("https://example.org/a");
        for location in
            ["http://example.org/", "//user@example.org/", "https://u:p@example.org/", "file:/etc/passwd", "a b"]
        {
            assert!(from.join(location).is_err(), "{location}");
        }
    }
}
