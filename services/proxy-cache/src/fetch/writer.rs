//! The part of a download, and the thread that now and then adds to it.

use blob_store::{Part, StoreError};
use bytes::Bytes;
use tokio::task::JoinHandle;

/// A part that takes one batch of bytes while the next one is being read.
#[derive(Debug)]
pub(super) struct Writer {
    /// `None` only while a thread has it, and for ever if that was lost.
    part: Option<Part>,
    adding: Option<JoinHandle<(Part, Result<usize, StoreError>)>>,
    bytes: u64,
    size_bytes: u64,
}

impl Writer {
    pub(super) fn new(part: Part) -> Self {
        let (bytes, size_bytes) = (part.bytes(), part.expected().size_bytes());
        Self { part: Some(part), adding: None, bytes, size_bytes }
    }

    /// Bytes so far, with those that are on their way to the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(super) fn missing_bytes(&self) -> u64 {
        self.size_bytes - self.bytes
    }

    /// Whether a batch is on its way to the disk.
    pub(super) fn is_adding(&self) -> bool {
        self.adding.is_some()
    }

    /// The part, if nothing is on its way to it.
    pub(super) fn part(&self) -> Option<&Part> {
        self.part.as_ref()
    }

    /// The part, complete or not.
    pub(super) fn into_part(self) -> Option<Part> {
        self.part
    }

    /// Waits until the last batch is written and hashed. May be given up and asked again.
    ///
    /// # Errors
    /// Why it could not be written; [`Self::bytes`] is what is there then.
    pub(super) async fn settled(&mut self) -> Result<(), String> {
        let Some(adding) = &mut self.adding else { return Ok(()) };
        let added = adding.await;
        self.adding = None;
        let (part, written) = added.map_err(|_| "the part was lost".to_owned())?;
        self.bytes = part.bytes();
        self.part = Some(part);
        written.map(drop).map_err(|error| error.to_string())
    }

    /// Sets out to add a batch, once the one before is there; `first` has its turn before the bytes are.
    ///
    /// # Errors
    /// As [`Self::settled`], for the batch before.
    pub(super) async fn add(
        &mut self,
        batch: Vec<Bytes>,
        first: impl FnOnce(&Part) + Send + 'static,
    ) -> Result<(), String> {
        self.settled().await?;
        let mut part = self.part.take().ok_or("the part was lost")?;
        let octets: usize = batch.iter().map(Bytes::len).sum();
        self.bytes = self.size_bytes.min(self.bytes + octets as u64);
        self.adding = Some(tokio::task::spawn_blocking(move || {
            first(&part);
            let written = part.append_all(&batch);
            (part, written)
        }));
        Ok(())
    }
}
