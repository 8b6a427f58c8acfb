//! Files that are not here yet.

use farm_sim::upstream::{Object, Upstream};
use futures_util::future::join_all;
use rookery_proto::v1::Restriction;

use crate::replica::{Client, DEADLINE, File, Held, Replica, TASKS_AT_REST, config, know, named, until};

const SMALL: u64 = 40_000;
const LARGE: u64 = 5_000_000;

#[tokio::test]
async fn each_form_gives_the_file_and_only_the_first_one_asks_upstream() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    let file = File::new("gtk+-3.24.tar.xz", SMALL);
    upstream.put(&file.mirror_path(), file.object());
    know(dir.path(), "gentoo", &[&file]).await;
    let replica = Replica::start(config(dir.path(), &[&upstream])).await;
    let hashed = file.mirror_path().replace('+', "%2B");
    let first = replica.get(&hashed).await;
    first.assert_is(&file);
    assert_eq!(first.header("cache-status"), Some("rookery; fwd=miss; fwd-status=200; stored"));
    until("the blob has its name", || named(dir.path()) == ["gtk+-3.24.tar.xz"]).await;
    for path in ["/distfiles/gtk+-3.24.tar.xz", "/gtk%2B-3.24.tar.xz", "/m/gentoo/distfiles/gtk+-3.24.tar.xz"]
    {
        let again = replica.get(path).await;
        again.assert_is(&file);
        assert_eq!(again.header("cache-status"), Some("rookery; hit"), "{path}");
    }
    assert_eq!(upstream.total().requests, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_of_one_file_cost_one_request() {
    let held = Held::start("large-1.tar", LARGE, 100_000).await;
    let Held { upstream, file, gate, replica, .. } = &held;
    let path = file.mirror_path();
    let mut clients = join_all((0..50).map(|_| Client::get(replica, &path))).await;
    for client in &mut clients {
        assert_eq!(client.head().await.status, 200);
        // Bytes come while the upstream is held back.
        client.body_bytes(50_000).await;
    }
    gate.open();
    for answer in join_all(clients.into_iter().map(Client::rest)).await {
        answer.assert_is(file);
    }
    let count = upstream.count_of_path(&path);
    assert_eq!((count.requests, count.bytes), (1, LARGE));
}

#[tokio::test]
async fn a_late_joiner_and_its_ranges_follow_the_growing_file() {
    let held = Held::start("large-2.tar", LARGE, 2_000_000).await;
    let Held { upstream, file, gate, replica, .. } = &held;
    let bytes = file.bytes();
    let path = file.mirror_path();
    let mut first = Client::get(replica, &path).await;
    first.head().await;
    first.body_bytes(2_000_000).await;

    let mut late = Client::get(replica, &path).await;
    assert_eq!(
        late.head().await.header("cache-status"),
        Some("rookery; fwd=miss; fwd-status=200; stored; collapsed")
    );
    late.body_bytes(2_000_000).await;
    assert!(late.so_far() == &bytes[..2_000_000]);
    // Inside of what is here.
    let inside = replica.get_range(&path, "bytes=1000-1999").await;
    assert_eq!((inside.status, inside.header("content-range")), (206, Some("bytes 1000-1999/5000000")));
    assert!(inside.complete && inside.body == bytes[1000..2000]);
    // Behind it: waits.
    let mut behind = Client::send(replica, "GET", &path, &[("Range", "bytes=4000000-")]).await;
    let mut suffix = Client::send(replica, "GET", &path, &[("Range", "bytes=-10")]).await;
    assert_eq!(
        replica.get_range(&path, "bytes=5000000-").await.header("content-range"),
        Some("bytes */5000000")
    );
    gate.open();
    behind.head().await;
    suffix.head().await;
    assert!(behind.rest().await.body == bytes[4_000_000..]);
    assert!(suffix.rest().await.body == bytes[4_999_990..]);
    first.rest().await.assert_is(file);
    late.rest().await.assert_is(file);
    assert_eq!(upstream.count_of_path(&path).requests, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_joiner_has_its_first_byte_at_once() {
    let held = Held::start("slow-1.tar", LARGE, 2_000_000).await;
    let Held { file, gate, replica, .. } = &held;
    let path = file.mirror_path();
    let mut first = Client::get(replica, &path).await;
    first.head().await;
    first.body_bytes(1_000_000).await;
    // The fastest of some: the others may have waited for a processor.
    let mut fastest = DEADLINE;
    for _ in 0..20 {
        let started = std::time::Instant::now();
        let mut late = Client::get(replica, &path).await;
        late.head().await;
        late.body_bytes(1).await;
        fastest = fastest.min(started.elapsed());
    }
    assert!(fastest < std::time::Duration::from_millis(50), "{fastest:?}");
    gate.open();
    first.rest().await.assert_is(file);
}

#[tokio::test]
async fn a_small_file_is_verified_before_its_first_byte() {
    let held = Held::start("small-1.tar", SMALL, SMALL - 1).await;
    let Held { upstream, file, gate, replica, .. } = &held;
    let mut client = Client::get(replica, &file.mirror_path()).await;
    assert!(upstream.wait_until(DEADLINE, |log| log.iter().any(|one| one.bytes_sent >= SMALL - 1)).await);
    assert!(client.so_far().is_empty());
    let waits = tokio::time::timeout(std::time::Duration::from_millis(200), client.head()).await;
    assert!(waits.is_err(), "the head came before the file was verified");
    gate.open();
    client.head().await;
    client.rest().await.assert_is(file);
}

#[tokio::test]
async fn the_end_of_a_large_file_is_withheld_until_it_is_verified() {
    let held = Held::start("large-3.tar", LARGE, LARGE - 1).await;
    let Held { file, gate, replica, .. } = &held;
    let mut client = Client::get(replica, &file.mirror_path()).await;
    client.head().await;
    let visible = usize::try_from(LARGE).unwrap() - 65536;
    client.body_bytes(visible).await;
    let more =
        tokio::time::timeout(std::time::Duration::from_millis(200), client.body_bytes(visible + 1)).await;
    assert!(more.is_err(), "{} bytes before the last one came", client.so_far().len());
    gate.open();
    client.rest().await.assert_is(file);
}

#[tokio::test]
async fn sources_are_asked_when_no_mirror_has_it_and_restrictions_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (mirror, origin) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let plain = File::new("plain-1.tar", SMALL).with_source(format!("{}/src/v1.tar", origin.url()));
    let mirror_restricted = File::new("restricted-1.tar", SMALL)
        .with_source(format!("{}/src/r1.tar", origin.url()))
        .restricted(Restriction::Mirror);
    let fetch_restricted = File::new("manual-1.tar", SMALL)
        .with_source(format!("{}/src/m1.tar", origin.url()))
        .restricted(Restriction::Fetch);
    origin.put("/src/v1.tar", plain.object());
    origin.put("/src/r1.tar", mirror_restricted.object());
    origin.put("/src/m1.tar", fetch_restricted.object());
    know(dir.path(), "gentoo", &[&plain, &mirror_restricted, &fetch_restricted]).await;
    let replica = Replica::start(config(dir.path(), &[&mirror])).await;
    replica.get("/distfiles/plain-1.tar").await.assert_is(&plain);
    let asked: Vec<String> = mirror.log().iter().map(|one| one.path.clone()).collect();
    assert_eq!(asked, [plain.mirror_path(), "/distfiles/plain-1.tar".to_owned()], "hashed, then flat");
    replica.get("/distfiles/restricted-1.tar").await.assert_is(&mirror_restricted);
    assert_eq!(mirror.total().requests, 2, "RESTRICT=mirror: no mirror is asked");
    assert_eq!(replica.get("/distfiles/manual-1.tar").await.status, 404);
    assert_eq!(origin.count_of_path("/src/m1.tar").requests, 0, "RESTRICT=fetch: nobody is asked");
}

#[tokio::test]
async fn redirects_are_followed_and_end() {
    let dir = tempfile::tempdir().unwrap();
    let (mirror, origin) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let file = File::new("redirected-1.tar", SMALL);
    mirror.put(&file.mirror_path(), Object::Redirect(format!("{}/a", origin.url())));
    origin.put("/a", Object::Redirect("b".to_owned()));
    origin.put("/b", file.object());
    let endless = File::new("endless-1.tar", SMALL);
    mirror.put(&endless.mirror_path(), Object::Redirect(endless.mirror_path()));
    know(dir.path(), "gentoo", &[&file, &endless]).await;
    let replica = Replica::start(config(dir.path(), &[&mirror])).await;
    replica.get("/distfiles/redirected-1.tar").await.assert_is(&file);
    assert_eq!(replica.get("/distfiles/endless-1.tar").await.status, 502);
    assert_eq!(mirror.count_of_path(&endless.mirror_path()).requests, 6);
}

#[tokio::test]
async fn names_that_the_catalogue_lacks_pass_through_unstored() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    let (known, unknown) = (File::new("known-1.tar", SMALL), File::new("unknown-1.tar", SMALL));
    upstream.put(&unknown.mirror_path(), unknown.object());
    know(dir.path(), "gentoo", &[&known]).await;
    let replica = Replica::start(config(dir.path(), &[&upstream])).await;
    for _ in 0..2 {
        let answer = replica.get("/distfiles/unknown-1.tar").await;
        answer.assert_is(&unknown);
        assert_eq!(answer.header("cache-status"), Some("rookery; fwd=bypass; fwd-status=200"));
    }
    let part = replica.get_range("/distfiles/unknown-1.tar", "bytes=10-19").await;
    assert_eq!((part.status, part.body), (206, unknown.bytes()[10..20].to_vec()));
    assert_eq!(upstream.count_of_path(&unknown.mirror_path()).requests, 3);
    assert_eq!(replica.get("/distfiles/nowhere-1.tar").await.status, 404);
    assert_eq!(replica.get("/unknown-1.tar").await.status, 404, "a bare name is asked of nobody");
    assert!(named(dir.path()).is_empty());
}

#[tokio::test]
async fn without_a_catalogue_everything_passes_through() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    let file = File::new("early-1.tar", LARGE);
    upstream.put(&file.mirror_path(), file.object());
    let replica = Replica::start(config(dir.path(), &[&upstream])).await;
    replica.get("/distfiles/early-1.tar").await.assert_is(&file);
    assert!(named(dir.path()).is_empty());
}

