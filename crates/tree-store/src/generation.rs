//! A generation as its readers see it.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::index::{ContentRecord, FORMAT_DIRECTORY, FORMAT_SYMLINK, Index, NodeRecord, Summary};
use crate::name::{ContentDigest, ModuleName};
use crate::pack::Pack;

/// One immutable state of a module. A clone is cheap; whoever holds one pins it: its packs stay until
/// the last clone is dropped.
#[derive(Clone)]
pub struct Generation {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) module: ModuleName,
    pub(crate) number: u64,
    pub(crate) summary: Summary,
    pub(crate) index: Arc<Index>,
    /// In the order of `index.packs`.
    pub(crate) packs: Vec<Arc<Pack>>,
}

/// A node of the generation that gave the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// The node's position in breadth-first order: 0 is the root; a parent comes before its children.
    #[must_use]
    pub fn position(self) -> u32 {
        self.0
    }
}

/// What a node is. There is nothing else in a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
}

/// A node's metadata, as it was in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node<'a> {
    /// What it is.
    pub kind: NodeKind,
    /// Its last path element, octets of any kind but `/` and NUL. Empty for the root.
    pub name: &'a [u8],
    /// `st_mode`: format and permissions.
    pub mode: u32,
    /// Modification time, seconds since the Unix epoch.
    pub mtime_s: i64,
    /// Its nanoseconds.
    pub mtime_ns: u32,
    /// The number of the user that it belongs to.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
    /// The first name of its inode, if that has several names in the tree: the same for all of them.
    pub inode: Option<NodeId>,
    /// Octets of a file or of a symlink's target; 0 for a directory.
    pub size: u64,
    /// Empty unless it is a symlink.
    pub symlink_target: &'a [u8],
    /// Of a file's content.
    pub digest: Option<&'a ContentDigest>,
}

impl Generation {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn index(&self) -> &Arc<Index> {
        &self.inner.index
    }

    /// The module's name.
    #[must_use]
    pub fn module(&self) -> &str {
        self.inner.module.as_str()
    }

