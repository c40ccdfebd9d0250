//! `quorate-chaos versions` (FLT-19): a rolling upgrade under load, a step back, the switch to what the newer program
//! brings, and members that are too old for it.
//!
//! ```text
//!   node-1, 2, 3   old ─── one after the other ──► newer      raise-version refused, naming who is old
//!   node-3         newer ──► old ──► newer                    before anything is switched on
//!   all newer      raise-version, while one of them is off    long hints refused before, and on all members after
//!   that one       ──► old: hears of it and stops ──► newer
//!   a follower, a leader ──► old: has it in the log and does not start ──► newer
//! ```
//!
//! The newer program is the same one with its version of commands bumped, by the feature `bumped-version` of
//! `quorate-raft-machine`: once the version is switched on, hints of entries may be twice as long. Between two steps the
//! load ends, so that all members apply the same and their state hashes are held against each other (INV-03).

use crate::fleet::{Fleet, Member};
use crate::invariants::{inv_01, inv_03, inv_13};
use crate::load::diary::Habit;
use crate::load::{Amount, Load};
use crate::node::{LOOK, START_LIMIT, program};
use crate::observer;
use crate::registrar::hinted_entry;
use crate::run::{Run, lock};
use crate::say;
use crate::scenario::healing;
use crate::trouble::Trouble;
use clap::Args;
use quorate_raft_machine::entry::HINT_LIMIT;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Enough members that one can be missing.
const NODES: usize = 3;

/// Nothing ends within the run; certificates are renewed while programs are mixed.
const POLICY: &str = "issuing_lifetime = \"60s\"\nroot_lifetime = \"1h\"\nx509_svid_lifetime = \"20s\"\n\
                      jwt_key_lifetime = \"1h\"\njwt_svid_lifetime = \"60s\"\nrefresh_hint = \"60s\"\n";

/// As in `cluster`, with half the writers.
const AMOUNT: Amount = Amount {
    callers: 1,
    call_pace: Duration::from_millis(15),
    writers: 1,
    habit: Habit { batch: 4, pace: Duration::from_millis(10), creates_of_ten: 6 },
    clients: 2,
    deletions: true,
};

/// How long members of both programs work together after each step.
const MIXED: Duration = Duration::from_secs(4);

/// How long a member that is too old is watched after it stopped: longer than others count it as connected.
const WATCHED: Duration = Duration::from_secs(6);

/// How long a member may take to announce what it can do, and to stop at what it cannot.
const LIMIT: Duration = Duration::from_secs(30);

/// Writes that are acknowledged through each node that is meant to take them, in every step.
const WRITES: usize = 10;

/// What `versions` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The newer program: one whose version of commands is higher.
    #[arg(long, value_name = "PATH")]
    newer: PathBuf,
    /// Which run; a new one without it.
    #[arg(long)]
    seed: Option<u64>,
}

/// One run.
pub(crate) async fn run(options: &Options) -> Result<(), Trouble> {
    let seed = options.seed.unwrap_or_else(rand::random);
    if !options.newer.exists() {
        return Err(Trouble::NotBuilt(options.newer.clone()));
    }
    let newer = options.newer.display();
    say(&format!("versions: {NODES} nodes; again with: quorate-chaos versions --newer {newer} --seed {seed}"));
    super::in_directory("versions", async |directory| within(options, seed, directory).await).await
}

async fn within(options: &Options, seed: u64, directory: &Path) -> Result<(), Trouble> {
    let fleet = Fleet::on_loopback(directory, NODES, POLICY).await?;
    healing::first_workload(&fleet).await?;
    let known = announced(fleet.member(0)?, fleet.member(0)?).await?;
    let mut trial = Trial {
        run: Arc::new(Run::new(fleet)),
        old: program()?,
        newer: options.newer.clone(),
        seed,
        known,
        needed: known + 1,
    };
    trial.upgrade().await?;
    trial.step_back().await?;
    trial.switch_on().await?;
    trial.long_hints().await?;
    let leader = trial.run.fleet.await_leader(LIMIT).await?;
    trial.too_old((leader + 1) % NODES, "a follower").await?;
    let leader = trial.run.fleet.await_leader(LIMIT).await?;
    trial.too_old(leader, "the leader before").await?;
    let run = &trial.run;
    let checked = healing::check(run).await?;
    run.violations.none(directory)?;
    say(&format!(
        "versions: {} acknowledged writes, all there on every member; {} operations on {} registers are linearizable; \
         {} Workload API calls on nodes that ran, none failed; {} state hashes compared",
        run.tally.writes.get(),
        checked.operations,
        checked.keys,
        run.tally.calls.get(),
        lock(&run.seen).hashes.compared()
    ));
    Ok(())
}