#[tokio::test]
async fn beyond_the_capacity_files_pass_through_unstored() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    let (fits, large) = (File::new("fits-1.tar", SMALL), File::new("large-4.tar", LARGE));
    for file in [&fits, &large] {
        upstream.put(&file.mirror_path(), file.object());
    }
    know(dir.path(), "gentoo", &[&fits, &large]).await;
    let mut config = config(dir.path(), &[&upstream]);
    config.capacity.0 = 1_000_000;
    let replica = Replica::start(config).await;
    let answer = replica.get("/distfiles/large-4.tar").await;
    answer.assert_is(&large);
    assert_eq!(answer.header("cache-status"), Some("rookery; fwd=bypass"));
    replica.get("/distfiles/fits-1.tar").await.assert_is(&fits);
    until("only what fits is stored", || named(dir.path()) == ["fits-1.tar"]).await;
}

#[tokio::test]
async fn two_modules_may_disagree_about_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let (mirror, origin) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let gentoo = File::new("same-1.tar", SMALL);
    let guru = File::new("same-1.tar", SMALL + 1).with_source(format!("{}/guru.tar", origin.url()));
    mirror.put(&gentoo.mirror_path(), gentoo.object());
    origin.put("/guru.tar", guru.object());
    know(dir.path(), "gentoo", &[&gentoo]).await;
    know(dir.path(), "guru", &[&guru]).await;
    let replica = Replica::start(config(dir.path(), &[&mirror])).await;
    for _ in 0..2 {
        replica.get("/m/guru/distfiles/same-1.tar").await.assert_is(&guru);
        replica.get("/distfiles/same-1.tar").await.assert_is(&gentoo);
        replica.get("/m/gentoo/distfiles/same-1.tar").await.assert_is(&gentoo);
    }
    assert_eq!(origin.count_of_path("/guru.tar").requests, 1);
    // A client has its last byte a moment before the blob has its name.
    until("the module's own name", || dir.path().join("r0/m/guru/distfiles").is_dir()).await;
    assert_eq!(replica.get("/m/other/distfiles/same-1.tar").await.status, 200, "passes through");
}

