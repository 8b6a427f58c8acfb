//! What outlives the process: when an upstream may be asked again, and what staging holds.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{UpstreamError, state};

/// The pause after the first failure; it doubles with each one, up to `poll`.
const RETRY_FIRST: Duration = Duration::from_mins(5);

/// The file's name.
const NAME: &str = "memory.toml";

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    /// Milliseconds since the Unix epoch.
    not_before_ms: u64,
    /// In a row.
    failures: u32,
    /// Why the last one failed.
    pub(super) failure: Option<String>,
    /// The timestamp of the whole tree that staging holds.
    pub(super) staged: Option<String>,
    /// That tree was not fit to be published.
    pub(super) refused: bool,
}

impl Memory {
    /// Nothing is remembered if there is no file, or one that can't be understood: that costs one look.
    pub(super) fn load(directory: &Path) -> Result<Self, UpstreamError> {
        let path = directory.join(NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(state(&path, "read")(error)),
        };
        Ok(toml::from_str(&text).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "not understood: the upstream is asked anew");
            Self::default()
        }))
    }

    /// Durably.
    pub(super) fn store(&self, directory: &Path) -> Result<(), UpstreamError> {
        let (path, temporary) = (directory.join(NAME), directory.join("memory.toml.new"));
        let written = || {
            let text = toml::to_string(self).map_err(io::Error::other)?;
            let mut file = File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(directory)?.sync_all()
        };
        written().map_err(state(&path, "write"))
    }

    /// How long until an upstream may be asked. Never longer than `poll`, whatever the clock did meanwhile.
    pub(super) fn due_in(&self, now_ms: u64, poll: Duration) -> Duration {
        Duration::from_millis(self.not_before_ms.saturating_sub(now_ms)).min(poll)
    }

    /// An upstream is about to be asked. Until [`Self::note_success`] it counts as a failure.
    pub(super) fn note_attempt(&mut self, now_ms: u64, poll: Duration) {
        let pause = RETRY_FIRST.saturating_mul(2_u32.saturating_pow(self.failures)).min(poll);
        self.failures = self.failures.saturating_add(1);
        self.not_before_ms = after(now_ms, pause);
    }

    /// Staging is what an upstream has.
    pub(super) fn note_success(&mut self, now_ms: u64, poll: Duration) {
        self.failures = 0;
        self.failure = None;
        self.not_before_ms = after(now_ms, poll);
    }
}

fn after(now_ms: u64, pause: Duration) -> u64 {
    now_ms.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_hours(12);
    const NOW_MS: u64 = 1_800_000_000_000;

    #[test]
    fn failures_are_tried_again_with_growing_pauses_and_a_success_waits_for_poll() {
        let mut memory = Memory::default();
        assert_eq!(memory.due_in(NOW_MS, POLL), Duration::ZERO);
        for minutes in [5, 10, 20, 40, 80, 160, 320, 640, 720, 720] {
            memory.note_attempt(NOW_MS, POLL);
            assert_eq!(memory.due_in(NOW_MS, POLL), Duration::from_mins(minutes));
        }
        memory.note_success(NOW_MS, POLL);
        assert_eq!(memory.due_in(NOW_MS + 1000, POLL), POLL.checked_sub(Duration::from_secs(1)).unwrap());
        memory.note_attempt(NOW_MS, POLL);
        assert_eq!(memory.due_in(NOW_MS, POLL), Duration::from_mins(5));
    }

    #[test]
    fn a_clock_that_went_back_a_year_delays_by_no_more_than_poll() {
        let mut memory = Memory::default();
        memory.note_success(NOW_MS, POLL);
        assert_eq!(memory.due_in(NOW_MS - 31_536_000_000, POLL), POLL);
    }

    #[test]
    fn what_was_stored_is_loaded_and_rubbish_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Memory::load(directory.path()).unwrap(), Memory::default());
        let mut memory = Memory { staged: Some("a day".to_owned()), refused: true, ..Memory::default() };
        memory.note_attempt(NOW_MS, POLL);
        memory.store(directory.path()).unwrap();
        assert_eq!(Memory::load(directory.path()).unwrap(), memory);
        fs::write(directory.path().join(NAME), "not_before_ms = \"soon\"").unwrap();
        assert_eq!(Memory::load(directory.path()).unwrap(), Memory::default());
    }
}
