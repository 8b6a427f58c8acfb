//! Name → blob here, known distfile, or neither.

use std::sync::Arc;

use blob_store::{BlobDigest, Expected, OpenBlob, Scope, StoreError};
use gentoo_repo::{Distfile, DistfileName, HashAlgorithm, Restriction};

use super::request::ClientRequest;
use crate::app::App;
use crate::catalogue::KnownDistfile;

/// What we know of a name.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// It is here, and it is what the catalogue says, if that says anything.
    Hit(BlobDigest, OpenBlob),
    /// The catalogue has it; we don't.
    Miss(Arc<KnownDistfile>),
    /// It should be here, and the disk does not give it.
    Unreadable(Arc<KnownDistfile>),
    /// Nobody knows it.
    Unknown,
}

/// As [`by_name`]; what a new replica does not know, it looks for again when its first catalogue has come. A
/// peer doesn't wait: it has other ways.
pub(crate) async fn for_client(
    app: &Arc<App>,
    request: &ClientRequest,
    name: &DistfileName,
    module: Option<&str>,
) -> Result<Lookup, StoreError> {
    let found = by_name(app, name, module).await?;
    let is_settled = app.catalogue_settled.is_cancelled() || request.is_from_peer();
    if is_settled || !matches!(found, Lookup::Unknown) {
        return Ok(found);
    }
    app.catalogue_settled.cancelled().await;
    by_name(app, name, module).await
}

/// Resolves a name in the local catalogue and looks for its contents.
pub(crate) async fn by_name(
    app: &Arc<App>,
    name: &DistfileName,
    module: Option<&str>,
) -> Result<Lookup, StoreError> {
    let known = match app.catalogue.resolve(name, module).await {
        Ok(known) => known,
        Err(error) => {
            // What is here was verified when it came.
            tracing::warn!(%error, "serving without the catalogue");
            None
        }
    };
    let scope = match module {
        None => Scope::DISTFILES,
        Some(module) => match Scope::module(module) {
            Some(scope) => scope,
            None => return Ok(Lookup::Unknown),
        },
    };
    if let Some(known) = known {
        return of_known(app, known, scope).await;
    }
    let Some(digest) = app.store.named(&scope, name) else { return Ok(Lookup::Unknown) };
    if !app.looks.is_sound(&digest).await
        && let Some(info) = app.store.info(&digest)
    {
        return Ok(Lookup::Unreadable(Arc::new(of_digest(name, info.size_bytes, &digest, module))));
    }
    if let Some(blob) = app.store.read_now(&digest) {
        return Ok(Lookup::Hit(digest, blob));
    }
    let size_bytes = app.store.info(&digest).map(|info| info.size_bytes);
    let store = app.store.clone();
    match (blocking(move || store.read(&digest)).await, size_bytes) {
        (Ok(blob), _) => Ok(blob.map_or(Lookup::Unknown, |blob| Lookup::Hit(digest, blob))),
        (Err(error), Some(size_bytes)) => {
            tracing::warn!(%error, name = name.as_str(), "the store can't be read");
            Ok(Lookup::Unreadable(Arc::new(of_digest(name, size_bytes, &digest, module))))
        }
        (Err(error), None) => Err(error),
    }
}

/// What the store itself knows of a file whose name the catalogue does not have.
fn of_digest(
    name: &DistfileName,
    size_bytes: u64,
    digest: &BlobDigest,
    module: Option<&str>,
) -> KnownDistfile {
    let distfile = Distfile {
        name: name.clone(),
        size_bytes,
        digests: [(HashAlgorithm::Blake2b, digest.as_bytes().to_vec())].into_iter().collect(),
        sources: Vec::new(),
        restriction: Restriction::None,
        packages: Vec::new(),
    };
    KnownDistfile { module: module.unwrap_or_default().to_owned(), distfile }
}

/// Looks for the contents of a distfile, under whichever name they came.
pub(crate) async fn of_known(
    app: &Arc<App>,
    known: Arc<KnownDistfile>,
    scope: Scope,
) -> Result<Lookup, StoreError> {
    let distfile = &known.distfile;
    let named = [app.store.named(&scope, &distfile.name), app.store.named(&Scope::DISTFILES, &distfile.name)];
    if let Some(hit) = plain_hit(app, distfile, named).await {
        return Ok(hit);
    }
    let expected = Expected::new(distfile.name.clone(), distfile.size_bytes, distfile.digests.clone());
    let Ok(expected) = expected else { return Ok(Lookup::Miss(known)) };
    let candidates: Vec<BlobDigest> =
        expected.blob().map_or_else(|| named.into_iter().flatten().collect(), |digest| vec![digest]);
    if !candidates.iter().any(|digest| app.store.has(digest)) {
        return Ok(Lookup::Miss(known));
    }
    for digest in &candidates {
        if !app.looks.is_sound(digest).await && app.store.has(digest) {
            return Ok(Lookup::Unreadable(known));
        }
    }
    let is_named = named.iter().any(|digest| digest.is_some_and(|digest| candidates.contains(&digest)));
    let store = app.store.clone();
    let found = blocking(move || {
        for digest in candidates {
            if store.matches(&digest, &expected)?
                && let Some(blob) = store.read(&digest)?
            {
                // A renamed or re-rolled file whose contents are here already.
                if !is_named && let Err(error) = store.name(&scope, expected.name(), &digest) {
                    tracing::warn!(%error, "a blob could not be given its name");
                }
                return Ok(Some((digest, blob)));
            }
        }
        Ok(None)
    })
    .await;
    Ok(match found {
        Ok(Some((digest, blob))) => Lookup::Hit(digest, blob),
        Ok(None) => Lookup::Miss(known),
        Err(error) => {
            tracing::warn!(%error, name = known.distfile.name.as_str(), "the store can't be read");
            Lookup::Unreadable(known)
        }
    })
}

/// A blob that is named by the digest that the tree lists, and that its name leads to: without a turn of another thread,
/// and without a copy of what is listed.
async fn plain_hit(app: &App, distfile: &Distfile, named: [Option<BlobDigest>; 2]) -> Option<Lookup> {
    let digest = blob_of(distfile).filter(|digest| named.contains(&Some(*digest)))?;
    if !app.looks.is_sound(&digest).await {
        return None;
    }
    let blob = app.store.read_now(&digest)?;
    (blob.size_bytes() == distfile.size_bytes).then_some(Lookup::Hit(digest, blob))
}

/// The blob that a distfile is, if its BLAKE2B is listed.
pub(crate) fn blob_of(distfile: &Distfile) -> Option<BlobDigest> {
    distfile.digests.get(HashAlgorithm::Blake2b).and_then(|listed| BlobDigest::try_from(listed).ok())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // The runtime is going down, or the store panicked: neither is a hit.
        Err(error) => Err(StoreError::Interrupted { reason: error.to_string() }),
    }
}
