//! What the store promises, one promise at a time.

mod common;

use std::fs::{self, File, FileTimes};
use std::time::{Duration, SystemTime};

use blob_store::{Aside, BeginError, BlobDigest, Evicted, FinishError, PartState, Scope, Store, Verified};
use common::{assert_index_equals_disk, contents, digest, expected, files_below, name, open, options, put};
use gentoo_repo::{Digests, HashAlgorithm};

#[test]
fn a_finished_part_has_a_name_that_a_plain_reader_can_follow() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let committed = put(&store, "foo-1.tar.gz", b"hello");
    assert_eq!(committed.digest, digest(b"hello"));
    assert_eq!(fs::read(dir.path().join("r0/distfiles/1b/foo-1.tar.gz")).unwrap(), b"hello");
    assert_eq!(store.named(&Scope::DISTFILES, &name("foo-1.tar.gz")), Some(committed.digest));
    assert_eq!(contents(&store, &committed.digest).unwrap(), b"hello");
    assert!(files_below(&dir.path().join("r0/parts")).is_empty());
    assert_index_equals_disk(&store);
}

#[test]
fn a_reader_follows_a_part_and_goes_on_reading_the_blob() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut part = store.begin(expected("a", b"0123456789")).unwrap();
    let reader = part.reader();
    let progress = reader.progress();
    part.append(b"01234").unwrap();
    assert_eq!(progress.borrow().bytes, 5);
    assert_eq!(progress.borrow().state, PartState::Growing);
    let mut buf = [0; 5];
    reader.contents().read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"01234");
    part.append(b"56789").unwrap();
    let committed = part.finish(&[Scope::DISTFILES]).unwrap();
    assert_eq!(progress.borrow().state, PartState::Right);
    assert_eq!(store.evict(&committed.digest, None).unwrap(), Evicted::Busy, "it is being read");
    reader.contents().read_exact_at(&mut buf, 5).unwrap();
    assert_eq!(&buf, b"56789");
    drop(reader);
    assert_eq!(store.evict(&committed.digest, None).unwrap(), Evicted::Done { bytes: 10 });
}

#[test]
fn wrong_bytes_never_get_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut part = store.begin(expected("a", b"right")).unwrap();
    let reader = part.reader();
    part.append(b"wrong").unwrap();
    let error = part.finish(&[Scope::DISTFILES]).unwrap_err();
    assert!(matches!(error, FinishError::Mismatch { algorithm: "BLAKE2B", resumed_bytes: 0 }), "{error}");
    assert_eq!(reader.progress().borrow().state, PartState::Wrong);
    assert_eq!(store.named(&Scope::DISTFILES, &name("a")), None);
    assert!(files_below(&store.slot_dir().join("parts")).is_empty());
    assert_eq!(files_below(&store.slot_dir().join("quarantine")).len(), 1);
    assert_index_equals_disk(&store);
    // The next try starts from nothing.
    assert_eq!(store.begin(expected("a", b"right")).unwrap().bytes(), 0);
    put(&store, "a", b"right");
}

#[test]
fn each_listed_digest_is_compared() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digests: Digests =
        [(HashAlgorithm::Blake2b, digest(b"x").as_bytes().to_vec()), (HashAlgorithm::Sha256, vec![0; 32])]
            .into_iter()
            .collect();
    let lying = blob_store::Expected::new(name("a"), 1, digests).unwrap();
    let mut part = store.begin(lying).unwrap();
    part.append(b"x").unwrap();
    let error = part.finish(&[Scope::DISTFILES]).unwrap_err();
    assert!(matches!(error, FinishError::Mismatch { algorithm: "SHA256", .. }), "{error}");
}

#[test]
fn quarantine_is_bounded_and_a_damaged_blob_has_a_place_before_wrong_downloads() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let quarantine = store.slot_dir().join("quarantine");
    for number in 0..20 {
        let mut part = store.begin(expected(&format!("a{number}"), b"right")).unwrap();
        part.append(b"wrong").unwrap();
        part.finish(&[Scope::DISTFILES]).unwrap_err();
    }
    assert_eq!(files_below(&quarantine).len(), 8);
    assert!(files_below(&store.slot_dir().join("parts")).is_empty());
    let spoil = |number: u8| {
        let blob = put(&store, &number.to_string(), &[number]).digest;
        let hex = blob.to_hex();
        fs::write(store.slot_dir().join("blobs").join(&hex[..2]).join(hex), b"?").unwrap();
        blob
    };
    let blobs: Vec<_> = (0..8).map(spoil).collect();
    for blob in &blobs {
        assert_eq!(store.verify(blob).unwrap(), Verified::Damaged(Aside::Kept));
    }
    // The same one, damaged again, takes its own place; another one finds none.
    assert_eq!(store.verify(&spoil(3)).unwrap(), Verified::Damaged(Aside::Kept));
    assert_eq!(store.verify(&spoil(8)).unwrap(), Verified::Damaged(Aside::Full));
    let kept: Vec<_> = store.quarantined().unwrap().into_iter().map(|(digest, _)| digest).collect();
    assert!(blobs.iter().all(|blob| kept.contains(blob)));
    assert_eq!(files_below(&quarantine).len(), 8);
    assert_index_equals_disk(&store);
}

