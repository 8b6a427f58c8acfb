//! The octets of one entry (7.1, 7.2, 7.4).

use super::ListPlan;
use super::arena::DirectoryRole;
use super::ids::Ids;
use super::inodes::InodeName;
use crate::codec::{put_long, put_number, put_varint, put_varlong};
use crate::sums::ChecksumOctets;
use crate::{Node, NodeId, NodeKind, Protocol, TreeView};

const TOP_DIRECTORY: u16 = 0x0001;
const SAME_MODE: u16 = 0x0002;
const EXTENDED: u16 = 0x0004;
const SHARED_PREFIX: u16 = 0x0020;
const LONG_SUFFIX: u16 = 0x0040;
const SAME_MTIME: u16 = 0x0080;
const NO_CONTENT: u16 = 0x0100;
const INODE_NAME: u16 = 0x0200;
/// Before protocol 30.
const SAME_DEVICE: u16 = 0x0400;
/// Since protocol 30.
const FIRST_NAME: u16 = 0x1000;
const NANOSECONDS: u16 = 0x2000;

/// Encodes entry after entry. "Same" is relative to the last entry sent.
pub(super) struct EntryWriter<'a> {
    plan: &'a ListPlan,
    name: Vec<u8>,
    mode: u32,
    mtime_s: i64,
    ids: Ids,
    device_sent: bool,
}

impl<'a> EntryWriter<'a> {
    pub(super) fn new(plan: &'a ListPlan) -> Self {
        Self { plan, name: Vec::new(), mode: 0, mtime_s: 0, ids: Ids::new(plan), device_sent: false }
    }

    /// Appends one entry. `checksum` is given exactly for regular files under `--checksum`, but for those that refer to
    /// another entry.
    pub(super) fn put(
        &mut self,
        out: &mut Vec<u8>,
        name: &[u8],
        node: &Node<'_>,
        role: DirectoryRole,
        inode_name: InodeName,
        checksum: Option<ChecksumOctets>,
    ) {
        let protocol = self.plan.protocol;
        let shared = self.name.iter().zip(name).take_while(|(a, b)| a == b).count().min(255);
        let suffix = &name[shared..];
        let flags = self.flags(node, role, shared, suffix.len()) | self.inode_flags(inode_name);
        self.put_flags(out, flags, node.kind == NodeKind::Directory);
        if shared > 0 {
            out.push(octet(shared));
        }
        if suffix.len() > 255 {
            put_number(out, int(suffix.len()), protocol);
        } else {
            out.push(octet(suffix.len()));
        }
        out.extend_from_slice(suffix);
        if let InodeName::Later(_, first) = inode_name
            && protocol >= Protocol::V30
        {
            // All else is as there; what comes next is relative to that.
            put_varint(out, first);
            return self.remember(name, shared, node);
        }
        put_long(out, i64::try_from(node.size).unwrap_or(i64::MAX), 3, protocol);
        if flags & SAME_MTIME == 0 {
            self.put_mtime(out, node.mtime_s);
        }
        if flags & NANOSECONDS != 0 {
            put_varint(out, i32::try_from(node.mtime_ns).unwrap_or(0));
        }
        if flags & SAME_MODE == 0 {
            out.extend_from_slice(&node.mode.to_le_bytes());
        }
        self.ids.put(out, node, self.plan);
        if self.plan.links && node.kind == NodeKind::Symlink {
            put_number(out, int(node.symlink_target.len()), protocol);
            out.extend_from_slice(node.symlink_target);
        }
        if let Some(inode) = inode_name.inode().filter(|_| protocol < Protocol::V30) {
            self.put_inode(out, inode);
        }
        if let Some(checksum) = checksum {
            out.extend_from_slice(checksum.as_slice());
        }
        self.remember(name, shared, node);
    }

