//! Bodies that go to clients and into the store.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use blob_store::{Draft, DraftState, Filled, KeepError, ResponseKey};
use bytes::Bytes;
use cache_policy::UnixMs;
use cache_policy::reuse::StoredResponse;
use futures_util::{FutureExt as _, stream};
use http::header::AGE;
use reqwest::Response;
use tokio::sync::watch;

use super::super::body::{self, ResponseBody};
use super::super::buffers;
use super::super::cache_status::CacheStatus;
use super::super::reply::Reply;
use super::super::selection::Selection;
use super::shared::{Follower, Growing, Lead};
use crate::app::now_ms;
use crate::fetch::upstream::Upstreams;

/// Bytes that are written in one go.
const WRITE_BYTES: u64 = 256 << 10;

/// Fills a body of which the length is known, whoever reads it; gives it up if nobody does and most of it is
/// still to come.
pub(super) async fn fill(
    upstreams: Upstreams,
    mut response: Response,
    draft: Draft,
    key: ResponseKey,
    growing: Arc<Growing>,
    lead: Lead,
) {
    let mut draft = Some(draft);
    loop {
        let so_far = draft.as_ref().map_or(0, Draft::bytes);
        let deserted = async {
            if so_far > growing.length_bytes / 2 {
                std::future::pending::<()>().await;
            }
            lead.shared().deserted().await;
        };
        let chunk = tokio::select! {
            chunk = upstreams.chunk(&mut response) => chunk,
            () = deserted => {
                // From here on nobody joins; who did meanwhile gets all of it.
                lead.close();
                if lead.shared().is_deserted() {
                    return tracing::debug!("nobody waits for a response; it is given up");
                }
                continue;
            }
        };
        let first = match chunk {
            Ok(Some(first)) => first,
            Ok(None) => break,
            Err(fault) => return tracing::info!(%fault, "a response broke off; it is not kept"),
        };
        let batch = with_what_is_here(&upstreams, first, &mut response);
        draft = match append(draft.take(), batch).await {
            Ok(draft) => Some(draft),
            Err(error) => return tracing::warn!(%error, "a response could not be kept"),
        };
    }
    if !growing.stored.is_fresh(UnixMs::new(now_ms())) {
        // Who asks from now on wants to hear from upstream.
        lead.close();
    }
    finish(draft, key, &growing.stored).await;
}

fn with_what_is_here(upstreams: &Upstreams, first: Bytes, response: &mut Response) -> Vec<Bytes> {
    let mut bytes = first.len() as u64;
    let mut batch = vec![first];
    while bytes < WRITE_BYTES {
        // An error or the end shows at the next read.
        let Some(chunk) = response.chunk().now_or_never().and_then(Result::ok).flatten() else { break };
        upstreams.took(chunk.len());
        bytes += chunk.len() as u64;
        batch.push(chunk);
    }
    batch
}

async fn append(draft: Option<Draft>, batch: Vec<Bytes>) -> Result<Draft, KeepError> {
    let lost = || KeepError::NoRoom;
    let mut draft = draft.ok_or_else(lost)?;
    let appending = tokio::task::spawn_blocking(move || {
        batch.iter().try_for_each(|chunk| draft.append(chunk)).map(|()| draft)
    });
    appending.await.unwrap_or_else(|_| Err(lost()))
}

async fn finish(draft: Option<Draft>, key: ResponseKey, stored: &StoredResponse) {
    let (Some(draft), Some(head)) = (draft, stored.encode()) else { return };
    match tokio::task::spawn_blocking(move || draft.finish(&key, &head)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "a response could not be kept"),
        Err(_) => tracing::warn!("a response could not be kept: the store failed"),
    }
}

/// Of a body that grows.
pub(super) fn growing(
    file: Arc<File>,
    filled: watch::Receiver<Filled>,
    selection: Selection,
    follower: Follower,
) -> ResponseBody {
    let reading = Reading { file, filled, selection, _follower: follower };
    body::stream(stream::unfold(Some(reading), |reading| async move {
        let mut reading = reading?;
        match reading.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(reading))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    }))
}

struct Reading {
    file: Arc<File>,
    filled: watch::Receiver<Filled>,
    selection: Selection,
    /// Keeps it growing.
    _follower: Follower,
}

impl Reading {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(text) = self.selection.take_text() {
            return Ok(Some(text));
        }
        if self.selection.left.is_empty() {
            // All octets are here, but only the end of the exchange says that there are no more.
            return Ok(None);
        }
        let start = self.selection.left.start;
        let there = self.filled.wait_for(|filled| filled.bytes > start || filled.state == DraftState::Whole);
        let filled = *there.await.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "it broke off"))?;
        let piece = self.selection.piece(filled.bytes.min(self.selection.left.end));
        if piece.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than was announced"));
        }
        let file = Arc::clone(&self.file);
        let reading = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(piece.end - start).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, start)?;
            Ok::<_, io::Error>(buffers::held(bytes))
        });
        let bytes = reading.await.map_err(io::Error::other)??;
        self.selection.left.start += bytes.len() as u64;
        Ok(Some(bytes))
    }
}

/// A body that one client takes and that is kept on the way, if it ends as the protocol says. What can't be
/// kept passes through.
struct Keeping {
    upstreams: Upstreams,
    response: Response,
    draft: Option<Draft>,
    key: ResponseKey,
    stored: StoredResponse,
}

/// The body of `response`, of a length that nobody knows yet.
pub(super) fn keeping(
    upstreams: Upstreams,
    response: Response,
    draft: Draft,
    key: ResponseKey,
    stored: StoredResponse,
) -> ResponseBody {
    let keeping = Keeping { upstreams, response, draft: Some(draft), key, stored };
    body::stream(stream::unfold(Some(keeping), |keeping| async move {
        let mut keeping = keeping?;
        match keeping.upstreams.chunk(&mut keeping.response).await {
            Ok(Some(chunk)) => {
                if keeping.draft.is_some() {
                    // What can't be kept is let go; the client gets it all the same.
                    keeping.draft = append(keeping.draft.take(), vec![chunk.clone()]).await.ok();
                }
                Some((Ok(chunk), Some(keeping)))
            }
            Ok(None) => {
                finish(keeping.draft.take(), keeping.key, &keeping.stored).await;
                None
            }
            Err(fault) => Some((Err(io::Error::other(fault.to_string())), None)),
        }
    }))
}

/// A whole answer with such a body.
pub(super) fn reply_of_unknown_length(
    stored: &StoredResponse,
    status: CacheStatus,
    body: ResponseBody,
) -> Reply {
    let mut reply = Reply::new(body);
    *reply.headers_mut() = stored.headers().clone();
    reply.headers_mut().remove(AGE);
    let (name, value) = status.header();
    reply.headers_mut().insert(name, value);
    reply
}
