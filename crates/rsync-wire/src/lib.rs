//! rsync-wire
