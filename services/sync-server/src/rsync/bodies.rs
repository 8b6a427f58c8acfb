//! Bodies of replies: compressed and summed for the first client that asks, sent as they are to all others.
//!
//! They lie one behind the other in files without a name, so that nothing of them is left when the process ends,
//! however it ends. There are two: when the younger is full the elder goes, and with it what is only there. A place is
//! never used twice, so whoever knows one reads that body or an error.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rsync_wire::transfer::{BodyForm, KeptBody};
use tree_store::ContentDigest;

/// How many files there are at most.
const SEGMENTS: usize = 2;
/// After a failure, a full disk most likely, nothing is kept for so long.
const PAUSE: Duration = Duration::from_mins(10);
/// As much of a digest as contents are known by: two that agree in it are not found by trying.
const ID_LEN: usize = 16;

type Key = ([u8; ID_LEN], BodyForm);

#[derive(Debug)]
struct Segment {
    file: Arc<File>,
    begin: u64,
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which they were made, which is the one in which most clients ask for them.
    bodies: VecDeque<(Key, KeptBody)>,
    /// How many were before those.
    gone: u64,
    /// The number of each.
    numbers: HashMap<Key, u64>,
    segments: VecDeque<Segment>,
    /// Everything before it is written.
    end: u64,
    paused_until: Option<Instant>,
}

impl State {
    fn get(&self, number: u64) -> Option<&(Key, KeptBody)> {
        self.bodies.get(usize::try_from(number.checked_sub(self.gone)?).ok()?)
    }

    fn forget_before(&mut self, at: u64) {
        while self.bodies.front().is_some_and(|(_, body)| body.at < at) {
            self.bodies.pop_front();
            self.gone += 1;
        }
        let gone = self.gone;
        self.numbers.retain(|_, number| *number >= gone);
    }
}

/// The bodies of all modules.
#[derive(Debug)]
pub(super) struct Bodies {
    dir: PathBuf,
    segment_len_max: u64,
    state: RwLock<State>,
}

impl Bodies {
    /// Keeps up to `octets` in `dir`.
    pub(super) fn new(dir: PathBuf, octets: u64) -> Self {
        Self { dir, segment_len_max: octets / SEGMENTS as u64, state: RwLock::default() }
    }

    /// Where a body is; `next` is a guess at its number, and afterwards that of the one behind it.
    pub(super) fn find(&self, content: &ContentDigest, form: BodyForm, next: &mut u64) -> Option<KeptBody> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let key = key(content, form);
        // A look-up in a table of this size waits for memory; the one behind the last is at hand.
        if state.get(*next).is_none_or(|(guessed, _)| *guessed != key) {
            *next = *state.numbers.get(&key)?;
        }
        let (_, found) = *state.get(*next)?;
        *next += 1;
        Some(found)
    }

    /// What was written from a place on, as far as it goes in that file. Blocking.
    pub(super) fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let mut end = state.end;
        let found = state.segments.iter().rev().find(|segment| {
            let is_in = segment.begin <= at;
            end = if is_in { end } else { segment.begin };
            is_in
        });
        let Segment { file, begin } = found.ok_or(io::ErrorKind::NotFound)?;
        let (file, offset) = (Arc::clone(file), at - begin);
        drop(state);
        let written = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = buf.len().min(written);
        file.read_at(&mut buf[..len], offset)
    }

    /// Blocking.
    pub(super) fn keep(&self, content: &ContentDigest, form: BodyForm, body: &[u8]) {
        let len = body.len() as u64;
        if len > self.segment_len_max {
            return;
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let key = key(content, form);
        let is_paused = state.paused_until.is_some_and(|until| Instant::now() < until);
        if is_paused || state.numbers.contains_key(&key) {
            return;
        }
        if let Err(error) = self.append(&mut state, body) {
            tracing::warn!(
                dir = %self.dir.display(), %error,
                "rsync: compressed files can't be kept for the next client; each is compressed anew for a while"
            );
            // What space they took is free again.
            state.segments.clear();
            state.forget_before(u64::MAX);
            state.paused_until = Some(Instant::now() + PAUSE);
            return;
        }
        let (at, number) = (state.end, state.gone + state.bodies.len() as u64);
        state.end += len;
        state.numbers.insert(key, number);
        state.bodies.push_back((key, KeptBody { at, len: body.len() }));
    }

    /// Under the lock, so that everything before [`State::end`] is there for those who read ahead.
    fn append(&self, state: &mut State, body: &[u8]) -> io::Result<()> {
        let len = body.len() as u64;
        let is_full = |segment: &Segment| state.end - segment.begin + len > self.segment_len_max;
        if state.segments.back().is_none_or(is_full) {
            let file = Arc::new(tempfile::tempfile_in(&self.dir)?);
            state.segments.push_back(Segment { file, begin: state.end });
            if state.segments.len() > SEGMENTS {
                state.segments.pop_front();
                let first = state.segments.front().map_or(state.end, |segment| segment.begin);
                state.forget_before(first);
            }
        }
        let Some(segment) = state.segments.back() else { return Ok(()) };
        segment.file.write_all_at(body, state.end - segment.begin)
    }
}

