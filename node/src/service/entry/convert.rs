//! Between the API's entry and the state machine's.

use std::collections::BTreeSet;

use quorate_proto_api::convert::{selector_set, spiffe_id};
use quorate_proto_api::spire::types;
use quorate_proto_identity::{EntryId, TrustDomain, UnixSeconds};
use quorate_raft_machine::{AdditionalAttributes, Entry, EntryChange, EntryDraft};
use tonic::Status;

use super::mask::everything;

/// Takes an entry to create. One without an ID gets a new one.
///
/// # Errors
///
/// When a field cannot be said in the state machine's types: a malformed ID or selector, a negative lifetime.
pub(super) fn draft(entry: types::Entry, new_id: impl FnOnce() -> EntryId) -> Result<EntryDraft, Status> {
    let id =
        if entry.id.is_empty() { new_id() } else { EntryId::new(&entry.id).map_err(|error| invalid("id", error))? };
    Ok(EntryDraft {
        id,
        spiffe_id: spiffe_id("spiffe_id", entry.spiffe_id.as_ref())?,
        parent_id: spiffe_id("parent_id", entry.parent_id.as_ref())?,
        selectors: selector_set("selectors", &entry.selectors)?,
        x509_svid_ttl: ttl("x509_svid_ttl", entry.x509_svid_ttl)?,
        jwt_svid_ttl: ttl("jwt_svid_ttl", entry.jwt_svid_ttl)?,
        federates_with: trust_domains(&entry.federates_with)?,
        admin: entry.admin,
        downstream: entry.downstream,
        expires_at: expiry(entry.expires_at)?,
        dns_names: entry.dns_names,
        store_svid: entry.store_svid,
        hint: entry.hint,
        additional_attributes: entry.additional_attributes.as_ref().map(attributes),
        crl_per_domain: false,
    })
}

/// Takes the fields of an entry to change: those in the mask, or all without one. Others are not looked at.
///
/// # Errors
///
/// When a field that is looked at cannot be said in the state machine's types.
pub(super) fn change(entry: types::Entry, mask: Option<&types::EntryMask>) -> Result<EntryChange, Status> {
    let mask = mask.copied().unwrap_or_else(everything);
    Ok(EntryChange {
        spiffe_id: mask.spiffe_id.then(|| spiffe_id("spiffe_id", entry.spiffe_id.as_ref())).transpose()?,
        parent_id: mask.parent_id.then(|| spiffe_id("parent_id", entry.parent_id.as_ref())).transpose()?,
        selectors: mask.selectors.then(|| selector_set("selectors", &entry.selectors)).transpose()?,
        x509_svid_ttl: mask.x509_svid_ttl.then(|| ttl("x509_svid_ttl", entry.x509_svid_ttl)).transpose()?,
        jwt_svid_ttl: mask.jwt_svid_ttl.then(|| ttl("jwt_svid_ttl", entry.jwt_svid_ttl)).transpose()?,
        federates_with: mask.federates_with.then(|| trust_domains(&entry.federates_with)).transpose()?,
        admin: mask.admin.then_some(entry.admin),
        downstream: mask.downstream.then_some(entry.downstream),
        expires_at: mask.expires_at.then(|| expiry(entry.expires_at)).transpose()?,
        dns_names: mask.dns_names.then_some(entry.dns_names),
        store_svid: mask.store_svid.then_some(entry.store_svid),
        hint: mask.hint.then_some(entry.hint),
        additional_attributes: mask.additional_attributes.then(|| entry.additional_attributes.as_ref().map(attributes)),
        crl_per_domain: None,
    })
}

/// Gives an entry out: its ID, and the fields in the mask, or all without one.
pub(super) fn to_wire(entry: &Entry, mask: Option<&types::EntryMask>) -> types::Entry {
    let mask = mask.copied().unwrap_or_else(everything);
    let mut wire = types::Entry { id: entry.id.to_string(), ..types::Entry::default() };
    if mask.spiffe_id {
        wire.spiffe_id = Some((&entry.spiffe_id).into());
    }
    if mask.parent_id {
        wire.parent_id = Some((&entry.parent_id).into());
    }
    if mask.selectors {
        wire.selectors = entry.selectors.iter().map(Into::into).collect();
    }
    if mask.x509_svid_ttl {
        wire.x509_svid_ttl = i32::try_from(entry.x509_svid_ttl).unwrap_or(i32::MAX);
    }
    if mask.jwt_svid_ttl {
        wire.jwt_svid_ttl = i32::try_from(entry.jwt_svid_ttl).unwrap_or(i32::MAX);
    }
    if mask.federates_with {
        wire.federates_with = entry.federates_with.iter().map(|name| name.as_str().to_owned()).collect();
    }
    if mask.admin {
        wire.admin = entry.admin;
    }
    if mask.downstream {
        wire.downstream = entry.downstream;
    }
    if mask.expires_at {
        wire.expires_at = entry.expires_at.map_or(0, |at| at.0);
    }
    if mask.dns_names {
        wire.dns_names.clone_from(&entry.dns_names);
    }
    if mask.revision_number {
        wire.revision_number = i64::try_from(entry.revision_number).unwrap_or(i64::MAX);
    }
    if mask.store_svid {
        wire.store_svid = entry.store_svid;
    }
    if mask.hint {
        wire.hint.clone_from(&entry.hint);
    }
    if mask.created_at {
        wire.created_at = entry.created_at.0;
    }
    if mask.additional_attributes {
        wire.additional_attributes = entry.additional_attributes.map(|attributes| {
            let AdditionalAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti } = attributes;
            types::entry::AdditionalAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti }
        });
    }
    wire
}

