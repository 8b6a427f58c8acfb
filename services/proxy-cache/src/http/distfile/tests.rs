//! What happens between a look into the store and what follows from it. The steps are taken one by one, so
//! that the order that needs luck outside is certain here.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use blob_store::{FaultHook, FileOp};
use farm_sim::contents::Contents;
use farm_sim::upstream::{Fault, Gate, Object, Upstream, mirror_path};
use futures_util::StreamExt as _;
use rookery_proto::v1;
use service_kit::Kit;
use service_kit::config::Networks;

use std::os::unix::fs::FileExt as _;

use super::body::ResponseBody;
use super::*;
use crate::config::Config;
use crate::http::engine::Ended;
use crate::http::engine::tests::{GET, LIMITS, ask, between};

pub(in crate::http) async fn app(dir: &Path, upstream: &Upstream, faults: Option<FaultHook>) -> Arc<App> {
    service_kit::process::install_crypto_provider();
    let mut config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        cache_dir: dir.to_owned(),
        mirrors: vec![upstream.url().try_into().unwrap()],
        allow_private_upstreams: Networks::parse(["127.0.0.0/8"]).unwrap(),
        ..Config::default()
    };
    config.maintenance.endpoint = String::new();
    crate::build(config, &Kit::default(), faults).await.unwrap().0
}

async fn know(app: &App, name: &str, contents: Contents) {
    let mut step = app.catalogue.begin("gentoo", 1).await.unwrap();
    let value = contents.digests().blake2b.to_vec();
    let distfile = v1::Distfile {
        name: name.to_owned(),
        size_bytes: contents.size_bytes(),
        digests: vec![v1::Digest { algorithm: "BLAKE2B".to_owned(), value }],
        ..v1::Distfile::default()
    };
    let changes = v1::DistfileChanges { reset: true, upserts: vec![distfile], removes: Vec::new() };
    step.apply(&changes).await.unwrap();
    step.complete(&["gentoo".to_owned()]).await.unwrap();
}

pub(in crate::http) fn request() -> ClientRequest {
    request_by(Method::GET)
}

fn request_by(method: Method) -> ClientRequest {
    request_of(http::Request::builder().method(method))
}

fn request_of(builder: http::request::Builder) -> ClientRequest {
    let (head, ()) = builder.uri("/").header("host", "a").body(()).unwrap().into_parts();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    ClientRequest::check(head, None, address.ip(), address, false).unwrap()
}

#[tokio::test]
async fn a_request_that_missed_before_the_last_flight_landed_is_a_hit() {
    for size in [40_000, 3_000_000] {
        let dir = tempfile::tempdir().unwrap();
        let upstream = Upstream::start().await.unwrap();
        let (text, contents) = ("a-1.tar", Contents::new(7, "a-1.tar", size));
        upstream.put(&mirror_path(text), Object::Generated(contents));
        let app = app(dir.path(), &upstream, None).await;
        know(&app, text, contents).await;
        let name: DistfileName = text.parse().unwrap();

        // Looks into the store, and is then held up.
        let missed = lookup::by_name(&app, &name, None).await;
        let Ok(Lookup::Miss(known)) = &missed else { panic!("{missed:?}") };
        // Meanwhile another request takes the whole way, until its flight has landed.
        let key = FlightKey::of(known);
        crate::fetch::follow(&app, known, None, &request().via).finished().await.unwrap();
        while app.flights.join_running(&key).is_some() {
            tokio::task::yield_now().await;
        }
        let reply = answer(&app, &request(), &name, missed, None).await.unwrap();
        assert_eq!(reply.headers()["cache-status"], "rookery; hit", "{size}");
        let ResponseBody::File(sending) = reply.into_body() else { panic!("a hit is a file") };
        let mut octets = vec![0; usize::try_from(sending.selection.left.end).unwrap()];
        sending.file.read_exact_at(&mut octets, 0).unwrap();
        assert_eq!(octets, contents.to_bytes());
        assert_eq!(upstream.total().requests, 1, "{size}");
    }
}

#[tokio::test]
async fn a_disk_that_fails_while_a_name_is_looked_for_is_told_with_a_time_to_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    let app = app(dir.path(), &upstream, None).await;
    let failed = Err(StoreError::Interrupted { reason: "EIO".to_owned() });
    let reply = answer(&app, &request(), &"a-1.tar".parse().unwrap(), failed, None).await.unwrap();
    assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.headers()["retry-after"], "60");
}

