//! `metadata/md5-cache` for trees that ship none, made by Portage's egencache.
//!
//! Without it nothing says where a package's distfiles come from. egencache sources every ebuild of the
//! tree: it is for trees whose authors may run code on this host.
//!
//! What was made is put aside while a pull changes the tree, so that the next run makes only what is new.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use gentoo_repo::layout_conf;
use tokio::process::Command;

use super::program;
use super::{Failed, Limits, UpstreamError, state};

/// Where Gentoo keeps repositories.
const REPOSITORIES: &str = "/var/db/repos";

/// A repository that others may build upon: its name and directory.
pub(crate) type Master = (String, PathBuf);

/// How egencache is run for one module.
#[derive(Debug)]
pub(super) struct Md5Cache {
    program: PathBuf,
    aside: PathBuf,
    limits: Limits,
}

impl Md5Cache {
    pub(super) fn new(directory: &Path, program: &Path, limits: Limits) -> Self {
        Self { program: program.to_owned(), aside: directory.join("md5-cache"), limits }
    }

    /// Before a pull: takes what was made out of the tree. Blocking.
    pub(super) fn put_aside(&self, tree: &Path) -> Result<(), UpstreamError> {
        let cache = cache_of(tree);
        let moved = || {
            if !cache.is_dir() {
                return Ok(());
            }
            if self.aside.exists() {
                fs::remove_dir_all(&self.aside)?;
            }
            fs::rename(&cache, &self.aside)
        };
        moved().map_err(state(&cache, "put aside"))
    }

    /// Whether the tree brings its own.
    pub(super) fn is_shipped(tree: &Path) -> bool {
        cache_of(tree).is_dir()
    }

    /// After a pull of a tree that ships none: makes it. Says how many entries there are.
    pub(super) async fn generate(
        &self,
        tree: &Path,
        masters: &[Master],
        lock: &File,
    ) -> Result<usize, Failed> {
        let cache = cache_of(tree);
        if self.aside.exists() {
            fs::rename(&self.aside, &cache).map_err(state(&cache, "put back"))?;
        }
        let name = repo_name(tree)
            .ok_or_else(|| Failed::Upstream("no profiles/repo_name, which egencache needs".to_owned()))?;
        let mut command = Command::new(&self.program);
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        command.args(["--update", "--tolerant", &format!("--jobs={jobs}"), "--repo", &name]);
        command.arg("--repositories-configuration").arg(repositories(&name, tree, masters));
        program::run(command, lock, self.limits.whole).await?;
        let entries = count_files(&cache).map_err(state(&cache, "list"))?;
        if entries == 0 {
            return Err(Failed::Upstream(
                "egencache made no entry: do its ebuilds find their eclasses?".to_owned(),
            ));
        }
        Ok(entries)
    }
}

fn cache_of(tree: &Path) -> PathBuf {
    tree.join("metadata/md5-cache")
}

/// What a tree calls itself.
pub(crate) fn repo_name(tree: &Path) -> Option<String> {
    let name = fs::read_to_string(tree.join("profiles/repo_name")).ok()?.trim().to_owned();
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"_-".contains(&octet);
    (!name.is_empty() && name.bytes().all(is_plain)).then_some(name)
}

/// Portage's repos.conf with this tree and its masters: modules here, else what the host has.
fn repositories(name: &str, tree: &Path, masters: &[Master]) -> String {
    let layout = fs::read(tree.join("metadata/layout.conf")).unwrap_or_default();
    let named = layout_conf::parse(&layout).ok().and_then(|layout| layout.masters).unwrap_or_default();
    let main = named.first().map_or(name, String::as_str);
    let mut text = format!("[DEFAULT]\nmain-repo = {main}\n[{name}]\nlocation = {}\n", tree.display());
    for master in named.iter().filter(|master| *master != name) {
        let own = masters.iter().find(|(other, _)| other == master).map(|(_, directory)| directory.clone());
        let location = own.unwrap_or_else(|| Path::new(REPOSITORIES).join(master));
        // Writing to a String can't fail.
        let _ = write!(text, "[{master}]\nlocation = {}\n", location.display());
    }
    text
}

fn count_files(cache: &Path) -> io::Result<usize> {
    let mut count = 0;
    for category in fs::read_dir(cache)? {
        let category = category?;
        if category.file_type()?.is_dir() {
            count += fs::read_dir(category.path())?.count();
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_are_modules_here_or_what_the_host_has() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("metadata")).unwrap();
        fs::write(tree.path().join("metadata/layout.conf"), "masters = gentoo guru\n").unwrap();
        let text = repositories("o", tree.path(), &[("gentoo".to_owned(), "/g".into())]);
        let expected = format!(
            "[DEFAULT]\nmain-repo = gentoo\n[o]\nlocation = {}\n[gentoo]\nlocation = /g\n[guru]\nlocation = \
             /var/db/repos/guru\n",
            tree.path().display()
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_name_that_could_be_another_section_is_none() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("profiles")).unwrap();
        for (text, expected) in [("over-lay_1\n", Some("over-lay_1")), ("a]\n[b", None), ("", None)] {
            fs::write(tree.path().join("profiles/repo_name"), text).unwrap();
            assert_eq!(repo_name(tree.path()).as_deref(), expected);
        }
    }
}
