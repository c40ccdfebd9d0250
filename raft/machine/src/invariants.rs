//! What must hold of every state, by name.
//!
//! Tests check all of it after each step of random histories; chaos runs check it on the states of real nodes. Each
//! invariant is a function of the state alone. What must hold between two states (sequence numbers that only grow,
//! numbers that are never given twice) is checked by who holds both.

mod access;
mod federation;
mod revocations;
mod web;

use std::collections::BTreeSet;
use std::fmt;

use crate::authority::{AuthorityState, Recipient};
use crate::hash::StateHash;
use crate::objects::Object as _;
use crate::origins::{KeptOutcome, OUTCOME_BYTES_PER_ORIGIN, OUTCOMES_PER_ORIGIN};
use crate::registration::check_stored;
use crate::state::State;
use crate::stored::kind;
use crate::stored::origin::decode_outcome;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// Of what, and how.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.invariant, self.detail)
    }
}

/// Entries that are looked at together.
const ENTRIES_PER_PAGE: usize = 1_000;

/// A named rule: what is wrong with a state, if anything.
type Invariant = (&'static str, fn(&State) -> Option<String>);

/// Every invariant.
const INVARIANTS: [Invariant; 24] = [
    ("the state hash is the sum over all objects", hash_is_the_sum),
    ("nothing exists before the founding but origins and counters", nothing_before_founding),
    ("the policy agrees with itself", policy_agrees),
    ("there is exactly one active authority of each kind, and at most one prepared", one_active),
    ("sealed keys are kept exactly as long as they are in use", sealed_while_in_use),
    ("the bundle follows from authorities and policy", bundle_follows),
    ("members have numbers that were given, names and keys of their own", members_apart),
    ("keys are sealed to those alone that may open them", sealed_to_members),
    ("the secret of an invitation has admitted nobody and is no other's", invitations_unused),
    ("issuing certificates belong to members and keys, and to roots in the bundle or are revoked", issuing_belong),
    ("kept outcomes lie above their origin's floor and within its limits", outcomes_above_floor),
    ("entries keep the rules of registration", entries_keep_rules),
    ("every index says what the entries say", indexes_agree),
    ("bans, token rules and CRLs follow from their records", revocations::index_follows),
    ("the set of CRLs is complete and has nothing else", revocations::set_is_complete),
    ("what is revoked is in the CRL of its issuer until it ends", revocations::leaves_are_listed),
    ("revocations have numbers that were given and agree with themselves", revocations::revocations_agree),
    ("the newest few anchors of each audit log are kept", revocations::anchors_are_few),
    ("relationships keep their rules and lead to foreign trust domains", federation::relationships_agree),
    ("each foreign bundle is that of its trust domain, within its limits", federation::bundles_agree),
    ("API keys are for others, for something, and have secrets of their own", access::keys_agree),
    ("access rules can be met", access::rules_agree),
    ("web domains are those of the settings, and no key is for two things", web::domains_agree),
    ("issuers are few, and each is there once", web::issuers_agree),
];

/// Every invariant that does not hold of this state. Reads the whole of it.
#[must_use]
pub fn violations(state: &State) -> Vec<Violation> {
    INVARIANTS.iter().filter_map(|(invariant, check)| Some(Violation { invariant, detail: check(state)? })).collect()
}

fn hash_is_the_sum(state: &State) -> Option<String> {
    let sum = state.view().objects().fold(StateHash::default(), |sum, (kind, stored)| {
        let hashed = match kind {
            // All but the messages of refusals.
            kind::OUTCOME => decode_outcome(stored.into()).map(|kept| kept.hashed()).unwrap_or_default(),
            _ => stored,
        };
        sum.plus(StateHash::of(kind, &hashed))
    });
    (sum != state.state_hash()).then(|| format!("it is {}, the sum {sum}", state.state_hash()))
}

fn nothing_before_founding(state: &State) -> Option<String> {
    let founded = state.cluster().is_some();
    let present = [
        ("a policy", state.policy().is_some()),
        ("members", state.members().next().is_some()),
        ("roots", state.x509_authorities().next().is_some()),
        ("token keys", state.jwt_authorities().next().is_some()),
        ("a bundle", state.bundle().sequence > 0),
    ];
    if let Some((what, _)) = present.iter().find(|(_, is_there)| *is_there != founded) {
        return Some(format!("founded: {founded}, but {what}: {}", !founded));
    }
    let others = state.entry_count() > 0
        || state.issuing_certificates().next().is_some()
        || state.invitations().next().is_some()
        || state.recovery_key().is_some()
        || state.revocations().next().is_some()
        || state.revoked_leaves().next().is_some()
        || state.relationships().next().is_some()
        || state.foreign_bundles().next().is_some()
        || state.secrets().next().is_some()
        || state.acme().revision > 0
        || state.web_domains().next().is_some()
        || state.oidc().revision > 0
        || state.api_keys().next().is_some()
        || state.access_rules().next().is_some();
    (!founded && others).then(|| {
        "entries, issuing certificates, invitations, relationships or a recovery key without an authority".to_owned()
    })
}

fn policy_agrees(state: &State) -> Option<String> {
    state.policy()?.check().err().map(|error| error.to_string())
}

fn one_active(state: &State) -> Option<String> {
    state.cluster()?;
    let roots: Vec<AuthorityState> = state.x509_authorities().map(|root| root.state).collect();
    let keys: Vec<AuthorityState> = state.jwt_authorities().map(|key| key.state).collect();
    for (what, states) in [("roots", roots), ("token keys", keys)] {
        let count = |wanted| states.iter().filter(|state| **state == wanted).count();
        let (active, prepared) = (count(AuthorityState::Active), count(AuthorityState::Prepared));
        if active != 1 || prepared > 1 {
            return Some(format!("{active} active and {prepared} prepared {what}"));
        }
    }
    None
}

fn sealed_while_in_use(state: &State) -> Option<String> {
    let root = state.x509_authorities().find(|root| root.sealed.is_some() != root.state.keeps_x509_key());
    if let Some(root) = root {
        return Some(format!("root {} is {}", root.id, root.state.name()));
    }
    let key = state.jwt_authorities().find(|key| key.sealed.is_some() != key.state.keeps_jwt_key())?;
    Some(format!("token key {} is {}", key.id, key.state.name()))
}

fn bundle_follows(state: &State) -> Option<String> {
    let derived = state.bundle_content();
    (*state.bundle() != derived).then(|| format!("{:?}, but {derived:?} follows", state.bundle()))
}

fn members_apart(state: &State) -> Option<String> {
    let mut names = BTreeSet::new();
    let mut keys = BTreeSet::new();
    for member in state.members() {
        let number = member.number;
        if number.get() >= state.counters().next_member_number {
            return Some(format!("member {number} has a number that was not given yet"));
        }
        if !keys.insert(&member.record.identity_key) {
            return Some(format!("member {number} has another's identity key"));
        }
        if member.record.status.has_gone() {
            if !member.record.sealing_key.is_empty() || member.invitation.is_some() {
                return Some(format!("member {number} has gone, and more than its name and key is kept"));
            }
        } else if !names.insert(&member.record.name) {
            return Some(format!("member {number} has another's name"));
        }
    }
    None
}

/// INV-11. A member that is no longer to be a voter may keep its seals of roots until the leader strips them, which it
/// does after the membership; one that has gone keeps none.
fn sealed_to_members(state: &State) -> Option<String> {
    let roots = state.x509_authorities().filter_map(|root| Some((root.id.as_str(), root.sealed.as_ref()?)));
    let keys = state.jwt_authorities().filter_map(|key| Some((key.id.as_str(), key.sealed.as_ref()?)));
    let secrets = state.secrets().map(|secret| (secret.name.as_str(), &secret.sealed));
    for (id, sealed) in roots.chain(keys).chain(secrets) {
        let mut seen = BTreeSet::new();
        for part in &sealed.parts {
            let may_open = match &part.recipient {
                Recipient::Member(number) => {
                    state.member(*number).is_some_and(|member| !member.record.status.has_gone())
                }
                Recipient::RecoveryKey(id) => state.recovery_key().is_some_and(|known| known.id == *id),
            };
            if !may_open || !seen.insert(&part.recipient) {
                return Some(format!("{id} is sealed to {}", part.recipient));
            }
        }
    }
    None
}

/// INV-10: what admits and what has admitted are never both there.
fn invitations_unused(state: &State) -> Option<String> {
    let mut secrets: BTreeSet<_> = state.members().filter_map(|member| member.invitation).collect();
    for invitation in state.invitations() {
        let name = &invitation.invitation.name;
        if !secrets.insert(invitation.invitation.secret_hash) {
            return Some(format!("the secret of the invitation for {name} is used"));
        }
    }
    None
}

fn issuing_belong(state: &State) -> Option<String> {
    for issuing in state.issuing_certificates() {
        let serial = issuing.serial;
        let Some(key) = state.issuing_key(&issuing.key_id) else {
            return Some(format!("{serial} has no key"));
        };
        // A member that went long ago may be forgotten; its number was given all the same.
        let was_given = issuing.member.get() < state.counters().next_member_number;
        if !was_given || key.member != issuing.member {
            return Some(format!("{serial} belongs to member {}, its key to {}", issuing.member, key.member));
        }
        if key.crl_next_update < issuing.validity.not_after() {
            return Some(format!("{serial} outlives the CRL of its key (CRL-03)"));
        }
        let root_in_bundle = state.x509_authority(&issuing.issuer).is_none_or(|root| root.state.in_bundle());
        if !root_in_bundle && issuing.revoked_at.is_none() {
            return Some(format!("{serial} is not revoked, its root is"));
        }
    }
    let unused =
        state.issuing_keys().find(|key| !state.issuing_certificates().any(|issuing| issuing.key_id == key.id))?;
    Some(format!("key {} has no certificate", unused.id))
}

fn outcomes_above_floor(state: &State) -> Option<String> {
    for record in state.origins.records() {
        let kept = || state.origins.outcomes().filter(|kept| (kept.node, kept.boot) == (record.node, record.boot));
        let origin = format!("node {} boot {}", record.node, record.boot);
        if kept().any(|kept| kept.sequence <= record.floor) {
            return Some(format!("{origin} keeps an outcome at or below {}", record.floor));
        }
        let bytes: usize = kept().map(KeptOutcome::weight).sum();
        let count = kept().count();
        if count > OUTCOMES_PER_ORIGIN || (bytes > OUTCOME_BYTES_PER_ORIGIN && count > 1) {
            return Some(format!("{origin} keeps {count} outcomes of {bytes} bytes"));
        }
    }
    None
}

fn entries_keep_rules(state: &State) -> Option<String> {
    let cluster = state.cluster()?;
    let mut last = 0;
    loop {
        // Page by page: a million entries at once are more than the whole state.
        let page = state.list(&crate::EntryFilter::default(), last, ENTRIES_PER_PAGE);
        if page.is_empty() {
            return None;
        }
        for entry in page {
            if entry.creation_number <= last || entry.creation_number >= state.counters().next_creation_number {
                return Some(format!("entry {} has creation number {}", entry.id, entry.creation_number));
            }
            last = entry.creation_number;
            if let Err(refusal) = check_stored(&entry, &cluster.trust_domain, cluster.version) {
                return Some(format!("entry {}: {refusal}", entry.id));
            }
        }
    }
}

fn indexes_agree(state: &State) -> Option<String> {
    state.registry.disagreement()
}
