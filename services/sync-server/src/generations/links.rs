//! Symbolic links that lead out of a tree. Nobody here follows them, but a box that does not sync with
//! `--safe-links` would have them lead into its own file system.

use tree_store::report::{Fault, FaultKind, Faults};
use tree_store::{Generation, NodeKind};

/// Finds each of them.
pub(super) fn find_outward(generation: &Generation, faults: &mut Faults) {
    let ids = (0_u32..).map_while(|position| generation.id_at(position));
    for id in ids.filter(|&id| generation.node(id).kind == NodeKind::Symlink) {
        let (path, target) = (generation.path(id), generation.node(id).symlink_target);
        if leads_out(&path, target) {
            let why = format!("a link to {}, which is outside the tree", String::from_utf8_lossy(target));
            faults.push(Fault::new(FaultKind::Link, path, why));
        }
    }
}

/// As rsync(1) has it for `--safe-links`: absolute, or up more often than down at any point.
fn leads_out(path: &[u8], target: &[u8]) -> bool {
    if target.is_empty() || target.starts_with(b"/") {
        return true;
    }
    let mut depth = path.split(|&octet| octet == b'/').count() - 1;
    for name in target.split(|&octet| octet == b'/') {
        match name {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_below_the_root_stays() {
        for (path, target, out) in [
            ("a", "b", false),
            ("a", "../b", true),
            ("a/b", "../c", false),
            ("a/b", "../../c", true),
            ("a/b", "c/../../d", false),
            ("a/b", "c/../../../d", true),
            ("a/b", "/a/c", true),
            ("a/b", "", true),
            ("a/b", ".././c", false),
            ("a/b", "..", false),
        ] {
            assert_eq!(leads_out(path.as_bytes(), target.as_bytes()), out, "{path} -> {target}");
        }
    }
}
