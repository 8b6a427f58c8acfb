//! Seven boxes with the real Portage at the same time, 200 distfiles of every kind of source: each is fetched once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, ensure};
use farm_sim::tree::{GeneratedDistfile, GeneratedTree, Restriction};
use farm_sim::upstream::Count;
use futures_util::future::try_join_all;
use rookery_tests::farm::Farm;
use rookery_tests::portage::{PortageBox, Settings};

const BOXES: usize = 7;
/// These have no `USE=doc`, as a server hasn't.
const SERVERS: usize = 2;
const FILES: usize = 200;
/// Enough for that many files of one version each.
const PACKAGES: usize = 220;

/// What boxes fetch: packages, and the files of each.
type Chosen<'a> = BTreeMap<&'a str, Vec<&'a GeneratedDistfile>>;

#[tokio::test(flavor = "multi_thread")]
async fn seven_boxes_fetch_two_hundred_files_of_every_kind_once() -> Result<()> {
    let mut farm = Farm::prepare_with_https_sites(PACKAGES).await?;
    let tree = farm.tree.clone();
    let chosen = choose(&tree)?;
    let files: BTreeMap<&str, &GeneratedDistfile> =
        chosen.values().flatten().map(|file| (file.name.as_str(), *file)).collect();
    assert_eq!(files.len(), FILES);
    // The other half of what a mirror may carry has no other source than https.
    let carried = || files.values().filter(|file| file.restriction == Restriction::None).step_by(2);
    carried().for_each(|file| farm.upstream.put_distfile(file));

    let kinds = [
        ("https only", files.values().filter(|file| !carried().any(|other| other == *file)).count()),
        ("mirror-restricted", count(&files, is_restricted)),
        ("renamed", count(&files, is_renamed)),
        ("conditional", count(&files, is_conditional)),
        ("of third-party mirrors", count(&files, is_third_party)),
    ];
    println!("{FILES} files of {} packages: {kinds:?}", chosen.len());
    assert!(kinds.iter().all(|(_, count)| *count >= 4), "{kinds:?}");

    farm.start_mirror().await?;
    let boxes = make_boxes(&farm).await?;
    let atoms: Vec<String> = chosen.keys().map(|package| format!("={package}")).collect();
    let arguments: Vec<&str> =
        ["--fetchonly", "--nodeps"].into_iter().chain(atoms.iter().map(String::as_str)).collect();
    let fetching = boxes.iter().map(async |portage_box| portage_box.emerge(&arguments).await?.success());
    try_join_all(fetching).await.with_context(|| farm.log_end())?;

    for file in files.values() {
        let contents = file.contents().to_bytes();
        for (number, portage_box) in boxes.iter().enumerate() {
            let fetched = fs::read(portage_box.distdir().join(&file.name)).ok();
            let is_wanted = !(is_server(number) && is_conditional(file));
            assert_eq!(fetched.is_some(), is_wanted, "{} in box {number}", file.name);
            assert!(fetched.is_none_or(|fetched| fetched == contents), "{} in box {number}", file.name);
        }
    }
    assert_counts(&farm, &files);
    Ok(())
}

fn is_server(number: usize) -> bool {
    number >= BOXES - SERVERS
}

/// A box after its first `emerge --sync`, seven times.
async fn make_boxes(farm: &Farm) -> Result<Vec<PortageBox>> {
    let dir = |number: usize| farm.dir().join(format!("box{number}"));
    let settings = |number: usize| Settings {
        sync_uri: farm.sync_uri(),
        gentoo_mirrors: farm.mirror_url(),
        local_mirrors: farm.mirror_url(),
        use_flags: if is_server(number) { String::new() } else { "doc".to_owned() },
        ..Settings::default()
    };
    let first = PortageBox::create(&dir(0), &settings(0)).await?;
    let mut boxes =
        try_join_all((1..BOXES).map(async |number| first.copy(&dir(number), &settings(number)).await))
            .await?;
    boxes.insert(0, first);
    let syncing = boxes.iter().map(async |portage_box| portage_box.emerge(&["--sync"]).await?.success());
    try_join_all(syncing).await.with_context(|| farm.log_end())?;
    Ok(boxes)
}

/// What mirror and sites counted themselves: each file once, no other one, and nothing for a box.
fn assert_counts(farm: &Farm, files: &BTreeMap<&str, &GeneratedDistfile>) {
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    let of_mirror = farm.upstream.counts_by_distfile();
    for (name, count) in of_mirror.into_iter().chain(farm.sources().counts_by_distfile()) {
        let sum = counts.entry(name).or_default();
        (sum.requests, sum.bytes) = (sum.requests + count.requests, sum.bytes + count.bytes);
    }
    let expected: BTreeMap<String, Count> = files
        .values()
        .map(|file| (file.name.clone(), Count { requests: 1, bytes: file.size_bytes }))
        .collect();
    assert_eq!(counts, expected, "{}", farm.log_end());
    for exchange in farm.upstream.log().iter().chain(&farm.sources().log()) {
        let agent = exchange.header("user-agent").unwrap_or_default();
        assert!(!agent.contains("Portage"), "a box went past the mirror: {exchange:?}");
    }
    for exchange in farm.upstream.log() {
        let name = exchange.path.rsplit('/').next().unwrap_or_default();
        let is_restricted = files.get(name).is_some_and(|file| is_restricted(file));
        assert!(!is_restricted, "a mirror was asked for what no mirror may carry: {exchange:?}");
    }
}

fn count(files: &BTreeMap<&str, &GeneratedDistfile>, is_of_kind: fn(&GeneratedDistfile) -> bool) -> usize {
    files.values().filter(|file| is_of_kind(file)).count()
}

fn is_restricted(file: &GeneratedDistfile) -> bool {
    file.restriction == Restriction::Mirror
}

fn is_renamed(file: &GeneratedDistfile) -> bool {
    file.sources.iter().all(|source| source.rsplit('/').next() != Some(&file.name))
}

fn is_conditional(file: &GeneratedDistfile) -> bool {
    file.name.contains("-doc-")
}

fn is_third_party(file: &GeneratedDistfile) -> bool {
    file.sources.iter().any(|source| source.contains("/thirdparty"))
}

/// One version of as many packages as have [`FILES`] files together.
fn choose(tree: &GeneratedTree) -> Result<Chosen<'_>> {
    let mut packages: Chosen<'_> = BTreeMap::new();
    // With USE=test only, which FEATURES=test would have to permit.
    for file in tree.distfiles.iter().filter(|file| !file.name.contains('@')) {
        for package in &file.packages {
            packages.entry(package).or_default().push(file);
        }
    }
    // The rare kinds first, then those with many files: Portage takes longer for a package than for a file.
    let mut packages: Vec<_> = packages.into_iter().collect();
    packages.sort_by_key(|(_, files)| {
        let is_rare =
            files.iter().any(|file| is_restricted(file) || is_conditional(file) || is_third_party(file));
        (!is_rare, Reverse(files.len()))
    });
    let (mut chosen, mut names, mut taken) = (Chosen::new(), BTreeSet::new(), BTreeSet::new());
    for (package, files) in packages {
        let (name, _) = package.rsplit_once('-').context("no version")?;
        let more: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
        let is_free = files.iter().all(|file| file.restriction != Restriction::Fetch);
        if is_free && taken.union(&more).count() <= FILES && names.insert(name) {
            taken.extend(more);
            chosen.insert(package, files);
        }
    }
    ensure!(taken.len() == FILES, "the tree has only {} such files", taken.len());
    Ok(chosen)
}
