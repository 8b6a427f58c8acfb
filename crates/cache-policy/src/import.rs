//! What becomes of a file in a directory that is imported.
//!
//! Decided before its bytes are read, from what is known of it by then; the bytes have the last word.
//! Whatever is not certain is left where it is and told with a reason.

use crate::UnixMs;

/// What kind of thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A plain file.
    File,
    /// A symbolic link: whatever it leads to is somebody else's.
    Link,
    /// A directory, device, socket or pipe.
    Other,
}

/// What its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    /// It can be a distfile's.
    Distfile,
    /// Portage calls a download so that is not finished.
    Part,
    /// It can't be a distfile's, or is no UTF-8.
    Bad,
}

impl NameKind {
    /// What a name that is UTF-8 says; `is_distfile`: whether it can be a distfile's at all.
    #[must_use]
    pub fn of(name: &str, is_distfile: bool) -> Self {
        // Portage's own suffix, and the one of the lock that it keeps beside a download.
        if name.ends_with(".__download__") || name.ends_with(".portage_lockfile") {
            Self::Part
        } else if is_distfile {
            Self::Distfile
        } else {
            Self::Bad
        }
    }
}

/// What was changed less than this before is taken for being written.
pub const SETTLED_AFTER_MS: u64 = 60 * 1000;

/// What a file's times say of whether somebody still writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Writing {
    /// Nobody has for a while.
    Settled,
    /// Somebody just did.
    Recent,
    /// They were not made by this clock: whether it changes has to be seen.
    Untold,
}

impl Writing {
    /// A file that was modified and whose inode was changed then. Programs set the first as they like (`cp -p`), and only
    /// the file system sets the second; where the first is possible it counts, because a new name changes the second.
    #[must_use]
    pub fn judge(modified: UnixMs, changed: UnixMs, now: UnixMs) -> Self {
        let Some(last) = [modified, changed].into_iter().find(|at| *at <= now) else {
            return Self::Untold;
        };
        if now.since_ms(last) >= SETTLED_AFTER_MS { Self::Settled } else { Self::Recent }
    }
}

/// A file as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// What it is.
    pub kind: Kind,
    /// What its name says.
    pub name: NameKind,
    /// Its length.
    pub size_bytes: u64,
    /// Whether nobody has written to it for a while.
    pub is_settled: bool,
    /// Whether it is to be removed once it is stored, whichever import stored it.
    pub is_to_go: bool,
}

/// What a tree says of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The length.
    pub size_bytes: u64,
    /// Whether there is a digest that can be checked.
    pub is_verifiable: bool,
}

/// What the store has of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Nothing.
    Nothing,
    /// What the tree lists.
    AsListed,
    /// Something else.
    Otherwise,
}

/// What is to be done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Copy and verify it; right, it is stored under its name.
    Adopt,
    /// Compare it with what is stored under its name.
    Compare {
        /// What it is if it is not the same.
        differs: Outcome,
        /// Whether it goes if it is the same.
        is_to_go: bool,
    },
    /// Leave it alone, for this reason.
    Leave(Outcome),
}

/// What became of a file; in a dry run, what would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Stored under its name.
    Adopted,
    /// Stored under its name, compared with what is stored, and removed.
    Removed,
    /// Stored under its name; it could not be removed, or changed before it was.
    AdoptedNotRemoved,
    /// It was stored before, byte for byte.
    AlreadyStored,
    /// It was stored before, byte for byte, and is removed.
    StoredRemoved,
    /// It was stored before, byte for byte; it could not be removed, or changed before it was.
    StoredNotRemoved,
    /// Its name is stored with other bytes.
    StoredDiffers,
    /// No tree knows the name.
    Unknown,
    /// It is not what the tree says: length or digest.
    Damaged,
    /// The tree has no digest for it that could be checked.
    Unverifiable,
    /// It is being written, or was a moment ago.
    Growing,
    /// A download that Portage has not finished.
    Part,
    /// A symbolic link.
    Link,
    /// A directory, device, socket or pipe.
    NotAFile,
    /// The name can't be a distfile's, or is no UTF-8.
    BadName,
    /// It does not fit into the cache.
    NoRoom,
    /// It could not be read or stored.
    Failed,
}

