//! What callers may send: every length and count has a limit, and every digest its size.

use cache_policy::eviction::BlobKey;
use gentoo_repo::DistfileName;
use rookery_proto::v1::{
    self, Access, AccessOutcome, Blob, FetchObject, ImportDirectory, ImportReport, ListObjectsRequest,
    RegisterRequest, SourceTally,
};
use tonic::Status;

use crate::index::{
    AccessRecord, BlobRecord, Object, ObjectOrder, ObjectQuery, ObjectState, Replica, SourceReport,
};

const ID_OCTETS_MAX: usize = 128;
const ADVERTISE_OCTETS_MAX: usize = 512;
const TEXT_OCTETS_MAX: usize = 2048;
const DIGEST_OCTETS_MAX: usize = 64;
const NAMES_MAX: usize = 64;
/// Accesses in one report.
pub(super) const ACCESSES_MAX: usize = 10_000;
/// Blobs in one inventory: a replica with more has another problem first.
pub(super) const INVENTORY_BLOBS_MAX: usize = 1_000_000;
/// Names in one order to verify.
pub(super) const VERIFY_NAMES_MAX: usize = 10_000;
/// Rows of one listing.
pub(super) const LIST_MAX: u32 = 10_000;
const LIST_DEFAULT: u32 = 100;
/// Modules that a replica may say it has.
pub(super) const MODULES_MAX: usize = 1000;

/// An id that a peer made up: it ends in logs, in the index and on the operator's screen.
pub(super) fn id<'a>(what: &str, text: &'a str) -> Result<&'a str, Status> {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.:".contains(&octet);
    if text.is_empty() || text.len() > ID_OCTETS_MAX || !text.bytes().all(plain) {
        return Err(wrong(what, "1 to 128 letters, digits or -_.: are expected"));
    }
    Ok(text)
}

/// Text for people.
pub(super) fn text(what: &str, text: String) -> Result<String, Status> {
    if text.len() > TEXT_OCTETS_MAX || text.contains(char::is_control) {
        return Err(wrong(what, "at most 2048 octets without control characters are expected"));
    }
    Ok(text)
}

pub(super) fn name(what: &str, text: &str) -> Result<String, Status> {
    let name = DistfileName::try_from(text).map_err(|error| wrong(what, &error.to_string()))?;
    Ok(name.as_str().to_owned())
}

pub(super) fn blob_key(what: &str, octets: &[u8]) -> Result<BlobKey, Status> {
    let octets = octets.try_into().map_err(|_| wrong(what, "64 octets are expected"))?;
    Ok(BlobKey::new(octets))
}

pub(super) fn count(what: &str, found: usize, limit: usize) -> Result<(), Status> {
    if found <= limit {
        return Ok(());
    }
    Err(wrong(what, &format!("at most {limit} are expected, found {found}")))
}

pub(super) fn replica(request: RegisterRequest) -> Result<Replica, Status> {
    id("replica_id", &request.replica_id)?;
    let advertise = text("advertise", request.advertise)?;
    let is_url = ["http://", "https://"].iter().any(|scheme| advertise.starts_with(scheme));
    if !advertise.is_empty() && (!is_url || advertise.len() > ADVERTISE_OCTETS_MAX) {
        return Err(wrong("advertise", "http://host:port, or nothing, is expected"));
    }
    Ok(Replica {
        id: request.replica_id,
        advertise,
        capacity_bytes: request.capacity_bytes,
        version: text("version", request.version)?,
    })
}

pub(super) fn object(object: Option<FetchObject>) -> Result<Object, Status> {
    let object = object.ok_or_else(|| wrong("object", "it is expected"))?;
    let digest = object.digest.ok_or_else(|| wrong("object.digest", "it is expected"))?;
    id("object.digest.algorithm", &digest.algorithm)?;
    if digest.algorithm == "BLAKE2B" {
        blob_key("object.digest.value", &digest.value)?;
    } else if !(16..=DIGEST_OCTETS_MAX).contains(&digest.value.len()) {
        return Err(wrong("object.digest.value", "16 to 64 octets are expected"));
    }
    Ok(Object {
        name: name("object.name", &object.name)?,
        algorithm: digest.algorithm,
        digest: digest.value,
        size_bytes: object.size_bytes,
    })
}

pub(super) fn blob(blob: &Blob) -> Result<BlobRecord, Status> {
    count("blob.names", blob.names.len(), NAMES_MAX)?;
    let names = blob.names.iter().map(|one| name("blob.names", one));
    Ok(BlobRecord {
        blob: blob_key("blob.blake2b", &blob.blake2b)?,
        size_bytes: blob.size_bytes,
        names: names.collect::<Result<_, _>>()?,
        last_access_ms: blob.last_access_ms.max(0),
        quarantined: blob.quarantined,
    })
}

