//! A download in progress: one writer, any number of readers that follow it.

use std::fs::{File, FileTimes};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::digest::BlobDigest;
use crate::error::{FinishError, StoreError};
use crate::expected::Expected;
use crate::hashers::Hashers;
use crate::inner::Inner;
use crate::layout::Scope;
use crate::quarantine;
use crate::reader::{Hold, InMemory, OpenBlob};

/// How far a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that can be read.
    pub bytes: u64,
    /// Whether they are known to be right.
    pub state: PartState,
}

/// Whether a part's bytes are known to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartState {
    /// Not yet: some are missing.
    Growing,
    /// Length and digests are those that were listed.
    Right,
    /// They are not.
    Wrong,
}

/// The readable side of a part. It stays readable after the part became a blob, or was given up.
#[derive(Debug, Clone)]
pub struct PartReader {
    contents: OpenBlob,
    progress: watch::Receiver<Progress>,
}

impl PartReader {
    /// The file; only [`Progress::bytes`] of it can be read.
    #[must_use]
    pub fn contents(&self) -> &OpenBlob {
        &self.contents
    }

    /// Follows the writer. The sender is gone when the writer is: then nothing more will come.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }
}

/// A part and the exclusive right to write it. Dropped unfinished, it stays on disk to be resumed.
pub struct Part {
    store: Arc<Inner>,
    key: String,
    expected: Expected,
    hashers: Hashers,
    contents: OpenBlob,
    progress: watch::Sender<Progress>,
    resumed_bytes: u64,
    /// Once nothing is missing.
    verdict: Option<Verdict>,
    parked: bool,
}

/// The blob that a part's bytes are, or the digest that differs.
type Verdict = Result<BlobDigest, &'static str>;

/// A part that became a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its name in every store.
    pub digest: BlobDigest,
    /// Its length.
    pub size_bytes: u64,
}

impl Part {
    pub(crate) fn new(store: Arc<Inner>, key: String, expected: Expected, file: File) -> Self {
        let hashers = Hashers::new(expected.digests());
        let contents = OpenBlob {
            file: Arc::new(file),
            size_bytes: expected.size_bytes(),
            modified: None,
            in_memory: InMemory::default(),
            hold: Hold::default(),
        };
        let (progress, _) = watch::channel(Progress { bytes: 0, state: PartState::Growing });
        let (resumed_bytes, verdict) = (0, None);
        Self { store, key, expected, hashers, contents, progress, resumed_bytes, verdict, parked: true }
    }

    /// Hashes the prefix that an earlier writer left, so that the digest covers it too.
    pub(crate) fn resume(&mut self, length: u64) -> Result<(), StoreError> {
        if length == 0 {
            return Ok(());
        }
        let path = self.store.layout.part(&self.key);
        let mut buf = vec![0; 1 << 20];
        while self.bytes() < length {
            let wanted = usize::try_from(length - self.bytes()).unwrap_or(usize::MAX).min(buf.len());
            let read =
                self.store.disk.read_at(&self.contents.file, &path, &mut buf[..wanted], self.bytes())?;
            if read == 0 {
                break;
            }
            self.hashers.update(&buf[..read]);
            self.advance(read);
        }
        self.resumed_bytes = self.bytes();
        Ok(())
    }

