//! `[cluster.initial]`: the list from which a fleet is founded, the same in the configuration of every node on it.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use quorate_proto_identity::key::{PublicKey, PublicKeyKind};
use quorate_proto_identity::{NodeName, TrustDomain};
use quorate_raft_machine::MemberRole;
use quorate_raft_machine::members::{ADDRESSES_PER_MEMBER, LABELS_PER_MEMBER, MEMBER_TEXT_LIMIT};
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::document::Checked;
use super::suggest::nearest;
use super::values;
use crate::peer::address::PeerAddress;

/// Most voters of a list: more make every write slower and no failure less likely (design section 1).
const MOST_VOTERS: usize = 7;

/// Most nodes of a list. All of them have to answer at the same time before anything is founded; others join later.
const MOST_NODES: usize = 64;

/// What an entry of the list may hold.
const KEYS: [&str; 6] = ["addresses", "key", "role", "region", "zone", "labels"];

/// A node of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    /// Its name.
    pub name: NodeName,
    /// Its identity key, as `quorate keygen` prints it: subjectPublicKeyInfo, DER.
    pub key: Bytes,
    /// Where the others reach it.
    pub addresses: Vec<PeerAddress>,
    /// What it is to do in the Raft group.
    pub role: MemberRole,
    /// Where it stands, coarsely; may be empty.
    pub region: String,
    /// Where it stands, finely; may be empty.
    pub zone: String,
    /// What else tells it apart.
    pub labels: BTreeMap<String, String>,
}

/// A checked list: names, keys and addresses are each used once, and there are 1 to 7 voters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMembers(BTreeMap<NodeName, InitialMember>);

impl InitialMembers {
    /// Every node, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &InitialMember> {
        self.0.values()
    }

    /// The node of a name.
    #[must_use]
    pub fn get(&self, name: &NodeName) -> Option<&InitialMember> {
        self.0.get(name)
    }

    /// The one node that founds the cluster: of the voters the one with the lowest name.
    #[must_use]
    pub fn founder(&self) -> Option<&InitialMember> {
        self.iter().find(|member| member.role == MemberRole::Voter)
    }

    /// A checksum of the list and the trust domain: nodes that have the same one hold the same list (ATK-46).
    #[must_use]
    pub fn checksum(&self, trust_domain: &TrustDomain) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let mut add = |part: &[u8]| {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        };
        add(b"quorate founding list 1");
        add(trust_domain.as_str().as_bytes());
        for InitialMember { name, key, addresses, role, region, zone, labels } in self.iter() {
            add(name.as_str().as_bytes());
            add(key);
            add(role_text(*role).as_bytes());
            add(region.as_bytes());
            add(zone.as_bytes());
            add(&(addresses.len() as u64).to_be_bytes());
            addresses.iter().for_each(|address| add(address.as_str().as_bytes()));
            add(&(labels.len() as u64).to_be_bytes());
            labels.iter().for_each(|(label, value)| {
                add(label.as_bytes());
                add(value.as_bytes());
            });
        }
        let mut checksum = [0; 32];
        // The digest has as many bytes: SHA-256.
        checksum.copy_from_slice(context.finish().as_ref());
        checksum
    }

    /// The list as it stands in a file.
    pub(super) fn to_toml(&self) -> Value {
        Value::Table(self.iter().map(|member| (member.name.to_string(), Value::Table(shown(member)))).collect())
    }
}

/// An identity key as people copy it: base64 of its subjectPublicKeyInfo, which is what a PEM file of it holds.
#[must_use]
pub fn key_text(spki: &[u8]) -> String {
    STANDARD.encode(spki)
}

/// How the role is written in a list. It is part of the checksum, so it never changes.
const fn role_text(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Voter => "voter",
        MemberRole::Learner => "learner",
    }
}

fn shown(member: &InitialMember) -> Table {
    let mut table = Table::new();
    let mut add = |key: &str, value| drop(table.insert(key.to_owned(), value));
    let text = |text: &str| Value::String(text.to_owned());
    add("addresses", Value::Array(member.addresses.iter().map(|address| text(address.as_str())).collect()));
    add("key", Value::String(key_text(&member.key)));
    add("role", text(role_text(member.role)));
    if !member.region.is_empty() {
        add("region", text(&member.region));
    }
    if !member.zone.is_empty() {
        add("zone", text(&member.zone));
    }
    if !member.labels.is_empty() {
        let labels = member.labels.iter().map(|(label, value)| (label.clone(), text(value)));
        add("labels", Value::Table(labels.collect()));
    }
    table
}

/// Reads the list. What is wrong is told with the name of the node that it is about.
pub(super) fn initial_members(value: &DeValue<'_>) -> Checked<InitialMembers> {
    let table = value.as_table().ok_or("must be a table; write [cluster.initial] on a line of its own")?;
    if table.is_empty() || table.len() > MOST_NODES {
        return Err(format!("has {} nodes; it must have 1 to {MOST_NODES}", table.len()));
    }
    let mut members = BTreeMap::new();
    for (name, entry) in table {
        let shown_name = name.get_ref();
        let name = NodeName::new(shown_name).map_err(|error| error.to_string())?;
        let member = member(&name, entry.get_ref()).map_err(|reason| format!("{shown_name}: {reason}"))?;
        members.insert(name, member);
    }
    let list = InitialMembers(members);
    list.check()?;
    Ok(list)
}

