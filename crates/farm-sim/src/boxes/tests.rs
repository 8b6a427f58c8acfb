use std::fs;

use super::*;
use crate::tree::{Restriction, TreeSpec, generate};
use crate::upstream::{Fault, Upstream};

struct Set {
    dir: tempfile::TempDir,
    upstream: Upstream,
    tree: crate::tree::GeneratedTree,
}

/// An upstream with a tree, and a box that has already synced it by other means.
async fn set(programs: Programs) -> (Set, GentooBox) {
    let upstream = Upstream::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let spec = TreeSpec { packages: 30, source_base: upstream.url(), ..TreeSpec::default() };
    let tree = generate(&spec, &dir.path().join("box/repo")).unwrap();
    upstream.put_tree(&tree);
    let spec = BoxSpec {
        name: "ws1".to_owned(),
        dir: dir.path().join("box"),
        sync_uri: "rsync://127.0.0.1:1/gentoo-portage".to_owned(),
        mirror: upstream.url(),
        programs,
    };
    (Set { dir, upstream, tree }, GentooBox::new(spec).unwrap())
}

fn names(set: &Set, restriction: Restriction) -> Vec<String> {
    let files = set.tree.distfiles.iter().filter(|file| file.restriction == restriction);
    files.map(|file| file.name.clone()).collect()
}

#[tokio::test]
async fn its_own_client_fetches_what_the_manifests_say() {
    let (set, gentoo) = set(Programs::none()).await;
    let wanted = names(&set, Restriction::None);
    let report = gentoo.fetch(&wanted).await.unwrap();
    assert_eq!(report.failures, []);
    assert_eq!((report.files, report.client.as_str()), (wanted.len() as u64, "own HTTP client"));
    for name in &wanted {
        let expected = set.tree.distfile(name).unwrap().contents().to_bytes();
        assert!(fs::read(gentoo.distdir().join(name)).unwrap() == expected, "{name}");
        assert_eq!(set.upstream.count_of_distfile(name).requests, 1);
        assert_eq!(set.upstream.count_of_path(&crate::upstream::mirror_path(name)).requests, 1);
    }
}

#[tokio::test]
async fn what_is_wrong_or_missing_is_reported() {
    let (set, gentoo) = set(Programs::none()).await;
    let name = names(&set, Restriction::None).remove(0);
    let path = crate::upstream::mirror_path(&name);
    set.upstream.add_fault(&path, Fault::WrongByte { at: 0 });
    let report = gentoo.fetch(&[name.clone(), "nobody-names-it".to_owned()]).await.unwrap();
    assert_eq!(report.files, 0);
    assert_eq!(report.failures[0], (name.clone(), format!("{name}: another BLAKE2B")));
    assert_eq!(report.failures[1].1, "no Manifest names nobody-names-it");
    assert!(!gentoo.distdir().join(format!("{name}.__download__")).exists());

    set.upstream.clear_faults();
    set.upstream.add_fault(&path, Fault::Status(404));
    let report = gentoo.fetch(std::slice::from_ref(&name)).await.unwrap();
    assert!(report.failures[0].1.ends_with("status 404"), "{:?}", report.failures);
}

#[tokio::test]
async fn a_large_part_is_resumed_and_a_small_one_started_again() {
    let (set, gentoo) = set(Programs::none()).await;
    let big = set.tree.mirrored().max_by_key(|file| file.size_bytes).unwrap().clone();
    assert!(big.size_bytes > RESUME_MIN_BYTES + 10_000, "{}", big.size_bytes);
    let path = crate::upstream::mirror_path(&big.name);
    set.upstream.add_fault_times(&path, Fault::Truncated { after_bytes: 1_000 }, 1);
    let name = std::slice::from_ref(&big.name);
    assert_eq!(gentoo.fetch(name).await.unwrap().failures, []);
    fs::remove_file(gentoo.distdir().join(&big.name)).unwrap();
    set.upstream.add_fault_times(&path, Fault::Truncated { after_bytes: RESUME_MIN_BYTES }, 1);
    assert_eq!(gentoo.fetch(name).await.unwrap().failures, []);
    let log = set.upstream.log();
    let starts = log.iter().filter(|exchange| exchange.path == path).map(|exchange| exchange.range_start);
    assert_eq!(starts.collect::<Vec<_>>(), [None, None, None, Some(RESUME_MIN_BYTES)]);
}

#[test]
fn every_kind_of_difference_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (source, copy) = (dir.path().join("a"), dir.path().join("b"));
    let spec = TreeSpec { packages: 5, size_median_bytes: 100, ..TreeSpec::default() };
    generate(&spec, &source).unwrap();
    generate(&spec, &copy).unwrap();
    fs::create_dir(copy.join("distfiles")).unwrap();
    fs::write(copy.join("distfiles/x"), "x").unwrap();
    assert_eq!(differences(&source, &copy).unwrap(), []);

    fs::remove_file(copy.join("metadata/timestamp.x")).unwrap();
    fs::write(copy.join("surplus"), "x").unwrap();
    fs::File::open(copy.join("profiles/eapi"))
        .unwrap()
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    let mut text = fs::read(copy.join("metadata/layout.conf")).unwrap();
    text[0] ^= 1;
    fs::write(copy.join("metadata/layout.conf"), text).unwrap();
    let mut permissions = fs::metadata(copy.join("profiles/repo_name")).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    fs::set_permissions(copy.join("profiles/repo_name"), permissions).unwrap();
    fs::remove_file(copy.join("profiles/arch.list")).unwrap();
    std::os::unix::fs::symlink("eapi", copy.join("profiles/arch.list")).unwrap();

    let found = differences(&source, &copy).unwrap();
    let found: BTreeMap<_, _> = found
        .into_iter()
        .map(|difference| (difference.path.display().to_string(), difference.what))
        .collect();
    let expected = [
        ("metadata/layout.conf", "contents"),
        ("metadata/timestamp.x", "missing"),
        ("profiles/arch.list", "kind"),
        ("profiles/eapi", "modification time"),
        ("profiles/repo_name", "permissions"),
        ("surplus", "too many"),
    ];
    assert_eq!(found, expected.map(|(path, what)| (path.to_owned(), what)).into());
}

#[tokio::test]
async fn a_sync_without_anybody_there_fails() {
    let (set, gentoo) = set(Programs::none()).await;
    let error = gentoo.sync().await.unwrap_err();
    assert!(matches!(error, BoxError::Io(_)), "{error}");
    drop(set.dir);
}
