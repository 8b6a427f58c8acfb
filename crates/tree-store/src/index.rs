//! The index of a generation: every node as flat arrays, in memory as on disk.
//!
//! Nodes are in breadth-first order with each directory's children together and sorted by name, so a
//! directory is a range and a lookup is one binary search per path element. Everything that a field can
//! point at is checked when an index is read: after that no access can leave the arrays.

use crate::codec::{self, Kind, Misfit, Reader, Writer};
use crate::inodes::{Inodes, Shared};
use crate::name::ContentDigest;
use crate::owners::Owner;

/// Magic and version.
pub(crate) const KIND: Kind = (*b"ROOKTREE", 3);
/// The version before owners and inodes were kept. It is read, so that an upgrade serves what is there.
pub(crate) const KIND_WITHOUT_OWNERS: Kind = (*b"ROOKTREE", 2);

const NODE_BYTES: usize = 4 + 8 + 4 + 4 + 4 + 4 + 4 + 4;
const OWNER_BYTES: usize = 4 + 4;
const SHARED_BYTES: usize = 4 + 4;
const CONTENT_BYTES: usize = 64 + 4 + 8 + 8;
const PACK_BYTES: usize = 4 + 8;

pub(crate) const FORMAT_BITS: u32 = 0o170_000;
pub(crate) const FORMAT_DIRECTORY: u32 = 0o040_000;
pub(crate) const FORMAT_FILE: u32 = 0o100_000;
pub(crate) const FORMAT_SYMLINK: u32 = 0o120_000;

/// What a generation says about itself. Fixed when it is published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// When it was published, milliseconds since the Unix epoch.
    pub published_ms: i64,
    /// The repository's own `metadata/timestamp.chk`, milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Everything that is not a directory.
    pub files: u64,
    /// The sizes of all files together.
    pub bytes: u64,
    /// Distfiles in the catalogue.
    pub distfiles: u64,
    /// Those of them that no `SRC_URI` names.
    pub distfiles_without_source: u64,
    /// Against the generation before it.
    pub changes: Changes,
}

/// How a generation differs from the one before it, counted in nodes that are not directories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Paths that are new.
    pub added: u64,
    /// Paths whose content, target, mode, time or owner differs, or which other names are the same file.
    pub changed: u64,
    /// Paths that are gone.
    pub removed: u64,
}

/// One node. `first` and `count` are the children of a directory, the arena range of a symlink's
/// target, or the content of a file (`first` alone).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeRecord {
    pub(crate) mode: u32,
    pub(crate) mtime_s: i64,
    pub(crate) mtime_ns: u32,
    pub(crate) name_offset: u32,
    pub(crate) name_bytes: u32,
    pub(crate) parent: u32,
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// Its position in [`Index::owners`].
    pub(crate) owner: u32,
}

impl NodeRecord {
    pub(crate) fn format(&self) -> u32 {
        self.mode & FORMAT_BITS
    }
}

/// Where one content lies. `pack` is a position in [`Index::packs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentRecord {
    pub(crate) digest: ContentDigest,
    pub(crate) pack: u32,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// A pack that the generation refers to, and how long it must be at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackRecord {
    pub(crate) id: u32,
    pub(crate) length: u64,
}

/// All of an index but its summary.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) packs: Vec<PackRecord>,
    pub(crate) contents: Vec<ContentRecord>,
    pub(crate) owners: Vec<Owner>,
    pub(crate) nodes: Vec<NodeRecord>,
    pub(crate) inodes: Inodes,
    /// Names and symlink targets, back to back.
    pub(crate) arena: Vec<u8>,
}

impl Index {
    /// The octets of a range of the arena; empty if there is no such range, which [`check`] excludes.
    pub(crate) fn octets(&self, offset: u32, bytes: u32) -> &[u8] {
        let (start, bytes) = (offset as usize, bytes as usize);
        start.checked_add(bytes).and_then(|end| self.arena.get(start..end)).unwrap_or_default()
    }

    pub(crate) fn name(&self, node: &NodeRecord) -> &[u8] {
        self.octets(node.name_offset, node.name_bytes)
    }

    pub(crate) fn content(&self, node: &NodeRecord) -> Option<&ContentRecord> {
        if node.format() == FORMAT_FILE { self.contents.get(node.first as usize) } else { None }
    }

    /// Whose a node is; [`check`] excludes that there is no such owner.
    pub(crate) fn owner(&self, node: &NodeRecord) -> Owner {
        self.owners.get(node.owner as usize).copied().unwrap_or_default()
    }

    /// The file of a published generation.
    pub(crate) fn encode(&self, module: &str, number: u64, summary: &Summary) -> std::io::Result<Vec<u8>> {
        let mut out = Writer::new(KIND);
        out.bytes(module.as_bytes());
        out.u64(number);
        encode_summary(&mut out, summary);
        out.count(self.packs.len());
        for pack in &self.packs {
            out.u32(pack.id);
            out.u64(pack.length);
        }
        out.count(self.contents.len());
        for content in &self.contents {
            out.raw(content.digest.as_bytes());
            out.u32(content.pack);
            out.u64(content.offset);
            out.u64(content.length);
        }
        out.count(self.owners.len());
        for owner in &self.owners {
            out.u32(owner.uid);
            out.u32(owner.gid);
        }
        out.count(self.nodes.len());
        for node in &self.nodes {
            out.u32(node.mode);
            out.i64(node.mtime_s);
            out.u32(node.mtime_ns);
            let place = [node.name_offset, node.name_bytes, node.parent, node.first, node.count];
            for field in place.into_iter().chain([node.owner]) {
                out.u32(field);
            }
        }
        out.count(self.inodes.as_slice().len());
        for shared in self.inodes.as_slice() {
            out.u32(shared.node);
            out.u32(shared.first);
        }
        out.count(self.arena.len());
        out.raw(&self.arena);
        out.finish()
    }