    /// What it is meant to become.
    #[must_use]
    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Bytes so far: where the next ones belong.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.progress().bytes
    }

    /// Bytes that were there when the part was begun.
    #[must_use]
    pub fn resumed_bytes(&self) -> u64 {
        self.resumed_bytes
    }

    /// Bytes still missing.
    #[must_use]
    pub fn missing_bytes(&self) -> u64 {
        self.expected.size_bytes() - self.bytes()
    }

    /// A reader that follows.
    #[must_use]
    pub fn reader(&self) -> PartReader {
        PartReader { contents: self.contents.clone(), progress: self.progress.subscribe() }
    }

    fn advance(&self, by: usize) {
        self.progress.send_modify(|progress| progress.bytes += by as u64);
    }

    /// Adds bytes at the end and shows them to the readers. At most [`Self::missing_bytes`] are
    /// taken: the answer is how many. With the last ones, readers learn whether all are right. Blocks.
    ///
    /// # Errors
    /// The disk. The part is as long as it was.
    pub fn append(&mut self, bytes: &[u8]) -> Result<usize, StoreError> {
        let written = self.write(bytes)?;
        self.hashers.update(written);
        self.judge();
        Ok(written.len())
    }

    /// As [`Self::append`], for bytes that came in several pieces. Readers see each before all of them are hashed.
    ///
    /// # Errors
    /// The disk. The part has the pieces before the one that could not be written.
    pub fn append_all(&mut self, pieces: &[impl AsRef<[u8]>]) -> Result<usize, StoreError> {
        let mut written = Vec::with_capacity(pieces.len());
        let mut end = Ok(());
        for piece in pieces {
            match self.write(piece.as_ref()) {
                Ok(piece) => written.push(piece),
                Err(error) => {
                    end = Err(error);
                    break;
                }
            }
        }
        self.hashers.update_all(&written);
        self.judge();
        end.map(|()| written.iter().map(|piece| piece.len()).sum())
    }

    /// Writes what there is room for, and shows it. To be hashed before anything else is done with the part.
    fn write<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], StoreError> {
        let room = usize::try_from(self.missing_bytes()).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(room)];
        let path = self.store.layout.part(&self.key);
        self.store.disk.write_at(&self.contents.file, &path, bytes, self.bytes())?;
        self.advance(bytes.len());
        Ok(bytes)
    }

    /// Once nothing is missing: compares the digests, and tells the readers.
    fn judge(&mut self) -> Option<Verdict> {
        if self.missing_bytes() == 0 && self.verdict.is_none() {
            let verdict = self.hashers.clone().finish(self.expected.digests());
            let state = if verdict.is_ok() { PartState::Right } else { PartState::Wrong };
            self.progress.send_modify(|progress| progress.state = state);
            self.verdict = Some(verdict);
        }
        self.verdict
    }

    /// Makes the part a durable blob, if length and digests are right, and gives it its name in each of
    /// `scopes`. Readers learn that the bytes are right before they are durable. Blocks.
    ///
    /// # Errors
    /// Bytes are missing: the part is kept. A digest differs: it is in quarantine, or gone. Or the disk.
    pub fn finish(mut self, scopes: &[Scope]) -> Result<Committed, FinishError> {
        let store = Arc::clone(&self.store);
        match self.judge() {
            None => {
                let (have_bytes, size_bytes) = (self.bytes(), self.expected.size_bytes());
                Err(FinishError::Short { have_bytes, size_bytes })
            }
            Some(Ok(digest)) => {
                self.commit(digest)?;
                for scope in scopes {
                    store.name(scope, self.expected.name(), &digest)?;
                }
                Ok(Committed { digest, size_bytes: self.expected.size_bytes() })
            }
            Some(Err(algorithm)) => {
                let part = store.layout.part(&self.key);
                let state = store.layout.state(&self.key);
                // First the state: a part without one is never resumed.
                store.disk.remove(&state)?;
                let aside = quarantine::put(&store.disk, &store.layout, &part, &self.key)?;
                tracing::info!(
                    key = self.key,
                    name = self.expected.name().as_str(),
                    became = aside.as_str(),
                    "a download came out wrong"
                );
                self.parked = false;
                Err(FinishError::Mismatch { algorithm, resumed_bytes: self.resumed_bytes })
            }
        }
    }

    /// Gives the bytes up: nothing of them is kept. Readers learn that they are wrong. Blocks.
    ///
    /// # Errors
    /// The disk; the part may be left.
    pub fn discard(mut self) -> Result<(), StoreError> {
        self.progress.send_modify(|progress| progress.state = PartState::Wrong);
        let store = Arc::clone(&self.store);
        // First the state: a part without one is never resumed.
        store.disk.remove(&store.layout.state(&self.key))?;
        store.disk.remove(&store.layout.part(&self.key))?;
        self.parked = false;
        Ok(())
    }

    /// Steps 4 and 5 of the crate's argument, but for the name.
    fn commit(&mut self, digest: BlobDigest) -> Result<(), StoreError> {
        let part = self.store.layout.part(&self.key);
        // Access time 0 says that no client has asked for it yet.
        let times = FileTimes::new().set_accessed(UNIX_EPOCH).set_modified(SystemTime::now());
        if let Err(error) = self.contents.file.set_times(times) {
            tracing::debug!(%error, "the access time of a blob could not be set");
        }
        self.store.disk.sync(&self.contents.file, &part)?;
        let hold = self.contents.hold.clone();
        let adopted = self.store.adopt(&part, digest, self.expected.size_bytes(), hold);
        self.parked = self.store.disk.stat(&part).is_ok();
        adopted?;
        if let Err(error) = self.store.disk.remove(&self.store.layout.state(&self.key)) {
            tracing::debug!(%error, "a state without a part stays until the next start");
        }
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.store.close_part(&self.key, self.parked.then(|| self.bytes()));
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part")
            .field("name", &self.expected.name().as_str())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}
