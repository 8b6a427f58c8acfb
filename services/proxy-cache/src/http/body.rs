//! The bytes of files on their way to a client.
//!
//! What is there of a complete file is a [`Sending`]: it is handed to the kernel as it is. What still grows is read off the
//! reactor, one piece ahead of what the client takes while there is memory for that. A body either ends complete or
//! breaks the connection: it never ends cleanly short.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;

use blob_store::{OpenBlob, PartReader, PartState, Progress};
use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::buffers;
use super::selection::Selection;
use super::tally::Tally;
use super::window::visible_end;
use crate::fetch::flight::Follower;

/// Octets as they come; an error breaks the connection.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// What every response carries.
pub(crate) enum ResponseBody {
    /// Nothing.
    Empty,
    /// A text that is there already.
    Octets(Bytes),
    /// Of a file that is complete.
    File(Box<Sending>),
    /// What comes from elsewhere, or still grows.
    Pieces(Pieces),
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Octets(octets) => f.debug_tuple("Octets").field(octets).finish(),
            Self::File(sending) => f.debug_tuple("File").field(sending).finish(),
            Self::Pieces(_) => f.write_str("Pieces"),
        }
    }
}

impl ResponseBody {
    /// How many octets it has, where it says so itself.
    pub(crate) fn len(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Octets(octets) => Some(octets.len() as u64),
            Self::File(_) | Self::Pieces(_) => None,
        }
    }
}

/// What is still to be sent of a complete file.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(super) file: Arc<File>,
    pub(super) selection: Selection,
    /// Keeps the blob from being evicted.
    _hold: Option<OpenBlob>,
    tally: Option<Tally>,
}

impl Sending {
    /// So many octets of the file went out.
    pub(super) fn sent(&mut self, octets: u64) {
        self.selection.left.start += octets;
        if let Some(tally) = &mut self.tally {
            tally.add(octets);
        }
    }
}

/// No body.
pub(crate) fn empty() -> ResponseBody {
    ResponseBody::Empty
}

/// A text that is there already.
pub(crate) fn full(octets: impl Into<Bytes>) -> ResponseBody {
    ResponseBody::Octets(octets.into())
}

/// Pieces as they come; an error breaks the connection.
pub(crate) fn stream<S>(pieces: S) -> ResponseBody
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    ResponseBody::Pieces(Box::pin(pieces))
}

/// Of a file that is complete.
pub(crate) fn file(file: Arc<File>, selection: Selection) -> ResponseBody {
    ResponseBody::File(Box::new(Sending { file, selection, _hold: None, tally: None }))
}

/// Of a blob.
pub(crate) fn blob(blob: OpenBlob, selection: Selection, tally: Tally) -> ResponseBody {
    let file = Arc::clone(blob.file());
    ResponseBody::File(Box::new(Sending { file, selection, _hold: Some(blob), tally: Some(tally) }))
}

/// Told while unverified bytes go out.
pub(crate) trait Witness: Send {
    /// The first of them is about to.
    fn unverified(&self);
    /// All that went out was right.
    fn right(&self);
    /// It was wrong.
    fn wrong(&self);
}

/// Parts of a file that is still growing, being sent.
struct Growing {
    contents: OpenBlob,
    selection: Selection,
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
    progress: watch::Receiver<Progress>,
    /// Keeps the download going.
    _follower: Follower,
    witness: Box<dyn Witness>,
    has_told: bool,
    tally: Tally,
}

/// Of a file that is still being fetched.
pub(crate) fn growing(
    reader: &PartReader,
    follower: Follower,
    selection: Selection,
    tally: Tally,
    witness: Box<dyn Witness>,
) -> ResponseBody {
    let growing = Growing {
        contents: reader.contents().clone(),
        selection,
        ahead: None,
        progress: reader.progress(),
        _follower: follower,
        witness,
        has_told: false,
        tally,
    };
    stream(stream::unfold(Some(growing), |growing| async move {
        let mut growing = growing?;
        match growing.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(growing))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    }))
}

/// Reads off the reactor.
pub(super) fn read(file: &Arc<File>, piece: Range<u64>) -> JoinHandle<io::Result<Bytes>> {
    let file = Arc::clone(file);
    tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; usize::try_from(piece.end - piece.start).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, piece.start)?;
        Ok(buffers::held(bytes))
    })
}

impl Growing {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(text) = self.selection.take_text() {
            return Ok(Some(text));
        }
        if self.selection.left.is_empty() {
            self.tell_if_right();
            return Ok(None);
        }
        let reading = if let Some(reading) = self.ahead.take() {
            reading
        } else {
            let end = self.visible().await?;
            read(self.contents.file(), self.selection.piece(end))
        };
        let bytes = reading.await.map_err(io::Error::other)??;
        self.selection.left.start += bytes.len() as u64;
        let next = self.visible_now().filter(|&end| end > self.selection.left.start && buffers::is_plenty());
        if let Some(end) = next {
            self.ahead = Some(read(self.contents.file(), self.selection.piece(end)));
        }
        self.tell_before_sending()?;
        if self.selection.left.is_empty() {
            self.tell_if_right();
        }
        self.tally.add(bytes.len() as u64);
        Ok(Some(bytes))
    }

    /// How far we may read now; `None` if the file is wrong.
    fn visible_now(&self) -> Option<u64> {
        let end = visible_end(*self.progress.borrow(), self.contents.size_bytes());
        end.map(|end| end.min(self.selection.left.end))
    }

    /// Waits until there is something to read; how far.
    async fn visible(&mut self) -> io::Result<u64> {
        loop {
            match self.visible_now() {
                Some(end) if end > self.selection.left.start => return Ok(end),
                Some(_) => {}
                None => return Err(self.wrong()),
            }
            if self.progress.changed().await.is_err() {
                // The writer is gone; what it said last stands.
                return match self.visible_now() {
                    Some(end) if end > self.selection.left.start => Ok(end),
                    Some(_) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the download failed")),
                    None => Err(self.wrong()),
                };
            }
        }
    }

    fn wrong(&self) -> io::Error {
        self.witness.wrong();
        io::Error::new(io::ErrorKind::InvalidData, "the file that came is not the one that the tree names")
    }

    fn state(&self) -> PartState {
        self.progress.borrow().state
    }

    fn tell_before_sending(&mut self) -> io::Result<()> {
        match self.state() {
            PartState::Right => {}
            PartState::Wrong => {
                self.witness.wrong();
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the download turned out wrong"));
            }
            PartState::Growing => {
                if !self.has_told {
                    self.has_told = true;
                    self.witness.unverified();
                }
            }
        }
        Ok(())
    }

    fn tell_if_right(&self) {
        if self.has_told && self.state() == PartState::Right {
            self.witness.right();
        }
    }
}
