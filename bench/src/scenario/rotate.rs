//! A forced rotation: everything that stands under a tainted root is replaced at once, while workloads that come for the
//! first time are served as if nothing happened.
//!
//! ```text
//!   open all streams ──► newcomers, idle ──► prepare ──► activate ──► TAINT ──► all under the new root ──► revoke
//!                                                                       `── newcomers meanwhile ──┘
//! ```
//!
//! Two shapes with as many SVIDs in streams: one SVID that many streams of a user share, where the messages are the work,
//! and one of its own for each entry, where keys and signatures are. Each connection has a user of its own, so that no
//! answer shared by a whole host flatters the product.

use super::Options;
use crate::audience::{Audience, Counts, Goal};
use crate::callers::Caller;
use crate::clients::{Admin, Workload, entry};
use crate::floors::Floors;
use crate::newcomers::{Met, Newcomers};
use crate::product::Product;
use crate::report::{Figure, Report, Row, Verdict, median};
use crate::trouble::Trouble;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Streams and entries of a full run; `--scale` takes a part of the connections.
const SHAPES: [Shape; 2] = [
    Shape { name: "shared", connections: 500, streams: 200, entries: 1 },
    Shape { name: "own", connections: 1_000, streams: 1, entries: 100 },
];

/// All streams are on the new authority within so many seconds of the taint.
const ALL_SECONDS: f64 = 15.0;

/// A stream gets its changed SVIDs in no more messages than this, however many SVIDs it has.
const MESSAGES: f64 = 5.0;

/// A stream sees each SVID change no more often than this.
const CHANGES: f64 = 2.0;

/// Newcomers before the rotation, for the figures of an idle cluster, and at most beside it: those of fifteen seconds.
const NEWCOMERS_IDLE: usize = 200;
const NEWCOMERS_MEANWHILE: usize = 750;

/// How long a step may take before the measurement gives up.
const GIVE_UP: Duration = Duration::from_secs(180);

/// Operations of the floor in a round.
const FLOOR_OPERATIONS: u64 = 2_000;

/// How many of what.
#[derive(Clone, Copy, Debug)]
struct Shape {
    name: &'static str,
    connections: usize,
    /// On each connection.
    streams: usize,
    /// For each user, and each connection has one.
    entries: usize,
}

impl Shape {
    fn scaled(self, scale: f64) -> Self {
        let connections = (self.connections as f64 * scale).round() as usize;
        Self { connections: connections.max(Options::CLUSTER), ..self }
    }

    /// Signatures that a replacement of everything takes.
    fn svids(&self) -> usize {
        self.connections * self.entries
    }
}

/// What one rotation was like; times in seconds.
struct Rotation {
    /// From the call that prepares until every stream had the new root.
    published: f64,
    /// From the call that taints: until it was answered, and until half, nine of ten and all of the streams were there.
    acknowledged: f64,
    half: f64,
    most: f64,
    all: f64,
    /// From the call that revokes until no stream had the old root.
    revoked: f64,
    /// What the streams saw between the taint and the last of them.
    counts: Counts,
    /// Processor time of all nodes meanwhile.
    server: Duration,
    idle: Met,
    meanwhile: Met,
}

/// Both shapes, each on a cluster of its own.
pub(crate) async fn run(options: &Options) -> Result<Report, Trouble> {
    if options.directory.is_some() {
        return Err(Trouble::Unexpected("each shape has a cluster of its own here; leave out --dir".to_owned()));
    }
    let mut report = Report::new("rotate", options.rounds);
    let floors = Floors::new()?;
    let costs = (0..options.rounds).map(|_| floors.issue(FLOOR_OPERATIONS)).collect::<Result<Vec<_>, _>>()?;
    let operations = FLOOR_OPERATIONS * options.rounds as u64;
    report.rows.push(Row::floor("floor: key + PKCS#8 + signature", operations, &costs));
    for shape in SHAPES {
        let shape = shape.scaled(options.scale);
        let product = Product::start(options.nodes.unwrap_or(Options::CLUSTER)).await?;
        let rotations = rotations(&product, shape, options).await?;
        product.stop().await?;
        tell(&mut report, shape, &rotations, median(costs.iter().copied()))?;
    }
    report.notes.push(
        "nodes and streams share this machine's cores; every connection is another user's; a newcomer is a process that \
         never came before, with an entry that was never signed for; times begin before the call"
            .to_owned(),
    );
    report.notes.push("a message is a complete state; an SVID has changed when its leaf is another one".to_owned());
    Ok(report)
}

