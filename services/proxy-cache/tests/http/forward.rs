//! The forward role: what a client with `http_proxy` sends.

use farm_sim::upstream::Upstream;

use crate::replica::{File, Replica, config, know, named, until};

const SIZE: u64 = 30_000;

#[tokio::test]
async fn a_mirrors_url_and_a_sources_url_are_distfiles() {
    let dir = tempfile::tempdir().unwrap();
    let (mirror, origin) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let by_form = File::new("form-1.tar", SIZE);
    let by_source = File::new("source-1.tar", SIZE).with_source(format!("{}/v1/get.php?id=7", origin.url()));
    mirror.put(&by_form.mirror_path(), by_form.object());
    mirror.put(&by_source.mirror_path(), by_source.object());
    know(dir.path(), "gentoo", &[&by_form, &by_source]).await;
    let replica = Replica::start(config(dir.path(), &[&mirror])).await;
    for host in ["http://distfiles.example.org", "http://other.example.org/pub/gentoo"] {
        replica.get(&format!("{host}/distfiles/form-1.tar")).await.assert_is(&by_form);
        replica.get(&format!("{host}{}", by_form.mirror_path())).await.assert_is(&by_form);
    }
    replica.get(&by_source.sources[0]).await.assert_is(&by_source);
    until("stored", || named(dir.path()) == ["form-1.tar", "source-1.tar"]).await;
    assert_eq!(mirror.total().requests, 2);
    assert_eq!(origin.total().requests, 0, "the URL asked for is the last source");
}

#[tokio::test]
async fn the_url_asked_for_is_the_last_source() {
    let dir = tempfile::tempdir().unwrap();
    let (mirror, origin) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let file = File::new("form-2.tar", SIZE);
    origin.put("/pub/distfiles/form-2.tar", file.object());
    know(dir.path(), "gentoo", &[&file]).await;
    let replica = Replica::start(config(dir.path(), &[&mirror])).await;
    replica.get(&format!("{}/pub/distfiles/form-2.tar", origin.url())).await.assert_is(&file);
    assert_eq!(mirror.total().requests, 2);
    until("stored", || named(dir.path()) == ["form-2.tar"]).await;
}

#[tokio::test]
async fn everything_else_passes_through_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Upstream::start().await.unwrap();
    let file = File::new("known-1.tar", SIZE);
    // The last part of the path is a distfile's name, the form is not.
    origin.put("/releases/known-1.tar", farm_sim::upstream::Object::Bytes("something else".into()));
    know(dir.path(), "gentoo", &[&file]).await;
    let replica = Replica::start(config(dir.path(), &[])).await;
    let url = format!("{}/releases/known-1.tar", origin.url());
    for _ in 0..2 {
        let answer = replica.get(&url).await;
        assert_eq!((answer.status, answer.text()), (200, "something else".to_owned()));
    }
    assert_eq!(replica.get(&format!("{}/missing", origin.url())).await.status, 404);
    assert_eq!(origin.total().requests, 3, "nothing of it is kept");
    assert!(named(dir.path()).is_empty());
    assert!(origin.log()[0].header("via").unwrap().contains("rookery-"));
}

#[tokio::test]
async fn a_proxy_request_for_ourselves_is_served_and_a_loop_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Upstream::start().await.unwrap();
    let file = File::new("own-1.tar", SIZE);
    mirror.put(&file.mirror_path(), file.object());
    know(dir.path(), "gentoo", &[&file]).await;
    let replica = Replica::start(config(dir.path(), &[&mirror])).await;
    replica.get(&replica.url("/distfiles/own-1.tar")).await.assert_is(&file);
    assert_eq!(replica.get(&replica.url("/distfiles/layout.conf")).await.status, 200);
    let by_name = format!("http://localhost:{}/healthz", replica.address.port());
    assert_eq!(replica.get(&by_name).await.text(), "ok\n");
    let id = std::fs::read_to_string(dir.path().join("r0/replica-id")).unwrap();
    let via = format!("1.0 other, 1.1 rookery-{}", &id[..12]);
    let looped = replica.ask("GET", "http://example.org/x", &[("Via", &via)]).await;
    assert_eq!(looped.status, 508);
    let known = File::new("loop-1.tar", SIZE);
    know(dir.path(), "gentoo", &[&file, &known]).await;
    let looped = replica.ask("GET", "/distfiles/loop-1.tar", &[("Via", &via)]).await;
    assert_eq!(looped.status, 508, "a known distfile's flight is not joined");
    assert_eq!(mirror.total().requests, 1);
}

#[tokio::test]
async fn another_replica_gets_what_is_here_and_nothing_is_fetched_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Upstream::start().await.unwrap();
    let (here, not_here) = (File::new("here-1.tar", SIZE), File::new("not-here-1.tar", SIZE));
    for file in [&here, &not_here] {
        mirror.put(&file.mirror_path(), file.object());
    }
    know(dir.path(), "gentoo", &[&here, &not_here]).await;
    let replica = Replica::start(config(dir.path(), &[&mirror])).await;
    replica.get("/distfiles/here-1.tar").await.assert_is(&here);
    let hop = [("X-Rookery-Hop", "another")];
    replica.ask("GET", "/distfiles/here-1.tar", &hop).await.assert_is(&here);
    assert_eq!(replica.ask("GET", "/distfiles/not-here-1.tar", &hop).await.status, 404);
    assert_eq!(replica.ask("GET", "/distfiles/unknown-1.tar", &hop).await.status, 404);
    assert_eq!(mirror.total().requests, 1);
}
