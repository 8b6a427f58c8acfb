//! The walk: which entries the sources of a plan come to (4.3, 7.3).

use super::arena::{Arena, DirectoryRole};
use super::links::Shown;
use super::{ListPlan, TEXTS_KEPT_MAX};
use crate::filter::{Glob, LocalRules, MatchBudget, Subject, is_wild};
use crate::limits::{NAME_LEN_MAX, WILDCARD_RESULTS_MAX};
use crate::mux::{Code, FrameWriter};
use crate::options::{SourcePath, join};
use crate::{NodeId, NodeKind, Protocol, TreeView, WireError};
use std::collections::HashSet;

/// Something could not be listed; a client then deletes nothing.
pub(super) const IO_ERROR_GENERAL: i32 = 1;

pub(super) struct Walk<'a, T> {
    pub(super) plan: &'a ListPlan,
    pub(super) tree: &'a T,
    pub(super) arena: Arena,
    /// The texts about what is missing.
    pub(super) frames: FrameWriter,
    /// Some of them.
    pub(super) texts: Vec<String>,
    pub(super) io_error: i32,
    budget: MatchBudget,
    local: LocalRules,
    /// The directories from the top to the current one, where links are followed.
    pub(super) ancestors: Vec<NodeId>,
    pub(super) linked_directories: usize,
    /// Implied directories that are in the list, by transfer root and name.
    implied: HashSet<Vec<u8>>,
}

impl<'a, T: TreeView> Walk<'a, T> {
    pub(super) fn new(plan: &'a ListPlan, tree: &'a T) -> Self {
        Self {
            plan,
            tree,
            arena: Arena::default(),
            frames: FrameWriter::new(plan.protocol),
            texts: Vec::new(),
            io_error: 0,
            budget: MatchBudget::default(),
            local: LocalRules::default(),
            ancestors: Vec::new(),
            linked_directories: 0,
            implied: HashSet::new(),
        }
    }

    pub(super) fn sources(&mut self) -> Result<(), WireError> {
        let mut results = 0;
        for source in &self.plan.sources {
            let path = join(&source.root, &source.name);
            if self.plan.expands_wildcards && is_wild(&path) {
                for found in self.expand(source)? {
                    results += 1;
                    if results > WILDCARD_RESULTS_MAX {
                        return Err(WireError::Limit {
                            what: "the results of wildcards",
                            limit: WILDCARD_RESULTS_MAX,
                        });
                    }
                    self.source(&found)?;
                }
            } else {
                self.source(source)?;
            }
        }
        Ok(())
    }

    /// What a source with wildcards comes to: itself, literally, if nothing matches.
    fn expand(&mut self, source: &SourcePath) -> Result<Vec<SourcePath>, WireError> {
        let root_depth = components(&source.root).count();
        let path = join(&source.root, &source.name);
        let mut found: Vec<Vec<u8>> = vec![Vec::new()];
        for component in components(&path) {
            let mut next = Vec::new();
            for directory in found {
                if !is_wild(component) {
                    next.push(join(&directory, component));
                    continue;
                }
                let glob = Glob::new(component);
                let Some(id) = self.tree.lookup(&directory) else { continue };
                for child in self.tree.children(id) {
                    let name = self.tree.node(child).name;
                    if glob.matches(name, &mut self.budget)? {
                        next.push(join(&directory, name));
                    }
                }
                if next.len() > WILDCARD_RESULTS_MAX {
                    return Err(WireError::Limit {
                        what: "the results of wildcards",
                        limit: WILDCARD_RESULTS_MAX,
                    });
                }
            }
            found = next;
        }
        found.retain(|path| self.tree.lookup(path).is_some());
        if found.is_empty() {
            return Ok(vec![source.clone()]);
        }
        let split = |path: Vec<u8>| {
            let parts: Vec<&[u8]> = components(&path).collect();
            let (root, name) = parts.split_at(root_depth.min(parts.len()));
            SourcePath { root: root.join(&b'/'), name: name.join(&b'/'), ..source.clone() }
        };
        Ok(found.into_iter().map(split).collect())
    }

    fn source(&mut self, source: &SourcePath) -> Result<(), WireError> {
        let place = self.tree.lookup(&source.root);
        let Some(root) = place.filter(|&id| self.tree.node(id).kind == NodeKind::Directory) else {
            if !self.plan.ignore_missing {
                self.io_error |= IO_ERROR_GENERAL;
                self.missing("change_dir", &source.root, place.is_some());
            }
            return Ok(());
        };
        self.local.start(&self.plan.filters, self.tree, &source.root, !source.name.is_empty())?;
        if source.implied_dot {
            self.imply(&source.root, b".", root);
        }
        if source.name.is_empty() {
            return self.found(source, b".", root);
        }
        let path = join(&source.root, &source.name);
        let id = self.tree.lookup(&path);
        let id = id.filter(|&id| !source.contents || self.tree.node(id).kind == NodeKind::Directory);
        let Some(id) = id else {
            if !self.plan.ignore_missing {
                self.missing("link_stat", &source.name, false);
            }
            return Ok(());
        };
        if self.plan.implied_dirs {
            self.parents(source)?;
        }
        self.found(source, &source.name, id)
    }

