//! Carries out what maintenance decides.

use std::sync::{Arc, Weak};
use std::time::{Duration, UNIX_EPOCH};

use blob_store::{BlobDigest, BlobInfo, Evicted, Scope, StoreError};
use gentoo_repo::{DistfileName, HashAlgorithm, Restriction};
use http_wire::via::Via;
use rookery_proto::v1;
use tokio::sync::mpsc;

use crate::app::{App, ms_since_epoch};
use crate::catalogue::KnownDistfile;
use crate::farm::{BlobHash, DecisionExecutor, Executed, HeldBlob, ImportMeter, Outcome};
use crate::scrub;

/// Blobs told in one go.
const BATCH_BLOBS: usize = 500;

/// The store and the fetcher, as maintenance sees them. It must not keep the app alive.
pub(crate) struct Executor(pub(crate) Weak<App>);

fn executed(outcome: Outcome, detail: impl Into<String>) -> Executed {
    Executed::new(outcome, detail)
}

fn stopping() -> Executed {
    executed(Outcome::Busy, "the replica is stopping")
}

#[tonic::async_trait]
impl DecisionExecutor for Executor {
    async fn evict(&self, blob: BlobHash, unless_accessed_after_ms: i64) -> Executed {
        let Some(app) = self.0.upgrade() else { return stopping() };
        let after = u64::try_from(unless_accessed_after_ms).unwrap_or(0);
        let after = UNIX_EPOCH.checked_add(Duration::from_millis(after));
        evicted(move || app.store.evict(&BlobDigest::from(blob), after)).await
    }

    async fn evict_quarantined(&self, blob: BlobHash) -> Executed {
        let Some(app) = self.0.upgrade() else { return stopping() };
        evicted(move || app.store.evict_quarantined(&BlobDigest::from(blob))).await
    }

    async fn verify(&self, blob: BlobHash) -> Executed {
        let Some(app) = self.0.upgrade() else { return stopping() };
        scrub::verify(&app, &BlobDigest::from(blob)).await
    }

    async fn fetch(&self, name: &DistfileName) -> Executed {
        let Some(app) = self.0.upgrade() else { return stopping() };
        let known = match app.catalogue.resolve(name, None).await {
            Ok(Some(known)) => known,
            Ok(None) => return executed(Outcome::Gone, "not in the catalogue"),
            Err(error) => return executed(Outcome::Busy, error.to_string()),
        };
        if known.distfile.restriction == Restriction::Fetch {
            return executed(Outcome::Gone, "RESTRICT=fetch");
        }
        if is_here(&app, &known).await {
            return executed(Outcome::Done, "it was here");
        }
        let follower = crate::fetch::follow(&app, &known, None, &Via::default());
        match follower.finished().await {
            Ok(()) => executed(Outcome::Done, "fetched"),
            Err(failure) => executed(Outcome::Busy, failure.why),
        }
    }

    async fn import(&self, order: &v1::ImportDirectory, meter: &ImportMeter) -> Vec<v1::ImportReport> {
        match self.0.upgrade() {
            Some(app) => crate::import::by_decision(&app, order, meter).await,
            None => Vec::new(),
        }
    }

    async fn inventory(&self, batches: mpsc::Sender<Vec<HeldBlob>>) -> anyhow::Result<()> {
        let app = self.0.upgrade().ok_or_else(|| anyhow::anyhow!("the replica is stopping"))?;
        for batch in app.store.inventory().chunks(BATCH_BLOBS) {
            batches.send(batch.iter().map(held).collect()).await?;
        }
        let store = app.store.clone();
        let damaged = tokio::task::spawn_blocking(move || store.quarantined()).await??;
        if !damaged.is_empty() {
            batches.send(damaged.into_iter().map(quarantined).collect()).await?;
        }
        Ok(())
    }
}

async fn evicted(evict: impl FnOnce() -> Result<Evicted, StoreError> + Send + 'static) -> Executed {
    match tokio::task::spawn_blocking(evict).await {
        Ok(Ok(Evicted::Done { bytes })) => executed(Outcome::Done, format!("{bytes} bytes freed")),
        Ok(Ok(Evicted::Busy)) => executed(Outcome::Busy, "being read, or asked for since"),
        Ok(Ok(Evicted::Gone)) => executed(Outcome::Gone, ""),
        Ok(Err(error)) => executed(Outcome::Busy, error.to_string()),
        Err(_) => stopping(),
    }
}

/// Whether the contents are here; they get the name if they came under another one.
async fn is_here(app: &Arc<App>, known: &KnownDistfile) -> bool {
    let digest =
        known.distfile.digests.get(HashAlgorithm::Blake2b).and_then(|d| BlobDigest::try_from(d).ok());
    let Some(digest) = digest.filter(|digest| app.store.info(digest).is_some()) else { return false };
    let (store, name) = (app.store.clone(), known.distfile.name.clone());
    let named = tokio::task::spawn_blocking(move || store.name(&Scope::DISTFILES, &name, &digest));
    matches!(named.await, Ok(Ok(())))
}

fn held(info: &BlobInfo) -> HeldBlob {
    HeldBlob {
        blake2b: *info.digest.as_bytes(),
        size_bytes: info.size_bytes,
        names: info.names.iter().map(|name| name.as_str().to_owned()).collect(),
        last_access_ms: info.last_access.map_or(0, ms_since_epoch),
        quarantined: false,
    }
}

/// Its names are gone.
fn quarantined((digest, size_bytes): (BlobDigest, u64)) -> HeldBlob {
    HeldBlob {
        blake2b: *digest.as_bytes(),
        size_bytes,
        names: Vec::new(),
        last_access_ms: 0,
        quarantined: true,
    }
}

/// For [`crate::farm::Farm::start`].
pub(crate) fn executor(app: &Arc<App>) -> Arc<dyn DecisionExecutor> {
    Arc::new(Executor(Arc::downgrade(app)))
}