/// How a file counts in the few words of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Adopted,
    Known,
    Unknown,
    Differing,
    Failed,
}

/// The sum of an import in a few words. Each file is in one of the first five.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Stored by it.
    pub adopted: u64,
    /// Stored before.
    pub known: u64,
    /// Left: no tree has the name, or it can't be one.
    pub unknown: u64,
    /// Left: not what the tree says, or still changing.
    pub differing: u64,
    /// Left: could not be read, verified or stored.
    pub failed: u64,
    /// What is adopted, in octets.
    pub adopted_bytes: u64,
    /// Of what is adopted or known: removed from the directory.
    pub removed: u64,
}

impl Counts {
    /// Sums up numbers of outcomes, each with its files and octets. A number that nobody knows is a failure.
    #[must_use]
    pub fn of(tallies: impl IntoIterator<Item = (i32, u64, u64)>) -> Self {
        let mut counts = Self::default();
        for (number, files, bytes) in tallies {
            let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.number() == number);
            let count = match outcome.map_or(Class::Failed, Outcome::class) {
                Class::Adopted => {
                    counts.adopted_bytes = counts.adopted_bytes.saturating_add(bytes);
                    &mut counts.adopted
                }
                Class::Known => &mut counts.known,
                Class::Unknown => &mut counts.unknown,
                Class::Differing => &mut counts.differing,
                Class::Failed => &mut counts.failed,
            };
            *count = count.saturating_add(files);
            if matches!(outcome, Some(Outcome::Removed | Outcome::StoredRemoved)) {
                counts.removed = counts.removed.saturating_add(files);
            }
        }
        counts
    }
}

impl Outcome {
    /// Each of them.
    pub const ALL: [Self; 17] = [
        Self::Adopted,
        Self::Removed,
        Self::AdoptedNotRemoved,
        Self::AlreadyStored,
        Self::StoredRemoved,
        Self::StoredNotRemoved,
        Self::StoredDiffers,
        Self::Unknown,
        Self::Damaged,
        Self::Unverifiable,
        Self::Growing,
        Self::Part,
        Self::Link,
        Self::NotAFile,
        Self::BadName,
        Self::NoRoom,
        Self::Failed,
    ];

    /// Its number wherever it is sent or stored, as in `rookery.v1.ImportOutcome`.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Adopted => 1,
            Self::Removed => 2,
            Self::AdoptedNotRemoved => 3,
            Self::AlreadyStored => 4,
            Self::StoredDiffers => 5,
            Self::Unknown => 6,
            Self::Damaged => 7,
            Self::Unverifiable => 8,
            Self::Growing => 9,
            Self::Part => 10,
            Self::Link => 11,
            Self::NotAFile => 12,
            Self::BadName => 13,
            Self::NoRoom => 14,
            Self::Failed => 15,
            Self::StoredRemoved => 16,
            Self::StoredNotRemoved => 17,
        }
    }

    const fn class(self) -> Class {
        match self {
            Self::Adopted | Self::Removed | Self::AdoptedNotRemoved => Class::Adopted,
            Self::AlreadyStored | Self::StoredRemoved | Self::StoredNotRemoved => Class::Known,
            Self::Unknown | Self::Part | Self::Link | Self::NotAFile | Self::BadName => Class::Unknown,
            Self::StoredDiffers | Self::Damaged | Self::Growing => Class::Differing,
            Self::Unverifiable | Self::NoRoom | Self::Failed => Class::Failed,
        }
    }

    /// The word for logs, metrics and the operator.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Adopted => "adopted",
            Self::Removed => "adopted_and_removed",
            Self::AdoptedNotRemoved => "adopted_not_removed",
            Self::AlreadyStored => "already_stored",
            Self::StoredRemoved => "already_stored_and_removed",
            Self::StoredNotRemoved => "already_stored_not_removed",
            Self::StoredDiffers => "stored_differs",
            Self::Unknown => "unknown",
            Self::Damaged => "damaged",
            Self::Unverifiable => "unverifiable",
            Self::Growing => "growing",
            Self::Part => "part",
            Self::Link => "link",
            Self::NotAFile => "not_a_file",
            Self::BadName => "bad_name",
            Self::NoRoom => "no_room",
            Self::Failed => "failed",
        }
    }

    /// Whether the store has the file's contents because of this import or one before it.
    #[must_use]
    pub const fn is_stored(self) -> bool {
        matches!(
            self,
            Self::Adopted
                | Self::Removed
                | Self::AdoptedNotRemoved
                | Self::AlreadyStored
                | Self::StoredRemoved
                | Self::StoredNotRemoved
        )
    }
}