async fn rotations(product: &Product, shape: Shape, options: &Options) -> Result<Vec<Rotation>, Trouble> {
    let mut admin = product.clients().admin();
    let callers = (0..shape.connections).map(Caller::start).collect::<Result<Vec<_>, _>>()?;
    let audience = attend(product, &mut admin, &callers, shape).await?;
    let newcomers = Newcomers::gather(product, shape.connections, NEWCOMERS_IDLE + NEWCOMERS_MEANWHILE)?;
    let mut rotations = Vec::new();
    for round in 0..options.rounds {
        let ids = newcomers.register(product, round).await?;
        rotations.push(rotation(product, &mut admin, &audience, &newcomers).await?);
        newcomers.strike(&mut admin, ids).await?;
    }
    Ok(rotations)
}

/// Registers the users and opens their streams, on all nodes in turn.
async fn attend(product: &Product, admin: &mut Admin, callers: &[Caller], shape: Shape) -> Result<Audience, Trouble> {
    let mut entries = Vec::new();
    for (number, caller) in callers.iter().enumerate() {
        let path = |item| format!("/bench/rotate/{number}/{item}");
        entries.extend((0..shape.entries).map(|item| entry(path(item), &[caller.selector()])));
    }
    let ids = admin.create(entries).await?;
    for node in 0..product.nodes() {
        if let Some(last) = ids.last() {
            product.clients_of(node).admin().await_entry(last).await?;
        }
    }
    let mut audience = Audience::new();
    for (number, caller) in callers.iter().enumerate() {
        let client = Workload::over(caller.connect(&product.workload_socket_of(number)).await?).await?;
        for _ in 0..shape.streams {
            audience.admit(client.clone()).await?;
        }
    }
    Ok(audience)
}

async fn rotation(
    product: &Product,
    admin: &mut Admin,
    audience: &Audience,
    newcomers: &Newcomers,
) -> Result<Rotation, Trouble> {
    let server = product.process();
    let idle = newcomers.come(0..NEWCOMERS_IDLE, Arc::default()).await?;
    let old = admin.active_root().await?;

    let start = Instant::now();
    let new = admin.prepare_root().await?;
    audience.aim(Goal::Trusts(new.clone()));
    let published = after(&audience.reached(GIVE_UP).await?, 1.0, start);
    admin.activate_root(&new).await?;

    audience.aim(Goal::IsUnder(new));
    let done = Arc::new(AtomicBool::new(false));
    let others = NEWCOMERS_IDLE..NEWCOMERS_IDLE + NEWCOMERS_MEANWHILE;
    let (before, start) = (server.cpu()?, Instant::now());
    let replaced = async {
        let replaced = async {
            admin.taint_root(&old).await?;
            let acknowledged = start.elapsed().as_secs_f64();
            Ok::<_, Trouble>((acknowledged, audience.reached(GIVE_UP).await?))
        };
        let replaced = replaced.await;
        let (used, counts) = (server.cpu()?.saturating_sub(before), audience.counts());
        // Whatever came of it, nobody comes any more.
        done.store(true, Ordering::Relaxed);
        replaced.map(|(acknowledged, there)| (acknowledged, there, used, counts))
    };
    let (replaced, meanwhile) = tokio::join!(replaced, newcomers.come(others, Arc::clone(&done)));
    let (acknowledged, there, used, counts) = replaced?;

    audience.aim(Goal::Distrusts(old.clone()));
    let leaves = Instant::now();
    admin.revoke_root(&old).await?;
    let revoked = after(&audience.reached(GIVE_UP).await?, 1.0, leaves);
    Ok(Rotation {
        published,
        acknowledged,
        half: after(&there, 0.5, start),
        most: after(&there, 0.9, start),
        all: after(&there, 1.0, start),
        revoked,
        counts,
        server: used,
        idle,
        meanwhile: meanwhile?,
    })
}

