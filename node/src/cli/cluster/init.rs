//! `quorate cluster init`

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use quorate_proto_api::channel::BULK_CALL_LIMIT;
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::cluster::{InitRequest, InitResponse};
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::json::Wide;
use crate::cli::output::answer;
use crate::cli::policy::PolicyFile;
use crate::cli::socket::AdminArgs;
use crate::cli::text::Facts;

/// What follows the options.
const EXAMPLES: &str = "\
Do this on one node, once. The others join by `quorate cluster invite`, or are founded together with it from the same \
`[cluster.initial]` in their configurations, and then nobody runs this command.

Examples:
  quorate cluster init
  quorate cluster init --region eu --zone a --label rack=7 --policy policy.toml";

/// What `quorate cluster init` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// The trust domain's policy, as `quorate policy show` prints one [default: the default policy]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    #[command(flatten)]
    place: PlaceArgs,
}

/// Where a node stands, and what else tells it apart.
#[derive(Debug, Clone, Args)]
pub(super) struct PlaceArgs {
    /// The region that the node is in
    #[arg(long, value_name = "REGION", default_value = "")]
    pub(super) region: String,

    /// The zone within that region
    #[arg(long, value_name = "ZONE", default_value = "")]
    pub(super) zone: String,

    /// A further fact about the node; entries can select it by `quorate:label:KEY:VALUE`. Can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

impl PlaceArgs {
    /// The labels by their keys.
    ///
    /// # Errors
    ///
    /// When one is given twice.
    pub(super) fn labels(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut labels = BTreeMap::new();
        for (key, value) in &self.labels {
            if let Some(earlier) = labels.insert(key.clone(), value.clone()) {
                return Err(Failure::Usage(format!("--label {key}: given twice, once as {earlier:?}")));
            }
        }
        Ok(labels)
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write a label as KEY=VALUE".to_owned()),
    }
}

/// `quorate.cluster.v1.InitResponse`
#[derive(Serialize)]
struct InitJson<'a> {
    cluster_id: &'a str,
    trust_domain: &'a str,
    node_name: &'a str,
    member: Wide<u64>,
    log_index: Wide<u64>,
}

/// Founds the authority.
pub(super) async fn run(args: InitArgs) -> Result<(), Failure> {
    let labels = args.place.labels()?;
    let policy = args.policy.as_deref().map(PolicyFile::read).transpose()?.map(|file| file.onto_default());
    let connection = args.admin.connect()?;
    let message = InitRequest { policy, region: args.place.region, zone: args.place.zone, labels };
    let founded = ClusterClient::new(connection.channel())
        .init(connection.request(message, BULK_CALL_LIMIT))
        .await
        .map_err(connection.failed("found the authority"))?
        .into_inner();
    let InitResponse { cluster_id, trust_domain, node_name, member, log_index } = &founded;
    let mut facts = Facts::new();
    facts
        .add("Trust domain", trust_domain)
        .add("Cluster", cluster_id)
        .add("Node", node_name)
        .add("Member", member)
        .add("Log index", log_index);
    let json = InitJson { cluster_id, trust_domain, node_name, member: Wide(*member), log_index: Wide(*log_index) };
    answer(args.admin.output, &facts, &json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_pairs() {
        assert_eq!(label("rack=a=b"), Ok(("rack".to_owned(), "a=b".to_owned())));
        assert_eq!(label("rack="), Ok(("rack".to_owned(), String::new())));
        assert!(label("rack").is_err());
        assert!(label("=a").is_err());
    }
}
