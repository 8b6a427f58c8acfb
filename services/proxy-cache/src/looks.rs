//! What broke off while a client was sent it: a blob is looked at at once, and once however many clients it broke; one that
//! is still being fetched, as soon as it is a blob. A response that no tree lists can't be verified: it is dropped.
//!
//! This module must not say what is wrong with a blob: [`crate::scrub`] does, as for a `verify` decision.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blob_store::{BlobDigest, PartReader, Progress, Response, Responses};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::app::App;
use crate::scrub::{self, Hurry};

/// Blobs that are looked at, wait for it, or are known to be unreadable. One more has to break off again later.
const LOOKS_MAX: usize = 1024;
/// How long a client is kept waiting for what a look finds. Portage gives up after a minute of silence.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// What is known of a blob that broke off.
#[derive(Debug)]
enum Look {
    /// Set when it is over.
    UnderWay(CancellationToken),
    /// It is here and can't be read, nor be taken away.
    Unreadable,
}

/// All blobs that are in doubt.
#[derive(Debug)]
pub(crate) struct Looks {
    map: Mutex<HashMap<BlobDigest, Look>>,
    /// Of the map, for all those hits that are in no doubt.
    count: AtomicUsize,
    /// One blob is read at a time: a dying disk is not to be read by all at once.
    turn: Semaphore,
    wait_max: Duration,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            map: Mutex::default(),
            count: AtomicUsize::new(0),
            turn: Semaphore::new(1),
            wait_max: WAIT_MAX,
        }
    }
}

impl Looks {
    fn change<T>(&self, change: impl FnOnce(&mut HashMap<BlobDigest, Look>) -> T) -> T {
        let mut map: MutexGuard<'_, _> = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut map);
        self.count.store(map.len(), Ordering::Release);
        changed
    }

    /// Whether the caller is to look at a blob: nobody does.
    fn begin(&self, digest: BlobDigest) -> bool {
        self.change(|map| {
            let is_known = map.contains_key(&digest);
            if matches!(map.get(&digest), Some(Look::UnderWay(_))) || (map.len() >= LOOKS_MAX && !is_known) {
                return false;
            }
            map.insert(digest, Look::UnderWay(CancellationToken::new()));
            true
        })
    }

    /// A look ended, if nobody has said yet what it found.
    fn end(&self, digest: &BlobDigest) {
        let old = self.change(|map| {
            matches!(map.get(digest), Some(Look::UnderWay(_))).then(|| map.remove(digest)).flatten()
        });
        if let Some(Look::UnderWay(over)) = old {
            over.cancel();
        }
    }

    /// What a blob was found to be counts from now on, whoever looked.
    pub(crate) fn settle(&self, digest: &BlobDigest, is_unreadable: bool) {
        let old = self.change(|map| {
            if is_unreadable && (map.len() < LOOKS_MAX || map.contains_key(digest)) {
                map.insert(*digest, Look::Unreadable)
            } else {
                map.remove(digest)
            }
        });
        if let Some(Look::UnderWay(over)) = old {
            over.cancel();
        }
    }

    /// Whether a blob that is here can be sent; waits a while for a look that is under way.
    pub(crate) async fn is_sound(&self, digest: &BlobDigest) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return true;
        }
        let over = self.change(|map| match map.get(digest) {
            None => Ok(true),
            Some(Look::Unreadable) => Ok(false),
            Some(Look::UnderWay(over)) => Err(over.clone()),
        });
        let over = match over {
            Ok(known) => return known,
            Err(over) => over,
        };
        let is_over = tokio::time::timeout(self.wait_max, over.cancelled()).await.is_ok();
        is_over && self.change(|map| !map.contains_key(digest))
    }
}

/// What a body that is sent from a file knows of it, to tell that it broke off.
pub(crate) struct Doubt {
    app: Arc<App>,
    about: About,
}

enum About {
    Blob(BlobDigest),
    /// What becomes a blob when nobody writes it any more.
    Part(BlobDigest, watch::Receiver<Progress>),
    Response(Box<(Responses, Response)>),
}

impl fmt::Debug for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.about {
            About::Blob(digest) | About::Part(digest, _) => f.debug_tuple("Doubt").field(digest).finish(),
            About::Response(of) => f.debug_tuple("Doubt").field(&of.1.key).finish(),
        }
    }
}

impl Doubt {
    pub(crate) fn of_blob(app: &Arc<App>, digest: BlobDigest) -> Self {
        Self { app: Arc::clone(app), about: About::Blob(digest) }
    }