/// Every octet of an answer, or where it broke.
async fn read(reply: Reply) -> std::io::Result<Vec<u8>> {
    match reply.into_body() {
        ResponseBody::Empty => Ok(Vec::new()),
        ResponseBody::Octets(octets) => Ok(octets.to_vec()),
        ResponseBody::File(sending) => {
            let mut octets = vec![0; usize::try_from(sending.selection.left.end).unwrap()];
            sending.file.read_exact_at(&mut octets, 0).map(|()| octets)
        }
        ResponseBody::Growing(mut growing) => {
            let mut octets = Vec::new();
            while growing.sending.selection.left.start < growing.sending.selection.left.end {
                let Some(end) = growing.visible_now()? else {
                    growing.grown().await;
                    continue;
                };
                let start = growing.sending.selection.left.start;
                let mut piece = vec![0; usize::try_from(end - start).unwrap()];
                growing.sending.file.read_exact_at(&mut piece, start)?;
                octets.append(&mut piece);
                growing.sending.sent(end - start);
            }
            Ok(octets)
        }
        ResponseBody::Pieces(mut pieces) => {
            let mut octets = Vec::new();
            while let Some(piece) = pieces.next().await {
                octets.extend_from_slice(&piece?);
            }
            Ok(octets)
        }
    }
}

/// A disk of which the operations of a look-up fail from the `first` on, `count` of them.
#[derive(Debug, Default)]
struct Failing {
    first: AtomicUsize,
    count: AtomicUsize,
    seen: AtomicUsize,
    /// So many reads of blobs are still to fail.
    reads: AtomicUsize,
}

impl Failing {
    fn set(&self, first: usize, count: usize) {
        self.first.store(first, Ordering::SeqCst);
        self.count.store(count, Ordering::SeqCst);
        self.seen.store(0, Ordering::SeqCst);
    }

    fn fail_reads(&self, count: usize) {
        self.reads.store(count, Ordering::SeqCst);
    }

    fn look(&self, operation: FileOp, path: &Path) -> std::io::Result<()> {
        let is_lookup = matches!(operation, FileOp::Open | FileOp::Stat | FileOp::Read)
            && path.components().any(|part| part.as_os_str() == "blobs");
        if !is_lookup {
            return Ok(());
        }
        let less = |left: usize| left.checked_sub(1);
        if operation == FileOp::Read
            && self.reads.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
        {
            return Err(std::io::Error::from_raw_os_error(5));
        }
        let at = self.seen.fetch_add(1, Ordering::SeqCst);
        let first = self.first.load(Ordering::SeqCst);
        let fails = at >= first && at - first < self.count.load(Ordering::SeqCst);
        if fails { Err(std::io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}

/// One with a disk that can be made to fail.
async fn app_that_may_fail(dir: &Path, upstream: &Upstream) -> (Arc<App>, Arc<Failing>) {
    let failing = Arc::new(Failing::default());
    let hooked = Arc::clone(&failing);
    let hook: FaultHook = Arc::new(move |operation, path| hooked.look(operation, path));
    (app(dir, upstream, Some(hook)).await, failing)
}

#[tokio::test]
async fn a_disk_that_fails_while_a_name_is_looked_for_costs_the_cache_and_no_file() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start().await.unwrap());
    let (app, failing) = app_that_may_fail(dir.path(), &upstream).await;
    let (text, contents) = ("a-1.tar", Contents::new(7, "a-1.tar", 3_000_000));
    upstream.put(&mirror_path(text), Object::Generated(contents));
    know(&app, text, contents).await;
    let name: DistfileName = text.parse().unwrap();
    let ask = async |method: Method| {
        let request = request_by(method);
        let found = lookup::by_name(&app, &name, None).await;
        answer(&app, &request, &name, found, None).await.unwrap()
    };
    assert_eq!(read(ask(Method::GET).await).await.unwrap(), contents.to_bytes());
    while app.store.named(&Scope::DISTFILES, &name).is_none() {
        tokio::task::yield_now().await;
    }
    // Each operation alone, and all from one on; with the catalogue and by the store's own knowledge of the name.
    let (mut hits, mut passed) = (0, 0);
    for is_known in [true, false] {
        if !is_known {
            let mut step = app.catalogue.begin("gentoo", 2).await.unwrap();
            step.apply(&v1::DistfileChanges { reset: true, ..v1::DistfileChanges::default() }).await.unwrap();
            step.complete(&["gentoo".to_owned()]).await.unwrap();
        }
        for (first, count) in (0..4).map(|first| (first, 1)).chain([(0, usize::MAX), (1, usize::MAX)]) {
            failing.set(first, count);
            let reply = ask(Method::GET).await;
            assert_eq!(reply.status(), StatusCode::OK, "{first}");
            match reply.headers()["cache-status"].to_str().unwrap() {
                "rookery; hit" => hits += 1,
                "rookery; fwd=bypass" => passed += 1,
                other => panic!("{other}"),
            }
            assert_eq!(read(reply).await.unwrap(), contents.to_bytes(), "{first}");
        }
        failing.set(0, usize::MAX);
        let head = ask(Method::HEAD).await;
        assert_eq!(head.status(), StatusCode::OK);
        assert_eq!(head.headers()["content-length"], "3000000");
    }
    assert!(hits > 0 && passed > 0, "{hits} {passed}");
    assert!(app.store.named(&Scope::DISTFILES, &name).is_some(), "nothing is thrown away for it");
    // Wrong bytes are no way out, and what nobody gives is no 404.
    failing.set(0, usize::MAX);
    upstream.put(&mirror_path(text), Object::Generated(Contents::new(8, text, 3_000_000)));
    read(ask(Method::GET).await).await.unwrap_err();
    upstream.remove(&mirror_path(text));
    let reply = ask(Method::GET).await;
    assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.headers().contains_key("retry-after"));
    failing.set(0, 0);
    assert_eq!(ask(Method::GET).await.headers()["cache-status"], "rookery; hit");
}

