//! One distfile for one client.

use std::sync::Arc;

use blob_store::{BlobDigest, OpenBlob, PartReader, PartState, Scope, StoreError};
use gentoo_repo::{DistfileName, HashAlgorithm, Restriction};
use http::{Method, StatusCode};
use http_wire::conditional::Validators;
use tokio::time::Instant;
use tracing::warn;
use url::Url;

use super::body::{self, Witness};
use super::cache_status::CacheStatus;
use super::file_reply::FileHead;
use super::lookup::{self, Lookup};
use super::passthrough;
use super::reply::{self, Reply};
use super::request::ClientRequest;
use super::tally::Tally;
use crate::app::App;
use crate::catalogue::KnownDistfile;
use crate::farm::AccessOutcome;
use crate::fetch::candidate::{self, Candidate};
use crate::fetch::flight::{Failure, FailureKind, FlightKey, Follower};
use crate::looks::Doubt;

/// How often a client whose flight ended for no fault of the file's gets into the next one.
const FLIGHTS_MAX: usize = 4;

/// Answers for a name that was looked up. `asked` is the URL of the forward role.
pub(crate) async fn answer(
    app: &Arc<App>,
    request: &ClientRequest,
    name: &DistfileName,
    lookup: Result<Lookup, StoreError>,
    asked: Option<&Url>,
) -> Option<Reply> {
    if let Some(refusal) = refused(app, request, name) {
        return Some(refusal);
    }
    match lookup {
        Ok(Lookup::Hit(digest, blob)) => Some(hit(app, request, name, digest, blob)),
        // Joined to the flight that it is part of, it would wait for itself.
        Ok(Lookup::Miss(_) | Lookup::Unreadable(_))
            if request.is_loop(app) || request.is_from_ourselves(app) =>
        {
            Some(reply::text(StatusCode::LOOP_DETECTED, "this request has been through here already"))
        }
        // Boxed: what a miss needs is not to be moved about for each hit.
        Ok(Lookup::Miss(known)) => Some(Box::pin(miss(app, request, &known, asked)).await),
        Ok(Lookup::Unreadable(known)) => Some(Box::pin(unreadable(app, request, &known, asked)).await),
        Ok(Lookup::Unknown) => None,
        Err(error) => {
            warn!(%error, name = name.as_str(), "the store can't be read");
            Some(reply::unavailable("the cache's disk has a fault"))
        }
    }
}

/// 404 for the rest of what may be wrong.
fn refused(app: &App, request: &ClientRequest, name: &DistfileName) -> Option<Reply> {
    let is_refused = request.has_range() && app.refusals.is_refused(name, request.client);
    is_refused.then(|| reply::not_found("what you have of it is wrong: start from the beginning"))
}

fn etag(digest: &[u8]) -> String {
    let mut quoted = vec![b'"'; digest.len() * 2 + 2];
    // Not `encode`, which goes letter by letter: this is in every answer.
    let _is_long_enough = hex::encode_to_slice(digest, &mut quoted[1..=digest.len() * 2]);
    String::from_utf8(quoted).unwrap_or_default()
}

fn hit(
    app: &Arc<App>,
    request: &ClientRequest,
    name: &DistfileName,
    digest: BlobDigest,
    blob: OpenBlob,
) -> Reply {
    let validators = Validators { etag: Some(etag(digest.as_bytes())), modified: blob.modified() };
    let head = FileHead::new(blob.size_bytes(), validators, CacheStatus::HIT);
    head.reply(&request.method, &request.headers, |selection| {
        let bytes = selection.file_bytes();
        let tally = Tally::new(&app.farm, name, Some(digest), request.client, AccessOutcome::Hit, bytes);
        body::blob(blob, selection, tally, Doubt::of_blob(app, digest))
    })
}

fn head_of(known: &KnownDistfile, status: CacheStatus) -> FileHead {
    let digest = known.distfile.digests.get(HashAlgorithm::Blake2b);
    let validators = Validators { etag: digest.map(etag), modified: None };
    FileHead::new(known.distfile.size_bytes, validators, status)
}

