//! Makes `src/generated` from `proto/`: shared by the example that writes it and the test that finds it stale.
//!
//! No `protoc` is needed: the parser is protox, the printer prost-build with tonic's service generator.

use std::error::Error;
use std::path::{Path, PathBuf};

use prost::Message as _;

/// Every file that is compiled; what they import is found through them.
const SOURCES: &[&str] = &[
    "workload.proto",
    "spire/api/server/entry/v1/entry.proto",
    "spire/api/server/bundle/v1/bundle.proto",
    "spire/api/server/svid/v1/svid.proto",
    "spire/api/server/debug/v1/debug.proto",
    "spire/api/server/localauthority/v1/localauthority.proto",
    "spire/api/server/trustdomain/v1/trustdomain.proto",
    "grpc/health/v1/health.proto",
    "quorate/cluster/v1/audit.proto",
    "quorate/cluster/v1/backup.proto",
    "quorate/cluster/v1/cluster.proto",
    "quorate/cluster/v1/authority.proto",
    "quorate/cluster/v1/federation.proto",
    "quorate/cluster/v1/federation_access.proto",
    "quorate/cluster/v1/federation_discovery.proto",
    "quorate/cluster/v1/revocation.proto",
    "quorate/cluster/v1/web.proto",
    "quorate/federation/v1/federation.proto",
    "quorate/peer/v1/peer.proto",
];

/// What server reflection tells of (EP-26): the Workload API, and health, which is common knowledge.
const REFLECTED: [&str; 2] = ["workload.proto", "grpc/health/v1/health.proto"];

/// The name of the reflected descriptors in the output folder.
const REFLECTION_FILE: &str = "reflection.bin";

/// Messages that hold a private key or a bearer token. Their `Debug` is written by hand and prints neither.
const SECRET_BEARING: [&str; 11] = [
    ".X509SVID",
    ".JWTSVID",
    ".ValidateJWTSVIDRequest",
    ".WITSVID",
    ".spire.api.types.JWTSVID",
    ".spire.api.types.WITSVID",
    ".quorate.peer.v1.AdmitRequest",
    ".quorate.cluster.v1.InviteResponse",
    ".quorate.cluster.v1.ApiKeyWithSecret",
    ".quorate.cluster.v1.CreateRelationshipRequest",
    ".quorate.cluster.v1.UpdateRelationshipRequest",
];

/// The folder of the `.proto` files.
pub(crate) fn proto_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proto")
}

/// The folder of the committed output.
pub(crate) fn generated_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated")
}

/// Writes all output files into `folder`, which exists.
///
/// # Errors
///
/// Fails when a `.proto` file is wrong, or when a file cannot be written.
pub(crate) fn generate(folder: &Path) -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(SOURCES, [proto_folder()])?;
    let mut names = tonic_prost_build::Config::new();
    // The file of the package without a name would else be `_.rs`.
    names.default_package_filename("workload");
    tonic_prost_build::configure()
        .out_dir(folder)
        .bytes(".")
        .btree_map(".")
        .skip_debug(SECRET_BEARING)
        // Channels are made by `channel.rs` alone (SIM-01), so clients get no `connect` of their own.
        .build_transport(false)
        .compile_fds_with_config(descriptors, names)?;

    let mut reflected = protox::compile(REFLECTED, [proto_folder()])?;
    for file in &mut reflected.file {
        // Comments and line numbers: three quarters of the bytes, and nothing that a client asks for.
        file.source_code_info = None;
    }
    std::fs::write(folder.join(REFLECTION_FILE), reflected.encode_to_vec())?;
    Ok(())
}
