//! Block matching (section 10): which parts of a file the client has already, by the sums that it sent.
//!
//! What a client sends decides how much work this is, so the work is bounded: a file costs a few times its size, and
//! then the rest is sent as literals, which is always right. So is a wrong match: the whole file's sum tells.

use super::request::SumHead;
use crate::limits::READ_LEN_MAX;
use crate::sums::BlockChecksum;
use crate::{NodeId, TreeView};
use std::io;

/// Steps of work that a file may cost, for each of its octets: its own sum for each block is one.
const STEPS_PER_OCTET: u64 = 6;
const STEPS_MIN: u64 = 1 << 20;
/// Blocks of equal rolling sums that are looked at for one place in the file.
const CANDIDATES_MAX: usize = 64;
const NO_BLOCK: u32 = u32::MAX;

/// The sums of a client's blocks, as they came: a rolling sum and a part of a strong one for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSums {
    pub(super) head: SumHead,
    pub(super) octets: Vec<u8>,
}

impl BlockSums {
    pub(super) fn block_len(&self) -> usize {
        self.head.block_len()
    }

    fn stride(&self) -> usize {
        4 + self.head.strong_len()
    }

    fn rolling(&self, block: usize) -> Option<u32> {
        let at = block * self.stride();
        let octets = self.octets.get(at..at + 4)?;
        octets.try_into().ok().map(u32::from_le_bytes)
    }

    fn strong(&self, block: usize) -> &[u8] {
        let at = block * self.stride() + 4;
        self.octets.get(at..at + self.head.strong_len()).unwrap_or_default()
    }
}

/// The rolling sum of a window (10.2): octets count as signed.
#[derive(Debug, Clone, Copy, Default)]
struct Rolling {
    a: u32,
    b: u32,
}

impl Rolling {
    fn of(window: &[u8]) -> Self {
        let mut sum = Self::default();
        for &octet in window {
            sum.a = sum.a.wrapping_add(signed(octet));
            sum.b = sum.b.wrapping_add(sum.a);
        }
        sum
    }

    /// Leaves the first octet of a window behind.
    fn drop_first(&mut self, first: u8, len: usize) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.a = self.a.wrapping_sub(signed(first));
        self.b = self.b.wrapping_sub(len.wrapping_mul(signed(first)));
    }

    fn take(&mut self, next: u8) {
        self.a = self.a.wrapping_add(signed(next));
        self.b = self.b.wrapping_add(self.a);
    }

    fn value(self) -> u32 {
        self.a & 0xFFFF | self.b << 16
    }
}

fn signed(octet: u8) -> u32 {
    i32::from(octet.cast_signed()).cast_unsigned()
}

/// What is sent next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Literal(&'a [u8]),
    /// The client's block of this number, and what is in it.
    Block(u32, &'a [u8]),
}

/// A file on its way, compared with a client's blocks.
#[derive(Debug)]
pub(super) struct Matcher {
    sums: BlockSums,
    checksum: BlockChecksum,
    /// Only blocks that the client has not overwritten yet may be used (`--inplace`).
    in_place: bool,
    /// The first block of each hash of a rolling sum, then the next ones of the same hash.
    heads: Vec<u32>,
    next: Vec<u32>,
    /// What was read and not sent: literals up to `at`, then the window.
    buffer: Vec<u8>,
    at: usize,
    /// The window's sum, if it is known.
    rolling: Option<Rolling>,
    /// Where in the file the buffer starts, and where it ends.
    start: u64,
    read: u64,
    size: u64,
    steps_left: u64,
}

const HEADS: usize = 1 << 16;

fn slot(rolling: u32) -> usize {
    (rolling ^ rolling >> 16) as usize & (HEADS - 1)
}

impl Matcher {
    pub(super) fn new(sums: BlockSums, checksum: BlockChecksum, in_place: bool, size: u64) -> Self {
        let count = sums.head.count();
        let (mut heads, mut next) = (vec![NO_BLOCK; HEADS], vec![NO_BLOCK; count]);
        // Backwards, so that the first of equal blocks is found first.
        for block in (0..count).rev() {
            let Some(rolling) = sums.rolling(block) else { continue };
            let head = &mut heads[slot(rolling)];
            next[block] = std::mem::replace(head, u32::try_from(block).unwrap_or(NO_BLOCK));
        }
        let steps_left = size.saturating_mul(STEPS_PER_OCTET).max(STEPS_MIN);
        Self {
            sums,
            checksum,
            in_place,
            heads,
            next,
            buffer: Vec::new(),
            at: 0,
            rolling: None,
            start: 0,
            read: 0,
            size,
            steps_left,
        }
    }