async fn miss(
    app: &Arc<App>,
    request: &ClientRequest,
    known: &Arc<KnownDistfile>,
    asked: Option<&Url>,
) -> Reply {
    let distfile = &known.distfile;
    if distfile.restriction == Restriction::Fetch {
        return reply::not_found("it may not be fetched for you (RESTRICT=fetch), and nobody imported it");
    }
    if request.method == Method::HEAD {
        return head_of(known, CacheStatus::STORED)
            .reply(&request.method, &request.headers, |_| body::empty());
    }
    let deadline = Instant::now() + app.config.timeouts.first_byte.0;
    let mut last = None;
    for _ in 0..FLIGHTS_MAX {
        let follower = if request.is_from_peer() {
            match app.flights.join_running(&FlightKey::of(known)) {
                Some(follower) => follower,
                None => return reply::not_found("this replica has it not, and does not fetch it"),
            }
        } else {
            crate::fetch::follow(app, known, asked, &request.via)
        };
        let waited = tokio::select! {
            waited = tokio::time::timeout_at(deadline, follower.ready()) => waited,
            () = circular(app, request, &follower) => {
                record_failure(app, request, &distfile.name);
                let why = "nothing has come of it, and who asks may be who is asked";
                return reply::text(StatusCode::LOOP_DETECTED, why);
            }
        };
        match waited {
            Ok(Ok(reader)) if reader.progress().borrow().state == PartState::Wrong => {
                // Too late for this one, and nothing of it has gone out: into the next, once this is over.
                if tokio::time::timeout_at(deadline, follower.over()).await.is_err() {
                    record_failure(app, request, &distfile.name);
                    return reply::unavailable("what came was wrong, and the disk is slow to put it away");
                }
                last =
                    Some(Failure { kind: FailureKind::WrongDigest, why: "what came was wrong".to_owned() });
            }
            Ok(Ok(reader)) => {
                // The flight may have found out meanwhile that nobody knows what this client has.
                let refusal = refused(app, request, &distfile.name);
                return refusal.unwrap_or_else(|| follow(app, request, known, follower, &reader));
            }
            Ok(Err(failure)) if failure.kind == FailureKind::Stored => {
                if let Some(refusal) = refused(app, request, &distfile.name) {
                    return refusal;
                }
                let scope = Scope::module(&known.module).unwrap_or(Scope::DISTFILES);
                match lookup::of_known(app, Arc::clone(known), scope).await {
                    Ok(Lookup::Hit(digest, blob)) => return hit(app, request, &distfile.name, digest, blob),
                    Ok(Lookup::Unreadable(known)) => return unreadable(app, request, &known, asked).await,
                    Ok(Lookup::Miss(_) | Lookup::Unknown) | Err(_) => {}
                }
                last = Some(failure);
            }
            Ok(Err(failure)) => {
                if let Some(reply) = failed(app, request, known, asked, &failure).await {
                    return reply;
                }
                last = Some(failure);
            }
            Err(_) if follower.is_elsewhere() => {
                // The client would go to the public source now; through us it gets verified bytes.
                warn!(name = distfile.name.as_str(), "passes through: another replica fetches it too slowly");
                return pass_through(app, request, known, asked, CacheStatus::BYPASS_HELD).await;
            }
            Err(_) => {
                record_failure(app, request, &distfile.name);
                return reply::text(StatusCode::GATEWAY_TIMEOUT, "no source answered in time");
            }
        }
    }
    record_failure(app, request, &distfile.name);
    let why = last.map(|failure| failure.why).unwrap_or_default();
    reply::text(StatusCode::BAD_GATEWAY, &why)
}

/// Ends when the flight may wait for the very cache that asks for it now. Two caches that have each other
/// as mirror, and that start the same file at the same time, see no loop in `Via`: each of them began
/// before the other one asked. So whoever comes through another cache and joins a flight of which not
/// a byte comes is soon sent on to its next source.
async fn circular(app: &App, request: &ClientRequest, follower: &Follower) {
    if request.via.is_empty() || request.is_from_peer() || !follower.is_late {
        std::future::pending::<()>().await;
    }
    follower.starved(app.config.timeouts.loop_wait.0).await;
}

fn record_failure(app: &App, request: &ClientRequest, name: &DistfileName) {
    drop(Tally::new(&app.farm, name, None, request.client, AccessOutcome::Failed, 1));
}