#[tokio::test]
async fn the_same_contents_under_two_names_are_fetched_once() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    let first = File::new("first-1.tar", SMALL);
    let renamed = File { name: "renamed-1.tar".to_owned(), ..first.clone() };
    upstream.put(&first.mirror_path(), first.object());
    know(dir.path(), "gentoo", &[&first, &renamed]).await;
    let replica = Replica::start(config(dir.path(), &[&upstream])).await;
    replica.get("/distfiles/first-1.tar").await.assert_is(&first);
    until("stored", || named(dir.path()) == ["first-1.tar"]).await;
    replica.get("/distfiles/renamed-1.tar").await.assert_is(&renamed);
    assert_eq!(named(dir.path()), ["first-1.tar", "renamed-1.tar"]);
    assert_eq!(upstream.total().requests, 1);
}

#[tokio::test]
async fn a_client_that_has_said_all_is_served_to_the_end_of_a_growing_file() {
    let held = Held::start("large-1.tar", LARGE, 2_000_000).await;
    let Held { upstream, file, gate, replica, .. } = &held;
    let mut client = Client::get(replica, &file.mirror_path()).await;
    client.head().await;
    client.body_bytes(1_900_000).await;
    client.say_all().await;
    // Who asks now has the replica look at what the first one said, more than once.
    for _ in 0..3 {
        replica.get("/healthz").await;
    }
    gate.open();
    client.rest().await.assert_is(file);
    assert_eq!(upstream.total().requests, 1);
}

#[tokio::test]
async fn a_client_that_resets_its_connection_lets_go_of_a_growing_file() {
    // More than is fetched to its end for its own sake.
    let file = File::new("large-1.tar", 60_000_000);
    // Nothing else ends it.
    let held = Held::start_as(file, 2_000_000, |settings| {
        settings.timeouts.chunk = service_kit::config::HumanDuration(std::time::Duration::from_hours(1));
    })
    .await;
    let Held { file, gate, replica, .. } = &held;
    for says_all in [false, true] {
        let mut client = Client::get(replica, &file.mirror_path()).await;
        client.head().await;
        client.body_bytes(1_000_000).await;
        if says_all {
            client.say_all().await;
        }
        client.reset();
        until("all is given up", || replica.kit.tasks.running() <= TASKS_AT_REST).await;
    }
    gate.open();
    replica.get(&file.mirror_path()).await.assert_is(file);
}
