//! Every rule of a standard that this version keeps is cited by a test that shows it, and every other one is told why not.
//!
//! Rules have a family and a number: `ID-07` of SPIFFE IDs, `BND` of bundles, `X509` and `JWT` of SVIDs, `EP` of the
//! endpoint, `WAPI` of the Workload API, `ATK` of the attacks, `CRL` of revocation lists. What counts is a citation at a
//! test (its name, its comment, its vectors), not one in the head of a file, which names what the file is about.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::tree;

/// A family with the numbers that are meant.
type Rules = (&'static str, &'static [RangeInclusive<u8>]);

/// Each family's last number; numbers begin at 1 and none is left out.
const FAMILIES: [(&str, u8); 8] =
    [("ID", 38), ("BND", 37), ("X509", 43), ("JWT", 31), ("EP", 27), ("WAPI", 59), ("ATK", 48), ("CRL", 13)];

/// What this version keeps as issuer, validator, server, or reader and publisher of bundles.
const KEPT: [Rules; 8] = [
    ("ID", &[1..=13, 15..=30, 32..=32, 38..=38]),
    ("BND", &[1..=2, 4..=31, 34..=35]),
    ("X509", &[1..=43]),
    ("JWT", &[1..=13, 16..=20, 23..=28, 31..=31]),
    ("EP", &[1..=4, 6..=17, 19..=19, 21..=21, 23..=26]),
    ("WAPI", &[1..=1, 3..=6, 8..=10, 14..=14, 17..=19, 21..=21, 23..=23, 26..=27, 29..=36, 39..=41, 43..=44, 55..=56]),
    ("ATK", &[1..=2, 4..=7, 11..=16, 18..=32, 34..=35, 39..=48]),
    ("CRL", &[1..=13]),
];

/// What is not kept yet, or is not this product's to keep, with the reason.
const NOT_KEPT: [(&str, &[Rules]); 10] = [
    (
        "binds clients and their libraries; what the command line does of it has tests without a number",
        &[
            ("JWT", &[21..=22, 29..=29]),
            ("EP", &[5..=5, 18..=18, 20..=20, 22..=22, 27..=27]),
            (
                "WAPI",
                &[
                    7..=7,
                    12..=13,
                    15..=16,
                    22..=22,
                    24..=25,
                    28..=28,
                    38..=38,
                    42..=42,
                    45..=45,
                    53..=53,
                    57..=57,
                    59..=59,
                ],
            ),
        ],
    ),
    (
        "the caller decides: it names the audiences of its tokens, and the one that it validates for",
        &[("JWT", &[14..=15, 30..=30])],
    ),
    ("allowed, and not used", &[("ID", &[31..=31]), ("WAPI", &[2..=2, 11..=11, 37..=37])]),
    ("a description, with nothing that a test could show", &[("ID", &[36..=36]), ("WAPI", &[58..=58])]),
    ("advice to operators and to those who read SVIDs", &[("ID", &[33..=35, 37..=37]), ("BND", &[36..=36])]),
    (
        "federation is not there yet",
        &[("ID", &[14..=14]), ("BND", &[3..=3, 32..=33, 37..=37]), ("WAPI", &[20..=20]), ("ATK", &[36..=38])],
    ),
    ("the WIT profile is not served", &[("WAPI", &[46..=52, 54..=54]), ("ATK", &[33..=33])]),
    (
        "no workload sends a signing request; requests come from administrators, whose names are taken",
        &[("ATK", &[3..=3])],
    ),
    ("nothing attests hosts by a token or by evidence yet", &[("ATK", &[8..=10])]),
    ("containers are not attested yet", &[("ATK", &[17..=17])]),
];

/// Every number of these.
fn numbers(rules: &[Rules]) -> Vec<String> {
    let one = |(family, ranges): &Rules| -> Vec<String> {
        ranges.iter().cloned().flatten().map(|number| rule(family, number)).collect()
    };
    rules.iter().flat_map(one).collect()
}

