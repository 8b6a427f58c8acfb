//! One answer onto the connection.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_wire::framing::{self, Asked, Framing, Sent};
use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::io::AsyncWriteExt as _;

use super::transport::{SENT_OCTETS_MAX, reset_when_dropped, send_file, send_more};
use super::{Ended, Next, Talk};
use crate::http::body::{self, Growing, Pieces, ResponseBody, Sending};
use crate::http::reply::Reply;

/// A smaller part is copied behind the head: one call instead of two.
const COPIED_OCTETS_MAX: u64 = 32 << 10;
/// What an answer's buffer may keep for the next one.
const KEPT_OCTETS_MAX: usize = 4 << 10;

impl Talk {
    /// Sends all of an answer. A body that ends early breaks the connection.
    pub(super) async fn send(&mut self, reply: Reply, asked: &Asked, stops: bool) -> Result<Next, Ended> {
        let (head, body) = reply.into_parts();
        let framing = Framing::of(&head, body.len(), asked);
        self.out.clear();
        self.out.shrink_to(KEPT_OCTETS_MAX);
        let sent = Sent { now: SystemTime::now(), date: &mut self.date, stops };
        let closes = framing::encode(&mut self.out, &head, framing, asked, sent);
        let sent = self.send_framed(framing, body).await;
        if sent.is_err() && framing == Framing::UntilClose {
            reset_when_dropped(&self.connection);
        }
        sent.map(|()| if closes { Next::Close } else { Next::Request })
    }

    async fn send_framed(&mut self, framing: Framing, body: ResponseBody) -> Result<(), Ended> {
        match (framing, body) {
            (Framing::NoBody(_), _) | (_, ResponseBody::Empty) => self.write_out().await?,
            (_, ResponseBody::Octets(octets)) => {
                self.out.extend_from_slice(&octets);
                self.write_out().await?;
            }
            (_, ResponseBody::File(sending)) => self.send_file(sending).await?,
            (_, ResponseBody::Growing(growing)) => self.send_growing(growing).await?,
            (framing, ResponseBody::Pieces(pieces)) => self.send_pieces(pieces, framing).await?,
        }
        Ok(self.connection.flush().await?)
    }

    /// The head goes out with the first octets, and so does a part's own head.
    async fn send_file(&mut self, mut sending: Box<Sending>) -> Result<(), Ended> {
        while let Some(end) = self.next_part(&mut sending) {
            self.send_up_to(&mut sending, end).await?;
        }
        self.write_out().await
    }

    /// As [`Self::send_file`], as far as there is something to send.
    async fn send_growing(&mut self, mut growing: Box<Growing>) -> Result<(), Ended> {
        while self.next_part(&mut growing.sending).is_some() {
            let Some(end) = growing.visible_now()? else {
                self.write_out().await?;
                self.connection.flush().await?;
                tokio::select! {
                    biased;
                    () = growing.grown() => continue,
                    // While there is nothing to send, no write tells that the client is gone.
                    error = self.gone() => return Err(error.into()),
                }
            };
            growing.tell_before_sending()?;
            self.send_up_to(&mut growing.sending, end).await?;
        }
        growing.tell_if_right();
        self.write_out().await
    }

    /// Where the next part of the file ends, with the text before it put out; `None` behind the last.
    fn next_part(&mut self, sending: &mut Sending) -> Option<u64> {
        while let Some(text) = sending.selection.take_text() {
            self.out.extend_from_slice(&text);
        }
        let left = &sending.selection.left;
        (!left.is_empty()).then_some(left.end)
    }

    async fn send_up_to(&mut self, sending: &mut Sending, end: u64) -> Result<(), Ended> {
        let start = sending.selection.left.start;
        if end - start <= COPIED_OCTETS_MAX {
            let read = read(&sending.file, start..end, &mut self.out).await;
            read.map_err(|error| sending.fault(error))?;
            sending.sent(end - start);
        } else if self.connection.get_ref().plain().is_some() {
            self.send_by_kernel(sending, end).await?;
        } else {
            self.send_copied(sending, end).await?;
        }
        if self.out.len() as u64 > COPIED_OCTETS_MAX {
            self.write_out().await?;
        }
        Ok(())
    }

    async fn send_by_kernel(&mut self, sending: &mut Sending, end: u64) -> Result<(), Ended> {
        send_more(&mut self.connection, &self.out).await?;
        self.out.clear();
        while sending.selection.left.start < end {
            let start = sending.selection.left.start;
            let window = start..end.min(start + SENT_OCTETS_MAX);
            let now = SystemTime::now();
            if !sending.is_in_memory(&window, now) {
                let brought = bring(&sending.file, window.clone()).await;
                brought.map_err(|error| sending.fault(error))?;
                sending.found_in_memory(&window, now);
            }
            while sending.selection.left.start < window.end {
                let rest = sending.selection.left.start..window.end;
                match send_file(&mut self.connection, &sending.file, &rest).await {
                    Ok(sent) => sending.sent(sent),
                    Err(error) if is_of_file(&error) => return Err(sending.fault(error).into()),
                    Err(error) => return Err(error.into()),
                }
                tokio::task::consume_budget().await;
            }
        }
        Ok(())
    }

