//! Why a tree must not be published: each fault by itself, within a bound.

use std::fmt;

use crate::TreeError;

/// More faults are counted and not kept.
pub const FAULTS_MAX: usize = 10_000;

/// Nor are they once the texts of those that are kept have so many octets.
pub const TEXT_OCTETS_MAX: usize = 2 << 20;

/// What kind of fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// The whole tree: there is nothing in it.
    Empty,
    /// A time that is missing, can't be read, or is older than what is served.
    Timestamp,
    /// The top-level Manifest's signature, or whose it is.
    Signature,
    /// A Manifest, or a line of it, that can't be read.
    Manifest,
    /// Two lines for one path that don't go together.
    Contradiction,
    /// A file of another size than listed.
    Size,
    /// A file with another digest than listed, or with none that counts.
    Digest,
    /// Listed and not there.
    Missing,
    /// There and not listed.
    Stray,
    /// A symbolic link that can't be published.
    Link,
    /// A name that no Manifest can list.
    Name,
    /// Contents that could not be read.
    Unreadable,
    /// Metadata that does not fit together.
    Metadata,
}

impl FaultKind {
    /// The word for it in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Timestamp => "timestamp",
            Self::Signature => "signature",
            Self::Manifest => "manifest",
            Self::Contradiction => "contradiction",
            Self::Size => "size",
            Self::Digest => "digest",
            Self::Missing => "missing",
            Self::Stray => "stray",
            Self::Link => "link",
            Self::Name => "name",
            Self::Unreadable => "unreadable",
            Self::Metadata => "metadata",
        }
    }
}

/// One thing that is wrong with a tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The path within the tree; octets that are not text, and characters that steer a terminal, are escaped.
    pub path: String,
    /// The line of it, from 1; 0 if it is not about a line.
    pub line: usize,
    /// Of which kind.
    pub kind: FaultKind,
    /// In words.
    pub why: String,
    /// What should have been found: a size, or an algorithm and a digest. Mostly empty.
    pub expected: String,
    /// What was found instead.
    pub found: String,
}

impl Fault {
    /// A fault of all of what lies at `path`.
    #[must_use]
    pub fn new(kind: FaultKind, path: impl AsRef<[u8]>, why: impl Into<String>) -> Self {
        let (path, why) = (printable(path.as_ref()), printable(why.into().as_bytes()));
        Self { path, line: 0, kind, why, expected: String::new(), found: String::new() }
    }

    pub(crate) fn at(mut self, line: usize) -> Self {
        self.line = line;
        self
    }

    pub(crate) fn expected(mut self, expected: String) -> Self {
        self.expected = expected;
        self
    }

    pub(crate) fn found(mut self, found: String) -> Self {
        self.found = found;
        self
    }

    fn octets(&self) -> usize {
        self.path.len() + self.why.len() + self.expected.len() + self.found.len()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, why, .. } = self;
        if *line == 0 { write!(f, "{path}: {why}") } else { write!(f, "{path}:{line}: {why}") }
    }
}

/// Whoever makes a tree chooses its names: none of them may look like anything else, or reach a terminal.
fn printable(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for chunk in octets.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    text
}

/// The faults that were found so far.
#[derive(Debug, Default)]
pub struct Faults {
    kept: Vec<Fault>,
    octets: usize,
    count: u64,
}

impl Faults {
    /// One more.
    pub fn push(&mut self, fault: Fault) {
        self.count += 1;
        let octets = self.octets + fault.octets();
        if self.kept.len() < FAULTS_MAX && octets <= TEXT_OCTETS_MAX {
            self.octets = octets;
            self.kept.push(fault);
        }
    }

    /// All of another list, with those that it only counted.
    pub fn extend(&mut self, refusal: Refusal) {
        let more = refusal.count - refusal.faults.len() as u64;
        refusal.faults.into_iter().for_each(|fault| self.push(fault));
        self.count += more;
    }

    /// All of them, with another list's after them.
    #[must_use]
    pub fn followed_by(mut self, refusal: Refusal) -> Refusal {
        self.extend(refusal);
        Refusal { faults: self.kept, count: self.count }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Nothing, if nothing is wrong.
    ///
    /// # Errors
    /// [`TreeError::Refused`] with all of them.
    pub fn refuse(self) -> Result<(), TreeError> {
        if self.is_empty() {
            return Ok(());
        }
        Err(TreeError::Refused(Refusal { faults: self.kept, count: self.count }))
    }
}

/// Why a tree must not be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    faults: Vec<Fault>,
    count: u64,
}

impl Refusal {
    /// The faults, those that others may follow from first; at most [`FAULTS_MAX`].
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// How many there are, those that were not kept included.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self { faults: vec![fault], count: 1 }
    }
}

/// The first fault, and how many more there are.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(first) = self.faults.first() {
            write!(f, "{first}")?;
        }
        match self.count {
            0 | 1 => Ok(()),
            2 => f.write_str(" (and 1 more fault)"),
            count => write!(f, " (and {} more faults)", count - 1),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(faults: Faults) -> Refusal {
        match faults.refuse() {
            Err(TreeError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_kept_is_counted() {
        let mut faults = Faults::default();
        for number in 0..FAULTS_MAX + 5 {
            faults.push(Fault::new(FaultKind::Stray, number.to_string(), "in no Manifest"));
        }
        let refusal = refused(faults);
        assert_eq!((refusal.faults().len(), refusal.count()), (FAULTS_MAX, FAULTS_MAX as u64 + 5));
        assert_eq!(refusal.to_string(), "0: in no Manifest (and 10004 more faults)");

        let mut faults = Faults::default();
        faults.push(Fault::new(FaultKind::Empty, "the tree", "empty"));
        faults.extend(refusal);
        assert_eq!(refused(faults).count(), FAULTS_MAX as u64 + 6);

        let mut faults = Faults::default();
        for _ in 0..3 {
            faults.push(Fault::new(FaultKind::Stray, "a", "x".repeat(TEXT_OCTETS_MAX / 2 - 1)));
        }
        let refusal = refused(faults);
        assert_eq!((refusal.faults().len(), refusal.count()), (2, 3));
        assert!(Faults::default().refuse().is_ok());
    }

    #[test]
    fn a_fault_reads_as_path_line_and_reason_and_steers_no_terminal() {
        let fault = Fault::new(FaultKind::Name, b"a/\xff\x1b[2J\n\xc3\xa4", "odd").at(3);
        assert_eq!(fault.to_string(), "a/\\xff\\u{1b}[2J\\n\u{e4}:3: odd");
        assert_eq!(Refusal::from(fault).to_string(), "a/\\xff\\u{1b}[2J\\n\u{e4}:3: odd");
    }
}
