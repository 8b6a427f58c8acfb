//! What outlives the process: when each upstream may be asked again, and what staging holds.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use service_kit::durable;

use super::{UpstreamError, state};

/// The pause after the first failure; it doubles with each one, up to `poll`.
const RETRY_FIRST: Duration = Duration::from_mins(5);

/// For so long the clock has to go on before it is believed that says that a pause was noted by one that was ahead: at
/// the start of a host it may be behind itself, and then what was noted is right.
const BELIEVED_AFTER: Duration = Duration::from_mins(10);

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
    /// Since when a pause is known to be longer than any that is made.
    #[serde(skip)]
    ahead_since: Option<Instant>,
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

    /// Puts pauses back that are longer than any that is made: a clock that was ahead noted them, or `poll` was longer.
    /// Once, because a pause that is only shortened when it is read begins anew each time. `at` is the time of a clock
    /// that nobody sets. Answers how many were put back.
    pub(super) fn put_back(&mut self, now_ms: u64, at: Instant, poll: Duration) -> usize {
        let latest_ms = after(now_ms, poll);
        if !self.has_ahead(latest_ms) {
            self.ahead_since = None;
            return 0;
        }
        let since = *self.ahead_since.get_or_insert(at);
        if at.saturating_duration_since(since) < BELIEVED_AFTER {
            return 0;
        }
        self.ahead_since = None;
        let mut count = 0;
        if self.not_before_ms > latest_ms {
            (self.not_before_ms, count) = (latest_ms, 1);
        }
        for asked in self.asked.values_mut().filter(|asked| asked.not_before_ms > latest_ms) {
            let pause = asked.failures.checked_sub(1).map_or(poll, |before| pause_after(before, poll));
            asked.not_before_ms = after(now_ms, pause);
            count += 1;
        }
        count
    }

    fn has_ahead(&self, latest_ms: u64) -> bool {
        let asked = self.asked.values().map(|asked| asked.not_before_ms);
        asked.chain([self.not_before_ms]).any(|not_before_ms| not_before_ms > latest_ms)
    }

    /// When to look again: what lies ahead is put back by then.
    pub(super) fn look_in(&self, urls: &[String], now_ms: u64, poll: Duration) -> Duration {
        let due_in = self.due_in(urls, now_ms, poll);
        if self.has_ahead(after(now_ms, poll)) { due_in.min(BELIEVED_AFTER) } else { due_in }
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
        let pause = pause_after(asked.failures, poll);
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

/// After one more failure.
fn pause_after(failures: u32, poll: Duration) -> Duration {
    RETRY_FIRST.saturating_mul(2_u32.saturating_pow(failures)).min(poll)
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

    /// Two upstreams, the first of which gave a tree and the second failed twice, as a clock noted that was a year ahead.
    fn noted_ahead() -> (Memory, Vec<String>, u64) {
        let (mut memory, urls) = (Memory::default(), urls());
        for _ in 0..2 {
            memory.note_asked(&urls[1], NOW_MS, POLL);
        }
        memory.staged = Some("a day".to_owned());
        memory.note_whole(&urls[0], NOW_MS, POLL);
        (memory, urls, NOW_MS - 31_536_000_000)
    }

    #[test]
    fn a_clock_that_went_back_a_year_delays_by_no_more_than_poll() {
        let (mut memory, urls, now_ms) = noted_ahead();
        let begun = Instant::now();
        let mut look = |minutes: u64| {
            let now_ms = now_ms + minutes * 60_000;
            let count = memory.put_back(now_ms, begun + Duration::from_mins(minutes), POLL);
            let due = [memory.due_in(&urls, now_ms, POLL), memory.url_due_in(&urls[1], now_ms, POLL)];
            (count, due.map(|due| due.as_secs() / 60), memory.look_in(&urls, now_ms, POLL).as_secs() / 60)
        };
        assert_eq!(look(0), (0, [720, 720], 10), "the clock is not believed yet");
        assert_eq!(look(9), (0, [720, 720], 10));
        assert_eq!(look(10), (3, [720, 10], 720));
        assert_eq!(look(11), (0, [719, 9], 719), "once");
        assert_eq!(look(730), (0, [0, 0], 0));
    }

    #[test]
    fn a_clock_that_is_behind_for_a_while_shortens_no_pause() {
        let (mut memory, urls, behind_ms) = noted_ahead();
        let (before, begun) = (memory.clone(), Instant::now());
        for minutes in [0, 9] {
            let at = begun + Duration::from_mins(minutes);
            assert_eq!(memory.put_back(behind_ms, at, POLL), 0);
        }
        let later = begun + Duration::from_mins(10);
        assert_eq!(memory.put_back(NOW_MS, later, POLL), 0, "it is told the time");
        assert_eq!(memory, before);
        assert_eq!(memory.due_in(&urls, NOW_MS, POLL), POLL);
        // Behind once more, it has to prove itself anew.
        assert_eq!(memory.put_back(behind_ms, later, POLL), 0);
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
