//! Which packages there are, and what each of their ebuilds fetches. Pure.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::TreeSpec;
use crate::contents::hash64;

/// What RESTRICT says about a distfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restriction {
    /// Mirrors carry it.
    None,
    /// `RESTRICT=mirror`: only its own sources have it.
    Mirror,
    /// `RESTRICT=fetch`: nobody may fetch it.
    Fetch,
}

pub(super) struct Package {
    pub(super) category: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) licence: &'static str,
    pub(super) ebuilds: Vec<Ebuild>,
    /// Length of a patch in `files/`, if there is one.
    pub(super) patch_bytes: Option<usize>,
}

pub(super) struct Ebuild {
    pub(super) version: String,
    pub(super) slot: String,
    /// The revision of the tree that brought it.
    pub(super) revision: u32,
    pub(super) restriction: Restriction,
    pub(super) uris: Vec<Uri>,
}

/// One element of `SRC_URI`.
pub(super) struct Uri {
    /// As written.
    pub(super) written: String,
    /// What stands after `->`.
    pub(super) rename: Option<String>,
    /// The USE flag that it stands under.
    pub(super) flag: Option<&'static str>,
    /// The distfile's name.
    pub(super) name: String,
    /// Absolute URLs.
    pub(super) sources: Vec<String>,
}

/// The names that `mirror://` may use, each with two URLs in `profiles/thirdpartymirrors`.
pub(super) const MIRRORS: &[&str] = &["gnu", "sourceforge", "pypi", "kernel", "apache"];

/// The two URLs behind `mirror://name`.
pub(super) fn mirror_urls(spec: &TreeSpec, mirror: &str) -> [String; 2] {
    [1, 2].map(|number| format!("{}/thirdparty{number}/{mirror}", spec.source_base))
}

const CATEGORIES: &[(&str, u32)] = &[
    ("dev-python", 30),
    ("dev-libs", 12),
    ("app-misc", 8),
    ("dev-util", 8),
    ("net-misc", 6),
    ("sys-apps", 6),
    ("media-libs", 5),
    ("app-text", 4),
    ("x11-misc", 4),
    ("sys-libs", 3),
    ("dev-cpp", 3),
    ("gui-apps", 3),
    ("www-apps", 2),
    ("sci-libs", 2),
    ("app-editors", 1),
    ("games-util", 1),
    ("virtual", 1),
];

const STEMS: &[&str] = &[
    "alder", "birch", "cedar", "dune", "ember", "fjord", "gale", "heron", "iris", "juniper", "kelp", "larch",
    "moss", "nest", "onyx", "pebble", "quartz", "reed", "skua", "tern", "umbra", "vale", "wren", "xylo",
    "yarrow", "zephyr",
];

const TAILS: &[&str] =
    &["core", "lib", "utils", "tools", "cli", "gtk", "py", "net", "parser", "daemon", "codec", "fmt"];

const LICENCES: &[&str] = &["MIT", "Apache-2.0", "GPL-2", "BSD"];

/// Names the tree's categories, sorted.
pub(super) fn categories() -> Vec<&'static str> {
    let mut names: Vec<_> = CATEGORIES.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names
}

pub(super) fn plan_packages(spec: &TreeSpec) -> Vec<Package> {
    (0..spec.packages).map(|number| plan_package(spec, number)).collect()
}

fn plan_package(spec: &TreeSpec, number: usize) -> Package {
    // Every package has its own sequence, so that more packages change none of the others.
    let mut rng = StdRng::seed_from_u64(hash64(spec.seed, &number.to_le_bytes()));
    let category = pick_category(&mut rng);
    let stem = STEMS.choose(&mut rng).unwrap_or(&"foo");
    let tail = TAILS.choose(&mut rng).unwrap_or(&"lib");
    // The number keeps names apart; `+` in a package's name is legal and reaches every URL.
    let name = match number % 23 {
        7 => format!("{stem}++-{tail}{number}"),
        11 => format!("{stem}_{tail}{number}"),
        _ => format!("{stem}-{tail}{number}"),
    };
    let style = Style::choose(&mut rng);
    let restriction = match (style, rng.random_range(0..100)) {
        // Packages share crates, and a shared file must not be restricted for one of them only.
        (Style::Crates | Style::Nothing, _) => Restriction::None,
        (_, 0..2) => Restriction::Fetch,
        (_, 2..5) => Restriction::Mirror,
        (..) => Restriction::None,
    };
    let bumps = (1..=spec.revision).filter(|revision| is_bumped(spec, number, *revision));
    let ebuilds = std::iter::repeat_n(0, rng.random_range(1..=3)).chain(bumps);
    let base_minor = rng.random_range(0..20_u32);
    let ebuilds = ebuilds
        .zip(0_u32..)
        .map(|(revision, step)| {
            let version = version(number, base_minor + step);
            let uris = plan_uris(spec, style, restriction, &name, &version);
            let slot = if number % 17 == 3 { format!("{step}") } else { "0".to_owned() };
            Ebuild { version, slot, revision, restriction, uris }
        })
        .collect();
    let patch_bytes = rng.random_bool(0.2).then(|| rng.random_range(200..6_000));
    let licence = LICENCES.choose(&mut rng).unwrap_or(&"MIT");
    let description = format!("A generated {tail} that knows all about {stem}");
    Package { category, name, description, licence, ebuilds, patch_bytes }
}

