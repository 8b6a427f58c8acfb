//! Reads stored blobs again, slowly, and heals what the disk has damaged.
//!
//! This module must not choose which blobs are read: maintenance decides that, one decision a blob, and a blob that breaks
//! off while a client is sent it ([`crate::looks`]).

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blob_store::{Aside, BlobDigest, Expected, Scope, StoreError, Verified};
use gentoo_repo::{DistfileName, Restriction};
use http_wire::via::Via;
use tracing::{info, warn};

use crate::app::App;
use crate::catalogue::KnownDistfile;
use crate::farm::{Executed, Outcome};
use crate::fetch::flight::FailureKind;

/// What a damaged blob's contents were found to be worth.
enum Healed {
    /// They are here again.
    Fetched,
    /// They are not, and why.
    Lost(String),
}

/// What a blob was found to be.
pub(crate) enum Found {
    /// It has its digest.
    Sound,
    /// It is not here.
    Gone,
    /// It is out of service; its names were these.
    SetAside { what: &'static str, aside: Aside, names: Vec<(Scope, DistfileName)> },
    /// It can't be told, or nothing can be done about it: nothing was thrown away.
    Kept { why: String },
}

/// How fast a blob is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hurry {
    /// No faster than `proxy.scrub_rate`.
    Slowly,
    /// A client waits for it.
    AtOnce,
}

/// Compares a blob with its digest. A damaged one goes into quarantine and is fetched again as long as
/// the catalogue means it by one of its names.
pub(crate) async fn verify(app: &Arc<App>, digest: &BlobDigest) -> Executed {
    let found = examine(app, digest, Hurry::Slowly).await;
    settled(app, digest, found).await
}

/// Reads a blob, and takes it out of service if it is wrong; so, too, if it can't be read, twice, and can be had again.
pub(crate) async fn examine(app: &Arc<App>, digest: &BlobDigest, hurry: Hurry) -> Found {
    // Quarantine takes them away.
    let names = app.store.names(digest);
    let mut verified = read(app, digest, hurry).await;
    if verified.as_ref().is_err_and(StoreError::is_unreadable) {
        verified = read(app, digest, hurry).await;
    }
    let (found, is_unreadable) = match verified {
        Ok(Verified::Sound) => (Found::Sound, false),
        Ok(Verified::Gone) => (Found::Gone, false),
        Ok(Verified::Damaged(aside)) => (Found::SetAside { what: "damaged", aside, names }, false),
        Err(error) if error.is_unreadable() => set_aside(app, digest, names, &error).await,
        // The disk may say something else next time, so nothing is thrown away for it.
        Err(error) => (Found::Kept { why: error.to_string() }, false),
    };
    app.looks.settle(digest, is_unreadable);
    if matches!(found, Found::SetAside { .. }) {
        app.farm.request_inventory();
    }
    found
}

/// What can't be read, and whether it is still in the way.
async fn set_aside(
    app: &Arc<App>,
    digest: &BlobDigest,
    names: Vec<(Scope, DistfileName)>,
    error: &StoreError,
) -> (Found, bool) {
    let mut why = "no name led to it".to_owned();
    for (scope, name) in &names {
        if let Err(reason) = meant(app, scope, name, digest).await {
            why = reason;
            continue;
        }
        warn!(blob = %digest, %error, "a blob can't be read, twice; it is taken out of service");
        let (store, digest) = (app.store.clone(), *digest);
        let moved = tokio::task::spawn_blocking(move || store.set_aside(&digest)).await;
        return match moved {
            Ok(Ok(Some(aside))) => (Found::SetAside { what: "unreadable", aside, names }, false),
            Ok(Ok(None)) => (Found::Gone, false),
            Ok(Err(moving)) => (Found::Kept { why: format!("{error}; {moving}") }, true),
            Err(_) => (Found::Kept { why: error.to_string() }, false),
        };
    }
    (Found::Kept { why: format!("{error}; it is kept, because it can't be had again: {why}") }, true)
}

/// Fetches again what was taken out of service, and says what came of it all.
pub(crate) async fn settled(app: &Arc<App>, digest: &BlobDigest, found: Found) -> Executed {
    let (what, aside, names) = match found {
        Found::Sound => return Executed::new(Outcome::Done, "sound"),
        Found::Gone => return Executed::from(Outcome::Gone),
        Found::Kept { why } => return Executed::new(Outcome::Busy, why),
        Found::SetAside { what, aside, names } => (what, aside.as_str(), names),
    };
    match heal(app, digest, &names).await {
        Healed::Fetched => {
            info!(blob = %digest, what, "a blob was fetched again");
            Executed::new(Outcome::Done, format!("{what}; {aside}, and fetched again"))
        }
        Healed::Lost(why) => {
            warn!(blob = %digest, what, "a blob was not fetched again: {why}");
            Executed::new(Outcome::Damaged, format!("{what}; {aside}, and not fetched again: {why}"))
        }
    }
}