/// Takes names of trust domains, plain or as IDs; repeats count once.
pub(super) fn trust_domains(names: &[String]) -> Result<BTreeSet<TrustDomain>, Status> {
    names
        .iter()
        .map(|name| {
            TrustDomain::parse_name_or_id(name).map_err(|error| invalid("federates_with", format!("{name:?}: {error}")))
        })
        .collect()
}

fn ttl(field: &str, seconds: i32) -> Result<u32, Status> {
    u32::try_from(seconds).map_err(|_| invalid(field, format!("{seconds} s: a lifetime is not negative")))
}

fn expiry(seconds: i64) -> Result<Option<UnixSeconds>, Status> {
    match seconds {
        0 => Ok(None),
        1.. => Ok(Some(UnixSeconds(seconds))),
        _ => Err(invalid("expires_at", format!("{seconds}: an instant before 1970"))),
    }
}

fn attributes(attributes: &types::entry::AdditionalAttributes) -> AdditionalAttributes {
    let types::entry::AdditionalAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti } = *attributes;
    AdditionalAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti }
}

fn invalid(field: &str, problem: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{field}: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(path: &str) -> Option<types::Spiffeid> {
        Some(types::Spiffeid { trust_domain: "example.org".into(), path: path.into() })
    }

    fn entry() -> types::Entry {
        types::Entry {
            id: "e".into(),
            spiffe_id: id("/web"),
            parent_id: id("/spire/nodes"),
            selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:1".into() }],
            x509_svid_ttl: 60,
            federates_with: vec!["other.test".into()],
            admin: true,
            downstream: true,
            expires_at: 1_900_000_000,
            dns_names: vec!["b.test".into(), "a.test".into()],
            revision_number: 0,
            store_svid: true,
            jwt_svid_ttl: 30,
            hint: "internal".into(),
            created_at: 1_700_000_000,
            additional_attributes: Some(types::entry::AdditionalAttributes {
                disable_x509_svid_prefetch: false,
                jwt_svid_include_jti: true,
            }),
        }
    }

    fn never() -> EntryId {
        panic!("the entry has an ID")
    }

    #[test]
    fn an_entry_keeps_every_field_on_its_way_in_and_out() {
        let stored = draft(entry(), never).unwrap().into_entry(UnixSeconds(1_700_000_000), 1);
        assert_eq!(to_wire(&stored, None), entry());
    }

    #[test]
    fn an_output_mask_leaves_the_id_and_what_it_names() {
        let stored = draft(entry(), never).unwrap().into_entry(UnixSeconds(1_700_000_000), 1);
        let mask = types::EntryMask { hint: true, created_at: true, ..types::EntryMask::default() };
        let expected = types::Entry {
            id: "e".into(),
            hint: "internal".into(),
            created_at: 1_700_000_000,
            ..types::Entry::default()
        };
        assert_eq!(to_wire(&stored, Some(&mask)), expected);
    }

    #[test]
    fn fields_outside_an_input_mask_are_not_even_looked_at() {
        let broken = types::Entry { spiffe_id: id("not a path"), hint: "new".into(), ..types::Entry::default() };
        let mask = types::EntryMask { hint: true, ..types::EntryMask::default() };
        let change = change(broken, Some(&mask)).unwrap();
        assert_eq!(change, EntryChange { hint: Some("new".into()), ..EntryChange::default() });
    }

    #[test]
    fn without_an_input_mask_every_field_is_replaced() {
        let everything = EntryChange::everything(draft(entry(), never).unwrap());
        assert_eq!(change(entry(), None).unwrap(), everything);
    }

    #[test]
    fn what_is_wrong_is_told_by_the_name_of_its_field() {
        for (entry, said) in [
            (types::Entry { id: "a b".into(), ..entry() }, "id: "),
            (types::Entry { spiffe_id: None, ..entry() }, "spiffe_id: missing"),
            (types::Entry { parent_id: id("web"), ..entry() }, "parent_id: the path does not begin with /"),
            (types::Entry { selectors: vec![types::Selector::default()], ..entry() }, "selectors[0]: "),
            (types::Entry { x509_svid_ttl: -1, ..entry() }, "x509_svid_ttl: -1 s"),
            (types::Entry { jwt_svid_ttl: i32::MIN, ..entry() }, "jwt_svid_ttl: "),
            (types::Entry { expires_at: -1, ..entry() }, "expires_at: -1"),
            (types::Entry { federates_with: vec!["Other".into()], ..entry() }, "federates_with: \"Other\": "),
        ] {
            let status = draft(entry, never).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().starts_with(said), "{}", status.message());
        }
    }
}
