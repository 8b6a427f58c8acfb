//! Generations come in from sync-server and go out to the replicas as differences.

#![allow(clippy::unwrap_used, reason = "how a test fails")]

mod support;

use rookery_proto::v1::Distfile;
use support::{Rig, distfile, eventually, step, within};

fn distfiles(names: &[&str]) -> Vec<Distfile> {
    names.iter().map(|name| distfile(name)).collect()
}

#[tokio::test]
async fn replica_gets_everything_once_and_then_differences() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.publish("gentoo", 1, &distfiles(&["a", "b", "c"])).await;
    let mut stream = rig.watch_catalogue("r1", &[]).await;
    let first = step(&mut stream).await;
    assert!(first.reset);
    assert_eq!(
        (first.generation, first.upserts.as_slice()),
        (1, ["a", "b", "c"].map(String::from).as_slice())
    );
    assert_eq!(first.order, ["gentoo"]);

    let mut changed = distfiles(&["b", "c", "d"]);
    changed[1].sources.push("https://mirror.example.org/c".to_owned());
    rig.tree.publish("gentoo", 2, &changed);
    let second = step(&mut stream).await;
    assert!(!second.reset);
    assert_eq!(
        (second.generation, second.upserts, second.removes),
        (2, vec!["c".into(), "d".into()], vec!["a".into()])
    );
    assert_eq!(rig.tree.asked(), [("gentoo".to_owned(), 1, 0), ("gentoo".to_owned(), 2, 1)]);

    // A replica that was away while 2 came gets the same difference.
    let third = step(&mut rig.watch_catalogue("r1", &[("gentoo", 1)]).await).await;
    assert!(!third.reset);
    assert_eq!((third.upserts, third.removes), (vec!["c".into(), "d".into()], vec!["a".into()]));
    // One that has it already gets an empty step; one that has what nobody knows, everything.
    let current = step(&mut rig.watch_catalogue("r1", &[("gentoo", 2)]).await).await;
    assert!(!current.reset && current.upserts.is_empty() && current.removes.is_empty());
    let stranger = step(&mut rig.watch_catalogue("r1", &[("gentoo", 77)]).await).await;
    assert!(stranger.reset);
    assert_eq!(stranger.upserts, ["b", "c", "d"]);
}

#[tokio::test]
async fn restart_goes_on_with_differences() {
    let mut rig = Rig::start().await;
    rig.register("r1").await;
    rig.publish("gentoo", 1, &distfiles(&["a"])).await;
    rig.restart().await;
    rig.publish("gentoo", 2, &distfiles(&["a", "b"])).await;
    assert_eq!(rig.tree.asked().last(), Some(&("gentoo".to_owned(), 2, 1)));
    let difference = step(&mut rig.watch_catalogue("r1", &[("gentoo", 1)]).await).await;
    assert!(!difference.reset);
    assert_eq!(difference.upserts, ["b"]);
}

#[tokio::test]
async fn reset_by_sync_server_is_still_a_difference_for_replicas() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.publish("gentoo", 1, &distfiles(&["a", "b"])).await;
    let mut stream = rig.watch_catalogue("r1", &[]).await;
    step(&mut stream).await;
    rig.tree.forget("gentoo", 1);
    rig.publish("gentoo", 5, &distfiles(&["b", "c"])).await;
    let difference = step(&mut stream).await;
    assert!(!difference.reset);
    assert_eq!((difference.upserts, difference.removes), (vec!["c".into()], vec!["a".into()]));
}

#[tokio::test]
async fn sync_server_that_counts_anew_resets_everybody() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.publish("gentoo", 5, &distfiles(&["a", "b"])).await;
    let mut stream = rig.watch_catalogue("r1", &[]).await;
    step(&mut stream).await;
    rig.tree.publish_at("gentoo", 1, &distfiles(&["b", "c"]), 999);
    let anew = step(&mut stream).await;
    assert!(anew.reset, "a lower number is no difference");
    assert_eq!((anew.generation, anew.upserts), (1, vec!["b".into(), "c".into()]));
    // Generation 3 of the old series is not generation 3 of the new one.
    rig.tree.publish_at("gentoo", 3, &distfiles(&["c"]), 1000);
    let next = step(&mut stream).await;
    assert!(!next.reset);
    assert_eq!(next.removes, ["b"]);
    assert!(step(&mut rig.watch_catalogue("r1", &[("gentoo", 3)]).await).await.reset);
}

#[tokio::test]
async fn module_that_is_gone_is_taken_back_and_order_is_told() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.publish("gentoo", 1, &distfiles(&["a"])).await;
    rig.publish("guru", 1, &distfiles(&["g"])).await;
    let mut stream = rig.watch_catalogue("r1", &[]).await;
    for module in ["gentoo", "guru"] {
        let first = step(&mut stream).await;
        assert_eq!((first.module.as_str(), first.order.len()), (module, 2));
    }
    rig.tree.remove_module("guru");
    // The list is looked at with the next generation at the latest.
    rig.tree.publish("gentoo", 2, &distfiles(&["a", "b"]));
    let mut steps = vec![step(&mut stream).await, step(&mut stream).await];
    if !steps.iter().any(|one| one.module == "guru") {
        steps.push(step(&mut stream).await);
    }
    let farewell = steps.iter().find(|one| one.module == "guru").unwrap();
    assert!(farewell.reset && farewell.upserts.is_empty() && farewell.generation == 0);
    assert_eq!(farewell.order, ["gentoo"]);
}

#[tokio::test]
async fn goes_on_with_the_last_catalogue_while_sync_server_is_away() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.publish("gentoo", 1, &distfiles(&["a"])).await;
    rig.tree.stop().await;
    eventually(async || rig.status().await.problems.iter().any(|one| one.subject == "sync-server")).await;
    assert!(rig.kit.readiness.check().is_ok(), "what was imported can be served");
    let first = step(&mut rig.watch_catalogue("r1", &[]).await).await;
    assert_eq!(first.upserts, ["a"]);
}

#[tokio::test]
async fn unsound_distfiles_are_left_out() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    let mut evil = distfiles(&["a", "..", "x/y", "bad"]);
    evil[3].digests[0].value.pop();
    rig.publish("gentoo", 1, &evil).await;
    assert_eq!(step(&mut rig.watch_catalogue("r1", &[]).await).await.upserts, ["a"]);
}

#[tokio::test]
async fn stop_ends_the_streams() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    let mut stream = rig.watch_catalogue("r1", &[]).await;
    rig.stop().await;
    assert!(within(stream.message()).await.is_err(), "told to come again");
}

/// Not a benchmark: that of an unoptimised build would say little. What it holds is that nothing grows
/// with the square of the catalogue.
#[tokio::test]
async fn large_catalogue_passes_through() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    let names: Vec<String> = (0..18_524).map(|number| format!("distfile-{number:05}.tar.xz")).collect();
    let all: Vec<_> = names.iter().map(|name| distfile(name)).collect();
    let begun = std::time::Instant::now();
    rig.publish("gentoo", 1, &all).await;
    println!("import of {} distfiles: {:?}", all.len(), begun.elapsed());
    let begun = std::time::Instant::now();
    let first = step(&mut rig.watch_catalogue("r1", &[]).await).await;
    println!("sent on: {:?} in {} messages", begun.elapsed(), first.messages);
    assert_eq!(first.upserts, names);
    assert_eq!(rig.status().await.modules[0].catalogue_distfiles, 18_524);
}
