//! What this crate asks of a tree: an immutable directory of files and symbolic links.

use crate::transfer::{BodyForm, KeptBody};
use std::io;

/// Names one node of one tree. The root and the numbers in use are the tree's own business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// Wraps a tree's own number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The tree's own number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The kinds of nodes that a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// Has children.
    Directory,
    /// Has contents.
    File,
    /// Has a target.
    Symlink,
}

/// What is known of a node.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// Its kind, which agrees with the type bits of `mode`.
    pub kind: NodeKind,
    /// Its name in its directory: no slash, no NUL, not `.` or `..`; empty for the root.
    pub name: &'a [u8],
    /// `st_mode`: type and permissions.
    pub mode: u32,
    /// Modification time, seconds since 1970.
    pub mtime_s: i64,
    /// Nanoseconds of it, below one second.
    pub mtime_ns: u32,
    /// The number of the user that it belongs to.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
    /// What stands for its inode, if that has several names in the tree: the same for all of them. None are
    /// directories.
    pub inode: Option<NodeId>,
    /// Octets of contents, or of the target of a symbolic link.
    pub size: u64,
    /// The target of a symbolic link; empty otherwise.
    pub symlink_target: &'a [u8],
}

/// A tree that never changes. Methods that don't say so don't block.
pub trait TreeView {
    /// The root directory.
    fn root(&self) -> NodeId;

    /// The node at a path from the root (`a/b`; empty for the root), with one slash between names. A
    /// symbolic link on the way is never followed.
    fn lookup(&self, path: &[u8]) -> Option<NodeId>;

    /// What is known of a node of this tree.
    fn node(&self, id: NodeId) -> Node<'_>;

    /// A node's path from the root, for texts.
    fn path(&self, id: NodeId) -> Vec<u8>;

    /// A directory's children, sorted by the octets of their names; none for other nodes.
    fn children(&self, directory: NodeId) -> impl Iterator<Item = NodeId>;

    /// What the host calls a user that nodes belong to. A list asks once for each. May block on a disk.
    fn user_name(&self, uid: u32) -> Option<Vec<u8>>;

    /// What the host calls a group that nodes belong to. A list asks once for each. May block on a disk.
    fn group_name(&self, gid: u32) -> Option<Vec<u8>>;

    /// Reads contents of a file into `buf` and says how many octets; 0 at the end. May block on a disk.
    ///
    /// # Errors
    /// What the disk says.
    fn read_at(&self, file: NodeId, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// The body of a file in this form, if it is kept.
    fn kept_body(&self, file: NodeId, form: BodyForm) -> Option<KeptBody> {
        let _ = (file, form);
        None
    }

    /// Reads bodies from a place on, as far as they go, and says how many octets. May block on a disk.
    ///
    /// # Errors
    /// What the disk says, or that they are kept no longer.
    fn read_kept(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        let _ = (at, buf);
        Err(io::ErrorKind::NotFound.into())
    }

    /// Keeps the body of a file for others, or doesn't. May block on a disk.
    fn keep_body(&self, file: NodeId, form: BodyForm, body: &[u8]) {
        let _ = (file, form, body);
    }
}
