//! The gRPC services, a file each: authenticate the caller, convert, call a handle.
//!
//! ```text
//!   workload socket                        admin socket (every call passes admin_authorization)
//!     workload     SpiffeWorkloadAPI         entry, bundle, svid, ...             SPIRE's server API
//!     reflection   v1 and v1alpha            cluster, authorities, ...            quorate.cluster.v1
//!            \                                 /
//!             gate: header, call limit, panics
//! ```

mod admin_authorization;
mod audit;
mod authorities;
mod authority_errors;
mod backup;
mod batch;
mod bundle;
mod cluster;
mod debug;
mod entry;
pub(crate) mod federation;
mod federation_access;
mod federation_discovery;
mod foreign;
pub mod gate;
mod health;
mod local_authority;
mod reads;
pub mod reflection;
mod refusal;
mod revocations;
mod svid;
mod trust_domain;
mod web;
pub mod workload;
mod writes;

use tonic::service::RoutesBuilder;

use crate::node::Node;
use admin_authorization::{AdminAuthorization, Authorized};
pub use batch::BATCH_ITEMS_LIMIT;
use gate::Gate;
use reads::Reads;
pub use reflection::BrokenDescriptors;

/// What is served on the workload socket.
///
/// # Errors
/// When the descriptors compiled into the program are broken.
pub fn workload(node: &Node) -> Result<Gate, BrokenDescriptors> {
    let mut services = RoutesBuilder::default();
    reflection::add(&mut services)?;
    Ok(Gate::new("workload", services.routes()).with_workload_api(workload::service(node)))
}

/// What is served on the admin socket. Every call passes the authorization first. Must be called inside a Tokio runtime,
/// where the node begins to catch up for its readers.
#[must_use]
pub fn admin(node: &Node) -> Gate {
    let rule = AdminAuthorization::new(node.admin_group()).recorded_in(node.audit(), &node.config().admin.socket);
    let reads = Reads::new(node);
    let mut services = RoutesBuilder::default();
    services
        .add_service(Authorized::new(&rule, entry::service(node, &reads)))
        .add_service(Authorized::new(&rule, bundle::service(node, &reads)))
        .add_service(Authorized::new(&rule, trust_domain::service(node, &reads)))
        .add_service(Authorized::new(&rule, federation::service(node, &reads)))
        .add_service(Authorized::new(&rule, federation_access::service(node, &reads)))
        .add_service(Authorized::new(&rule, federation_discovery::service(node)))
        .add_service(Authorized::new(&rule, svid::service(node)))
        .add_service(Authorized::new(&rule, audit::service(node)))
        .add_service(Authorized::new(&rule, debug::service(node)))
        .add_service(Authorized::new(&rule, health::service(node, &reads)))
        .add_service(Authorized::new(&rule, local_authority::service(node, &reads)))
        .add_service(Authorized::new(&rule, backup::service(node)))
        .add_service(Authorized::new(&rule, cluster::service(node, &reads)))
        .add_service(Authorized::new(&rule, authorities::service(node, &reads)))
        .add_service(Authorized::new(&rule, revocations::service(node, &reads)))
        .add_service(Authorized::new(&rule, web::certificates(node, &reads)))
        .add_service(Authorized::new(&rule, web::oidc_provider(node, &reads)));
    Gate::new("admin", services.routes())
}
