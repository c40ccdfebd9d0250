//! Founding a fleet from configuration: every node holds the same list, and one of them founds for all (ATK-46).
//!
//! ```text
//!   each node asks all others of the list, again and again:
//!      all are empty and hold the same list ──► the voter with the lowest name founds, and records all the others
//!      one is a member of a cluster         ──► this one asks to be let in, by its key and name
//!      anything else                        ──► wait, and say for whom
//! ```
//!
//! A majority is never enough: it could be the wiped part of a cluster that runs (design section 4). So is a node whose
//! disk was lost: the others are members, it asks to be let in, and is refused, because the state knows another
//! directory under its key (FLT-18).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_proto_identity::{NodeName, TrustDomain};
use quorate_raft_consensus::Handle;
use quorate_raft_consensus::joining::{FoundingAnswerer, FoundingStatus, JoinError};
use quorate_raft_consensus::transport::{Destination, Protocol};
use quorate_raft_machine::plan::MembershipPlan;
use quorate_raft_machine::{COMMAND_VERSION, Caller, MemberDraft, MemberRole, MemberStatus, Operation, Policy};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Founding, FoundingError};
use crate::config::{InitialMember, InitialMembers, key_text};
use crate::joining::JoinFailure;
use crate::node::Node;

/// How long a node may take to answer how far it is.
const QUESTION_LIMIT: Duration = Duration::from_secs(3);

/// How often the others are asked.
const PACE: Duration = Duration::from_secs(1);

/// How often the log says for whom this node waits, while that does not change.
const REMINDER: Duration = Duration::from_secs(30);

/// Why a fleet was not founded, or this node did not come into it.
#[derive(Debug, thiserror::Error)]
pub enum ListedError {
    /// The key of the list is not this node's.
    #[error(
        "cluster.initial has another key for {name} than this node has: correct it on every node of the list. This \
         node's own is {own}"
    )]
    OtherKey {
        /// This node's name.
        name: NodeName,
        /// This node's key, as the list takes it.
        own: String,
    },
    /// The founding failed.
    #[error("the cluster of cluster.initial could not be founded")]
    Founding(#[from] FoundingError),
    /// The cluster did not let this node in.
    #[error(
        "the cluster that the nodes of cluster.initial have founded does not let this node in. If its disk was lost: on \
         one of the others, `quorate cluster remove {name}`, then `quorate cluster invite --name {name}`; empty data_dir \
         here, and start this node with --join-file"
    )]
    Refused {
        /// This node's name.
        name: NodeName,
        /// What the cluster said.
        #[source]
        source: JoinFailure,
    },
    /// Joining broke off on this node.
    #[error(transparent)]
    Join(JoinFailure),
}

/// What another node of the list says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
enum View {
    /// Nothing, for a reason.
    Silent(String),
    /// It has another list, or another name.
    Differs,
    /// Its directory holds nothing, and it holds the same list.
    Empty,
    /// It has begun to found, and has not come to the end.
    Founding,
    /// It is a member of a founded cluster.
    Member,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// Found the cluster.
    Found,
    /// Ask these to be let in.
    Enter(Vec<NodeName>),
    /// Wait, for what is said here.
    Wait(String),
}

/// The rule, by what all the others have said.
fn decide(list: &InitialMembers, own: &NodeName, views: &BTreeMap<NodeName, View>) -> Decision {
    let members: Vec<NodeName> =
        views.iter().filter(|(_, view)| **view == View::Member).map(|(name, _)| name.clone()).collect();
    if !members.is_empty() {
        return Decision::Enter(members);
    }
    let mut missing: Vec<String> = Vec::new();
    for other in list.iter().filter(|other| other.name != *own) {
        let name = &other.name;
        match views.get(name) {
            Some(View::Empty) => {}
            Some(View::Differs) => missing.push(format!("{name} holds another list or name: make them the same")),
            Some(View::Founding) => missing.push(format!("{name} is founding")),
            Some(View::Silent(reason)) => missing.push(format!("{name} does not answer ({reason})")),
            Some(View::Member) | None => missing.push(format!("{name} was not asked")),
        }
    }
    let founder = list.founder().map(|founder| &founder.name);
    if missing.is_empty() && founder == Some(own) {
        return Decision::Found;
    }
    if missing.is_empty() {
        missing.extend(founder.map(|founder| format!("{founder} is to found the cluster")));
    }
    Decision::Wait(format!("waiting for the nodes of cluster.initial: {}", missing.join("; ")))
}

