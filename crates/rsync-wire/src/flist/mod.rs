//! The file list (section 7): which entries a request gets, in which order, in which octets.
//!
//! [`ListPlan`] says what is asked for; [`ListPlan::build`] walks a tree for it and gives a [`FileList`],
//! which knows nothing of one connection. Equal plans over one generation give equal lists, so a list can be
//! built once and sent to everyone.

mod arena;
mod build;
mod encode;
mod ids;
mod inodes;
mod links;
mod order;
mod sources;

use crate::filter::FilterList;
use crate::options::{Follow, SourcePath};
use crate::sums::ChecksumKind;
use crate::{NodeId, Protocol, TreeView, WireError};
use bytes::Bytes;

pub use order::compare_names;

/// What is listed, and in which form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "each is one independent option of the protocol")]
pub struct ListPlan {
    /// The protocol that the list is encoded for.
    pub protocol: Protocol,
    /// The module's name, for the texts about what is missing.
    pub module: String,
    /// What is asked for, wildcards unexpanded.
    pub sources: Vec<SourcePath>,
    /// Wildcards in the sources are expanded: not those of a list of names.
    pub expands_wildcards: bool,
    /// The client's filter rules.
    pub filters: FilterList,
    /// Descend into directories.
    pub recurse: bool,
    /// List directories without descending.
    pub dirs: bool,
    /// Names keep their path from the transfer root.
    pub relative: bool,
    /// Send the targets of symbolic links.
    pub links: bool,
    /// Which symbolic links are listed as what they lead to.
    pub follow: Follow,
    /// Send owners.
    pub owner: bool,
    /// Send groups.
    pub group: bool,
    /// No id lists at the end.
    pub numeric_ids: bool,
    /// Owners and groups that have names are named in the id lists.
    pub names: bool,
    /// Names of one inode say so.
    pub hard_links: bool,
    /// The parents of relative names are sent.
    pub implied_dirs: bool,
    /// Flags are varints (compatibility flag 0x80).
    pub varint_flags: bool,
    /// The end of the list may say what went wrong (compatibility flag 0x08, and since protocol 31).
    pub safe_list: bool,
    /// The id lists end with the name of id 0 (compatibility flag 0x100).
    pub id0_names: bool,
    /// Every file's checksum, of this kind.
    pub checksum: Option<ChecksumKind>,
    /// Say nothing about missing sources.
    pub ignore_missing: bool,
    /// Keep listing errors out of the list's end.
    pub ignore_errors: bool,
}

impl ListPlan {
    /// Walks a tree. This reads contents only if checksums are asked for, and takes a while on a large tree.
    ///
    /// # Errors
    /// [`WireError::Refused`] or [`WireError::Limit`]: nothing can be listed.
    pub fn build(&self, tree: &impl TreeView) -> Result<FileList, WireError> {
        build::build(self, tree)
    }
}

/// One entry of a sorted list; its position is its index on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its node in the tree.
    pub node: NodeId,
    /// Contents can be asked for.
    pub is_file: bool,
    /// Names that its own name in the list has: the last ones of its path; 0 for `.`, the top of the transfer.
    pub depth: u16,
    /// Octets of contents.
    pub size: u64,
}

/// A list that is ready to be sent.
#[derive(Debug)]
pub struct FileList {
    frames: Bytes,
    entries: Vec<Entry>,
    texts: Vec<String>,
    io_error: i32,
    total_size: u64,
}

/// Texts that a list keeps for logs; the client gets them all.
const TEXTS_KEPT_MAX: usize = 100;

impl FileList {
    /// Whole frames: texts about what is missing, then the list.
    #[must_use]
    pub fn frames(&self) -> Bytes {
        self.frames.clone()
    }

    /// The entries by their index.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Octets of memory that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts: usize = self.texts.iter().map(String::capacity).sum();
        self.frames.len() + self.entries.capacity() * size_of::<Entry>() + texts
    }

    /// What the client is told about what can't be listed: the first hundred texts.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// What went wrong while listing (7.7): bit 0 is a general error.
    #[must_use]
    pub fn io_error(&self) -> i32 {
        self.io_error
    }

    /// The size of all files and symbolic links, for the statistics.
    #[must_use]
    pub fn total_size(&self) -> u64 {
        self.total_size
    }
}
