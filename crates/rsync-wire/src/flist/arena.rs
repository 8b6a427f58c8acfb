//! Entries in the making: names in one buffer, so that a list of 170,000 takes no 170,000 allocations.

use super::compare_names;
use crate::{Node, NodeId, NodeKind};
use std::ops::Range;

/// What a directory's entry promises (7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DirectoryRole {
    /// Named by an argument, contents follow.
    Top,
    /// Found on the way, contents follow.
    Content,
    /// Its contents are not sent.
    Bare,
    /// A parent of what was named; its contents are not sent.
    Implied,
}

/// One entry before it is encoded.
#[derive(Debug)]
pub(super) struct Pending {
    name: Range<u32>,
    pub(super) node: NodeId,
    pub(super) kind: NodeKind,
    /// Only says something about directories.
    pub(super) role: DirectoryRole,
}

/// All entries of a list, in the order of the walk until [`Self::sort`].
#[derive(Debug, Default)]
pub(super) struct Arena {
    names: Vec<u8>,
    pub(super) entries: Vec<Pending>,
}

impl Arena {
    /// Adds an entry. Gives `false` if the names no longer fit, which no real tree reaches.
    pub(super) fn push(&mut self, name: &[u8], id: NodeId, node: &Node<'_>, role: DirectoryRole) -> bool {
        let start = u32::try_from(self.names.len());
        let end = u32::try_from(self.names.len() + name.len());
        let (Ok(start), Ok(end)) = (start, end) else { return false };
        self.names.extend_from_slice(name);
        self.entries.push(Pending { name: start..end, node: id, kind: node.kind, role });
        true
    }

    pub(super) fn name(&self, entry: &Pending) -> &[u8] {
        &self.names[entry.name.start as usize..entry.name.end as usize]
    }

    /// Sorts as both sides do. It is stable: equal entries keep the order in which they are sent.
    pub(super) fn sort(&mut self) {
        let names = &self.names;
        let key = |entry: &Pending| {
            let name = &names[entry.name.start as usize..entry.name.end as usize];
            (name, entry.kind == NodeKind::Directory)
        };
        self.entries.sort_by(|a, b| compare_names(key(a), key(b)));
    }
}
