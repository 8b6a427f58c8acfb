//! From a generation to its catalogue.

use gentoo_repo::catalogue::{Catalogue, CatalogueBuilder, Fault};

use super::{MANIFEST_BYTES_MAX, read_file, read_node};
use crate::TreeError;
use crate::generation::{Generation, NodeId, NodeKind};

const CACHE_ENTRY_BYTES_MAX: u64 = 4 << 20;
pub(super) const MIRRORS_BYTES_MAX: u64 = 4 << 20;

/// The path of a repository's own mirror list.
pub(super) const MIRRORS: &[u8] = b"profiles/thirdpartymirrors";

/// Reads every package's Manifest, every cache entry and the mirror lists.
pub(super) fn collect(
    generation: &Generation,
    masters_mirrors: &[Vec<u8>],
) -> Result<(Catalogue, Vec<Fault>), TreeError> {
    let mut builder = CatalogueBuilder::new();
    for mirrors in masters_mirrors {
        builder.add_thirdpartymirrors(mirrors);
    }
    if let Some(mirrors) = read_file(generation, MIRRORS, MIRRORS_BYTES_MAX)? {
        builder.add_thirdpartymirrors(&mirrors);
    }
    for category in directories(generation, generation.root()) {
        let Some(category_name) = text(generation, category).filter(|name| *name != "metadata") else {
            continue;
        };
        for package in directories(generation, category) {
            let Some(package_name) = text(generation, package) else { continue };
            let manifest = generation.children(package).find(|&id| {
                generation.node(id).name == b"Manifest" && generation.node(id).kind == NodeKind::File
            });
            if let Some(manifest) = manifest {
                let octets = read_node(generation, manifest, MANIFEST_BYTES_MAX)?;
                builder.add_manifest(category_name, package_name, &octets);
            }
        }
    }
    if let Some(cache) = generation.lookup(b"metadata/md5-cache") {
        for category in directories(generation, cache) {
            collect_cache(generation, category, &mut builder)?;
        }
    }
    Ok(builder.finish())
}

fn collect_cache(
    generation: &Generation,
    category: NodeId,
    builder: &mut CatalogueBuilder,
) -> Result<(), TreeError> {
    let Some(category_name) = text(generation, category) else { return Ok(()) };
    for entry in generation.children(category) {
        let node = generation.node(entry);
        // Signed trees have Manifests in here, too.
        if node.kind != NodeKind::File || node.name.starts_with(b"Manifest") {
            continue;
        }
        if let Some(pf) = text(generation, entry) {
            let octets = read_node(generation, entry, CACHE_ENTRY_BYTES_MAX)?;
            builder.add_cache_entry(category_name, pf, &octets);
        }
    }
    Ok(())
}

fn directories(generation: &Generation, id: NodeId) -> impl Iterator<Item = NodeId> {
    generation.children(id).filter(|&child| generation.node(child).kind == NodeKind::Directory)
}

/// No package has a name that is not UTF-8.
fn text(generation: &Generation, id: NodeId) -> Option<&str> {
    std::str::from_utf8(generation.node(id).name).ok()
}
