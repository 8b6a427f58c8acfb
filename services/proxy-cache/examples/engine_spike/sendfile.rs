//! Our own loop: `httparse` reads the head, the answer's head goes out with the first octets of the file, and
//! the kernel sends the rest.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use rustix::net::SendFlags;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;

use crate::files::{Entry, Files};

const HEAD_OCTETS_MAX: usize = 32 << 10;
const HEADERS_MAX: usize = 64;
/// A smaller file is copied behind its head: one call instead of two.
const COPIED_OCTETS_MAX: u64 = 32 << 10;
/// What the kernel is asked for at once: others have their turn in between.
const SENT_OCTETS_MAX: u64 = 2 << 20;

/// What the loop has to know of a request.
struct Head {
    octets: usize,
    target: String,
    without_body: bool,
    keeps_alive: bool,
}

pub(crate) async fn serve(mut socket: TcpStream, files: Arc<Files>) -> io::Result<()> {
    let mut received = BytesMut::with_capacity(4096);
    let mut out = Vec::new();
    loop {
        let Some(head) = parse(&received)? else {
            if received.len() > HEAD_OCTETS_MAX || socket.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
            continue;
        };
        received.advance(head.octets);
        match files.find(&head.target) {
            Some(entry) => send(&mut socket, entry, head.without_body, &mut out).await?,
            None => socket.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await?,
        }
        if !head.keeps_alive {
            return Ok(());
        }
    }
}

fn parse(received: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let parsed =
        request.parse(received).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let httparse::Status::Complete(octets) = parsed else { return Ok(None) };
    let closes = request.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("connection") && header.value.eq_ignore_ascii_case(b"close")
    });
    Ok(Some(Head {
        octets,
        target: request.path.unwrap_or_default().to_owned(),
        without_body: request.method == Some("HEAD"),
        keeps_alive: request.version == Some(1) && !closes,
    }))
}

async fn send(
    socket: &mut TcpStream,
    entry: &Entry,
    without_body: bool,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let mut head = String::with_capacity(512);
    // Writing to a string can't fail.
    let _ = write!(
        head,
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nContent-Type: application/octet-stream\r\n\
         Accept-Ranges: bytes\r\nETag: {}\r\nCache-Status: rookery; hit\r\n\
         Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n",
        entry.size_bytes, entry.etag
    );
    out.clear();
    out.extend_from_slice(head.as_bytes());
    if without_body {
        return socket.write_all(out).await;
    }
    if entry.size_bytes <= COPIED_OCTETS_MAX {
        let start = out.len();
        out.resize(start + usize::try_from(entry.size_bytes).map_err(io::Error::other)?, 0);
        entry.file.read_exact_at(&mut out[start..], 0)?;
        return socket.write_all(out).await;
    }
    send_head(socket, out).await?;
    let mut offset = 0;
    while offset < entry.size_bytes {
        let octets =
            usize::try_from((entry.size_bytes - offset).min(SENT_OCTETS_MAX)).map_err(io::Error::other)?;
        let sending = || Ok(rustix::fs::sendfile(&*socket, &entry.file, Some(&mut offset), octets)?);
        if async_io(socket, sending).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// The kernel holds it back for the file's first octets.
async fn send_head(socket: &TcpStream, mut head: &[u8]) -> io::Result<()> {
    while !head.is_empty() {
        let sending = || Ok(rustix::net::send(socket, head, SendFlags::MORE | SendFlags::NOSIGNAL)?);
        let sent = async_io(socket, sending).await?;
        head = &head[sent..];
    }
    Ok(())
}

async fn async_io<T>(socket: &TcpStream, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    // Mostly there is room, and asking the reactor first would cost a call.
    match call() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            socket.async_io(Interest::WRITABLE, call).await
        }
        done => done,
    }
}
