//! What no file of the repository may hold, and what every document must keep.

use crate::tree;
use std::collections::BTreeSet;
use std::fs;

/// Files with text of ours in them; what a package client writes (lock files) is not ours.
const WRITTEN: [&str; 12] =
    [".rs", ".toml", ".md", ".proto", ".py", ".go", ".mod", ".txt", ".json", ".sh", "/run", "/full"];

/// Places on one person's machine, and hosts that a client should find by its own configuration. In parts, or this
/// file would find itself.
const NOT_HERE: [&[&str]; 9] = [
    &["/work", "/main"],
    &["/work", "/shared"],
    &["/work", "/target"],
    &["/root", "/."],
    &["index.", "crates.io"],
    &["static.", "crates.io"],
    &["pypi", ".org"],
    &["proxy.", "golang.org"],
    &["deb.", "debian.org"],
];

#[test]
fn no_file_names_a_place_on_one_machine_or_a_registry_host() {
    for (path, text) in tree::texts(&WRITTEN) {
        for parts in NOT_HERE {
            let found = parts.concat();
            if let Some(line) = text.lines().position(|line| line.contains(&found)) {
                panic!("{}:{}: {found}", path.display(), line + 1);
            }
        }
    }
}

#[test]
fn every_relative_link_in_a_document_leads_somewhere() {
    let mut followed = 0;
    for (path, text) in tree::texts(&[".md"]) {
        for target in links(&text) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let directory = tree::root().join(&path).parent().expect("a file has a directory").to_path_buf();
            assert!(directory.join(file).exists(), "{}: link to {target}", path.display());
            followed += 1;
        }
    }
    assert!(followed > 5, "links were followed: {followed}");
}

#[test]
fn decision_records_are_numbered_once_and_listed() {
    let directory = tree::root().join("docs/decisions");
    let index = fs::read_to_string(directory.join("README.md")).expect("the records have an index");
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir(&directory).expect("docs/decisions can be listed") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        if name == "README.md" {
            continue;
        }
        let number = name.split('-').next().unwrap_or_default().to_owned();
        assert!(number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_digit()), "{name} has no number");
        assert!(numbers.insert(number), "{name}: its number is taken");
        assert!(index.contains(&format!("({name})")), "{name} is not in the index");
        let text = fs::read_to_string(directory.join(&name)).expect("a record can be read");
        for heading in ["## Context", "## Choice", "## Refused", "## What follows"] {
            assert!(text.contains(heading), "{name} lacks '{heading}'");
        }
    }
    assert!(numbers.len() >= 4, "{numbers:?}");
}

/// The targets of Markdown links, outside fenced code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, tail)) = after.split_once(')') else {
                break;
            };
            found.push(target.to_owned());
            rest = tail;
        }
    }
    found
}
