//! What every service does the same: configuration, telemetry, lifecycle, readiness and gRPC.
//!
//! Start reading at [`process::run`], which is a whole process, and at [`Kit`], which is all that a service
//! gets from it. This crate must not know what any service does.

pub mod backoff;
pub mod clock;
pub mod config;
pub mod durable;
pub mod exit_code;
pub mod grpc;
pub mod health;
pub mod keepalive;
pub mod lifecycle;
pub mod listen;
pub mod process;
pub mod proxy_protocol;
pub mod readiness;
pub mod telemetry;

/// What a process hands to each service that it runs.
#[derive(Debug, Clone, Default)]
pub struct Kit {
    /// Where every task is spawned, and how it learns of shutdown.
    pub tasks: lifecycle::Tasks,
    /// Where each part says whether it can serve.
    pub readiness: readiness::Readiness,
    /// How gRPC is authenticated, both ways.
    pub grpc: grpc::GrpcConfig,
}
