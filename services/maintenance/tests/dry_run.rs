//! A dry run of each step, and of each order: says what it would do, and changes nothing.

#![allow(clippy::unwrap_used, reason = "how a test fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own tasks end with it")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rookery_proto::v1::decision::Action;
use rookery_proto::v1::{
    EvictRequest, ForgetReplicaRequest, ImportDirectory, ImportDirectoryRequest, ImportOutcome, ImportReport,
    ImportTally, ReportImportRequest, RunNightlyRequest, VerifyRequest, WatchDecisionsRequest,
};
use sqlx::{AssertSqlSafe, SqlitePool};
use support::{DAY_MS, Rig, blob, distfile, within};

/// Every row of every table.
type Rows = BTreeMap<String, Vec<String>>;

async fn rows(rig: &Rig) -> Rows {
    let url = format!("sqlite://{}?mode=ro", rig.index_path().display());
    let pool = SqlitePool::connect(&url).await.unwrap();
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&pool).await.unwrap();
    let mut rows = Rows::new();
    for table in tables {
        let columns = "SELECT name FROM pragma_table_info($1)";
        let columns: Vec<String> = sqlx::query_scalar(columns).bind(&table).fetch_all(&pool).await.unwrap();
        let quoted: Vec<_> = columns.iter().map(|column| format!("quote({column})")).collect();
        let sql = format!("SELECT {} AS row FROM {table} ORDER BY row", quoted.join(" || ',' || "));
        let found = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&pool).await.unwrap();
        rows.insert(table, found);
    }
    pool.close().await;
    assert!(rows.len() > 15 && !rows["holders"].is_empty(), "{:?}", rows.keys());
    rows
}

/// A replica that answers questions, and remembers whatever is an order.
async fn replica(rig: &Rig) -> Arc<Mutex<Vec<Action>>> {
    let request = WatchDecisionsRequest { replica_id: "r1".to_owned() };
    let mut stream = within(rig.client().watch_decisions(request)).await.unwrap().into_inner();
    let orders: Arc<Mutex<Vec<Action>>> = Arc::default();
    let (told, mut client) = (Arc::clone(&orders), rig.client());
    tokio::spawn(async move {
        while let Ok(Some(decision)) = stream.message().await {
            let action = decision.action.unwrap();
            if !matches!(&action, Action::ImportDirectory(question) if question.dry_run) {
                told.lock().unwrap().push(action);
                continue;
            }
            let tally = ImportTally { outcome: ImportOutcome::Removed.into(), files: 3, bytes: 2048 };
            let report = ImportReport { tallies: vec![tally], ..ImportReport::default() };
            let request = ReportImportRequest {
                replica_id: "r1".to_owned(),
                decision_id: decision.id,
                reports: vec![report],
            };
            client.report_import(request).await.unwrap();
        }
    });
    orders
}

async fn prepared() -> Rig {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.register("gone").await;
    rig.publish("gentoo", 1, &[distfile("a"), distfile("b")]).await;
    rig.inventory("r1", vec![blob("a"), blob("b"), blob("old")]).await;
    rig.inventory("gone", vec![blob("a")]).await;
    rig.clock.advance_ms(60 * DAY_MS);
    rig
}

#[tokio::test]
async fn each_step_says_what_it_would_do_and_changes_nothing() {
    let rig = prepared().await;
    let orders = replica(&rig).await;
    let before = rows(&rig).await;
    let expected = [
        ("publish", "would look at the sources of gentoo"),
        ("catalogue", "gentoo at generation 1"),
        ("import", "r1: would be: 3 adopted (2.0 KiB), 0 known, 3 removed; left: 0 unknown"),
        ("scrub", "4 blobs (3.9 KiB) would be read"),
        ("plan", "1 blobs to evict (1000 B): 1 unreferenced; 3 kept"),
        ("evict", "1 evictions would be decided"),
    ];
    for (name, says) in expected {
        let request = RunNightlyRequest { dry_run: true, steps: vec![name.to_owned()] };
        let run = within(rig.admin().run_nightly(request)).await.unwrap().into_inner().run.unwrap();
        let [step] = &run.steps[..] else { panic!("{run:?}") };
        assert_eq!((step.name.as_str(), step.outcome.as_str()), (name, "done"), "{step:?}");
        assert!(step.report.starts_with(says), "{name}: {}", step.report);
        assert_eq!(rows(&rig).await, before, "{name}");
    }
    let whole = RunNightlyRequest { dry_run: true, steps: Vec::new() };
    let run = within(rig.admin().run_nightly(whole)).await.unwrap().into_inner().run.unwrap();
    let said: Vec<_> = run.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(said, expected.map(|(name, _)| name));
    assert_eq!(rows(&rig).await, before, "all of them");
    assert_eq!(*orders.lock().unwrap(), [], "nobody is told to do anything");
    assert!(rig.tree.publish_calls().is_empty());
    assert_eq!(rig.status().await.last_run, None, "and it was no run");
}

#[tokio::test]
async fn each_order_with_a_dry_run_changes_nothing() {
    let rig = prepared().await;
    let orders = replica(&rig).await;
    let before = rows(&rig).await;
    let evict = EvictRequest { dry_run: true, ..EvictRequest::default() };
    assert_eq!(rig.admin().evict(evict).await.unwrap().into_inner().evictions.len(), 1);
    let verify = VerifyRequest { names: Vec::new(), dry_run: true };
    let verified = rig.admin().verify(verify).await.unwrap().into_inner();
    assert_eq!((verified.blobs, verified.decision_ids.len()), (4, 0));
    let forget = ForgetReplicaRequest { replica_id: "gone".to_owned(), dry_run: true };
    assert_eq!(rig.admin().forget_replica(forget).await.unwrap().into_inner().blobs, 1);
    let directory = ImportDirectory { dir: "/d".to_owned(), dry_run: true, ..ImportDirectory::default() };
    let import = ImportDirectoryRequest { replica_id: "r1".to_owned(), directory: Some(directory) };
    assert_eq!(within(rig.admin().import_directory(import)).await.unwrap().into_inner().reports.len(), 1);
    assert_eq!(rows(&rig).await, before);
    assert_eq!(*orders.lock().unwrap(), [], "nobody is told to do anything");
}