    /// The parents of a relative name, which are sent as implied directories; since protocol 30 they bring their
    /// rules along.
    fn parents(&mut self, source: &SourcePath) -> Result<(), WireError> {
        let slashes = source.name.iter().enumerate().filter(|&(_, &o)| o == b'/');
        for end in slashes.map(|(at, _)| at) {
            let parent = &source.name[..end];
            if let Some(id) = self.tree.lookup(&join(&source.root, parent)) {
                self.imply(&source.root, parent, id);
                if self.plan.protocol >= Protocol::V30 {
                    let path = join(&source.root, parent);
                    self.local.enter(&self.plan.filters, self.tree, &path)?;
                }
            }
        }
        Ok(())
    }

    fn imply(&mut self, root: &[u8], name: &[u8], id: NodeId) {
        if self.implied.insert([root, b"/", name].concat()) {
            self.add(name, id, DirectoryRole::Implied);
        }
    }

    /// A source that is there. The dot-directory is never tested against the filters.
    fn found(&mut self, source: &SourcePath, name: &[u8], id: NodeId) -> Result<(), WireError> {
        let Some(id) = self.shown(id, name, &source.root)? else { return Ok(()) };
        let is_directory = self.tree.node(id).kind == NodeKind::Directory;
        let subject = Subject { name, root: &source.root, is_directory };
        if name != b"." && self.plan.filters.hides(subject, &self.local, &mut self.budget)? {
            return Ok(());
        }
        let mut prefix = if name == b"." { Vec::new() } else { name.to_vec() };
        let deep = self.plan.recurse;
        if is_directory && (deep || (self.plan.dirs && source.contents)) {
            self.add(name, id, DirectoryRole::Top);
            return self.descend(&mut prefix, &source.root, id, deep);
        }
        if is_directory && !self.plan.dirs {
            let text = format!("skipping directory {}", crate::error::printable(name));
            self.complain(Code::Info, text);
            return Ok(());
        }
        self.add(name, id, DirectoryRole::Bare);
        Ok(())
    }

    /// The children of a directory, in the order in which they are sorted later: first all that are no
    /// directories. `name` is the directory's own name, empty for the transfer root.
    fn descend(&mut self, name: &mut Vec<u8>, root: &[u8], id: NodeId, deep: bool) -> Result<(), WireError> {
        let len = name.len();
        let tree = self.tree;
        self.local.enter(&self.plan.filters, tree, &join(root, name))?;
        self.ancestors.push(id);
        for directories in [false, true] {
            for link in tree.children(id) {
                let kind = tree.node(link).kind;
                // Where a link leads to is found out in the first round.
                if (kind == NodeKind::Directory) != directories && kind != NodeKind::Symlink {
                    continue;
                }
                if len > 0 {
                    name.push(b'/');
                }
                name.extend_from_slice(tree.node(link).name);
                let child = match self.lead(link, name, root) {
                    Shown::As(child) if (tree.node(child).kind == NodeKind::Directory) == directories => {
                        child
                    }
                    Shown::Not(problem) if !directories => {
                        self.unshown(problem, name, root)?;
                        name.truncate(len);
                        continue;
                    }
                    Shown::As(_) | Shown::Not(_) => {
                        name.truncate(len);
                        continue;
                    }
                };
                let is_directory = directories;
                let subject = Subject { name, root, is_directory };
                if !self.plan.filters.hides(subject, &self.local, &mut self.budget)? {
                    let role = if deep { DirectoryRole::Content } else { DirectoryRole::Bare };
                    self.add(name, child, role);
                    if is_directory && deep {
                        self.count_linked(link, child)?;
                        self.descend(name, root, child, deep)?;
                    }
                }
                name.truncate(len);
            }
        }
        self.ancestors.pop();
        self.local.leave(&self.plan.filters);
        Ok(())
    }

    fn add(&mut self, name: &[u8], id: NodeId, role: DirectoryRole) {
        let node = self.tree.node(id);
        let listable = name.len() <= NAME_LEN_MAX
            && (node.kind != NodeKind::Symlink || (1..=NAME_LEN_MAX).contains(&node.symlink_target.len()));
        if !listable || !self.arena.push(name, id, &node, role) {
            self.io_error |= IO_ERROR_GENERAL;
            let text = format!("rsync: [sender] \"{}\" can't be listed", crate::error::printable(name));
            self.complain(Code::ErrorXfer, text);
        }
    }

    /// Whether a name that is not shown would have been hidden anyway.
    pub(super) fn is_hidden(&mut self, name: &[u8], root: &[u8]) -> Result<bool, WireError> {
        let subject = Subject { name, root, is_directory: false };
        self.plan.filters.hides(subject, &self.local, &mut self.budget)
    }

    /// Tells the client, and whoever keeps a log.
    pub(super) fn complain(&mut self, code: Code, text: String) {
        self.frames.text(code, &text);
        if self.texts.len() < TEXTS_KEPT_MAX {
            self.texts.push(text);
        }
    }

    fn missing(&mut self, what: &str, path: &[u8], is_file: bool) {
        let error = if is_file { "Not a directory (20)" } else { "No such file or directory (2)" };
        let path = crate::error::printable(path);
        let module = &self.plan.module;
        let text = format!("rsync: [sender] {what} \"{path}\" (in {module}) failed: {error}");
        self.complain(Code::ErrorXfer, text);
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&o| o == b'/').filter(|part| !part.is_empty())
}
