//! A generation as the protocol sees it.

use std::cell::Cell;
use std::io;
use std::sync::{Arc, OnceLock};

use rsync_wire::transfer::{BodyForm, KeptBody};
use rsync_wire::{Node, NodeId, NodeKind, TreeView};
use tree_store::Generation;

use super::accounts::Accounts;
use super::bodies::Bodies;

/// Holding it pins the generation.
#[derive(Debug, Clone)]
pub(super) struct ServedTree {
    generation: Generation,
    /// Read when the first owner is to be named.
    accounts: OnceLock<Accounts>,
    /// What was made of its files before, and of others.
    bodies: Option<Arc<Bodies>>,
    /// A guess at which of them is asked for next.
    next_body: Cell<u64>,
}

impl ServedTree {
    pub(super) fn new(generation: Generation, bodies: Option<Arc<Bodies>>) -> Self {
        Self { generation, accounts: OnceLock::new(), bodies, next_body: Cell::new(0) }
    }

    /// The number of its generation.
    pub(super) fn number(&self) -> u64 {
        self.generation.number()
    }

    fn accounts(&self) -> &Accounts {
        self.accounts.get_or_init(Accounts::of_host)
    }

    /// Ids only ever come from this tree; one that does not names the root, which has no contents.
    fn own(&self, id: NodeId) -> tree_store::NodeId {
        self.generation.id_at(id.get()).unwrap_or_else(|| self.generation.root())
    }
}

impl TreeView for ServedTree {
    fn root(&self) -> NodeId {
        NodeId::new(self.generation.root().position())
    }

    fn lookup(&self, path: &[u8]) -> Option<NodeId> {
        self.generation.lookup(path).map(|id| NodeId::new(id.position()))
    }

    fn node(&self, id: NodeId) -> Node<'_> {
        let node = self.generation.node(self.own(id));
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
            uid: node.uid,
            gid: node.gid,
            inode: node.inode.map(|id| NodeId::new(id.position())),
            size: node.size,
            symlink_target: node.symlink_target,
        }
    }

    fn path(&self, id: NodeId) -> Vec<u8> {
        self.generation.path(self.own(id))
    }

    fn children(&self, directory: NodeId) -> impl Iterator<Item = NodeId> {
        self.generation.children(self.own(directory)).map(|id| NodeId::new(id.position()))
    }

    fn user_name(&self, uid: u32) -> Option<Vec<u8>> {
        self.accounts().user(uid).map(<[u8]>::to_vec)
    }

    fn group_name(&self, gid: u32) -> Option<Vec<u8>> {
        self.accounts().group(gid).map(<[u8]>::to_vec)
    }

    fn read_at(&self, file: NodeId, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.generation.read_at(self.own(file), offset, buf)
    }

    fn kept_body(&self, file: NodeId, form: BodyForm) -> Option<KeptBody> {
        let mut next = self.next_body.get();
        let found = self.bodies.as_ref()?.find(self.generation.node(self.own(file)).digest?, form, &mut next);
        self.next_body.set(next);
        found
    }

    fn read_kept(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        let bodies = self.bodies.as_ref().ok_or(io::ErrorKind::NotFound)?;
        bodies.read_at(at, buf)
    }

    fn keep_body(&self, file: NodeId, form: BodyForm, body: &[u8]) {
        if let (Some(bodies), Some(digest)) = (&self.bodies, self.generation.node(self.own(file)).digest) {
            bodies.keep(digest, form, body);
        }
    }
}
