//! What happens between a look into the store and what follows from it. The steps are taken one by one, so
//! that the order that needs luck outside is certain here.

use farm_sim::contents::Contents;
use farm_sim::upstream::{Object, Upstream, mirror_path};
use rookery_proto::v1;
use service_kit::Kit;

use std::os::unix::fs::FileExt as _;

use super::body::ResponseBody;
use super::*;
use crate::config::Config;

async fn app(dir: &std::path::Path, upstream: &Upstream) -> Arc<App> {
    service_kit::process::install_crypto_provider();
    let mut config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        cache_dir: dir.to_owned(),
        mirrors: vec![upstream.url().try_into().unwrap()],
        ..Config::default()
    };
    config.maintenance.endpoint = String::new();
    crate::build(config, &Kit::default()).await.unwrap().0
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

fn request() -> ClientRequest {
    let (head, ()) = http::Request::get("/").header("host", "a").body(()).unwrap().into_parts();
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
        let app = app(dir.path(), &upstream).await;
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
    let app = app(dir.path(), &upstream).await;
    let failed = Err(StoreError::Interrupted { reason: "EIO".to_owned() });
    let reply = answer(&app, &request(), &"a-1.tar".parse().unwrap(), failed, None).await.unwrap();
    assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.headers()["retry-after"], "60");
}
