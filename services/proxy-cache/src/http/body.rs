//! The bytes of files on their way to a client: the one place that reads them.
//!
//! Reads are done off the reactor, one ahead of what the client takes while there is memory for that. A body either ends complete or
//! breaks the connection: it never ends cleanly short.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use blob_store::{OpenBlob, PartReader, PartState, Progress};
use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::buffers;
use super::selection::Selection;
use super::tally::Tally;
use super::window::visible_end;
use crate::fetch::flight::Follower;

/// What every response carries.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, io::Error>;

/// No body.
pub(crate) fn empty() -> ResponseBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A text that is there already.
pub(crate) fn full(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Pieces as they come; an error breaks the connection.
pub(crate) fn stream<S>(pieces: S) -> ResponseBody
where
    S: futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    use futures_util::StreamExt as _;
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
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

/// A file that is still growing.
struct Growing {
    progress: watch::Receiver<Progress>,
    /// Keeps the download going.
    _follower: Follower,
    witness: Box<dyn Witness>,
    has_told: bool,
}

/// Parts of a file being sent.
struct Sending {
    file: Arc<File>,
    /// Keeps the blob from being evicted.
    _hold: Option<OpenBlob>,
    size_bytes: u64,
    selection: Selection,
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
    growing: Option<Growing>,
    tally: Option<Tally>,
}

/// Of a file that is complete.
pub(crate) fn file(file: Arc<File>, size_bytes: u64, selection: Selection) -> ResponseBody {
    Sending::new(file, size_bytes, selection).into_body()
}

/// Of a blob.
pub(crate) fn blob(blob: OpenBlob, selection: Selection, tally: Tally) -> ResponseBody {
    let sending = Sending::new(Arc::clone(blob.file()), blob.size_bytes(), selection);
    Sending { _hold: Some(blob), tally: Some(tally), ..sending }.into_body()
}

/// Of a file that is still being fetched.
pub(crate) fn growing(
    reader: &PartReader,
    follower: Follower,
    selection: Selection,
    tally: Tally,
    witness: Box<dyn Witness>,
) -> ResponseBody {
    let contents = reader.contents().clone();
    let growing = Growing { progress: reader.progress(), _follower: follower, witness, has_told: false };
    let sending = Sending::new(Arc::clone(contents.file()), contents.size_bytes(), selection);
    Sending { _hold: Some(contents), growing: Some(growing), tally: Some(tally), ..sending }.into_body()
}

fn read(file: &Arc<File>, piece: Range<u64>) -> JoinHandle<io::Result<Bytes>> {
    let file = Arc::clone(file);
    tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; usize::try_from(piece.end - piece.start).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, piece.start)?;
        Ok(buffers::held(bytes))
    })
}

impl Sending {
    fn new(file: Arc<File>, size_bytes: u64, selection: Selection) -> Self {
        Self { file, _hold: None, size_bytes, selection, ahead: None, growing: None, tally: None }
    }

    fn into_body(self) -> ResponseBody {
        stream(stream::unfold(Some(self), |sending| async move {
            let mut sending = sending?;
            match sending.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(sending))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        }))
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(text) = self.selection.take_text() {
            return Ok(Some(text));
        }
        if self.selection.left.is_empty() {
            if let Some(growing) = &self.growing {
                growing.tell_if_right();
            }
            return Ok(None);
        }
        let reading = if let Some(reading) = self.ahead.take() {
            reading
        } else {
            let end = self.visible().await?;
            read(&self.file, self.selection.piece(end))
        };
        let bytes = reading.await.map_err(io::Error::other)??;
        self.selection.left.start += bytes.len() as u64;
        let next = self.visible_now().filter(|&end| end > self.selection.left.start && buffers::is_plenty());
        if let Some(end) = next {
            self.ahead = Some(read(&self.file, self.selection.piece(end)));
        }
        if let Some(growing) = &mut self.growing {
            growing.tell_before_sending()?;
            if self.selection.left.is_empty() {
                growing.tell_if_right();
            }
        }
        if let Some(tally) = &mut self.tally {
            tally.add(bytes.len());
        }
        Ok(Some(bytes))
    }

    /// How far we may read now; `None` if not beyond where we are, or not at all.
    fn visible_now(&self) -> Option<u64> {
        match &self.growing {
            None => Some(self.selection.left.end),
            Some(growing) => visible_end(*growing.progress.borrow(), self.size_bytes)
                .map(|end| end.min(self.selection.left.end)),
        }
    }

    /// Waits until there is something to read; how far.
    async fn visible(&mut self) -> io::Result<u64> {
        loop {
            match self.visible_now() {
                Some(end) if end > self.selection.left.start => return Ok(end),
                Some(_) => {}
                None => return Err(self.wrong()),
            }
            let Some(growing) = &mut self.growing else {
                return Err(io::Error::other("a complete file has nothing to wait for"));
            };
            if growing.progress.changed().await.is_err() {
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
        if let Some(growing) = &self.growing {
            growing.witness.wrong();
        }
        io::Error::new(io::ErrorKind::InvalidData, "the file that came is not the one that the tree names")
    }
}

impl Growing {
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
