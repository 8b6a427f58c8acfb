//! Serves immutable generations over the rsync daemon protocol.

pub mod rsync;
