//! Another program locks the index: what is refused is refused with the reason, and nothing is lost.

#![allow(clippy::unwrap_used, reason = "how a test fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own tasks end with it")]
#![allow(clippy::print_stdout, reason = "how the other process says that it is ready")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rookery_proto::v1::{
    Access, AccessOutcome, InventoryBatch, ReportAccessesRequest, ReportAccessesResponse, RunNightlyRequest,
};
use service_kit::Kit;
use service_kit::exit_code::Exit;
use support::{DAY_MS, Rig, blob, distfile, key};
use tonic::{Code, Status};

/// Names the file for the process that locks it.
const INDEX: &str = "ROOKERY_TEST_LOCKED_INDEX";
const HELD: &str = "it is locked";

/// What the other process runs: locks the file until its standard input ends.
#[tokio::test]
#[ignore = "only in a process of its own"]
async fn hold_the_index() {
    let Some(index) = std::env::var_os(INDEX) else { return };
    let url = format!("sqlite://{}", Path::new(&index).display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut *connection).await.unwrap();
    println!("\n{HELD}");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    sqlx::query("ROLLBACK").execute(&mut *connection).await.unwrap();
}

/// The other program, for as long as it is kept.
struct Holder {
    child: Child,
    /// It says more at its end, and somebody has to listen.
    says: BufReader<ChildStdout>,
}

impl Holder {
    fn lock(index: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "hold_the_index"])
            .env(INDEX, index)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut says = BufReader::new(child.stdout.take().unwrap());
        let mut lines = says.by_ref().lines().map_while(Result::ok);
        assert!(lines.any(|line| line == HELD), "it never locked the index");
        Self { child, says }
    }

    fn release(mut self) {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.says.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
    }
}

async fn report(rig: &Rig) -> Result<ReportAccessesResponse, Status> {
    let access = Access {
        name: "a".to_owned(),
        blake2b: key("a"),
        client: "10.0.0.1".to_owned(),
        at_ms: rig.now_ms(),
        bytes_served: 1000,
        outcome: AccessOutcome::Hit.into(),
    };
    let request = ReportAccessesRequest {
        replica_id: "r1".to_owned(),
        report_id: "r1-1".to_owned(),
        accesses: vec![access],
        ..ReportAccessesRequest::default()
    };
    Ok(rig.client().report_accesses(request).await?.into_inner())
}

fn is_named(status: &Status, index: &Path) {
    assert_eq!(status.code(), Code::Aborted, "it may be tried again: {status}");
    let expected = format!("index {}: another program has locked it", index.display());
    assert!(status.message().starts_with(&expected), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_another_program_has_the_index_it_is_said_and_afterwards_everything_goes_on() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.publish("gentoo", 1, &[distfile("a")]).await;
    rig.inventory("r1", vec![blob("a")]).await;
    rig.clock.advance_ms(30 * DAY_MS);
    let holder = Holder::lock(&rig.index_path());

    let steps = || RunNightlyRequest { dry_run: false, steps: vec!["scrub".to_owned()] };
    let inventory = InventoryBatch {
        replica_id: "r1".to_owned(),
        capacity_bytes: 1 << 30,
        blobs: vec![blob("a"), blob("b")],
        ..InventoryBatch::default()
    };
    let (mut admin, mut client) = (rig.admin(), rig.client());
    let (reported, told, run) = tokio::join!(
        report(&rig),
        client.report_inventory(tokio_stream::iter([inventory.clone()])),
        admin.run_nightly(steps()),
    );
    for refused in [reported.unwrap_err(), told.unwrap_err(), run.unwrap_err()] {
        is_named(&refused, &rig.index_path());
    }
    let status = rig.status().await;
    assert_eq!((status.replicas[0].blobs, status.savings.unwrap_or_default().requests), (1, 0));

    holder.release();
    for _ in 0..2 {
        report(&rig).await.unwrap();
    }
    rig.client().report_inventory(tokio_stream::iter([inventory])).await.unwrap();
    let run = rig.admin().run_nightly(steps()).await.unwrap().into_inner().run.unwrap();
    assert_eq!(run.outcome, "done", "{run:?}");
    let status = rig.status().await;
    assert_eq!(
        (status.replicas[0].blobs, status.savings.unwrap_or_default().requests),
        (2, 1),
        "counted once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_an_index_that_another_program_has_locked_says_so_and_leaves_it_alone() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.stop().await;
    let holder = Holder::lock(&rig.index_path());
    let error = maintenance::start(rig.config(), &Kit::default()).await.unwrap_err();
    assert!(format!("{error:#}").contains("another program has locked it"), "{error:#}");
    assert_eq!(Exit::of(&error), Exit::Failed, "worth another try");
    holder.release();
    let mut rig = rig;
    rig.restart().await;
    assert_eq!(rig.status().await.replicas.len(), 1, "it was not set aside");
}
