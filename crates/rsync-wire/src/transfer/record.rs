//! What became of requests, for a log of transfers.

use super::ItemFlags;
use crate::NodeKind;
use crate::flist::Entry;
use crate::sums::{ChecksumKind, ChecksumOctets};

/// How much is told to a log; each step includes those before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Records {
    /// Nothing.
    #[default]
    Nothing,
    /// What could not be sent.
    Failures,
    /// Files of which contents were sent.
    Contents,
    /// Directories, links and files of which something else was wanted, too.
    Items,
}

/// One thing that was done for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A request was answered.
    Answered(Answered),
    /// A text that the client got about a file.
    Failure(String),
}

/// A request that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// What it was about.
    pub entry: Entry,
    /// What the client wanted of it.
    pub flags: ItemFlags,
    /// Octets that were written for it, those that describe it included; 0 without contents.
    pub written: u64,
    /// Octets that the client sent to describe what it has; 0 without contents.
    pub described: u64,
    /// The checksum of what was sent, and how it was made.
    pub checksum: Option<(ChecksumKind, ChecksumOctets)>,
}

impl Answered {
    /// What was asked for, as `--itemize-changes` shows it. `keeps_times`: the client takes over times of files.
    #[must_use]
    pub fn itemized(&self, kind: NodeKind, keeps_times: bool) -> String {
        self.flags.itemized(kind, keeps_times)
    }

    /// The checksum as stock rsync shows it: those of the xxhash family as one number, highest digit first. Empty if
    /// there is none to show.
    #[must_use]
    pub fn checksum_text(&self) -> String {
        let Some((kind, sum)) = self.checksum else { return String::new() };
        match kind {
            ChecksumKind::Xxh128 | ChecksumKind::Xxh3 | ChecksumKind::Xxh64 => {
                hex(sum.as_slice().iter().rev())
            }
            ChecksumKind::Md5 | ChecksumKind::Sha1 | ChecksumKind::Md4 => hex(sum.as_slice().iter()),
            // A seeded sum says nothing about the file, and one octet of nothing says nothing at all.
            ChecksumKind::SeededMd4 { .. } | ChecksumKind::None => String::new(),
        }
    }
}

fn hex<'a>(octets: impl Iterator<Item = &'a u8>) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    octets.flat_map(|octet| [digit(octet >> 4), digit(octet & 0xF)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;

    fn shown(flags: u16, kind: NodeKind) -> String {
        ItemFlags::new(flags).itemized(kind, true)
    }

    /// Each of these was seen in the log or the output of stock rsync.
    #[test]
    fn items_look_like_those_of_rsync() {
        use NodeKind::{Directory, File, Symlink};
        for (flags, kind, expected) in [
            (0xA000, File, "<f+++++++++"),
            (0x6000, Directory, "cd+++++++++"),
            (0x6002, Symlink, "cL+++++++++"),
            (0x8008, File, "<f..t......"),
            (0x800C, File, "<f.st......"),
            (0x800E, File, "<fcst......"),
            (0x0010, File, ".f...p....."),
            (0x0008, Directory, ".d..t......"),
            (0x0060, Directory, ".d....og..."),
            (0x4002, Symlink, "cLc........"),
            (0x0000, File, ".f         "),
        ] {
            assert_eq!(shown(flags, kind), expected, "{flags:#06x}");
        }
        assert_eq!(ItemFlags::new(0x800C).itemized(File, false), "<f.sT......");
    }

    #[test]
    fn checksums_are_shown_as_rsync_does() {
        let of = |kind: ChecksumKind, octets: &[u8]| Answered {
            entry: Entry { node: NodeId::new(0), is_file: true, depth: 1, size: 0 },
            flags: ItemFlags::new(0xA000),
            written: 0,
            described: 0,
            checksum: Some((kind, kind.of(octets))),
        };
        let text = |kind, octets: &[u8]| of(kind, octets).checksum_text();
        assert_eq!(text(ChecksumKind::Xxh128, b""), "99aa06d3014798d86001c324468d497f");
        assert_eq!(text(ChecksumKind::Md5, b"y\n"), "009520053b00386d1173f3988c55d192");
        assert_eq!(text(ChecksumKind::SeededMd4 { seed: 1 }, b""), "");
        assert_eq!(text(ChecksumKind::None, b""), "");
    }
}
