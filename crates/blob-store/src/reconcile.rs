//! From the directory to the index, when a store is opened.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gentoo_repo::DistfileName;

use crate::digest::BlobDigest;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::expected::STATE_END;
use crate::index::{Entry, Index};
use crate::layout::{self, Layout, Scope};

/// Faults that are told one by one; the others are only counted.
const FAULTS_MAX: usize = 1000;

/// Something in the directory that is not ours, or damaged. It was left as it is unless the words say
/// otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

pub(crate) struct Reconciler<'a> {
    disk: &'a Disk,
    layout: &'a Layout,
    pub(crate) index: Index,
    pub(crate) faults: Vec<Fault>,
}

impl<'a> Reconciler<'a> {
    pub(crate) fn new(disk: &'a Disk, layout: &'a Layout) -> Self {
        Self { disk, layout, index: Index::default(), faults: Vec::new() }
    }

    /// Makes what is missing of the slot's directories, clears what a crash left, reads the rest.
    pub(crate) fn run(&mut self) -> Result<(), StoreError> {
        let layout = self.layout;
        let distfiles = layout.distfiles(&Scope::DISTFILES);
        for dir in [
            layout.blobs(),
            distfiles.clone(),
            layout.modules(),
            layout.parts(),
            layout.quarantine(),
            layout.tmp(),
        ] {
            self.disk.create_dir(&dir)?;
        }
        for name in self.disk.list(&layout.tmp())? {
            self.disk.remove(&layout.tmp().join(name))?;
        }
        self.write_layout_conf(&distfiles)?;
        self.blobs()?;
        self.names(&Scope::DISTFILES)?;
        for module in self.disk.list(&layout.modules())? {
            match module.to_str().and_then(Scope::module) {
                Some(scope) => self.names(&scope)?,
                None => self.fault(&layout.modules().join(module), "is no module"),
            }
        }
        self.parts()
    }

    fn fault(&mut self, path: &Path, what: impl Into<String>) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault { path: path.to_owned(), what: what.into() });
        }
    }

    /// An entry that can't be looked at is reported; the rest of the store is served all the same.
    fn list(&mut self, dir: &Path) -> Vec<OsString> {
        match self.disk.list(dir) {
            Ok(names) => names,
            Err(error) => {
                self.fault(dir, error.to_string());
                Vec::new()
            }
        }
    }

    fn write_layout_conf(&self, distfiles: &Path) -> Result<(), StoreError> {
        let path = distfiles.join("layout.conf");
        if self.disk.stat(&path).is_ok()
            && self.disk.read_small(&path).is_ok_and(|text| text == layout::LAYOUT_CONF.as_bytes())
        {
            return Ok(());
        }
        let new = self.layout.tmp().join("layout.conf");
        self.disk.replace_durably(&new, &path, layout::LAYOUT_CONF.as_bytes())
    }

    fn blobs(&mut self) -> Result<(), StoreError> {
        for group in self.disk.list(&self.layout.blobs())? {
            let dir = self.layout.blobs().join(&group);
            for file in self.list(&dir) {
                let path = dir.join(&file);
                let digest = file.to_str().and_then(BlobDigest::from_hex);
                let Some(digest) = digest.filter(|digest| self.layout.blob(digest) == path) else {
                    self.fault(&path, "is no blob");
                    continue;
                };
                match self.disk.stat(&path) {
                    Ok(metadata) if metadata.is_file() => {
                        let last_access = access_time(metadata.atime());
                        let entry = Entry {
                            size_bytes: metadata.len(),
                            last_access,
                            saved_access: last_access,
                            ..Entry::default()
                        };
                        self.index.insert_blob(digest, entry);
                    }
                    Ok(_) => self.fault(&path, "is no file"),
                    Err(error) => self.fault(&path, error.to_string()),
                }
            }
        }
        Ok(())
    }

    fn names(&mut self, scope: &Scope) -> Result<(), StoreError> {
        let distfiles = self.layout.distfiles(scope);
        if scope.as_module().is_some() && self.disk.stat(&distfiles).is_err() {
            return Ok(());
        }
        for group in self.disk.list(&distfiles)? {
            if group == OsStr::new("layout.conf") {
                continue;
            }
            let dir = distfiles.join(&group);
            for file in self.list(&dir) {
                let path = dir.join(&file);
                let name = file.to_str().and_then(|name| DistfileName::try_from(name).ok());
                let Some(name) = name.filter(|name| self.layout.name(scope, name) == path) else {
                    self.fault(&path, "is not where its name belongs");
                    continue;
                };
                self.name(scope, name, &path)?;
            }
        }
        Ok(())
    }

    fn name(&mut self, scope: &Scope, name: DistfileName, path: &Path) -> Result<(), StoreError> {
        let Ok(target) = self.disk.read_link(path) else {
            self.fault(path, "is no link; import it instead");
            return Ok(());
        };
        match layout::link_blob(scope, &target) {
            Some(digest) if self.index.blobs.contains_key(&digest) => {
                self.index.insert_name(scope.clone(), name, digest);
            }
            Some(_) => {
                self.disk.remove(path)?;
                self.fault(path, "led to no blob; removed");
            }
            None => self.fault(path, "leads out of the store"),
        }
        Ok(())
    }

    /// Keeps parts that can be resumed.
    fn parts(&mut self) -> Result<(), StoreError> {
        let dir = self.layout.parts();
        let mut keys: Vec<String> = self
            .list(&dir)
            .iter()
            .filter_map(|file| Path::new(file).file_stem().and_then(OsStr::to_str).map(str::to_owned))
            .collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let (part, state) = (self.layout.part(&key), self.layout.state(&key));
            let length = self.disk.stat(&part).ok().filter(std::fs::Metadata::is_file).map(|part| part.len());
            let whole = self.disk.read_small(&state).is_ok_and(|state| state.ends_with(STATE_END.as_bytes()));
            if let Some(length) = length.filter(|_| whole) {
                self.index.parked_parts.insert(key, length);
            } else {
                self.disk.remove(&part)?;
                self.disk.remove(&state)?;
            }
        }
        Ok(())
    }
}

/// A blob gets access time 0 when it is made, which says that nobody has asked for it.
fn access_time(seconds: i64) -> Option<SystemTime> {
    let seconds = u64::try_from(seconds).ok().filter(|&seconds| seconds > 0)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
