//! What every crate takes from the workspace, and the one crypto provider.

use crate::manifests;
use crate::tree;
use toml::Value;

/// Package fields that come from the root.
const SHARED_FIELDS: [&str; 5] = ["version", "edition", "rust-version", "license", "publish"];

/// Other providers of cryptography, and stacks that bring one: none may be in the lock file.
const OTHER_CRYPTO: [&str; 8] = ["openssl", "openssl-sys", "native-tls", "boring", "boring-sys", "hpke", "p256", "rsa"];

#[test]
fn every_crate_inherits_the_lints() {
    for member in manifests::members() {
        let inherited = member.manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool);
        assert_eq!(inherited, Some(true), "{} does not inherit the workspace's lints", member.name);
    }
}

#[test]
fn every_crate_inherits_its_package_fields() {
    for member in manifests::members() {
        for field in SHARED_FIELDS {
            let inherited = member.manifest["package"].get(field).and_then(|value| value.get("workspace"));
            assert_eq!(inherited.and_then(Value::as_bool), Some(true), "{}: package.{field}", member.name);
        }
    }
}

#[test]
fn every_version_stands_in_the_root_manifest() {
    for member in manifests::members() {
        for (name, specification, kind) in member.dependencies() {
            let inherited = specification.get("workspace").and_then(Value::as_bool) == Some(true);
            let itself = name == member.name && specification.get("version").is_none();
            assert!(inherited || itself, "{}: {name} ({kind:?}) has a version of its own", member.name);
        }
    }
}

#[test]
fn no_crate_switches_on_a_second_crypto_provider() {
    let root = manifests::root();
    let shared = root["workspace"]["dependencies"].as_table().expect("shared dependencies").clone();
    let of_members = manifests::members();
    let all = of_members
        .iter()
        .flat_map(|member| member.dependencies().into_iter().map(|(name, value, _)| (member.name.clone(), name, value)))
        .chain(shared.into_iter().map(|(name, value)| ("the workspace".to_owned(), name, value)));
    for (whose, name, specification) in all {
        for feature in specification.get("features").and_then(Value::as_array).into_iter().flatten() {
            let feature = feature.as_str().unwrap_or_default();
            assert!(
                feature != "ring" && feature != "rust_crypto" && feature != "tls-ring",
                "{whose}: {name} with {feature}"
            );
        }
    }
}

#[test]
fn the_lock_file_holds_one_crypto_provider_in_one_version() {
    assert_eq!(manifests::locked_versions("aws-lc-rs").len(), 1, "aws-lc-rs");
    assert_eq!(manifests::locked_versions("rustls").len(), 1, "rustls");
    for other in OTHER_CRYPTO {
        assert_eq!(manifests::locked_versions(other), Vec::<String>::new(), "{other}");
    }
}

#[test]
fn consensus_is_pinned_to_the_exact_version_that_was_tried() {
    let root = manifests::root();
    let version = root["workspace"]["dependencies"]["openraft"]["version"].as_str().expect("a version").to_owned();
    assert!(version.starts_with('='), "openraft is {version}: a patch may change how elections behave");
}

#[test]
fn an_exception_to_a_lint_is_an_expectation_with_a_reason() {
    // In two parts, or this file would find itself.
    let forbidden = [["#[", "allow("].concat(), ["#![", "allow("].concat()];
    for (path, text) in tree::texts(&[".rs"]) {
        if path.components().any(|part| part.as_os_str() == "generated") {
            continue;
        }
        for found in &forbidden {
            assert!(!text.contains(found.as_str()), "{}: {found}..)", path.display());
        }
    }
}
