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
use crate::name::ContentDigest;
use crate::pack::{HEAD_BYTES, Pack, PackWriter};

/// Position of [`Contents::records`]' pack that is being written, until it is known whether it will exist.
const NEW_PACK: u32 = u32::MAX;

/// More packs than this and the smallest are folded into the new one: each is an open file.
const PACKS_MAX: usize = 24;

const COPY_BYTES: usize = 256 << 10;

/// Contents of the generation before, and new ones in a new pack.
#[derive(Debug)]
pub(crate) struct Contents {
    base: Option<Generation>,
    /// Digest prefix → content of `base`.
    base_by_prefix: HashMap<u64, u32>,
    /// Content of `base` → ours.
    taken: Vec<Option<u32>>,
    records: Vec<ContentRecord>,
    /// Digest prefix → content of ours in the new pack.
    new_by_prefix: HashMap<u64, u32>,
    pack: PackWriter,
}

impl Contents {
    pub(crate) fn new(base: Option<&Generation>, pack: PackWriter) -> Self {
        let contents = base.map_or(&[][..], |base| base.index().contents.as_slice());
        let numbered = (0_u32..).zip(contents);
        Self {
            base: base.cloned(),
            base_by_prefix: numbered.map(|(at, content)| (content.digest.prefix(), at)).collect(),
            taken: vec![None; contents.len()],
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
    fn find(&mut self, digest: &ContentDigest) -> Option<u32> {
        if let Some(&at) = self.new_by_prefix.get(&digest.prefix())
            && self.records.get(at as usize).is_some_and(|record| record.digest == *digest)
        {
            return Some(at);
        }
        let at = *self.base_by_prefix.get(&digest.prefix())?;
        let found = self.base.as_ref()?.index().contents.get(at as usize)?.digest;
        if found == *digest { self.take(at) } else { None }
    }

    /// Stores a content that is in memory, unless it is known.
    pub(crate) fn store(&mut self, digest: ContentDigest, octets: &[u8]) -> Result<u32, TreeError> {
        if let Some(known) = self.find(&digest) {
            return Ok(known);
        }
        let offset = self.pack.length();
        self.pack.append(octets)?;
        self.push(digest, offset)
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
        if let Some(known) = self.find(&digest) {
            self.pack.truncate(offset)?;
            return Ok((known, length));
        }
        Ok((self.push(digest, offset)?, length))
    }

    fn push(&mut self, digest: ContentDigest, offset: u64) -> Result<u32, TreeError> {
        let at = u32::try_from(self.records.len()).map_err(|_| TreeError::TooLarge {
            path: self.pack.path().to_owned(),
            limit: "more contents than a generation holds",
        })?;
        let length = self.pack.length() - offset;
        self.records.push(ContentRecord { digest, pack: NEW_PACK, offset, length });
        self.new_by_prefix.insert(digest.prefix(), at);
        Ok(at)
    }

    /// The packs that are referred to, the contents in them, and the writer of the new pack, which is to be
    /// dropped if it is empty. Copies what lies in packs that are to go.
    pub(crate) fn finish(
        mut self,
        final_path: impl FnOnce(u32) -> std::path::PathBuf,
    ) -> Result<Packed, TreeError> {
        let base = self.base.take();
        let old: &[Arc<Pack>] = base.as_ref().map_or(&[], |base| &base.inner().packs);
        let lengths: Vec<u64> =
            base.as_ref().map_or_else(Vec::new, |base| base.index().packs.iter().map(|p| p.length).collect());
        let folded = plan_folding(&self.records, &lengths);
        self.fold(old, &folded)?;

        let mut used = vec![false; old.len()];
        for record in self.records.iter().filter(|record| record.pack != NEW_PACK) {
            used[record.pack as usize] = true;
        }
        let mut packed =
            Packed { packs: Vec::new(), pack_records: Vec::new(), records: Vec::new(), writer: self.pack };
        let mut position = vec![NEW_PACK; old.len()];
        for (at, pack) in old.iter().enumerate().filter(|(at, _)| used[*at]) {
            position[at] = packed.push(Arc::clone(pack), lengths[at]);
        }
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

    fn fold(&mut self, old: &[Arc<Pack>], folded: &[bool]) -> Result<(), TreeError> {
        let mut buffer = vec![0; COPY_BYTES];
        for at in 0..self.records.len() {
            let record = self.records[at];
            if record.pack == NEW_PACK || !folded[record.pack as usize] {
                continue;
            }
            let pack = &old[record.pack as usize];
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

/// Which packs' contents move into the new one: those of which less than half is still referred to, and
/// the smallest beyond the number of packs that a generation may have open.
fn plan_folding(records: &[ContentRecord], lengths: &[u64]) -> Vec<bool> {
    let mut live = vec![0_u64; lengths.len()];
    for record in records.iter().filter(|record| record.pack != NEW_PACK) {
        live[record.pack as usize] += record.length;
    }
    let mut folded: Vec<bool> = live
        .iter()
        .zip(lengths)
        .map(|(live, length)| *live < length.saturating_sub(HEAD_BYTES) / 2)
        .collect();
    let mut staying: Vec<usize> = (0..lengths.len()).filter(|&at| !folded[at]).collect();
    if staying.len() > PACKS_MAX {
        staying.sort_unstable_by_key(|&at| live[at]);
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

    fn record(pack: u32, length: u64) -> ContentRecord {
        ContentRecord { digest: ContentDigest::new([0; 64]), pack, offset: 0, length }
    }

    #[test]
    fn mostly_dead_and_surplus_packs_are_folded() {
        assert_eq!(plan_folding(&[record(0, 40), record(1, 80)], &[116, 116]), [true, false]);
        assert_eq!(plan_folding(&[record(NEW_PACK, 40)], &[]), [false; 0]);
        let many: Vec<_> = (0..30).map(|pack| record(pack, 100 + u64::from(pack))).collect();
        let lengths: Vec<_> = many.iter().map(|record| record.length + HEAD_BYTES).collect();
        let folded = plan_folding(&many, &lengths);
        assert_eq!(folded.iter().filter(|folded| **folded).count(), 18);
        assert!(folded[0] && !folded[29], "the smallest go");
    }
}
