//! The commands there are, and which of them need a connection.

use std::future::Future;

use clap::{Parser, Subcommand};

use super::acme::AcmeCommand;
use super::audit::AuditCommand;
use super::authority::AuthorityCommand;
use super::bundle::BundleCommand;
use super::cluster::ClusterCommand;
use super::config::ConfigCommand;
use super::entry::EntryCommand;
use super::failure::Failure;
use super::federation::FederationCommand;
use super::fetch::FetchCommand;
use super::keygen::KeygenArgs;
use super::ledger::LedgerCommand;
use super::mint::MintCommand;
use super::node::NodeArgs;
use super::oidc::OidcCommand;
use super::policy::PolicyCommand;
use super::recovery_key::RecoveryKeyCommand;
use super::revocations::RevocationsCommand;
use super::revoke::RevokeArgs;
use super::wait::WaitArgs;
use super::{exit, keygen, node};
use crate::demo::{self, DemoArgs};

/// A SPIFFE authority that is a cluster.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, max_term_width = 120, after_help = exit::HELP, arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it work: an authority on this machine, without configuration and without root
    Demo(DemoArgs),
    /// Run a node until it is told to stop
    Node(NodeArgs),
    /// Make a node's keys, and print what other nodes know it by: for a fleet that is founded from configuration
    Keygen(KeygenArgs),
    /// Check, show or begin a node's configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Found an authority, invite and manage its nodes, see how they stand
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// The recovery key: who has its private half can restore a backup after every node was lost
    #[command(subcommand)]
    RecoveryKey(RecoveryKeyCommand),
    /// Wait until this node has applied what was written at another
    Wait(WaitArgs),
    /// Show or change what holds for the whole trust domain: lifetimes and key types
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// The keys that sign for the trust domain: show them, replace them
    #[command(subcommand)]
    Authority(AuthorityCommand),
    /// Registration entries: which workloads are given which SPIFFE IDs
    #[command(subcommand)]
    Entry(EntryCommand),
    /// The record of who did what: show it, follow it, verify it
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Have what was issued refused from now on: SVIDs of a SPIFFE ID, an entry or a node, one certificate, one token
    Revoke(Box<RevokeArgs>),
    /// What was revoked: list it, lift a ban or a rule for tokens
    #[command(subcommand)]
    Revocations(RevocationsCommand),
    /// What this node has issued
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Bundles: the trust domain's own, and those of foreign ones
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Foreign trust domains: exchange bundles with them, so that workloads can verify each other
    #[command(subcommand)]
    Federation(FederationCommand),
    /// Certificates of web authorities, which the cluster gets for itself
    #[command(subcommand)]
    Acme(AcmeCommand),
    /// OpenID Connect discovery, by which those who know no SPIFFE verify JWT-SVIDs
    #[command(subcommand)]
    Oidc(OidcCommand),
    /// Fetch SVIDs and bundles as a workload does
    #[command(subcommand)]
    Fetch(FetchCommand),
    /// Make an SVID for any workload ID, entry or no entry
    #[command(subcommand)]
    Mint(MintCommand),
}

impl Arguments {
    /// Does what was asked.
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Demo(args) => demo::run(&args)
                .map_err(|error| Failure::Local { deed: "go on with the demonstration", cause: Box::new(error) }),
            Command::Node(args) => node::run(&args),
            Command::Keygen(args) => keygen::run(&args),
            Command::Config(command) => command.run(),
            Command::Cluster(command) => wait(command.run()),
            Command::RecoveryKey(command) => wait(command.run()),
            Command::Wait(args) => wait(super::wait::run(args)),
            Command::Policy(command) => wait(command.run()),
            Command::Authority(command) => wait(command.run()),
            Command::Entry(command) => wait(command.run()),
            Command::Audit(command) => wait(command.run()),
            Command::Revoke(args) => wait(super::revoke::run(*args)),
            Command::Revocations(command) => wait(command.run()),
            Command::Ledger(command) => wait(command.run()),
            Command::Bundle(command) => wait(command.run()),
            Command::Federation(command) => wait(command.run()),
            Command::Acme(command) => wait(command.run()),
            Command::Oidc(command) => wait(command.run()),
            Command::Fetch(command) => wait(command.run()),
            Command::Mint(command) => wait(command.run()),
        }
    }
}

