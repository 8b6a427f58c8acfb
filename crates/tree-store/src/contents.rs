//! The contents that a generation under construction refers to: each stored once.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use blake2::{Blake2b512, Digest as _};

use crate::TreeError;
use crate::generation::Generation;
use crate::index::{ContentRecord, PackRecord};
use crate::lend::{Adopt, Adopted, Lenders};
use crate::name::ContentDigest;
use crate::pack::{HEAD_BYTES, Pack, PackWriter};

/// Position of [`Contents::records`]' pack that is being written, until it is known whether it will exist.
const NEW_PACK: u32 = u32::MAX;

/// More packs than this and the smallest are folded into the new one: each is an open file. Those that another module
/// needs as well are bounded there.
const PACKS_MAX: usize = 24;

const COPY_BYTES: usize = 256 << 10;

/// A pack that records may refer to, and how long it must be at least.
type Old = (Arc<Pack>, u64);

/// Contents of the generation before, of other modules, and new ones in a new pack.
pub(crate) struct Contents<'a> {
    base: Option<Generation>,
    /// Digest prefix → content of `base`.
    base_by_prefix: HashMap<u64, u32>,
    /// Content of `base` → ours.
    taken: Vec<Option<u32>>,
    lenders: Lenders<'a>,
    adopt: &'a Adopt<'a>,
    /// The packs of `base`, then those adopted.
    old: Vec<Old>,
    adopted: Vec<Adopted>,
    records: Vec<ContentRecord>,
    /// Digest prefix → content of ours that `base` did not have.
    new_by_prefix: HashMap<u64, u32>,
    pack: PackWriter,
}

impl<'a> Contents<'a> {
    /// `others` are generations of other modules, whose contents need not be stored once more; `adopt` gives this
    /// module a name of its own for one of their packs.
    pub(crate) fn new(
        base: Option<&Generation>,
        others: &'a [Generation],
        adopt: &'a Adopt<'a>,
        pack: PackWriter,
    ) -> Self {
        let contents = base.map_or(&[][..], |base| base.index().contents.as_slice());
        let numbered = (0_u32..).zip(contents);
        let packs = base.iter().flat_map(|base| base.inner().packs.iter().zip(&base.index().packs));
        Self {
            base: base.cloned(),
            base_by_prefix: numbered.map(|(at, content)| (content.digest.prefix(), at)).collect(),
            taken: vec![None; contents.len()],
            lenders: Lenders::new(others),
            adopt,
            old: packs.map(|(pack, record)| (Arc::clone(pack), record.length)).collect(),
            adopted: Vec::new(),
            records: Vec::with_capacity(contents.len()),
            new_by_prefix: HashMap::new(),
            pack,
        }
    }

    /// Takes over a content of the generation before.
    pub(crate) fn take(&mut self, base_content: u32) -> Option<u32> {
        let record = *self.base.as_ref()?.index().contents.get(base_content as usize)?;
        let slot = self.taken.get_mut(base_content as usize)?;
        if slot.is_none() {
            *slot = Some(u32::try_from(self.records.len()).ok()?);
            self.records.push(record);
        }
        *slot
    }

    /// What is known of this digest, taken over if need be.
    fn find(&mut self, digest: &ContentDigest) -> Result<Option<u32>, TreeError> {
        if let Some(&at) = self.new_by_prefix.get(&digest.prefix())
            && self.records.get(at as usize).is_some_and(|record| record.digest == *digest)
        {
            return Ok(Some(at));
        }
        if let Some(at) = self.find_in_base(digest) {
            return Ok(self.take(at));
        }
        match self.borrow(digest) {
            Some(record) => self.push(record).map(Some),
            None => Ok(None),
        }
    }

    fn find_in_base(&self, digest: &ContentDigest) -> Option<u32> {
        let at = *self.base_by_prefix.get(&digest.prefix())?;
        let found = self.base.as_ref()?.index().contents.get(at as usize)?.digest;
        (found == *digest).then_some(at)
    }

    /// A content of another module, in a pack that from now on is ours as well.
    fn borrow(&mut self, digest: &ContentDigest) -> Option<ContentRecord> {
        let (pack, length, record) = self.lenders.find(digest)?;
        let known = self.old.iter().position(|(old, _)| old.identity() == pack.identity());
        let at = match known {
            Some(at) => at,
            None => match (self.adopt)(pack) {
                Ok(adopted) => {
                    self.old.push((Arc::clone(&adopted.pack), length));
                    self.adopted.push(adopted);
                    self.old.len() - 1
                }
                Err(error) => {
                    // Perhaps on another file system: then this module has a copy of its own.
                    tracing::info!(%error, "contents of another module are stored again");
                    self.lenders.forgo();
                    return None;
                }
            },
        };
        Some(ContentRecord { pack: u32::try_from(at).ok()?, ..record })
    }

