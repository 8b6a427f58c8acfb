//! A generation as the protocol sees it.

use std::io;

use rsync_wire::{Node, NodeId, NodeKind, TreeView};
use tree_store::Generation;

/// Holding it pins the generation.
#[derive(Debug, Clone)]
pub(super) struct ServedTree(pub(super) Generation);

impl ServedTree {
    /// Ids only ever come from this tree; one that does not names the root, which has no contents.
    fn own(&self, id: NodeId) -> tree_store::NodeId {
        self.0.id_at(id.get()).unwrap_or_else(|| self.0.root())
    }
}

impl TreeView for ServedTree {
    fn root(&self) -> NodeId {
        NodeId::new(self.0.root().position())
    }

    fn lookup(&self, path: &[u8]) -> Option<NodeId> {
        self.0.lookup(path).map(|id| NodeId::new(id.position()))
    }

    fn node(&self, id: NodeId) -> Node<'_> {
        let node = self.0.node(self.own(id));
        Node {
            kind: match node.kind {
                tree_store::NodeKind::Directory => NodeKind::Directory,
                tree_store::NodeKind::File => NodeKind::File,
                tree_store::NodeKind::Symlink => NodeKind::Symlink,
            },
            name: node.name,
            mode: node.mode,
            mtime_s: node.mtime_s,
            mtime_ns: node.mtime_ns,
            size: node.size,
            symlink_target: node.symlink_target,
        }
    }

    fn path(&self, id: NodeId) -> Vec<u8> {
        self.0.path(self.own(id))
    }

    fn children(&self, directory: NodeId) -> impl Iterator<Item = NodeId> {
        self.0.children(self.own(directory)).map(|id| NodeId::new(id.position()))
    }

    fn read_at(&self, file: NodeId, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(self.own(file), offset, buf)
    }
}