#[test]
fn a_damaged_blob_too_large_for_quarantine_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blob = put(&store, "a", b"small").digest;
    let hex = blob.to_hex();
    let path = store.slot_dir().join("blobs").join(&hex[..2]).join(hex);
    // Nothing but a hole.
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len((256 << 20) + 1).unwrap();
    assert_eq!(store.set_aside(&blob).unwrap(), Some(Aside::TooLarge));
    assert_eq!(store.set_aside(&blob).unwrap(), None);
    assert!(!path.exists() && files_below(&store.slot_dir().join("quarantine")).is_empty());
    assert_index_equals_disk(&store);
}

#[test]
fn a_part_never_grows_beyond_its_size_and_never_finishes_short() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut part = store.begin(expected("a", b"12345")).unwrap();
    assert_eq!(part.append(b"12").unwrap(), 2);
    let error = part.finish(&[Scope::DISTFILES]).unwrap_err();
    assert!(matches!(error, FinishError::Short { have_bytes: 2, size_bytes: 5 }), "{error}");
    let mut part = store.begin(expected("a", b"12345")).unwrap();
    assert_eq!((part.bytes(), part.resumed_bytes()), (2, 2));
    assert_eq!(part.append(b"345678").unwrap(), 3);
    part.finish(&[Scope::DISTFILES]).unwrap();
    assert_index_equals_disk(&store);
}

#[test]
fn a_part_survives_a_restart_and_its_prefix_is_hashed_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut part = store.begin(expected("a", b"0123456789")).unwrap();
    part.append(b"01234").unwrap();
    let path = files_below(&store.slot_dir().join("parts"))
        .into_iter()
        .find(|path| path.extension().unwrap() == "part")
        .unwrap();
    drop((part, store));
    let store = open(dir.path());
    assert_eq!(store.begin(expected("a", b"0123456789")).unwrap().bytes(), 5);
    // The same name with other contents is another part.
    assert_eq!(store.begin(expected("a", b"abcdefghij")).unwrap().bytes(), 0);
    // A prefix that changed behind our back is found out at the end, and nobody else is blamed.
    fs::write(&path, b"X1234").unwrap();
    let mut part = store.begin(expected("a", b"0123456789")).unwrap();
    part.append(b"56789").unwrap();
    let error = part.finish(&[Scope::DISTFILES]).unwrap_err();
    assert!(matches!(error, FinishError::Mismatch { resumed_bytes: 5, .. }), "{error}");
    assert_index_equals_disk(&store);
}

#[test]
fn parts_without_a_whole_state_are_not_resumed() {
    for damage in ["remove", "truncate", "orphan"] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let mut part = store.begin(expected("a", b"0123456789")).unwrap();
        part.append(b"01234").unwrap();
        drop((part, store));
        let parts = files_below(&dir.path().join("r0/parts"));
        let by = |extension: &str| parts.iter().find(|p| p.extension().unwrap() == extension).unwrap();
        match damage {
            "remove" => fs::remove_file(by("state")).unwrap(),
            "truncate" => {
                let state = fs::read(by("state")).unwrap();
                fs::write(by("state"), &state[..state.len() - 1]).unwrap();
            }
            _ => fs::remove_file(by("part")).unwrap(),
        }
        let store = open(dir.path());
        assert!(files_below(&dir.path().join("r0/parts")).is_empty(), "{damage}");
        assert_eq!(store.begin(expected("a", b"0123456789")).unwrap().bytes(), 0, "{damage}");
    }
}

#[test]
fn one_part_has_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let part = store.begin(expected("a", b"12345")).unwrap();
    assert!(matches!(store.begin(expected("a", b"12345")), Err(BeginError::Busy)));
    drop(part);
    store.begin(expected("a", b"12345")).unwrap();
}

#[test]
fn room_is_reserved_before_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(options(dir.path(), 100)).unwrap();
    put(&store, "a", &[1; 40]);
    let part = store.begin(expected("b", &[2; 50])).unwrap();
    let full = store.begin(expected("c", &[3; 11])).unwrap_err();
    assert!(matches!(full, BeginError::Full { wanted_bytes: 11, free_bytes: 10 }), "{full}");
    drop(part);
    // Nobody writes b any more: its promise is void.
    put(&store, "c", &[3; 11]);
}