    /// Stores a content that is in memory, unless it is known.
    pub(crate) fn store(&mut self, digest: ContentDigest, octets: &[u8]) -> Result<u32, TreeError> {
        if let Some(known) = self.find(&digest)? {
            return Ok(known);
        }
        let offset = self.pack.length();
        self.pack.append(octets)?;
        self.push_new(digest, offset)
    }

    /// Stores a content too large for memory by copying it; takes it back if it turns out to be known.
    pub(crate) fn store_stream(
        &mut self,
        file: &mut File,
        path: &Path,
        buffer: &mut [u8],
    ) -> Result<(u32, u64), TreeError> {
        let offset = self.pack.length();
        let mut hasher = Blake2b512::new();
        loop {
            match file.read(buffer) {
                Ok(0) => break,
                Ok(read) => {
                    hasher.update(&buffer[..read]);
                    self.pack.append(&buffer[..read])?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TreeError::source(path, "read")(error)),
            }
        }
        let digest = ContentDigest::new(hasher.finalize().into());
        let length = self.pack.length() - offset;
        if let Some(known) = self.find(&digest)? {
            self.pack.truncate(offset)?;
            return Ok((known, length));
        }
        Ok((self.push_new(digest, offset)?, length))
    }

    fn push_new(&mut self, digest: ContentDigest, offset: u64) -> Result<u32, TreeError> {
        let length = self.pack.length() - offset;
        self.push(ContentRecord { digest, pack: NEW_PACK, offset, length })
    }

    fn push(&mut self, record: ContentRecord) -> Result<u32, TreeError> {
        let at = u32::try_from(self.records.len()).map_err(|_| TreeError::TooLarge {
            path: self.pack.path().to_owned(),
            limit: "more contents than a generation holds",
        })?;
        self.records.push(record);
        self.new_by_prefix.insert(record.digest.prefix(), at);
        Ok(at)
    }

    /// The packs that are referred to, the contents in them, and the writer of the new pack, which is to be
    /// dropped if it is empty. Copies what lies in packs that are to go.
    pub(crate) fn finish(
        mut self,
        final_path: impl FnOnce(u32) -> std::path::PathBuf,
    ) -> Result<Packed, TreeError> {
        let usage: Vec<Usage> = self.usage();
        self.fold(&plan_folding(&usage))?;

        let mut used = vec![false; self.old.len()];
        for record in self.records.iter().filter(|record| record.pack != NEW_PACK) {
            used[record.pack as usize] = true;
        }
        let mut packed = Packed {
            packs: Vec::new(),
            pack_records: Vec::new(),
            records: Vec::new(),
            writer: self.pack,
            adopted: self.adopted,
        };
        let mut position = vec![NEW_PACK; self.old.len()];
        for (at, (pack, length)) in self.old.iter().enumerate().filter(|(at, _)| used[*at]) {
            position[at] = packed.push(Arc::clone(pack), *length);
        }
        packed.adopted.retain(|adopted| packed.packs.iter().any(|pack| Arc::ptr_eq(pack, &adopted.pack)));
        let new_position = if packed.writer.is_empty() {
            NEW_PACK
        } else {
            let path = final_path(packed.writer.id());
            let reader = packed.writer.reader(path)?;
            let length = packed.writer.length();
            packed.push(Arc::new(reader), length)
        };
        for record in &mut self.records {
            record.pack = if record.pack == NEW_PACK { new_position } else { position[record.pack as usize] };
        }
        // It stays as long as the generation does.
        self.records.shrink_to_fit();
        packed.records = self.records;
        Ok(packed)
    }

    /// How much of each old pack is referred to, by this module or another.
    fn usage(&self) -> Vec<Usage> {
        let mut usage: Vec<Usage> =
            self.old.iter().map(|(_, length)| Usage { length: *length, ..Usage::default() }).collect();
        for record in self.records.iter().filter(|record| record.pack != NEW_PACK) {
            usage[record.pack as usize].own += record.length;
        }
        for (usage, (at, (pack, _))) in usage.iter_mut().zip((0_u32..).zip(&self.old)) {
            let own = || self.records.iter().filter(move |record| record.pack == at);
            usage.others = self.lenders.needed_besides(pack, own);
        }
        usage
    }

