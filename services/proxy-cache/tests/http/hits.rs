//! Files that are here.

use farm_sim::upstream::Upstream;

use crate::replica::{Answer, Client, File, Replica, config, know, named, until};

async fn stored(dir: &std::path::Path, file: &File) -> (Replica, Upstream) {
    let upstream = Upstream::start().await.unwrap();
    upstream.put(&file.mirror_path(), file.object());
    know(dir, "gentoo", &[file]).await;
    let replica = Replica::start(config(dir, &[&upstream])).await;
    replica.get(&file.mirror_path()).await.assert_is(file);
    until("stored", || named(dir) == [file.name.clone()]).await;
    (replica, upstream)
}

#[tokio::test]
async fn the_range_matrix() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::new("a-1.tar", 1_300_000);
    let (replica, upstream) = stored(dir.path(), &file).await;
    let bytes = file.bytes();
    for (range, status, content_range, start, end) in [
        ("bytes=0-0", 206, Some("bytes 0-0/1300000"), 0, 1),
        ("bytes=0-", 206, Some("bytes 0-1299999/1300000"), 0, 1_300_000),
        ("bytes=100-199", 206, Some("bytes 100-199/1300000"), 100, 200),
        ("bytes=262143-524289", 206, Some("bytes 262143-524289/1300000"), 262_143, 524_290),
        ("bytes=1299999-", 206, Some("bytes 1299999-1299999/1300000"), 1_299_999, 1_300_000),
        ("bytes=1299990-2000000", 206, Some("bytes 1299990-1299999/1300000"), 1_299_990, 1_300_000),
        ("bytes=-5", 206, Some("bytes 1299995-1299999/1300000"), 1_299_995, 1_300_000),
        ("bytes=-9999999", 206, Some("bytes 0-1299999/1300000"), 0, 1_300_000),
        ("bytes=1300000-", 416, Some("bytes */1300000"), 0, 0),
        ("bytes=-0", 416, Some("bytes */1300000"), 0, 0),
        ("bytes=0-1,1300000-", 206, Some("bytes 0-1/1300000"), 0, 2),
        ("bytes=1300000-,2000000-", 416, Some("bytes */1300000"), 0, 0),
        ("bytes=0-,0-", 200, None, 0, 1_300_000),
        ("bytes=9-2", 200, None, 0, 1_300_000),
        ("lines=1-2", 200, None, 0, 1_300_000),
    ] {
        let answer = replica.get_range("/distfiles/a-1.tar", range).await;
        assert_eq!((answer.status, answer.header("content-range")), (status, content_range), "{range}");
        assert!(answer.complete && answer.body == bytes[start..end], "{range}");
    }
    assert_eq!(upstream.total().requests, 1);
}

#[tokio::test]
async fn a_new_replica_is_ready_when_its_first_catalogue_has_come() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &[]);
    // Nobody listens there.
    config.maintenance.endpoint = "http://127.0.0.1:1".to_owned();
    let replica = Replica::start(config.clone()).await;
    let unready = replica.get("/readyz").await;
    assert_eq!(
        (unready.status, unready.text()),
        (503, "catalogue: none has come from maintenance yet\n".to_owned())
    );
    assert_eq!(replica.get("/healthz").await.status, 200);
    replica.stop().await;
    know(dir.path(), "gentoo", &[&File::new("a-1.tar", 1000)]).await;
    assert_eq!(Replica::start(config).await.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn validators() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::new("a-1.tar", 1000);
    let (replica, _upstream) = stored(dir.path(), &file).await;
    let plain = replica.get("/distfiles/a-1.tar").await;
    let etag = plain.header("etag").unwrap().to_owned();
    assert_eq!(etag, format!("\"{}\"", hex::encode(file.contents.digests().blake2b)));
    let modified = plain.header("last-modified").unwrap().to_owned();
    assert_eq!(plain.header("accept-ranges"), Some("bytes"));
    assert_eq!(plain.header("content-encoding"), None);
    assert!(plain.header("via").unwrap().starts_with("1.1 rookery-"));
    let ask = async |headers: &[(&str, &str)]| -> Answer {
        replica.ask("GET", "/distfiles/a-1.tar", headers).await
    };
    let unchanged = ask(&[("If-None-Match", &etag)]).await;
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    assert_eq!(ask(&[("If-None-Match", "\"other\"")]).await.status, 200);
    assert_eq!(ask(&[("If-Modified-Since", &modified)]).await.status, 304);
    assert_eq!(ask(&[("If-Match", &etag)]).await.status, 200);
    let unwanted = ask(&[("If-Match", "\"other\"")]).await;
    assert_eq!((unwanted.status, unwanted.body.len(), unwanted.complete), (412, 0, true));
    let old = "Sun, 06 Nov 1994 08:49:37 GMT";
    assert_eq!(ask(&[("If-Unmodified-Since", old)]).await.status, 412);
    assert_eq!(ask(&[("Range", "bytes=5-"), ("If-Range", &etag)]).await.status, 206);
    assert_eq!(ask(&[("Range", "bytes=5-"), ("If-Range", "\"other\"")]).await.status, 200);
}

