//! Whose a tree's nodes are: each pair of user and group once, because most trees are one user's.

use std::collections::HashMap;

/// A user and a group, as numbers: the host that they are of gives them names, and may change them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The owners of a tree in the making.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    all: Vec<Owner>,
    positions: HashMap<Owner, u32>,
    /// Neighbours mostly have one owner.
    last: Option<(Owner, u32)>,
}

impl Owners {
    /// The position of an owner in what [`Self::finish`] gives.
    pub(crate) fn position(&mut self, owner: Owner) -> u32 {
        if let Some((_, position)) = self.last.filter(|(last, _)| *last == owner) {
            return position;
        }
        let next = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        let position = *self.positions.entry(owner).or_insert(next);
        if position == next {
            self.all.push(owner);
        }
        self.last = Some((owner, position));
        position
    }

    pub(crate) fn finish(self) -> Vec<Owner> {
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_owner_is_there_once() {
        let of = |uid, gid| Owner { uid, gid };
        let mut owners = Owners::default();
        let positions =
            [of(0, 0), of(0, 0), of(0, 7), of(7, 0), of(0, 0)].map(|owner| owners.position(owner));
        assert_eq!(positions, [0, 0, 1, 2, 0]);
        assert_eq!(owners.finish(), [of(0, 0), of(0, 7), of(7, 0)]);
    }
}
