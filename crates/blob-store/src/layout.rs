//! Where everything is in a slot.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use gentoo_repo::DistfileName;
use gentoo_repo::layout::hash_directory;

use crate::digest::BlobDigest;

/// What `distfiles/layout.conf` says: names are under the first two digits of their own BLAKE2B.
pub(crate) const LAYOUT_CONF: &str = "[structure]\n0=filename-hash BLAKE2B 8\n";

/// Which directory a name is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Option<String>);

impl Scope {
    /// `/distfiles`: what the modules' order decides.
    pub const DISTFILES: Self = Self(None);

    /// `/m/MODULE/distfiles`, for a name that means another file in this module. `None` if the
    /// module's name can't be a directory's name.
    #[must_use]
    pub fn module(module: &str) -> Option<Self> {
        let usable = (1..=255).contains(&module.len())
            && !matches!(module, "." | "..")
            && !module.bytes().any(|byte| byte == b'/' || byte.is_ascii_control());
        usable.then(|| Self(Some(module.to_owned())))
    }

    /// The module's name.
    #[must_use]
    pub fn as_module(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// The paths of one slot.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn replica_id(&self) -> PathBuf {
        self.root.join("replica-id")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(crate) fn parts(&self) -> PathBuf {
        self.root.join("parts")
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn modules(&self) -> PathBuf {
        self.root.join("m")
    }

    pub(crate) fn distfiles(&self, scope: &Scope) -> PathBuf {
        match &scope.0 {
            None => self.root.join("distfiles"),
            Some(module) => self.modules().join(module).join("distfiles"),
        }
    }

    pub(crate) fn blob(&self, digest: &BlobDigest) -> PathBuf {
        let hex = digest.to_hex();
        self.blobs().join(&hex[..2]).join(hex)
    }

    pub(crate) fn name(&self, scope: &Scope, name: &DistfileName) -> PathBuf {
        self.distfiles(scope).join(hash_directory(name)).join(name.as_str())
    }

    pub(crate) fn part(&self, key: &str) -> PathBuf {
        self.parts().join(format!("{key}.part"))
    }

    pub(crate) fn state(&self, key: &str) -> PathBuf {
        self.parts().join(format!("{key}.state"))
    }
}

/// The link from a name in `scope` to a blob; relative, so that the slot can be moved or mounted elsewhere.
pub(crate) fn link_target(scope: &Scope, digest: &BlobDigest) -> PathBuf {
    let up = if scope.0.is_some() { "../../../.." } else { "../.." };
    let hex = digest.to_hex();
    Path::new(up).join("blobs").join(&hex[..2]).join(hex)
}

/// The blob that a link leads to; `None` for a link that we didn't make.
pub(crate) fn link_blob(scope: &Scope, target: &Path) -> Option<BlobDigest> {
    let digest = target.file_name().and_then(OsStr::to_str).and_then(BlobDigest::from_hex)?;
    (link_target(scope, &digest) == target).then_some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_from_its_directory_to_the_blob() {
        let layout = Layout::new(PathBuf::from("/c/r0"));
        let digest = BlobDigest::from([0xab; 64]);
        let name: DistfileName = "foo-1.tar.gz".parse().unwrap();
        for scope in [Scope::DISTFILES, Scope::module("guru").unwrap()] {
            let mut path = layout.name(&scope, &name);
            path.pop();
            for step in link_target(&scope, &digest).components() {
                if step == std::path::Component::ParentDir {
                    assert!(path.pop());
                } else {
                    path.push(step);
                }
            }
            assert_eq!(path, layout.blob(&digest));
            assert_eq!(link_blob(&scope, &link_target(&scope, &digest)), Some(digest));
        }
        assert_eq!(link_blob(&Scope::DISTFILES, Path::new("/etc/passwd")), None);
    }

    #[test]
    fn a_module_that_could_leave_its_directory_is_refused() {
        for wrong in ["", ".", "..", "a/b", "a\0b", "a\nb"] {
            assert_eq!(Scope::module(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn names_are_hashed_as_the_layout_says() {
        // $ printf foo-1.tar.gz | b2sum | head -c2
        let name: DistfileName = "foo-1.tar.gz".parse().unwrap();
        let layout = Layout::new(PathBuf::from("/c/r0"));
        assert_eq!(layout.name(&Scope::DISTFILES, &name), Path::new("/c/r0/distfiles/1b/foo-1.tar.gz"));
    }
}
