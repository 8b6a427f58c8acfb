//! What every service does the same: configuration, telemetry, lifecycle, readiness and gRPC.
//!
//! Start reading at [`Kit`], which is all that a service gets from its process. This crate must not
//! know what any service does.

pub mod config;
pub mod grpc;
pub mod lifecycle;
pub mod readiness;
pub mod telemetry;

/// What a process hands to each service that it runs.
#[derive(Debug, Clone)]
pub struct Kit {
    /// Where every task is spawned, and how it learns of shutdown.
    pub tasks: lifecycle::Tasks,
    /// Where each part says whether it can serve.
    pub readiness: readiness::Readiness,
    /// How gRPC is authenticated, both ways.
    pub grpc: grpc::GrpcConfig,
}