    /// Reads on and sends what can be told by then through `put`; `false` at the end of the file.
    pub(super) fn step<E>(
        &mut self,
        tree: &impl TreeView,
        file: NodeId,
        put: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<io::Result<bool>, E> {
        if let Err(error) = self.fill(tree, file) {
            return Ok(Err(error));
        }
        let at_end = self.read >= self.size;
        while self.at < self.buffer.len() {
            let left = self.buffer.len() - self.at;
            let len = self.sums.head.block_len().min(left);
            if len < self.sums.head.block_len() && !at_end {
                break;
            }
            let window = &self.buffer[self.at..self.at + len];
            let rolling = *self.rolling.get_or_insert_with(|| Rolling::of(window));
            if let Some(block) = self.find(rolling.value(), len) {
                if self.at > 0 {
                    put(Piece::Literal(&self.buffer[..self.at]))?;
                }
                put(Piece::Block(block, &self.buffer[self.at..self.at + len]))?;
                self.forget(self.at + len);
                self.rolling = None;
                continue;
            }
            self.roll(rolling, len);
            if self.at >= READ_LEN_MAX {
                put(Piece::Literal(&self.buffer[..self.at]))?;
                self.forget(self.at);
            }
        }
        if at_end && self.at > 0 {
            put(Piece::Literal(&self.buffer[..self.at]))?;
            self.forget(self.at);
        }
        Ok(Ok(!(at_end && self.buffer.is_empty())))
    }

    fn fill(&mut self, tree: &impl TreeView, file: NodeId) -> io::Result<()> {
        let want = self.sums.head.block_len() + READ_LEN_MAX;
        while self.read < self.size && self.buffer.len() - self.at < want {
            let len = usize::try_from(self.size - self.read).unwrap_or(usize::MAX).min(READ_LEN_MAX);
            let start = self.buffer.len();
            self.buffer.resize(start + len, 0);
            let read = tree.read_at(file, self.read, &mut self.buffer[start..]);
            let got = *read.as_ref().unwrap_or(&0);
            self.buffer.truncate(start + got);
            if read? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.read += got as u64;
        }
        Ok(())
    }

    fn forget(&mut self, len: usize) {
        self.buffer.drain(..len);
        self.start += len as u64;
        self.at = 0;
    }

    /// Goes on by one octet; near the end the window gets shorter.
    fn roll(&mut self, mut rolling: Rolling, len: usize) {
        rolling.drop_first(self.buffer[self.at], len);
        if let Some(&next) = self.buffer.get(self.at + len) {
            rolling.take(next);
        }
        self.at += 1;
        self.rolling = Some(rolling);
    }

    /// The client's block that is the window.
    fn find(&mut self, rolling: u32, len: usize) -> Option<u32> {
        let mut block = self.heads[slot(rolling)];
        let mut strong = None;
        for _ in 0..CANDIDATES_MAX {
            if block == NO_BLOCK || self.steps_left == 0 {
                return None;
            }
            let number = block as usize;
            self.steps_left -= 1;
            let fits = self.sums.rolling(number) == Some(rolling)
                && self.sums.head.len_of(number) == len
                && self.may_use(number);
            if fits {
                if strong.is_none() {
                    self.steps_left = self.steps_left.saturating_sub(len as u64);
                }
                let window = &self.buffer[self.at..self.at + len];
                let strong = strong.get_or_insert_with(|| self.checksum.of(window));
                let wanted = self.sums.strong(number);
                if !wanted.is_empty() && strong.as_slice().starts_with(wanted) {
                    return Some(block);
                }
            }
            block = self.next[number];
        }
        None
    }

    fn may_use(&self, block: usize) -> bool {
        let basis = block as u64 * self.sums.head.block_len() as u64;
        !self.in_place || basis >= self.start + self.at as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryTree;
    use crate::sums::ChecksumKind;
    use proptest::prelude::*;

    const CHECKSUM: ChecksumKind = ChecksumKind::Xxh64;

    fn checksum() -> BlockChecksum {
        BlockChecksum::new(CHECKSUM, 7, true).unwrap()
    }

    fn sums(basis: &[u8], block_len: usize, strong_len: usize) -> BlockSums {
        let mut octets = Vec::new();
        for block in basis.chunks(block_len) {
            octets.extend_from_slice(&Rolling::of(block).value().to_le_bytes());
            octets.extend_from_slice(&checksum().of(block).as_slice()[..strong_len]);
        }
        let count = basis.len().div_ceil(block_len);
        BlockSums { head: SumHead::of(count, block_len, strong_len, basis.len() % block_len), octets }
    }

    /// What a client makes of the pieces, how many octets were literals, and the work.
    fn run(sums: BlockSums, basis: &[u8], file: &[u8], in_place: bool) -> (Vec<u8>, usize, u64) {
        let mut tree = MemoryTree::new(0);
        let id = tree.file("f", file, 0o644, (0, 0));
        let block_len = sums.head.block_len();
        let mut matcher = Matcher::new(sums, checksum(), in_place, file.len() as u64);
        let steps = matcher.steps_left;
        let (mut copy, mut literals) = (basis.to_vec(), 0);
        let mut out: Vec<u8> = Vec::new();
        let mut put = |piece: Piece<'_>| {
            match piece {
                Piece::Literal(octets) => {
                    literals += octets.len();
                    out.extend_from_slice(octets);
                }
                Piece::Block(number, _) => {
                    let start = number as usize * block_len;
                    let end = (start + block_len).min(basis.len());
                    // In place, the client reads from what it is overwriting.
                    let from = if in_place { &copy } else { basis };
                    out.extend_from_slice(&from[start..end]);
                }
            }
            if in_place {
                copy.resize(copy.len().max(out.len()), 0);
                copy[..out.len()].copy_from_slice(&out);
            }
            Ok::<_, ()>(())
        };
        while matcher.step(&tree, id, &mut put).unwrap().unwrap() {}
        (out, literals, steps - matcher.steps_left)
    }

    fn noise(len: usize, mut x: u32) -> Vec<u8> {
        let mut step = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            x.to_le_bytes()[3]
        };
        (0..len).map(|_| step()).collect()
    }