/// What a failed flight means for a client that has seen nothing of it; `None`: try another one.
async fn failed(
    app: &Arc<App>,
    request: &ClientRequest,
    known: &KnownDistfile,
    asked: Option<&Url>,
    failure: &Failure,
) -> Option<Reply> {
    match failure.kind {
        FailureKind::WrongDigest | FailureKind::Deserted | FailureKind::Stored => return None,
        // Without a disk it is still a mirror: what can't be stored passes through.
        FailureKind::NoRoom | FailureKind::Unverifiable | FailureKind::Disk => {
            warn!(name = known.distfile.name.as_str(), "passes through: {}", failure.why);
            return Some(pass_through(app, request, known, asked, CacheStatus::BYPASS).await);
        }
        FailureKind::Sources(_) => {}
    }
    record_failure(app, request, &known.distfile.name);
    Some(match failure.kind {
        FailureKind::Sources(status) => reply::text(status, &failure.why),
        FailureKind::Disk
        | FailureKind::WrongDigest
        | FailureKind::Deserted
        | FailureKind::Stored
        | FailureKind::NoRoom
        | FailureKind::Unverifiable => reply::unavailable(&failure.why),
    })
}

/// What is here and can't be read comes from elsewhere, if anybody has it.
async fn unreadable(
    app: &Arc<App>,
    request: &ClientRequest,
    known: &KnownDistfile,
    asked: Option<&Url>,
) -> Reply {
    const WHY: &str = "the cache's disk has a fault";
    if known.distfile.restriction == Restriction::Fetch || request.is_from_peer() {
        return reply::unavailable(WHY);
    }
    if request.method == Method::HEAD {
        return head_of(known, CacheStatus::BYPASS)
            .reply(&request.method, &request.headers, |_| body::empty());
    }
    let passed = pass_through(app, request, known, asked, CacheStatus::BYPASS).await;
    if passed.status().is_success() {
        return passed;
    }
    record_failure(app, request, &known.distfile.name);
    // Whatever its sources say, it is nothing that nobody has.
    reply::unavailable(&format!("{WHY}, and none of its sources gave it ({})", passed.status()))
}

/// One client's own download, verified but not stored.
async fn pass_through(
    app: &Arc<App>,
    request: &ClientRequest,
    known: &KnownDistfile,
    asked: Option<&Url>,
    status: CacheStatus,
) -> Reply {
    let candidates = candidate::for_distfile(&known.distfile, &app.config.mirrors, asked, &app.demotions);
    let make_witness = |source: &Candidate| -> Box<dyn Witness> {
        let (app, name) = (Arc::clone(app), known.distfile.name.clone());
        Box::new(Client { app, name, address: request.client, source: Some(source.origin()) })
    };
    passthrough::known(app, &candidates, known, &request.via, status, make_witness).await
}

fn follow(
    app: &Arc<App>,
    request: &ClientRequest,
    known: &KnownDistfile,
    follower: Follower,
    reader: &PartReader,
) -> Reply {
    let status = if follower.is_late { CacheStatus::COLLAPSED } else { CacheStatus::STORED };
    let status = status.answered(follower.source_status());
    let name = &known.distfile.name;
    let digest = lookup::blob_of(&known.distfile);
    head_of(known, status).reply(&request.method, &request.headers, |selection| {
        let bytes = selection.file_bytes();
        let tally = Tally::new(&app.farm, name, digest, request.client, AccessOutcome::Miss, bytes);
        let address = request.client;
        let witness = Client { app: Arc::clone(app), name: name.clone(), address, source: None };
        let doubt = digest.map(|digest| Doubt::of_part(app, digest, reader));
        body::growing(reader, follower, selection, tally, Box::new(witness), doubt)
    })
}

/// A client that is given bytes before they are verified.
struct Client {
    app: Arc<App>,
    name: DistfileName,
    address: std::net::IpAddr,
    /// The origin that alone gave what passes through; a flight finds out about its own.
    source: Option<String>,
}

impl Witness for Client {
    fn unverified(&self) {
        self.app.refusals.note_unverified(&self.name, self.address);
    }

    fn right(&self) {
        self.app.refusals.note_right(&self.name, self.address);
    }

    fn wrong(&self) {
        if let Some(source) = &self.source {
            self.app.demotions.demote(source, &self.name);
        }
        self.app.refusals.note_wrong(&self.name);
        if self.source.is_some() {
            // A flight records what came of its own.
            let (app, name) = (Arc::clone(&self.app), self.name.clone());
            drop(tokio::task::spawn_blocking(move || app.refusals.record_wrong(&name)));
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
