//! What `codegen` writes, put under the names that the protobuf packages have, because generated code finds its
//! neighbours by them. The crate's root gives the modules the names that people use.

/// The Workload API's file: a package without a name.
#[expect(clippy::allow_attributes_without_reason, reason = "tonic's generator writes them so")]
pub mod workload {
    include!("generated/workload.rs");
}

/// `spire`
pub(crate) mod spire {
    /// `spire.api`
    pub(crate) mod api {
        /// `spire.api.types`
        pub mod types {
            include!("generated/spire.api.types.rs");
        }
        /// `spire.api.server`
        pub(crate) mod server {
            /// `spire.api.server.bundle`
            pub(crate) mod bundle {
                /// `spire.api.server.bundle.v1`
                #[expect(clippy::allow_attributes_without_reason, reason = "tonic's generator writes them so")]
                pub mod v1 {
                    include!("generated/spire.api.server.bundle.v1.rs");
                }
            }
            /// `spire.api.server.debug`
            pub(crate) mod debug {
                /// `spire.api.server.debug.v1`
                #[expect(clippy::allow_attributes_without_reason, reason = "tonic's generator writes them so")]
                pub mod v1 {
                    include!("generated/spire.api.server.debug.v1.rs");
                }
            }
            /// `spire.api.server.entry`
            pub(crate) mod entry {
                /// `spire.api.server.entry.v1`
                #[expect(clippy::allow_attributes_without_reason, reason = "tonic's generator writes them so")]
                pub mod v1 {
                    include!("generated/spire.api.server.entry.v1.rs");
                }
            }
            /// `spire.api.server.localauthority`
            pub(crate) mod localauthority {
                /// `spire.api.server.localauthority.v1`
                #[expect(clippy::allow_attributes_without_reason, reason = "tonic's generator writes them so")]
                pub mod v1 {
                    include!("generated/spire.api.server.localauthority.v1.rs");
                }
            }
            /// `spire.api.server.svid`
            pub(crate) mod svid {
                /// `spire.api.server.svid.v1`
                #[expect(clippy::allow_attributes_without_reason, reason = "tonic's generator writes them so")]
                pub mod v1 {
                    include!("generated/spire.api.server.svid.v1.rs");
                }
            }
            /// `spire.api.server.trustdomain`
            pub(crate) mod trustdomain {
                /// `spire.api.server.trustdomain.v1`
                #[expect(clippy::allow_attributes_without_reason, reason = "tonic's generator writes them so")]
                pub mod v1 {
                    include!("generated/spire.api.server.trustdomain.v1.rs");
                }
            }
        }
    }
}

/// `grpc.health.v1`
#[expect(clippy::allow_attributes_without_reason, reason = "tonic's generator writes them so")]
pub mod health {
    include!("generated/grpc.health.v1.rs");
}

/// `quorate.cluster.v1`
#[expect(clippy::allow_attributes_without_reason, reason = "tonic's generator writes them so")]
pub mod cluster {
    include!("generated/quorate.cluster.v1.rs");
}

/// `quorate.federation.v1`
#[expect(clippy::allow_attributes_without_reason, reason = "tonic's generator writes them so")]
pub mod federation {
    include!("generated/quorate.federation.v1.rs");
}

/// `quorate.peer.v1`
#[expect(clippy::allow_attributes_without_reason, reason = "tonic's generator writes them so")]
pub mod peer {
    include!("generated/quorate.peer.v1.rs");
}