/// Each octet of it is one that the disk can't give: nothing is mapped at its address.
fn unreadable() -> Arc<std::fs::File> {
    Arc::new(std::fs::File::open("/proc/self/mem").unwrap())
}

/// A hit whose octets can't be read, sent to a client: what that got behind the head.
async fn send_unreadable(app: &Arc<App>, name: &DistfileName) -> usize {
    let found = lookup::by_name(app, name, None).await;
    let reply = answer(app, &request(), name, found, None).await.unwrap();
    assert_eq!(reply.headers()["cache-status"], "rookery; hit");
    send_unreadable_of(reply).await
}

/// The same of any answer from a file.
pub(in crate::http) async fn send_unreadable_of(reply: Reply) -> usize {
    let reply = reply.map(|mut body| {
        let sending = match &mut body {
            ResponseBody::File(sending) => sending,
            ResponseBody::Growing(growing) => &mut growing.sending,
            ResponseBody::Empty | ResponseBody::Octets(_) | ResponseBody::Pieces(_) => panic!("no file"),
        };
        sending.file = unreadable();
        body
    });
    let reply = std::cell::RefCell::new(Some(reply));
    let make = |_| std::future::ready(reply.borrow_mut().take().unwrap());
    let (ended, (came, _)) = between(LIMITS, make, |socket| ask(socket, GET)).await;
    assert!(matches!(ended, Ended::Broken(_)), "{ended}");
    came.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |end| came.len() - end - 4)
}

/// One that is stored here, and a disk that can be made to fail.
async fn stored(dir: &Path, upstream: &Upstream, text: &str) -> (Arc<App>, Arc<Failing>) {
    let contents = Contents::new(7, text, 30_000);
    let (app, failing) = app_that_may_fail(dir, upstream).await;
    upstream.put(&mirror_path(text), Object::Generated(contents));
    know(&app, text, contents).await;
    let name: DistfileName = text.parse().unwrap();
    let found = lookup::by_name(&app, &name, None).await;
    assert_eq!(
        read(answer(&app, &request(), &name, found, None).await.unwrap()).await.unwrap(),
        contents.to_bytes()
    );
    while app.store.named(&Scope::DISTFILES, &name).is_none() {
        tokio::task::yield_now().await;
    }
    (app, failing)
}

pub(in crate::http) async fn looked(app: &App) {
    let all_over = async {
        while app.tasks.running() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), all_over).await.unwrap();
}

