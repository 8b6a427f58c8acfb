//! From the crate's types to the contract's messages.

use rookery_proto::v1;

use super::types::{Access, AccessOutcome, CommittedBlob, HeldBlob, Outcome};
use crate::catalogue::KnownDistfile;

/// Identity of a distfile in the farm: its name and the best digest of its DIST line. `None` if it has
/// no digest, so that it can't be told from another file of that name.
pub(super) fn fetch_object(known: &KnownDistfile) -> Option<v1::FetchObject> {
    let (algorithm, value) = known.distfile.digests.best()?;
    Some(v1::FetchObject {
        name: known.distfile.name.as_str().to_owned(),
        digest: Some(v1::Digest { algorithm: algorithm.manifest_name().to_owned(), value: value.to_vec() }),
        size_bytes: known.distfile.size_bytes,
    })
}

pub(super) fn held_blob(blob: HeldBlob) -> v1::Blob {
    v1::Blob {
        blake2b: blob.blake2b.to_vec(),
        size_bytes: blob.size_bytes,
        names: blob.names,
        last_access_ms: blob.last_access_ms,
    }
}

/// A commit; `lease` is its id and fence, if it was fetched under one.
pub(super) fn commit(
    replica_id: &str,
    lease: Option<(String, u64)>,
    blob: CommittedBlob,
) -> v1::CommitFetchRequest {
    let object = fetch_object(&blob.known);
    let (lease_id, fence) = lease.unwrap_or_default();
    v1::CommitFetchRequest {
        replica_id: replica_id.to_owned(),
        lease_id,
        fence,
        object,
        blob: Some(v1::Blob {
            blake2b: blob.blake2b.to_vec(),
            size_bytes: blob.known.distfile.size_bytes,
            names: blob.names,
            last_access_ms: blob.last_access_ms,
        }),
        source: blob.source,
        upstream_bytes: blob.upstream_bytes,
    }
}

pub(super) fn access(access: Access) -> v1::Access {
    let outcome = match access.outcome {
        AccessOutcome::Hit => v1::AccessOutcome::Hit,
        AccessOutcome::Miss => v1::AccessOutcome::Miss,
        AccessOutcome::Failed => v1::AccessOutcome::Failed,
    };
    v1::Access {
        name: access.name,
        blake2b: access.blake2b.map(|hash| hash.to_vec()).unwrap_or_default(),
        client: access.client.to_string(),
        at_ms: access.at_ms,
        bytes_served: access.bytes_served,
        outcome: outcome.into(),
    }
}

pub(super) fn outcome(outcome: Outcome) -> v1::DecisionOutcome {
    match outcome {
        Outcome::Done => v1::DecisionOutcome::Done,
        Outcome::Busy => v1::DecisionOutcome::Busy,
        Outcome::Gone => v1::DecisionOutcome::Gone,
    }
}