impl InitialMembers {
    fn check(&self) -> Checked<()> {
        let voters = self.iter().filter(|member| member.role == MemberRole::Voter).count();
        if !(1..=MOST_VOTERS).contains(&voters) {
            return Err(format!(
                "has {voters} voters; there must be 1 to {MOST_VOTERS}: give the others role = \"learner\""
            ));
        }
        let (mut keys, mut addresses) = (BTreeMap::new(), BTreeMap::new());
        for member in self.iter() {
            if let Some(other) = keys.insert(&member.key, &member.name) {
                return Err(format!(
                    "{} and {other} have the same key; each node has its own: run quorate keygen on each",
                    member.name
                ));
            }
            for address in member.addresses.iter().collect::<BTreeSet<_>>() {
                if let Some(other) = addresses.insert(address, &member.name) {
                    return Err(format!("{} and {other} have the same address {address}", member.name));
                }
            }
        }
        Ok(())
    }
}

fn member(name: &NodeName, value: &DeValue<'_>) -> Checked<InitialMember> {
    let table = value.as_table().ok_or("must be a table: { addresses = [\"10.0.0.1:8082\"], key = \"...\" }")?;
    for key in table.keys() {
        let key = key.get_ref();
        if !KEYS.contains(&key.as_ref()) {
            let hint = nearest(key, KEYS).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
            return Err(format!("{key} is not known here{hint}"));
        }
    }
    let required = |key: &str| table.get(key).ok_or_else(|| format!("{key} is missing"));
    let addresses =
        values::addresses(required("addresses")?.get_ref()).map_err(|reason| format!("addresses: {reason}"))?;
    if addresses.is_empty() || addresses.len() > ADDRESSES_PER_MEMBER {
        return Err(format!("addresses: must be 1 to {ADDRESSES_PER_MEMBER}"));
    }
    let key = public_key(required("key")?.get_ref()).map_err(|reason| format!("key: {reason}"))?;
    let role = match table.get("role").map(|role| role.get_ref().as_str()) {
        None | Some(Some("voter")) => MemberRole::Voter,
        Some(Some("learner")) => MemberRole::Learner,
        Some(_) => return Err("role: must be \"voter\" or \"learner\"".to_owned()),
    };
    Ok(InitialMember {
        name: name.clone(),
        key,
        addresses,
        role,
        region: plain(table, "region")?,
        zone: plain(table, "zone")?,
        labels: labels(table)?,
    })
}

fn public_key(value: &DeValue<'_>) -> Checked<Bytes> {
    let wrong = || "is not what `quorate keygen` prints: the key's subjectPublicKeyInfo in base64".to_owned();
    let spki = STANDARD.decode(value.as_str().ok_or_else(wrong)?).map_err(|_any| wrong())?;
    match PublicKey::from_spki_der(&spki).map_err(|_any| wrong())?.kind() {
        PublicKeyKind::Ed25519 | PublicKeyKind::EcP256 | PublicKeyKind::EcP384 => Ok(spki.into()),
        kind @ (PublicKeyKind::EcP521 | PublicKeyKind::Rsa { .. }) => {
            Err(format!("is of a kind that nodes do not prove to each other: {kind:?}"))
        }
    }
}

fn plain(table: &DeTable<'_>, key: &str) -> Checked<String> {
    let Some(value) = table.get(key) else { return Ok(String::new()) };
    let text = value.get_ref().as_str().ok_or_else(|| format!("{key}: must be text in quotes"))?;
    fits(text).map_err(|reason| format!("{key}: {reason}"))?;
    Ok(text.to_owned())
}

fn labels(table: &DeTable<'_>) -> Checked<BTreeMap<String, String>> {
    let Some(value) = table.get("labels") else { return Ok(BTreeMap::new()) };
    let table = value.get_ref().as_table().ok_or("labels: must be a table: { rack = \"r1\" }")?;
    if table.len() > LABELS_PER_MEMBER {
        return Err(format!("labels: at most {LABELS_PER_MEMBER}"));
    }
    let label = |(label, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let label: &std::borrow::Cow<'_, str> = label.get_ref();
        let value = value.get_ref().as_str().ok_or_else(|| format!("labels: {label}: must be text in quotes"))?;
        let good = |text: &str| fits(text).is_ok() && !text.is_empty();
        if !good(label) || !good(value) || label.contains(':') {
            return Err(format!("labels: {label} = {value:?}: neither may be empty or hold control characters"));
        }
        Ok((label.to_string(), value.to_owned()))
    };
    table.iter().map(label).collect()
}

/// What the state machine takes as a text about a member.
fn fits(text: &str) -> Checked<()> {
    if text.len() > MEMBER_TEXT_LIMIT {
        return Err(format!("has more than {MEMBER_TEXT_LIMIT} bytes"));
    }
    if text.chars().any(char::is_control) || text.trim() != text {
        return Err("holds control characters, or white space at an end".to_owned());
    }
    Ok(())
}
