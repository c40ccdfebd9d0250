//! `quorate entry update`: changes the fields that are given and leaves the others.

use clap::Args;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::spire::entry::BatchUpdateEntryRequest;
use quorate_proto_api::spire::types;
use quorate_proto_identity::{EntryId, Selector, SpiffeId, TrustDomain};
use tonic::Code;

use super::describe::Described;
use super::{attributes, client, to_come};
use crate::cli::failure::{Failure, Surface};
use crate::cli::json::EntryJson;
use crate::cli::output::answer;
use crate::cli::socket::AdminArgs;
use crate::duration::Seconds;

/// What `quorate entry update` takes.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// Which entry
    #[arg(long, value_name = "ID", value_parser = EntryId::new)]
    id: EntryId,

    /// The SPIFFE ID to give
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,

    /// Whose workloads
    #[arg(long, value_name = "ID")]
    parent_id: Option<SpiffeId>,

    /// What a workload must have, in place of all earlier ones. Can be repeated
    #[arg(long = "selector", value_name = "TYPE:VALUE")]
    selectors: Vec<Selector>,

    /// Life of X509-SVIDs; 0 takes the trust domain's policy
    #[arg(long, value_name = "TIME")]
    x509_svid_ttl: Option<Seconds>,

    /// Life of JWT-SVIDs; 0 takes the trust domain's policy
    #[arg(long, value_name = "TIME")]
    jwt_svid_ttl: Option<Seconds>,

    /// A DNS name for the X509-SVIDs, in place of all earlier ones. Can be repeated
    #[arg(long = "dns-name", value_name = "NAME", conflicts_with = "no_dns_names")]
    dns_names: Vec<String>,

    /// Take all DNS names away
    #[arg(long)]
    no_dns_names: bool,

    /// A trust domain whose bundle the workload gets, in place of all earlier ones. Can be repeated
    #[arg(long, value_name = "TRUST DOMAIN", value_parser = TrustDomain::parse_name_or_id,
          conflicts_with = "no_federates_with")]
    federates_with: Vec<TrustDomain>,

    /// Take all trust domains to federate with away
    #[arg(long)]
    no_federates_with: bool,

    /// What tells the workload which of its SVIDs this is; empty takes it away
    #[arg(long, value_name = "TEXT")]
    hint: Option<String>,

    /// When the entry goes, in Unix seconds; 0 is never
    #[arg(long, value_name = "SECONDS", value_parser = to_come)]
    expires_at: Option<i64>,

    /// Whether the workload may administer the trust domain
    #[arg(long = "admin", value_name = "BOOL")]
    is_admin: Option<bool>,

    /// Whether the workload may have a signing authority of its own
    #[arg(long, value_name = "BOOL")]
    downstream: Option<bool>,

    /// Whether the SVIDs are for a store of secrets
    #[arg(long, value_name = "BOOL")]
    store_svid: Option<bool>,

    /// Whether the workload keeps a store of authorities and CRLs for each trust domain
    #[arg(long, value_name = "BOOL")]
    crl_per_domain: Option<bool>,
}

/// Changes one entry and shows what it is now.
pub(super) async fn run(args: UpdateArgs) -> Result<(), Failure> {
    const DEED: &str = "update the entry";
    let (entry, mask) = change(&args)?;
    let connection = args.admin.connect()?;
    if let Some(crl_per_domain) = args.crl_per_domain {
        attributes::set_crl_per_domain(&connection, args.id.as_str(), crl_per_domain).await?;
    }
    let message = BatchUpdateEntryRequest { entries: vec![entry], input_mask: Some(mask), output_mask: None };
    let results = client(&connection)
        .batch_update_entry(connection.request(message, CALL_LIMIT))
        .await
        .map_err(connection.failed(DEED))?
        .into_inner()
        .results;
    let wrong = |what: &str| Failure::Answer { deed: DEED, what: what.to_owned() };
    let result = results.into_iter().next().ok_or_else(|| wrong("no result"))?;
    let status = result.status.ok_or_else(|| wrong("no status"))?;
    let code = Code::from(status.code);
    if code != Code::Ok {
        return Err(Failure::Call { surface: Surface::Admin, deed: DEED, code, message: status.message });
    }
    let entry = result.entry.ok_or_else(|| wrong("no entry"))?;
    answer(args.admin.output, &Described(&entry), &EntryJson::from(&entry))
}

/// The new values, and which of them are meant.
fn change(args: &UpdateArgs) -> Result<(types::Entry, types::EntryMask), Failure> {
    let ttl = |name: &str, ttl: Option<Seconds>| {
        ttl.unwrap_or_default().as_i32().map_err(|error| Failure::Usage(format!("{name}: {error}")))
    };
    let mask = types::EntryMask {
        spiffe_id: args.spiffe_id.is_some(),
        parent_id: args.parent_id.is_some(),
        selectors: !args.selectors.is_empty(),
        x509_svid_ttl: args.x509_svid_ttl.is_some(),
        federates_with: args.no_federates_with || !args.federates_with.is_empty(),
        admin: args.is_admin.is_some(),
        downstream: args.downstream.is_some(),
        expires_at: args.expires_at.is_some(),
        dns_names: args.no_dns_names || !args.dns_names.is_empty(),
        revision_number: false,
        store_svid: args.store_svid.is_some(),
        jwt_svid_ttl: args.jwt_svid_ttl.is_some(),
        hint: args.hint.is_some(),
        created_at: false,
        additional_attributes: false,
    };
    if mask == types::EntryMask::default() && args.crl_per_domain.is_none() {
        return Err(Failure::Usage("nothing to change: give at least one field, such as --x509-svid-ttl".to_owned()));
    }
    let entry = types::Entry {
        id: args.id.to_string(),
        spiffe_id: args.spiffe_id.as_ref().map(Into::into),
        parent_id: args.parent_id.as_ref().map(Into::into),
        selectors: args.selectors.iter().map(Into::into).collect(),
        x509_svid_ttl: ttl("--x509-svid-ttl", args.x509_svid_ttl)?,
        federates_with: args.federates_with.iter().map(|name| name.as_str().to_owned()).collect(),
        admin: args.is_admin.unwrap_or_default(),
        downstream: args.downstream.unwrap_or_default(),
        expires_at: args.expires_at.unwrap_or_default(),
        dns_names: args.dns_names.clone(),
        revision_number: 0,
        store_svid: args.store_svid.unwrap_or_default(),
        jwt_svid_ttl: ttl("--jwt-svid-ttl", args.jwt_svid_ttl)?,
        hint: args.hint.clone().unwrap_or_default(),
        created_at: 0,
        additional_attributes: None,
    };
    Ok((entry, mask))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: UpdateArgs,
    }

    fn changed(line: &[&str]) -> Result<(types::Entry, types::EntryMask), Failure> {
        change(&Command::try_parse_from([&["update", "--id", "e"], line].concat()).unwrap().args)
    }

    #[test]
    fn only_the_fields_given_are_in_the_mask() {
        let (entry, mask) = changed(&["--x509-svid-ttl", "0", "--admin", "false", "--no-dns-names"]).unwrap();
        let expected =
            types::EntryMask { x509_svid_ttl: true, admin: true, dns_names: true, ..types::EntryMask::default() };
        assert_eq!(mask, expected);
        assert_eq!((entry.id.as_str(), entry.x509_svid_ttl, entry.admin), ("e", 0, false));
    }

    #[test]
    fn an_update_of_nothing_is_refused() {
        assert!(matches!(changed(&[]), Err(Failure::Usage(_))));
    }
}