pub(super) fn access(access: &Access) -> Result<AccessRecord, Status> {
    let blob =
        if access.blake2b.is_empty() { None } else { Some(blob_key("access.blake2b", &access.blake2b)?) };
    Ok(AccessRecord {
        name: name("access.name", &access.name)?,
        blob,
        client: id("access.client", &access.client)?.to_owned(),
        at_ms: access.at_ms.max(0),
        bytes_served: access.bytes_served,
        hit: access.outcome() == AccessOutcome::Hit,
    })
}

/// Places in one report.
pub(super) const SOURCES_MAX: usize = 256;
const ORIGIN_OCTETS_MAX: usize = 300;

pub(super) fn source(tally: SourceTally) -> Result<SourceReport, Status> {
    let plain = |octet: u8| octet.is_ascii_graphic();
    if tally.origin.is_empty() || tally.origin.len() > ORIGIN_OCTETS_MAX || !tally.origin.bytes().all(plain) {
        return Err(wrong("source.origin", "scheme://host:port is expected"));
    }
    if tally.failures > tally.tries || tally.row > tally.failures {
        return Err(wrong("source.failures", "at most as many as tries are expected"));
    }
    Ok(SourceReport {
        origin: tally.origin,
        tries: tally.tries,
        failures: tally.failures,
        last_ok_ms: tally.last_ok_ms,
        failing_since_ms: tally.failing_since_ms,
        row: tally.row,
        last_failed_ms: tally.last_failed_ms,
        fault: text("source.fault", tally.fault)?,
    })
}

/// Directories in one report of an import.
const IMPORT_REPORTS_MAX: usize = 256;
/// Files that one report lists, and kinds of outcome.
const IMPORT_FILES_MAX: usize = 1000;
const IMPORT_TALLIES_MAX: usize = 64;
/// A path.
const PATH_OCTETS_MAX: usize = 4096;

pub(super) fn import_reports(reports: &[ImportReport]) -> Result<(), Status> {
    count("reports", reports.len(), IMPORT_REPORTS_MAX)?;
    for report in reports {
        path("reports.dir", &report.dir)?;
        count("reports.tallies", report.tallies.len(), IMPORT_TALLIES_MAX)?;
        count("reports.files", report.files.len(), IMPORT_FILES_MAX)?;
        text("reports.error", report.error.clone())?;
        for file in &report.files {
            path("reports.files.name", &file.name)?;
            text("reports.files.detail", file.detail.clone())?;
        }
    }
    Ok(())
}

pub(super) fn import_directory(directory: Option<ImportDirectory>) -> Result<ImportDirectory, Status> {
    let directory = directory.unwrap_or_default();
    path("directory.dir", &directory.dir)?;
    if !directory.dir.is_empty() && !directory.dir.starts_with('/') {
        return Err(wrong("directory.dir", "an absolute path is expected"));
    }
    Ok(directory)
}

pub(super) fn path(what: &str, text: &str) -> Result<(), Status> {
    if text.len() > PATH_OCTETS_MAX || text.contains(char::is_control) {
        return Err(wrong(what, "a path of at most 4096 octets without control characters is expected"));
    }
    Ok(())
}

pub(super) fn limit(asked: u32) -> Result<u32, Status> {
    match asked {
        0 => Ok(LIST_DEFAULT),
        1..=LIST_MAX => Ok(asked),
        _ => Err(wrong("limit", &format!("at most {LIST_MAX} is expected, found {asked}"))),
    }
}

pub(super) fn object_query(request: ListObjectsRequest) -> Result<ObjectQuery, Status> {
    let order = match request.order() {
        v1::ObjectOrder::Unspecified | v1::ObjectOrder::Name => ObjectOrder::Name,
        v1::ObjectOrder::Size => ObjectOrder::Size,
        v1::ObjectOrder::LastAccess => ObjectOrder::LastAccess,
        v1::ObjectOrder::Requests => ObjectOrder::Requests,
    };
    if !request.replica_id.is_empty() {
        id("replica_id", &request.replica_id)?;
    }
    let state = if request.state.is_empty() {
        None
    } else {
        let state = ObjectState::from_name(&request.state);
        let expected = "referenced, unreferenced, pinned or quarantined is expected";
        Some(state.ok_or_else(|| wrong("state", expected))?)
    };
    Ok(ObjectQuery {
        name: text("name", request.name)?,
        replica_id: request.replica_id,
        state,
        order,
        descending: request.descending,
        limit: limit(request.limit)?,
    })
}

pub(super) fn wrong(what: &str, expected: &str) -> Status {
    Status::invalid_argument(format!("{what}: {expected}"))
}