/// Off the reactor.
async fn read(app: &Arc<App>, digest: &BlobDigest, hurry: Hurry) -> Result<Verified, StoreError> {
    let (store, digest, stop) = (app.store.clone(), *digest, app.tasks.soft());
    let rate = match hurry {
        Hurry::Slowly => app.config.scrub_rate.0,
        Hurry::AtOnce => 0,
    };
    let mut pace = Pace::new(rate);
    let reading = tokio::task::spawn_blocking(move || {
        store.verify_paced(&digest, |bytes| {
            if stop.is_cancelled() {
                return ControlFlow::Break(());
            }
            std::thread::sleep(pace.pause_after(bytes, Instant::now()));
            ControlFlow::Continue(())
        })
    });
    match reading.await {
        Ok(verified) => verified,
        Err(error) => Err(StoreError::Interrupted { reason: error.to_string() }),
    }
}

/// Fetches the contents under the first name that still means them, and gives all others back.
async fn heal(app: &Arc<App>, digest: &BlobDigest, names: &[(Scope, DistfileName)]) -> Healed {
    let mut why = "no name led to it".to_owned();
    let mut is_here = false;
    for (scope, name) in names {
        let known = match meant(app, scope, name, digest).await {
            Ok(known) => known,
            Err(reason) => {
                why = reason;
                continue;
            }
        };
        if !is_here {
            match fetch(app, &known, digest).await {
                Ok(()) => is_here = true,
                Err(reason) => {
                    why = reason;
                    continue;
                }
            }
        }
        let (store, scope, name, digest) = (app.store.clone(), scope.clone(), name.clone(), *digest);
        let given = tokio::task::spawn_blocking(move || store.name(&scope, &name, &digest)).await;
        if let Ok(Err(error)) = given {
            // It gets it when somebody asks for it by that name.
            warn!(%error, "a blob that was fetched again could not be given all of its names");
        }
    }
    if is_here { Healed::Fetched } else { Healed::Lost(why) }
}

/// The distfile, if the catalogue still means these contents by the name.
async fn meant(
    app: &Arc<App>,
    scope: &Scope,
    name: &DistfileName,
    digest: &BlobDigest,
) -> Result<Arc<KnownDistfile>, String> {
    let known = app.catalogue.resolve(name, scope.as_module()).await.map_err(|error| error.to_string())?;
    let known = known.ok_or_else(|| format!("no tree knows {name}"))?;
    let distfile = &known.distfile;
    let expected = Expected::new(distfile.name.clone(), distfile.size_bytes, distfile.digests.clone());
    match expected.map(|expected| expected.blob()) {
        Ok(Some(blob)) if blob != *digest => return Err(format!("{name} means another file now")),
        // Without a BLAKE2B in the tree, what comes will tell.
        Ok(_) => {}
        Err(error) => return Err(format!("{name}: {error}")),
    }
    if distfile.restriction == Restriction::Fetch {
        return Err(format!("{name} is RESTRICT=fetch: import it again"));
    }
    Ok(known)
}

async fn fetch(app: &Arc<App>, known: &Arc<KnownDistfile>, digest: &BlobDigest) -> Result<(), String> {
    let follower = crate::fetch::follow(app, known, None, &Via::default());
    match follower.finished().await {
        Ok(()) => {}
        Err(failure) if failure.kind == FailureKind::Stored => {}
        Err(failure) => return Err(failure.why),
    }
    // A blob gets its name a moment after its last byte was found right.
    follower.over().await;
    let is_here = app.store.info(digest).is_some();
    is_here.then_some(()).ok_or_else(|| "what came was not stored, or was another file".to_owned())
}

/// Keeps a reader below so many bytes a second.
#[derive(Debug)]
struct Pace {
    bytes_per_second: u64,
    began: Option<Instant>,
    bytes: u64,
}

impl Pace {
    /// 0: as fast as it goes.
    fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, began: None, bytes: 0 }
    }

    /// How long to wait after so many more bytes.
    fn pause_after(&mut self, bytes: u64, now: Instant) -> Duration {
        if self.bytes_per_second == 0 {
            return Duration::ZERO;
        }
        let began = *self.began.get_or_insert(now);
        self.bytes = self.bytes.saturating_add(bytes);
        let due_ms = u128::from(self.bytes) * 1000 / u128::from(self.bytes_per_second);
        let due = Duration::from_millis(u64::try_from(due_ms).unwrap_or(u64::MAX));
        due.saturating_sub(now.duration_since(began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_kept_on_the_average() {
        let begin = Instant::now();
        let mut pace = Pace::new(1000);
        assert_eq!(pace.pause_after(500, begin), Duration::from_millis(500));
        assert_eq!(pace.pause_after(500, begin + Duration::from_millis(700)), Duration::from_millis(300));
        assert_eq!(pace.pause_after(500, begin + Duration::from_secs(9)), Duration::ZERO, "a slow disk");
        assert_eq!(Pace::new(0).pause_after(u64::MAX, begin), Duration::ZERO);
        let huge = Pace::new(1).pause_after(u64::MAX, begin);
        assert!(huge > Duration::from_hours(1));
    }
}
