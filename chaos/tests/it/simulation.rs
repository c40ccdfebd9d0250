//! One seed, one trace, whatever the real clock does.

use std::process::Command;

/// What a run of a seed says of its trace, with a monotonic clock that goes so many times as fast as it should.
fn trace(seed: u64, clock_speed: u64) -> String {
    let run = Command::new(env!("CARGO_BIN_EXE_quorate-chaos"))
        .args(["simulate", "--seed", &seed.to_string(), "--clock-speed", &clock_speed.to_string()])
        .output()
        .expect("the program can be started");
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    said.split_once("trace ").map(|(_, trace)| trace.trim().to_owned()).expect("a run tells of its trace")
}

#[test]
fn sim_08_a_seed_gives_one_trace_however_fast_the_clock_goes() {
    let first = trace(3, 1);
    assert!(
        first.split_once('/').is_some_and(|(_, lines)| lines.parse::<u64>().is_ok_and(|lines| lines > 500)),
        "{first}"
    );
    assert_eq!(first, trace(3, 50));
    assert_eq!(first, trace(3, 1_000));
}