/// A cluster, and the two programs that its members run.
struct Trial {
    run: Arc<Run>,
    old: PathBuf,
    newer: PathBuf,
    /// Each step's load follows from it.
    seed: u64,
    /// The version of commands that the old program knows.
    known: u32,
    /// The one that the newer program brings.
    needed: u32,
}

/// What a step came to.
struct Step<T> {
    /// What was done in it.
    done: T,
    /// When writes were acknowledged, by the node that they were sent to.
    written: Vec<(usize, Duration)>,
}

impl Trial {
    /// Node after node; leadership goes to the newer program while most are old.
    async fn upgrade(&mut self) -> Result<(), Trouble> {
        for node in 0..NODES {
            let run = Arc::clone(&self.run);
            let member = run.fleet.member(node)?;
            let step = self.step(async || {
                self.replace(node, &self.newer).await?;
                let version = announced_changed(member, self.known).await?;
                if node == 0 {
                    member.place.command(&["cluster", "transfer-leader", member.name()]).await?;
                }
                sleep(MIXED).await;
                if node + 1 < NODES {
                    let old: Vec<&Member> = run.fleet.members().iter().skip(node + 1).collect();
                    self.refused(version, &old).await?;
                }
                Ok((version, run.fleet.await_leader(LIMIT).await?))
            });
            let Step { done: (version, leader), written } = step.await?;
            self.needed = version;
            self.all_wrote(&written)?;
            let index = self.settle().await?;
            say(&format!(
                "versions: {} of {NODES} upgraded, {} leads; {} writes, some through each node; at index {index} all \
                 have one state{}",
                node + 1,
                run.fleet.member(leader)?.name(),
                written.len(),
                if node + 1 < NODES { "; raise-version refused, with the name of an old member" } else { "" }
            ));
        }
        Ok(())
    }

    /// The last one back to the old program and forward again, before anything of the newer one is switched on.
    async fn step_back(&self) -> Result<(), Trouble> {
        let node = NODES - 1;
        let run = Arc::clone(&self.run);
        let member = run.fleet.member(node)?;
        let back = self.step(async || {
            self.replace(node, &self.old).await?;
            announces(run.fleet.members(), member, self.known).await?;
            sleep(MIXED).await;
            self.refused(self.needed, &[member]).await
        });
        let back = back.await?;
        self.all_wrote(&back.written)?;
        let index = self.settle().await?;
        say(&format!(
            "versions: {} back to version {}: {} writes, some through each node; at index {index} all have one state; \
             raise-version: {}",
            member.name(),
            self.known,
            back.written.len(),
            back.done
        ));
        let forward = self.step(async || {
            self.replace(node, &self.newer).await?;
            announces(run.fleet.members(), member, self.needed).await
        });
        forward.await?;
        self.settle().await.map(drop)
    }

    /// What the newer program brings is refused before raise-version. A member that is off meanwhile comes back too old.
    async fn switch_on(&self) -> Result<(), Trouble> {
        let run = Arc::clone(&self.run);
        let first = run.fleet.member(0)?;
        let entry = hinted_entry("/long-hint/too-early", &long_hint("early"));
        let early = match first.registrar().create_entry(entry).await {
            Ok(_) => return Err(Trouble::NotReached("a refusal of what is not switched on yet".to_owned())),
            Err(status) => status.message().to_owned(),
        };
        say(&format!("versions: a long hint before raise-version is refused: {early}"));
        self.settle().await?;
        let leader = run.fleet.await_leader(LIMIT).await?;
        let off = (leader + 1) % NODES;
        killed(run.fleet.member(off)?).await?;
        let leader = run.fleet.member(leader)?;
        let said = leader.place.command(&["cluster", "raise-version"]).await?;
        // At once: this is the index that a member which is too old will stop at.
        let raised = leader.registrar().status().await.map_err(Trouble::call("Status"))?;
        observer::saw(&run, leader.name(), &raised);
        if raised.command_version != self.needed {
            return Err(Trouble::NotReached(format!("version {} switched on: {said}", self.needed)));
        }
        say(&format!("versions: raise-version at index {}: {said}", raised.applied_index));
        self.too_old(off, "off while it was raised").await
    }

