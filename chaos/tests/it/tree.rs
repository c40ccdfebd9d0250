//! The files of the repository, as a walk finds them (there may be no git where the tests run).

use std::fs;
use std::path::{Path, PathBuf};

/// Directories that hold what tools made, not what people wrote.
const NOT_OURS: [&str; 5] = [".git", "target", "__pycache__", "node_modules", ".venv"];

/// The directory that holds the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the chaos crate lies in the workspace").to_path_buf()
}

/// Every file of the repository, in a fixed order, by path relative to the root.
pub(crate) fn files() -> Vec<PathBuf> {
    let root = root();
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of the repository can be listed") {
            let entry = entry.expect("a directory entry can be read");
            let kind = entry.file_type().expect("a directory entry has a kind");
            let name = entry.file_name();
            if kind.is_dir() {
                if !NOT_OURS.iter().any(|skipped| name == *skipped) {
                    open.push(entry.path());
                }
            } else if kind.is_file() {
                let path = entry.path();
                found.push(path.strip_prefix(&root).expect("below the root").to_path_buf());
            }
        }
    }
    found.sort();
    found
}

/// The files whose name ends in one of these, with their text.
pub(crate) fn texts(endings: &[&str]) -> Vec<(PathBuf, String)> {
    files()
        .into_iter()
        .filter(|path| {
            let name = path.to_string_lossy();
            endings.iter().any(|ending| name.ends_with(ending))
        })
        .filter_map(|path| fs::read_to_string(root().join(&path)).ok().map(|text| (path, text)))
        .collect()
}
