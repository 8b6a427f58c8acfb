//! What symbolic links of a tree stand for: GLEP 74 has links followed when files are opened and directories listed.
//!
//! A link counts only if it leads to something within the tree, because that is all that clients get.

use std::rc::Rc;

use crate::generation::{Generation, NodeId, NodeKind};

/// As many as Linux follows.
const LINKS_MAX: usize = 40;

/// The file at `path`, or the one that symbolic links lead to.
pub(super) fn find_file(generation: &Generation, path: &str) -> Option<NodeId> {
    find(generation, path.as_bytes()).filter(|&id| generation.node(id).kind == NodeKind::File)
}

/// What is at `path` once all symbolic links are followed, its own and those on the way. `None` if they lead nowhere,
/// out of the tree or round in circles.
pub(super) fn find(generation: &Generation, path: &[u8]) -> Option<NodeId> {
    // Most paths have no links.
    if let Some(id) = generation.lookup(path).filter(|&id| generation.node(id).kind != NodeKind::Symlink) {
        return Some(id);
    }
    let mut links = 0;
    // Names that are still to be followed, the next one last.
    let mut names: Vec<&[u8]> = path.rsplit(|&octet| octet == b'/').collect();
    // The directories on the way from the root, which is never left.
    let mut way = vec![generation.root()];
    while let Some(name) = names.pop() {
        match name {
            b"" | b"." => continue,
            b".." => {
                way.pop();
                if way.is_empty() {
                    return None;
                }
                continue;
            }
            _ => {}
        }
        let id = generation.child(*way.last()?, name)?;
        let node = generation.node(id);
        match node.kind {
            NodeKind::Directory => way.push(id),
            NodeKind::File if names.is_empty() => return Some(id),
            NodeKind::File => return None,
            NodeKind::Symlink => {
                links += 1;
                let target = node.symlink_target;
                if links > LINKS_MAX || target.is_empty() || target.starts_with(b"/") {
                    return None;
                }
                names.extend(target.rsplit(|&octet| octet == b'/'));
            }
        }
    }
    way.pop()
}

/// The directories through which another was reached, the root first and itself last.
#[derive(Clone)]
pub(super) struct Way(Rc<Step>);

struct Step {
    directory: NodeId,
    is_by_link: bool,
    before: Option<Way>,
}

impl Way {
    pub(super) fn from(root: NodeId) -> Self {
        Self(Rc::new(Step { directory: root, is_by_link: false, before: None }))
    }

    /// On to a directory in this one, perhaps by a link; `None` if that is on the way already, so that one would go
    /// round in circles.
    pub(super) fn on(&self, directory: NodeId, is_link: bool) -> Option<Self> {
        let mut step = Some(self);
        while let Some(Self(here)) = step {
            if here.directory == directory {
                return None;
            }
            step = here.before.as_ref();
        }
        let is_by_link = is_link || self.is_by_link();
        Some(Self(Rc::new(Step { directory, is_by_link, before: Some(self.clone()) })))
    }

    /// Whether there was a link anywhere on the way.
    pub(super) fn is_by_link(&self) -> bool {
        self.0.is_by_link
    }

    pub(super) fn directory(&self) -> NodeId {
        self.0.directory
    }
}
