//! A generated tree, an upstream stand-in with faults and an independent count, and simulated boxes:
//! one implementation for the demo, the containers and the tests.
//!
//! Start reading at [`tree::generate`], then [`upstream::Upstream`]. Nothing here may use the code that
//! it is there to check: the upstream speaks HTTP with its own few lines and counts the bytes that it
//! wrote, and digests are computed from the contents, not taken from anybody.

pub mod boxes;
pub mod contents;
pub mod corpus;
pub mod ports;
pub mod shopping;
pub mod sockets;
pub mod tree;
pub mod upstream;
