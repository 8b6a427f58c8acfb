//! A Gentoo repository of realistic shape, as a function of a seed.
//!
//! Real Portage accepts it (EAPI 8 ebuilds, thin Manifests, md5-cache, a profile), and every DIST line's
//! digests are those of contents that [`GeneratedDistfile::contents`] gives back at any time.

mod plan;
mod render;
mod skeleton;
mod write;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::contents::{ContentDigests, Contents, hash64};
use plan::Package;

pub use plan::Restriction;

/// The profile that every generated tree has, below `profiles/`.
pub const PROFILE: &str = "default/linux/amd64/23.0";

/// The repository's name, as in `profiles/repo_name`.
pub const REPOSITORY: &str = "gentoo";

/// What to generate. Equal specs give equal trees, octet for octet and second for second.
#[derive(Debug, Clone)]
pub struct TreeSpec {
    /// Decides everything else that isn't named here.
    pub seed: u64,
    /// How many packages. Each has one to three ebuilds.
    pub packages: usize,
    /// Where sources are, without a slash at the end: `SRC_URI` and `profiles/thirdpartymirrors` name
    /// paths below it.
    pub source_base: String,
    /// What `metadata/timestamp.chk` says at revision 0, in seconds since the Unix epoch.
    pub timestamp_s: i64,
    /// How many days of bumps the tree has seen. Each adds a version to about 2% of the packages and a
    /// day to the timestamp; what isn't bumped stays the same.
    pub revision: u32,
    /// Half of the distfiles are smaller than this.
    pub size_median_bytes: u64,
    /// None is larger than this.
    pub size_max_bytes: u64,
}

impl Default for TreeSpec {
    fn default() -> Self {
        Self {
            seed: 1,
            packages: 50,
            source_base: "https://upstream.example".to_owned(),
            // 2026-01-15 12:00:00 UTC: in the past for every client.
            timestamp_s: 1_768_478_400,
            revision: 0,
            size_median_bytes: 16 * 1024,
            size_max_bytes: 4 * 1024 * 1024,
        }
    }
}

/// A tree on disk and what it names.
#[derive(Debug, Clone)]
pub struct GeneratedTree {
    /// Its root, as given to [`generate`].
    pub dir: PathBuf,
    /// Every distfile that a Manifest names, by name.
    pub distfiles: Vec<GeneratedDistfile>,
    /// How many packages, ebuilds and files there are.
    pub counts: TreeCounts,
}

/// How large a generated tree is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeCounts {
    /// Directories `category/package`.
    pub packages: usize,
    /// Ebuilds, each with its md5-cache entry.
    pub ebuilds: usize,
    /// Regular files of any kind.
    pub files: usize,
}

/// One distfile of a generated tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedDistfile {
    /// Its name in DISTDIR, after any `->`.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
    /// With the name, gives its contents.
    pub seed: u64,
    /// What its DIST line says.
    pub digests: ContentDigests,
    /// Where `SRC_URI` says it comes from, absolute, `mirror://` already expanded. Empty for a
    /// fetch-restricted file that only has a name.
    pub sources: Vec<String>,
    /// What RESTRICT says.
    pub restriction: Restriction,
    /// Who names it, as `category/package-version`.
    pub packages: Vec<String>,
}

impl GeneratedDistfile {
    /// What the file holds.
    #[must_use]
    pub fn contents(&self) -> Contents {
        Contents::new(self.seed, &self.name, self.size_bytes)
    }
}

impl GeneratedTree {
    /// The distfile of that name.
    #[must_use]
    pub fn distfile(&self, name: &str) -> Option<&GeneratedDistfile> {
        let index = self.distfiles.binary_search_by(|distfile| distfile.name.as_str().cmp(name)).ok()?;
        self.distfiles.get(index)
    }

    /// The distfiles that mirrors carry: neither mirror- nor fetch-restricted.
    pub fn mirrored(&self) -> impl Iterator<Item = &GeneratedDistfile> {
        self.distfiles.iter().filter(|distfile| distfile.restriction == Restriction::None)
    }
}

/// Writes the tree that `spec` describes to `dir`, which is made if it isn't there. Files that are there
/// already with the same contents are left alone, so a later revision can be written over an earlier one.
/// Blocks: it hashes every distfile's contents once.
///
/// # Errors
/// Whatever the file system says.
pub fn generate(spec: &TreeSpec, dir: &Path) -> io::Result<GeneratedTree> {
    let packages = plan::plan_packages(spec);
    let distfiles = digest_all(spec, &packages);
    let mut writer = write::Writer::new(dir);
    skeleton::write_skeleton(spec, &packages, &mut writer)?;
    let mut counts = TreeCounts { packages: packages.len(), ..TreeCounts::default() };
    for package in &packages {
        counts.ebuilds += package.ebuilds.len();
        render::write_package(spec, package, &distfiles, &mut writer)?;
    }
    counts.files = writer.files();
    Ok(GeneratedTree { dir: dir.to_owned(), distfiles: distfiles.into_values().collect(), counts })
}

fn digest_all(spec: &TreeSpec, packages: &[Package]) -> BTreeMap<String, GeneratedDistfile> {
    let mut planned: BTreeMap<&str, GeneratedDistfile> = BTreeMap::new();
    for (package, ebuild) in packages.iter().flat_map(|p| p.ebuilds.iter().map(move |e| (p, e))) {
        for uri in &ebuild.uris {
            let entry = planned.entry(&uri.name).or_insert_with(|| GeneratedDistfile {
                name: uri.name.clone(),
                size_bytes: plan::size_bytes(spec, &uri.name),
                seed: spec.seed,
                digests: ContentDigests { blake2b: [0; 64], sha512: [0; 64] },
                sources: uri.sources.clone(),
                restriction: ebuild.restriction,
                packages: Vec::new(),
            });
            entry.packages.push(format!("{}/{}-{}", package.category, package.name, ebuild.version));
        }
    }
    let mut files: Vec<GeneratedDistfile> = planned.into_values().collect();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = files.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for part in files.chunks_mut(share) {
            scope.spawn(move || {
                for file in part {
                    file.digests = file.contents().digests();
                }
            });
        }
    });
    files.into_iter().map(|file| (file.name.clone(), file)).collect()
}

/// When a file of the tree that revision `revision` last touched was modified.
fn mtime_s(spec: &TreeSpec, path: &str, revision: u32) -> i64 {
    const DAY_S: u64 = 86_400;
    let spread = hash64(spec.seed, path.as_bytes());
    // At most five years old, or of the day before the timestamp if it was bumped since.
    let age_s = if revision == 0 { spread % (5 * 365 * DAY_S) } else { spread % DAY_S };
    timestamp_s(spec, revision) - i64::try_from(age_s).unwrap_or(0)
}

fn timestamp_s(spec: &TreeSpec, revision: u32) -> i64 {
    spec.timestamp_s + i64::from(revision) * 86_400
}

#[cfg(test)]
mod tests;
