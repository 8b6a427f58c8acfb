//! Names of one inode under `--hard-links` (7.5): the first one in the list has all, the others refer to it.

use crate::NodeId;
use std::collections::HashMap;

/// What an entry is among the names of its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InodeName {
    /// Its only name, or nobody asks.
    Only,
    /// The first one in the list.
    First(NodeId),
    /// Another one; at which index the first one is.
    Later(NodeId, i32),
}

impl InodeName {
    /// The inode, if it may have other names.
    pub(super) fn inode(self) -> Option<NodeId> {
        match self {
            Self::Only => None,
            Self::First(inode) | Self::Later(inode, _) => Some(inode),
        }
    }
}

/// The inodes in a list so far, with the index of their first name. Filters and sources decide which one that is.
#[derive(Debug, Default)]
pub(super) struct Inodes(HashMap<NodeId, i32>);

impl Inodes {
    /// Takes note of the entry at an index.
    pub(super) fn name(&mut self, inode: Option<NodeId>, index: usize) -> InodeName {
        // A list that long does not fit the memory.
        let index = i32::try_from(index).unwrap_or(i32::MAX);
        let Some(inode) = inode else { return InodeName::Only };
        match *self.0.entry(inode).or_insert(index) {
            first if first == index => InodeName::First(inode),
            first => InodeName::Later(inode, first),
        }
    }
}
