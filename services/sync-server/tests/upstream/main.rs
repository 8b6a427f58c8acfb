//! Trees pulled with the stock rsync program: from the stock daemon, from several, from our own server.

#![allow(clippy::unwrap_used, reason = "a test")]

mod crashes;
mod daemon;
mod git;
mod scene;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use sync_server::{ModuleConfig, VerifyMode};

use daemon::{Daemon, Habits, free_port, stamp, stamp_ms, write, write_tree};
use scene::{Scene, eventually, pulled, text};

const LONG: Duration = Duration::from_hours(1);
const SHORT: Duration = Duration::from_secs(1);

const PROBE: &str = "m/metadata/timestamp.chk";

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_probed_pulled_and_probed_again_and_then_left_alone() {
    let daemon = Daemon::start(&Habits::default());
    write_tree(&daemon.tree(), 3, &["one", "two"]);
    // What is no part of a repository, or not in place yet on the mirror, is not even transferred.
    for path in
        ["distfiles/huge", ".~tmp~/metadata/x", "app-misc/p/.~tmp~/y", "app-misc/.rsync-partial/z", "mine/a"]
    {
        write(&daemon.tree(), path, "no part of it");
    }
    let module = ModuleConfig { exclude: vec!["/mine".to_owned()], ..pulled("m", &[daemon.url()], LONG) };
    let scene = Scene::start(vec![module]).await;
    let first = scene.generation(1).await;
    assert_eq!((first.summary().files, first.summary().distfiles), (3, 2));
    assert_eq!(first.summary().timestamp_ms, stamp_ms(3));
    assert_eq!(daemon.requests(), [PROBE, "m/", PROBE]);

    // However often somebody asks, the mirror is not asked before it is time.
    write_tree(&daemon.tree(), 4, &["three"]);
    for _ in 0..3 {
        let looked = scene.publish(false).await.unwrap();
        assert!(!looked.changed && looked.note.contains("the upstream was not asked"), "{}", looked.note);
    }
    let attempt = scene.module("m").attempt();
    let next_in_ms = attempt.next_ms - attempt.at_ms;
    assert!((3_500_000..=3_600_000).contains(&next_in_ms), "{next_in_ms}");
    // Nor does a restart make it time.
    let scene = Scene::start_in(scene.stop().await, vec![pulled("m", &[daemon.url()], LONG)]).await;
    assert_eq!(scene.generation(1).await.number(), 1);
    assert!(!scene.publish(false).await.unwrap().changed);
    assert_eq!(daemon.requests().len(), 3);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_tree_is_pulled_and_the_same_one_only_probed_and_never_more_often_than_poll() {
    let daemon = Daemon::start(&Habits::default());
    write_tree(&daemon.tree(), 3, &["one"]);
    let started = Instant::now();
    let scene = Scene::start(vec![pulled("m", &[daemon.url()], SHORT)]).await;
    scene.generation(1).await;
    eventually("three looks that find nothing new", || daemon.requests().len() >= 6).await;
    assert_eq!(daemon.pulls(), 1);
    // The first look is at the start, each other one at least a second after the one before.
    assert!(started.elapsed() >= SHORT * 3, "{:?}", started.elapsed());

    write_tree(&daemon.tree(), 4, &["one", "two"]);
    let second = scene.generation(2).await;
    assert_eq!((second.summary().distfiles, second.summary().timestamp_ms), (2, stamp_ms(4)));
    eventually("the second pull", || daemon.pulls() == 2).await;
    assert_eq!(scene.module("m").attempt().error, "");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_have_their_turn_in_order_until_one_has_a_newer_tree() {
    let good = Daemon::start(&Habits::default());
    write_tree(&good.tree(), 10, &["one"]);
    let scene = Scene::start(vec![pulled("m", &[good.url()], LONG)]).await;
    scene.generation(1).await;
    let directory = scene.stop().await;

    let down = format!("rsync://127.0.0.1:{}/m", free_port());
    let older = Daemon::start(&Habits::default());
    write_tree(&older.tree(), 5, &["older"]);
    // Takes connections and says nothing.
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let hanging = format!("rsync://{}/m", mute.local_addr().unwrap());
    let newer = Daemon::start(&Habits::default());
    write_tree(&newer.tree(), 11, &["newer"]);
    let unneeded = Daemon::start(&Habits::default());
    write_tree(&unneeded.tree(), 12, &["unneeded"]);
    let urls = [down.clone(), older.url(), hanging.clone(), newer.url(), unneeded.url()];
    let scene = Scene::start_in(directory, vec![pulled("m", &urls, LONG)]).await;
    let second = scene.generation(2).await;
    assert_eq!(second.summary().timestamp_ms, stamp_ms(11));
    assert_eq!(older.requests(), [PROBE], "only asked for its time");
    assert_eq!(unneeded.requests(), <[&str; 0]>::default());
    let directory = scene.stop().await;

    // Without the good ones: each says why not, and when it is asked again.
    let scene = Scene::start_in(directory, vec![pulled("m", &[down, older.url(), hanging], LONG)]).await;
    let error = scene.failure("asked again").await;
    let reasons: Vec<_> = error.split("; rsync://").collect();
    assert_eq!(reasons.len(), 3, "{error}");
    assert!(reasons[0].contains("failed to connect") && reasons[0].ends_with("in 5m"), "{error}");
    assert!(
        reasons[1].contains("older than the one that is served") && reasons[1].ends_with("in 1h"),
        "{error}"
    );
    assert!(reasons[2].contains("not done within 5s") && reasons[2].ends_with("in 5m"), "{error}");
    assert_eq!(scene.module("m").live().unwrap().number(), 2, "what was live stays");
    eventually("what was live is enough to be ready", || scene.unready().is_empty()).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_tree_that_can_not_be_had_is_what_keeps_the_service_from_being_ready() {
    let scene =
        Scene::start(vec![pulled("m", &[format!("rsync://127.0.0.1:{}/m", free_port())], LONG)]).await;
    let error = scene.failure("failed to connect").await;
    let is_named =
        |unready: &[(String, String)]| unready.len() == 1 && unready[0].1.contains("failed to connect");
    eventually("it is named", || is_named(&scene.unready())).await;
    let again = scene.publish(false).await.unwrap_err();
    assert!(
        again.contains("failed to connect") && again.contains("to be asked again in"),
        "{again}, {error}"
    );
    let attempt = scene.module("m").attempt();
    let next_in_ms = attempt.next_ms - attempt.at_ms;
    assert!((200_000..=300_000).contains(&next_in_ms), "the first retry is after five minutes: {next_in_ms}");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_changes_during_the_pull_is_pulled_again() {
    // The mirror's own update comes between the pull and the second probe.
    let before = "if [ \"$RSYNC_REQUEST\" = m/ ]; then touch pulled; elif [ -f pulled ] && [ -f next ]; then\n\
                  mv next tree/metadata/timestamp.chk; fi";
    let daemon = Daemon::start(&Habits { before, ..Habits::default() });
    write_tree(&daemon.tree(), 3, &["one"]);
    fs::write(daemon.path("next"), stamp(4)).unwrap();
    let scene = Scene::start(vec![pulled("m", &[daemon.url()], LONG)]).await;
    assert_eq!(scene.generation(1).await.summary().timestamp_ms, stamp_ms(4));
    assert_eq!(daemon.requests(), [PROBE, "m/", PROBE, "m/", PROBE]);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_never_stands_still_is_given_up() {
    let before = "if [ \"$RSYNC_REQUEST\" = m/ ]; then n=$(cat n 2>/dev/null || echo 10); echo $((n+1)) >n\n\
                  elif [ -f n ]; then echo \"Fri, 21 Aug 2026 17:31:$(cat n) +0000\" >tree/metadata/timestamp.chk; fi";
    let daemon = Daemon::start(&Habits { before, ..Habits::default() });
    write_tree(&daemon.tree(), 3, &["one"]);
    let scene = Scene::start(vec![pulled("m", &[daemon.url()], LONG)]).await;
    scene.failure("changed during each of 3 pulls").await;
    assert!(scene.module("m").live().is_none());
    assert_eq!(daemon.pulls(), 3);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_tree_is_pulled_again_although_its_timestamp_stays() {
    let set_time = |daemon: &Daemon| {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(1_787_000_000);
        let manifest = fs::File::open(daemon.tree().join("app-misc/p/Manifest")).unwrap();
        manifest.set_modified(time).unwrap();
    };
    let daemon = Daemon::start(&Habits::default());
    write_tree(&daemon.tree(), 3, &["one"]);
    // Of the same size and time, so that only a comparison of contents finds it.
    let good = fs::read_to_string(daemon.tree().join("app-misc/p/Manifest")).unwrap();
    write(&daemon.tree(), "app-misc/p/Manifest", &good.replace("DIST", "XXXX"));
    set_time(&daemon);
    let scene = Scene::start(vec![pulled("m", &[daemon.url()], SHORT)]).await;
    scene.failure("app-misc/p/Manifest:1").await;
    write_tree(&daemon.tree(), 3, &["one"]);
    set_time(&daemon);
    assert_eq!(scene.generation(1).await.summary().timestamp_ms, stamp_ms(3));
    eventually("the problem is over", || scene.module("m").attempt().error.is_empty()).await;
    let pulls = daemon.pulls();
    let requests = daemon.requests().len();
    eventually("two more looks", || daemon.requests().len() >= requests + 2).await;
    assert_eq!(daemon.pulls(), pulls, "a good tree is not pulled again");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_tree_is_taken_only_when_the_operator_says_so() {
    let daemon = Daemon::start(&Habits::default());
    write_tree(&daemon.tree(), 10, &["one"]);
    let scene = Scene::start(vec![pulled("m", &[daemon.url()], SHORT)]).await;
    scene.generation(1).await;
    write_tree(&daemon.tree(), 5, &["one"]);
    let error = scene.failure("older than the one that is served").await;
    assert!(error.contains("--allow-older"), "{error}");
    assert_eq!(scene.module("m").live().unwrap().number(), 1);
    // It may be too soon to ask the mirror: then the next look takes it.
    match scene.publish(true).await {
        Ok(looked) => assert!(looked.changed),
        Err(error) => assert!(error.contains("to be asked again"), "{error}"),
    }
    assert_eq!(scene.generation(2).await.summary().timestamp_ms, stamp_ms(5));
    // Only that one.
    write_tree(&daemon.tree(), 2, &["one"]);
    scene.failure("older than the one that is served").await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_who_wants_an_older_tree_during_a_pull_gets_it_at_the_next_look() {
    let before = "while [ -f closed ]; do touch held; sleep 0.05; done";
    let daemon = Daemon::start(&Habits { before, ..Habits::default() });
    write_tree(&daemon.tree(), 10, &["one"]);
    let scene = Scene::start(vec![pulled("m", &[daemon.url()], SHORT)]).await;
    scene.generation(1).await;
    fs::write(daemon.path("closed"), "").unwrap();
    eventually("a look holds", || daemon.path("held").exists()).await;
    write_tree(&daemon.tree(), 5, &["one"]);
    let answer = {
        let mut publishing = std::pin::pin!(scene.publish(true));
        // Asked for once it was polled once.
        tokio::select! {
            biased;
            early = &mut publishing => panic!("answered before the look ended: {early:?}"),
            () = std::future::ready(()) => {}
        }
        fs::remove_file(daemon.path("closed")).unwrap();
        publishing.await
    };
    if let Err(error) = answer {
        assert!(error.contains("to be asked again"), "{error}");
    }
    assert_eq!(scene.generation(2).await.summary().timestamp_ms, stamp_ms(5));
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_server_is_an_upstream_like_any_other() {
    let source = tempfile::tempdir().unwrap();
    write_tree(source.path(), 3, &["one", "two"]);
    std::os::unix::fs::symlink("p-1", source.path().join("metadata/md5-cache/app-misc/link")).unwrap();
    let dir = ModuleConfig { verify: VerifyMode::Consistent, ..ModuleConfig::of_dir("m", source.path()) };
    let first = Scene::start(vec![dir]).await;
    let original = first.generation(1).await;
    let url = format!("rsync://{}/m", first.running.rsync_addr);
    let second = Scene::start(vec![pulled("m", &[url], LONG)]).await;
    let copy = second.generation(1).await;
    assert_eq!(copy.nodes_count(), original.nodes_count());
    for position in 0..u32::try_from(copy.nodes_count()).unwrap() {
        let (one, other) = (copy.id_at(position).unwrap(), original.id_at(position).unwrap());
        let (mut one, other) = (copy.node(one), original.node(other));
        if one.mtime_s == other.mtime_s {
            one.mtime_ns = other.mtime_ns;
        }
        assert_eq!(one, other);
    }
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_pull_does_not_keep_other_modules_waiting_and_overlays_learn_its_mirrors_later() {
    let before = "while [ \"$RSYNC_REQUEST\" = m/ ] && [ ! -f gate ]; do sleep 0.05; done";
    let daemon = Daemon::start(&Habits { before, ..Habits::default() });
    write_tree(&daemon.tree(), 3, &["one"]);
    write(&daemon.tree(), "profiles/repo_name", "gentoo\n");
    write(&daemon.tree(), "profiles/thirdpartymirrors", "up https://up.example/\n");
    let overlay = tempfile::tempdir().unwrap();
    write_tree(overlay.path(), 3, &["two"]);
    write(overlay.path(), "metadata/layout.conf", "masters = gentoo\n");
    write(overlay.path(), "metadata/md5-cache/app-misc/p-1", "EAPI=8\nSRC_URI=mirror://up/two\n");
    let overlay = ModuleConfig { verify: VerifyMode::None, ..ModuleConfig::of_dir("o", overlay.path()) };
    let scene = Scene::start(vec![pulled("m", &[daemon.url()], LONG), overlay]).await;
    let first = scene.generation_of("o", 1).await;
    assert!(scene.module("m").live().is_none());
    assert_eq!(first.summary().distfiles_without_source, 1);
    assert!(scene.module("m").activity().contains("pulling"), "{}", scene.module("m").activity());
    // Told a moment after the overlay's generation can be seen.
    let pulled_only = [("module m".to_owned(), "its first tree is being pulled".to_owned())];
    eventually("only m keeps it from being ready", || scene.unready() == pulled_only).await;

    fs::write(daemon.path("gate"), "").unwrap();
    scene.generation(1).await;
    assert_eq!(scene.generation_of("o", 2).await.summary().distfiles_without_source, 0);
    assert_eq!(scene.module("m").activity(), "");
    let again = scene.module("o").publish(false).await.unwrap();
    assert!(!again.changed && again.generation.number() == 2, "once is enough");
    assert!(text(&again.generation, "metadata/layout.conf").is_some());
    scene.stop().await;
}