fn rule(family: &str, number: u8) -> String {
    format!("{family}-{number:02}")
}

/// The two digits at the beginning, unless a third follows.
fn two_digits(text: &str) -> Option<u8> {
    let digits = text.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let more = text.as_bytes().get(2).is_some_and(u8::is_ascii_digit);
    if more { None } else { digits.parse().ok() }
}

/// What follows each occurrence of `mark` that does not stand within a longer word.
fn after<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(mark).filter_map(move |(at, _)| {
        let within = text.get(..at)?.bytes().next_back().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if within { None } else { text.get(at + mark.len()..) }
    })
}

/// The rules that this text cites: `ID-01`, `ID-01 to ID-07`, and `id_01` in the name of a function.
fn cited(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.starts_with("//!")).collect();
    // A comment goes on over the end of its line.
    let joined = lines.join("\n").replace("\n///", "");
    for (family, _) in FAMILIES {
        let mark = format!("{family}-");
        for rest in after(&joined, &mark) {
            let Some(first) = two_digits(rest) else { continue };
            let to = rest.get(2..).and_then(|rest| rest.strip_prefix(" to ")).and_then(|rest| rest.strip_prefix(&mark));
            let last = to.and_then(two_digits).unwrap_or(first);
            found.extend((first..=last).map(|number| rule(family, number)));
        }
        let mark = format!("{}_", family.to_lowercase());
        for line in lines.iter().filter(|line| line.starts_with("fn ") || line.starts_with("async fn ")) {
            found.extend(after(line, &mark).filter_map(two_digits).map(|number| rule(family, number)));
        }
    }
    found
}

/// The text of all tests and of their vectors, without this file, which names every rule.
fn tests() -> Vec<String> {
    let this = file!().rsplit('/').next().unwrap_or_default();
    tree::texts(&[".rs", ".tsv"])
        .into_iter()
        .filter(|(path, _)| !path.ends_with(this))
        .filter_map(|(path, text)| {
            let whole = path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
            if whole { Some(text) } else { text.split_once("#[cfg(test)]").map(|(_, tests)| tests.to_owned()) }
        })
        .collect()
}

#[test]
fn every_rule_that_is_kept_is_cited_by_a_test() {
    let cited: BTreeSet<String> = tests().iter().flat_map(|text| cited(text)).collect();
    let missing: Vec<String> = numbers(&KEPT).into_iter().filter(|rule| !cited.contains(rule)).collect();
    assert!(missing.is_empty(), "no test cites {missing:?}: write one, or say in NOT_KEPT why there is none");
}

#[test]
fn every_rule_is_either_kept_or_told_why_not() {
    let mut listed = numbers(&KEPT);
    listed.extend(NOT_KEPT.iter().flat_map(|(_, rules)| numbers(rules)));
    listed.sort();
    let mut all: Vec<String> =
        FAMILIES.iter().flat_map(|(family, last)| (1..=*last).map(|number| rule(family, number))).collect();
    all.sort();
    for rule in &all {
        let times = listed.iter().filter(|listed| *listed == rule).count();
        assert_eq!(times, 1, "{rule} is listed {times} times");
    }
    assert_eq!(listed.len(), all.len(), "a number beyond its family's last is listed");
}

#[test]
fn citations_are_found_in_comments_names_and_vectors_and_not_in_the_head_of_a_file() {
    let of = |text: &str| cited(text).into_iter().collect::<Vec<_>>();
    assert_eq!(of("/// See ID-07, X509-30."), ["ID-07", "X509-30"]);
    assert_eq!(of("    /// JWT-01 to\n    /// JWT-03."), ["JWT-01", "JWT-02", "JWT-03"]);
    assert_eq!(of("async fn nobody_else_is_served_atk_20() {"), ["ATK-20"]);
    assert_eq!(of("//! ID-01 to ID-26\nlet grid_01 = \"GRID-01 ID-1 ID-123\";"), [""; 0]);
}
