//! The fixture for clusters: nodes of their own for each test, founded and joined as an operator does it.

use std::collections::BTreeSet;

use quorate_proto_api::cluster::{Policy, StatusResponse};

use crate::node::TestNode;

/// Nodes of one cluster, in the order in which they came.
pub(crate) struct TestCluster {
    pub(crate) nodes: Vec<TestNode>,
}

impl TestCluster {
    /// A cluster of so many nodes, all ready: the first founds, the others join by invitation.
    pub(crate) async fn of(size: usize) -> Self {
        Self::of_domain("example.org", size, Policy::default(), |_| String::new()).await
    }

    /// The same of another trust domain, with another policy, and with more in each node's configuration.
    pub(crate) async fn of_domain(
        trust_domain: &str,
        size: usize,
        policy: Policy,
        configuration: impl Fn(&TestNode) -> String,
    ) -> Self {
        let mut first = TestNode::of_domain(trust_domain, "node-1");
        first.configure(&configuration(&first));
        first.start().await;
        first.found(policy).await.unwrap();
        first.wait_ready().await;
        let mut cluster = Self { nodes: vec![first] };
        for number in 2..=size {
            let node = TestNode::of_domain(trust_domain, &format!("node-{number}"));
            node.configure(&configuration(&node));
            cluster.let_in(node).await;
        }
        cluster
    }

    /// An invitation for a name, made at the first node.
    pub(crate) fn invite(&self, name: &str) -> String {
        self.nodes[0].told(&["cluster", "invite", "--name", name])
    }

    /// Starts another node, which joins, and waits until it may sign.
    pub(crate) async fn join(&mut self, name: &str) {
        self.let_in(TestNode::named(name)).await;
    }

    /// The same for a node that was prepared.
    async fn let_in(&mut self, mut node: TestNode) {
        node.invited_by(&self.invite(&node.name));
        node.start().await;
        node.wait_ready().await;
        self.nodes.push(node);
    }

    /// Waits until all nodes know the same leader, have applied the same and have the same state; answers the status of
    /// the first.
    pub(crate) async fn settled(&self) -> StatusResponse {
        let agree = async || {
            let mut seen = BTreeSet::new();
            for node in &self.nodes {
                let Ok(status) = node.status().await else { return false };
                seen.insert((status.leader, status.applied_index, status.state_hash));
            }
            seen.len() == 1 && seen.first().is_some_and(|(leader, ..)| *leader != 0)
        };
        self.nodes[0].until("all members agree", agree).await;
        self.nodes[0].status().await.unwrap()
    }

    /// Waits until so many members vote, as the Raft group has it.
    pub(crate) async fn voting(&self, voters: usize) {
        use quorate_proto_api::cluster::RaftRole;
        let enough = async || {
            let Ok(status) = self.nodes[0].status().await else { return false };
            status.members.iter().filter(|member| member.raft_role() == RaftRole::Voter).count() == voters
        };
        self.nodes[0].until("the members have their votes", enough).await;
    }

    /// Where among the nodes the leader is.
    pub(crate) async fn leader(&self) -> usize {
        let name = self.settled().await.leader_name;
        self.nodes.iter().position(|node| node.name == name).unwrap()
    }
}
