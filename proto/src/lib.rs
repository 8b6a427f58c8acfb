//! Rookery's gRPC contract: `rookery.v1`.
//!
//! The `.proto` files in `rookery/v1/` are the documentation: start with `tree.proto`, then
//! `index.proto`, then `admin.proto`. This crate holds what is generated from them and, with the feature
//! `policy`, how the values of `cache-policy` that more than one service sends are written in it. It must not
//! gain behaviour.

#[cfg(feature = "policy")]
mod policy;

/// Version 1 of the contract.
#[allow(
    missing_docs,
    unnameable_types,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    clippy::wildcard_enum_match_arm,
    reason = "generated; documented in the .proto files"
)]
pub mod v1 {
    tonic::include_proto!("rookery.v1");

    /// The encoded `FileDescriptorSet` of this package, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rookery_v1.bin"));
}
