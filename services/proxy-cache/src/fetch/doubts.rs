//! Names whose bytes went out before they were verified, on disk, so that a restart does not forget them.
//!
//! `SLOT/unverified/NAME` is made before the first unverified byte of a download goes out, and removed once
//! the download turned out right. Empty, it means that clients may hold bytes that nobody knows to be
//! right; with a time in it (milliseconds since the Unix epoch), that they were wrong and that nobody gets
//! ranges of the name until then. Everything here blocks.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use gentoo_repo::DistfileName;
use service_kit::durable;
use tracing::warn;

const DIR: &str = "unverified";
/// No distfile's name: those have no control characters in them.
const NEW: &str = "\u{1}new";
/// More than these are not read; a replica writes one for each download under way.
const NOTES_MAX: usize = 10_000;

/// The notes of one slot.
#[derive(Debug, Clone)]
pub(crate) struct Doubts {
    dir: PathBuf,
    /// One note is written at a time.
    writing: Arc<Mutex<()>>,
}

/// What an earlier process left about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Clients may hold bytes of it that are neither known right nor known wrong.
    Unverified,
    /// They were wrong; no ranges until then, in milliseconds since the Unix epoch.
    WrongUntilMs(i64),
}

impl Doubts {
    /// The notes in a slot, and what is in them. What can't be read is left out, and said.
    pub(crate) fn open(slot_dir: &Path) -> (Self, Vec<(DistfileName, Doubt)>) {
        let dir = slot_dir.join(DIR);
        let notes = Self { dir, writing: Arc::default() };
        let found = notes.read().unwrap_or_else(|error| {
            warn!(%error, dir = %notes.dir.display(), "what clients were given before is not known");
            Vec::new()
        });
        (notes, found)
    }

    fn read(&self) -> io::Result<Vec<(DistfileName, Doubt)>> {
        fs::create_dir_all(&self.dir)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)?.take(NOTES_MAX) {
            let name = entry?.file_name();
            let Some(name) = name.to_str().and_then(|name| DistfileName::try_from(name).ok()) else {
                continue;
            };
            // Whatever is in it, it is a doubt.
            let text = fs::read_to_string(self.dir.join(name.as_str())).unwrap_or_default();
            let doubt = text.trim().parse().map_or(Doubt::Unverified, Doubt::WrongUntilMs);
            found.push((name, doubt));
        }
        Ok(found)
    }

    /// Unverified bytes are about to go out. A note that they were wrong stays.
    pub(crate) fn note_unverified(&self, name: &DistfileName) -> io::Result<()> {
        match OpenOptions::new().write(true).create_new(true).open(self.dir.join(name.as_str())) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// They were wrong.
    pub(crate) fn note_wrong(&self, name: &DistfileName, until_ms: i64) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let text = until_ms.to_string();
        durable::replace(&self.dir.join(name.as_str()), &self.dir.join(NEW), text.as_bytes())
    }

    /// They were right. Wrong ones that went out before are remembered for as long as they have to be.
    pub(crate) fn note_right(&self, name: &DistfileName, now_ms: i64) -> io::Result<()> {
        let path = self.dir.join(name.as_str());
        let until: Option<i64> = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        if until.is_some_and(|until| until > now_ms) {
            return Ok(());
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_outlive_the_process() {
        let slot = tempfile::tempdir().unwrap();
        let name = |text: &str| DistfileName::try_from(text).unwrap();
        let (doubts, found) = Doubts::open(slot.path());
        assert!(found.is_empty());
        for text in ["doubtful", "right", "wrong", "wrong-then-right", "long-ago"] {
            doubts.note_unverified(&name(text)).unwrap();
        }
        doubts.note_right(&name("right"), 1).unwrap();
        for (text, until_ms) in [("wrong", 1000), ("wrong-then-right", 1000), ("long-ago", 10)] {
            doubts.note_wrong(&name(text), until_ms).unwrap();
        }
        doubts.note_unverified(&name("wrong")).unwrap();
        doubts.note_right(&name("wrong-then-right"), 999).unwrap();
        doubts.note_right(&name("long-ago"), 11).unwrap();
        doubts.note_right(&name("never-noted"), 11).unwrap();
        fs::write(slot.path().join(DIR).join(NEW), "half a no").unwrap();
        let (_, mut found) = Doubts::open(slot.path());
        found.sort_by_key(|(name, _)| name.as_str().to_owned());
        assert_eq!(
            found,
            [
                (name("doubtful"), Doubt::Unverified),
                (name("wrong"), Doubt::WrongUntilMs(1000)),
                (name("wrong-then-right"), Doubt::WrongUntilMs(1000)),
            ]
        );
    }
}
