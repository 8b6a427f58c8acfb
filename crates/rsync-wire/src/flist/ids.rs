//! Whose the entries are: numbers in each entry (7.4), names behind the list (7.7).

use super::ListPlan;
use crate::codec::put_number;
use crate::{Node, TreeView};
use std::collections::BTreeSet;

const SAME_UID: u16 = 0x0008;
const SAME_GID: u16 = 0x0010;
/// What an octet of length can say.
const NAME_LEN_MAX: usize = 255;

/// One of the two kinds of owners.
#[derive(Debug, Default)]
struct Kind {
    /// The flag that says that it is as before, or not sent at all.
    same: u16,
    is_sent: bool,
    /// That of the last entry; the first entry never says "same" of what is sent.
    last: Option<u32>,
    /// All numbers so far.
    seen: BTreeSet<u32>,
}

impl Kind {
    fn flag(&self, id: u32) -> u16 {
        if !self.is_sent || self.last == Some(id) { self.same } else { 0 }
    }

    fn put(&mut self, out: &mut Vec<u8>, id: u32, plan: &ListPlan) {
        if self.flag(id) == 0 {
            put_id(out, id, plan);
        }
    }

    fn remember(&mut self, id: u32) {
        if self.is_sent && self.last.replace(id) != Some(id) {
            self.seen.insert(id);
        }
    }

    /// The names of all numbers that have one, then 0, which stands for the end, then perhaps its name.
    fn put_names(&self, out: &mut Vec<u8>, plan: &ListPlan, name_of: impl Fn(u32) -> Option<Vec<u8>>) {
        let name_of = |id: u32| name_of(id).filter(|name| plan.names && name.len() <= NAME_LEN_MAX);
        if !self.is_sent {
            return;
        }
        for &id in self.seen.iter().filter(|&&id| id != 0 && plan.names) {
            if let Some(name) = name_of(id).filter(|name| !name.is_empty()) {
                put_id(out, id, plan);
                put_name(out, &name);
            }
        }
        put_id(out, 0, plan);
        if plan.id0_names {
            put_name(out, &name_of(0).unwrap_or_default());
        }
    }
}

/// The owners of the entries of one list.
#[derive(Debug)]
pub(super) struct Ids {
    users: Kind,
    groups: Kind,
}

impl Ids {
    pub(super) fn new(plan: &ListPlan) -> Self {
        let of = |same, is_sent| Kind { same, is_sent, ..Kind::default() };
        Self { users: of(SAME_UID, plan.owner), groups: of(SAME_GID, plan.group) }
    }

    /// The flags of an entry that say what is not sent of its owner.
    pub(super) fn flags(&self, node: &Node<'_>) -> u16 {
        self.users.flag(node.uid) | self.groups.flag(node.gid)
    }

    /// Appends what is sent.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, node: &Node<'_>, plan: &ListPlan) {
        self.users.put(out, node.uid, plan);
        self.groups.put(out, node.gid, plan);
    }

    pub(super) fn remember(&mut self, node: &Node<'_>) {
        self.users.remember(node.uid);
        self.groups.remember(node.gid);
    }

    /// Appends the lists of names.
    pub(super) fn put_names(&self, out: &mut Vec<u8>, plan: &ListPlan, tree: &impl TreeView) {
        if plan.numeric_ids {
            return;
        }
        self.users.put_names(out, plan, |id| tree.user_name(id));
        self.groups.put_names(out, plan, |id| tree.group_name(id));
    }
}

/// Numbers are unsigned, and have the octets of the signed one on the wire.
fn put_id(out: &mut Vec<u8>, id: u32, plan: &ListPlan) {
    put_number(out, id.cast_signed(), plan.protocol);
}

fn put_name(out: &mut Vec<u8>, name: &[u8]) {
    out.push(u8::try_from(name.len()).unwrap_or(0));
    out.extend_from_slice(name);
}
