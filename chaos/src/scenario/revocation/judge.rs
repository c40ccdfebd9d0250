//! What all posts have seen, what was revoked, and whether a consumer's opinion is as it must be.

use super::acts::PATHS;
use super::post::Seen;
use crate::clock::now;
use crate::consumers::{Chain, Opinion, View};
use crate::fleet::Fleet;
use crate::invariants::{Violations, inv_16};
use crate::trouble::Trouble;
use quorate_proto_identity::{Certificate, UnixSeconds};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// A leaf that ends within this many seconds is asked about no more: it would be refused for its end.
const MARGIN: i64 = 2;

/// How long the streams of all nodes may take to open.
const OPEN_LIMIT: Duration = Duration::from_secs(60);

/// Chains that each consumer has to accept at least in a run, and from each node.
const ACCEPTED: u64 = 50;
const ACCEPTED_OF_A_NODE: u64 = 10;

/// Shared by posts, consumers and acts.
pub(crate) struct Judge {
    names: Vec<String>,
    posts: Vec<watch::Sender<Seen>>,
    marks: Mutex<Marks>,
    violations: Violations,
}

#[derive(Default)]
struct Marks {
    /// Leaves whose revocation was ordered; until it is acknowledged nothing is expected of them.
    withdrawn: BTreeSet<Vec<u8>>,
    /// What must be refused.
    revoked: Vec<Revoked>,
    /// By consumer.
    tallies: BTreeMap<&'static str, Tally>,
    issuing: BTreeSet<Vec<u8>>,
    keys: BTreeSet<String>,
    roots: BTreeSet<Vec<u8>>,
    sets: u64,
}

/// A leaf whose revocation was acknowledged.
#[derive(Clone)]
pub(super) struct Revoked {
    pub(super) chain: Arc<Chain>,
    /// Whose it is.
    pub(super) of: String,
    until: UnixSeconds,
    refused_by: BTreeSet<&'static str>,
}

/// What a consumer was asked, and what it said.
#[derive(Clone, Debug, Default)]
struct Tally {
    accepted: BTreeMap<usize, u64>,
    refused: u64,
    /// Opinions on what was replaced or went while it was asked.
    overtaken: u64,
    loads: u64,
    slowest_load: Duration,
}

/// A chain that a consumer is asked about, and the post that holds it.
pub(super) struct Question {
    pub(super) post: usize,
    pub(super) path: &'static str,
    pub(super) chain: Arc<Chain>,
}

