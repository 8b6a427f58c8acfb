//! Which box fetches what. Pure.

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use crate::tree::{GeneratedTree, Restriction};

/// How many of the largest distfiles are always among the shared ones.
const LARGEST: usize = 5;

/// Which box fetches what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shopping {
    /// What all boxes fetch.
    pub shared: Vec<String>,
    private: Vec<Vec<String>>,
    seed: u64,
}

/// Picks `shared` distfiles for all and `private` more for each of `boxes`: some of the largest, all kinds
/// of names, files that mirrors don't carry, none that nobody may fetch.
#[must_use]
pub fn shop(tree: &GeneratedTree, boxes: usize, shared: usize, private: usize, seed: u64) -> Shopping {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut files: Vec<_> = tree.distfiles.iter().filter(|f| f.restriction != Restriction::Fetch).collect();
    files.sort_by_key(|file| std::cmp::Reverse(file.size_bytes));
    let large = LARGEST.min(shared).min(files.len());
    files[large..].shuffle(&mut rng);
    let mut names = files.into_iter().map(|file| file.name.clone());
    let shared = names.by_ref().take(shared).collect();
    let private = (0..boxes).map(|_| names.by_ref().take(private).collect()).collect();
    Shopping { shared, private, seed }
}

impl Shopping {
    /// What box `number` fetches, in its own order: boxes meet at some files and miss each other at
    /// others. All begin with the same one, the largest.
    #[must_use]
    pub fn of_box(&self, number: usize) -> Vec<String> {
        let mut list = self.shared.clone();
        list.extend(self.private.get(number).into_iter().flatten().cloned());
        if let Some(rest) = list.get_mut(1..) {
            rest.shuffle(&mut StdRng::seed_from_u64(self.seed.wrapping_add(number as u64)));
        }
        list
    }

    /// Every distfile that anybody fetches, once.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        self.shared.iter().chain(self.private.iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn private_sets_are_disjoint_and_restricted_files_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let spec = crate::tree::TreeSpec {
            packages: 100,
            size_max_bytes: 10_000,
            ..crate::tree::TreeSpec::default()
        };
        let tree = crate::tree::generate(&spec, dir.path()).unwrap();
        let shopping = shop(&tree, 7, 20, 3, 1);
        assert_eq!(shopping, shop(&tree, 7, 20, 3, 1));
        let all: Vec<_> = shopping.all().collect();
        assert_eq!(all.len(), 20 + 7 * 3);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "none twice");
        assert!(all.iter().all(|name| tree.distfile(name).unwrap().restriction != Restriction::Fetch));
        let (one, two) = (shopping.of_box(0), shopping.of_box(1));
        assert_eq!((one.len(), &one[0]), (23, &two[0]));
        assert_ne!(one[1..20], two[1..20]);
    }

    #[test]
    fn a_tree_with_too_few_files_gives_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let spec = crate::tree::TreeSpec { packages: 3, ..crate::tree::TreeSpec::default() };
        let tree = crate::tree::generate(&spec, dir.path()).unwrap();
        let shopping = shop(&tree, 7, 1_000, 10, 1);
        assert!(shopping.all().count() <= tree.distfiles.len());
    }
}
