use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::Index;
use super::*;

const BLOBS: u8 = 8;
const PACKAGES: [&str; 4] = ["", "app-a/x", "app-a/x app-b/y", "app-b/y"];
const NOW: UnixMs = UnixMs::new(1_700_000_000_000);
const LIMITS: Limits = Limits {
    unreferenced_grace_ms: 0,
    quarantine_grace_ms: 0,
    keep_accessed_ms: 0,
    high_water_percent: 90,
    low_water_percent: 80,
};

#[derive(Debug, Clone)]
struct Holder {
    added: i64,
    size: i64,
    quarantined: bool,
}

#[derive(Debug, Clone)]
struct Blob {
    last_access: i64,
    unreferenced_since: Option<i64>,
    fetch_restricted: bool,
    pinned: bool,
    here: Option<Holder>,
    elsewhere: Option<Holder>,
}

#[derive(Debug, Clone)]
struct Distfile {
    blob: u8,
    packages: usize,
    removed: bool,
}

fn holder() -> impl Strategy<Value = Holder> {
    let fields = (1..6_i64, 0..100_i64, prop::bool::weighted(0.2));
    fields.prop_map(|(added, size, quarantined)| Holder { added, size, quarantined })
}

fn blob() -> impl Strategy<Value = Blob> {
    let times = (0..6_i64, option::weighted(0.2, 1..6_i64));
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (times, flags, option::weighted(0.8, holder()), option::of(holder())).prop_map(
        |((last_access, unreferenced_since), (fetch_restricted, pinned), here, elsewhere)| Blob {
            last_access,
            unreferenced_since,
            fetch_restricted,
            pinned,
            here,
            elsewhere,
        },
    )
}

fn distfile() -> impl Strategy<Value = Distfile> {
    let fields = (0..BLOBS, 0..PACKAGES.len(), prop::bool::weighted(0.2));
    fields.prop_map(|(blob, packages, removed)| Distfile { blob, packages, removed })
}

/// What each blob is, worked out one by one and without SQL.
fn expected(blobs: &[Blob], distfiles: &[Distfile], is_pressed: bool) -> Vec<Candidate> {
    let sound = |number: u8| blobs[usize::from(number)].here.as_ref().filter(|here| !here.quarantined);
    let newest = |packages: usize| {
        let same = distfiles.iter().filter(|one| !one.removed && one.packages == packages);
        same.filter_map(|one| sound(one.blob)).map(|here| here.added).max().unwrap_or(0)
    };
    let superseded = |number: u8, added: i64| {
        let own = distfiles.iter().filter(|one| one.blob == number && !one.removed && one.packages > 0);
        own.map(|one| newest(one.packages)).min().filter(|came| is_pressed && *came > added)
    };
    let candidate = |(number, blob): (u8, &Blob)| {
        let here = blob.here.as_ref()?;
        let standing = match (here.quarantined, blob.unreferenced_since, superseded(number, here.added)) {
            (true, ..) => Standing::Quarantined { since: UnixMs::new(here.added) },
            (_, Some(since), _) => Standing::Unreferenced { since: UnixMs::new(since) },
            (_, None, Some(since)) => Standing::Superseded { since: UnixMs::new(since) },
            (_, None, None) => Standing::Referenced,
        };
        Some(Candidate {
            blob: BlobKey::new([number; 64]),
            size_bytes: from_sql(here.size),
            standing,
            added: UnixMs::new(here.added),
            last_access: (blob.last_access > 0).then(|| UnixMs::new(blob.last_access)),
            leased: false,
            being_read: false,
            pinned: blob.pinned,
            refetchable: !blob.fetch_restricted,
            decided: false,
        })
    };
    (0..).zip(blobs).filter_map(candidate).collect()
}

async fn fill(conn: &mut Connection, blobs: &[Blob], distfiles: &[Distfile]) {
    for (number, blob) in (0_u8..).zip(blobs) {
        let key = vec![number; 64];
        let sql = "INSERT INTO blobs VALUES ($1, 0, $2, $3, $4)";
        let query = sqlx::query(sql).bind(&key).bind(blob.last_access).bind(blob.unreferenced_since);
        query.bind(i64::from(blob.fetch_restricted)).execute(&mut *conn).await.unwrap();
        for (replica_id, holder) in [("r1", &blob.here), ("r2", &blob.elsewhere)] {
            let Some(holder) = holder else { continue };
            let sql =
                "INSERT INTO holders (replica_id, blake2b, size_bytes, added_ms, inventory, quarantined)
                       VALUES ($1, $2, $3, $4, 0, $5)";
            let query = sqlx::query(sql).bind(replica_id).bind(&key).bind(holder.size).bind(holder.added);
            query.bind(i64::from(holder.quarantined)).execute(&mut *conn).await.unwrap();
            let sql = "INSERT INTO names VALUES ($1, $2, $3)";
            let query = sqlx::query(sql).bind(replica_id).bind(&key).bind(format!("file-{number}"));
            query.execute(&mut *conn).await.unwrap();
        }
        if blob.pinned {
            let sql = "INSERT INTO pins VALUES ($1, '', 0)";
            sqlx::query(sql).bind(format!("file-{number}")).execute(&mut *conn).await.unwrap();
        }
    }
    for (number, distfile) in (0_u32..).zip(distfiles) {
        let sql = "INSERT INTO distfiles
                     (module, name, size_bytes, blake2b, restriction, removed, revision, record, packages)
                   VALUES ('gentoo', $1, 0, $2, 0, $3, 1, x'', $4)";
        let query = sqlx::query(sql).bind(format!("distfile-{number}")).bind(vec![distfile.blob; 64]);
        let query = query.bind(i64::from(distfile.removed)).bind(PACKAGES[distfile.packages]);
        query.execute(&mut *conn).await.unwrap();
    }
}

async fn found(blobs: &[Blob], distfiles: &[Distfile], usage: Usage) -> Vec<Candidate> {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.db"), NOW).await.unwrap();
    let mut tx = index.write().await.unwrap();
    fill(&mut tx, blobs, distfiles).await;
    let farm = FarmFacts::load(&mut tx, NOW).await.unwrap();
    candidates(&mut tx, "r1", &farm, usage, LIMITS, NOW).await.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// One pass over everything says of each blob what looking at it alone would.
    #[test]
    fn each_blob_is_what_it_is_alone(
        blobs in vec(blob(), usize::from(BLOBS)),
        distfiles in vec(distfile(), 0..24),
        is_pressed: bool,
    ) {
        let usage = Usage { used_bytes: if is_pressed { 91 } else { 90 }, capacity_bytes: 100 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let found = runtime.block_on(found(&blobs, &distfiles, usage));
        prop_assert_eq!(found, expected(&blobs, &distfiles, is_pressed));
    }
}
