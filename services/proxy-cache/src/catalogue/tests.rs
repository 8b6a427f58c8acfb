//! The copy against a map, and against damage.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rookery_proto::v1;

use super::*;

/// A distfile whose contents are told apart by `version`.
pub(crate) fn wire(name: &str, version: u8) -> v1::Distfile {
    v1::Distfile {
        name: name.to_owned(),
        size_bytes: 1000 + u64::from(version),
        digests: vec![
            v1::Digest { algorithm: "BLAKE2B".to_owned(), value: vec![version; 64] },
            v1::Digest { algorithm: "SHA512".to_owned(), value: vec![version ^ 0xff; 64] },
        ],
        sources: vec![
            format!("https://example.org/v{version}/{name}"),
            format!("http://mirror.example.net/pub/{name}"),
        ],
        restriction: v1::Restriction::None.into(),
        packages: vec!["app-misc/foo".into(), "dev-libs/bar".into()],
    }
}

fn changes(reset: bool, upserts: Vec<v1::Distfile>, removes: &[&str]) -> v1::DistfileChanges {
    v1::DistfileChanges { reset, upserts, removes: removes.iter().map(|&name| name.to_owned()).collect() }
}

async fn import(catalogue: &Catalogue, module: &str, generation: u64, parts: &[v1::DistfileChanges]) {
    let mut step = catalogue.begin(module, generation).await.unwrap();
    for part in parts {
        step.apply(part).await.unwrap();
    }
    step.complete(&[]).await.unwrap();
}

async fn opened(directory: &tempfile::TempDir) -> Catalogue {
    Catalogue::open(&directory.path().join("slot").join("catalogue.db")).await.unwrap()
}

async fn version(catalogue: &Catalogue, name: &str, module: Option<&str>) -> Option<(String, u64)> {
    let found = catalogue.resolve(&name.parse().unwrap(), module).await.unwrap()?;
    Some((found.module.clone(), found.distfile.size_bytes - 1000))
}

#[tokio::test]
async fn a_distfile_comes_back_as_it_was_sent() {
    let directory = tempfile::tempdir().unwrap();
    let catalogue = opened(&directory).await;
    assert!(catalogue.is_empty());
    let sent = v1::Distfile { restriction: v1::Restriction::Mirror.into(), ..wire("a b{1}+é.tgz", 3) };
    import(&catalogue, "gentoo", 1, &[changes(true, vec![sent.clone()], &[])]).await;
    assert!(!catalogue.is_empty());

    let found = catalogue.resolve(&"a b{1}+é.tgz".parse().unwrap(), None).await.unwrap().unwrap();
    assert_eq!(found.module, "gentoo");
    assert_eq!(found.distfile, row::from_wire(&sent).unwrap());
    assert_eq!(found.distfile.digests.iter().count(), 2);
}

#[tokio::test]
async fn the_modules_order_decides_who_is_asked_first() {
    let directory = tempfile::tempdir().unwrap();
    let catalogue = opened(&directory).await;
    import(&catalogue, "gentoo", 1, &[changes(true, vec![wire("x", 1)], &[])]).await;
    import(&catalogue, "guru", 1, &[changes(true, vec![wire("x", 2), wire("y", 2)], &[])]).await;
    let order = |names: [&str; 2]| names.map(str::to_owned);

    catalogue.set_module_order(&order(["guru", "gentoo"])).await.unwrap();
    assert_eq!(version(&catalogue, "x", None).await, Some(("guru".to_owned(), 2)));
    catalogue.set_module_order(&order(["gentoo", "guru"])).await.unwrap();
    assert_eq!(version(&catalogue, "x", None).await, Some(("gentoo".to_owned(), 1)));
    assert_eq!(version(&catalogue, "x", Some("guru")).await, Some(("guru".to_owned(), 2)));
    assert_eq!(version(&catalogue, "y", None).await, Some(("guru".to_owned(), 2)));
    assert_eq!(version(&catalogue, "y", Some("gentoo")).await, None);
    assert_eq!(version(&catalogue, "y", Some("nobody")).await, None);
    catalogue.set_module_order(&[]).await.unwrap();
    assert_eq!(version(&catalogue, "x", None).await, Some(("gentoo".to_owned(), 1)));
}

