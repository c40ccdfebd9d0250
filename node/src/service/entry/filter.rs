//! Filters of `CountEntries` and `ListEntries`: two messages with the same fields.

use std::collections::BTreeSet;

use quorate_proto_api::convert::{optional_spiffe_id, selector_set};
use quorate_proto_api::spire::entry::{count_entries_request, list_entries_request};
use quorate_proto_api::spire::types;
use quorate_proto_api::spire::types::{federates_with_match, selector_match};
use quorate_proto_identity::{SelectorSet, TrustDomain};
use quorate_raft_machine::{EntryFilter, MatchMode};
use tonic::Status;

use super::convert::trust_domains;

/// Most trust domains in a filter: an entry has at most 128 of them, so more can only be a mistake.
const TRUST_DOMAINS_LIMIT: usize = 1_000;

/// A filter as it came.
#[derive(Debug, Default)]
pub(super) struct WireFilter {
    by_spiffe_id: Option<types::Spiffeid>,
    by_parent_id: Option<types::Spiffeid>,
    by_selectors: Option<types::SelectorMatch>,
    by_federates_with: Option<types::FederatesWithMatch>,
    by_hint: Option<String>,
    by_downstream: Option<bool>,
}

impl From<count_entries_request::Filter> for WireFilter {
    fn from(filter: count_entries_request::Filter) -> Self {
        let count_entries_request::Filter {
            by_spiffe_id,
            by_parent_id,
            by_selectors,
            by_federates_with,
            by_hint,
            by_downstream,
        } = filter;
        Self { by_spiffe_id, by_parent_id, by_selectors, by_federates_with, by_hint, by_downstream }
    }
}

impl From<list_entries_request::Filter> for WireFilter {
    fn from(filter: list_entries_request::Filter) -> Self {
        let list_entries_request::Filter {
            by_spiffe_id,
            by_parent_id,
            by_selectors,
            by_federates_with,
            by_hint,
            by_downstream,
        } = filter;
        Self { by_spiffe_id, by_parent_id, by_selectors, by_federates_with, by_hint, by_downstream }
    }
}

impl WireFilter {
    /// The filter in the state machine's types.
    ///
    /// # Errors
    ///
    /// When a value is malformed, a set to match is empty, or a match mode is not known.
    pub(super) fn checked(self) -> Result<EntryFilter, Status> {
        Ok(EntryFilter {
            spiffe_id: optional_spiffe_id("by_spiffe_id", self.by_spiffe_id.as_ref())?,
            parent_id: optional_spiffe_id("by_parent_id", self.by_parent_id.as_ref())?,
            selectors: self.by_selectors.as_ref().map(selectors).transpose()?,
            federates_with: self.by_federates_with.as_ref().map(federates_with).transpose()?,
            // An empty hint is no condition, and neither is `false`: the SPIRE CLI always sends both.
            hint: self.by_hint.filter(|hint| !hint.is_empty()),
            downstream: self.by_downstream.filter(|wanted| *wanted),
        })
    }
}

fn selectors(wanted: &types::SelectorMatch) -> Result<(SelectorSet, MatchMode), Status> {
    let mode = match selector_match::MatchBehavior::try_from(wanted.r#match) {
        Ok(selector_match::MatchBehavior::MatchExact) => MatchMode::Exact,
        Ok(selector_match::MatchBehavior::MatchSubset) => MatchMode::Subset,
        Ok(selector_match::MatchBehavior::MatchSuperset) => MatchMode::Superset,
        Ok(selector_match::MatchBehavior::MatchAny) => MatchMode::Any,
        Err(_) => return Err(unknown_mode("by_selectors", wanted.r#match)),
    };
    let set = selector_set("by_selectors.selectors", &wanted.selectors)?;
    if set.is_empty() {
        return Err(Status::invalid_argument("by_selectors: no selector is given to match"));
    }
    Ok((set, mode))
}

fn federates_with(wanted: &types::FederatesWithMatch) -> Result<(BTreeSet<TrustDomain>, MatchMode), Status> {
    let mode = match federates_with_match::MatchBehavior::try_from(wanted.r#match) {
        Ok(federates_with_match::MatchBehavior::MatchExact) => MatchMode::Exact,
        Ok(federates_with_match::MatchBehavior::MatchSubset) => MatchMode::Subset,
        Ok(federates_with_match::MatchBehavior::MatchSuperset) => MatchMode::Superset,
        Ok(federates_with_match::MatchBehavior::MatchAny) => MatchMode::Any,
        Err(_) => return Err(unknown_mode("by_federates_with", wanted.r#match)),
    };
    let count = wanted.trust_domains.len();
    if count > TRUST_DOMAINS_LIMIT {
        return Err(Status::invalid_argument(format!(
            "by_federates_with: {count} trust domains, the most is {TRUST_DOMAINS_LIMIT}"
        )));
    }
    let set = trust_domains(&wanted.trust_domains)?;
    if set.is_empty() {
        return Err(Status::invalid_argument("by_federates_with: no trust domain is given to match"));
    }
    Ok((set, mode))
}

fn unknown_mode(field: &str, number: i32) -> Status {
    Status::invalid_argument(format!("{field}.match: {number} is not a match behaviour"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(filter: WireFilter) -> String {
        let status = filter.checked().unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        status.message().to_owned()
    }

    #[test]
    fn an_empty_hint_and_a_false_downstream_are_no_conditions() {
        let filter = WireFilter { by_hint: Some(String::new()), by_downstream: Some(false), ..WireFilter::default() };
        assert_eq!(filter.checked().unwrap(), EntryFilter::default());
        let filter = WireFilter { by_hint: Some("a".into()), by_downstream: Some(true), ..WireFilter::default() };
        let expected = EntryFilter { hint: Some("a".into()), downstream: Some(true), ..EntryFilter::default() };
        assert_eq!(filter.checked().unwrap(), expected);
    }

    #[test]
    fn a_set_to_match_is_not_empty_and_its_mode_is_known() {
        let selectors = |selectors, mode| WireFilter {
            by_selectors: Some(types::SelectorMatch { selectors, r#match: mode }),
            ..WireFilter::default()
        };
        let one = vec![types::Selector { r#type: "unix".into(), value: "uid:1".into() }];
        assert_eq!(selectors(one.clone(), 2).checked().unwrap().selectors.unwrap().1, MatchMode::Superset);
        assert!(refused(selectors(Vec::new(), 0)).contains("no selector"));
        assert!(refused(selectors(one, 9)).contains("9 is not a match behaviour"));
        let domains = |trust_domains| WireFilter {
            by_federates_with: Some(types::FederatesWithMatch { trust_domains, r#match: 3 }),
            ..WireFilter::default()
        };
        assert!(refused(domains(Vec::new())).contains("no trust domain"));
        assert!(refused(domains(vec!["A".into()])).starts_with("federates_with: \"A\": "));
    }

    #[test]
    fn a_malformed_id_is_refused_and_not_taken_for_one_that_nothing_has() {
        let id = types::Spiffeid { trust_domain: "example.org".into(), path: "/a/".into() };
        assert!(refused(WireFilter { by_spiffe_id: Some(id), ..WireFilter::default() }).starts_with("by_spiffe_id: "));
    }
}
