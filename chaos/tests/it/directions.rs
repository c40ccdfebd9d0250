//! Who may use whom: proto ◄ raft ◄ actors ◄ node, and what a pure crate may not reach however far down.

use crate::manifests::{self, Kind, Member};
use std::collections::{BTreeMap, BTreeSet};

const IDENTITY: &str = "quorate-proto-identity";
const API: &str = "quorate-proto-api";
const MACHINE: &str = "quorate-raft-machine";
const STORE: &str = "quorate-raft-store";
const CONSENSUS: &str = "quorate-raft-consensus";
const ACTORS: &str = "quorate-actors";
const NODE: &str = "quorate-node";
const CHAOS: &str = "quorate-chaos";
const BENCH: &str = "quorate-bench";
const CLIENT_RUST: &str = "quorate-client-rust";

/// What each crate may use of ours. A crate that is not listed here may not exist.
const ALLOWED: [(&str, &[&str]); 10] = [
    (IDENTITY, &[]),
    (API, &[IDENTITY]),
    (MACHINE, &[IDENTITY]),
    (STORE, &[IDENTITY, API, MACHINE]),
    (CONSENSUS, &[IDENTITY, API, MACHINE, STORE]),
    (ACTORS, &[IDENTITY, API, MACHINE, CONSENSUS]),
    (NODE, &[IDENTITY, API, MACHINE, STORE, CONSENSUS, ACTORS]),
    (CHAOS, &[IDENTITY, API, MACHINE, STORE, CONSENSUS, ACTORS, NODE]),
    (BENCH, &[IDENTITY, API, MACHINE, STORE, CONSENSUS, ACTORS, NODE]),
    // It stands for a stranger's program: nothing of ours.
    (CLIENT_RUST, &[]),
];

/// The crates whose rules are functions over values: nothing in them can wait, draw lots or look at a clock.
const PURE: [&str; 2] = [IDENTITY, MACHINE];

/// What a pure crate may not reach, directly or through others.
const IMPURE: [&str; 9] = ["tokio", "tonic", "openraft", "sled", "ractor", "rustls", "hyper", "mio", "async-std"];

/// Crates that have one home, so that replacing one touches nothing else.
const AT_HOME: [(&str, &[&str]); 4] =
    [("openraft", &[CONSENSUS]), ("sled", &[ACTORS]), ("ractor", &[ACTORS]), ("tikv-jemallocator", &[NODE])];

#[test]
fn every_crate_uses_only_what_lies_below_it() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    for member in manifests::members() {
        let below = allowed
            .get(member.name.as_str())
            .unwrap_or_else(|| panic!("{} has no line in the table of allowed directions", member.name));
        for (dependency, _, kind) in member.dependencies().into_iter().filter(|(name, _, _)| is_ours(name)) {
            // Tests may reach further down, to have real neighbours; and a crate may name itself there, to have a
            // feature of its own switched on.
            let for_tests = kind == Kind::Development
                && (dependency == member.name || reach(&allowed, below).contains(dependency.as_str()));
            assert!(
                for_tests || below.contains(&dependency.as_str()),
                "{} may not use {dependency} ({kind:?})",
                member.name
            );
        }
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("quorate-")
}

/// What these crates and those that they may use come to.
fn reach<'a>(allowed: &BTreeMap<&str, &'a [&'a str]>, first: &'a [&'a str]) -> BTreeSet<&'a str> {
    let mut reached: BTreeSet<&str> = first.iter().copied().collect();
    for name in first {
        reached.extend(reach(allowed, allowed.get(name).copied().unwrap_or_default()));
    }
    reached
}

#[test]
fn the_table_of_directions_has_no_line_without_a_crate() {
    let members: BTreeSet<String> = manifests::members().into_iter().map(|member| member.name).collect();
    for (name, _) in ALLOWED {
        assert!(members.contains(name), "{name} is in the table but not in the workspace");
    }
}

#[test]
fn a_pure_crate_reaches_no_runtime_network_or_store_however_far_down() {
    let graph = manifests::lock_graph();
    for member in manifests::members() {
        if !PURE.contains(&member.name.as_str()) {
            continue;
        }
        let mut seen = BTreeSet::new();
        // Each crate still to be looked at, with the way that led to it.
        let mut open: Vec<(String, String)> = normal_dependencies(&member)
            .into_iter()
            .map(|name| (name.clone(), format!("{} -> {name}", member.name)))
            .collect();
        while let Some((name, way)) = open.pop() {
            assert!(!IMPURE.contains(&name.as_str()), "pure crate reaches {name}: {way}");
            // Our own crates are looked at by their manifests: the lock file mixes in their development dependencies.
            if is_ours(&name) || !seen.insert(name.clone()) {
                continue;
            }
            for next in graph.get(&name).into_iter().flatten() {
                open.push((next.clone(), format!("{way} -> {next}")));
            }
        }
        assert!(seen.len() > 5, "{}: the closure was followed", member.name);
    }
}

#[test]
fn a_pure_crate_bans_clocks_and_hash_maps_in_a_clippy_file_of_its_own() {
    for member in manifests::members() {
        if PURE.contains(&member.name.as_str()) {
            let path = crate::tree::root().join(&member.directory).join("clippy.toml");
            let text = std::fs::read_to_string(&path).expect("a pure crate has a clippy.toml");
            for banned in ["SystemTime::now", "Instant::now", "collections::HashMap"] {
                assert!(text.contains(banned), "{} does not ban {banned}", path.display());
            }
        }
    }
}

#[test]
fn crates_with_one_home_are_used_nowhere_else() {
    for member in manifests::members() {
        for (dependency, _, _) in member.dependencies() {
            for (guest, homes) in AT_HOME {
                assert!(
                    dependency != guest || homes.contains(&member.name.as_str()),
                    "{guest} belongs to {homes:?}, not to {}",
                    member.name
                );
            }
        }
    }
}

#[test]
fn nothing_uses_chaos_or_bench() {
    for member in manifests::members() {
        for (dependency, _, _) in member.dependencies() {
            assert!(dependency != CHAOS && dependency != BENCH, "{} uses {dependency}", member.name);
        }
    }
}

/// What is linked into the crate, by package name (a renamed dependency is followed to its package).
fn normal_dependencies(member: &Member) -> Vec<String> {
    let root = manifests::root();
    let shared = &root["workspace"]["dependencies"];
    member
        .dependencies()
        .into_iter()
        .filter(|(_, _, kind)| *kind == Kind::Normal)
        .map(|(name, _, _)| {
            shared
                .get(&name)
                .and_then(|entry| entry.get("package"))
                .and_then(|package| package.as_str())
                .map_or(name, str::to_owned)
        })
        .collect()
}
