//! What the directory holds, in memory: filled when the store is opened, kept equal to the disk after.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::SystemTime;

use gentoo_repo::DistfileName;

use crate::digest::BlobDigest;
use crate::kept::Kept;
use crate::layout::Scope;
use crate::reader::Hold;

/// One blob, for the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its name in every store.
    pub digest: BlobDigest,
    /// Its length.
    pub size_bytes: u64,
    /// The distfile names that lead to it, each once.
    pub names: Vec<DistfileName>,
    /// When a client last asked for it; `None` for never.
    pub last_access: Option<SystemTime>,
}

#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) size_bytes: u64,
    pub(crate) names: BTreeSet<(Scope, DistfileName)>,
    pub(crate) last_access: Option<SystemTime>,
    /// The access time that the disk knows: it is written at most once a minute.
    pub(crate) saved_access: Option<SystemTime>,
    pub(crate) hold: Hold,
    pub(crate) kept: Option<Kept>,
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) blobs: HashMap<BlobDigest, Entry>,
    names: HashMap<Scope, HashMap<DistfileName, BlobDigest>>,
    pub(crate) blob_bytes: u64,
    /// Parts being written: what each may grow to.
    pub(crate) open_parts: HashMap<String, u64>,
    /// Parts that nobody writes: their length.
    pub(crate) parked_parts: BTreeMap<String, u64>,
    /// Blobs whose files are kept open, the oldest first; some may be closed already.
    pub(crate) kept_order: VecDeque<BlobDigest>,
}

impl Index {
    pub(crate) fn insert_blob(&mut self, digest: BlobDigest, entry: Entry) {
        self.blob_bytes += entry.size_bytes;
        if let Some(old) = self.blobs.insert(digest, entry) {
            self.blob_bytes -= old.size_bytes;
        }
    }

    /// Forgets a blob and its names.
    pub(crate) fn remove_blob(&mut self, digest: &BlobDigest) -> Option<Entry> {
        let entry = self.blobs.remove(digest)?;
        self.blob_bytes -= entry.size_bytes;
        for (scope, name) in &entry.names {
            if let Some(of_scope) = self.names.get_mut(scope) {
                of_scope.remove(name);
            }
        }
        Some(entry)
    }

    /// Points a name at a blob that is here; it leads nowhere else any more.
    pub(crate) fn insert_name(&mut self, scope: Scope, name: DistfileName, digest: BlobDigest) {
        let key = (scope, name);
        let of_scope = self.names.entry(key.0.clone()).or_default();
        if let Some(old) = of_scope.insert(key.1.clone(), digest)
            && let Some(entry) = self.blobs.get_mut(&old)
        {
            entry.names.remove(&key);
        }
        if let Some(entry) = self.blobs.get_mut(&digest) {
            entry.names.insert(key);
        }
    }

    pub(crate) fn name(&self, scope: &Scope, name: &DistfileName) -> Option<BlobDigest> {
        self.names.get(scope)?.get(name).copied()
    }

    /// Everything that takes room now, or was promised room.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.blob_bytes + self.open_parts.values().sum::<u64>() + self.parked_parts.values().sum::<u64>()
    }

    pub(crate) fn info(&self, digest: &BlobDigest) -> Option<BlobInfo> {
        let entry = self.blobs.get(digest)?;
        let names: BTreeSet<_> = entry.names.iter().map(|(_, name)| name.clone()).collect();
        Some(BlobInfo {
            digest: *digest,
            size_bytes: entry.size_bytes,
            names: names.into_iter().collect(),
            last_access: entry.last_access,
        })
    }
}