#[tokio::test]
async fn a_blob_that_can_not_be_read_breaks_one_answer_and_is_then_fetched_anew() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start().await.unwrap());
    let (app, failing) = stored(dir.path(), &upstream, "a-1.tar").await;
    let name: DistfileName = "a-1.tar".parse().unwrap();
    // Both looks at it fail, and what opens it does not: EIO in the middle.
    failing.fail_reads(2);
    let broken = futures_util::future::join_all((0..5).map(|_| send_unreadable(&app, &name))).await;
    assert_eq!(broken, [0; 5], "nothing was made up");
    looked(&app).await;
    assert_eq!(failing.reads.load(Ordering::SeqCst), 0, "it was looked at once for all of them, twice");
    assert_eq!(upstream.total().requests, 2, "it was fetched anew, once");
    assert_eq!(app.store.quarantined().unwrap().len(), 1);
    let found = lookup::by_name(&app, &name, None).await;
    let reply = answer(&app, &request(), &name, found, None).await.unwrap();
    assert_eq!(reply.headers()["cache-status"], "rookery; hit");
    assert_eq!(read(reply).await.unwrap(), Contents::new(7, "a-1.tar", 30_000).to_bytes());
}

#[tokio::test]
async fn a_blob_that_broke_off_and_is_sound_stays() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start().await.unwrap());
    let (app, failing) = stored(dir.path(), &upstream, "a-1.tar").await;
    let name: DistfileName = "a-1.tar".parse().unwrap();
    for failures in [0, 1] {
        failing.fail_reads(failures);
        send_unreadable(&app, &name).await;
        looked(&app).await;
        let found = lookup::by_name(&app, &name, None).await;
        assert!(matches!(found, Ok(Lookup::Hit(..))), "{failures}: {found:?}");
    }
    assert_eq!(upstream.total().requests, 1);
    assert!(app.store.quarantined().unwrap().is_empty());
}

#[tokio::test]
async fn a_blob_that_can_be_neither_read_nor_had_again_is_kept_and_told() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start().await.unwrap());
    let (app, failing) = stored(dir.path(), &upstream, "a-1.tar").await;
    let name: DistfileName = "a-1.tar".parse().unwrap();
    // No tree knows it any more.
    let mut step = app.catalogue.begin("gentoo", 2).await.unwrap();
    step.apply(&v1::DistfileChanges { reset: true, ..v1::DistfileChanges::default() }).await.unwrap();
    step.complete(&["gentoo".to_owned()]).await.unwrap();
    failing.fail_reads(2);
    send_unreadable(&app, &name).await;
    looked(&app).await;
    let digest = app.store.named(&Scope::DISTFILES, &name).expect("nothing is thrown away");
    let found = lookup::by_name(&app, &name, None).await;
    assert!(matches!(found, Ok(Lookup::Unreadable(_))), "nobody's answer breaks any more: {found:?}");
    // It can be read again, and somebody looks.
    assert_eq!(crate::scrub::verify(&app, &digest).await.detail, "sound");
    let found = lookup::by_name(&app, &name, None).await;
    assert!(matches!(found, Ok(Lookup::Hit(..))), "{found:?}");
}

#[tokio::test]
async fn a_file_that_can_not_be_read_while_it_grows_is_looked_at_when_it_is_a_blob() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start().await.unwrap());
    let (app, failing) = app_that_may_fail(dir.path(), &upstream).await;
    let (text, contents) = ("a-1.tar", Contents::new(7, "a-1.tar", 3_000_000));
    upstream.put(&mirror_path(text), Object::Generated(contents));
    let gate = Gate::closed();
    let held = Fault::Gated { after_bytes: 2_500_000, gate: gate.clone() };
    upstream.add_fault_times(&mirror_path(text), held, 1);
    know(&app, text, contents).await;
    let name: DistfileName = text.parse().unwrap();
    let found = lookup::by_name(&app, &name, None).await;
    // So little that it is read, and not handed to the kernel, which would not take this file at all.
    let part = request_of(http::Request::builder().header("range", "bytes=1000-2999"));
    let reply = answer(&app, &part, &name, found, None).await.unwrap();
    // As a blob it can't be read either.
    failing.fail_reads(2);
    assert_eq!(send_unreadable_of(reply).await, 0, "nothing was made up");
    assert_eq!(failing.reads.load(Ordering::SeqCst), 2, "it is no blob yet");
    gate.open();
    looked(&app).await;
    assert_eq!(failing.reads.load(Ordering::SeqCst), 0, "it was looked at, twice");
    assert_eq!(upstream.total().requests, 2, "it was fetched anew");
    assert_eq!(app.store.quarantined().unwrap().len(), 1);
    let found = lookup::by_name(&app, &name, None).await;
    let reply = answer(&app, &request(), &name, found, None).await.unwrap();
    assert_eq!(reply.headers()["cache-status"], "rookery; hit");
    assert_eq!(read(reply).await.unwrap(), contents.to_bytes());
}