/// Seconds until this part of all was there.
fn after(times: &[Instant], part: f64, start: Instant) -> f64 {
    let index = (times.len() as f64 * part).ceil() as usize;
    let time = times.get(index.saturating_sub(1));
    time.map_or(f64::NAN, |time| time.saturating_duration_since(start).as_secs_f64())
}

fn tell(report: &mut Report, shape: Shape, rotations: &[Rotation], floor: f64) -> Result<(), Trouble> {
    let Shape { name, connections, streams, entries } = shape;
    report.notes.push(format!("{name}: {connections} connections of {streams} streams, {entries} entries a user"));
    let met = |of: fn(&Rotation) -> &Met| -> Result<_, Trouble> {
        let (mut all, mut elapsed) = (crate::load::histogram()?, Duration::ZERO);
        for met in rotations.iter().map(of) {
            all.add(&met.latencies).map_err(|error| Trouble::Unexpected(format!("histogram: {error}")))?;
            elapsed += met.elapsed;
        }
        Ok((all, elapsed))
    };
    let (idle, idle_elapsed) = met(|rotation| &rotation.idle)?;
    let (meanwhile, elapsed) = met(|rotation| &rotation.meanwhile)?;
    report.rows.push(Row::beside_others(format!("{name}: first-time fetch, idle"), idle_elapsed, &idle));
    report.rows.push(Row::beside_others(format!("{name}: first-time fetch, meanwhile"), elapsed, &meanwhile));
    let p99 = |latencies: &hdrhistogram::Histogram<u64>| latencies.value_at_quantile(0.99) as f64;
    let mut figure =
        |what: &str, value: f64, unit| report.figures.push(Figure::new(format!("{name}, {what}"), value, unit));
    figure("p99 of first-time fetches meanwhile to idle", p99(&meanwhile) / p99(&idle), "times");
    let of = |of: fn(&Rotation) -> f64| median(rotations.iter().map(of));
    for (what, seconds) in [
        ("prepare to the root in all streams", of(|rotation| rotation.published)),
        ("taint to its answer", of(|rotation| rotation.acknowledged)),
        ("taint to half of the streams", of(|rotation| rotation.half)),
        ("taint to nine of ten streams", of(|rotation| rotation.most)),
        ("taint to all streams", of(|rotation| rotation.all)),
        ("revoke to the root out of all streams", of(|rotation| rotation.revoked)),
    ] {
        figure(what, seconds, "s");
    }
    let cost = median(rotations.iter().map(|rotation| rotation.server.as_secs_f64() * 1e6));
    figure("server CPU a changed SVID", cost / shape.svids() as f64, "us");
    figure("server CPU to key + PKCS#8 + signature of each", cost / (shape.svids() as f64 * floor), "times");
    let count =
        |of: fn(&Counts) -> u64| rotations.iter().map(|rotation| of(&rotation.counts)).max().unwrap_or_default();
    figure("messages to all streams", count(|counts| counts.messages) as f64, "");
    let slowest = rotations.iter().map(|rotation| rotation.all).fold(0.0, f64::max);
    let opened = rotations.iter().map(|rotation| rotation.counts.svids).min().unwrap_or_default();
    let expected = (shape.connections * shape.streams * shape.entries) as f64;
    report.verdicts.push(Verdict::at_least(format!("{name}, SVIDs in streams"), opened as f64, expected));
    report.verdicts.push(Verdict::at_most(format!("{name}, slowest taint to all streams, s"), slowest, ALL_SECONDS));
    let (messages, changes) = (count(|counts| counts.most_messages), count(|counts| counts.most_changes));
    report.verdicts.push(Verdict::at_most(format!("{name}, most messages to a stream"), messages as f64, MESSAGES));
    report.verdicts.push(Verdict::at_most(format!("{name}, most changes of an SVID"), changes as f64, CHANGES));
    Ok(())
}