    /// Through our own memory, for a transport that changes what goes through it.
    async fn send_copied(&mut self, sending: &mut Sending, end: u64) -> Result<(), Ended> {
        self.write_out().await?;
        while sending.selection.left.start < end {
            let piece = sending.selection.piece(end);
            let read = body::read(&sending.file, piece).await.map_err(io::Error::other)?;
            let piece = read.map_err(|error| sending.fault(error))?;
            self.connection.write_all(&piece).await?;
            sending.sent(piece.len() as u64);
        }
        Ok(())
    }

    async fn write_out(&mut self) -> Result<(), Ended> {
        self.connection.write_all(&self.out).await?;
        self.out.clear();
        Ok(())
    }

    async fn send_pieces(&mut self, mut pieces: Pieces, framing: Framing) -> Result<(), Ended> {
        let mut left = match framing {
            Framing::Length(octets) => Some(octets),
            Framing::NoBody(_) | Framing::Chunked | Framing::UntilClose => None,
        };
        // With the first piece if that is there already.
        let mut is_flushed = false;
        loop {
            let piece = tokio::select! {
                biased;
                piece = pieces.next() => piece,
                // TLS keeps what the socket had no room for until somebody asks.
                () = std::future::ready(()), if !is_flushed => {
                    self.write_out().await?;
                    self.connection.flush().await?;
                    is_flushed = true;
                    continue;
                }
                // While there is nothing to send, no write tells that the client is gone.
                error = self.gone() => return Err(error.into()),
            };
            is_flushed = false;
            let Some(piece) = piece.transpose()? else { break };
            if let Some(left) = &mut left {
                let Some(rest) = left.checked_sub(piece.len() as u64) else {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a body is longer than announced",
                    )
                    .into());
                };
                *left = rest;
            }
            self.send_piece(&piece, framing).await?;
        }
        if left.is_some_and(|left| left > 0) {
            return Err(
                io::Error::new(io::ErrorKind::UnexpectedEof, "a body is shorter than announced").into()
            );
        }
        if framing == Framing::Chunked {
            self.out.extend_from_slice(b"0\r\n\r\n");
        }
        self.write_out().await
    }

    async fn send_piece(&mut self, piece: &Bytes, framing: Framing) -> Result<(), Ended> {
        if piece.is_empty() {
            return Ok(());
        }
        if framing == Framing::Chunked {
            framing::chunk_head(&mut self.out, piece.len());
        }
        self.write_out().await?;
        self.connection.write_all(piece).await?;
        if framing == Framing::Chunked {
            self.out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }
}

/// Whether it is the file that failed, and not the connection that it was sent to: what disks and file systems say, and
/// that it is shorter than it was.
fn is_of_file(error: &io::Error) -> bool {
    const OF_FILES: [Errno; 8] = [
        Errno::IO,
        // A checksum of the file system's own is wrong.
        Errno::BADMSG,
        Errno::UCLEAN,
        Errno::NODATA,
        Errno::STALE,
        Errno::NODEV,
        Errno::NXIO,
        Errno::REMOTEIO,
    ];
    error.kind() == io::ErrorKind::UnexpectedEof
        || Errno::from_io_error(error).is_some_and(|errno| OF_FILES.contains(&errno))
}

/// Appends a small part of a file; off the reactor only if the disk has to be asked.
async fn read(file: &Arc<File>, range: Range<u64>, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    let octets = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    out.resize(start + octets, 0);
    let buffers = &mut [io::IoSliceMut::new(&mut out[start..])];
    if rustix::io::preadv2(file, buffers, range.start, ReadWriteFlags::NOWAIT) == Ok(octets) {
        return Ok(());
    }
    let file = Arc::clone(file);
    let reading = tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; octets];
        file.read_exact_at(&mut piece, range.start).map(|()| piece)
    });
    out[start..].copy_from_slice(&reading.await.map_err(io::Error::other)??);
    Ok(())
}

/// Sees to it that a part of a file is in the page cache, so that sending it waits for no disk on the reactor. Only its
/// last octet is looked at: what was read in order is there in order.
async fn bring(file: &Arc<File>, range: Range<u64>) -> io::Result<()> {
    let mut octet = [0];
    let buffers = &mut [io::IoSliceMut::new(&mut octet)];
    if rustix::io::preadv2(file, buffers, range.end - 1, ReadWriteFlags::NOWAIT) != Err(Errno::AGAIN) {
        // It is there, or this file system can't say.
        return Ok(());
    }
    let file = Arc::clone(file);
    let reading = tokio::task::spawn_blocking(move || {
        let octets = std::num::NonZeroU64::new(range.end - range.start);
        // Only advice: the read below is what waits.
        let _ = rustix::fs::fadvise(&file, range.start, octets, Advice::WillNeed);
        file.read_exact_at(&mut [0], range.end - 1)
    });
    reading.await.map_err(io::Error::other)?
}
