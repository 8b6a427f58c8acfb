//! How an index differs from the one before it, and what a box that has the one before would miss of that.
//!
//! rsync's quick check takes a file of the same size and the same second of change for the same file. A content that
//! changed within one second (two signings, a tree whose files all have one time, a rollback) is therefore served as
//! changed a second after what was served before: otherwise boxes would keep the old one for good. The time is in the
//! index and nowhere else; later builds keep it as long as the content stays.

use std::collections::HashMap;

use crate::index::{Changes, FORMAT_DIRECTORY, FORMAT_FILE, FORMAT_SYMLINK, Index, NodeRecord};
use crate::inodes::Shared;

/// A file that the source says is older by at most this much than what was served may be one that is served later than
/// the source has it.
const LATER_MAX_S: i64 = 3600;

/// What [`compare`] found.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    pub(crate) changes: Changes,
    /// Whether anything differs: directories are not counted, but make a difference.
    pub(crate) differs: bool,
    /// Files that are served as changed later than the source has them, and the lowest position of one.
    pub(crate) later_count: u64,
    pub(crate) later_first: Option<u32>,
}

/// Whether a file with this time, by the source, may be one that is served with that time.
pub(crate) fn may_be_served_later(source_s: i64, served_s: i64) -> bool {
    served_s.checked_sub(source_s).is_some_and(|later_s| (1..=LATER_MAX_S).contains(&later_s))
}

/// Compares an index with the live one and gives files that boxes would miss another time.
pub(crate) fn compare(index: &mut Index, base: Option<&Index>) -> Compared {
    let Some(base) = base else {
        let added = index.nodes.iter().filter(|node| node.format() != FORMAT_DIRECTORY).count() as u64;
        return Compared {
            changes: Changes { added, ..Changes::default() },
            differs: true,
            ..Compared::default()
        };
    };
    let mut compared = Compared::default();
    let pairs = pair(index, base);
    for &(new, old) in &pairs {
        if let (Some(at), Some(old)) = (new, old.and_then(|at| base.nodes.get(at as usize))) {
            serve_later(index, at, base, old, &mut compared);
        }
    }
    give_names_one_time(index);
    let counterparts = Counterparts::new(index, base, &pairs);
    for (new, old) in pairs {
        let new_node = new.and_then(|at| index.nodes.get(at as usize));
        let old_node = old.and_then(|at| base.nodes.get(at as usize));
        let same = matches!((new_node, old_node), (Some(new), Some(old)) if is_same(index, new, base, old))
            && counterparts.have_same_names(new, old);
        compared.differs |= !same;
        let counts = |node: Option<&NodeRecord>| node.is_some_and(|node| node.format() != FORMAT_DIRECTORY);
        match (counts(new_node), counts(old_node)) {
            (true, true) if !same => compared.changes.changed += 1,
            (true, false) => compared.changes.added += 1,
            (false, true) => compared.changes.removed += 1,
            (true, true) | (false, false) => {}
        }
    }
    compared
}

/// Changes the time of the file at a position if a box that has `old` would not fetch it otherwise, or if it is served
/// with a later time already.
fn serve_later(index: &mut Index, at: u32, base: &Index, old: &NodeRecord, compared: &mut Compared) {
    let Some(new) = index.nodes.get(at as usize) else { return };
    let (Some(content), Some(old_content)) = (index.content(new), base.content(old)) else { return };
    let was_later = may_be_served_later(new.mtime_s, old.mtime_s);
    let time = if content.digest == old_content.digest {
        was_later.then_some((old.mtime_s, old.mtime_ns))
    } else if was_later || new.mtime_s == old.mtime_s {
        compared.later_count += 1;
        compared.later_first = Some(compared.later_first.map_or(at, |first| first.min(at)));
        Some((old.mtime_s.saturating_add(1), 0))
    } else {
        None
    };
    if let (Some((mtime_s, mtime_ns)), Some(new)) = (time, index.nodes.get_mut(at as usize)) {
        (new.mtime_s, new.mtime_ns) = (mtime_s, mtime_ns);
    }
}

