//! A program that is too old for what the log has switched on stops, and says so.

use quorate_proto_identity::MemberNumber;
use quorate_raft_consensus::{ProposeError, Role, Uncertainty};
use quorate_raft_machine::{COMMAND_VERSION, Operation};

use crate::support::{PATIENCE, TestNode, proposal};

/// Section 4: a node too old for a command stops consensus and says so. Here the member announced more than its program
/// can do, as one that was downgraded has; the others go on by the new version, and it must not go on beside them.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_applies_a_switch_to_a_version_that_it_lacks_stops_and_names_both() {
    let node = TestNode::founded().await;
    let version = COMMAND_VERSION + 7;
    let announce = |version| Operation::AnnounceMember {
        number: MemberNumber::FIRST,
        addresses: vec![],
        version,
        build: "next".to_owned(),
        serves: quorate_raft_machine::MemberServices::default(),
    };
    let premature = node.propose(vec![Operation::RaiseVersion { version }]).await;
    let refusal = premature.outcome.results[0].clone().unwrap_err();
    assert!(refusal.message.contains("can do version 1 only"), "{refusal}");
    assert!(node.propose(vec![announce(version)]).await.outcome.results[0].is_ok());
    let unknown = node.handle.propose(proposal(vec![Operation::RaiseVersion { version }])).await.unwrap_err();
    let ProposeError::OutcomeUnknown { cause: Uncertainty::Stopped { reason }, .. } = &unknown else {
        panic!("{unknown}")
    };
    let (needed, have) = (format!("needs version {version}"), format!("this is version {COMMAND_VERSION}"));
    assert!(reason.contains(&needed) && reason.contains(&have) && reason.contains("upgrade this node"), "{reason}");
    let mut role = node.handle.role();
    tokio::time::timeout(PATIENCE, role.wait_for(Role::is_stopped)).await.unwrap().unwrap();
}
