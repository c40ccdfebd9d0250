//! What the tests share: the vector files' reader, and certificates that are wrong in just one way.

mod certificates;
mod scene;

pub(crate) use certificates::{CertificateSpec, Extension, name, oid, tlv};
pub(crate) use scene::{Scene, bundle_of};

use quorate_proto_identity::UnixSeconds;

/// The instant at which everything happens.
pub(crate) fn now() -> UnixSeconds {
    UnixSeconds(1_790_000_000)
}

/// One line of a vector file.
pub(crate) struct Vector {
    pub(crate) number: String,
    pub(crate) input: String,
}

/// Reads lines of number, basis, rule, input.
pub(crate) fn vectors(file: &str) -> Vec<Vector> {
    lines(file)
        .map(|columns| match columns.as_slice() {
            [number, _basis, _rule, input] => Vector { number: (*number).to_owned(), input: evaluate(input) },
            other => panic!("{other:?}"),
        })
        .collect()
}

/// Reads lines of number, expectation, basis, rule, input.
pub(crate) fn vectors_with_expectation(file: &str) -> Vec<(String, Vector)> {
    lines(file)
        .map(|columns| match columns.as_slice() {
            [number, expectation, _basis, _rule, input] => {
                let vector = Vector { number: (*number).to_owned(), input: evaluate(input) };
                ((*expectation).to_owned(), vector)
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

fn lines(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect())
}

/// Evaluates JSON strings joined by `+` and repeated by `*n`.
fn evaluate(expression: &str) -> String {
    expression
        .split(" + ")
        .map(|term| {
            let (literal, count) = match term.rsplit_once("\"*") {
                Some((literal, count)) => (format!("{literal}\""), count.parse().unwrap()),
                None => (term.to_owned(), 1),
            };
            serde_json::from_str::<String>(&literal).unwrap().repeat(count)
        })
        .collect()
}