    /// Its number: from 1, growing within the module.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.inner.number
    }

    /// Counts and times of the whole.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.inner.summary
    }

    /// How many nodes there are: every [`NodeId::position`] is below it.
    #[must_use]
    pub fn nodes_count(&self) -> usize {
        self.inner.index.nodes.len()
    }

    /// The node at a position below [`Self::nodes_count`].
    #[must_use]
    pub fn id_at(&self, position: u32) -> Option<NodeId> {
        ((position as usize) < self.nodes_count()).then_some(NodeId(position))
    }

    /// The tree's own directory.
    #[must_use]
    pub fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// The node at `path` (`a/b`; empty is the root). Never follows a symlink, knows no `.` or `..`.
    #[must_use]
    pub fn lookup(&self, path: &[u8]) -> Option<NodeId> {
        if path.is_empty() {
            return Some(self.root());
        }
        let mut at = self.root();
        for name in path.split(|&octet| octet == b'/') {
            at = self.child(at, name)?;
        }
        Some(at)
    }

    /// The node of that name in a directory.
    pub(crate) fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        let index = &self.inner.index;
        let node = index.nodes.get(directory.0 as usize)?;
        if node.format() != FORMAT_DIRECTORY {
            return None;
        }
        let children = index.nodes.get(node.first as usize..)?.get(..node.count as usize)?;
        let found = children.binary_search_by(|child| index.name(child).cmp(name)).ok()?;
        Some(NodeId(node.first + u32::try_from(found).ok()?))
    }

    /// For each node, by position, the position of the node at the same path in an earlier generation, if both are
    /// files with the same content.
    pub(crate) fn unchanged_since(&self, earlier: &Self) -> Vec<Option<u32>> {
        let mut unchanged = vec![None; self.nodes_count()];
        let mut pending = vec![(self.root(), earlier.root())];
        while let Some((own, other)) = pending.pop() {
            let (mut own, mut other) = (self.children(own).peekable(), earlier.children(other).peekable());
            while let (Some(&one), Some(&two)) = (own.peek(), other.peek()) {
                let (one_node, two_node) = (self.node(one), earlier.node(two));
                match one_node.name.cmp(two_node.name) {
                    std::cmp::Ordering::Less => {
                        own.next();
                    }
                    std::cmp::Ordering::Greater => {
                        other.next();
                    }
                    std::cmp::Ordering::Equal => {
                        if one_node.kind == NodeKind::Directory && two_node.kind == NodeKind::Directory {
                            pending.push((one, two));
                        } else if one_node.digest.is_some() && one_node.digest == two_node.digest {
                            unchanged[one.0 as usize] = Some(two.0);
                        }
                        own.next();
                        other.next();
                    }
                }
            }
        }
        unchanged
    }

    /// The node's metadata.
    ///
    /// # Panics
    /// May panic if `id` was given by another generation.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Node<'_> {
        let index = &self.inner.index;
        let record = self.record(id);
        let content = index.content(record);
        let (kind, target, size) = match (record.format(), content) {
            (FORMAT_DIRECTORY, _) => (NodeKind::Directory, [].as_slice(), 0),
            (FORMAT_SYMLINK, _) => {
                (NodeKind::Symlink, index.octets(record.first, record.count), u64::from(record.count))
            }
            (_, content) => (NodeKind::File, [].as_slice(), content.map_or(0, |content| content.length)),
        };
        let owner = index.owner(record);
        Node {
            kind,
            name: index.name(record),
            mode: record.mode,
            mtime_s: record.mtime_s,
            mtime_ns: record.mtime_ns,
            uid: owner.uid,
            gid: owner.gid,
            inode: index.inodes.first(id.0).map(NodeId),
            size,
            symlink_target: target,
            digest: content.map(|content| &content.digest),
        }
    }

    /// A directory's children, sorted by the octets of their names. Nothing for other nodes.
    pub fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> + use<> {
        let record = self.record(id);
        let range = match record.format() {
            FORMAT_DIRECTORY => record.first..record.first.saturating_add(record.count),
            _ => 0..0,
        };
        range.map(NodeId)
    }

    /// The directory that a node is in; the root is in none.
    #[must_use]
    pub fn parent(&self, id: NodeId) -> Option<NodeId> {
        (id.0 != 0).then(|| NodeId(self.record(id).parent))
    }

    /// The node's path from the root, without a leading slash.
    #[must_use]
    pub fn path(&self, id: NodeId) -> Vec<u8> {
        path_of(&self.inner.index, id.0)
    }

    /// Reads a file's content from the pack, blocking: call it off the reactor. 0 means the end.
    ///
    /// # Errors
    /// Not a file, or what the system says; a content that ends too soon is `UnexpectedEof`, so a
    /// damaged pack is never taken for a shorter file.
    pub fn read_at(&self, id: NodeId, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let Some(content) = self.content(id) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        };
        let left = content.length.saturating_sub(offset);
        let wanted = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let Some(pack) = self.inner.packs.get(content.pack as usize) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no such pack"));
        };
        match pack.read_at(content.offset + offset, &mut buf[..wanted])? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the pack ends within a content")),
            read => Ok(read),
        }
    }

    /// A file's whole content, if it has at most `bytes_max`.
    ///
    /// # Errors
    /// As [`Self::read_at`]; a larger one is `FileTooLarge`.
    pub fn read(&self, id: NodeId, bytes_max: u64) -> io::Result<Vec<u8>> {
        let size = self.content(id).map_or(0, |content| content.length);
        if size > bytes_max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than expected of such a file"));
        }
        let mut whole = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        let mut at = 0;
        while at < whole.len() {
            at += self.read_at(id, at as u64, &mut whole[at..])?;
        }
        Ok(whole)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..u32::try_from(self.nodes_count()).unwrap_or(u32::MAX)).map(NodeId)
    }

    pub(crate) fn content(&self, id: NodeId) -> Option<&ContentRecord> {
        self.inner.index.content(self.record(id))
    }

    fn record(&self, id: NodeId) -> &NodeRecord {
        &self.inner.index.nodes[id.0 as usize]
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Generation({} {})", self.module(), self.number())
    }
}

/// The path of the node at a position.
pub(crate) fn path_of(index: &Index, position: u32) -> Vec<u8> {
    let mut names = Vec::new();
    let mut at = position;
    while let Some(node) = index.nodes.get(at as usize).filter(|_| at != 0) {
        names.push(index.name(node));
        at = node.parent;
    }
    names.reverse();
    names.join(&b'/')
}
