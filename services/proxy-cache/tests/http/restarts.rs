//! A replica that is stopped in the middle, and the one that takes its slot.

use farm_sim::upstream::{Fault, Gate, Upstream};

use crate::replica::{Client, File, Replica, config, know, named, until};

#[tokio::test]
async fn a_part_is_resumed_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    let file = File::new("large-1.tar", 8_000_000);
    upstream.put(&file.mirror_path(), file.object());
    upstream.add_fault_times(&file.mirror_path(), Fault::SilentBody { after_bytes: 3_000_000 }, 1);
    know(dir.path(), "gentoo", &[&file]).await;
    let path = file.mirror_path();

    let replica = Replica::start(config(dir.path(), &[&upstream])).await;
    let mut client = Client::get(&replica, &path).await;
    client.head().await;
    client.body_bytes(3_000_000).await;
    let got = client.so_far().to_vec();
    replica.stop().await;
    assert!(!client.rest().await.complete);
    assert!(named(dir.path()).is_empty());

    let replica = restarted(dir.path(), &upstream).await;
    // The client does what wget does.
    let rest = replica.get_range(&path, &format!("bytes={}-", got.len())).await;
    assert_eq!((rest.status, rest.complete), (206, true));
    assert!([got, rest.body].concat() == file.bytes());
    let start = upstream.log()[1].range_start.unwrap();
    assert_eq!(start, 3_000_000);
    assert_eq!(upstream.total().bytes, 8_000_000);
    until("stored", || named(dir.path()) == ["large-1.tar"]).await;
}

/// In the slot of the replica before.
async fn restarted(dir: &std::path::Path, upstream: &Upstream) -> Replica {
    let replica = Replica::start(config(dir, &[upstream])).await;
    assert!(!dir.join("r1").exists(), "the slot stays locked");
    replica
}

#[tokio::test]
async fn the_rest_of_a_wrong_file_is_refused_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    let file = File::new("large-1.tar", 8_000_000);
    upstream.put(&file.mirror_path(), file.object());
    let gate = Gate::closed();
    upstream.add_fault_times(&file.mirror_path(), Fault::WrongByte { at: 1000 }, 1);
    let held = Fault::Gated { after_bytes: 2_000_000, gate: gate.clone() };
    upstream.add_fault_times(&file.mirror_path(), held, 1);
    know(dir.path(), "gentoo", &[&file]).await;
    let path = file.mirror_path();
    let replica = Replica::start(config(dir.path(), &[&upstream])).await;
    let broken = replica.get_broken(&path, &gate).await;
    replica.stop().await;
    let replica = restarted(dir.path(), &upstream).await;
    let rest = format!("bytes={}-", broken.body.len());
    assert_eq!(replica.get_range(&path, &rest).await.status, 404);
    replica.get(&path).await.assert_is(&file);
    assert_eq!(replica.get_range(&path, &rest).await.status, 404, "it still holds the wrong beginning");
}

#[tokio::test]
async fn what_an_earlier_process_gave_out_and_nobody_verified_is_not_gone_on_with() {
    for part_is_lost in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (bad, good) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
        let file = File::new("large-1.tar", 8_000_000);
        let path = file.mirror_path();
        bad.put(&path, file.object());
        bad.add_fault(&path, Fault::WrongByte { at: 1000 });
        bad.add_fault(&path, Fault::SilentBody { after_bytes: 3_000_000 });
        know(dir.path(), "gentoo", &[&file]).await;
        let replica = Replica::start(config(dir.path(), &[&bad, &good])).await;
        let mut client = Client::get(&replica, &path).await;
        client.head().await;
        client.body_bytes(3_000_000).await;
        replica.stop().await;
        assert!(!client.rest().await.complete);
        if part_is_lost {
            std::fs::remove_dir_all(dir.path().join("r0/parts")).unwrap();
        }
        good.put(&path, file.object());
        let replica = restarted(dir.path(), &good).await;
        if !part_is_lost {
            // The wrong beginning and a right end: another client finds out.
            assert!(!replica.attempt(&path).await.complete);
        }
        let rest = replica.get_range(&path, "bytes=3000000-").await;
        assert_eq!(rest.status, 404, "part_is_lost: {part_is_lost}");
        replica.get(&path).await.assert_is(&file);
    }
}

#[tokio::test]
async fn hits_need_neither_maintenance_nor_upstream() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    let file = File::new("a-1.tar", 1_500_000);
    upstream.put(&file.mirror_path(), file.object());
    know(dir.path(), "gentoo", &[&file]).await;
    let replica = Replica::start(config(dir.path(), &[&upstream])).await;
    replica.get(&file.mirror_path()).await.assert_is(&file);
    until("stored", || named(dir.path()) == ["a-1.tar"]).await;
    replica.stop().await;
    let replica = restarted(dir.path(), &upstream).await;
    upstream.add_fault_everywhere(Fault::Status(500));
    replica.get(&file.mirror_path()).await.assert_is(&file);
    replica.stop().await;
    // Not even the catalogue.
    for leftover in ["catalogue.db", "catalogue.db-wal", "catalogue.db-shm"] {
        drop(std::fs::remove_file(dir.path().join("r0").join(leftover)));
    }
    let replica = restarted(dir.path(), &upstream).await;
    replica.get(&file.mirror_path()).await.assert_is(&file);
}