/// Answers the other nodes of the list, and any node that believes to be on one.
pub(crate) struct HowFar {
    pub(crate) consensus: Handle,
    pub(crate) name: NodeName,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) list: Option<[u8; 32]>,
}

impl FoundingAnswerer for HowFar {
    fn founding(&self, trust_domain: &str, list: &[u8]) -> FoundingStatus {
        let founded = self.consensus.state().read(|state| state.cluster().is_some());
        let belongs = self.consensus.member().is_some();
        FoundingStatus {
            empty: !belongs,
            same_list: trust_domain == self.trust_domain.as_str()
                && self.list.is_some_and(|own| own.as_slice() == list),
            name: self.name.to_string(),
            member: belongs && founded,
        }
    }
}

impl Node {
    /// Founds the cluster of a list, or comes into it; answers when this node is a member.
    pub(crate) async fn enter_by_list(&self, list: &InitialMembers) -> Result<(), ListedError> {
        let name = &self.config().name;
        let own_key = self.custody().identity_public_key().spki_der();
        let Some(own) = list.get(name).filter(|own| own.key == own_key) else {
            return Err(ListedError::OtherKey { name: name.clone(), own: key_text(own_key) });
        };
        let mut told: Option<(String, Instant)> = None;
        loop {
            // A founding that broke off is completed by the one who began it: nobody else can have founded meanwhile.
            if self.consensus().member().is_some() {
                return if self.is_founded() { Ok(()) } else { self.found_for(list, own).await };
            }
            let views = self.ask_all(list).await;
            match decide(list, name, &views) {
                Decision::Found => return self.found_for(list, own).await,
                Decision::Enter(members) => {
                    let targets = members.iter().filter_map(|name| list.get(name)).map(destination).collect();
                    return self.enter(targets, Bytes::new()).await.map_err(|source| {
                        // Whether the cluster said no, or something broke off here.
                        if matches!(source, JoinFailure::Join(JoinError::Refused { .. })) {
                            ListedError::Refused { name: name.clone(), source }
                        } else {
                            ListedError::Join(source)
                        }
                    });
                }
                Decision::Wait(reason) => {
                    let known = told.as_ref().is_some_and(|(said, when)| *said == reason && when.elapsed() < REMINDER);
                    if !known {
                        tracing::info!(%reason, "the cluster is not founded yet");
                        told = Some((reason.clone(), Instant::now()));
                    }
                    self.tell_progress(reason);
                }
            }
            sleep(PACE).await;
        }
    }

    /// Asks all others at the same time.
    async fn ask_all(&self, list: &InitialMembers) -> BTreeMap<NodeName, View> {
        let checksum = Bytes::copy_from_slice(&list.checksum(&self.config().trust_domain));
        let mut asking = JoinSet::new();
        for other in list.iter().filter(|other| other.name != self.config().name) {
            let (other, node, checksum) = (other.clone(), self.clone(), checksum.clone());
            asking.spawn(async move {
                let trust_domain = node.config().trust_domain.as_str();
                let deadline = Instant::now() + QUESTION_LIMIT;
                let target = destination(&other);
                let answer = node.consensus().ask_founding(&target, trust_domain, checksum, deadline).await;
                let view = match answer {
                    Ok(status) => view(&other.name, &status),
                    Err(error) => View::Silent(error.to_string()),
                };
                (other.name, view)
            });
        }
        let mut views = BTreeMap::new();
        while let Some(ended) = asking.join_next().await {
            if let Ok((name, view)) = ended {
                views.insert(name, view);
            }
        }
        views
    }

