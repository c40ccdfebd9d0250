//! What is due: a pure function of the state and the time.

use quorate_proto_identity::UnixSeconds;
use quorate_raft_machine::{
    State,
    web::{WebCertificate, WebDomain, WebFailure},
};

/// A certificate is renewed when this part of its life is left: a third, as authorities advise; 30 of 90 days.
const RENEW_AT_PART: i64 = 3;

/// Wait after the first order that failed, in seconds.
const FIRST_WAIT: i64 = 30;

/// Each failure makes the wait so many times longer: with five failed validations an hour, public authorities shut a name
/// out for the rest of it.
const WAIT_FACTOR: i64 = 4;

/// Longest wait after orders that failed, in seconds: six hours, so that what was mended in the morning is served by noon.
const LONGEST_WAIT: i64 = 6 * 3_600;

/// The next step of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Place one.
    Place,
    /// Learn what it waits for, and have every member answer that.
    Challenge,
    /// Have the authority look, and take the certificate.
    Finish,
}

/// A step, and when it is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) domain: String,
    pub(crate) step: Step,
    pub(crate) at: UnixSeconds,
}

/// The next step of each domain, due or to come.
pub(crate) fn whats_due(state: &State, now: UnixSeconds) -> Vec<Due> {
    if state.acme().settings.is_none() {
        return Vec::new();
    }
    let next = |known: &WebDomain| {
        let (step, at) = match &known.order {
            Some(order) if order.challenge.is_some() => (Step::Finish, now),
            Some(_) => (Step::Challenge, now),
            None => (Step::Place, next_order_at(state, known)?),
        };
        Some(Due { domain: known.domain.clone(), step, at })
    };
    state.web_domains().filter_map(next).collect()
}

/// When the next order for a domain is to be placed; none while one is under way. At the beginning of all time: at once.
pub(crate) fn next_order_at(state: &State, known: &WebDomain) -> Option<UnixSeconds> {
    // Without its key nobody can serve the certificate there is: a restored cluster may have it so.
    next_order_of(known, |certificate| state.secret(&certificate.key).is_some())
}

/// The same, where `is_of_use` says whether a certificate can be served.
fn next_order_of(known: &WebDomain, is_of_use: impl Fn(&WebCertificate) -> bool) -> Option<UnixSeconds> {
    if known.order.is_some() {
        return None;
    }
    let wanted = match &known.certificate {
        Some(certificate) if known.requested_at.is_none() && is_of_use(certificate) => {
            let (begins, ends) = (certificate.validity.not_before(), certificate.validity.not_after());
            ends.plus(-(ends.since(begins) / RENEW_AT_PART))
        }
        Some(_) | None => known.requested_at.unwrap_or(UnixSeconds(0)),
    };
    Some(known.failure.as_ref().map_or(wanted, |failure| wanted.max(failure.at.plus(wait_after(failure)))))
}

fn wait_after(failure: &WebFailure) -> i64 {
    let doublings = failure.count.saturating_sub(1).min(16);
    FIRST_WAIT.saturating_mul(WAIT_FACTOR.saturating_pow(doublings)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_proto_identity::Validity;
    use quorate_raft_machine::federation::SecretName;

    use super::*;

    fn certified(begins: i64, ends: i64) -> WebDomain {
        let certificate = WebCertificate {
            chain: vec![Bytes::from_static(b"leaf")],
            key: SecretName::new("acme/key/example.org/1").unwrap(),
            validity: Validity::new(UnixSeconds(begins), UnixSeconds(ends)).unwrap(),
            recorded_at: UnixSeconds(begins),
        };
        WebDomain { certificate: Some(certificate), ..WebDomain::new("example.org".to_owned()) }
    }

    fn failed(known: WebDomain, count: u32, at: i64) -> WebDomain {
        WebDomain { failure: Some(WebFailure { count, reason: "no".to_owned(), at: UnixSeconds(at) }), ..known }
    }

    /// When the next order is due of a domain whose certificate can be served.
    fn kept(known: &WebDomain) -> Option<UnixSeconds> {
        next_order_of(known, |_| true)
    }

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        assert_eq!(kept(&certified(0, 90)), Some(UnixSeconds(60)));
        assert_eq!(kept(&certified(1_000, 1_003)), Some(UnixSeconds(1_002)));
    }

    #[test]
    fn a_domain_without_certificate_and_one_that_is_asked_for_are_ordered_at_once() {
        assert_eq!(kept(&WebDomain::new("example.org".to_owned())), Some(UnixSeconds(0)));
        let asked = WebDomain { requested_at: Some(UnixSeconds(7)), ..certified(0, 90) };
        assert_eq!(kept(&asked), Some(UnixSeconds(7)));
    }

    #[test]
    fn each_failure_waits_longer_up_to_a_limit_and_never_hastens() {
        let waits = [(1, 30), (2, 120), (3, 480), (4, 1_920), (5, 7_680), (6, 21_600), (u32::MAX, 21_600)];
        for (count, wait) in waits {
            let fresh = failed(WebDomain::new("example.org".to_owned()), count, 1_000);
            assert_eq!(kept(&fresh), Some(UnixSeconds(1_000 + wait)), "after {count}");
        }
        assert_eq!(kept(&failed(certified(0, 90_000), 1, 10)), Some(UnixSeconds(60_000)));
    }

    #[test]
    fn one_that_has_lost_its_key_is_ordered_at_once_and_again_soon_after_a_failure() {
        let lost = |known: &WebDomain| next_order_of(known, |_| false);
        assert_eq!(lost(&certified(0, 90_000)), Some(UnixSeconds(0)));
        assert_eq!(lost(&failed(certified(0, 90_000), 1, 10)), Some(UnixSeconds(40)));
    }
}
