use std::collections::BTreeMap;
use std::fs;

use blake2::{Blake2b512, Digest as _};
use md5::Md5;
use sha2::Sha512;
use walkdir::WalkDir;

use super::*;

fn small(revision: u32) -> TreeSpec {
    TreeSpec { packages: 60, size_max_bytes: 200_000, revision, ..TreeSpec::default() }
}

/// Path, contents and modification time of each file.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    WalkDir::new(dir)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let path = entry.path().strip_prefix(dir).unwrap().to_owned();
            let mtime = entry.metadata().unwrap().modified().unwrap();
            (path, (fs::read(entry.path()).unwrap(), mtime))
        })
        .collect()
}

#[test]
fn equal_specs_give_equal_trees() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = generate(&small(0), one.path()).unwrap();
    let second = generate(&small(0), two.path()).unwrap();
    assert_eq!(first.distfiles, second.distfiles);
    assert_eq!(snapshot(one.path()), snapshot(two.path()));
    assert_eq!(first.counts.files, snapshot(one.path()).len());

    let other = tempfile::tempdir().unwrap();
    generate(&TreeSpec { seed: 2, ..small(0) }, other.path()).unwrap();
    assert_ne!(snapshot(one.path()), snapshot(other.path()));
}

#[test]
fn every_dist_line_has_the_digests_of_its_contents() {
    let dir = tempfile::tempdir().unwrap();
    let tree = generate(&small(0), dir.path()).unwrap();
    let mut lines = 0;
    for (path, (text, _)) in snapshot(dir.path()) {
        if path.file_name().is_none_or(|name| name != "Manifest") {
            continue;
        }
        for line in String::from_utf8(text).unwrap().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let ["DIST", name, size, "BLAKE2B", blake2b, "SHA512", sha512] = words[..] else {
                panic!("unexpected line {line}");
            };
            let contents = tree.distfile(name).unwrap().contents().to_bytes();
            assert_eq!(contents.len().to_string(), size);
            assert_eq!(hex::encode(Blake2b512::digest(&contents)), blake2b);
            assert_eq!(hex::encode(Sha512::digest(&contents)), sha512);
            lines += 1;
        }
    }
    assert!(lines >= tree.distfiles.len(), "{lines} DIST lines for {} distfiles", tree.distfiles.len());
}

#[test]
fn every_cache_entry_has_the_md5_of_its_ebuild() {
    let dir = tempfile::tempdir().unwrap();
    let tree = generate(&small(1), dir.path()).unwrap();
    let files = snapshot(dir.path());
    let mut entries = 0;
    for (path, (text, _)) in &files {
        let Ok(cpv) = path.strip_prefix("metadata/md5-cache") else { continue };
        let md5 = String::from_utf8(text.clone()).unwrap();
        let md5 = md5.lines().find_map(|line| line.strip_prefix("_md5_=")).unwrap().to_owned();
        let pf = cpv.file_name().unwrap().to_str().unwrap();
        let category = cpv.parent().unwrap();
        let is_it = |path: &Path| {
            path.starts_with(category) && path.file_name().unwrap() == format!("{pf}.ebuild").as_str()
        };
        let (_, ebuild) = files.iter().find(|(path, _)| is_it(path)).unwrap();
        assert_eq!(hex::encode(Md5::digest(&ebuild.0)), md5, "of {}", cpv.display());
        entries += 1;
    }
    assert_eq!(entries, tree.counts.ebuilds);
}

#[test]
fn the_shapes_that_matter_all_occur() {
    let dir = tempfile::tempdir().unwrap();
    let tree = generate(&TreeSpec { packages: 300, ..small(0) }, dir.path()).unwrap();
    let all: String = snapshot(dir.path())
        .into_iter()
        .filter(|(path, _)| path.starts_with("metadata/md5-cache"))
        .map(|(_, (text, _))| String::from_utf8(text).unwrap())
        .collect();
    for shape in [" -> ", "mirror://", "doc? ( ", "test? ( ", "RESTRICT=fetch", "RESTRICT=mirror"] {
        assert!(all.contains(shape), "{shape:?} occurs nowhere");
    }
    for letter in ['+', '@', '_'] {
        assert!(tree.distfiles.iter().any(|file| file.name.contains(letter)), "no name has {letter}");
    }
    for restriction in [Restriction::None, Restriction::Mirror, Restriction::Fetch] {
        assert!(tree.distfiles.iter().any(|file| file.restriction == restriction), "{restriction:?}");
    }
    assert!(tree.distfiles.iter().any(|file| file.packages.len() > 1), "no distfile is shared");
    assert!(tree.distfiles.iter().any(|file| file.sources.len() == 2), "none has two sources");
    let mut sizes: Vec<u64> = tree.distfiles.iter().map(|file| file.size_bytes).collect();
    sizes.sort_unstable();
    let median = sizes[sizes.len() / 2];
    assert!((4_000..64_000).contains(&median), "median {median}");
    assert_eq!(*sizes.last().unwrap(), 200_000, "the largest is cut off at the limit");
}

#[test]
fn a_revision_adds_to_the_one_before() {
    let (grown, fresh) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let before = generate(&small(0), grown.path()).unwrap();
    let old = snapshot(grown.path());
    let after = generate(&small(1), grown.path()).unwrap();
    let new = snapshot(grown.path());
    generate(&small(1), fresh.path()).unwrap();
    assert_eq!(new, snapshot(fresh.path()), "written over or afresh makes no difference");
    for (path, contents) in &old {
        let changed = &new[path] != contents;
        let may = path.ends_with("Manifest") || path.to_string_lossy().contains("timestamp");
        assert!(!changed || may, "{} changed", path.display());
        assert!(!changed || new[path].1 > contents.1, "{} has no later mtime", path.display());
    }
    assert!(new.len() > old.len());
    assert!(before.distfiles.iter().all(|file| after.distfile(&file.name).is_some()));
    assert_eq!(
        String::from_utf8_lossy(&new[Path::new("metadata/timestamp.chk")].0),
        "Fri, 16 Jan 2026 12:00:00 +0000\n"
    );
}
