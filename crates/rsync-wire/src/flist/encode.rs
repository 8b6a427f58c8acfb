//! The octets of one entry (7.1, 7.2, 7.4).

use super::ListPlan;
use super::arena::DirectoryRole;
use crate::codec::{put_long, put_number, put_varint, put_varlong};
use crate::sums::ChecksumOctets;
use crate::{Node, NodeKind, Protocol};

const TOP_DIRECTORY: u16 = 0x0001;
const SAME_MODE: u16 = 0x0002;
const EXTENDED: u16 = 0x0004;
const SAME_UID: u16 = 0x0008;
const SAME_GID: u16 = 0x0010;
const SHARED_PREFIX: u16 = 0x0020;
const LONG_SUFFIX: u16 = 0x0040;
const SAME_MTIME: u16 = 0x0080;
const NO_CONTENT: u16 = 0x0100;
const NANOSECONDS: u16 = 0x2000;

/// Encodes entry after entry. "Same" is relative to the last entry sent.
pub(super) struct EntryWriter<'a> {
    plan: &'a ListPlan,
    name: Vec<u8>,
    mode: u32,
    mtime_s: i64,
    ids_sent: bool,
}

impl<'a> EntryWriter<'a> {
    pub(super) fn new(plan: &'a ListPlan) -> Self {
        Self { plan, name: Vec::new(), mode: 0, mtime_s: 0, ids_sent: false }
    }

    /// Appends one entry. `checksum` is given exactly for regular files under `--checksum`.
    pub(super) fn put(
        &mut self,
        out: &mut Vec<u8>,
        name: &[u8],
        node: &Node<'_>,
        role: DirectoryRole,
        checksum: Option<ChecksumOctets>,
    ) {
        let protocol = self.plan.protocol;
        let shared = self.name.iter().zip(name).take_while(|(a, b)| a == b).count().min(255);
        let suffix = &name[shared..];
        let flags = self.flags(node, role, shared, suffix.len());
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
        // Everything belongs to the user and the group 0.
        if self.plan.owner && flags & SAME_UID == 0 {
            put_number(out, 0, protocol);
        }
        if self.plan.group && flags & SAME_GID == 0 {
            put_number(out, 0, protocol);
        }
        if self.plan.links && node.kind == NodeKind::Symlink {
            put_number(out, int(node.symlink_target.len()), protocol);
            out.extend_from_slice(node.symlink_target);
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
        // The first entry never says "same" of ids that are sent.
        set(SAME_UID, !self.plan.owner || self.ids_sent);
        set(SAME_GID, !self.plan.group || self.ids_sent);
        set(SHARED_PREFIX, shared > 0);
        set(LONG_SUFFIX, suffix > 255);
        set(SAME_MTIME, node.mtime_s == self.mtime_s);
        set(NANOSECONDS, node.mtime_ns != 0 && self.plan.protocol >= Protocol::V31);
        flags
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
        self.ids_sent = true;
    }

    /// Appends the end marker and the id lists, which name nobody (7.7); before protocol 30 what
    /// went wrong comes last.
    pub(super) fn put_end(&self, out: &mut Vec<u8>, io_error: i32) {
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
        if !self.plan.numeric_ids {
            self.put_id_lists(out);
        }
        if self.plan.protocol < Protocol::V30 {
            out.extend_from_slice(&io_error.to_le_bytes());
        }
    }

    fn put_id_lists(&self, out: &mut Vec<u8>) {
        let lists = usize::from(self.plan.owner) + usize::from(self.plan.group);
        for _ in 0..lists {
            put_number(out, 0, self.plan.protocol);
            if self.plan.id0_names {
                out.push(0);
            }
        }
    }
}

fn octet(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

fn int(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
