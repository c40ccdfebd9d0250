//! What the TXT record of an instance says (RFC 6763, section 6): `profile`, `path`, `id`, `server`.
//!
//! | key | values | when |
//! |-|-|-|
//! | `txtvers` | `1` | always that, if it is there; of another version nothing is known |
//! | `profile` | `https_web`, `https_spiffe`, `federation_api` | always: a profile is never inferred (FED-50) |
//! | `path` | of the URL, begins with `/` | `https_web`, `https_spiffe`; without it `/` |
//! | `id` | the SPIFFE ID that the server shows | `https_spiffe`, and `federation_api` with `server=https_spiffe` |
//! | `server` | `https_web` (when absent), `https_spiffe` | `federation_api` |
//!
//! Other keys are for later versions, and passed over.

use quorate_proto_identity::{SpiffeId, SpiffeIdError};

/// Most bytes of a TXT record: what fits into one packet everywhere (RFC 6763, section 6.2).
pub const TEXT_BYTES_LIMIT: usize = 1_300;

/// Most strings of a TXT record: five keys are known, and a later version may add some.
const STRINGS_LIMIT: usize = 32;

/// Longest path: an endpoint's whole URL has at most 2,048 bytes.
const PATH_BYTES_LIMIT: usize = 1_024;

/// The only version of these keys.
const VERSION: &str = "1";

/// What kind of endpoint an instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The standard's profile `https_web`.
    Web {
        /// The path of the bundle.
        path: String,
    },
    /// The standard's profile `https_spiffe`.
    Spiffe {
        /// The path of the bundle.
        path: String,
        /// The SPIFFE ID that the server shows.
        id: SpiffeId,
    },
    /// A Federation API.
    Api {
        /// The SPIFFE ID that the server shows; without one it shows a certificate for its host.
        id: Option<SpiffeId>,
    },
}

/// Why a TXT record is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// It is longer than any record that is meant.
    #[error(
        "its TXT record has {bytes} bytes in {strings} strings; at most {TEXT_BYTES_LIMIT} in {STRINGS_LIMIT} are read"
    )]
    TooLarge {
        /// All bytes of all strings.
        bytes: usize,
        /// How many strings.
        strings: usize,
    },
    /// There are several, and no telling which is meant.
    #[error("it has {0} TXT records, where one is to be")]
    Several(usize),
    /// It is of another version of these keys.
    #[error("its TXT record is of version {0:?}; version 1 is understood")]
    Version(String),
    /// It does not say the profile, which is never inferred (FED-50).
    #[error("its TXT record says no profile, which is never guessed (FED-50)")]
    NoProfile,
    /// It says a profile that is not known.
    #[error("its TXT record says the profile {0:?}, which is not known")]
    Profile(String),
    /// `server` is neither of the two.
    #[error("its TXT record says server={0:?}; https_web and https_spiffe are known")]
    Server(String),
    /// The server's SPIFFE ID is missing.
    #[error("its TXT record has no id, the SPIFFE ID that the server shows")]
    NoId,
    /// The server's SPIFFE ID is none.
    #[error("its TXT record says an id that is no SPIFFE ID: {0}")]
    Id(#[from] SpiffeIdError),
    /// The path is none.
    #[error("its TXT record says a path that begins with no / or holds something else than visible ASCII, a ? or a #")]
    Path,
}

impl Kind {
    /// What the TXT records of an instance say.
    ///
    /// # Errors
    /// When there is not exactly one that says everything. No record at all says no profile.
    pub fn of_texts(records: &[Vec<Vec<u8>>]) -> Result<Self, TextError> {
        match records {
            [] => Err(TextError::NoProfile),
            [strings] => Self::of_strings(strings),
            several => Err(TextError::Several(several.len())),
        }
    }

    fn of_strings(strings: &[Vec<u8>]) -> Result<Self, TextError> {
        let bytes = strings.iter().map(|string| string.len().saturating_add(1)).sum();
        if bytes > TEXT_BYTES_LIMIT || strings.len() > STRINGS_LIMIT {
            return Err(TextError::TooLarge { bytes, strings: strings.len() });
        }
        if let Some(version) = value(strings, "txtvers")
            && version != VERSION
        {
            return Err(TextError::Version(version));
        }
        let profile = value(strings, "profile").ok_or(TextError::NoProfile)?;
        match profile.as_str() {
            "https_web" => Ok(Self::Web { path: path(strings)? }),
            "https_spiffe" => Ok(Self::Spiffe { path: path(strings)?, id: id(strings)? }),
            "federation_api" => match value(strings, "server").as_deref() {
                None | Some("https_web") => Ok(Self::Api { id: None }),
                Some("https_spiffe") => Ok(Self::Api { id: Some(id(strings)?) }),
                Some(other) => Err(TextError::Server(other.to_owned())),
            },
            _ => Err(TextError::Profile(profile)),
        }
    }
}

