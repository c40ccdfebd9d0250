//! What concerns the cluster as a whole: its plan, its epoch, its version, its time.

use quorate_proto_identity::UnixMillis;

use crate::event::Event;
use crate::members::Member;
use crate::outcome::{Done, OperationResult, Refusal, RefusalCode};
use crate::plan::MembershipPlan;
use crate::state::{Cluster, State};

impl State {
    /// Sets the plan of the membership.
    pub(super) fn set_plan(&mut self, plan: MembershipPlan, events: &mut Vec<Event>) -> OperationResult {
        plan.check()?;
        if self.plan() != plan {
            self.plan.put((), plan);
            events.push(Event::PlanChanged);
        }
        Ok(Done::PlanSet)
    }

    /// Raises the epoch that every peer RPC carries.
    pub(super) fn raise_epoch(&mut self, events: &mut Vec<Event>) -> OperationResult {
        let mut cluster = self.founded()?.clone();
        cluster.epoch = cluster.epoch.saturating_add(1);
        let epoch = cluster.epoch;
        self.cluster.put((), cluster);
        events.push(Event::EpochRaised { epoch });
        Ok(Done::EpochRaised { epoch })
    }

    /// Switches on the behaviour of a version, which every admitted member has to be able to do. There is no way back:
    /// the log would hold what an older program cannot read.
    pub(super) fn raise_version(&mut self, version: u32, events: &mut Vec<Event>) -> OperationResult {
        let mut cluster = self.founded()?.clone();
        if version < cluster.version {
            return Err(Refusal::wrong_state(format!(
                "the cluster works by version {} already, and cannot go back to {version}",
                cluster.version
            )));
        }
        let behind: Vec<&Member> = self
            .members()
            .filter(|member| !member.record.status.has_gone() && member.record.version < version)
            .collect();
        if let Some((member, more)) = behind.split_first() {
            let more = more.len();
            return Err(Refusal::wrong_state(format!(
                "member {} ({}) can do version {} only{}: upgrade it, or remove it, before the cluster works by version \
                 {version}",
                member.number,
                member.record.name,
                member.record.version,
                if more > 0 { format!(", and {more} more cannot do it either") } else { String::new() }
            )));
        }
        if version > cluster.version {
            cluster.version = version;
            self.cluster.put((), cluster);
            events.push(Event::VersionRaised { version });
        }
        Ok(Done::VersionRaised { version })
    }

    /// Checks that a node can do what the cluster has switched on.
    pub(super) fn check_announced(&self, who: &str, version: u32) -> Result<(), Refusal> {
        let needed = self.version();
        if version >= needed {
            return Ok(());
        }
        Err(Refusal::wrong_state(format!(
            "{who} can do version {version} only, the cluster works by version {needed}: upgrade this node"
        )))
    }

    /// Sets the log's time. Everything that is due by it is due by the new one from the next command on.
    pub(super) fn reset_time(&mut self, time: UnixMillis, events: &mut Vec<Event>) -> OperationResult {
        if time.0 < 0 {
            return Err(Refusal::invalid("the log's time cannot be set to before 1970"));
        }
        let mut counters = self.counters();
        let before = counters.time;
        counters.time = time;
        self.counters.put((), counters);
        events.push(Event::TimeReset { before, after: time });
        Ok(Done::TimeReset { before, after: time })
    }

    pub(super) fn founded(&self) -> Result<&Cluster, Refusal> {
        self.cluster().ok_or_else(|| Refusal::new(RefusalCode::NotFounded, "the authority has not been founded yet"))
    }
}
