//! The index file's misfortunes, readiness, and the web port.

#![allow(clippy::unwrap_used, reason = "how a test fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own tasks end with it")]

mod support;

use farm_sim::ports::free_address;
use maintenance::Config;
use service_kit::Kit;
use service_kit::exit_code::Exit;
use support::{DAY_MS, Rig, START_MS, blob, distfile, eventually};

async fn get(rig: &Rig, path: &str) -> (u16, String) {
    service_kit::process::install_crypto_provider();
    let answer = reqwest::get(format!("http://{}{path}", rig.running.web_addr)).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn asides(rig: &Rig) -> Vec<String> {
    let entries = std::fs::read_dir(rig.dir.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.contains("corrupt"));
    names
}

#[tokio::test]
async fn corrupt_index_is_set_aside_and_filled_again() {
    let mut rig = Rig::start().await;
    rig.register("r1").await;
    rig.publish("gentoo", 1, &[distfile("a")]).await;
    rig.stop().await;
    for damage in ["no database", "damaged page"] {
        let mut octets = std::fs::read(rig.index_path()).unwrap();
        let asides_before = asides(&rig).len();
        if damage == "no database" {
            octets = b"This is not what it was.".repeat(400);
        } else {
            // The schema's own page, behind the file header.
            octets[100..4000].fill(0xff);
        }
        std::fs::write(rig.index_path(), octets).unwrap();
        // What SQLite still had in its log would heal the damage.
        for suffix in ["-wal", "-shm"] {
            drop(std::fs::remove_file(format!("{}{suffix}", rig.index_path().display())));
        }
        rig.clock.advance_ms(1000);
        rig.restart().await;
        assert!(asides(&rig).len() > asides_before, "{damage}: {:?}", asides(&rig));
        rig.imported("gentoo", 1).await;
        rig.register("r1").await;
        rig.inventory("r1", vec![blob("a")]).await;
        assert_eq!(rig.status().await.replicas[0].blobs, 1);
        rig.stop().await;
    }
}

#[tokio::test]
async fn second_maintenance_on_one_index_stands_by_says_so_and_takes_over() {
    service_kit::process::install_crypto_provider();
    let rig = Rig::start().await;
    rig.register("r1").await;
    let web = free_address().unwrap();
    let config = Config { web, ..rig.config() };
    let kit = Kit::default();
    let second = tokio::spawn({
        let (kit, clock) = (kit.clone(), rig.clock.clone());
        async move { maintenance::start_with_clock(config, &kit, clock).await }
    });
    let readyz =
        async || Some(reqwest::get(format!("http://{web}/readyz")).await.ok()?.text().await.unwrap());
    eventually(async || {
        readyz()
            .await
            .is_some_and(|text| text.contains("standing by") && text.contains("another maintenance"))
    })
    .await;
    assert_eq!(rig.status().await.replicas.len(), 1, "the first goes on");
    assert!(!second.is_finished());
    rig.stop().await;
    let running = support::within(second).await.unwrap().unwrap();
    assert_eq!(running.web_addr, web);
    eventually(async || readyz().await.is_some_and(|text| !text.contains("standing by"))).await;
    let status = reqwest::get(format!("http://{web}/status.json")).await.unwrap().text().await.unwrap();
    assert!(status.contains("r1"), "it has the first one's index: {status}");
    support::within(kit.tasks.finish()).await;
}

#[tokio::test]
async fn newer_index_is_refused_by_name_and_left_alone() {
    let rig = Rig::start().await;
    rig.stop().await;
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", rig.index_path().display())).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
         VALUES (99990101, 'from the future', '2099-01-01', 1, x'00', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    let error = maintenance::start(rig.config(), &Kit::default()).await.unwrap_err();
    assert_eq!(Exit::of(&error), Exit::Config);
    let text = format!("{error:#}");
    assert!(text.contains("index.db") && text.contains("newer release (schema version 99990101"), "{text}");
    assert!(asides(&rig).is_empty());
}

#[tokio::test]
async fn ready_once_every_module_is_served_and_imported() {
    let rig = Rig::start().await;
    eventually(async || get(&rig, "/readyz").await.1.contains("sync-server has no modules")).await;
    assert_eq!(get(&rig, "/healthz").await.0, 200);
    rig.tree.add_module("guru");
    rig.tree.publish("gentoo", 1, &[distfile("a")]);
    eventually(async || {
        let (code, text) = get(&rig, "/readyz").await;
        code == 503 && text.starts_with("catalogue: module guru: no generation yet: still being built\n")
    })
    .await;
    rig.tree.publish("guru", 1, &[distfile("g")]);
    eventually(async || get(&rig, "/readyz").await.0 == 200).await;
}

#[tokio::test]
async fn web_port_shows_it_to_people_and_programs() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.publish("gentoo", 3, &[distfile("a")]).await;
    let (code, page) = get(&rig, "/").await;
    assert_eq!(code, 200);
    assert!(page.contains("<td>gentoo") && page.contains("<td>r1"), "{page}");
    let (_, status) = get(&rig, "/status.json").await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["modules"][0]["module"]["live"]["number"], 3);
    assert_eq!(status["modules"][0]["catalogue_distfiles"], 1);
    assert_eq!(status["replicas"][0]["replica_id"], "r1");
    let (_, metrics) = get(&rig, "/metrics").await;
    assert!(metrics.contains("rookery_catalogue_distfiles{module=\"gentoo\"} 1\n"), "{metrics}");
    assert!(metrics.contains("rookery_replica_connected{replica=\"r1\"} 0\n"), "{metrics}");
    assert!(metrics.contains("rookery_problem{code=\"tree_old\"} 1\n"), "{metrics}");
    assert!(metrics.contains("rookery_problem{code=\"disk_full\"} 0\n"), "{metrics}");
    eventually(async || get(&rig, "/readyz").await.1.contains("warning: module gentoo: its tree is")).await;
    assert_eq!(get(&rig, "/nothing").await.0, 404);
}

#[tokio::test]
async fn a_key_that_expires_within_thirty_days_is_a_problem_and_a_warning() {
    let rig = Rig::start().await;
    rig.tree.add_module("gentoo");
    rig.tree.key_expires("gentoo", START_MS + 31 * DAY_MS);
    rig.publish("gentoo", 1, &[distfile("a")]).await;
    let found = async || {
        let problems = rig.status().await.problems;
        problems.into_iter().find(|one| one.code == "key_expires").map(|one| (one.subject, one.what))
    };
    assert_eq!(found().await, None, "not yet");
    rig.clock.advance_ms(2 * DAY_MS);
    let soon = "a key that may sign its tree expires in 29 d";
    assert_eq!(found().await, Some(("module gentoo".to_owned(), soon.to_owned())));
    rig.publish("gentoo", 2, &[distfile("b")]).await;
    eventually(async || get(&rig, "/readyz").await.1.contains(&format!("warning: module gentoo: {soon}")))
        .await;
    let (code, metrics) = get(&rig, "/metrics").await;
    assert_eq!(code, 200);
    assert!(metrics.contains("rookery_problem{code=\"key_expires\"} 1\n"), "{metrics}");
    rig.clock.advance_ms(31 * DAY_MS);
    assert_eq!(found().await.unwrap().1, "the last key that may sign its tree expired 2 d ago");
    rig.tree.key_expires("gentoo", 0);
    rig.publish("gentoo", 3, &[distfile("c")]).await;
    eventually(async || found().await.is_none()).await;
}