    async fn found_for(&self, list: &InitialMembers, own: &InitialMember) -> Result<(), ListedError> {
        let founding = Founding {
            policy: Policy::default(),
            region: own.region.clone(),
            zone: own.zone.clone(),
            labels: own.labels.clone(),
            caller: Caller::node(),
        };
        let others = list.iter().filter(|other| other.name != own.name);
        let voters = list.iter().filter(|member| member.role == MemberRole::Voter).count();
        let mut with: Vec<Operation> =
            others.map(|other| Operation::SetMember { number: None, member: Box::new(draft(other)) }).collect();
        // The list says how many voters there are to be.
        with.push(Operation::SetPlan(MembershipPlan {
            voters: u32::try_from(voters).unwrap_or(1),
            ..MembershipPlan::default()
        }));
        match self.found_with(founding, with).await {
            Ok(_) | Err(FoundingError::AlreadyFounded { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn view(name: &NodeName, status: &FoundingStatus) -> View {
    match status {
        FoundingStatus { member: true, .. } => View::Member,
        FoundingStatus { same_list: false, .. } => View::Differs,
        FoundingStatus { name: said, .. } if said != name.as_str() => View::Differs,
        FoundingStatus { empty: true, .. } => View::Empty,
        FoundingStatus { .. } => View::Founding,
    }
}

fn destination(member: &InitialMember) -> Destination {
    Destination {
        addresses: member.addresses.iter().map(ToString::to_string).collect(),
        keys: vec![member.key.clone()],
        protocol: Protocol::Join,
    }
}

/// A node of the list as the state knows it until it comes in: without sealing key and directory.
fn draft(member: &InitialMember) -> MemberDraft {
    MemberDraft {
        name: member.name.clone(),
        identity_key: member.key.clone(),
        sealing_key: Bytes::new(),
        incarnation: None,
        region: member.region.clone(),
        zone: member.zone.clone(),
        labels: member.labels.clone(),
        addresses: member.addresses.iter().map(ToString::to_string).collect(),
        version: COMMAND_VERSION,
        build: String::new(),
        role: member.role,
        // The list says that it is to be a learner, so the plan does not make it a voter.
        role_pinned: member.role == MemberRole::Learner,
        status: MemberStatus::Admitted,
        serves: quorate_raft_machine::MemberServices::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const KEYS: [&str; 3] = [
        "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        "MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=",
        "MCowBQYDK2VwAyEA/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU=",
    ];

    fn list() -> InitialMembers {
        let mut text = "trust_domain = \"example.org\"\nname = \"a\"\n[cluster.initial]\n".to_owned();
        for (name, key) in ["a", "b", "c"].into_iter().zip(KEYS) {
            text.push_str(&format!("{name} = {{ addresses = \"{name}:1\", key = \"{key}\" }}\n"));
        }
        Config::parse(&text).unwrap().initial.unwrap()
    }

    fn name(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn views(of: [(&str, View); 2]) -> BTreeMap<NodeName, View> {
        of.into_iter().map(|(who, view)| (name(who), view)).collect()
    }

    #[test]
    fn the_lowest_name_founds_once_all_are_empty_and_hold_the_same_list_atk_46() {
        let empty = |one, two| views([(one, View::Empty), (two, View::Empty)]);
        assert_eq!(decide(&list(), &name("a"), &empty("b", "c")), Decision::Found);
        let Decision::Wait(reason) = decide(&list(), &name("b"), &empty("a", "c")) else { panic!("b never founds") };
        assert!(reason.ends_with("a is to found the cluster"), "{reason}");
    }

    #[test]
    fn a_majority_is_never_enough_atk_46() {
        for (other, told) in [
            (View::Silent("nobody".into()), "c does not answer (nobody)"),
            (View::Differs, "c holds another list or name"),
            (View::Founding, "c is founding"),
        ] {
            let decision = decide(&list(), &name("a"), &views([("b", View::Empty), ("c", other)]));
            let Decision::Wait(reason) = decision else { panic!("{decision:?}") };
            assert!(reason.contains(told), "{reason}");
        }
        let decision = decide(&list(), &name("a"), &BTreeMap::from([(name("b"), View::Empty)]));
        assert!(matches!(decision, Decision::Wait(_)), "{decision:?}");
    }

    #[test]
    fn a_wiped_node_of_a_running_cluster_never_founds_flt_18() {
        for other in [View::Empty, View::Silent("down".into()), View::Differs, View::Member] {
            let decision = decide(&list(), &name("a"), &views([("b", View::Member), ("c", other.clone())]));
            let Decision::Enter(members) = decision else { panic!("{other:?}: {decision:?}") };
            assert!(members.contains(&name("b")));
        }
    }

    #[test]
    fn what_a_node_says_is_taken_for_no_more_than_it_is() {
        let status =
            |empty, same_list, said: &str, member| FoundingStatus { empty, same_list, name: said.to_owned(), member };
        assert_eq!(view(&name("b"), &status(true, true, "b", false)), View::Empty);
        assert_eq!(view(&name("b"), &status(true, true, "c", false)), View::Differs);
        assert_eq!(view(&name("b"), &status(true, false, "b", false)), View::Differs);
        assert_eq!(view(&name("b"), &status(false, true, "b", false)), View::Founding);
        assert_eq!(view(&name("b"), &status(false, false, "b", true)), View::Member);
    }
}