/// Runs a client command to its end. One thread is enough for a few calls.
fn wait(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Local { deed: "start", cause: Box::new(error) })?
        .block_on(command)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_and_their_options_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_contract_is_there() {
        for line in [
            "quorate demo --dir /tmp/d --nodes 1",
            "quorate node --config node.toml",
            "quorate node --config node.toml --join-file -",
            "quorate keygen --data-dir /d -o json",
            "quorate cluster recover --config node.toml --yes -o json",
            "quorate cluster recover --config node.toml --dry-run",
            "quorate cluster backup create /b/backup --socket /s -o json",
            "quorate cluster backup verify /b/backup --recovery-key /k/recovery.pem --signer AAAA -o json",
            "quorate cluster backup verify --scratch --recovery-key - -- /b/backup",
            "quorate cluster restore /b/backup --config node.toml --recovery-key - --region eu --dry-run -o json",
            "quorate config check --config node.toml",
            "quorate config show --config node.toml",
            "quorate config example",
            "quorate cluster init --policy p.toml --region eu --zone a --label k=v --label l=w --socket /s -o json",
            "quorate cluster status -o json --admin-socket /s",
            "quorate cluster members --all -o json --socket /s",
            "quorate cluster invite --name n --role voter --region eu --zone a --label k=v --ttl 10m --socket /s -o json",
            "quorate cluster invitations --consistent --socket /s -o json",
            "quorate cluster revoke-invitation n --socket /s -o json",
            "quorate cluster promote n --socket /s -o json",
            "quorate cluster demote n --timeout 1m --socket /s -o json",
            "quorate cluster fence n --dry-run --socket /s -o json",
            "quorate cluster remove n --compromised --socket /s -o json",
            "quorate cluster transfer-leader --socket /s -o json",
            "quorate cluster transfer-leader n --socket /s -o json",
            "quorate cluster plan --socket /s -o json",
            "quorate cluster plan --voters 5 --dead-voter-grace 5m --automatic yes --socket /s -o json",
            "quorate cluster raise-version --socket /s -o json",
            "quorate cluster reset-time --yes --socket /s -o json",
            "quorate recovery-key new --write /tmp/d -o json",
            "quorate recovery-key set --public-key AAAA --dry-run --socket /s -o json",
            "quorate recovery-key clear --socket /s -o json",
            "quorate fetch verify --x509 svid.0.pem --socket /s -o json",
            "quorate fetch verify --jwt - --audience a --socket /s",
            "quorate wait --index 7 --timeout 10s --socket /s -o json",
            "quorate entry show --consistent --socket /s",
            "quorate policy show -o json --socket /s",
            "quorate policy set x509_svid_lifetime=10s --socket /s -o table",
            "quorate authority show -o json --consistent --socket /s",
            "quorate authority timeline -o json --socket /s",
            "quorate authority prepare jwt --socket /s -o json",
            "quorate authority activate x509 --id aa --timeout 10s --socket /s -o json",
            "quorate authority activate x509 --force --yes --dry-run --socket /s",
            "quorate authority taint x509 --id aa --dry-run --socket /s -o json",
            "quorate authority revoke jwt --id aa --force --timeout 1m --socket /s -o json",
            "quorate authority replace --compromised x509 --force --timeout 5m --socket /s -o json",
            "quorate entry create --spiffe-id spiffe://example.org/a --selector unix:uid:1 --selector unix:gid:2 \
             --parent-id spiffe://example.org/b --x509-svid-ttl 1h --jwt-svid-ttl 5m --socket /s -o json",
            "quorate entry create --data entries.json --socket /s",
            "quorate entry show --socket /s -o json",
            "quorate entry update --id e --hint x --socket /s -o json",
            "quorate entry delete --id e --id f --socket /s -o json",
            "quorate entry count --socket /s -o json",
            "quorate entry create --spiffe-id spiffe://example.org/a --selector unix:uid:1 --crl-per-domain",
            "quorate entry update --id e --crl-per-domain false --socket /s",
            "quorate entry delete --id e --revoke --reason cessation-of-operation --yes --socket /s -o json",
            "quorate revoke --serial 4f0a1b2c3d4e5f60718293a4b5c6d7e8 --reason key-compromise --socket /s -o json",
            "quorate revoke --spiffe-id spiffe://example.org/a --ban --dry-run --socket /s",
            "quorate revoke --entry e --ban --timeout 1m --yes --socket /s",
            "quorate revoke --node n --not-compromised --ban --socket /s",
            "quorate revoke --jti 0a --expires-at 1800000000 --socket /s",
            "quorate revocations list --consistent --socket /s -o json",
            "quorate revocations remove 7 --dry-run --socket /s -o json",
            "quorate ledger search --serial 1 --spiffe-id spiffe://example.org/a --entry e --socket /s -o json",
            "quorate ledger search --jti 0a --issuing-key k --ends-from 1 --ends-to 2 --limit 0 --socket /s",
            "quorate audit show --since 1h --who uid=0 --what entry --spiffe-id spiffe://example.org/a --socket /s -o json",
            "quorate audit show --dir /d --since 2026-11-23T12:00:00Z",
            "quorate audit follow --newest 3 --socket /s",
            "quorate audit verify --dir /d --socket /s -o json",
            "quorate bundle show --socket /s -o json",
            "quorate bundle show two.example --format pem --socket /s",
            "quorate bundle list --consistent --socket /s -o json",
            "quorate bundle set two.example - --socket /s -o json",
            "quorate bundle delete two.example --mode delete --socket /s -o json",
            "quorate federation list --consistent --socket /s -o json",
            "quorate federation show two.example --socket /s -o json",
            "quorate federation create two.example --profile https_web --url https://x/ --poll-floor 5m --pin-host x --dry-run",
            "quorate federation create two.example --profile api --url https://x/ --credential api-key --secret-file -",
            "quorate federation update two.example --no-pins --follow-redirects false --socket /s -o json",
            "quorate federation refresh two.example --accept-older --socket /s -o json",
            "quorate federation delete two.example --dry-run --socket /s -o json",
            "quorate federation status two.example --socket /s -o json",
            "quorate acme show --consistent --socket /s -o json",
            "quorate acme set --directory https://acme.example/dir --contact mailto:a@b.example --domain a.example --challenge \
             http-01 --agree-to-terms --socket /s -o json",
            "quorate acme order a.example --socket /s -o json",
            "quorate acme off --socket /s -o json",
            "quorate oidc show --consistent --socket /s -o json",
            "quorate oidc set --issuer https://a.example --also https://b.example --domain c.example --jwks-cache-time 5m \
             --overlap 1d --socket /s -o json",
            "quorate oidc off --socket /s -o json",
            "quorate fetch x509 --write /tmp/d --socket /s -o json",
            "quorate fetch jwt --audience a --audience b --socket /s -o json",
            "quorate fetch bundles --socket unix:///s -o json",
            "quorate mint x509 --spiffe-id spiffe://example.org/a --ttl 1h --write /tmp/d --socket /s -o json",
            "quorate mint jwt --spiffe-id spiffe://example.org/a --audience b --ttl 5m --socket /s -o json",
        ] {
            if let Err(error) = Arguments::try_parse_from(line.split_whitespace()) {
                panic!("{line}\n{error}");
            }
        }
    }

    /// The commands that a command's help, and that of those below it, gives as examples.
    fn examples(command: &clap::Command) -> Vec<String> {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let own = help.lines().map(str::trim).filter(|line| line.starts_with("quorate ")).map(str::to_owned);
        own.chain(command.get_subcommands().flat_map(examples)).collect()
    }

    #[test]
    fn examples_in_the_help_can_be_typed_as_they_stand() {
        let examples = examples(&Arguments::command());
        assert!(examples.len() >= 5, "{examples:?}");
        for line in examples {
            if let Err(error) = Arguments::try_parse_from(line.split_whitespace()) {
                panic!("{line}\n{error}");
            }
        }
    }

    #[test]
    fn what_is_mistyped_is_refused_with_the_nearest_right_word() {
        let error = Arguments::try_parse_from(["quorate", "entry", "creat"]).unwrap_err();
        assert!(error.to_string().contains("create"), "{error}");
        assert!(error.use_stderr());
    }
}