#[test]
fn a_part_that_nobody_writes_gives_way() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(options(dir.path(), 100)).unwrap();
    let mut part = store.begin(expected("a", &[1; 90])).unwrap();
    part.append(&[1; 60]).unwrap();
    drop(part);
    put(&store, "b", &[2; 80]);
    assert!(files_below(&store.slot_dir().join("parts")).is_empty());
    assert!(store.begin(expected("c", &[3; 21])).is_err());
    assert_index_equals_disk(&store);
}

#[test]
fn two_replicas_take_two_slots_and_keep_their_ids() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (open(dir.path()), open(dir.path()));
    assert_eq!(first.slot_dir(), dir.path().join("r0"));
    assert_eq!(second.slot_dir(), dir.path().join("r1"));
    assert_ne!(first.replica_id(), second.replica_id());
    let id = first.replica_id().to_owned();
    drop(first);
    let again = open(dir.path());
    assert_eq!((again.slot_dir(), again.replica_id()), (dir.path().join("r0").as_path(), id.as_str()));
}

#[test]
fn a_module_that_disagrees_has_its_own_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a", b"gentoo's");
    let guru = Scope::module("guru").unwrap();
    let mut part = store.begin(expected("a", b"guru's")).unwrap();
    part.append(b"guru's").unwrap();
    part.finish(std::slice::from_ref(&guru)).unwrap();
    let check = |store: &Store| {
        assert_eq!(store.named(&Scope::DISTFILES, &name("a")), Some(digest(b"gentoo's")));
        assert_eq!(store.named(&guru, &name("a")), Some(digest(b"guru's")));
    };
    check(&store);
    let link = files_below(&dir.path().join("r0/m/guru/distfiles")).pop().unwrap();
    assert_eq!(fs::read(link).unwrap(), b"guru's");
    drop(store);
    check(&open(dir.path()));
}

#[test]
fn a_rerolled_file_repoints_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let old = put(&store, "a", b"old").digest;
    let new = put(&store, "a", b"new").digest;
    assert_eq!(store.named(&Scope::DISTFILES, &name("a")), Some(new));
    assert!(store.info(&old).unwrap().names.is_empty());
    store.name(&Scope::DISTFILES, &name("a"), &old).unwrap();
    assert_eq!(store.named(&Scope::DISTFILES, &name("a")), Some(old));
    assert_index_equals_disk(&store);
    store.name(&Scope::DISTFILES, &name("b"), &digest(b"unknown")).unwrap_err();
}

#[test]
fn eviction_spares_what_was_asked_for_since_the_plan() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blob = put(&store, "a", b"hello").digest;
    assert_eq!(store.info(&blob).unwrap().last_access, None);
    let plan = SystemTime::now() - Duration::from_secs(1);
    drop(store.read(&blob).unwrap());
    assert_eq!(store.evict(&blob, Some(plan)).unwrap(), Evicted::Busy);
    let reader = store.read(&blob).unwrap();
    assert_eq!(store.evict(&blob, None).unwrap(), Evicted::Busy);
    drop(reader);
    let later = SystemTime::now() + Duration::from_secs(1);
    assert_eq!(store.evict(&blob, Some(later)).unwrap(), Evicted::Done { bytes: 5 });
    assert_eq!(store.evict(&blob, Some(later)).unwrap(), Evicted::Gone);
    assert_index_equals_disk(&store);
}

#[test]
fn accesses_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let asked = put(&store, "asked", b"1").digest;
    let never = put(&store, "never", b"2").digest;
    drop(store.read(&asked).unwrap());
    assert_eq!(store.verify(&never).unwrap(), Verified::Sound);
    drop(store);
    let store = open(dir.path());
    let age = store.info(&asked).unwrap().last_access.unwrap().elapsed().unwrap();
    assert!(age < Duration::from_mins(1), "{age:?}");
    assert_eq!(store.info(&never).unwrap().last_access, None, "verifying is no access");
}

