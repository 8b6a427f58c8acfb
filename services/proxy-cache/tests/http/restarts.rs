//! A replica that is stopped in the middle, and the one that takes its slot.

use farm_sim::upstream::{Fault, Upstream};

use crate::replica::{Client, DEADLINE, File, Replica, config, know, named, until};

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

/// Waits until the slot of the replica before is free, so that the new one takes it.
async fn restarted(dir: &std::path::Path, upstream: &Upstream) -> Replica {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let replica = Replica::start(config(dir, &[upstream])).await;
        if !dir.join("r1").exists() {
            return replica;
        }
        replica.stop().await;
        drop(std::fs::remove_dir_all(dir.join("r1")));
        assert!(tokio::time::Instant::now() < deadline, "the slot stays locked");
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
