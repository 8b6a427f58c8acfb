//! The files that symbolic links of a tree stand for: GLEP 74 has links followed when files are opened.

use crate::generation::{Generation, NodeId, NodeKind};

/// As many as Linux follows.
const LINKS_MAX: usize = 40;

/// The file at `path`, or the one that the symbolic link there leads to within the tree.
pub(super) fn find_file(generation: &Generation, path: &str) -> Option<NodeId> {
    let mut path = path.as_bytes().to_vec();
    let is_directory = |path: &[u8]| {
        generation.lookup(path).is_some_and(|id| generation.node(id).kind == NodeKind::Directory)
    };
    for _ in 0..LINKS_MAX {
        let id = generation.lookup(&path)?;
        let node = generation.node(id);
        match node.kind {
            NodeKind::File => return Some(id),
            NodeKind::Directory => return None,
            NodeKind::Symlink => path = target(&path, node.symlink_target, is_directory)?,
        }
    }
    None
}

/// The path that a link at `path` means, if it is within the tree.
fn target(path: &[u8], link: &[u8], is_directory: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    if link.is_empty() || link.starts_with(b"/") {
        return None;
    }
    let mut names: Vec<&[u8]> = path.split(|&octet| octet == b'/').collect();
    names.pop();
    for name in link.split(|&octet| octet == b'/') {
        match name {
            b"" | b"." => {}
            // Up from what is no directory leads nowhere, whatever the names say.
            b".." if !is_directory(&names.join(&b'/')) => return None,
            b".." => {
                names.pop()?;
            }
            name => names.push(name),
        }
    }
    Some(names.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_means_a_path_within_the_tree_or_nothing() {
        let is_directory = |path: &[u8]| matches!(path, b"" | b"a" | b"c");
        for (path, link, expected) in [
            ("a", "b", Some("b")),
            ("a/b", "c", Some("a/c")),
            ("a/b", "../c/./d", Some("c/d")),
            ("a/b", "../c/../a/d", Some("a/d")),
            ("a/b", "../e/../a/d", None),
            ("a/b", "../../c", None),
            ("a/b", "/c", None),
            ("a/b", "", None),
        ] {
            let found = target(path.as_bytes(), link.as_bytes(), is_directory);
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{path} {link}");
        }
    }
}
