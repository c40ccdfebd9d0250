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

/// How long one seed may take: a second or three, and much longer on a machine that has other things to do.
const SEED_LIMIT: Duration = Duration::from_secs(300);

/// How often the driver looks at its children.
const LOOK: Duration = Duration::from_millis(5);

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
}

/// Runs these seeds, `jobs` at a time, with these options, and gives each to `each` when it has ended.
///
/// # Errors
/// When this program cannot be started again.
pub(crate) fn run(
    seeds: impl IntoIterator<Item = u64>,
    jobs: usize,
    options: &[&str],
    mut each: impl FnMut(Ended) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut waiting = seeds.into_iter();
    let mut running: Vec<Running> = Vec::new();
    loop {
        while running.len() < jobs.max(1)
            && let Some(seed) = waiting.next()
        {
            running.push(start(seed, options)?);
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

fn start(seed: u64, options: &[&str]) -> io::Result<Running> {
    // This very program, also when another was built in its place meanwhile.
    let child = Command::new("/proc/self/exe")
        .args(["simulate", "--seed", &seed.to_string()])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok(Running { seed, child, started: Instant::now() })
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
