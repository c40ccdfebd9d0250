//! The committed code is what the `.proto` files say.

use std::collections::BTreeMap;
use std::path::Path;

use crate::codegen;

/// The files of a folder by name.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .expect("folder can be listed")
        .map(|entry| {
            let entry = entry.expect("folder can be listed");
            let name = entry.file_name().into_string().expect("names are UTF-8");
            (name, std::fs::read(entry.path()).expect("file can be read"))
        })
        .collect()
}

#[test]
fn committed_code_is_what_the_proto_files_give() {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generated");
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch).expect("scratch folder can be removed");
    }
    std::fs::create_dir_all(&scratch).expect("scratch folder can be made");
    codegen::generate(&scratch).expect("the proto files compile");

    let (fresh, committed) = (contents(&scratch), contents(&codegen::generated_folder()));
    let stale: Vec<&String> =
        fresh.keys().chain(committed.keys()).filter(|name| fresh.get(*name) != committed.get(*name)).collect();
    assert!(
        stale.is_empty(),
        "stale: {stale:?}; run `cargo run -p quorate-proto-api --example generate` and commit the result"
    );
}