    /// Before protocol 30 only the low 32 bits are sent.
    fn put_mtime(&self, out: &mut Vec<u8>, mtime_s: i64) {
        if self.plan.protocol >= Protocol::V30 {
            put_varlong(out, mtime_s, 4);
        } else {
            out.extend_from_slice(&mtime_s.to_le_bytes()[..4]);
        }
    }

    fn flags(&self, node: &Node<'_>, role: DirectoryRole, shared: usize, suffix: usize) -> u16 {
        let mut flags = 0;
        let mut set = |bit, on: bool| flags |= if on { bit } else { 0 };
        if node.kind == NodeKind::Directory && self.plan.protocol < Protocol::V30 {
            set(TOP_DIRECTORY, role == DirectoryRole::Top);
        } else if node.kind == NodeKind::Directory {
            set(TOP_DIRECTORY, matches!(role, DirectoryRole::Top | DirectoryRole::Implied));
            set(NO_CONTENT, matches!(role, DirectoryRole::Bare | DirectoryRole::Implied));
        }
        set(SAME_MODE, node.mode == self.mode);
        set(SHARED_PREFIX, shared > 0);
        set(LONG_SUFFIX, suffix > 255);
        set(SAME_MTIME, node.mtime_s == self.mtime_s);
        set(NANOSECONDS, node.mtime_ns != 0 && self.plan.protocol >= Protocol::V31);
        flags | self.ids.flags(node)
    }

    fn inode_flags(&self, inode_name: InodeName) -> u16 {
        match inode_name {
            InodeName::Only => 0,
            InodeName::First(_) | InodeName::Later(..) if self.plan.protocol < Protocol::V30 => {
                INODE_NAME | if self.device_sent { SAME_DEVICE } else { 0 }
            }
            InodeName::First(_) => INODE_NAME | FIRST_NAME,
            InodeName::Later(..) => INODE_NAME,
        }
    }

    /// Before protocol 30 a client finds out itself which names are one inode, by device and number. A tree is one device,
    /// and its numbers are its own.
    fn put_inode(&mut self, out: &mut Vec<u8>, inode: NodeId) {
        const DEVICE: i64 = 1;
        if !self.device_sent {
            put_long(out, DEVICE + 1, 3, self.plan.protocol);
            self.device_sent = true;
        }
        put_long(out, i64::from(inode.get()) + 1, 3, self.plan.protocol);
    }

    fn put_flags(&self, out: &mut Vec<u8>, mut flags: u16, is_directory: bool) {
        if self.plan.varint_flags {
            // Zero would be the end of the list.
            put_varint(out, i32::from(if flags == 0 { EXTENDED } else { flags }));
            return;
        }
        if flags == 0 && !is_directory {
            flags = TOP_DIRECTORY;
        }
        if flags > 0xFF || flags == 0 {
            out.extend_from_slice(&(flags | EXTENDED).to_le_bytes());
        } else {
            out.push(octet(usize::from(flags)));
        }
    }

    fn remember(&mut self, name: &[u8], shared: usize, node: &Node<'_>) {
        self.name.truncate(shared);
        self.name.extend_from_slice(&name[shared..]);
        self.mode = node.mode;
        self.mtime_s = node.mtime_s;
        self.ids.remember(node);
    }

    /// Appends the end marker and the id lists (7.7); before protocol 30 what went wrong comes last.
    pub(super) fn put_end(&self, out: &mut Vec<u8>, io_error: i32, tree: &impl TreeView) {
        match (self.plan.varint_flags, io_error) {
            (true, _) => {
                out.push(0);
                put_varint(out, io_error);
            }
            (false, _) if io_error == 0 || !self.plan.safe_list => out.push(0),
            (false, _) => {
                out.extend_from_slice(&[0x04, 0x10]);
                put_varint(out, io_error);
            }
        }
        self.ids.put_names(out, self.plan, tree);
        if self.plan.protocol < Protocol::V30 {
            out.extend_from_slice(&io_error.to_le_bytes());
        }
    }
}

fn octet(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

fn int(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