#[test]
fn accesses_of_a_clock_that_was_ahead_are_put_back_once_and_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let [asked, ahead, never] =
        [b"1", b"2", b"3"].map(|bytes| put(&store, std::str::from_utf8(bytes).unwrap(), bytes).digest);
    drop(store.read(&asked).unwrap());
    let [hour, year] = [1, 365 * 24].map(Duration::from_hours);
    let now =
        SystemTime::UNIX_EPOCH + Duration::from_secs(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs());
    let set = |digest: &BlobDigest, at| {
        let path = dir.path().join("r0/blobs").join(&digest.to_hex()[..2]).join(digest.to_hex());
        File::open(path).unwrap().set_times(FileTimes::new().set_accessed(at)).unwrap();
    };
    set(&ahead, now + 9 * year);
    drop(store);
    let store = open(dir.path());
    let accesses =
        |store: &Store| [asked, ahead, never].map(|digest| store.info(&digest).unwrap().last_access);
    let before = accesses(&store);
    assert_eq!(before[1], Some(now + 9 * year));
    assert_eq!(store.evict(&ahead, Some(now + hour)).unwrap(), Evicted::Busy, "asked for after the plan");
    assert_eq!(store.put_accesses_back(now + hour, now), 1);
    assert_eq!(store.put_accesses_back(now + hour, now), 0, "once");
    assert_eq!(accesses(&store), [before[0], Some(now), None]);
    drop(store);
    let store = open(dir.path());
    assert_eq!(accesses(&store)[1], Some(now), "on the disk, too");
    assert_eq!(store.evict(&ahead, Some(now + hour)).unwrap(), Evicted::Done { bytes: 1 });
    // Asked for since, the disk's time is still that of before.
    set(&asked, now + year);
    drop(store);
    let store = open(dir.path());
    drop(store.read(&asked).unwrap());
    let asked_now = store.info(&asked).unwrap().last_access.unwrap();
    assert!(asked_now < now + hour);
    assert_eq!(store.put_accesses_back(now + hour, now), 1);
    assert_eq!(store.info(&asked).unwrap().last_access, Some(asked_now), "what is right stays");
    drop(store);
    let saved = open(dir.path()).info(&asked).unwrap().last_access.unwrap();
    assert!(saved <= asked_now && saved >= now - hour);
}

#[test]
fn what_is_in_memory_is_opened_without_the_disk_and_everything_else_is_left_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = put(&store, "a", b"0123456789").digest;
    assert!(store.read_now(&common::digest(b"other")).is_none(), "nobody has it");
    // The access of `put` was never saved: that is for `read`.
    assert!(store.read_now(&digest).is_none());
    let modified = store.read(&digest).unwrap().unwrap().modified();
    let blob = store.read_now(&digest).unwrap();
    assert_eq!((blob.size_bytes(), blob.modified()), (10, modified));
    let mut octets = [0; 10];
    blob.read_exact_at(&mut octets, 0).unwrap();
    assert_eq!(&octets, b"0123456789");
    assert_eq!(store.evict(&digest, None).unwrap(), Evicted::Busy, "it is being read");
    drop(blob);
    // Of another length than it had, or gone: `read` finds out what that means.
    let path = files_below(&dir.path().join("r0/blobs")).remove(0);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(&path, b"short").unwrap();
    assert!(store.read_now(&digest).is_none());
    fs::remove_file(&path).unwrap();
    assert!(store.read_now(&digest).is_none());
    assert!(store.read(&digest).unwrap().is_none());
}

#[test]
fn a_file_that_is_kept_open_neither_holds_its_blob_nor_outlives_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = put(&store, "a", b"0123456789").digest;
    drop(store.read(&digest).unwrap());
    let first = store.read_now(&digest).unwrap();
    let again = store.read_now(&digest).unwrap();
    assert!(std::sync::Arc::ptr_eq(first.file(), again.file()), "opened once");
    let now = SystemTime::now();
    first.found_in_memory(now);
    assert!(again.is_in_memory(now), "what is found of a file is known to all who have it");
    drop((first, again));
    // Another copy in its place, as a restore makes it.
    let path = files_below(&dir.path().join("r0/blobs")).remove(0);
    let copy = path.with_extension("copy");
    fs::copy(&path, &copy).unwrap();
    fs::rename(&copy, &path).unwrap();
    let restored = store.read_now(&digest).unwrap();
    let inode = |metadata: fs::Metadata| std::os::unix::fs::MetadataExt::ino(&metadata);
    assert_eq!(inode(restored.file().metadata().unwrap()), inode(fs::metadata(&path).unwrap()));
    assert!(!restored.is_in_memory(now), "it is another file");
    drop(restored);
    assert!(matches!(store.evict(&digest, None).unwrap(), Evicted::Done { .. }));
    assert!(store.read_now(&digest).is_none());
}

#[test]
fn other_digests_than_ours_are_compared_by_reading() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blob = put(&store, "a", b"hello").digest;
    let with = |contents: &[u8]| {
        use sha2::Digest as _;
        let digests = [(HashAlgorithm::Sha512, sha2::Sha512::digest(contents).to_vec())];
        blob_store::Expected::new(name("a"), 5, digests.into_iter().collect()).unwrap()
    };
    assert!(store.matches(&blob, &with(b"hello")).unwrap());
    assert!(store.matches(&blob, &with(b"hello")).unwrap());
    assert!(!store.matches(&blob, &with(b"HELLO")).unwrap());
    assert!(!store.matches(&blob, &expected("a", b"HELLO")).unwrap());
}
