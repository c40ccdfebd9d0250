//! Server reflection on the workload socket (EP-26), as `v1` and, for older tools, `v1alpha`.
//!
//! It tells of the standard's service, unmodified, and of itself; nothing else is served there
//! (SB-24). The gate asks for the security header on it too.

use quorate_proto_api::FILE_DESCRIPTOR_SET;
use tonic::service::RoutesBuilder;
use tonic_reflection::pb;
use tonic_reflection::server::{Builder, Error};

/// What is served on the workload socket, by its full names.
pub const SERVICES: [&str; 3] =
    ["SpiffeWorkloadAPI", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/// The descriptors compiled into the program are broken: a fault of the build.
#[derive(Debug, thiserror::Error)]
#[error("the program's own service descriptors are broken: {0}")]
pub struct BrokenDescriptors(String);

/// Adds both services.
///
/// # Errors
/// When the descriptors of the program are broken.
pub fn add(services: &mut RoutesBuilder) -> Result<(), BrokenDescriptors> {
    let broken = |error: Error| BrokenDescriptors(format!("{error:?}"));
    services.add_service(builder().build_v1().map_err(broken)?);
    services.add_service(builder().build_v1alpha().map_err(broken)?);
    Ok(())
}

fn builder() -> Builder<'static> {
    let described = Builder::configure()
        .include_reflection_service(false)
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(pb::v1alpha::FILE_DESCRIPTOR_SET);
    SERVICES.into_iter().fold(described, Builder::with_service_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptors_of_the_program_are_whole() {
        add(&mut RoutesBuilder::default()).unwrap();
    }
}