fn id(strings: &[Vec<u8>]) -> Result<SpiffeId, TextError> {
    Ok(SpiffeId::parse(&value(strings, "id").ok_or(TextError::NoId)?)?)
}

fn path(strings: &[Vec<u8>]) -> Result<String, TextError> {
    let path = value(strings, "path").unwrap_or_else(|| "/".to_owned());
    let is_path = path.starts_with('/')
        && path.len() <= PATH_BYTES_LIMIT
        && path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'\\'));
    if is_path { Ok(path) } else { Err(TextError::Path) }
}

/// The value of a key: compared without regard to case, the first one counts, and what is no text has none (RFC 6763,
/// section 6.4).
fn value(strings: &[Vec<u8>], wanted: &str) -> Option<String> {
    let mut pairs = strings.iter().filter_map(|string| {
        let at = string.iter().position(|byte| *byte == b'=')?;
        Some((string.get(..at)?, string.get(at.saturating_add(1)..)?))
    });
    let (_, value) = pairs.find(|(key, _)| key.eq_ignore_ascii_case(wanted.as_bytes()))?;
    String::from_utf8(value.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(strings: &[&str]) -> Result<Kind, TextError> {
        Kind::of_texts(&[strings.iter().map(|string| string.as_bytes().to_vec()).collect()])
    }

    fn server() -> SpiffeId {
        SpiffeId::parse("spiffe://a.example/spire/server").unwrap()
    }

    /// Accepts: FED-16, FED-32.
    #[test]
    fn a_record_that_says_all_that_its_profile_needs_is_read() {
        assert_eq!(kind(&["profile=https_web"]), Ok(Kind::Web { path: "/".to_owned() }));
        assert_eq!(
            kind(&["txtvers=1", "PROFILE=https_spiffe", "id=spiffe://a.example/spire/server", "path=/b", "later=x"]),
            Ok(Kind::Spiffe { path: "/b".to_owned(), id: server() })
        );
        assert_eq!(kind(&["profile=federation_api"]), Ok(Kind::Api { id: None }));
        assert_eq!(
            kind(&["profile=federation_api", "server=https_spiffe", "id=spiffe://a.example/spire/server"]),
            Ok(Kind::Api { id: Some(server()) })
        );
    }

    #[test]
    fn the_first_of_two_values_counts_and_strings_without_a_key_are_passed_over() {
        assert_eq!(
            kind(&["=x", "flag", "path=/1", "path=/2", "profile=https_web"]),
            Ok(Kind::Web { path: "/1".to_owned() })
        );
    }

    /// Refuses: FED-50, FED-32.
    #[test]
    fn what_a_record_does_not_say_is_never_guessed() {
        assert_eq!(Kind::of_texts(&[]), Err(TextError::NoProfile));
        assert_eq!(kind(&[]), Err(TextError::NoProfile));
        assert_eq!(kind(&["profile"]), Err(TextError::NoProfile));
        assert_eq!(kind(&["profile=HTTPS_WEB"]), Err(TextError::Profile("HTTPS_WEB".to_owned())));
        assert_eq!(kind(&["profile=https_spiffe"]), Err(TextError::NoId));
        assert_eq!(kind(&["profile=federation_api", "server=tls"]), Err(TextError::Server("tls".to_owned())));
        assert!(matches!(kind(&["profile=https_spiffe", "id=https://a.example"]), Err(TextError::Id(_))));
        assert_eq!(kind(&["txtvers=2", "profile=https_web"]), Err(TextError::Version("2".to_owned())));
        let twice = vec![b"profile=https_web".to_vec()];
        assert_eq!(Kind::of_texts(&[twice.clone(), twice]), Err(TextError::Several(2)));
    }

    #[test]
    fn a_path_cannot_leave_the_host_nor_bring_a_query() {
        for path in ["", "b", "//x y", "/a?b", "/a#b", "/a\\b", "/ä", "/\n", "@evil.example/"] {
            assert_eq!(kind(&["profile=https_web", &format!("path={path}")]), Err(TextError::Path), "{path:?}");
        }
        assert_eq!(kind(&["profile=https_web", &format!("path=/{}", "a".repeat(1_024))]), Err(TextError::Path));
    }

    /// ATK-36: nothing of a record is read that is larger than one is.
    #[test]
    fn an_oversize_record_is_refused_whole() {
        let long = "x=".to_owned() + &"y".repeat(252);
        let mut strings = vec!["profile=https_web"];
        strings.extend(std::iter::repeat_n(long.as_str(), 5));
        assert!(kind(&strings).is_ok() == (18 + 5 * 255 <= TEXT_BYTES_LIMIT));
        strings.push(&long);
        assert!(matches!(kind(&strings), Err(TextError::TooLarge { strings: 7, .. })));
        let mut many = vec![""; 32];
        many.push("profile=https_web");
        assert!(matches!(kind(&many), Err(TextError::TooLarge { strings: 33, .. })));
    }
}