    pub(crate) fn of_part(app: &Arc<App>, digest: BlobDigest, reader: &PartReader) -> Self {
        Self { app: Arc::clone(app), about: About::Part(digest, reader.progress()) }
    }

    pub(crate) fn of_response(app: &Arc<App>, responses: Responses, response: Response) -> Self {
        Self { app: Arc::clone(app), about: About::Response(Box::new((responses, response))) }
    }

    /// It could not be read to its end: what is to be done is, off this task.
    pub(crate) fn raise(self, error: &io::Error) {
        let (digest, growing) = match self.about {
            About::Blob(digest) => (digest, None),
            About::Part(digest, progress) => (digest, Some(progress)),
            About::Response(of) => return forget(&self.app, *of, error),
        };
        if !self.app.looks.begin(digest) {
            return;
        }
        warn!(blob = %digest, %error, "a blob broke off while it was sent; it is looked at");
        let tasks = self.app.tasks.clone();
        drop(tasks.spawn("look", UnderWay { app: self.app, digest }.look(growing)));
    }
}

/// The next who asks has it fetched.
fn forget(app: &App, (responses, response): (Responses, Response), error: &io::Error) {
    warn!(uri = hex::encode(response.key.uri), %error, "a response broke off while it was sent; it is dropped");
    let dropping = async move {
        let dropped = tokio::task::spawn_blocking(move || responses.forget(&response)).await;
        if let Ok(Err(error)) = dropped {
            warn!(%error, "a response that can't be read could not be dropped");
        }
    };
    drop(app.tasks.spawn("forget", dropping));
}

/// One look. However it ends, nobody waits for it for ever.
struct UnderWay {
    app: Arc<App>,
    digest: BlobDigest,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.app.looks.end(&self.digest);
    }
}

impl UnderWay {
    async fn look(self, growing: Option<watch::Receiver<Progress>>) {
        let (app, digest) = (Arc::clone(&self.app), self.digest);
        if let Some(mut progress) = growing {
            let over = async { while progress.changed().await.is_ok() {} };
            if app.tasks.soft().run_until_cancelled(over).await.is_none() {
                return;
            }
        }
        let found = {
            let _turn = app.looks.turn.acquire().await;
            scrub::examine(&app, &digest, Hurry::AtOnce).await
        };
        // From here on, who asks next sees what is left.
        drop(self);
        let executed = scrub::settled(&app, &digest, found).await;
        info!(blob = %digest, outcome = executed.outcome.as_str(), detail = executed.detail, "looked at");
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn digest(number: u8) -> BlobDigest {
        BlobDigest::from([number; 64])
    }

    #[tokio::test]
    async fn a_blob_is_looked_at_once_and_who_asks_waits_for_what_is_found() {
        let (looks, one) = (Looks::default(), digest(1));
        assert!(looks.is_sound(&digest(1)).now_or_never().unwrap());
        assert!(looks.begin(digest(1)));
        assert!(!looks.begin(digest(1)), "it is looked at already");
        assert!(looks.is_sound(&digest(2)).now_or_never().unwrap(), "another one is in no doubt");
        let mut waits = std::pin::pin!(looks.is_sound(&one));
        assert!(waits.as_mut().now_or_never().is_none());
        looks.settle(&digest(1), false);
        assert!(waits.await);
        assert!(looks.begin(digest(1)));
        looks.settle(&digest(1), true);
        assert!(!looks.is_sound(&digest(1)).now_or_never().unwrap(), "it can't be read");
        looks.end(&digest(1));
        assert!(!looks.is_sound(&digest(1)).now_or_never().unwrap(), "it still can't be read");
        assert!(looks.begin(digest(1)), "it may be looked at again");
        let mut waits = std::pin::pin!(looks.is_sound(&one));
        assert!(waits.as_mut().now_or_never().is_none());
        // Its task died.
        looks.end(&digest(1));
        assert!(waits.await);
        assert_eq!(looks.count.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn nobody_waits_for_long_and_there_are_not_too_many() {
        let looks = Looks { wait_max: Duration::from_millis(1), ..Looks::default() };
        for number in 0..LOOKS_MAX {
            let mut name = [0; 64];
            name[..8].copy_from_slice(&number.to_ne_bytes());
            assert!(looks.begin(BlobDigest::from(name)));
        }
        assert!(!looks.begin(digest(9)));
        looks.settle(&digest(9), true);
        assert!(looks.is_sound(&digest(9)).await);
        assert!(!looks.is_sound(&digest(0)).await, "it may be wrong, as far as is known");
    }
}
