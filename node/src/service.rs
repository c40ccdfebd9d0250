//! The gRPC services, a file each: authenticate the caller, convert, call a handle.
//!
//! ```text
//!   workload socket                        admin socket (every call passes admin_authorization)
//!     workload     SpiffeWorkloadAPI         entry, bundle, svid, debug, health   SPIRE's server API
//!     reflection   v1 and v1alpha            cluster                              quorate.cluster.v1
//! ```
