//! Many seeds, each in a process of its own, some at a time.
//!
//! One process runs one seed: what a run leaves behind in its process (thread-local generators, counters of libraries)
//! must not reach another. The driver starts this program again for each.

use crate::say;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long one seed may take on the machine.
const SEED_LIMIT: Duration = Duration::from_secs(120);

/// How often the driver looks at its children.
const LOOK: Duration = Duration::from_millis(5);

/// Where in its second run a seed is stopped for a while: at each of these times after its start.
const STOPS: [Duration; 4] =
    [Duration::from_millis(120), Duration::from_millis(450), Duration::from_millis(800), Duration::from_millis(1_300)];

/// How long it is stopped each time: longer than anything in the cluster's code waits for by the real clock.
const STOP: Duration = Duration::from_millis(700);

/// What a child said and how it ended.
pub(crate) struct Ended {
    /// The seed.
    pub(crate) seed: u64,
    /// Whether the run was well.
    pub(crate) well: bool,
    /// What it printed.
    pub(crate) said: String,
}

struct Running {
    seed: u64,
    child: Child,
    started: Instant,
    /// Whether it is to be stopped now and then, and how often it was.
    stops: Option<usize>,
}

/// Runs these seeds, `jobs` at a time, and gives each to `each` when it has ended. With `stopped`, each is stopped
/// several times while it runs, so that another real time passes in it.
///
/// # Errors
/// When this program cannot be started again.
pub(crate) fn run(
    seeds: impl IntoIterator<Item = u64>,
    jobs: usize,
    stopped: bool,
    mut each: impl FnMut(Ended) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut waiting = seeds.into_iter();
    let mut running: Vec<Running> = Vec::new();
    loop {
        while running.len() < jobs.max(1)
            && let Some(seed) = waiting.next()
        {
            running.push(start(seed, stopped)?);
        }
        if running.is_empty() {
            return Ok(());
        }
        thread::sleep(LOOK);
        let mut still = Vec::new();
        let mut go_on = ControlFlow::Continue(());
        for mut run in running {
            if run.child.try_wait()?.is_some() {
                go_on = each(ended(run)?);
            } else if run.started.elapsed() > SEED_LIMIT {
                run.child.kill()?;
                let mut ended = ended(run)?;
                ended.said.push_str(&format!("killed after {SEED_LIMIT:?} without an end\n"));
                go_on = each(ended);
            } else {
                disturb(&mut run)?;
                still.push(run);
            }
            if go_on.is_break() {
                break;
            }
        }
        running = still;
        if go_on.is_break() {
            for mut run in running {
                run.child.kill()?;
                run.child.wait()?;
            }
            return Ok(());
        }
    }
}

fn start(seed: u64, stopped: bool) -> io::Result<Running> {
    let child = Command::new(std::env::current_exe()?)
        .args(["simulate", "--seed", &seed.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok(Running { seed, child, started: Instant::now(), stops: stopped.then_some(0) })
}

/// Stops a child for a while, when it is time for that.
fn disturb(run: &mut Running) -> io::Result<()> {
    use nix::sys::signal::{Signal, kill};
    let Some(stops) = &mut run.stops else { return Ok(()) };
    if STOPS.get(*stops).is_some_and(|at| run.started.elapsed() >= *at) {
        *stops += 1;
        let child = nix::unistd::Pid::from_raw(i32::try_from(run.child.id()).map_err(io::Error::other)?);
        kill(child, Signal::SIGSTOP)?;
        thread::sleep(STOP);
        kill(child, Signal::SIGCONT)?;
    }
    Ok(())
}

fn ended(mut run: Running) -> io::Result<Ended> {
    let mut said = String::new();
    // A run says little: its lines fit into the pipes, and nobody waits for somebody here.
    if let Some(mut out) = run.child.stdout.take() {
        out.read_to_string(&mut said)?;
    }
    if let Some(mut errors) = run.child.stderr.take() {
        errors.read_to_string(&mut said)?;
    }
    let status = run.child.wait()?;
    Ok(Ended { seed: run.seed, well: status.success(), said })
}

/// How to run a seed again.
pub(crate) fn again(seed: u64) -> String {
    format!("quorate-chaos simulate --seed {seed} --trace trace-{seed}.txt")
}

/// Tells of a seed that failed.
pub(crate) fn tell(ended: &Ended) {
    say(&format!("simulate: seed {} FAILED; again with: {}", ended.seed, again(ended.seed)));
    for line in ended.said.lines() {
        say(&format!("  {line}"));
    }
}
