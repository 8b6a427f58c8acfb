//! The index of a generation: every node as flat arrays, in memory as on disk.
//!
//! Nodes are in breadth-first order with each directory's children together and sorted by name, so a
//! directory is a range and a lookup is one binary search per path element. Everything that a field can
//! point at is checked when an index is read: after that no access can leave the arrays.

use crate::codec::{self, Misfit, Reader, Writer};
use crate::name::ContentDigest;

/// Magic and version.
pub(crate) const KIND: ([u8; 8], u32) = (*b"ROOKTREE", 2);

const NODE_BYTES: usize = 4 + 8 + 4 + 4 + 4 + 4 + 4 + 4;
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
    /// Paths whose content, target, mode or time differs.
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
    pub(crate) nodes: Vec<NodeRecord>,
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
        out.count(self.nodes.len());
        for node in &self.nodes {
            out.u32(node.mode);
            out.i64(node.mtime_s);
            out.u32(node.mtime_ns);
            for field in [node.name_offset, node.name_bytes, node.parent, node.first, node.count] {
                out.u32(field);
            }
        }
        out.count(self.arena.len());
        out.raw(&self.arena);
        out.finish()
    }

    /// Reads what [`Self::encode`] wrote for this module and number.
    pub(crate) fn decode(frame: &[u8], module: &str, number: u64) -> Result<(Self, Summary), Misfit> {
        let body = codec::unseal(KIND, frame)?;
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
            });
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
    if index.contents.iter().all(fits) { Ok(()) } else { Err("a content outside its pack") }
}
