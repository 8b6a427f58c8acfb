//! What outlives the process: when each upstream may be asked again, and what staging holds.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_kit::durable;

use super::{UpstreamError, state};

/// The pause after the first failure; it doubles with each one, up to `poll`.
const RETRY_FIRST: Duration = Duration::from_mins(5);

/// The file's name.
const NAME: &str = "memory.toml";

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    /// The upstream whose tree staging held after the last look; none if that look brought none.
    settled_by: Option<String>,
    /// Then no upstream is asked before this: milliseconds since the Unix epoch.
    not_before_ms: u64,
    /// What identifies the whole tree that staging holds: its timestamp, or its commit.
    pub(super) staged: Option<String>,
    /// `metadata/md5-cache` in staging was made here.
    pub(super) generated: bool,
    /// That tree was not fit to be published.
    pub(super) refused: bool,
    /// An operator wants the next tree even if it is older than what is served.
    pub(super) allow_older: bool,
    /// By URL.
    asked: BTreeMap<String, Asked>,
}

/// One upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Asked {
    /// Milliseconds since the Unix epoch.
    not_before_ms: u64,
    /// In a row.
    failures: u32,
    /// Why it gave no tree the last time; empty if it did.
    reason: String,
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

    /// Durably. Blocking.
    pub(super) fn store(&self, directory: &Path) -> Result<(), UpstreamError> {
        let (path, temporary) = (directory.join(NAME), directory.join("memory.toml.new"));
        let written = || {
            let text = toml::to_string(self).map_err(io::Error::other)?;
            durable::replace(&path, &temporary, text.as_bytes())
        };
        written().map_err(state(&path, "write"))
    }

    /// Forgets upstreams that are no longer configured: a new one is asked at once.
    pub(super) fn retain(&mut self, urls: &[String]) {
        self.asked.retain(|url, _| urls.contains(url));
        self.settled_by.take_if(|url| !urls.contains(url));
    }

    /// Whether the last look found or brought a whole tree.
    pub(super) fn is_settled(&self) -> bool {
        self.settled_by.is_some() && self.staged.is_some()
    }

    /// How long until any of `urls` may be asked. Never longer than `poll`, whatever the clock did meanwhile.
    pub(super) fn due_in(&self, urls: &[String], now_ms: u64, poll: Duration) -> Duration {
        if self.is_settled() {
            return left(self.not_before_ms, now_ms, poll);
        }
        urls.iter().map(|url| self.url_due_in(url, now_ms, poll)).min().unwrap_or(poll)
    }

    /// How long until this one may be asked.
    pub(super) fn url_due_in(&self, url: &str, now_ms: u64, poll: Duration) -> Duration {
        self.asked.get(url).map_or(Duration::ZERO, |asked| left(asked.not_before_ms, now_ms, poll))
    }

    /// Why it gave no tree the last time.
    pub(super) fn reason(&self, url: &str) -> &str {
        self.asked.get(url).map_or("", |asked| &asked.reason)
    }

    /// It is about to be asked. Until it is known what comes of it, it counts as a failure.
    pub(super) fn note_asked(&mut self, url: &str, now_ms: u64, poll: Duration) {
        self.settled_by = None;
        let asked = self.asked.entry(url.to_owned()).or_default();
        let pause = RETRY_FIRST.saturating_mul(2_u32.saturating_pow(asked.failures)).min(poll);
        asked.failures = asked.failures.saturating_add(1);
        asked.not_before_ms = after(now_ms, pause);
        "the last pull was broken off".clone_into(&mut asked.reason);
    }

    /// It gave no tree. The pause was decided when it was asked.
    pub(super) fn note_failed(&mut self, url: &str, reason: &str) {
        if let Some(asked) = self.asked.get_mut(url) {
            reason.clone_into(&mut asked.reason);
        }
    }

    /// It answered well, but with nothing that is of use: to ask sooner than after `poll` would be rude.
    pub(super) fn note_useless(&mut self, url: &str, reason: &str, now_ms: u64, poll: Duration) {
        let not_before_ms = after(now_ms, poll);
        let asked = Asked { not_before_ms, failures: 0, reason: reason.to_owned() };
        self.asked.insert(url.to_owned(), asked);
    }

    /// Staging is what it has.
    pub(super) fn note_whole(&mut self, url: &str, now_ms: u64, poll: Duration) {
        self.not_before_ms = after(now_ms, poll);
        self.settled_by = Some(url.to_owned());
        let asked = Asked { not_before_ms: self.not_before_ms, ..Asked::default() };
        self.asked.insert(url.to_owned(), asked);
    }
}

