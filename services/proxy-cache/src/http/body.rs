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

/// One part of a file being sent.
struct Sending {
    file: Arc<File>,
    /// Keeps the blob from being evicted.
    _hold: Option<OpenBlob>,
    size_bytes: u64,
    left: Range<u64>,
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
    growing: Option<Growing>,
    tally: Option<Tally>,
}

/// A part of a file that is complete.
pub(crate) fn file(file: Arc<File>, size_bytes: u64, part: Range<u64>) -> ResponseBody {
    let sending =
        Sending { file, _hold: None, size_bytes, left: part, ahead: None, growing: None, tally: None };
    sending.into_body()
}

/// A part of a blob.
pub(crate) fn blob(blob: OpenBlob, part: Range<u64>, tally: Tally) -> ResponseBody {
    let sending = Sending {
        file: Arc::clone(blob.file()),
        size_bytes: blob.size_bytes(),
        _hold: Some(blob),
        left: part,
        ahead: None,
        growing: None,
        tally: Some(tally),
    };
    sending.into_body()
}

/// A part of a file that is still being fetched.
pub(crate) fn growing(
    reader: &PartReader,
    follower: Follower,
    part: Range<u64>,
    tally: Tally,
    witness: Box<dyn Witness>,
) -> ResponseBody {
    let contents = reader.contents().clone();
    let growing = Growing { progress: reader.progress(), _follower: follower, witness, has_told: false };
    let sending = Sending {
        file: Arc::clone(contents.file()),
        size_bytes: contents.size_bytes(),
        _hold: Some(contents),
        left: part,
        ahead: None,
        growing: Some(growing),
        tally: Some(tally),
    };
    sending.into_body()
}

fn read(file: &Arc<File>, from: u64, to: u64) -> JoinHandle<io::Result<Bytes>> {
    let file = Arc::clone(file);
    tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; usize::try_from(to - from).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, from)?;
        Ok(buffers::held(bytes))
    })
}

impl Sending {
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
        if self.left.is_empty() {
            if let Some(growing) = &self.growing {
                growing.tell_if_right();
            }
            return Ok(None);
        }
        let reading = if let Some(reading) = self.ahead.take() {
            reading
        } else {
            let end = self.visible().await?;
            read(&self.file, self.left.start, end.min(self.left.start + buffers::piece_bytes()))
        };
        let bytes = reading.await.map_err(io::Error::other)??;
        self.left.start += bytes.len() as u64;
        let next = self.visible_now().filter(|&end| end > self.left.start && buffers::is_plenty());
        if let Some(end) = next {
            self.ahead =
                Some(read(&self.file, self.left.start, end.min(self.left.start + buffers::piece_bytes())));
        }
        if let Some(growing) = &mut self.growing {
            growing.tell_before_sending()?;
            if self.left.is_empty() {
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
            None => Some(self.left.end),
            Some(growing) => {
                visible_end(*growing.progress.borrow(), self.size_bytes).map(|end| end.min(self.left.end))
            }
        }
    }

    /// Waits until there is something to read; how far.
    async fn visible(&mut self) -> io::Result<u64> {
        loop {
            match self.visible_now() {
                Some(end) if end > self.left.start => return Ok(end),
                Some(_) => {}
                None => return Err(self.wrong()),
            }
            let Some(growing) = &mut self.growing else {
                return Err(io::Error::other("a complete file has nothing to wait for"));
            };
            if growing.progress.changed().await.is_err() {
                // The writer is gone; what it said last stands.
                return match self.visible_now() {
                    Some(end) if end > self.left.start => Ok(end),
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