#[tokio::test]
async fn a_source_url_leads_to_its_distfile_and_a_bare_name_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let catalogue = opened(&directory).await;
    import(&catalogue, "gentoo", 1, &[changes(true, vec![wire("x.tgz", 1)], &[])]).await;
    let name = async |url: &str| {
        catalogue.resolve_source(url).await.unwrap().map(|known| known.distfile.name.to_string())
    };
    assert_eq!(name("http://example.org/v1/x.tgz").await.as_deref(), Some("x.tgz"));
    assert_eq!(name("https://example.org/v1/x.tgz").await.as_deref(), Some("x.tgz"));
    assert_eq!(name("http://evil.example/v1/x.tgz").await, None);
    assert_eq!(name("http://example.org/v2/x.tgz").await, None);

    import(&catalogue, "gentoo", 2, &[changes(false, vec![wire("x.tgz", 2)], &[])]).await;
    assert_eq!(name("http://example.org/v1/x.tgz").await, None, "the old source went with the old file");
    assert_eq!(name("http://example.org/v2/x.tgz").await.as_deref(), Some("x.tgz"));
    import(&catalogue, "gentoo", 3, &[changes(false, vec![], &["x.tgz"])]).await;
    assert_eq!(name("http://example.org/v2/x.tgz").await, None);
}

#[tokio::test]
async fn a_url_that_is_to_give_two_different_files_gives_none() {
    let directory = tempfile::tempdir().unwrap();
    let catalogue = opened(&directory).await;
    let at = |name: &str, version| v1::Distfile {
        sources: vec!["http://example.org/latest.tgz".to_owned()],
        ..wire(name, version)
    };
    import(&catalogue, "gentoo", 1, &[changes(true, vec![at("foo-1.tgz", 1), at("foo-1-copy.tgz", 1)], &[])])
        .await;
    let found = catalogue.resolve_source("http://example.org/latest.tgz").await.unwrap();
    assert_eq!(found.unwrap().distfile.name.as_str(), "foo-1-copy.tgz", "both are the same file");
    import(&catalogue, "guru", 1, &[changes(true, vec![at("foo-2.tgz", 2)], &[])]).await;
    assert_eq!(catalogue.resolve_source("http://example.org/latest.tgz").await.unwrap(), None);
}

#[tokio::test]
async fn an_unfinished_step_leaves_nothing_and_survives_a_restart_as_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let catalogue = opened(&directory).await;
    import(&catalogue, "gentoo", 1, &[changes(true, vec![wire("old", 1)], &[])]).await;
    let mut step = catalogue.begin("gentoo", 2).await.unwrap();
    step.apply(&changes(true, vec![wire("new", 2)], &[])).await.unwrap();
    assert_eq!(
        version(&catalogue, "old", None).await,
        Some(("gentoo".to_owned(), 1)),
        "readers see the old one"
    );
    drop(step);
    assert_eq!(version(&catalogue, "new", None).await, None);
    assert_eq!(catalogue.have().await.unwrap()[0].generation, 1);
    drop(catalogue);

    let catalogue = opened(&directory).await;
    assert!(!catalogue.is_empty());
    assert_eq!(version(&catalogue, "old", None).await, Some(("gentoo".to_owned(), 1)));
    assert_eq!(version(&catalogue, "new", None).await, None);
}

#[tokio::test]
async fn a_repeated_or_older_step_changes_nothing_unless_it_resets() {
    let directory = tempfile::tempdir().unwrap();
    let catalogue = opened(&directory).await;
    import(&catalogue, "gentoo", 5, &[changes(true, vec![wire("x", 5)], &[])]).await;
    import(&catalogue, "gentoo", 4, &[changes(false, vec![wire("x", 4)], &[])]).await;
    import(&catalogue, "gentoo", 5, &[changes(false, vec![], &["x"])]).await;
    assert_eq!(version(&catalogue, "x", None).await, Some(("gentoo".to_owned(), 5)));
    assert_eq!(catalogue.have().await.unwrap()[0].generation, 5);
    import(&catalogue, "gentoo", 2, &[changes(true, vec![wire("y", 2)], &[])]).await;
    assert_eq!(version(&catalogue, "x", None).await, None);
    assert_eq!(catalogue.have().await.unwrap()[0].generation, 2);
}

