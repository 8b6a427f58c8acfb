//! Two real replicas and a real maintenance in one process, over a real upstream's count. Only
//! sync-server is a stand-in.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod farm;
mod held;
mod matrix;
mod programs;
#[path = "../http/relay.rs"]
mod relay;
mod rig;
mod tree;