fn pick_category(rng: &mut StdRng) -> String {
    CATEGORIES.choose_weighted(rng, |(_, weight)| *weight).map_or("app-misc", |(name, _)| name).to_owned()
}

fn is_bumped(spec: &TreeSpec, number: usize, revision: u32) -> bool {
    let mut key = number.to_le_bytes().to_vec();
    key.extend_from_slice(&revision.to_le_bytes());
    // Package 0 always, so that even a tiny tree has something new.
    number == 0 || hash64(spec.seed, &key).is_multiple_of(50)
}

fn version(number: usize, minor: u32) -> String {
    match number % 13 {
        4 => format!("1.{minor}_p20260{}", 100 + minor % 28),
        9 => format!("2.{minor}_rc{}", 1 + number % 3),
        _ => format!("{}.{minor}.{}", number % 5, number % 10),
    }
}

#[derive(Debug, Clone, Copy)]
enum Style {
    /// A tag's archive, renamed: most packages today.
    Forge,
    /// A release from a third-party mirror.
    Mirror,
    /// A plain URL.
    Plain,
    /// A forge archive and a few dozen crates that other packages name too.
    Crates,
    /// Nothing to fetch, as for metapackages.
    Nothing,
}

impl Style {
    fn choose(rng: &mut StdRng) -> Self {
        match rng.random_range(0..100) {
            0..50 => Self::Forge,
            50..70 => Self::Mirror,
            70..92 => Self::Plain,
            92..95 => Self::Crates,
            _ => Self::Nothing,
        }
    }
}

fn plan_uris(spec: &TreeSpec, style: Style, restriction: Restriction, name: &str, version: &str) -> Vec<Uri> {
    // The same words give the same choices whatever else is in the tree.
    let mut rng = StdRng::seed_from_u64(hash64(spec.seed, format!("{name}-{version}").as_bytes()));
    let base = &spec.source_base;
    let archive = format!("{name}-{version}.tar.gz");
    if restriction == Restriction::Fetch {
        let uri = Uri { written: archive.clone(), rename: None, flag: None, name: archive, sources: vec![] };
        return vec![uri];
    }
    let mut uris = match style {
        Style::Nothing => return Vec::new(),
        Style::Mirror => {
            let mirror = MIRRORS.choose(&mut rng).unwrap_or(&"gnu");
            vec![mirror_uri(spec, mirror, &format!("{name}/{name}-{version}.tar.xz"), None)]
        }
        Style::Plain => vec![plain_uri(format!("{base}/{name}/releases/{archive}"), None)],
        Style::Forge | Style::Crates => {
            vec![renamed_uri(format!("{base}/{name}/archive/refs/tags/v{version}.tar.gz"), archive, None)]
        }
    };
    if matches!(style, Style::Crates) {
        for _ in 0..rng.random_range(10..40) {
            // Few enough numbers that packages share crates.
            let number = rng.random_range(0..400);
            let url = format!("{base}/crates/c{number}/download");
            uris.push(renamed_uri(url, format!("c{number}-0.{}.0.crate", number % 7), None));
        }
        uris.sort_by(|a, b| a.name.cmp(&b.name));
        uris.dedup_by(|a, b| a.name == b.name);
    }
    if rng.random_bool(0.15) {
        uris.push(mirror_uri(spec, "sourceforge", &format!("{name}-doc-{version}.tar.bz2"), Some("doc")));
    }
    if rng.random_bool(0.10) {
        // npm and GitHub give us names with `@`; distributions give us names with `+`.
        uris.push(plain_uri(format!("{base}/{name}/tests/{name}@{version}.tgz"), Some("test")));
    }
    if rng.random_bool(0.10) {
        uris.push(plain_uri(format!("{base}/patches/{name}-{version}+gcc15.patch.xz"), None));
    }
    uris
}

fn plain_uri(url: String, flag: Option<&'static str>) -> Uri {
    let name = url.rsplit('/').next().unwrap_or_default().to_owned();
    Uri { written: url.clone(), rename: None, flag, name, sources: vec![url] }
}

fn renamed_uri(url: String, name: String, flag: Option<&'static str>) -> Uri {
    Uri { written: url.clone(), rename: Some(name.clone()), flag, name, sources: vec![url] }
}

fn mirror_uri(spec: &TreeSpec, mirror: &str, path: &str, flag: Option<&'static str>) -> Uri {
    let sources = mirror_urls(spec, mirror).map(|url| format!("{url}/{path}")).to_vec();
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    Uri { written: format!("mirror://{mirror}/{path}"), rename: None, flag, name, sources }
}

/// How long the distfile `name` is: skewed, most far below the mean, as in a real tree.
pub(super) fn size_bytes(spec: &TreeSpec, name: &str) -> u64 {
    // Twelve uniform values make a good enough bell; its exponential is the skew.
    let mut rng = StdRng::seed_from_u64(hash64(spec.seed ^ 0x51_2E, name.as_bytes()));
    let bell: f64 = (0..12).map(|_| rng.random_range(0.0..1.0)).sum::<f64>() - 6.0;
    #[allow(clippy::cast_precision_loss, reason = "a random length needs no more than 52 bits")]
    let median = spec.size_median_bytes as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is clamped")]
    let size = (median * (bell * 1.9).exp()) as u64;
    size.clamp(1, spec.size_max_bytes.max(1))
}