#[tokio::test]
async fn a_file_that_is_no_catalogue_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalogue.db");
    std::fs::write(&path, b"once upon a time there was no database here, only words\n".repeat(100)).unwrap();
    let catalogue = Catalogue::open(&path).await.unwrap();
    assert!(catalogue.is_empty());
    import(&catalogue, "gentoo", 1, &[changes(true, vec![wire("x", 1)], &[])]).await;
    assert!(std::fs::read(directory.path().join("catalogue.db.broken")).unwrap().starts_with(b"once upon"));
}

#[tokio::test]
async fn a_file_of_another_schema_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalogue.db");
    let catalogue = Catalogue::open(&path).await.unwrap();
    import(&catalogue, "gentoo", 1, &[changes(true, vec![wire("x", 1)], &[])]).await;
    sqlx::query("PRAGMA user_version = 99").execute(&catalogue.pools().writer).await.unwrap();
    catalogue.pools().close().await;
    assert!(Catalogue::open(&path).await.unwrap().is_empty());
}

#[tokio::test]
async fn damage_met_while_reading_leads_to_an_empty_copy() {
    let directory = tempfile::tempdir().unwrap();
    let catalogue = opened(&directory).await;
    let many = (0..500).map(|number| wire(&format!("file-{number}"), 1)).collect();
    import(&catalogue, "gentoo", 1, &[changes(true, many, &[])]).await;
    sqlx::query("UPDATE distfile SET digests = 'BLAKE2B nonsense'")
        .execute(&catalogue.pools().writer)
        .await
        .unwrap();

    assert!(catalogue.resolve(&"file-7".parse().unwrap(), None).await.is_err());
    tokio::time::timeout(Duration::from_secs(5), catalogue.damaged()).await.unwrap();
    catalogue.replace_if_damaged().await.unwrap();
    assert!(catalogue.is_empty());
    assert_eq!(version(&catalogue, "file-7", None).await, None);
    import(&catalogue, "gentoo", 1, &[changes(true, vec![wire("file-7", 9)], &[])]).await;
    assert_eq!(version(&catalogue, "file-7", None).await, Some(("gentoo".to_owned(), 9)));
}

/// The size of a real overlay's tree; well under two seconds when it is compiled for use.
#[tokio::test]
async fn eighteen_thousand_names_are_imported_in_no_time() {
    let directory = tempfile::tempdir().unwrap();
    let catalogue = opened(&directory).await;
    let parts: Vec<_> = (0..19)
        .map(|part| {
            let count = if part == 18 { 524 } else { 1000 };
            let upserts =
                (0..count).map(|number| wire(&format!("package-{part}-{number}.tar.xz"), 1)).collect();
            changes(part == 0, upserts, &[])
        })
        .collect();
    let mut step = catalogue.begin("guru", 1).await.unwrap();
    let mut took = Vec::new();
    for part in &parts {
        let started = Instant::now();
        step.apply(part).await.unwrap();
        took.push(started.elapsed());
    }
    let started = Instant::now();
    step.complete(&[]).await.unwrap();
    let completed = started.elapsed();
    // The fastest of some: the others may have waited for a processor. Of the later ones, as they find more there.
    let imported = 19 * *took[10..].iter().min().unwrap() + completed;
    assert!(version(&catalogue, "package-18-523.tar.xz", None).await.is_some());
    let lookups = Instant::now();
    for number in 0..1000 {
        assert!(version(&catalogue, &format!("package-3-{number}.tar.xz"), None).await.is_some());
    }
    println!("imported in {imported:?}, 1000 lookups in {:?}", lookups.elapsed());
    let limit = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 2 });
    assert!(imported < limit, "{imported:?}");
}