fn after(now_ms: u64, pause: Duration) -> u64 {
    now_ms.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX))
}

fn left(not_before_ms: u64, now_ms: u64, poll: Duration) -> Duration {
    Duration::from_millis(not_before_ms.saturating_sub(now_ms)).min(poll)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_hours(12);
    const NOW_MS: u64 = 1_800_000_000_000;

    fn urls() -> Vec<String> {
        vec!["rsync://a/m".to_owned(), "rsync://b/m".to_owned()]
    }

    #[test]
    fn failures_are_tried_again_with_growing_pauses_and_a_success_waits_for_poll() {
        let (mut memory, urls) = (Memory::default(), urls());
        let due_in = |memory: &Memory, ms| memory.due_in(&urls[..1], ms, POLL);
        assert_eq!(due_in(&memory, NOW_MS), Duration::ZERO);
        for minutes in [5, 10, 20, 40, 80, 160, 320, 640, 720, 720] {
            memory.note_asked(&urls[0], NOW_MS, POLL);
            assert_eq!(due_in(&memory, NOW_MS), Duration::from_mins(minutes));
        }
        memory.staged = Some("a day".to_owned());
        memory.note_whole(&urls[0], NOW_MS, POLL);
        assert_eq!(due_in(&memory, NOW_MS + 1000), POLL.checked_sub(Duration::from_secs(1)).unwrap());
        memory.note_asked(&urls[0], NOW_MS, POLL);
        assert_eq!(due_in(&memory, NOW_MS), Duration::from_mins(5));
    }

    #[test]
    fn each_upstream_has_its_own_pause() {
        let (mut memory, urls) = (Memory::default(), urls());
        memory.note_asked(&urls[0], NOW_MS, POLL);
        memory.note_useless(&urls[0], "older", NOW_MS, POLL);
        memory.note_asked(&urls[1], NOW_MS, POLL);
        memory.note_failed(&urls[1], "down");
        assert_eq!(memory.due_in(&urls, NOW_MS, POLL), Duration::from_mins(5));
        assert_eq!(memory.url_due_in(&urls[0], NOW_MS, POLL), POLL);
        assert_eq!((memory.reason(&urls[0]), memory.reason(&urls[1])), ("older", "down"));
        // A success of one keeps the other one from being asked too.
        memory.staged = Some("a day".to_owned());
        memory.note_whole(&urls[1], NOW_MS, POLL);
        assert_eq!(memory.due_in(&urls, NOW_MS, POLL), POLL);
    }

    #[test]
    fn an_upstream_that_is_new_in_the_configuration_is_asked_at_once() {
        let (mut memory, urls) = (Memory::default(), urls());
        memory.staged = Some("a day".to_owned());
        memory.note_whole(&urls[0], NOW_MS, POLL);
        let others = vec!["rsync://c/m".to_owned()];
        memory.retain(&others);
        assert_eq!(memory.due_in(&others, NOW_MS, POLL), Duration::ZERO);
        assert!(!memory.is_settled() && memory.staged.is_some());
    }

    #[test]
    fn a_clock_that_went_back_a_year_delays_by_no_more_than_poll() {
        let (mut memory, urls) = (Memory::default(), urls());
        memory.staged = Some("a day".to_owned());
        memory.note_whole(&urls[0], NOW_MS, POLL);
        assert_eq!(memory.due_in(&urls, NOW_MS - 31_536_000_000, POLL), POLL);
    }

    #[test]
    fn what_was_stored_is_loaded_and_rubbish_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Memory::load(directory.path()).unwrap(), Memory::default());
        let mut memory = Memory { staged: Some("a day".to_owned()), refused: true, ..Memory::default() };
        memory.note_asked("rsync://a/m", NOW_MS, POLL);
        memory.store(directory.path()).unwrap();
        assert_eq!(Memory::load(directory.path()).unwrap(), memory);
        fs::write(directory.path().join(NAME), "not_before_ms = \"soon\"").unwrap();
        assert_eq!(Memory::load(directory.path()).unwrap(), Memory::default());
    }
}
