//! Which entries are meant: the filters of `show` and `count`.

use clap::{Args, ValueEnum};
use quorate_proto_api::spire::types;
use quorate_proto_api::spire::types::{federates_with_match, selector_match};
use quorate_proto_identity::{Selector, SpiffeId, TrustDomain};

/// Conditions; an entry must meet all that are given.
#[derive(Debug, Clone, Args)]
pub(super) struct FilterArgs {
    /// Entries that give this SPIFFE ID
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,

    /// Entries with this parent
    #[arg(long, value_name = "ID")]
    parent_id: Option<SpiffeId>,

    /// Entries with these selectors; see --match-selectors. Can be repeated
    #[arg(long = "selector", value_name = "TYPE:VALUE")]
    selectors: Vec<Selector>,

    /// How the entry's selectors and the given ones must relate
    #[arg(long, value_enum, default_value_t = Match::Superset, value_name = "HOW", requires = "selectors")]
    match_selectors: Match,

    /// Entries that federate with these trust domains; see --match-federates-with. Can be repeated
    #[arg(long, value_name = "TRUST DOMAIN", value_parser = TrustDomain::parse_name_or_id)]
    federates_with: Vec<TrustDomain>,

    /// How the entry's trust domains and the given ones must relate
    #[arg(long, value_enum, default_value_t = Match::Superset, value_name = "HOW", requires = "federates_with")]
    match_federates_with: Match,

    /// Entries with this hint
    #[arg(long, value_name = "TEXT")]
    hint: Option<String>,

    /// Downstream entries only
    #[arg(long)]
    downstream: bool,
}

/// How two sets must relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Match {
    /// The entry has exactly the given ones
    Exact,
    /// All that the entry has are among the given ones
    Subset,
    /// The entry has all the given ones
    Superset,
    /// The entry has at least one of the given ones
    Any,
}

/// The filter in the terms of the API. `Count` and `List` have messages of their own with the same fields.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) by_spiffe_id: Option<types::Spiffeid>,
    pub(super) by_parent_id: Option<types::Spiffeid>,
    pub(super) by_selectors: Option<types::SelectorMatch>,
    pub(super) by_federates_with: Option<types::FederatesWithMatch>,
    pub(super) by_hint: Option<String>,
    pub(super) by_downstream: Option<bool>,
}

impl From<FilterArgs> for Filter {
    fn from(args: FilterArgs) -> Self {
        let selectors = (!args.selectors.is_empty()).then(|| types::SelectorMatch {
            selectors: args.selectors.iter().map(Into::into).collect(),
            r#match: args.match_selectors.of_selectors().into(),
        });
        let federates_with = (!args.federates_with.is_empty()).then(|| types::FederatesWithMatch {
            trust_domains: args.federates_with.iter().map(|name| name.as_str().to_owned()).collect(),
            r#match: args.match_federates_with.of_trust_domains().into(),
        });
        Self {
            by_spiffe_id: args.spiffe_id.as_ref().map(Into::into),
            by_parent_id: args.parent_id.as_ref().map(Into::into),
            by_selectors: selectors,
            by_federates_with: federates_with,
            by_hint: args.hint,
            by_downstream: args.downstream.then_some(true),
        }
    }
}

impl Match {
    fn of_selectors(self) -> selector_match::MatchBehavior {
        match self {
            Self::Exact => selector_match::MatchBehavior::MatchExact,
            Self::Subset => selector_match::MatchBehavior::MatchSubset,
            Self::Superset => selector_match::MatchBehavior::MatchSuperset,
            Self::Any => selector_match::MatchBehavior::MatchAny,
        }
    }

    fn of_trust_domains(self) -> federates_with_match::MatchBehavior {
        match self {
            Self::Exact => federates_with_match::MatchBehavior::MatchExact,
            Self::Subset => federates_with_match::MatchBehavior::MatchSubset,
            Self::Superset => federates_with_match::MatchBehavior::MatchSuperset,
            Self::Any => federates_with_match::MatchBehavior::MatchAny,
        }
    }
}
