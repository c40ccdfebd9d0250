//! A cluster of real processes, made as an operator makes one: init, invite, join.

use crate::condition::Condition;
use crate::node::{Layout, Place, Running, START_LIMIT};
use crate::registrar::Registrar;
use crate::trouble::Trouble;
use quorate_proto_api::cluster::{RaftRole, Role, StatusResponse};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// How often the cluster is looked at while something is awaited.
const LOOK: Duration = Duration::from_millis(50);

/// What the members of a cluster are called, beside where they are.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// How the node is told from the others.
    pub(crate) layout: Layout,
    /// The region that it is in; empty for none.
    pub(crate) region: String,
}

/// One member: its place, its process while it has one, and what the run does to it.
#[derive(Debug)]
pub(crate) struct Member {
    /// Files and sockets.
    pub(crate) place: Place,
    /// What the run does to it.
    pub(crate) condition: Condition,
    lives: AtomicU64,
    process: Mutex<Option<Running>>,
}

/// All members.
#[derive(Debug)]
pub(crate) struct Fleet {
    members: Vec<Member>,
}

impl Fleet {
    /// Nodes on loopback: founded, joined, all of them voters and ready.
    pub(crate) async fn on_loopback(directory: &Path, nodes: usize, policy: &str) -> Result<Self, Trouble> {
        let mut sites = Vec::new();
        for number in 1..=nodes {
            sites.push(Site { layout: Layout::on_loopback(format!("node-{number}"))?, region: String::new() });
        }
        Self::found(directory, &sites, policy).await
    }

    /// Nodes at these sites, with this policy: the first one founds, each other one is invited and joins.
    pub(crate) async fn found(directory: &Path, sites: &[Site], policy: &str) -> Result<Self, Trouble> {
        fs::create_dir_all(directory).map_err(Trouble::system(directory.display().to_string()))?;
        let policy_file = directory.join("policy.toml");
        fs::write(&policy_file, policy).map_err(Trouble::system("write the policy"))?;
        let mut members = Vec::new();
        for site in sites {
            let place = Place::lay_out(directory.join(&site.layout.name), &site.layout)?;
            members.push(Member {
                place,
                condition: Condition::default(),
                lives: AtomicU64::new(0),
                process: Mutex::new(None),
            });
        }
        let fleet = Self { members };
        let mut joined = fleet.members.iter().zip(sites);
        let Some((founder, site)) = joined.next() else {
            return Err(Trouble::NotReached("a cluster has one node at least".to_owned()));
        };
        founder.start().await?;
        let policy_file = policy_file.display().to_string();
        founder.place.command(&["cluster", "init", "--policy", &policy_file, "--region", &site.region]).await?;
        founder.ready().await?;
        if sites.len() > 1 {
            founder.registrar().set_voters(sites.len()).await.map_err(Trouble::call("SetPlan"))?;
        }
        for (member, site) in joined {
            let name = member.place.name().to_owned();
            let invite = ["cluster", "invite", "--name", &name, "--region", &site.region];
            let invitation = founder.place.command(&invite).await?;
            member.begin(member.place.join(&invitation)?).await?;
            member.ready().await?;
        }
        if sites.len() > 1 {
            fleet.all_vote().await?;
        }
        Ok(fleet)
    }

    /// All members, in the order of their names.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// One of them.
    pub(crate) fn member(&self, index: usize) -> Result<&Member, Trouble> {
        self.members.get(index).ok_or_else(|| Trouble::NotReached(format!("there is no node {}", index + 1)))
    }

    /// Who leads, by its place among the members: the one that says so of itself in the highest term.
    pub(crate) async fn leader(&self) -> Option<usize> {
        let mut best = None;
        for (index, member) in self.members.iter().enumerate() {
            if member.condition.spell().is_none() {
                continue;
            }
            if let Some(status) = member.status().await
                && status.role() == Role::Leader
                && best.is_none_or(|(term, _)| status.term > term)
            {
                best = Some((status.term, index));
            }
        }
        best.map(|(_, index)| index)
    }

    /// Waits until some member says that it leads, whether or not anything counts on it yet.
    pub(crate) async fn await_any_leader(&self, limit: Duration) -> Result<(), Trouble> {
        let give_up = Instant::now() + limit;
        while Instant::now() < give_up {
            for member in &self.members {
                if member.status().await.is_some_and(|status| status.role() == Role::Leader) {
                    return Ok(());
                }
            }
            sleep(LOOK).await;
        }
        Err(Trouble::NotReached(format!("a leader within {limit:?}")))
    }