fn key(content: &ContentDigest, form: BodyForm) -> Key {
    let mut id = [0; ID_LEN];
    id.copy_from_slice(&content.as_bytes()[..ID_LEN]);
    (id, form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsync_wire::compress::CompressorKind;
    use rsync_wire::sums::ChecksumKind;

    const FORM: BodyForm = BodyForm { compressor: CompressorKind::Zstd, checksum: ChecksumKind::Xxh128 };

    fn digest(number: u8) -> ContentDigest {
        ContentDigest::new([number; 64])
    }

    fn body_of(bodies: &Bodies, number: u8, form: BodyForm) -> Option<Vec<u8>> {
        let KeptBody { at, len } = bodies.find(&digest(number), form, &mut 0)?;
        let mut body = vec![0; len];
        let mut done = 0;
        while done < len {
            done += bodies.read_at(at + done as u64, &mut body[done..]).unwrap();
        }
        Some(body)
    }

    #[test]
    fn what_is_kept_is_found_in_its_own_form_only() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::new(dir.path().to_owned(), 1 << 20);
        bodies.keep(&digest(1), FORM, b"first");
        bodies.keep(&digest(2), FORM, b"second");
        bodies.keep(&digest(1), FORM, b"never");
        assert_eq!(body_of(&bodies, 1, FORM).unwrap(), b"first");
        assert_eq!(body_of(&bodies, 2, FORM).unwrap(), b"second");
        let other = BodyForm { checksum: ChecksumKind::Md5, ..FORM };
        assert_eq!(body_of(&bodies, 1, other), None);
        let mut ahead = [0; 64];
        assert_eq!(bodies.read_at(2, &mut ahead).unwrap(), 9, "no further than what is written");
        assert_eq!(&ahead[..9], b"rstsecond");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing has a name");
    }

    #[test]
    fn the_elder_half_goes_and_its_places_are_not_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::new(dir.path().to_owned(), 20);
        for number in 0..6 {
            bodies.keep(&digest(number), FORM, &[number; 5]);
        }
        assert_eq!(bodies.state.read().unwrap().segments.len(), 2);
        let is_kept: Vec<bool> = (0..6).map(|number| body_of(&bodies, number, FORM).is_some()).collect();
        assert_eq!(is_kept, [false, false, true, true, true, true]);
        assert_eq!(body_of(&bodies, 5, FORM).unwrap(), [5; 5]);
        assert_eq!(bodies.read_at(0, &mut [0; 5]).unwrap_err().kind(), io::ErrorKind::NotFound);
        bodies.keep(&digest(7), FORM, &[7; 11]);
        assert_eq!(body_of(&bodies, 7, FORM), None, "larger than half of the room");
    }

    #[test]
    fn a_guess_helps_or_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::new(dir.path().to_owned(), 1 << 20);
        for number in 0..9 {
            bodies.keep(&digest(number), FORM, &[number]);
        }
        for (guess, wanted) in [(0, 0), (0, 5), (5, 5), (7, 2), (u64::MAX - 1, 8)] {
            let mut next = guess;
            let found = bodies.find(&digest(wanted), FORM, &mut next).unwrap();
            assert_eq!((found.at, next), (wanted.into(), u64::from(wanted) + 1));
        }
        let mut next = 3;
        assert_eq!(bodies.find(&digest(99), FORM, &mut next), None);
        assert_eq!(next, 3, "what is not there says nothing about what comes next");
    }

    #[test]
    fn a_disk_that_takes_nothing_only_costs_the_keeping() {
        let bodies = Bodies::new(PathBuf::from("/nonexistent"), 1 << 20);
        bodies.keep(&digest(1), FORM, b"x");
        assert_eq!(bodies.find(&digest(1), FORM, &mut 0), None);
        assert!(bodies.state.read().unwrap().paused_until.is_some());
        bodies.keep(&digest(1), FORM, b"x");
        assert_eq!(bodies.find(&digest(1), FORM, &mut 0), None);
    }
}