    /// What the newer program brings is taken by every member, and is there on all of them.
    async fn long_hints(&self) -> Result<(), Trouble> {
        let run = &self.run;
        let mut ids = Vec::new();
        for member in run.fleet.members() {
            let name = member.name();
            let entry = hinted_entry(&format!("/long-hint/{name}"), &long_hint(name));
            let created = member.registrar().create_entry(entry).await;
            ids.push((name, created.map_err(Trouble::call("BatchCreateEntry"))?));
        }
        let index = self.settle().await?;
        for member in run.fleet.members() {
            for (name, id) in &ids {
                let there = member.registrar().hint(id).await.map_err(Trouble::call("GetEntry"))?;
                if there != long_hint(name) {
                    run.violations.add(inv_01::NAME, format!("{} lacks what {name} wrote", member.name()));
                }
            }
        }
        say(&format!(
            "versions: long hints written through each node are on all of them; at index {index} all have one state"
        ));
        Ok(())
    }

    /// A member comes back with the old program: it stops with a message, the others go on, its state is never another
    /// one; the newer program heals it.
    async fn too_old(&self, node: usize, who: &str) -> Result<(), Trouble> {
        let run = &self.run;
        let member = run.fleet.member(node)?;
        let step = self.step(async || {
            sleep(MIXED).await;
            member.kill().await?;
            let from = run.clock.elapsed();
            let stop = self.stops(member).await?;
            let stopped = run.clock.elapsed();
            let give_up = Instant::now() + WATCHED;
            while Instant::now() < give_up {
                self.stands(member, &stop).await?;
                sleep(LOOK).await;
            }
            let until = run.clock.elapsed();
            // It may have ended by itself.
            member.kill().await?;
            self.begin(member, &self.newer).await?;
            sleep(MIXED).await;
            Ok((stop, from, stopped, until))
        });
        let Step { done: (stop, from, stopped, until), written } = step.await?;
        self.all_wrote(&written)?;
        let during = |who: usize, from: Duration| {
            written.iter().filter(|(node, at)| *node == who && (from..until).contains(at)).count()
        };
        for other in (0..NODES).filter(|other| *other != node) {
            let (count, name) = (during(other, stopped), run.fleet.member(other)?.name());
            if count < WRITES {
                let what =
                    format!("{name} took {count} writes beside a member that is too old, {WRITES} are the least");
                run.violations.add(inv_13::NAME, what);
            }
        }
        let taken = during(node, from);
        if taken > 0 {
            let what = format!("{}, which is too old, acknowledged {taken} writes", member.name());
            run.violations.add(inv_03::NAME, what);
        }
        let index = self.settle().await?;
        say(&format!(
            "versions: {} ({}), too old, {}; the others took {} writes beside it; upgraded again, at index {index} all \
             have one state",
            member.name(),
            who,
            stop.told(),
            written.iter().filter(|(_, at)| (stopped..until).contains(at)).count()
        ));
        say(&format!("versions: {} said: {}", member.name(), stop.message));
        Ok(())
    }

    /// Starts the old program where it must not go on, and waits until it says so.
    async fn stops(&self, member: &Member) -> Result<Stop, Trouble> {
        let before = log_of(member)?.len();
        let started = member.start_with(&self.old).await;
        let give_up = Instant::now() + LIMIT;
        loop {
            let log = log_of(member)?;
            let new = log.get(before..).unwrap_or_default();
            if let Some(line) = new.lines().find(|line| names_both(line, self.needed, self.known)) {
                let message = line.trim().to_owned();
                if started.is_err() {
                    return Ok(Stop { message, index: None });
                }
                if let Some(status) = member.status().await {
                    return self.stopped_at(member, status.applied_index, &status.state_hash, message);
                }
            }
            if Instant::now() > give_up {
                return Err(Trouble::NotServing {
                    what: format!(
                        "{} should have stopped within {LIMIT:?}, naming versions {} and {}",
                        member.name(),
                        self.needed,
                        self.known
                    ),
                    log: member.place.log(),
                });
            }
            sleep(LOOK).await;
        }
    }