    /// Waits for a leader.
    pub(crate) async fn await_leader(&self, limit: Duration) -> Result<usize, Trouble> {
        let give_up = Instant::now() + limit;
        loop {
            if let Some(leader) = self.leader().await {
                return Ok(leader);
            }
            if Instant::now() > give_up {
                return Err(Trouble::NotReached(format!("a leader within {limit:?}")));
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until the Raft group knows every member as a voter.
    async fn all_vote(&self) -> Result<(), Trouble> {
        let give_up = Instant::now() + START_LIMIT;
        loop {
            let mut votes = 0;
            for member in &self.members {
                if let Some(status) = member.status().await {
                    votes = votes.max(voters(&status));
                }
            }
            if votes == self.members.len() {
                return Ok(());
            }
            if Instant::now() > give_up {
                let what = format!("{votes} voters of {} within {START_LIMIT:?}", self.members.len());
                return Err(Trouble::NotReached(what));
            }
            sleep(LOOK).await;
        }
    }

    /// Ends all processes in good order, the leader last.
    pub(crate) async fn stop(self) -> Result<(), Trouble> {
        let leader = self.leader().await;
        let mut order: Vec<usize> = (0..self.members.len()).filter(|index| Some(*index) != leader).collect();
        order.extend(leader);
        for index in order {
            let member = self.member(index)?;
            member.condition.faulted();
            if let Some(running) = member.process.lock().await.take() {
                running.stop().await?;
            }
        }
        Ok(())
    }
}

/// How many voters the Raft group has, as far as this node knows.
fn voters(status: &StatusResponse) -> usize {
    status.members.iter().filter(|member| member.raft_role() == RaftRole::Voter).count()
}

impl Member {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.place.name()
    }

    /// A new connection to its administrators' socket.
    pub(crate) fn registrar(&self) -> Registrar {
        Registrar::new(&self.place.admin_socket())
    }

    /// How it stands; none when it does not say so within a second.
    pub(crate) async fn status(&self) -> Option<StatusResponse> {
        self.registrar().status().await.ok()
    }

    /// Starts the process and waits until its socket answers.
    pub(crate) async fn start(&self) -> Result<(), Trouble> {
        self.begin(self.place.start()?).await
    }

    /// Starts another program in its place, and waits until its socket answers.
    pub(crate) async fn start_with(&self, program: &Path) -> Result<(), Trouble> {
        self.begin(self.place.start_with(program)?).await
    }

    async fn begin(&self, mut running: Running) -> Result<(), Trouble> {
        self.lives.fetch_add(1, Ordering::AcqRel);
        running.wait(async |mut registrar| registrar.status().await.is_ok()).await?;
        *self.process.lock().await = Some(running);
        Ok(())
    }

    /// Waits until it says that it may sign; from then on its callers may count on it.
    pub(crate) async fn ready(&self) -> Result<(), Trouble> {
        let give_up = Instant::now() + START_LIMIT;
        loop {
            let status = self.registrar().status().await;
            if status.as_ref().is_ok_and(|status| status.ready) {
                self.condition.healthy();
                return Ok(());
            }
            if let Some(running) = self.process.lock().await.as_mut()
                && let Some(ended) = running.ended()?
            {
                return Err(self.not_serving(format!("ended by itself with {ended}")));
            }
            if Instant::now() > give_up {
                let said = status.map_or_else(|status| status.to_string(), |status| status.reasons.join(" "));
                return Err(self.not_serving(format!("not ready after {START_LIMIT:?}: {said}")));
            }
            sleep(LOOK).await;
        }
    }

    fn not_serving(&self, what: String) -> Trouble {
        Trouble::NotServing { what: format!("{}: {what}", self.name()), log: self.place.log() }
    }

    /// Kills its process; whether there was one that died of it.
    pub(crate) async fn kill(&self) -> Result<bool, Trouble> {
        self.condition.faulted();
        match self.process.lock().await.take() {
            Some(running) => running.kill().await,
            None => Ok(false),
        }
    }

    /// Lets it stand still; whether it does.
    pub(crate) async fn pause(&self) -> Result<bool, Trouble> {
        self.condition.faulted();
        match self.process.lock().await.as_ref() {
            Some(running) => running.pause().await,
            None => Ok(false),
        }
    }

    /// Lets it go on. From here on it answers again, as any node does that is there.
    pub(crate) async fn resume(&self) -> Result<(), Trouble> {
        if let Some(running) = self.process.lock().await.as_ref() {
            running.resume()?;
            self.condition.healthy();
        }
        Ok(())
    }

    /// Lets it go on, and counts on nothing yet.
    pub(crate) async fn resume_unwatched(&self) -> Result<(), Trouble> {
        match self.process.lock().await.as_ref() {
            Some(running) => running.resume(),
            None => Ok(()),
        }
    }

    /// How often it was started.
    pub(crate) fn lives(&self) -> u64 {
        self.lives.load(Ordering::Acquire)
    }

    /// Processor time that its process has used so far.
    pub(crate) async fn cpu(&self) -> Option<Duration> {
        self.process.lock().await.as_ref().and_then(Running::cpu)
    }

    /// The ID of its process, while it has one.
    pub(crate) async fn process_id(&self) -> Option<i32> {
        self.process.lock().await.as_ref().and_then(Running::pid)
    }

    /// Whether its process ended without being told to.
    pub(crate) async fn ended(&self) -> Result<Option<std::process::ExitStatus>, Trouble> {
        self.process.lock().await.as_mut().map_or(Ok(None), Running::ended)
    }
}