    #[test]
    fn only_what_is_new_is_sent() {
        let basis = noise(300_000, 1);
        let mut file = basis.clone();
        file.splice(100_000..100_003, *b"INSERTED");
        for (basis, file, literals_max) in [
            (&basis, &basis, 0),
            (&basis, &file, 1400 + 8),
            (&file, &basis, 1400 + 8),
            (&noise(1000, 2), &basis, basis.len()),
        ] {
            let (out, literals, _) = run(sums(basis, 700, 2), basis, file, false);
            assert!(out == *file);
            assert!(literals <= literals_max, "{literals}");
        }
    }

    #[test]
    fn hostile_sums_cost_a_bounded_amount_of_work() {
        // Every window of the file has the rolling sum of every block, and the strong sums all differ.
        let file = vec![0; 2_000_000];
        for block_len in [700, 131_072] {
            let mut octets = Vec::new();
            for number in 0..50_000_u32 {
                octets.extend_from_slice(&[0; 4]);
                octets.extend_from_slice(&number.to_le_bytes());
            }
            let sums = BlockSums { head: SumHead::of(50_000, block_len, 4, 0), octets };
            let (out, literals, steps) = run(sums, &[], &file, false);
            assert!(out == file);
            assert_eq!(literals, file.len());
            assert!(steps <= file.len() as u64 * STEPS_PER_OCTET, "{steps}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn the_client_gets_the_file(
            words in prop::collection::vec(0_u8..6, 0..400),
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, prop::collection::vec(any::<u8>(), 0..30)), 0..5),
            block_len in 1_usize..60,
            in_place: bool,
        ) {
            let basis: Vec<u8> = words.iter().flat_map(|&word| [word, 0xFE, word.wrapping_mul(77)]).collect();
            let mut file = basis.clone();
            for (at, cut, put) in edits {
                let at = at.index(file.len() + 1);
                let end = (at + cut).min(file.len());
                file.splice(at..end, put);
            }
            let (out, _, _) = run(sums(&basis, block_len, 8), &basis, &file, in_place);
            prop_assert_eq!(out, file);
        }
    }
}