/// Decides about one file. `listed`: what a tree says of its name.
#[must_use]
pub fn plan_import(sighting: &Sighting, listed: Option<Listed>, stored: Stored) -> Plan {
    match (sighting.kind, sighting.name) {
        (Kind::Link, _) => return Plan::Leave(Outcome::Link),
        (Kind::Other, _) => return Plan::Leave(Outcome::NotAFile),
        (Kind::File, NameKind::Part) => return Plan::Leave(Outcome::Part),
        (Kind::File, NameKind::Bad) => return Plan::Leave(Outcome::BadName),
        (Kind::File, NameKind::Distfile) => {}
    }
    match (listed, stored) {
        (None, Stored::Nothing) => Plan::Leave(Outcome::Unknown),
        // Nothing says that what is stored is right by today's trees, so the file may be the better one.
        (None, Stored::AsListed | Stored::Otherwise) => plan_comparison(sighting, false),
        // As in an adoption: whoever has just written it may be about to use it.
        (Some(_), Stored::AsListed) if sighting.is_to_go && !sighting.is_settled => {
            Plan::Leave(Outcome::Growing)
        }
        (Some(_), Stored::AsListed) => plan_comparison(sighting, sighting.is_to_go),
        (Some(listed), Stored::Nothing | Stored::Otherwise) => plan_adoption(sighting, listed),
    }
}

fn plan_comparison(sighting: &Sighting, is_to_go: bool) -> Plan {
    let differs = if sighting.is_settled { Outcome::StoredDiffers } else { Outcome::Growing };
    Plan::Compare { differs, is_to_go }
}

