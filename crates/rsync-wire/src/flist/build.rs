//! From a plan and a tree to a list.

use super::arena::Arena;
use super::encode::EntryWriter;
use super::inodes::{InodeName, Inodes};
use super::sources::Walk;
use super::{Entry, FileList, ListPlan};
use crate::limits::READ_LEN_MAX;
use crate::mux::{Code, FrameWriter};
use crate::sums::{ChecksumKind, ChecksumOctets};
use crate::{Node, NodeId, NodeKind, Protocol, TreeView, WireError};
use bytes::Bytes;

pub(super) fn build(plan: &ListPlan, tree: &impl TreeView) -> Result<FileList, WireError> {
    let mut walk = Walk::new(plan, tree);
    walk.sources()?;
    let Walk { mut arena, mut frames, texts, mut io_error, .. } = walk;
    if plan.ignore_errors {
        io_error = 0;
    }
    arena.sort();
    let (entries, total_size) = encode(plan, tree, &arena, io_error, &mut frames);
    // A copy, because what was collected has up to as much room again.
    let frames = Bytes::copy_from_slice(&frames.take());
    Ok(FileList { frames, entries, texts, io_error, total_size })
}

fn encode(
    plan: &ListPlan,
    tree: &impl TreeView,
    arena: &Arena,
    io_error: i32,
    frames: &mut FrameWriter,
) -> (Vec<Entry>, u64) {
    let mut writer = EntryWriter::new(plan);
    let mut scratch = Vec::with_capacity(512);
    let mut buffer = Vec::new();
    let mut entries = Vec::with_capacity(arena.entries.len());
    let mut total_size = 0_u64;
    let mut inodes = Inodes::default();
    let mut previous: Option<(&[u8], bool)> = None;
    for pending in &arena.entries {
        let node = tree.node(pending.node);
        let name = arena.name(pending);
        let is_file = node.kind == NodeKind::File;
        let inode_name = inodes.name(node.inode.filter(|_| plan.hard_links), entries.len());
        // An entry that refers to another one has its sum, too.
        let is_whole = plan.protocol < Protocol::V30 || !matches!(inode_name, InodeName::Later(..));
        let checksum = plan.checksum.filter(|_| is_file && is_whole);
        let checksum = checksum.map(|kind| file_checksum(tree, pending.node, &node, kind, &mut buffer));
        scratch.clear();
        writer.put(&mut scratch, name, &node, pending.role, inode_name, checksum);
        frames.data(&scratch);
        // The client blanks the later one of two equal entries, and must not ask for it.
        let key = (name, node.kind == NodeKind::Directory);
        let duplicate = previous.replace(key) == Some(key);
        let is_file = is_file && !duplicate;
        entries.push(Entry { node: pending.node, is_file, depth: depth(name), size: node.size });
        if node.kind != NodeKind::Directory {
            total_size = total_size.saturating_add(node.size);
        }
    }
    scratch.clear();
    writer.put_end(&mut scratch, io_error, tree);
    frames.data(&scratch);
    // Where the end of the list can't say it (7.7).
    if io_error != 0 && !plan.safe_list {
        frames.number(Code::IoError, io_error);
    }
    (entries, total_size)
}

/// How many names a name is made of.
fn depth(name: &[u8]) -> u16 {
    if name == b"." {
        return 0;
    }
    let names = name.split(|&octet| octet == b'/').count();
    u16::try_from(names).unwrap_or(u16::MAX)
}

/// The sum of a file's contents; zeros if they can't be read (10.4).
fn file_checksum(
    tree: &impl TreeView,
    id: NodeId,
    node: &Node<'_>,
    kind: ChecksumKind,
    buffer: &mut Vec<u8>,
) -> ChecksumOctets {
    buffer.resize(READ_LEN_MAX, 0);
    let mut sum = kind.start();
    let mut offset = 0;
    while offset < node.size {
        match tree.read_at(id, offset, buffer) {
            Ok(0) | Err(_) => return [0; 20][..kind.len()].into(),
            Ok(len) => {
                sum.update(&buffer[..len]);
                offset += len as u64;
            }
        }
    }
    sum.finish()
}