#[tokio::test]
async fn old_and_hurried_clients_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::new("a-1.tar", 1000);
    let (replica, _upstream) = stored(dir.path(), &file).await;
    let body = file.bytes();
    let ends_with = |answer: &[u8], times: usize| {
        let found = answer.windows(body.len()).filter(|window| *window == body).count();
        assert_eq!(found, times, "{}", String::from_utf8_lossy(&answer[..answer.len().min(300)]));
    };
    // HTTP/1.0: no Host, and the connection ends with the answer.
    let old = replica.raw_bytes(b"GET /distfiles/a-1.tar HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with(b"HTTP/1.0 200 ") || old.starts_with(b"HTTP/1.1 200 "));
    ends_with(&old, 1);
    // Two at once: answered both, in their order.
    let two = b"GET /distfiles/a-1.tar HTTP/1.1\r\nHost: a\r\n\r\n\
                GET /distfiles/a-1.tar HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    ends_with(&replica.raw_bytes(two).await, 2);
    // A body was announced to come and none does.
    let expect = b"GET /distfiles/a-1.tar HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\
                   Connection: close\r\n\r\n";
    let expected = replica.raw_bytes(expect).await;
    assert!(expected.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&expected[..100]));
    ends_with(&expected, 1);
}

#[tokio::test]
async fn head_tells_the_length_and_fetches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    let file = File::new("a-1.tar", 1000);
    know(dir.path(), "gentoo", &[&file]).await;
    let replica = Replica::start(config(dir.path(), &[&upstream])).await;
    let head = replica.ask("HEAD", "/distfiles/a-1.tar", &[]).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("1000"), 0));
    assert!(head.header("etag").is_some());
    assert_eq!(upstream.total().requests, 0);
}

#[tokio::test]
async fn a_damaged_blob_is_not_served_but_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::new("a-1.tar", 1000);
    let (replica, upstream) = stored(dir.path(), &file).await;
    let hash = file.mirror_path().split('/').nth(2).unwrap().to_owned();
    let link = dir.path().join("r0/distfiles").join(hash).join("a-1.tar");
    std::fs::write(std::fs::canonicalize(link).unwrap(), b"truncated").unwrap();
    replica.get("/distfiles/a-1.tar").await.assert_is(&file);
    assert_eq!(upstream.total().requests, 2);
}

#[tokio::test]
async fn a_rerolled_file_is_fetched_again_and_takes_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let old = File::new("a-1.tar", 1000);
    let (replica, upstream) = stored(dir.path(), &old).await;
    replica.stop().await;
    let mut new = File::new("a-1.tar", 1000);
    new.contents = farm_sim::contents::Contents::new(8, "a-1.tar", 1000);
    know(dir.path(), "gentoo", &[&new]).await;
    upstream.put(&new.mirror_path(), new.object());
    let replica = Replica::start(config(dir.path(), &[&upstream])).await;
    replica.get("/distfiles/a-1.tar").await.assert_is(&new);
    assert_eq!(upstream.total().requests, 2);
    until("the name leads to the new one", || named(dir.path()) == ["a-1.tar"]).await;
    replica.get("/distfiles/a-1.tar").await.assert_is(&new);
}

#[tokio::test]
async fn aliases_layout_and_client_files() {
    let dir = tempfile::tempdir().unwrap();
    let packages = tempfile::tempdir().unwrap();
    std::fs::write(packages.path().join("Packages.gz"), b"\x1f\x8b index").unwrap();
    let mut config = config(dir.path(), &[]);
    config.aliases =
        vec![proxy_cache::config::Alias { dir: packages.path().to_owned(), prefix: "/binpkgs/".to_owned() }];
    let replica = Replica::start(config).await;
    let index = replica.get("/binpkgs/Packages.gz").await;
    assert_eq!((index.status, index.body.as_slice()), (200, &b"\x1f\x8b index"[..]));
    assert_eq!(index.header("content-encoding"), None);
    let since = index.header("last-modified").unwrap();
    let again = replica.ask("GET", "/binpkgs/Packages.gz", &[("If-Modified-Since", since)]).await;
    assert_eq!(again.status, 304);
    assert_eq!(replica.get("/binpkgs/../r0/replica-id").await.status, 404);
    assert_eq!(replica.get("/binpkgs/").await.status, 404);
    for path in ["/distfiles/layout.conf", "/m/guru/distfiles/layout.conf"] {
        let layout = replica.get(path).await;
        assert_eq!(layout.text(), "[structure]\n0=filename-hash BLAKE2B 8\n1=flat\n", "{path}");
    }
    let make_conf = replica.get("/client/make.conf").await.text();
    assert!(make_conf.contains(&format!("GENTOO_MIRRORS=\"http://{}\"", replica.address)), "{make_conf}");
    assert!(
        replica
            .get("/client/repos.conf")
            .await
            .text()
            .contains("sync-uri = rsync://127.0.0.1/gentoo-portage")
    );
    assert!(replica.get("/client/mirrors").await.text().contains("local http://"));
    assert_eq!(replica.get("/healthz").await.text(), "ok\n");
    assert_eq!(replica.get("/readyz").await.status, 200);
    assert!(replica.get("/").await.text().contains("Rookery"));
}

#[tokio::test]
async fn a_blob_is_open_for_the_next_who_asks_until_nobody_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::new("a-1.tar", 1000);
    let (replica, _upstream) = stored(dir.path(), &file).await;
    let blobs = dir.path().join("r0/blobs");
    let is_open = || {
        let ours = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        ours.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|path| path.starts_with(&blobs))
    };
    // The first hit writes down that somebody asked; those after it find the file in memory.
    replica.get("/distfiles/a-1.tar").await.assert_is(&file);
    let mut client = Client::get(&replica, "/distfiles/a-1.tar").await;
    client.head().await;
    assert!(is_open());
    drop(client);
    until("closed", || !is_open()).await;
}
