//! From a generation to its catalogue.

use std::collections::BTreeMap;

use blake2::{Blake2b512, Digest as _};
use gentoo_repo::catalogue::facts::{Facts, Tag};
use gentoo_repo::catalogue::{Catalogue, CatalogueBuilder, Fault};
use gentoo_repo::package_of_pf;

use super::{MANIFEST_BYTES_MAX, read_file, read_node};
use crate::TreeError;
use crate::generation::{Generation, NodeId, NodeKind};

const CACHE_ENTRY_BYTES_MAX: u64 = 4 << 20;
pub(super) const MIRRORS_BYTES_MAX: u64 = 4 << 20;

/// The path of a repository's own mirror list.
pub(super) const MIRRORS: &[u8] = b"profiles/thirdpartymirrors";

/// The files that say something of one package.
#[derive(Debug, Default)]
struct PackageFiles<'a> {
    manifest: Option<NodeId>,
    /// With their `PF`s.
    cache_entries: Vec<(&'a str, NodeId)>,
}

/// Reads the Manifest and the cache entries of every package that `earlier` does not have as it is now, and the
/// mirror lists.
pub(super) fn collect(
    generation: &Generation,
    masters_mirrors: &[Vec<u8>],
    earlier: Facts,
) -> Result<(Catalogue, Vec<Fault>, Facts), TreeError> {
    let mut builder = CatalogueBuilder::resume(earlier);
    for mirrors in masters_mirrors {
        builder.add_thirdpartymirrors(mirrors);
    }
    if let Some(mirrors) = read_file(generation, MIRRORS, MIRRORS_BYTES_MAX)? {
        builder.add_thirdpartymirrors(&mirrors);
    }
    let mut packages: BTreeMap<(&str, &str), PackageFiles<'_>> = BTreeMap::new();
    find_manifests(generation, &mut packages);
    if let Some(cache) = generation.lookup(b"metadata/md5-cache") {
        for category in directories(generation, cache) {
            find_cache_entries(generation, category, &mut packages, &mut builder);
        }
    }
    for ((category, package), files) in packages {
        let tag = files.tag(generation);
        if builder.recall(category, package, tag) {
            continue;
        }
        if let Some(manifest) = files.manifest {
            let octets = read_node(generation, manifest, MANIFEST_BYTES_MAX)?;
            builder.add_manifest(category, package, &octets);
        }
        for (pf, entry) in files.cache_entries {
            let octets = read_node(generation, entry, CACHE_ENTRY_BYTES_MAX)?;
            builder.add_cache_entry(category, pf, &octets);
        }
        builder.tag(category, package, tag);
    }
    Ok(builder.finish_with_facts())
}

impl PackageFiles<'_> {
    /// Over the names and the digests of the contents.
    fn tag(&self, generation: &Generation) -> Tag {
        let mut hasher = Blake2b512::new();
        let manifest = self.manifest.map(|id| ("", id));
        for &(pf, id) in manifest.iter().chain(&self.cache_entries) {
            hasher.update((pf.len() as u64).to_le_bytes());
            hasher.update(pf);
            if let Some(digest) = generation.node(id).digest {
                hasher.update(digest.as_bytes());
            }
        }
        let mut tag = Tag::default();
        let whole = hasher.finalize();
        tag.copy_from_slice(&whole[..size_of::<Tag>()]);
        tag
    }
}

fn find_manifests<'a>(
    generation: &'a Generation,
    packages: &mut BTreeMap<(&'a str, &'a str), PackageFiles<'a>>,
) {
    for category in directories(generation, generation.root()) {
        let Some(category_name) = text(generation, category).filter(|name| *name != "metadata") else {
            continue;
        };
        for package in directories(generation, category) {
            let Some(package_name) = text(generation, package) else { continue };
            let manifest = generation.child(package, b"Manifest");
            if let Some(id) = manifest.filter(|&id| generation.node(id).kind == NodeKind::File) {
                packages.entry((category_name, package_name)).or_default().manifest = Some(id);
            }
        }
    }
}

fn find_cache_entries<'a>(
    generation: &'a Generation,
    category: NodeId,
    packages: &mut BTreeMap<(&'a str, &'a str), PackageFiles<'a>>,
    builder: &mut CatalogueBuilder,
) {
    let Some(category_name) = text(generation, category) else { return };
    for entry in generation.children(category) {
        let node = generation.node(entry);
        // Signed trees have Manifests in here, too.
        if node.kind != NodeKind::File || node.name.starts_with(b"Manifest") {
            continue;
        }
        let Some(pf) = text(generation, entry) else { continue };
        match package_of_pf(pf) {
            Some(package) => {
                packages.entry((category_name, package)).or_default().cache_entries.push((pf, entry));
            }
            // The builder says what is wrong with it.
            None => builder.add_cache_entry(category_name, pf, b""),
        }
    }
}

fn directories(generation: &Generation, id: NodeId) -> impl Iterator<Item = NodeId> {
    generation.children(id).filter(|&child| generation.node(child).kind == NodeKind::Directory)
}

/// No package has a name that is not UTF-8.
fn text(generation: &Generation, id: NodeId) -> Option<&str> {
    std::str::from_utf8(generation.node(id).name).ok()
}