fn is_same(index: &Index, new: &NodeRecord, base: &Index, old: &NodeRecord) -> bool {
    let same_content = match new.format() {
        FORMAT_FILE => {
            let digest = |index: &Index, node| index.content(node).map(|content| content.digest);
            digest(index, new) == digest(base, old)
        }
        FORMAT_SYMLINK => index.octets(new.first, new.count) == base.octets(old.first, old.count),
        _ => true,
    };
    same_content
        && (new.mode, new.mtime_s, new.mtime_ns) == (old.mode, old.mtime_s, old.mtime_ns)
        && index.owner(new) == base.owner(old)
}

/// Names of one inode have one time: the latest that one of them is served with.
fn give_names_one_time(index: &mut Index) {
    let Index { inodes, nodes, .. } = index;
    for is_gathering in [true, false] {
        for &Shared { node, first } in inodes.as_slice() {
            let (from, to) = if is_gathering { (node, first) } else { (first, node) };
            let time_of = |node: &NodeRecord| (node.mtime_s, node.mtime_ns);
            let Some(time) = nodes.get(from as usize).map(time_of) else { continue };
            if let Some(to) = nodes.get_mut(to as usize).filter(|to| time_of(to) < time) {
                (to.mtime_s, to.mtime_ns) = time;
            }
        }
    }
}

/// To compare which names are one inode: the order of positions is one of paths, so the same names have the same
/// first one.
struct Counterparts<'a> {
    index: &'a Index,
    base: &'a Index,
    /// For the first names of inodes of `base`, the position of the same path in `index`.
    of_firsts: HashMap<u32, u32>,
}

impl<'a> Counterparts<'a> {
    fn new(index: &'a Index, base: &'a Index, pairs: &[Pair]) -> Self {
        let pairs = if base.inodes.is_empty() { &[] } else { pairs };
        let both = pairs.iter().filter_map(|&(new, old)| Some((old?, new?)));
        let of_firsts = both.filter(|&(old, _)| base.inodes.first(old) == Some(old)).collect();
        Self { index, base, of_firsts }
    }

    /// Whether the nodes of a pair are one inode with the same other names.
    fn have_same_names(&self, new: Option<u32>, old: Option<u32>) -> bool {
        let new = new.and_then(|at| self.index.inodes.first(at));
        match (new, old.and_then(|at| self.base.inodes.first(at))) {
            (None, None) => true,
            (Some(new), Some(old)) => self.of_firsts.get(&old) == Some(&new),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

type Pair = (Option<u32>, Option<u32>);

/// The positions of all paths that one of the two has.
fn pair(index: &Index, base: &Index) -> Vec<Pair> {
    let mut pairs = Vec::with_capacity(index.nodes.len());
    pairs.push((Some(0), Some(0)));
    let mut done = 0;
    while let Some(&(new, old)) = pairs.get(done) {
        done += 1;
        let new = new.and_then(|at: u32| index.nodes.get(at as usize));
        let old = old.and_then(|at: u32| base.nodes.get(at as usize));
        pair_children(index, new, base, old, &mut pairs);
    }
    pairs
}

fn pair_children(
    index: &Index,
    new: Option<&NodeRecord>,
    base: &Index,
    old: Option<&NodeRecord>,
    pairs: &mut Vec<Pair>,
) {
    let range = |node: Option<&NodeRecord>| match node {
        Some(node) if node.format() == FORMAT_DIRECTORY => node.first..node.first + node.count,
        _ => 0..0,
    };
    let (mut news, mut olds) = (range(new).peekable(), range(old).peekable());
    loop {
        let order = match (news.peek(), olds.peek()) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(&new), Some(&old)) => {
                index.name(&index.nodes[new as usize]).cmp(base.name(&base.nodes[old as usize]))
            }
        };
        pairs.push(match order {
            std::cmp::Ordering::Less => (news.next(), None),
            std::cmp::Ordering::Greater => (None, olds.next()),
            std::cmp::Ordering::Equal => (news.next(), olds.next()),
        });
    }
}