    /// Reads what [`Self::encode`] wrote for this module and number, or what it wrote before it knew owners: then all
    /// is root's.
    pub(crate) fn decode(frame: &[u8], module: &str, number: u64) -> Result<(Self, Summary), Misfit> {
        let has_owners = codec::version(frame) != Some(KIND_WITHOUT_OWNERS.1);
        let body = codec::unseal(if has_owners { KIND } else { KIND_WITHOUT_OWNERS }, frame)?;
        let mut fields = Reader::new(&body);
        if fields.bytes()? != module.as_bytes() || fields.u64()? != number {
            return Err("belongs to another generation");
        }
        let summary = decode_summary(&mut fields)?;
        let mut index = Self::default();
        for _ in 0..fields.count(PACK_BYTES)? {
            index.packs.push(PackRecord { id: fields.u32()?, length: fields.u64()? });
        }
        let contents = fields.count(CONTENT_BYTES)?;
        index.contents.reserve_exact(contents);
        for _ in 0..contents {
            index.contents.push(ContentRecord {
                digest: ContentDigest::new(fields.array()?),
                pack: fields.u32()?,
                offset: fields.u64()?,
                length: fields.u64()?,
            });
        }
        if has_owners {
            for _ in 0..fields.count(OWNER_BYTES)? {
                index.owners.push(Owner { uid: fields.u32()?, gid: fields.u32()? });
            }
        } else {
            index.owners.push(Owner::default());
        }
        let nodes = fields.count(NODE_BYTES)?;
        index.nodes.reserve_exact(nodes);
        for _ in 0..nodes {
            index.nodes.push(NodeRecord {
                mode: fields.u32()?,
                mtime_s: fields.i64()?,
                mtime_ns: fields.u32()?,
                name_offset: fields.u32()?,
                name_bytes: fields.u32()?,
                parent: fields.u32()?,
                first: fields.u32()?,
                count: fields.u32()?,
                owner: if has_owners { fields.u32()? } else { 0 },
            });
        }
        if has_owners {
            let mut shared = Vec::new();
            for _ in 0..fields.count(SHARED_BYTES)? {
                shared.push(Shared { node: fields.u32()?, first: fields.u32()? });
            }
            index.inodes = Inodes::read(shared);
        }
        let arena = fields.count(1)?;
        index.arena = fields.take(arena)?.to_vec();
        fields.end()?;
        check(&index)?;
        Ok((index, summary))
    }
}

fn encode_summary(out: &mut Writer, summary: &Summary) {
    out.i64(summary.published_ms);
    out.i64(summary.timestamp_ms);
    for count in [
        summary.files,
        summary.bytes,
        summary.distfiles,
        summary.distfiles_without_source,
        summary.changes.added,
        summary.changes.changed,
        summary.changes.removed,
    ] {
        out.u64(count);
    }
}

fn decode_summary(fields: &mut Reader<'_>) -> Result<Summary, Misfit> {
    Ok(Summary {
        published_ms: fields.i64()?,
        timestamp_ms: fields.i64()?,
        files: fields.u64()?,
        bytes: fields.u64()?,
        distfiles: fields.u64()?,
        distfiles_without_source: fields.u64()?,
        changes: Changes { added: fields.u64()?, changed: fields.u64()?, removed: fields.u64()? },
    })
}

/// Everything that points, points at something.
fn check(index: &Index) -> Result<(), Misfit> {
    let nodes = index.nodes.len();
    if index.nodes.first().is_none_or(|root| root.format() != FORMAT_DIRECTORY) {
        return Err("no root");
    }
    if nodes > u32::MAX as usize || index.arena.len() > u32::MAX as usize {
        return Err("too many nodes");
    }
    let within = |first: u32, count: u32, length: usize| u64::from(first) + u64::from(count) <= length as u64;
    for (at, node) in index.nodes.iter().enumerate() {
        if !within(node.name_offset, node.name_bytes, index.arena.len()) {
            return Err("a name outside the arena");
        }
        // A parent lies before its children: no walk upwards or downwards can go in circles.
        if at > 0 && node.parent as usize >= at {
            return Err("a parent that does not come first");
        }
        if node.owner as usize >= index.owners.len() {
            return Err("a node without an owner");
        }
        let fits = match node.format() {
            FORMAT_DIRECTORY => {
                node.count == 0 || (node.first as usize > at && within(node.first, node.count, nodes))
            }
            FORMAT_SYMLINK => within(node.first, node.count, index.arena.len()),
            FORMAT_FILE => (node.first as usize) < index.contents.len(),
            _ => false,
        };
        if !fits {
            return Err("a node points outside the index");
        }
    }
    let fits = |content: &ContentRecord| {
        let end = content.offset.checked_add(content.length);
        let pack = index.packs.get(content.pack as usize);
        matches!((end, pack), (Some(end), Some(pack)) if end <= pack.length)
    };
    if !index.contents.iter().all(fits) {
        return Err("a content outside its pack");
    }
    check_inodes(index)
}

/// Names of one inode are there, are no directories, and have one content.
fn check_inodes(index: &Index) -> Result<(), Misfit> {
    let is_name = |shared: &Shared| {
        let [node, first] = [shared.node, shared.first].map(|at| index.nodes.get(at as usize));
        let (Some(node), Some(first)) = (node, first) else { return false };
        match node.format() {
            FORMAT_DIRECTORY => false,
            FORMAT_FILE => first.format() == FORMAT_FILE && node.first == first.first,
            format => format == first.format(),
        }
    };
    if index.inodes.is_sound() && index.inodes.as_slice().iter().all(is_name) {
        Ok(())
    } else {
        Err("names that can't be one file")
    }
}
