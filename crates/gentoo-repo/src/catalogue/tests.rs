use proptest::prelude::*;

use super::*;
use crate::Restriction;

/// A DIST line whose digest is made of one octet.
fn dist(name: &str, octet: u8) -> String {
    format!("DIST {name} 7 BLAKE2B {} SHA512 {}\n", hex::encode([octet; 64]), hex::encode([octet; 64]))
}

enum File<'a> {
    Manifest(&'a str, String),
    Cache(&'a str, &'a str),
    Mirrors(&'a str),
}

fn build(files: &[File<'_>]) -> (Catalogue, Vec<Fault>) {
    let mut builder = CatalogueBuilder::new();
    for file in files {
        match file {
            File::Manifest(package, text) => builder.add_manifest("cat", package, text.as_bytes()),
            File::Cache(pf, text) => builder.add_cache_entry("cat", pf, text.as_bytes()),
            File::Mirrors(text) => builder.add_thirdpartymirrors(text.as_bytes()),
        }
    }
    builder.finish()
}

fn kinds(faults: &[Fault]) -> Vec<FaultKind> {
    faults.iter().map(|fault| fault.kind).collect()
}

#[test]
fn sources_come_from_every_version_in_order_and_mirrors_expand_in_place() {
    let (catalogue, faults) = build(&[
        File::Cache(
            "a-2",
            "EAPI=8\nSRC_URI=https://x/one.tgz -> one mirror://m/p/one.tgz -> one ftp://z/one",
        ),
        File::Cache("a-1", "EAPI=8\nSRC_URI=http://old/one foo? ( https://x/one.tgz -> one )"),
        File::Manifest("a", dist("one", 1)),
        File::Manifest("b", dist("one", 1) + &dist("two", 2)),
        File::Mirrors("m https://m1/ http://m2/x/"),
    ]);
    assert_eq!(faults, []);
    let one = &catalogue.distfiles["one"];
    assert_eq!(one.packages, ["cat/a", "cat/b"]);
    assert_eq!(
        one.sources,
        [
            "http://old/one",
            "https://x/one.tgz",
            "https://m1/p/one.tgz",
            "http://m2/x/p/one.tgz",
            "ftp://z/one"
        ]
    );
    // Named by no SRC_URI, and kept.
    let two = &catalogue.distfiles["two"];
    assert_eq!((two.sources.len(), two.restriction, two.size_bytes), (0, Restriction::None, 7));
    assert_eq!(catalogue.without_source(), 1);
}

#[test]
fn the_description_of_most_packages_wins_and_the_others_give_no_sources() {
    let cache = "SRC_URI=https://good/f";
    let (catalogue, faults) = build(&[
        File::Manifest("a", dist("f", 9)),
        File::Cache("a-1", "SRC_URI=https://other/f"),
        File::Manifest("b", dist("f", 1)),
        File::Cache("b-1", cache),
        File::Manifest("c", dist("f", 1)),
    ]);
    assert_eq!(kinds(&faults), [FaultKind::ConflictingDigests]);
    assert_eq!(faults[0].path, "cat/a/Manifest");
    let file = &catalogue.distfiles["f"];
    assert_eq!(
        (file.packages.as_slice(), file.sources.as_slice()),
        (&["cat/b".into(), "cat/c".into()][..], &["https://good/f".into()][..])
    );
    // Among equals the first package.
    let (catalogue, _) = build(&[File::Manifest("b", dist("f", 1)), File::Manifest("a", dist("f", 9))]);
    assert_eq!(catalogue.distfiles["f"].packages, ["cat/a"]);
}

#[test]
fn descriptions_with_different_algorithms_are_one_if_they_agree() {
    let blake = format!("DIST f 7 BLAKE2B {}\n", hex::encode([1; 64]));
    let (catalogue, faults) = build(&[File::Manifest("a", blake.clone()), File::Manifest("b", dist("f", 1))]);
    assert_eq!(faults, []);
    assert_eq!(catalogue.distfiles["f"].digests.len(), 2);
    let larger = blake.replace(" 7 ", " 8 ");
    let (_, faults) = build(&[File::Manifest("a", larger), File::Manifest("b", dist("f", 1))]);
    assert_eq!(kinds(&faults), [FaultKind::ConflictingDigests]);
}

#[test]
fn restrictions_combine() {
    let restriction = |versions: &[&str]| {
        let mut files = vec![File::Manifest("a", dist("f", 1))];
        let names = ["a-1", "a-2"];
        files.extend(versions.iter().zip(names).map(|(text, pf)| File::Cache(pf, text)));
        let (catalogue, faults) = build(&files);
        let file = &catalogue.distfiles["f"];
        (file.restriction, file.sources.join(" "), kinds(&faults))
    };
    let (free, mirror, fetch) = (Restriction::None, Restriction::Mirror, Restriction::Fetch);
    for (versions, expected, sources) in [
        (&["SRC_URI=http://a/f"][..], free, "http://a/f"),
        (&["RESTRICT=mirror\nSRC_URI=http://a/f"], mirror, "http://a/f"),
        (&["RESTRICT=fetch\nSRC_URI=http://a/f"], fetch, ""),
        (&["RESTRICT=fetch\nSRC_URI=f"], fetch, ""),
        (&["RESTRICT=bindist? ( fetch )\nSRC_URI=http://a/f"], fetch, ""),
        // Only the URI with the prefix may be fetched.
        (&["EAPI=8\nRESTRICT=fetch\nSRC_URI=http://a/f fetch+http://b/f"], mirror, "http://b/f"),
        (&["EAPI=8\nRESTRICT=fetch\nSRC_URI=http://a/f mirror+http://b/f"], free, "http://b/f"),
        (&["EAPI=8\nRESTRICT=mirror\nSRC_URI=http://a/f mirror+http://b/f"], free, "http://a/f http://b/f"),
        // The most permissive version counts; restricted URIs of the other stay out.
        (
            &["RESTRICT=fetch\nSRC_URI=http://a/f", "RESTRICT=mirror\nSRC_URI=http://b/f"],
            mirror,
            "http://b/f",
        ),
        (&["SRC_URI=http://a/f", "RESTRICT=mirror\nSRC_URI=http://b/f"], free, "http://a/f http://b/f"),
    ] {
        assert_eq!(restriction(versions), (expected, sources.to_owned(), vec![]), "{versions:?}");
    }
    let (found, _, faults) = restriction(&["RESTRICT=fetch (\nSRC_URI=http://a/f"]);
    assert_eq!((found, faults), (fetch, vec![FaultKind::BrokenRestrict]));
}

#[test]
fn faults_are_named_and_cost_only_themselves() {
    let (catalogue, faults) = build(&[
        File::Manifest("a", format!("{}RUBBISH\n{}", dist("f", 1), dist("g", 2))),
        File::Cache("a-1", "SRC_URI=mirror://nobody/f svn://x/f http://a/f http://a/h"),
        File::Cache("a-2", "SRC_URI=http://b/f ( "),
        File::Cache("a-3", "no equals sign"),
        File::Cache("noversion", "SRC_URI=http://c/f"),
        File::Manifest("w", format!("DIST w 1 MD5 {}\n", hex::encode([0; 16]))),
    ]);
    let found: Vec<_> = faults.iter().map(|fault| (fault.kind.as_str(), fault.path.as_str())).collect();
    assert_eq!(
        found,
        [
            ("broken-manifest", "cat/a/Manifest:2"),
            ("broken-cache-entry", "metadata/md5-cache/cat/a-3"),
            ("broken-cache-entry", "metadata/md5-cache/cat/noversion"),
            ("broken-src-uri", "metadata/md5-cache/cat/a-2"),
            ("missing-dist", "metadata/md5-cache/cat/a-1"),
            ("weak-digests", "cat/w/Manifest:1"),
            ("unknown-mirror", "metadata/md5-cache/cat/a-1"),
            ("unsupported-source", "metadata/md5-cache/cat/a-1"),
        ]
    );
    assert_eq!(catalogue.distfiles.keys().map(DistfileName::as_str).collect::<Vec<_>>(), ["f", "g", "w"]);
    assert_eq!(catalogue.distfiles["f"].sources, ["http://a/f"]);
}

#[test]
fn sources_are_bounded() {
    let uris: String = (0..SOURCES_MAX + 5)
        .flat_map(|number| [" http://".to_owned(), number.to_string(), "/f".to_owned()])
        .collect();
    let text = format!("SRC_URI={uris}");
    let (catalogue, faults) = build(&[File::Manifest("a", dist("f", 1)), File::Cache("a-1", &text)]);
    assert_eq!(catalogue.distfiles["f"].sources.len(), SOURCES_MAX);
    assert_eq!(kinds(&faults), [FaultKind::TooManySources]);
}

#[test]
fn a_package_that_is_recalled_says_what_it_said() {
    let add = |builder: &mut CatalogueBuilder, package: &str, octet: u8| {
        builder.add_manifest("cat", package, dist("f", octet).as_bytes());
        builder.add_cache_entry("cat", &format!("{package}-1"), b"SRC_URI=http://h/f mirror://none/f");
        builder.tag("cat", package, [octet; 16]);
    };
    let mut builder = CatalogueBuilder::new();
    for (package, octet) in [("a", 1), ("b", 1), ("gone", 2)] {
        add(&mut builder, package, octet);
    }
    let (_, _, facts) = builder.finish_with_facts();
    assert!(!facts.is_stale());
    let mut resumed = CatalogueBuilder::resume(facts);
    assert!(resumed.recall("cat", "a", [1; 16]));
    assert!(!resumed.recall("cat", "b", [3; 16]), "its files have changed");
    assert!(!resumed.recall("cat", "new", [1; 16]));
    add(&mut resumed, "b", 3);
    let mut anew = CatalogueBuilder::new();
    add(&mut anew, "a", 1);
    add(&mut anew, "b", 3);
    let (resumed, anew) = (resumed.finish(), anew.finish());
    assert_eq!(resumed, anew);
    assert_eq!(resumed.1.len(), 2, "the conflict, and the mirror that nobody knows");
}

#[test]
fn the_difference_holds_what_is_new_changed_and_gone() {
    let of = |text: String| build(&[File::Manifest("a", text)]).0;
    let old = of(dist("gone", 1) + &dist("same", 2) + &dist("rerolled", 3));
    let new = of(dist("same", 2) + &dist("rerolled", 4) + &dist("new", 5));
    let changes = diff(&old, &new);
    let upserts: Vec<_> = changes.upserts.iter().map(|distfile| distfile.name.as_str()).collect();
    assert_eq!(upserts, ["new", "rerolled"]);
    assert_eq!(changes.removes, [&"gone".parse().unwrap()]);
    assert_eq!(diff(&new, &new), Diff::default());
}

proptest! {
    #[test]
    fn the_order_of_the_files_means_nothing(
        (files, shuffled) in proptest::collection::vec(
            prop_oneof![
                ("[ab]", proptest::collection::vec(("[fgh]", 1u8..3), 0..4)).prop_map(|(package, dists)| {
                    let text: String = dists.iter().map(|(name, octet)| dist(name, *octet)).collect();
                    (Some(package), String::new(), text)
                }),
                ("[ab]-[12]", "EAPI=8\n(RESTRICT=(fetch|mirror)\n)?SRC_URI=((fetch|mirror)\\+)?(http|mirror)://[xy]/[fgh]")
                    .prop_map(|(pf, text)| (None, pf, text)),
            ],
            0..8,
        )
        // Each cache entry is added once.
        .prop_map(|mut files| { files.sort(); files.dedup_by(|a, b| a.0.is_none() && b.0.is_none() && a.1 == b.1); files })
        .prop_flat_map(|files| (Just(files.clone()), Just(files).prop_shuffle()))
    ) {
        let build_all = |files: &[(Option<String>, String, String)]| {
            let mut list = vec![File::Mirrors("x http://m1/ http://m2/")];
            list.extend(files.iter().map(|(package, pf, text)| match package {
                Some(package) => File::Manifest(package, text.clone()),
                None => File::Cache(pf, text),
            }));
            let (catalogue, faults) = build(&list);
            // Which of two contradicting lines is reported does depend on the order.
            (catalogue, faults.into_iter().filter(|fault| !fault.path.contains("Manifest:")).collect::<Vec<_>>())
        };
        prop_assert_eq!(build_all(&files), build_all(&shuffled));
    }

    #[test]
    fn any_octets_make_a_catalogue(manifest: Vec<u8>, cache: Vec<u8>, mirrors: Vec<u8>) {
        let mut builder = CatalogueBuilder::new();
        builder.add_manifest("a", "b", &manifest);
        builder.add_cache_entry("a", "b-1", &cache);
        builder.add_thirdpartymirrors(&mirrors);
        drop(builder.finish());
    }
}