    /// What it has applied is what the others had there.
    fn stopped_at(&self, member: &Member, index: u64, hash: &str, message: String) -> Result<Stop, Trouble> {
        let seen = lock(&self.run.seen);
        match seen.hashes.at(index) {
            Some(theirs) if theirs == hash => {}
            Some(theirs) => self.run.violations.add(
                inv_03::NAME,
                format!("at index {index} {} has state {hash}, and the others had {theirs}", member.name()),
            ),
            None => {
                let what = format!("{} stopped at index {index}, where nobody told its state", member.name());
                return Err(Trouble::ProvesNothing(what));
            }
        }
        Ok(Stop { message, index: Some(index) })
    }

    /// It is where it stopped, leads nobody, and says why it does not serve.
    async fn stands(&self, member: &Member, stop: &Stop) -> Result<(), Trouble> {
        let (Some(index), Some(status)) = (stop.index, member.status().await) else { return Ok(()) };
        if status.applied_index != index {
            let what = format!("{} went on from index {index} to {}", member.name(), status.applied_index);
            self.run.violations.add(inv_03::NAME, what);
        }
        if status.ready || !status.reasons.iter().any(|reason| names_both(reason, self.needed, self.known)) {
            return Err(Trouble::NotServing {
                what: format!("{} does not say that it is too old: {}", member.name(), status.reasons.join(" ")),
                log: member.place.log(),
            });
        }
        Ok(())
    }

    /// Does something while every node is written to and asked; a load of its own for each step.
    async fn step<T>(&self, act: impl AsyncFnOnce() -> Result<T, Trouble>) -> Result<Step<T>, Trouble> {
        self.run.resume_load();
        // No two steps write to the same paths.
        let at = u64::try_from(self.run.clock.elapsed().as_nanos()).unwrap_or_default();
        let load = Load::start(&self.run, self.seed ^ at, AMOUNT);
        let done = act().await;
        let written = load.end(&self.run).await;
        let (done, written) = (done?, written?);
        let written = written.into_iter().flat_map(|(node, times)| times.into_iter().map(move |at| (node, at)));
        Ok(Step { done, written: written.collect() })
    }

    /// Kills a member, and starts this program in its place.
    async fn replace(&self, node: usize, program: &Path) -> Result<(), Trouble> {
        let member = self.run.fleet.member(node)?;
        killed(member).await?;
        self.begin(member, program).await
    }

    /// Starts this program, and waits until it serves.
    async fn begin(&self, member: &Member, program: &Path) -> Result<(), Trouble> {
        member.start_with(program).await?;
        member.ready().await?;
        healing::served(member).await
    }

    /// Every member says that the version cannot be switched on, and names one that is too old for it; what it says.
    async fn refused(&self, version: u32, old: &[&Member]) -> Result<String, Trouble> {
        let mut last = String::new();
        for member in self.run.fleet.members() {
            let said = match member.place.command(&["cluster", "raise-version", &version.to_string()]).await {
                Err(Trouble::Command { said, .. }) => said,
                Err(trouble) => return Err(trouble),
                Ok(said) => return Err(Trouble::NotReached(format!("a refusal to raise the version: {said}"))),
            };
            if !old.iter().any(|old| said.contains(old.name())) {
                return Err(Trouble::NotReached(format!("the name of a member that is too old in {said:?}")));
            }
            last = said;
        }
        Ok(last)
    }

    /// Writes went on through every node.
    fn all_wrote(&self, written: &[(usize, Duration)]) -> Result<(), Trouble> {
        for (index, member) in self.run.fleet.members().iter().enumerate() {
            let count = written.iter().filter(|(node, _)| *node == index).count();
            if count < WRITES {
                let what = format!("{count} writes through {} in one step, {WRITES} are the least", member.name());
                return Err(Trouble::ProvesNothing(what));
            }
        }
        Ok(())
    }

