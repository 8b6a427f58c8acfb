//! What the source's nodes looked like when their contents were read, so that the next build re-reads
//! only what changed. A hint beside an index, never a part of it: lost or damaged, everything is read
//! once more.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::codec::{self, Misfit, Reader, Writer};
use crate::source::{Look, Stat};

/// Magic and version.
pub(crate) const KIND: ([u8; 8], u32) = (*b"ROOKSEEN", 2);
const ENTRY_BYTES: usize = 8 + 4 + 8;

/// A file changed this short before we looked may change again without getting another ctime: kernels
/// stamp files by a tick of up to 10 ms, and some file systems only by the second or two.
const TICK: Duration = Duration::from_millis(50);
const COARSE_TICK: Duration = Duration::from_secs(3);

/// (ctime, inode) of each node, by position in the generation's index; size and mtime are there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sightings {
    entries: Vec<Option<(i64, u32, u64)>>,
}

impl Sightings {
    /// From the look that a generation was built of, taken at `started`.
    pub(crate) fn new(look: &Look, started: SystemTime) -> Self {
        let entries = look.seen.iter().map(|seen| entry(&seen.stat, started)).collect();
        Self { entries }
    }

    /// Of nothing.
    pub(crate) fn none() -> Self {
        Self { entries: Vec::new() }
    }

    /// Whether the node at `position` had this ctime and inode when its content was read.
    pub(crate) fn fits(&self, position: usize, stat: &Stat) -> bool {
        self.entries.get(position).copied().flatten() == Some((stat.ctime_s, stat.ctime_ns, stat.inode))
    }

    pub(crate) fn encode(&self, number: u64, source: &Path) -> std::io::Result<Vec<u8>> {
        let mut out = Writer::new(KIND);
        out.u64(number);
        out.bytes(source.as_os_str().as_bytes());
        out.count(self.entries.len());
        for entry in &self.entries {
            // No inode has the number 0.
            let (seconds, nanoseconds, inode) = entry.unwrap_or_default();
            out.i64(seconds);
            out.u32(nanoseconds);
            out.u64(inode);
        }
        out.finish()
    }

    pub(crate) fn decode(frame: &[u8], number: u64, source: &Path) -> Result<Self, Misfit> {
        let body = codec::unseal(KIND, frame)?;
        let mut fields = Reader::new(&body);
        if fields.u64()? != number || fields.bytes()? != source.as_os_str().as_bytes() {
            return Err("of another generation or source");
        }
        let count = fields.count(ENTRY_BYTES)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let entry = (fields.i64()?, fields.u32()?, fields.u64()?);
            entries.push((entry.2 != 0).then_some(entry));
        }
        fields.end()?;
        Ok(Self { entries })
    }
}

fn entry(stat: &Stat, started: SystemTime) -> Option<(i64, u32, u64)> {
    let tick = if stat.ctime_ns == 0 { COARSE_TICK } else { TICK };
    let settled = started.checked_sub(tick)?.duration_since(UNIX_EPOCH).ok()?;
    let ctime = Duration::new(u64::try_from(stat.ctime_s).ok()?, stat.ctime_ns);
    (ctime < settled).then_some((stat.ctime_s, stat.ctime_ns, stat.inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(seconds: i64, nanoseconds: u32) -> Stat {
        Stat {
            mode: 0o100_644,
            size: 1,
            mtime_s: 0,
            mtime_ns: 0,
            ctime_s: seconds,
            ctime_ns: nanoseconds,
            inode: 9,
            owner: crate::owners::Owner::default(),
            links_device: 0,
        }
    }

    #[test]
    fn a_file_that_just_changed_is_read_again() {
        let started = UNIX_EPOCH + Duration::from_secs(1000);
        assert!(entry(&stat(999, 1), started).is_some());
        assert!(entry(&stat(999, 990_000_000), started).is_none());
        assert!(entry(&stat(998, 0), started).is_none(), "whole seconds: a coarse clock");
        assert!(entry(&stat(990, 0), started).is_some());
        assert!(entry(&stat(2000, 1), started).is_none(), "from the future");
    }

    #[test]
    fn sightings_belong_to_one_generation_and_source() {
        let sightings = Sightings { entries: vec![None, Some((5, 6, 7))] };
        let frame = sightings.encode(3, Path::new("/a")).unwrap();
        assert_eq!(Sightings::decode(&frame, 3, Path::new("/a")), Ok(sightings));
        assert!(Sightings::decode(&frame, 4, Path::new("/a")).is_err());
        assert!(Sightings::decode(&frame, 3, Path::new("/b")).is_err());
    }
}
