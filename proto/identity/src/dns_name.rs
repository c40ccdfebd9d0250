//! DNS names that a certificate may carry beside its SPIFFE ID.

/// Longest DNS name, in bytes, without a trailing dot (RFC 1035 section 2.3.4).
pub const DNS_NAME_LIMIT: usize = 253;

/// Longest label of a DNS name, in bytes (RFC 1035 section 2.3.4).
const LABEL_LIMIT: usize = 63;

/// Checks a DNS name as the registration API takes it: ASCII letters, digits and inner hyphens in labels of at most 63,
/// no trailing dot, at most one `*.` in front.
///
/// A label that begins with `xn--` is left as it is: it is already ASCII, and what it decodes to plays no part in
/// matching.
///
/// # Errors
/// The first rule that is broken.
pub fn check_dns_name(name: &str) -> Result<(), DnsNameError> {
    let fail = |fault| Err(DnsNameError { name: name.chars().take(80).collect(), fault });
    if name.is_empty() {
        return fail(DnsNameFault::Empty);
    }
    if name.len() > DNS_NAME_LIMIT {
        return fail(DnsNameFault::TooLong);
    }
    let labels = name.strip_prefix("*.").unwrap_or(name);
    for label in labels.split('.') {
        if label.is_empty() || label.len() > LABEL_LIMIT {
            return fail(DnsNameFault::Label);
        }
        if label.starts_with('-') || label.ends_with('-') {
            return fail(DnsNameFault::Hyphen);
        }
        // Hyphens at the third and fourth place are for IDNA's own prefix alone (RFC 5891 section 4.2.3.1).
        let mark = label.get(2..4) == Some("--");
        let is_idna = label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--"));
        if mark && !is_idna {
            return fail(DnsNameFault::Hyphen);
        }
        if let Some(byte) = label.bytes().find(|byte| !is_label_byte(*byte)) {
            return fail(DnsNameFault::Byte(byte));
        }
    }
    Ok(())
}

/// Finds a wildcard that covers another name of the same list: `*.example.org` and `api.example.org` in one certificate
/// are refused when minting, since the second adds nothing and hides what the first allows.
///
/// Names compare without regard to case. A wildcard covers names with exactly one label in its place (RFC 9525 section
/// 6.3).
#[must_use]
pub fn wildcard_overlap(names: &[String]) -> Option<(&str, &str)> {
    let wildcards = names.iter().filter_map(|name| Some((name, name.strip_prefix("*.")?)));
    wildcards.into_iter().find_map(|(wildcard, base)| {
        let covered = names.iter().find(|name| match name.split_once('.') {
            Some((first, rest)) => first != "*" && rest.eq_ignore_ascii_case(base),
            None => false,
        })?;
        Some((wildcard.as_str(), covered.as_str()))
    })
}

/// A DNS name that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a DNS name: {fault}")]
pub struct DnsNameError {
    /// What was given, cut after 80 characters.
    pub name: String,
    /// The rule that it breaks.
    pub fault: DnsNameFault,
}

/// The rule that a DNS name breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DnsNameFault {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// Longer than [`DNS_NAME_LIMIT`].
    #[error("it is longer than {DNS_NAME_LIMIT} bytes")]
    TooLong,
    /// A label is empty (as with a trailing dot) or longer than 63 bytes.
    #[error("a label is empty or longer than 63 bytes")]
    Label,
    /// A hyphen at an end of a label, or at its third and fourth place.
    #[error("a label has a hyphen at an end, or two at its third place")]
    Hyphen,
    /// A byte outside letters, digits and the hyphen; a `*` anywhere but as first label too.
    #[error("it holds the byte 0x{0:02x}")]
    Byte(u8),
}

const fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_of_strict_labels_and_one_leading_wildcard() {
        for name in ["a", "example.org", "*.example.org", "xn--bcher-kva.example", "1.2", "A-b.C"] {
            assert_eq!(check_dns_name(name), Ok(()), "{name}");
        }
        assert_eq!(check_dns_name(&"a".repeat(63)), Ok(()));
        let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        assert_eq!((long.len(), check_dns_name(&long)), (253, Ok(())));
        assert!(check_dns_name(&format!("{long}b")).is_err());
    }

    #[test]
    fn refuses_everything_else() {
        for name in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "*",
            "*.",
            "**.a",
            "*.*.a",
            "a.*.b",
            "a*.b",
            "-a",
            "a-",
            "ab--c",
            "a_b",
            "a b",
            "bücher.example",
            "a/b",
            "a:1",
            "a\n",
            "a\0",
        ] {
            assert!(check_dns_name(name).is_err(), "{name}");
        }
        assert!(check_dns_name(&"a".repeat(64)).is_err());
    }

    #[test]
    fn a_wildcard_that_covers_another_name_is_found() {
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let overlap = names(&["api.example.org", "*.Example.org"]);
        assert_eq!(wildcard_overlap(&overlap), Some(("*.Example.org", "api.example.org")));
        for apart in [
            &["*.example.org", "example.org"][..],
            &["*.example.org", "a.b.example.org"],
            &["*.example.org", "*.b.example.org"],
            &["a.example.org", "b.example.org"],
        ] {
            assert_eq!(wildcard_overlap(&names(apart)), None, "{apart:?}");
        }
    }
}
