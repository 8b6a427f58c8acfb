//! Real files of real trees, read as Portage reads them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use gentoo_repo::src_uri::Lift;
use gentoo_repo::{
    Catalogue, CatalogueBuilder, Fault, FaultKind, HashAlgorithm, Restriction, layout_conf, manifest,
    md5_cache, restrict, src_uri, timestamp,
};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// Every file two directories below `root`, as (directory, name, contents), sorted.
fn files(root: &Path) -> Vec<(String, String, Vec<u8>)> {
    let names = |directory: &Path| {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let mut found = Vec::new();
    for directory in names(root) {
        for name in names(&root.join(&directory)) {
            let path = root.join(&directory).join(&name);
            let path = if path.is_dir() { path.join("Manifest") } else { path };
            if let Ok(contents) = fs::read(path) {
                found.push((directory.clone(), name, contents));
            }
        }
    }
    found
}

fn manifests() -> Vec<(String, String, Vec<u8>)> {
    let mut found = files(&corpus().join("guru"));
    found.retain(|(category, _, _)| category.contains('-'));
    found
}

fn cache() -> Vec<(String, String, Vec<u8>)> {
    files(&corpus().join("guru/metadata/md5-cache"))
}

fn catalogue(with_masters: bool, reversed: bool) -> (Catalogue, Vec<Fault>) {
    let mut builder = CatalogueBuilder::new();
    if with_masters {
        builder.add_thirdpartymirrors(&fs::read(corpus().join("gentoo/profiles/thirdpartymirrors")).unwrap());
    }
    builder.add_thirdpartymirrors(&fs::read(corpus().join("guru/profiles/thirdpartymirrors")).unwrap());
    let (mut manifests, mut cache) = (manifests(), cache());
    if reversed {
        manifests.reverse();
        cache.reverse();
        for (category, pf, contents) in &cache {
            builder.add_cache_entry(category, pf, contents);
        }
    }
    for (category, package, contents) in &manifests {
        builder.add_manifest(category, package, contents);
    }
    if !reversed {
        for (category, pf, contents) in &cache {
            builder.add_cache_entry(category, pf, contents);
        }
    }
    builder.finish()
}

#[test]
fn sources_and_restrictions_are_what_portage_reads() {
    let golden = fs::read_to_string(corpus().join("guru.portage.tsv")).unwrap();
    let mut ours = String::new();
    for (category, pf, contents) in cache() {
        let entry = md5_cache::parse(&contents).unwrap();
        let found = restrict::parse(&entry.restrict()).unwrap();
        let words: Vec<_> = [found.fetch.then_some("fetch"), found.mirror.then_some("mirror")]
            .into_iter()
            .flatten()
            .collect();
        writeln!(ours, "{category}/{pf}\tRESTRICT\t{}", words.join(" ")).unwrap();
        for uri in src_uri::parse(&entry.src_uri(), &entry.eapi()).unwrap() {
            let prefix = match uri.lift {
                Lift::None => "",
                Lift::Fetch => "fetch+",
                Lift::Mirror => "mirror+",
            };
            let text = uri.uri.map(|text| format!("{prefix}{text}")).unwrap_or_default();
            writeln!(ours, "{category}/{pf}\t{}\t{text}", uri.name).unwrap();
        }
    }
    assert_eq!(ours, golden);
}

#[test]
fn manifests_come_back_word_for_word() {
    let all = manifests();
    assert_eq!(all.len(), 20);
    for (category, package, contents) in all {
        let manifest = manifest::parse(&contents).unwrap();
        let written: String =
            manifest.entries.iter().flat_map(|entry| [entry.to_string(), "\n".to_owned()]).collect();
        assert_eq!(written.as_bytes(), contents, "{category}/{package}");
    }
}

#[test]
fn a_signed_manifest_comes_out_of_its_armour() {
    let contents = fs::read(corpus().join("gentoo/metadata/glsa/Manifest")).unwrap();
    let signed = manifest::parse(&contents).unwrap();
    assert!(signed.is_signed);
    let [manifest::Entry::File(file), manifest::Entry::Timestamp(time)] = signed.entries.as_slice() else {
        panic!("{signed:?}")
    };
    assert_eq!((file.tag, file.tree_path().as_str()), (manifest::FileTag::Manifest, "Manifest.files.gz"));
    assert!(file.digests.get(HashAlgorithm::Blake2b).is_some());
    assert_eq!(timestamp::format_manifest(*time), "2026-08-01T07:07:55Z");
}

#[test]
fn the_catalogue_has_every_distfile_with_a_source() {
    let (catalogue, faults) = catalogue(true, false);
    assert_eq!(faults, []);
    assert_eq!(catalogue.distfiles.len(), 224);
    assert_eq!(catalogue.without_source(), 0);
    let restriction = |restriction| {
        catalogue.distfiles.values().filter(|distfile| distfile.restriction == restriction).count()
    };
    assert_eq!((restriction(Restriction::Fetch), restriction(Restriction::Mirror)), (5, 7));
    // One file of each kind that real trees have.
    let sources = |name: &str| catalogue.distfiles[name].sources.join(" ");
    assert_eq!(
        sources("github.com%2Fclimech%2Fnaturalsort%2F@v%2Fv0.1.0.mod"),
        "https://proxy.golang.org//github.com/climech/naturalsort/@v/v0.1.0.mod \
         https://goproxy.io//github.com/climech/naturalsort/@v/v0.1.0.mod"
    );
    assert_eq!(
        sources("bespokesynth-exprtk-{ca58bbd8bcf1165dbe20268e91ccfd2d0e18e5dc.tar.gz"),
        "https://github.com/ArashPartow/exprtk/archive/ca58bbd8bcf1165dbe20268e91ccfd2d0e18e5dc.tar.gz"
    );
    assert_eq!(sources("GUIGuider-2.0.0-amd64.deb"), "");
    // RESTRICT=mirror, with mirror+ on the one source that may be fetched after all.
    let lifted = "xone-0.5.8.tar.gz";
    assert_eq!(sources(lifted), "https://github.com/dlundqvist/xone/archive/v0.5.8.tar.gz");
    assert_eq!(catalogue.distfiles[lifted].restriction, Restriction::None);
    assert_eq!(catalogue.distfiles[lifted].packages, ["games-util/xone"]);
}

#[test]
fn without_its_masters_an_overlay_lacks_their_mirrors() {
    let (catalogue, faults) = catalogue(false, false);
    assert_eq!(catalogue.distfiles.len(), 224);
    assert!(catalogue.without_source() > 0);
    assert!(faults.iter().all(|fault| fault.kind == FaultKind::UnknownMirror));
}

#[test]
fn the_order_of_the_files_means_nothing() {
    assert_eq!(catalogue(true, false), catalogue(true, true));
}

#[test]
fn settings_and_time_of_the_overlay() {
    let conf = layout_conf::parse(&fs::read(corpus().join("guru/metadata/layout.conf")).unwrap()).unwrap();
    assert_eq!(conf.masters, Some(vec!["gentoo".to_owned()]));
    assert!(conf.thin_manifests && !conf.sign_manifests);
    assert_eq!(conf.manifest_hashes, ["BLAKE2B", "SHA512"]);
    let chk = fs::read(corpus().join("guru/metadata/timestamp.chk")).unwrap();
    let time = timestamp::parse_chk(&chk).unwrap();
    assert_eq!(timestamp::format_chk(time), String::from_utf8(chk).unwrap().trim_end());
}

#[test]
fn a_manifest_cut_anywhere_costs_at_most_its_last_line() {
    let (category, package, contents) = manifests().swap_remove(0);
    let whole: BTreeMap<_, _> = {
        let mut builder = CatalogueBuilder::new();
        builder.add_manifest(&category, &package, &contents);
        builder.finish().0.distfiles
    };
    for end in 0..contents.len() {
        let mut builder = CatalogueBuilder::new();
        builder.add_manifest(&category, &package, &contents[..end]);
        let (cut, faults) = builder.finish();
        assert!(faults.len() <= 1);
        for (name, distfile) in cut.distfiles {
            // Cut before its last digest, a line still has the earlier ones.
            let known = &whole[&name];
            assert_eq!(distfile.size_bytes, known.size_bytes);
            assert!(distfile.digests.agrees_with(&known.digests), "{name} at {end}");
        }
    }
}
