//! The workspace's manifests and its lock file, as tables.

use crate::tree;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use toml::{Table, Value};

/// One member: where it is, what it is called, its whole manifest.
pub(crate) struct Member {
    /// Directory relative to the root.
    pub(crate) directory: String,
    /// Package name.
    pub(crate) name: String,
    /// The parsed `Cargo.toml`.
    pub(crate) manifest: Table,
}

/// Which table of a manifest a dependency stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `[dependencies]`, or the same for one target.
    Normal,
    /// `[dev-dependencies]`.
    Development,
    /// `[build-dependencies]`.
    Build,
}

impl Member {
    /// Every dependency: its key in the manifest, its specification, its kind.
    pub(crate) fn dependencies(&self) -> Vec<(String, Value, Kind)> {
        let mut found = Vec::new();
        collect(&self.manifest, &mut found);
        if let Some(targets) = self.manifest.get("target").and_then(Value::as_table) {
            for table in targets.values().filter_map(Value::as_table) {
                collect(table, &mut found);
            }
        }
        found
    }
}

fn collect(table: &Table, found: &mut Vec<(String, Value, Kind)>) {
    for (section, kind) in
        [("dependencies", Kind::Normal), ("dev-dependencies", Kind::Development), ("build-dependencies", Kind::Build)]
    {
        if let Some(entries) = table.get(section).and_then(Value::as_table) {
            found.extend(entries.iter().map(|(name, value)| (name.clone(), value.clone(), kind)));
        }
    }
}

/// The root manifest.
pub(crate) fn root() -> Table {
    read("Cargo.toml")
}

/// Every member that the root manifest lists.
pub(crate) fn members() -> Vec<Member> {
    let root = root();
    root["workspace"]["members"]
        .as_array()
        .expect("members is a list")
        .iter()
        .map(|member| {
            let directory = member.as_str().expect("a member is a path").to_owned();
            let manifest = read(&format!("{directory}/Cargo.toml"));
            let name = manifest["package"]["name"].as_str().expect("a name").to_owned();
            Member { directory, name, manifest }
        })
        .collect()
}

/// From the lock file: package name to the names of all that any version of it depends on.
///
/// Versions are merged, which can only make the closure larger than what is built.
pub(crate) fn lock_graph() -> BTreeMap<String, BTreeSet<String>> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        let name = package["name"].as_str().expect("a name").to_owned();
        let below = graph.entry(name).or_default();
        for dependency in package.get("dependencies").and_then(Value::as_array).into_iter().flatten() {
            let text = dependency.as_str().expect("a dependency is text");
            below.insert(text.split(' ').next().unwrap_or(text).to_owned());
        }
    }
    graph
}

/// The versions that the lock file holds of one package.
pub(crate) fn locked_versions(name: &str) -> Vec<String> {
    packages()
        .iter()
        .filter(|package| package["name"].as_str() == Some(name))
        .filter_map(|package| package["version"].as_str().map(str::to_owned))
        .collect()
}

fn packages() -> Vec<Value> {
    read("Cargo.lock")["package"].as_array().expect("packages").clone()
}

fn read(path: &str) -> Table {
    let text = fs::read_to_string(tree::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}