#[derive(Debug, Clone)]
struct Part {
    reset: bool,
    upserts: Vec<(u8, u8)>,
    removes: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Scripted {
    module: bool,
    parts: Vec<Part>,
    completes: bool,
}

fn scripted() -> impl Strategy<Value = Scripted> {
    let part = (
        prop::bool::weighted(0.1),
        prop::collection::vec((0..12_u8, 0..250_u8), 0..6),
        prop::collection::vec(0..12_u8, 0..4),
    )
        .prop_map(|(reset, upserts, removes)| Part { reset, upserts, removes });
    (any::<bool>(), prop::collection::vec(part, 1..4), prop::bool::weighted(0.8))
        .prop_map(|(module, parts, completes)| Scripted { module, parts, completes })
}

/// What is to be known: (module, name) to version.
type Model = BTreeMap<(&'static str, u8), u8>;

async fn replay(steps: Vec<Scripted>) {
    let directory = tempfile::tempdir().unwrap();
    let catalogue = opened(&directory).await;
    let mut model = Model::new();
    for (generation, scripted) in (1..).zip(steps) {
        let module = if scripted.module { "a" } else { "b" };
        let mut next = model.clone();
        let mut step = catalogue.begin(module, generation).await.unwrap();
        for part in &scripted.parts {
            if part.reset {
                next.retain(|(of, _), _| *of != module);
            }
            for name in &part.removes {
                next.remove(&(module, *name));
            }
            next.extend(part.upserts.iter().map(|(name, version)| ((module, *name), *version)));
            let removes: Vec<String> = part.removes.iter().map(u8::to_string).collect();
            let upserts =
                part.upserts.iter().map(|(name, version)| wire(&name.to_string(), *version)).collect();
            step.apply(&v1::DistfileChanges { reset: part.reset, upserts, removes }).await.unwrap();
        }
        if scripted.completes {
            step.complete(&[]).await.unwrap();
            model = next;
        } else {
            drop(step);
        }
    }
    for module in ["a", "b"] {
        for name in 0..12_u8 {
            let found = version(&catalogue, &name.to_string(), Some(module)).await;
            assert_eq!(found.map(|(_, version)| version), model.get(&(module, name)).map(|&v| u64::from(v)));
        }
    }
    let sources: i64 =
        sqlx::query_scalar("SELECT count(*) FROM source").fetch_one(&catalogue.pools().reader).await.unwrap();
    assert_eq!(usize::try_from(sources).unwrap(), 2 * model.len(), "no source outlives its distfile");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_sequence_of_steps_gives_the_same_as_a_map(steps in prop::collection::vec(scripted(), 0..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(replay(steps));
    }
}

#[tokio::test]
async fn what_comes_has_limits() {
    let directory = tempfile::tempdir().unwrap();
    let catalogue = opened(&directory).await;
    let is_refused = |begun: Result<Step, CatalogueError>| matches!(begun, Err(CatalogueError::Protocol(_)));
    for wrong in ["", "a/b", "a\nb", &"x".repeat(256)] {
        assert!(is_refused(catalogue.begin(wrong, 1).await), "{wrong}");
    }
    let order: Vec<String> = (0..1001).map(|number| format!("m{number}")).collect();
    assert!(matches!(catalogue.set_module_order(&order).await, Err(CatalogueError::Protocol(_))));
    catalogue.set_module_order(&order[1..]).await.unwrap();
    for module in &order[1..] {
        import(&catalogue, module, 1, &[]).await;
    }
    assert!(is_refused(catalogue.begin(&order[0], 1).await), "one too many");
    import(&catalogue, &order[1], 2, &[changes(false, vec![wire("a", 1)], &[])]).await;
    import(&catalogue, &order[2], 0, &[changes(true, vec![], &[])]).await;
    import(&catalogue, &order[0], 1, &[]).await;
    assert_eq!(catalogue.have().await.unwrap().len(), 1000);
}
