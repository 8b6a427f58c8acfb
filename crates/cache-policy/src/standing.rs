//! What wrong files say about the places that gave them, without a clock and without a network.
//!
//! One wrong file says something about that file at that place: a mirror that was caught between two
//! versions, a project that re-rolled a release. Only several different wrong files say something about
//! the place itself. So a place is asked last for a file that it gave wrongly at once, and for everything
//! only after [`Terms::files_min`] different files.

use std::collections::HashMap;

use crate::UnixMs;

/// Bounds of what is remembered, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How long a wrong file is remembered.
    pub remember_ms: u64,
    /// Different wrong files after which a place is asked last for every file.
    pub files_min: usize,
    /// Places remembered.
    pub places_max: usize,
    /// Files remembered of one place.
    pub files_max: usize,
}

impl Terms {
    /// What production uses.
    pub const DEFAULT: Self =
        Self { remember_ms: 10 * 60 * 1000, files_min: 3, places_max: 1024, files_max: 64 };
}

/// How a place stands when it may be asked for a file. The later ones are asked later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Nothing is held against it.
    Good,
    /// It gave several other files wrongly.
    GaveWrongFiles,
    /// It gave this very file wrongly.
    GaveThisFileWrong,
}

impl Standing {
    /// The standing's name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::GaveWrongFiles => "gave_wrong_files",
            Self::GaveThisFileWrong => "gave_this_file_wrong",
        }
    }
}

/// The wrong files of one place, oldest first.
type WrongFiles = Vec<(String, UnixMs)>;

/// Which places gave which files wrongly lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standings {
    terms: Terms,
    places: HashMap<String, WrongFiles>,
}

impl Standings {
    /// Nothing is held against anybody.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self { terms, places: HashMap::new() }
    }

    /// `place` gave `file` wrongly.
    pub fn note_wrong(&mut self, place: &str, file: &str, now: UnixMs) {
        if !self.places.contains_key(place) && self.places.len() >= self.terms.places_max {
            self.make_room(now);
        }
        let files = self.places.entry(place.to_owned()).or_default();
        files.retain(|(known, at)| known != file && now.since_ms(*at) < self.terms.remember_ms);
        if files.len() >= self.terms.files_max {
            files.remove(0);
        }
        files.push((file.to_owned(), now));
    }

    /// How `place` stands when it is to give `file`.
    #[must_use]
    pub fn of(&self, place: &str, file: &str, now: UnixMs) -> Standing {
        let Some(files) = self.places.get(place) else { return Standing::Good };
        let mut recent = files.iter().filter(|(_, at)| now.since_ms(*at) < self.terms.remember_ms).peekable();
        if recent.peek().is_none() {
            return Standing::Good;
        }
        let (mut count, mut is_this) = (0, false);
        for (known, _) in recent {
            count += 1;
            is_this |= known == file;
        }
        match (is_this, count >= self.terms.files_min) {
            (true, _) => Standing::GaveThisFileWrong,
            (false, true) => Standing::GaveWrongFiles,
            (false, false) => Standing::Good,
        }
    }

    /// Forgets what is over; if that is nothing, the place that behaved longest.
    fn make_room(&mut self, now: UnixMs) {
        let last = |files: &WrongFiles| files.last().map_or(UnixMs::new(i64::MIN), |(_, at)| *at);
        self.places.retain(|_, files| now.since_ms(last(files)) < self.terms.remember_ms);
        if self.places.len() >= self.terms.places_max {
            let oldest =
                self.places.iter().min_by_key(|(_, files)| last(files)).map(|(place, _)| place.clone());
            if let Some(oldest) = oldest {
                self.places.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { remember_ms: 1000, files_min: 3, places_max: 4, files_max: 5 };

    fn at(ms: i64) -> UnixMs {
        UnixMs::new(ms)
    }

    #[test]
    fn one_wrong_file_counts_for_that_file_alone() {
        let mut standings = Standings::new(TERMS);
        standings.note_wrong("m", "a", at(0));
        assert_eq!(standings.of("m", "a", at(1)), Standing::GaveThisFileWrong);
        assert_eq!(standings.of("m", "b", at(1)), Standing::Good);
        assert_eq!(standings.of("n", "a", at(1)), Standing::Good);
        assert_eq!(standings.of("m", "a", at(1000)), Standing::Good, "it is forgotten");
    }

    #[test]
    fn the_same_file_again_and_again_is_still_one_file() {
        let mut standings = Standings::new(TERMS);
        for ms in 0..20 {
            standings.note_wrong("m", "a", at(ms));
        }
        assert_eq!(standings.of("m", "b", at(20)), Standing::Good);
    }

    #[test]
    fn several_different_ones_count_for_everything_until_too_few_are_recent() {
        let mut standings = Standings::new(TERMS);
        for (ms, file) in [(0, "a"), (500, "b"), (600, "c")] {
            assert_eq!(standings.of("m", "z", at(ms)), Standing::Good);
            standings.note_wrong("m", file, at(ms));
        }
        assert_eq!(standings.of("m", "z", at(600)), Standing::GaveWrongFiles);
        assert_eq!(standings.of("m", "a", at(600)), Standing::GaveThisFileWrong);
        assert_eq!(standings.of("m", "z", at(1000)), Standing::Good, "the first one is forgotten");
    }

    #[test]
    fn memory_is_bounded_and_the_newest_is_kept() {
        let mut standings = Standings::new(TERMS);
        for number in 0..100 {
            standings.note_wrong(&format!("m{number}"), "a", at(number));
            for file in 0..20 {
                standings.note_wrong("busy", &format!("{file}"), at(number));
            }
        }
        assert!(standings.places.len() <= TERMS.places_max);
        assert!(standings.places.values().all(|files| files.len() <= TERMS.files_max));
        assert_eq!(standings.of("m99", "a", at(99)), Standing::GaveThisFileWrong);
        assert_eq!(standings.of("busy", "19", at(99)), Standing::GaveThisFileWrong);
    }

    #[test]
    fn a_clock_that_jumps_back_holds_nothing_against_anybody_for_ever() {
        let mut standings = Standings::new(TERMS);
        standings.note_wrong("m", "a", at(1_000_000));
        // Seems to be in the future: counts as just now, and the next note replaces it.
        assert_eq!(standings.of("m", "a", at(0)), Standing::GaveThisFileWrong);
        standings.note_wrong("m", "a", at(0));
        assert_eq!(standings.of("m", "a", at(1000)), Standing::Good);
    }
}
