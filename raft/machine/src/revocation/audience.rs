//! Who may have the set of CRLs (CRL-10, CRL-11): a pure decision, made anew for each answer to a stream.

/// What decides of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CrlAudience {
    /// Whether it receives bundles of foreign trust domains.
    pub receives_foreign: bool,
    /// Whether each of these domains publishes a complete set of CRLs to us.
    pub all_foreign_publish: bool,
    /// Whether its entries all say that their consumer keeps a store for each trust domain
    /// ([`Entry::crl_per_domain`](crate::Entry::crl_per_domain)).
    pub per_domain: bool,
}

/// What becomes of a stream's `crl` field while CRLs are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CrlDecision {
    /// It carries the complete set.
    HandOut,
    /// It is empty: once any CRL is loaded, a merged trust store refuses every foreign chain whose issuers publish none
    /// (CRL-10).
    ForeignBundles,
    /// It is empty: what stands under a downstream authority that publishes no CRLs would be refused (CRL-11).
    DownstreamAuthority,
}

impl CrlDecision {
    /// Whether the set is handed out.
    #[must_use]
    pub const fn hands_out(self) -> bool {
        matches!(self, Self::HandOut)
    }
}

/// Whether a stream gets the set. `downstream_without_crls`: an unexpired downstream authority does not publish its CRLs
/// to us. `forced`: an operator, told who breaks, wants the set handed out all the same.
#[must_use]
pub const fn crl_set_for(stream: &CrlAudience, downstream_without_crls: bool, forced: bool) -> CrlDecision {
    if downstream_without_crls && !forced {
        return CrlDecision::DownstreamAuthority;
    }
    if stream.receives_foreign && !stream.all_foreign_publish && !stream.per_domain {
        return CrlDecision::ForeignBundles;
    }
    CrlDecision::HandOut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(receives_foreign: bool, all_foreign_publish: bool, per_domain: bool) -> CrlAudience {
        CrlAudience { receives_foreign, all_foreign_publish, per_domain }
    }

    #[test]
    fn crl_10_a_stream_with_foreign_bundles_gets_none_unless_they_publish_or_it_keeps_a_store_for_each_domain() {
        for (audience, expected) in [
            (stream(false, false, false), CrlDecision::HandOut),
            (stream(true, false, false), CrlDecision::ForeignBundles),
            (stream(true, true, false), CrlDecision::HandOut),
            (stream(true, false, true), CrlDecision::HandOut),
            (stream(true, true, true), CrlDecision::HandOut),
        ] {
            assert_eq!(crl_set_for(&audience, false, false), expected, "{audience:?}");
            // Forcing is about downstream authorities; it breaks no stream with foreign bundles.
            assert_eq!(crl_set_for(&audience, false, true), expected, "{audience:?}");
        }
    }

    #[test]
    fn crl_11_a_downstream_authority_without_crls_holds_the_set_back_from_everybody_unless_forced() {
        for audience in [stream(false, false, false), stream(true, true, false), stream(true, false, true)] {
            assert_eq!(crl_set_for(&audience, true, false), CrlDecision::DownstreamAuthority);
            assert_eq!(crl_set_for(&audience, true, true), CrlDecision::HandOut);
        }
        let foreign = stream(true, false, false);
        assert_eq!(crl_set_for(&foreign, true, true), CrlDecision::ForeignBundles, "CRL-10 holds all the same");
        assert!(!crl_set_for(&foreign, true, false).hands_out());
    }
}
