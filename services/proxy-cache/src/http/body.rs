//! The bytes of files on their way to a client.
//!
//! What is there of a file is a [`Sending`]: it is handed to the kernel as it is. Of one that still grows, [`Growing`] says
//! how far that is. A body either ends complete or breaks the connection: it never ends cleanly short.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use blob_store::{OpenBlob, PartReader, PartState, Progress};
use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::buffers;
use super::selection::Selection;
use super::tally::Tally;
use super::window::visible_end;
use crate::fetch::flight::Follower;
use crate::looks::Doubt;

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
    /// Of a file that is still being fetched.
    Growing(Box<Growing>),
    /// What comes from elsewhere.
    Pieces(Pieces),
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Octets(octets) => f.debug_tuple("Octets").field(octets).finish(),
            Self::File(sending) => f.debug_tuple("File").field(sending).finish(),
            Self::Growing(growing) => f.debug_tuple("Growing").field(&growing.sending).finish(),
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
            Self::File(_) | Self::Growing(_) | Self::Pieces(_) => None,
        }
    }
}

/// What is still to be sent of a complete file.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(super) file: Arc<File>,
    pub(super) selection: Selection,
    /// Keeps the blob from being evicted.
    blob: Option<OpenBlob>,
    tally: Option<Tally>,
    /// Told once.
    doubt: Option<Doubt>,
}

impl Sending {
    /// The file could not be read: has done what is to be done about it.
    pub(super) fn fault(&mut self, error: io::Error) -> io::Error {
        if let Some(doubt) = self.doubt.take() {
            doubt.raise(&error);
        }
        error
    }

    /// Whether a part was in the page cache a moment ago. Known only of a part that is the whole blob.
    pub(super) fn is_in_memory(&self, part: &Range<u64>, now: SystemTime) -> bool {
        self.whole_blob(part).is_some_and(|blob| blob.is_in_memory(now))
    }

    /// A part is in the page cache now.
    pub(super) fn found_in_memory(&self, part: &Range<u64>, now: SystemTime) {
        if let Some(blob) = self.whole_blob(part) {
            blob.found_in_memory(now);
        }
    }

    fn whole_blob(&self, part: &Range<u64>) -> Option<&OpenBlob> {
        self.blob.as_ref().filter(|blob| *part == (0..blob.size_bytes()))
    }

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
    ResponseBody::File(Box::new(Sending { file, selection, blob: None, tally: None, doubt: None }))
}

/// Of a response that is kept.
pub(crate) fn kept(file: Arc<File>, selection: Selection, doubt: Doubt) -> ResponseBody {
    ResponseBody::File(Box::new(Sending { file, selection, blob: None, tally: None, doubt: Some(doubt) }))
}

/// Of a blob.
pub(crate) fn blob(blob: OpenBlob, selection: Selection, tally: Tally, doubt: Doubt) -> ResponseBody {
    let file = Arc::clone(blob.file());
    let (tally, doubt) = (Some(tally), Some(doubt));
    ResponseBody::File(Box::new(Sending { file, selection, blob: Some(blob), tally, doubt }))
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
pub(crate) struct Growing {
    pub(super) sending: Sending,
    size_bytes: u64,
    progress: watch::Receiver<Progress>,
    /// Keeps the download going.
    _follower: Follower,
    witness: Box<dyn Witness>,
    has_told: bool,
}

/// Of a file that is still being fetched.
pub(crate) fn growing(
    reader: &PartReader,
    follower: Follower,
    selection: Selection,
    tally: Tally,
    witness: Box<dyn Witness>,
    doubt: Option<Doubt>,
) -> ResponseBody {
    let contents = reader.contents().clone();
    let (file, size_bytes) = (Arc::clone(contents.file()), contents.size_bytes());
    let growing = Growing {
        sending: Sending { file, selection, blob: Some(contents), tally: Some(tally), doubt },
        size_bytes,
        progress: reader.progress(),
        _follower: follower,
        witness,
        has_told: false,
    };
    ResponseBody::Growing(Box::new(growing))
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
    /// How far the part that is sent now may be read, if there is something to read; an error if the file is wrong, or
    /// nothing more comes.
    pub(super) fn visible_now(&mut self) -> io::Result<Option<u64>> {
        // Before the look at what the writer said last: it may say something and go in between.
        let is_over = self.progress.has_changed().is_err();
        let left = &self.sending.selection.left;
        let end = visible_end(*self.progress.borrow_and_update(), self.size_bytes);
        match end.map(|end| end.min(left.end)) {
            Some(end) if end > left.start => Ok(Some(end)),
            Some(_) if is_over => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the download failed")),
            Some(_) => Ok(None),
            None => Err(self.wrong()),
        }
    }

    /// Waits until the file has grown, or never will again.
    pub(super) async fn grown(&mut self) {
        // That the writer is gone shows at the next look.
        drop(self.progress.changed().await);
    }

    fn wrong(&self) -> io::Error {
        self.witness.wrong();
        io::Error::new(io::ErrorKind::InvalidData, "the file that came is not the one that the tree names")
    }

    fn state(&self) -> PartState {
        self.progress.borrow().state
    }

    /// Says that unverified bytes go out, if these are.
    pub(super) fn tell_before_sending(&mut self) -> io::Result<()> {
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

    /// Says that all that went out was right, if that is known now.
    pub(super) fn tell_if_right(&self) {
        if self.has_told && self.state() == PartState::Right {
            self.witness.right();
        }
    }
}
