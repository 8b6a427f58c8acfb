//! What the tests share: the served tree, the server's side of a talk, and a client's understanding of it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::redundant_closure_for_method_calls,
    reason = "each test file uses a part of it; a method of a type with a lifetime is no function for all lifetimes"
)]

pub mod client;
pub mod recursion;
pub mod talk;
pub mod tokens;
pub mod tree;
pub mod words;
