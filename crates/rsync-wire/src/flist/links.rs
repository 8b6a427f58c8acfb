//! Symbolic links that are to be followed: `--copy-links`, `--copy-dirlinks`, `--copy-unsafe-links` (4.4). A link
//! leads to a node of the same tree or nowhere.

use super::sources::{IO_ERROR_GENERAL, Walk};
use crate::limits::{LINKED_DIRECTORIES_MAX, LINKS_MAX};
use crate::mux::Code;
use crate::options::join;
use crate::{NodeId, NodeKind, TreeView, WireError};

/// What a name is listed as.
pub(super) enum Shown {
    As(NodeId),
    Not(&'static str),
}

const NO_REFERENT: &str = "symlink has no referent:";
const LOOP: &str = "symlink leads back to a directory above it:";

impl<T: TreeView> Walk<'_, T> {
    /// What a node is listed as under a name; says so if it can't be listed.
    pub(super) fn shown(
        &mut self,
        id: NodeId,
        name: &[u8],
        root: &[u8],
    ) -> Result<Option<NodeId>, WireError> {
        match self.lead(id, name, root) {
            Shown::As(id) => Ok(Some(id)),
            Shown::Not(problem) => self.unshown(problem, name, root).map(|()| None),
        }
    }

    /// Where a node leads to: to itself, unless it is a link that is followed.
    pub(super) fn lead(&self, id: NodeId, name: &[u8], root: &[u8]) -> Shown {
        let (plan, tree) = (self.plan, self.tree);
        let node = tree.node(id);
        if node.kind != NodeKind::Symlink || !plan.follow.any() {
            return Shown::As(id);
        }
        let must = plan.follow.all || (plan.follow.unsafe_ones && is_unsafe(node.symlink_target, name));
        if !must && !plan.follow.to_directories {
            return Shown::As(id);
        }
        let found = resolve(tree, &join(root, name));
        let is_directory = |id: NodeId| tree.node(id).kind == NodeKind::Directory;
        match found {
            Some(target) if is_directory(target) && self.ancestors.contains(&target) && plan.recurse => {
                Shown::Not(LOOP)
            }
            Some(target) if must || is_directory(target) => Shown::As(target),
            None if must => Shown::Not(NO_REFERENT),
            Some(_) | None => Shown::As(id),
        }
    }

    /// Reports a name that can't be listed, unless it is hidden anyway.
    pub(super) fn unshown(&mut self, problem: &str, name: &[u8], root: &[u8]) -> Result<(), WireError> {
        if self.is_hidden(name, root)? {
            return Ok(());
        }
        self.io_error |= IO_ERROR_GENERAL;
        let path = crate::error::printable(&join(root, name));
        let text = format!("{problem} \"/{path}\" (in {})", self.plan.module);
        self.complain(Code::ErrorXfer, text);
        Ok(())
    }

    /// Bounds what links can multiply.
    pub(super) fn count_linked(&mut self, link: NodeId, target: NodeId) -> Result<(), WireError> {
        self.linked_directories += usize::from(link != target);
        if self.linked_directories > LINKED_DIRECTORIES_MAX {
            let what = "the number of directories behind symbolic links";
            return Err(WireError::Limit { what, limit: LINKED_DIRECTORIES_MAX });
        }
        Ok(())
    }
}

/// Whether a target leaves the transfer, seen from a name below the transfer root.
fn is_unsafe(target: &[u8], name: &[u8]) -> bool {
    if target.is_empty() || target.starts_with(b"/") {
        return true;
    }
    let mut depth = memchr::memchr_iter(b'/', name).count();
    for part in target.split(|&o| o == b'/') {
        match part {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

/// The node at a path, following every link on the way; `None` if one leads nowhere or out of the tree.
fn resolve(tree: &impl TreeView, path: &[u8]) -> Option<NodeId> {
    let mut todo: Vec<Vec<u8>> = parts(path);
    let mut at: Vec<u8> = Vec::new();
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == b".." {
            if at.is_empty() {
                return None;
            }
            let end = at.iter().rposition(|&o| o == b'/').unwrap_or(0);
            at.truncate(end);
            continue;
        }
        let next = join(&at, &part);
        let node = tree.node(tree.lookup(&next)?);
        if node.kind != NodeKind::Symlink {
            at = next;
            continue;
        }
        links += 1;
        if links > LINKS_MAX || node.symlink_target.starts_with(b"/") {
            return None;
        }
        todo.extend(parts(node.symlink_target));
    }
    tree.lookup(&at)
}

/// The components of a path, the first one last.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|&o| o == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let mut parts: Vec<Vec<u8>> = parts.map(<[u8]>::to_vec).collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryTree;

    #[test]
    fn links_lead_to_nodes_of_the_tree_or_nowhere() {
        let mut tree = MemoryTree::new(0);
        let file = tree.file("a/file", b"x", 0o644, (0, 0));
        let directory = tree.lookup(b"a").unwrap();
        for (name, target) in [
            ("a/self", "self"),
            ("a/out", "../../etc/passwd"),
            ("a/absolute", "/a/file"),
            ("a/up", ".."),
            ("b/through", "../a/up/a/./file"),
            ("b/dir", "../a"),
            ("b/ping", "pong"),
            ("b/pong", "ping"),
        ] {
            tree.symlink(name, target, 0);
        }
        let lead = |path: &str| resolve(&tree, path.as_bytes());
        assert_eq!(
            (lead("b/through"), lead("b/dir/file"), lead("b/dir")),
            (Some(file), Some(file), Some(directory))
        );
        for path in ["a/self", "a/out", "a/absolute", "b/ping", "a/file/x", "nothing", "a/../.."] {
            assert_eq!(lead(path), None, "{path}");
        }
    }

    #[test]
    fn unsafe_is_what_leaves_the_transfer() {
        for (target, name, expected) in [
            ("x", "l", false),
            ("/x", "l", true),
            ("", "l", true),
            ("../x", "l", true),
            ("../x", "d/l", false),
            ("../../x", "d/l", true),
            ("a/../../x", "l", true),
        ] {
            assert_eq!(is_unsafe(target.as_bytes(), name.as_bytes()), expected, "{target} {name}");
        }
    }
}