    fn fold(&mut self, folded: &[bool]) -> Result<(), TreeError> {
        let mut buffer = vec![0; COPY_BYTES];
        let going = self.old.iter().zip(folded).filter(|(_, folded)| **folded);
        self.lenders.except(going.map(|((pack, _), _)| pack.identity()));
        for at in 0..self.records.len() {
            let record = self.records[at];
            if record.pack == NEW_PACK || !folded.get(record.pack as usize).copied().unwrap_or_default() {
                continue;
            }
            if let Some(elsewhere) = self.borrow(&record.digest) {
                self.records[at] = elsewhere;
                continue;
            }
            let pack = Arc::clone(&self.old[record.pack as usize].0);
            let offset = self.pack.length();
            let mut hasher = Blake2b512::new();
            let mut done = 0;
            while done < record.length {
                let wanted = buffer.len().min(usize::try_from(record.length - done).unwrap_or(usize::MAX));
                pack.read_exact_at(record.offset + done, &mut buffer[..wanted])
                    .map_err(TreeError::store(pack.path(), "read"))?;
                hasher.update(&buffer[..wanted]);
                self.pack.append(&buffer[..wanted])?;
                done += wanted as u64;
            }
            if ContentDigest::new(hasher.finalize().into()) != record.digest {
                return Err(TreeError::Damaged { path: pack.path().to_owned(), why: "a content's digest" });
            }
            self.records[at] = ContentRecord { pack: NEW_PACK, offset, ..record };
        }
        Ok(())
    }
}

/// How much of a pack is needed.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    /// Octets that the new generation refers to.
    own: u64,
    /// Octets beyond those that live generations of other modules refer to; `None` if they have nothing to do with
    /// the pack.
    others: Option<u64>,
    /// Of the whole pack.
    length: u64,
}

/// Which packs' contents move into the new one: those of which less than half is still referred to by any module, and
/// the smallest beyond the number of packs that a generation may have open. A pack that another module needs stays
/// where it is otherwise: the space would not be freed.
fn plan_folding(usage: &[Usage]) -> Vec<bool> {
    let is_mostly_dead =
        |usage: &Usage| usage.own + usage.others.unwrap_or(0) < usage.length.saturating_sub(HEAD_BYTES) / 2;
    let mut folded: Vec<bool> = usage.iter().map(is_mostly_dead).collect();
    let mut staying: Vec<usize> =
        (0..usage.len()).filter(|&at| !folded[at] && usage[at].others.is_none()).collect();
    if staying.len() > PACKS_MAX {
        staying.sort_unstable_by_key(|&at| usage[at].own);
        let going = staying.len() - PACKS_MAX / 2;
        for &at in &staying[..going] {
            folded[at] = true;
        }
    }
    folded
}

/// What [`Contents::finish`] makes.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) packs: Vec<Arc<Pack>>,
    pub(crate) pack_records: Vec<PackRecord>,
    pub(crate) records: Vec<ContentRecord>,
    pub(crate) writer: PackWriter,
    /// Those of `packs` that still have to get their names.
    pub(crate) adopted: Vec<Adopted>,
}

impl Packed {
    fn push(&mut self, pack: Arc<Pack>, length: u64) -> u32 {
        let at = u32::try_from(self.packs.len()).unwrap_or(NEW_PACK);
        self.pack_records.push(PackRecord { id: pack.id(), length });
        self.packs.push(pack);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(own: u64, length: u64) -> Usage {
        Usage { own, others: None, length: length + HEAD_BYTES }
    }

    #[test]
    fn mostly_dead_and_surplus_packs_are_folded() {
        assert_eq!(plan_folding(&[usage(40, 100), usage(80, 100)]), [true, false]);
        assert_eq!(plan_folding(&[]), [false; 0]);
        let many: Vec<_> = (100..130).map(|length| usage(length, length)).collect();
        let folded = plan_folding(&many);
        assert_eq!(folded.iter().filter(|folded| **folded).count(), 18);
        assert!(folded[0] && !folded[29], "the smallest go");
    }

    #[test]
    fn a_pack_that_others_need_is_folded_only_if_it_is_mostly_dead_for_all() {
        let with = |others| Usage { others: Some(others), ..usage(10, 100) };
        assert_eq!(plan_folding(&[with(39), with(40)]), [true, false]);
        let many: Vec<_> = (0..30).map(|_| with(90)).collect();
        assert!(!plan_folding(&many).contains(&true), "they are bounded where they come from");
    }
}