impl Judge {
    /// Nothing has been seen yet.
    pub(super) fn new(fleet: &Fleet, violations: Violations) -> Self {
        let names: Vec<String> = fleet.members().iter().map(|member| member.name().to_owned()).collect();
        let posts = names.iter().map(|_| watch::Sender::default()).collect();
        Self { names, posts, marks: Mutex::default(), violations }
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was last seen at a post.
    pub(super) fn seen(&self, post: usize) -> Seen {
        self.posts.get(post).map(|post| post.borrow().clone()).unwrap_or_default()
    }

    /// Something else is seen there; `form` says what is wrong with its form. What a stream holds must be complete.
    pub(super) fn saw(&self, post: usize, seen: Seen, form: Result<(), String>) {
        let checked = form.and_then(|()| if seen.open { self.check(&seen) } else { Ok(()) });
        let name = self.names.get(post).cloned().unwrap_or_default();
        self.violations.expect(inv_16::NAME, checked.map_err(|what| format!("the stream of {name}: {what}")));
        if let Some(post) = self.posts.get(post) {
            post.send_replace(seen);
        }
    }

    fn check(&self, seen: &Seen) -> Result<(), String> {
        let Some(view) = &seen.view else { return Ok(()) };
        if view.crls.is_empty() {
            return Err("no CRLs, under a policy that always hands them out (CRL-08)".to_owned());
        }
        let mut marks = self.marks();
        marks.sets += 1;
        for held in seen.chains.values() {
            inv_16::complete(view, &held.chain)?;
            let issuing = Certificate::parse(&held.chain.issuing).map_err(|error| error.to_string())?;
            marks.issuing.insert(issuing.serial().to_vec());
            marks.keys.insert(issuing.authority_id().as_str().to_owned());
            marks.roots.insert(issuing.issuer().to_vec());
        }
        Ok(())
    }

    /// Waits until something at a post is so.
    pub(super) async fn until(&self, post: usize, limit: Duration, so: impl Fn(&Seen) -> bool) -> bool {
        let Some(post) = self.posts.get(post) else { return false };
        timeout(limit, post.subscribe().wait_for(so)).await.is_ok()
    }

    /// Waits until all streams are open.
    pub(super) async fn all_open(&self) -> Result<(), Trouble> {
        for (index, name) in self.names.iter().enumerate() {
            if !self.until(index, OPEN_LIMIT, |seen| seen.view.is_some() && seen.open).await {
                return Err(Trouble::NotReached(format!("an open stream of {name} within {OPEN_LIMIT:?}")));
            }
        }
        Ok(())
    }

    /// How many posts there are.
    pub(super) fn posts(&self) -> usize {
        self.posts.len()
    }

    /// The revocation of these was ordered.
    pub(super) fn withdraw(&self, chains: &[Arc<Chain>]) {
        self.marks().withdrawn.extend(chains.iter().map(|chain| chain.leaf.clone()));
    }

    /// A leaf's revocation was acknowledged, and every open stream has the CRL: from here on it is refused.
    pub(super) fn revoked(&self, chain: Arc<Chain>, of: &str) {
        let until = Certificate::parse(&chain.leaf).map_or(UnixSeconds(0), |leaf| leaf.validity().not_after());
        let of = of.to_owned();
        self.marks().revoked.push(Revoked { chain, of, until, refused_by: BTreeSet::new() });
    }

    /// Those that are to be refused, and are not about to end.
    pub(super) fn to_refuse(&self) -> Vec<Revoked> {
        let soon = now().plus(MARGIN);
        self.marks().revoked.iter().filter(|revoked| revoked.until > soon).cloned().collect()
    }

    /// Those that somebody has yet to refuse, of consumers in this number; and of them those that end soon.
    pub(super) fn outstanding(&self) -> (usize, usize) {
        let soon = now().plus(MARGIN);
        let marks = self.marks();
        let consumers = marks.tallies.len();
        let open = marks.revoked.iter().filter(|revoked| revoked.refused_by.len() < consumers);
        let late = open.clone().filter(|revoked| revoked.until <= soon).count();
        (open.count(), late)
    }

    /// What is to be accepted by a consumer whose files are of this post: what streams hold, but for what it cannot know of
    /// because its own stream had ended before.
    pub(super) fn to_accept(&self, home: &Seen) -> Vec<Question> {
        let mut questions = Vec::new();
        for (index, post) in self.posts.iter().enumerate() {
            let seen = post.borrow();
            for path in PATHS {
                if let Some(held) = seen.current(path)
                    && (home.open || held.since < home.since)
                    && !self.marks().withdrawn.contains(&held.chain.leaf)
                {
                    questions.push(Question { post: index, path, chain: Arc::clone(&held.chain) });
                }
            }
        }
        questions
    }

    /// A consumer takes part.
    pub(super) fn joined(&self, consumer: &'static str) {
        self.marks().tallies.entry(consumer).or_default();
    }

    /// A consumer has read new files.
    pub(super) fn loaded(&self, consumer: &'static str, took: Duration) {
        let mut marks = self.marks();
        let tally = marks.tallies.entry(consumer).or_default();
        tally.loads += 1;
        tally.slowest_load = tally.slowest_load.max(took);
    }

    /// What a consumer says of a revoked leaf, by this view.
    pub(super) fn on_revoked(&self, consumer: &'static str, revoked: &Revoked, opinion: &Opinion) {
        let mut marks = self.marks();
        match opinion {
            Opinion::Revoked | Opinion::Unknown => {
                marks.tallies.entry(consumer).or_default().refused += 1;
                let same = |other: &&mut Revoked| other.chain.leaf == revoked.chain.leaf;
                if let Some(revoked) = marks.revoked.iter_mut().find(same) {
                    revoked.refused_by.insert(consumer);
                }
            }
            Opinion::Accepts => {
                let what = format!("{consumer} accepts the revoked leaf of {}", revoked.of);
                self.violations.add(inv_16::NAME, what);
            }
            Opinion::Refuses(_) if now().plus(1) >= revoked.until => {}
            Opinion::Refuses(why) => {
                let what = format!("{consumer} refuses the revoked leaf of {} for another reason: {why}", revoked.of);
                self.violations.add(inv_16::NAME, what);
            }
        }
    }

    /// What a consumer says of a chain that nobody revoked, by this view.
    pub(super) fn on_current(&self, consumer: &'static str, question: &Question, view: &View, opinion: &Opinion) {
        if *opinion == Opinion::Accepts {
            let mut marks = self.marks();
            *marks.tallies.entry(consumer).or_default().accepted.entry(question.post).or_default() += 1;
            return;
        }
        let seen = self.seen(question.post);
        let current = seen.current(question.path).is_some_and(|held| held.chain == question.chain);
        if !current || self.marks().withdrawn.contains(&question.chain.leaf) {
            self.marks().tallies.entry(consumer).or_default().overtaken += 1;
            return;
        }
        let name = self.names.get(question.post).cloned().unwrap_or_default();
        let what = format!(
            "{consumer} does not accept {} of {name} with {} CRLs and {} roots: {opinion:?}; our own verifier says {:?}",
            question.path,
            view.crls.len(),
            view.roots.len(),
            inv_16::ask(view, &question.chain, now()),
        );
        self.violations.add(inv_16::NAME, what);
    }

    /// An act did not lead to what it must.
    pub(super) fn violated(&self, what: impl fmt::Display) {
        self.violations.add(inv_16::NAME, what);
    }

    /// What came of it all, a line each.
    pub(super) fn lines(&self) -> Vec<String> {
        let marks = self.marks();
        let mut lines: Vec<String> =
            marks.tallies.iter().map(|(consumer, tally)| format!("{consumer}: {tally}")).collect();
        lines.push(format!(
            "{} sets of CRLs in {} streams, each complete; {} issuing certificates of {} keys under {} roots",
            marks.sets,
            self.posts.len(),
            marks.issuing.len(),
            marks.keys.len(),
            marks.roots.len()
        ));
        lines
    }

    /// A run in which little happened would pass just as well; it is no proof.
    pub(super) fn proved(&self, restarts: usize) -> Result<(), Trouble> {
        let marks = self.marks();
        let nodes = self.posts.len();
        let mut floors = vec![
            ("issuing keys".to_owned(), marks.keys.len() as u64, (nodes + restarts) as u64),
            ("issuing certificates".to_owned(), marks.issuing.len() as u64, (2 * nodes + restarts) as u64),
            ("roots".to_owned(), marks.roots.len() as u64, 2),
        ];
        for (consumer, tally) in &marks.tallies {
            let of_a_node = (0..nodes).map(|node| tally.accepted.get(&node).copied().unwrap_or(0)).min().unwrap_or(0);
            floors.push((format!("chains that {consumer} accepted"), tally.accepted.values().sum(), ACCEPTED));
            floors.push((format!("of one node that {consumer} accepted"), of_a_node, ACCEPTED_OF_A_NODE));
            floors.push((format!("refusals by {consumer}"), tally.refused, marks.revoked.len() as u64));
        }
        for (what, count, floor) in floors {
            if count < floor {
                return Err(Trouble::ProvesNothing(format!("{count} {what}, {floor} are the least")));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let accepted: u64 = self.accepted.values().sum();
        write!(
            formatter,
            "accepted {accepted} chains of {} nodes, refused {} revoked ones, {} overtaken",
            self.accepted.len(),
            self.refused,
            self.overtaken
        )?;
        if self.loads > 0 {
            write!(
                formatter,
                "; read its files {} times, {:.0} ms at most",
                self.loads,
                self.slowest_load.as_secs_f64() * 1e3
            )?;
        }
        Ok(())
    }
}
