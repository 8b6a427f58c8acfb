//! The HTTP side against an upstream that misbehaves on demand. What counts is what a client ends
//! with, and what the upstream counted itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod behind;
mod disk;
mod faults;
mod forward;
mod hits;
mod hostile;
mod limits;
mod loops;
mod misses;
mod origin;
mod ranges;
mod relay;
mod replica;
mod restarts;
mod soak;
mod sources;
mod tls;
mod tunnels;
mod uncatalogued;