fn plan_adoption(sighting: &Sighting, listed: Listed) -> Plan {
    let is_whole = sighting.size_bytes == listed.size_bytes;
    if !listed.is_verifiable {
        Plan::Leave(Outcome::Unverifiable)
    } else if !sighting.is_settled && (sighting.is_to_go || !is_whole) {
        // Whoever has just written it may be about to use it, so it is not taken away from there.
        Plan::Leave(Outcome::Growing)
    } else if is_whole {
        Plan::Adopt
    } else {
        Plan::Leave(Outcome::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Sighting = Sighting {
        kind: Kind::File,
        name: NameKind::Distfile,
        size_bytes: 10,
        is_settled: true,
        is_to_go: false,
    };
    const LISTED: Option<Listed> = Some(Listed { size_bytes: 10, is_verifiable: true });

    #[test]
    fn what_a_tree_lists_and_nobody_has_is_adopted() {
        for stored in [Stored::Nothing, Stored::Otherwise] {
            assert_eq!(plan_import(&FILE, LISTED, stored), Plan::Adopt);
            let fresh = Sighting { is_settled: false, ..FILE };
            assert_eq!(plan_import(&fresh, LISTED, stored), Plan::Adopt, "its digest is enough");
            let fresh = Sighting { is_to_go: true, ..fresh };
            assert_eq!(plan_import(&fresh, LISTED, stored), Plan::Leave(Outcome::Growing));
        }
    }

    #[test]
    fn what_is_stored_is_compared_and_never_taken_for_granted() {
        let compare = Plan::Compare { differs: Outcome::StoredDiffers, is_to_go: false };
        assert_eq!(plan_import(&FILE, LISTED, Stored::AsListed), compare);
        assert_eq!(plan_import(&FILE, None, Stored::Otherwise), compare);
        let other = Sighting { size_bytes: 9, ..FILE };
        assert_eq!(plan_import(&other, LISTED, Stored::AsListed), compare);
        let fresh = Sighting { is_settled: false, ..other };
        let compare = Plan::Compare { differs: Outcome::Growing, is_to_go: false };
        assert_eq!(plan_import(&fresh, LISTED, Stored::AsListed), compare);
    }

    #[test]
    fn what_is_stored_goes_only_if_a_tree_lists_it_and_nobody_is_writing() {
        let to_go = Sighting { is_to_go: true, ..FILE };
        let differs = Outcome::StoredDiffers;
        let compare = |is_to_go| Plan::Compare { differs, is_to_go };
        assert_eq!(plan_import(&to_go, LISTED, Stored::AsListed), compare(true));
        assert_eq!(plan_import(&to_go, None, Stored::Otherwise), compare(false), "no tree lists it");
        let fresh = Sighting { is_settled: false, ..to_go };
        assert_eq!(plan_import(&fresh, LISTED, Stored::AsListed), Plan::Leave(Outcome::Growing));
    }

    #[test]
    fn everything_else_is_left_with_a_reason() {
        let left = |sighting: Sighting, listed, stored| match plan_import(&sighting, listed, stored) {
            Plan::Leave(outcome) => outcome,
            plan @ (Plan::Adopt | Plan::Compare { .. }) => panic!("{plan:?}"),
        };
        let none = Stored::Nothing;
        assert_eq!(left(FILE, None, none), Outcome::Unknown);
        let short = Sighting { size_bytes: 9, ..FILE };
        assert_eq!(left(short, LISTED, none), Outcome::Damaged);
        assert_eq!(left(Sighting { is_settled: false, ..short }, LISTED, none), Outcome::Growing);
        let unverifiable = Some(Listed { size_bytes: 10, is_verifiable: false });
        assert_eq!(left(FILE, unverifiable, none), Outcome::Unverifiable);
        for (kind, outcome) in [(Kind::Link, Outcome::Link), (Kind::Other, Outcome::NotAFile)] {
            assert_eq!(left(Sighting { kind, ..FILE }, LISTED, none), outcome);
        }
        for (name, outcome) in [(NameKind::Part, Outcome::Part), (NameKind::Bad, Outcome::BadName)] {
            assert_eq!(left(Sighting { name, ..FILE }, LISTED, Stored::AsListed), outcome);
        }
    }

    #[test]
    fn a_time_in_the_future_says_nothing() {
        let now = UnixMs::new(1_700_000_000_000);
        let judge = |modified_ms: i64, changed_ms: i64| {
            let at = |ms| UnixMs::new(now.get() + ms);
            Writing::judge(at(modified_ms), at(changed_ms), now)
        };
        for (modified, changed, expected) in [
            (-60_000, 0, Writing::Settled),
            (-59_999, -90_000, Writing::Recent),
            (0, -90_000, Writing::Recent),
            // Copied with the time that the original has.
            (1, -60_000, Writing::Settled),
            (i64::MAX / 4, -59_999, Writing::Recent),
            // And the clock was put back since.
            (1, 1, Writing::Untold),
        ] {
            assert_eq!(judge(modified, changed), expected, "{modified} {changed}");
        }
    }

    #[test]
    fn a_part_is_told_by_its_suffix() {
        assert_eq!(NameKind::of("a.tar.__download__", true), NameKind::Part);
        assert_eq!(NameKind::of(".a.tar.portage_lockfile", true), NameKind::Part);
        assert_eq!(NameKind::of("a.tar", true), NameKind::Distfile);
        assert_eq!(NameKind::of("", false), NameKind::Bad);
    }

    #[test]
    fn every_file_is_counted_once() {
        // Two numbers that nobody knows: none, and one of a later release.
        let numbers = Outcome::ALL.into_iter().map(Outcome::number).chain([0, 99]);
        let counts = Counts::of(numbers.clone().chain(numbers).map(|number| (number, 1, 7)));
        let sum = counts.adopted + counts.known + counts.unknown + counts.differing + counts.failed;
        assert_eq!((sum, counts.adopted, counts.adopted_bytes, counts.removed), (38, 6, 42, 4));
        assert_eq!((counts.known, counts.unknown, counts.differing, counts.failed), (6, 10, 6, 10));
        let most = Counts::of([(1, u64::MAX, u64::MAX), (2, 1, 1)]);
        assert_eq!((most.adopted, most.adopted_bytes), (u64::MAX, u64::MAX));
    }
}
