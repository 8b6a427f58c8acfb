//! Which names of a tree are one inode. Only inodes that have several names in the tree are kept: a name outside it, or
//! one that is left out of it, says nothing to anybody who has the tree.

use std::collections::HashMap;
use std::hash::Hash;

/// A node that is not the only name of its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shared {
    /// Its position in the index.
    pub(crate) node: u32,
    /// The lowest position of the inode's names, which stands for all of them.
    pub(crate) first: u32,
}

/// All of them, by position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inodes(Vec<Shared>);

impl Inodes {
    /// From positions in rising order, each with what is the same for names of one inode.
    pub(crate) fn of<K: Hash + Eq>(names: impl Iterator<Item = (u32, K)>) -> Self {
        let mut firsts = HashMap::new();
        let shared = names.map(|(node, inode)| Shared { node, first: *firsts.entry(inode).or_insert(node) });
        Self(without_single(shared.collect()))
    }

    /// What was read, to be checked against its index.
    pub(crate) fn read(shared: Vec<Shared>) -> Self {
        Self(shared)
    }

    pub(crate) fn as_slice(&self) -> &[Shared] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first name of the inode that a node is one of several names of.
    pub(crate) fn first(&self, node: u32) -> Option<u32> {
        let at = self.0.binary_search_by_key(&node, |shared| shared.node).ok()?;
        self.0.get(at).map(|shared| shared.first)
    }

    /// The same, where one node is an inode of its own.
    pub(crate) fn without(&self, node: u32) -> Self {
        let rest = self.0.iter().filter(|shared| shared.node != node);
        Self::of(rest.map(|shared| (shared.node, shared.first)))
    }

    /// Whether each inode has its names in order, the first one first, and at least two.
    pub(crate) fn is_sound(&self) -> bool {
        let rising = self.0.is_sorted_by(|one, next| one.node < next.node);
        let mut names = HashMap::new();
        rising
            && self.0.iter().all(|&Shared { node, first }| {
                // Its first name comes before the others, so it has been seen.
                let count = names.entry(first).or_insert(0_u32);
                *count += 1;
                (*count == 1) == (node == first)
            })
            && names.values().all(|count| *count > 1)
    }
}

fn without_single(mut shared: Vec<Shared>) -> Vec<Shared> {
    let mut names = HashMap::new();
    for shared in &shared {
        *names.entry(shared.first).or_insert(0_u32) += 1;
    }
    shared.retain(|shared| names.get(&shared.first).is_some_and(|count| *count > 1));
    shared.shrink_to_fit();
    shared
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[(u32, char)]) -> Inodes {
        Inodes::of(names.iter().copied())
    }

    #[test]
    fn only_inodes_with_several_names_are_kept() {
        let inodes = of(&[(1, 'a'), (2, 'b'), (4, 'a'), (7, 'c'), (8, 'b'), (9, 'a')]);
        let firsts = [1, 2, 4, 7, 8, 9].map(|node| inodes.first(node));
        assert_eq!(firsts, [Some(1), Some(2), Some(1), None, Some(2), Some(1)]);
        assert!(inodes.is_sound());
        assert!(of(&[(1, 'a'), (2, 'b')]).is_empty());
    }

    #[test]
    fn a_name_that_becomes_another_file_leaves_the_others_together() {
        let inodes = of(&[(1, 'a'), (2, 'b'), (4, 'a'), (8, 'b'), (9, 'a')]);
        let without_first = inodes.without(1);
        assert_eq!([1, 4, 9].map(|node| without_first.first(node)), [None, Some(4), Some(4)]);
        let without_one_of_two = inodes.without(8);
        assert_eq!([2, 8].map(|node| without_one_of_two.first(node)), [None, None]);
        assert_eq!(inodes.without(3), inodes);
    }

    #[test]
    fn what_no_tree_can_be_is_not_sound() {
        let sound = |shared: &[(u32, u32)]| {
            let shared = shared.iter().map(|&(node, first)| Shared { node, first });
            Inodes::read(shared.collect()).is_sound()
        };
        assert!(sound(&[]) && sound(&[(1, 1), (2, 1)]) && sound(&[(1, 1), (2, 2), (3, 2), (4, 1)]));
        for shared in [
            &[(1, 1)][..],
            &[(1, 2), (2, 2)],
            &[(2, 1), (3, 1)],
            &[(2, 2), (1, 2)],
            &[(1, 1), (1, 1)],
            &[(1, 1), (2, 1), (3, 2)],
        ] {
            assert!(!sound(shared), "{shared:?}");
        }
    }
}
