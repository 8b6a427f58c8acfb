//! A tree in memory, for tests and for trying things out.

use crate::{Node, NodeId, NodeKind, TreeView};
use std::collections::BTreeMap;
use std::io;

/// A tree that is built by [`Self::directory`], [`Self::file`] and [`Self::symlink`].
#[derive(Debug)]
pub struct MemoryTree {
    nodes: Vec<MemoryNode>,
    user_names: BTreeMap<u32, String>,
    group_names: BTreeMap<u32, String>,
}

#[derive(Debug)]
struct MemoryNode {
    kind: NodeKind,
    name: Vec<u8>,
    parent: Option<NodeId>,
    permissions: u32,
    mtime: (i64, u32),
    owner: (u32, u32),
    inode: Option<NodeId>,
    contents: Vec<u8>,
    children: BTreeMap<Vec<u8>, NodeId>,
    unreadable: bool,
}

impl Default for MemoryTree {
    fn default() -> Self {
        Self::new(0)
    }
}

impl MemoryTree {
    /// An empty root directory of mode 0755.
    #[must_use]
    pub fn new(mtime_s: i64) -> Self {
        let root = MemoryNode {
            kind: NodeKind::Directory,
            name: Vec::new(),
            parent: None,
            permissions: 0o755,
            mtime: (mtime_s, 0),
            owner: (0, 0),
            inode: None,
            contents: Vec::new(),
            children: BTreeMap::new(),
            unreadable: false,
        };
        Self { nodes: vec![root], user_names: BTreeMap::new(), group_names: BTreeMap::new() }
    }

    /// Adds a directory, or changes the mode and time of one that is there.
    pub fn directory(&mut self, path: &str, permissions: u32, mtime_s: i64) -> NodeId {
        let id = self.place(path, NodeKind::Directory);
        let added = self.node_mut(id);
        (added.permissions, added.mtime) = (permissions, (mtime_s, 0));
        id
    }

    /// Adds a file of a time in seconds and nanoseconds; missing directories are made.
    pub fn file(&mut self, path: &str, contents: &[u8], permissions: u32, mtime: (i64, u32)) -> NodeId {
        let id = self.place(path, NodeKind::File);
        let added = self.node_mut(id);
        (added.permissions, added.mtime) = (permissions, mtime);
        added.contents = contents.to_vec();
        id
    }

    /// Adds a symbolic link; missing directories are made.
    pub fn symlink(&mut self, path: &str, target: &str, mtime_s: i64) -> NodeId {
        let id = self.place(path, NodeKind::Symlink);
        let added = self.node_mut(id);
        (added.permissions, added.mtime) = (0o777, (mtime_s, 0));
        added.contents = target.as_bytes().to_vec();
        id
    }

    /// Adds one more name of a file or symbolic link; missing directories are made.
    pub fn link(&mut self, path: &str, to: NodeId) -> NodeId {
        let kind = self.node_ref(to).kind;
        let id = self.place(path, kind);
        self.node_mut(to).inode.get_or_insert(to);
        let MemoryNode { permissions, mtime, owner, inode, contents, .. } = self.node_ref(to);
        let (permissions, mtime, owner, inode) = (*permissions, *mtime, *owner, *inode);
        let contents = contents.clone();
        let added = self.node_mut(id);
        (added.permissions, added.mtime, added.owner, added.inode) = (permissions, mtime, owner, inode);
        added.contents = contents;
        id
    }

    /// Gives a node to a user and a group; further names of it belong to them, too, if they are added later.
    pub fn own(&mut self, id: NodeId, uid: u32, gid: u32) {
        self.node_mut(id).owner = (uid, gid);
    }

    /// Names a user.
    pub fn name_user(&mut self, uid: u32, name: &str) {
        self.user_names.insert(uid, name.to_owned());
    }

    /// Names a group.
    pub fn name_group(&mut self, gid: u32, name: &str) {
        self.group_names.insert(gid, name.to_owned());
    }

    /// Makes every later read of a file fail.
    pub fn spoil(&mut self, id: NodeId) {
        self.node_mut(id).unreadable = true;
    }

    fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        self.node_ref(directory).children.get(name).copied()
    }

    fn place(&mut self, path: &str, kind: NodeKind) -> NodeId {
        let mut at = self.root();
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        for (level, name) in names.iter().enumerate() {
            let kind = if level + 1 == names.len() { kind } else { NodeKind::Directory };
            at = match self.child(at, name.as_bytes()) {
                Some(id) => id,
                None => self.add(at, name.as_bytes(), kind),
            };
        }
        at
    }

    fn add(&mut self, parent: NodeId, name: &[u8], kind: NodeKind) -> NodeId {
        let id = NodeId::new(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let mtime = self.node_ref(parent).mtime;
        self.nodes.push(MemoryNode {
            kind,
            name: name.to_vec(),
            parent: Some(parent),
            permissions: 0o755,
            mtime,
            owner: (0, 0),
            inode: None,
            contents: Vec::new(),
            children: BTreeMap::new(),
            unreadable: false,
        });
        self.node_mut(parent).children.insert(name.to_vec(), id);
        id
    }

    fn node_ref(&self, id: NodeId) -> &MemoryNode {
        &self.nodes[id.get() as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut MemoryNode {
        &mut self.nodes[id.get() as usize]
    }
}

impl TreeView for MemoryTree {
    fn root(&self) -> NodeId {
        NodeId::new(0)
    }

    fn lookup(&self, path: &[u8]) -> Option<NodeId> {
        let mut parts = path.split(|&o| o == b'/').filter(|part| !part.is_empty());
        parts.try_fold(self.root(), |directory, part| self.child(directory, part))
    }

    fn node(&self, id: NodeId) -> Node<'_> {
        let node = self.node_ref(id);
        let type_bits = match node.kind {
            NodeKind::Directory => 0o040_000,
            NodeKind::File => 0o100_000,
            NodeKind::Symlink => 0o120_000,
        };
        Node {
            kind: node.kind,
            name: &node.name,
            mode: type_bits | node.permissions,
            mtime_s: node.mtime.0,
            mtime_ns: node.mtime.1,
            uid: node.owner.0,
            gid: node.owner.1,
            inode: node.inode,
            size: if node.kind == NodeKind::Directory { 4096 } else { node.contents.len() as u64 },
            symlink_target: if node.kind == NodeKind::Symlink { &node.contents } else { &[] },
        }
    }

    fn path(&self, id: NodeId) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut at = self.node_ref(id);
        while let Some(parent) = at.parent {
            parts.push(at.name.as_slice());
            at = self.node_ref(parent);
        }
        parts.reverse();
        parts.join(&b'/')
    }

    fn children(&self, directory: NodeId) -> impl Iterator<Item = NodeId> {
        self.node_ref(directory).children.values().copied()
    }

    fn user_name(&self, uid: u32) -> Option<Vec<u8>> {
        self.user_names.get(&uid).map(|name| name.clone().into_bytes())
    }

    fn group_name(&self, gid: u32) -> Option<Vec<u8>> {
        self.group_names.get(&gid).map(|name| name.clone().into_bytes())
    }

    fn read_at(&self, file: NodeId, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let node = self.node_ref(file);
        if node.unreadable {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(node.contents.len());
        let count = buf.len().min(node.contents.len() - start);
        buf[..count].copy_from_slice(&node.contents[start..start + count]);
        Ok(count)
    }
}
