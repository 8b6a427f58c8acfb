//! hyper, with bodies that are read off the reactor, or that are mapped.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::files::{Entry, Files};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Octets of one read, as the product has them.
const READ_OCTETS: u64 = 256 << 10;

pub(crate) async fn serve(socket: TcpStream, files: Arc<Files>, is_mapped: bool) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let reply = answer(&files, request.uri().path(), is_mapped);
        async move { Ok::<_, Infallible>(reply) }
    });
    http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service).await
}

fn answer(files: &Files, target: &str, is_mapped: bool) -> Response<Body> {
    let Some(entry) = files.find(target) else {
        let mut missing = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        *missing.status_mut() = StatusCode::NOT_FOUND;
        return missing;
    };
    let body = if is_mapped { mapped(entry) } else { read_off(entry) };
    let builder = Response::builder()
        .header(CONTENT_LENGTH, entry.size_bytes)
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(ACCEPT_RANGES, "bytes")
        .header(ETAG, &entry.etag)
        .header("cache-status", "rookery; hit");
    builder
        .body(body)
        .unwrap_or_else(|_| Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync()))
}

fn mapped(entry: &Entry) -> Body {
    Full::new(entry.mapped.clone()).map_err(|never| match never {}).boxed_unsync()
}

/// One read ahead of what the client takes.
struct Sending {
    file: Arc<File>,
    from: u64,
    to: u64,
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
}

fn read_off(entry: &Entry) -> Body {
    let sending = Sending { file: Arc::clone(&entry.file), from: 0, to: entry.size_bytes, ahead: None };
    let pieces = stream::unfold(sending, |mut sending| async move {
        let piece = sending.next().await?;
        Some((piece.map(Frame::data), sending))
    });
    StreamBody::new(pieces).boxed_unsync()
}

impl Sending {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let reading = match self.ahead.take() {
            Some(reading) => reading,
            None => self.read()?,
        };
        let piece = reading.await.map_err(io::Error::other).and_then(|read| read);
        self.ahead = self.read();
        Some(piece)
    }

    fn read(&mut self) -> Option<JoinHandle<io::Result<Bytes>>> {
        let (file, from) = (Arc::clone(&self.file), self.from);
        let octets = READ_OCTETS.min(self.to - from);
        self.from += octets;
        (octets > 0).then(|| {
            tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; usize::try_from(octets).map_err(io::Error::other)?];
                file.read_exact_at(&mut piece, from)?;
                Ok(Bytes::from(piece))
            })
        })
    }
}
