//! Contents that another module has on disk already.
//!
//! A module that needs one *adopts* the pack that it lies in: the pack's file gets a second name, in the module's own
//! directory. So every module's directory is whole by itself, each module collects only names of its own, and the
//! space is free when the last name is gone; nothing has to know who else needs what.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::TreeError;
use crate::generation::Generation;
use crate::index::ContentRecord;
use crate::name::ContentDigest;
use crate::pack::{Identity, Pack};
use crate::store::Sweep;

/// Gives this module a name, still a temporary one, for another module's pack.
pub(crate) type Adopt<'a> = dyn Fn(&Pack) -> Result<Adopted, TreeError> + Sync + 'a;

/// A pack of another module under its new id.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) pack: Arc<Pack>,
    /// Removes the temporary name if nothing comes of it.
    pub(crate) temporary: Sweep,
}

/// Live generations of other modules.
pub(crate) struct Lenders<'a> {
    others: &'a [Generation],
    /// Packs that nothing is borrowed from.
    except: HashSet<Identity>,
    /// Digest prefix → generation and content; filled when the first one is asked for.
    by_prefix: Option<HashMap<u64, (u32, u32)>>,
}

impl<'a> Lenders<'a> {
    pub(crate) fn new(others: &'a [Generation]) -> Self {
        Self { others, except: HashSet::new(), by_prefix: None }
    }

    /// Asks nobody any more.
    pub(crate) fn forgo(&mut self) {
        (self.others, self.by_prefix) = (&[], None);
    }

    /// Borrows nothing from these packs any more.
    pub(crate) fn except(&mut self, packs: impl Iterator<Item = Identity>) {
        self.except.extend(packs);
        self.by_prefix = None;
    }

    /// Where a content lies, with its pack and the length that is known of the pack.
    pub(crate) fn find(&mut self, digest: &ContentDigest) -> Option<(&'a Arc<Pack>, u64, ContentRecord)> {
        let (others, except) = (self.others, &self.except);
        let by_prefix = self.by_prefix.get_or_insert_with(|| map_by_prefix(others, except));
        let &(lender, at) = by_prefix.get(&digest.prefix())?;
        let generation = others.get(lender as usize)?;
        let record = *generation.index().contents.get(at as usize)?;
        let pack = generation.inner().packs.get(record.pack as usize)?;
        let length = generation.index().packs.get(record.pack as usize)?.length;
        (record.digest == *digest).then_some((pack, length, record))
    }

    /// How many octets of a pack the others need beyond what `own` refers to; `None` if none of them has it.
    pub(crate) fn needed_besides<'r, R: Iterator<Item = &'r ContentRecord>>(
        &self,
        pack: &Pack,
        own: impl FnOnce() -> R,
    ) -> Option<u64> {
        let holders: Vec<_> = self
            .others
            .iter()
            .filter_map(|other| {
                let mut packs = (0_u32..).zip(&other.inner().packs);
                let (at, _) = packs.find(|(_, theirs)| theirs.identity() == pack.identity())?;
                Some((other, at))
            })
            .collect();
        if holders.is_empty() {
            return None;
        }
        let mut counted: HashSet<(u64, u64)> = own().map(|record| (record.offset, record.length)).collect();
        let theirs = holders
            .into_iter()
            .flat_map(|(other, at)| other.index().contents.iter().filter(move |record| record.pack == at));
        Some(theirs.filter(|record| counted.insert((record.offset, record.length))).map(|r| r.length).sum())
    }
}

fn map_by_prefix(others: &[Generation], except: &HashSet<Identity>) -> HashMap<u64, (u32, u32)> {
    let mut by_prefix = HashMap::new();
    for (lender, generation) in (0..).zip(others) {
        let lends: Vec<bool> =
            generation.inner().packs.iter().map(|pack| !except.contains(&pack.identity())).collect();
        let contents = (0..).zip(&generation.index().contents);
        let lent = contents.filter(|(_, content)| lends.get(content.pack as usize) == Some(&true));
        by_prefix.extend(lent.map(|(at, content)| (content.digest.prefix(), (lender, at))));
    }
    by_prefix
}