    /// Waits until all have applied the same, and holds their state hashes against each other; at which index.
    async fn settle(&self) -> Result<u64, Trouble> {
        let run = &self.run;
        if let Err(missing) = inv_13::healed(&run.fleet).await? {
            return Err(Trouble::NotReached(missing));
        }
        let give_up = Instant::now() + START_LIMIT;
        while Instant::now() < give_up {
            let mut told = Vec::new();
            for member in run.fleet.members() {
                if let Some(status) = member.status().await {
                    observer::saw(run, member.name(), &status);
                    told.push((status.applied_index, status.state_hash));
                }
            }
            let index = told.first().map(|(index, _)| *index).unwrap_or_default();
            if told.len() == NODES && told.iter().all(|(other, hash)| *other == index && !hash.is_empty()) {
                return Ok(index);
            }
            sleep(LOOK).await;
        }
        Err(Trouble::NotReached(format!("one applied index on all members within {START_LIMIT:?}")))
    }
}

/// How a member that is too old stopped.
struct Stop {
    /// What it logged.
    message: String,
    /// What it had applied by then; none when it did not start at all.
    index: Option<u64>,
}

impl Stop {
    fn told(&self) -> String {
        match self.index {
            Some(index) => format!("stopped at index {index} in the state that the others had there"),
            None => "refused to start".to_owned(),
        }
    }
}

/// A hint that is longer than the old program takes.
fn long_hint(begin: &str) -> String {
    format!("{begin}{}", "-".repeat(HINT_LIMIT))
}

/// Whether a message says which version is needed, and which is there.
fn names_both(message: &str, needed: u32, known: u32) -> bool {
    message.contains(&format!("needs version {needed}")) && message.contains(&format!("this is version {known}"))
}

async fn killed(member: &Member) -> Result<(), Trouble> {
    if member.kill().await? {
        return Ok(());
    }
    Err(Trouble::ProvesNothing(format!("{} did not die of SIGKILL", member.name())))
}

/// Everything that a member's programs wrote so far.
fn log_of(member: &Member) -> Result<String, Trouble> {
    let log = fs::read(member.place.log()).map_err(Trouble::system("read the node's log"))?;
    Ok(String::from_utf8_lossy(&log).into_owned())
}

/// The version that a member announced, as another one knows it.
async fn announced(asked: &Member, of: &Member) -> Result<u32, Trouble> {
    let status = asked.registrar().status().await.map_err(Trouble::call("Status"))?;
    let version = status.members.iter().find(|member| member.name == of.name()).map(|member| member.version);
    version.ok_or_else(|| Trouble::NotReached(format!("a record of {} on {}", of.name(), asked.name())))
}

/// Waits until a member announced another version than this; which one.
async fn announced_changed(member: &Member, before: u32) -> Result<u32, Trouble> {
    let give_up = Instant::now() + LIMIT;
    loop {
        match announced(member, member).await {
            Ok(version) if version > before => return Ok(version),
            _ if Instant::now() > give_up => {
                let what = format!("{} can do no version above {before} with the newer program", member.name());
                return Err(Trouble::ProvesNothing(what));
            }
            _ => sleep(LOOK).await,
        }
    }
}

/// Waits until all know that a member announced this version.
async fn announces(all: &[Member], member: &Member, version: u32) -> Result<(), Trouble> {
    let give_up = Instant::now() + LIMIT;
    for asked in all {
        while announced(asked, member).await.ok() != Some(version) {
            if Instant::now() > give_up {
                let what =
                    format!("{} knows within {LIMIT:?} that {} can do version {version}", asked.name(), member.name());
                return Err(Trouble::NotReached(what));
            }
            sleep(LOOK).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flt_19_a_message_that_names_one_version_alone_is_not_enough() {
        let whole = "the command needs version 2 to be applied, this is version 1: upgrade this node";
        assert!(names_both(whole, 2, 1));
        assert!(!names_both("the command needs version 2 to be applied", 2, 1));
        assert!(!names_both(whole, 3, 1));
    }
}
