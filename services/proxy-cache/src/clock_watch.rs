//! Looks at the clock, and puts back what it wrote while it was ahead: `cache_policy::ahead` says when and what.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use blob_store::Store;
use cache_policy::UnixMs;
use cache_policy::ahead::{Look, Watch, latest_past};
use tracing::warn;

use crate::app::{App, now_ms};

/// It may be set at any time.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// Runs until the service stops.
pub(crate) async fn run(app: Arc<App>) {
    let soft = app.tasks.soft();
    let mut watch = Watch::default();
    while soft.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let store = app.store.clone();
        let now = UnixMs::new(now_ms());
        let look = watch.look(now);
        // Each blob that lies ahead costs an open and a write.
        if let Err(error) = tokio::task::spawn_blocking(move || act(look, &store, now)).await {
            warn!(%error, "accesses that lie ahead are not put back");
        }
    }
}

/// Blocks.
fn act(look: Look, store: &Store, now: UnixMs) {
    match look {
        Look::Begun | Look::SetBack | Look::Steady => {}
        Look::Proven => {
            let accesses = store.put_accesses_back(time(latest_past(now)), time(now));
            if accesses > 0 {
                warn!(accesses, "accesses lay ahead, written by a clock that was: they are put back to now");
            }
        }
    }
}

fn time(at: UnixMs) -> SystemTime {
    let ms = u64::try_from(at.get()).unwrap_or(0);
    UNIX_EPOCH.checked_add(Duration::from_millis(ms)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, FileTimes};

    use blob_store::{BlobDigest, Options};

    use super::*;

    #[test]
    fn what_lies_ahead_is_put_back_once_the_clock_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let digest = BlobDigest::from([7; 64]);
        let blobs = dir.path().join("r0/blobs/07");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(digest.to_hex()), b"blob").unwrap();
        let file = File::open(blobs.join(digest.to_hex())).unwrap();
        let now = UnixMs::new(1_700_000_000_000);
        let ahead = time(now.after_ms(10 * 365 * 24 * 60 * 60 * 1000));
        file.set_times(FileTimes::new().set_accessed(ahead)).unwrap();
        let options = Options { cache_dir: dir.path().to_owned(), capacity_bytes: 1 << 20, faults: None };
        let store = Store::open(options).unwrap().0;
        for look in [Look::Begun, Look::SetBack, Look::Steady] {
            act(look, &store, now);
            assert_eq!(store.info(&digest).unwrap().last_access, Some(ahead), "{look:?}");
        }
        act(Look::Proven, &store, now);
        assert_eq!(store.info(&digest).unwrap().last_access, Some(time(now)));
    }
}
