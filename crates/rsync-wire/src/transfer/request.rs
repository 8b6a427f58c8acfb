//! What a client asks for, entry by entry (8.1, 8.2).

use super::delta::BlockSums;
use crate::codec::{Ndx, NdxReader, Reader};
use crate::limits::{
    BLOCK_LEN_MAX, BLOCK_LEN_MAX_29, BLOCK_SUMS_KEPT_MAX, BLOCK_SUMS_LEN_MAX, DELETIONS_MAX,
};
use crate::{NodeKind, Protocol, WireError, codec};
use bytes::BytesMut;

/// What a request or a reply is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemFlags(u16);

impl ItemFlags {
    const REPORTS_CONTENTS: u16 = 1 << 1;
    const REPORTS_SIZE: u16 = 1 << 2;
    const REPORTS_TIME: u16 = 1 << 3;
    const REPORTS_PERMISSIONS: u16 = 1 << 4;
    const REPORTS_OWNER: u16 = 1 << 5;
    const REPORTS_GROUP: u16 = 1 << 6;
    const BASIS_TYPE_FOLLOWS: u16 = 1 << 11;
    const XNAME_FOLLOWS: u16 = 1 << 12;
    const IS_NEW: u16 = 1 << 13;
    const LOCAL_CHANGE: u16 = 1 << 14;
    const TRANSFER: u16 = 1 << 15;

    /// Flags as they are on the wire.
    #[must_use]
    pub fn new(bits: u16) -> Self {
        Self(bits)
    }

    /// Something is different at the client: not only how it says so.
    #[must_use]
    pub fn is_significant(self) -> bool {
        self.0 & !(Self::BASIS_TYPE_FOLLOWS | Self::XNAME_FOLLOWS | Self::LOCAL_CHANGE) != 0
    }

    /// Eleven characters: what is done, to which kind, what differs (8.1, and `--itemize-changes` of rsync(1)).
    pub(super) fn itemized(self, kind: NodeKind, keeps_times: bool) -> String {
        let has = |bit| self.0 & bit != 0;
        let mark = |bit, letter| if has(bit) { letter } else { '.' };
        let what = match (has(Self::LOCAL_CHANGE), has(Self::TRANSFER)) {
            (true, _) if has(Self::XNAME_FOLLOWS) => 'h',
            (true, _) => 'c',
            (false, true) => '<',
            (false, false) => '.',
        };
        let (letter, takes_time) = match kind {
            NodeKind::Directory => ('d', keeps_times),
            NodeKind::File => ('f', keeps_times),
            // Their bit of the size says that the time can't be set.
            NodeKind::Symlink => ('L', keeps_times && !has(Self::REPORTS_SIZE)),
        };
        let attributes = [
            mark(Self::REPORTS_CONTENTS, 'c'),
            if kind == NodeKind::Symlink { '.' } else { mark(Self::REPORTS_SIZE, 's') },
            mark(Self::REPORTS_TIME, if takes_time { 't' } else { 'T' }),
            mark(Self::REPORTS_PERMISSIONS, 'p'),
            mark(Self::REPORTS_OWNER, 'o'),
            mark(Self::REPORTS_GROUP, 'g'),
            // Access times, access control lists and extended attributes are never asked for.
            '.',
            '.',
            '.',
        ];
        let is_same = what != '<' && attributes.iter().all(|&attribute| attribute == '.');
        let shown = |attribute| match (has(Self::IS_NEW), is_same) {
            (true, _) => '+',
            (false, true) => ' ',
            (false, false) => attribute,
        };
        [what, letter].into_iter().chain(attributes.into_iter().map(shown)).collect()
    }

    /// Contents are asked for.
    #[must_use]
    pub fn is_transfer(self) -> bool {
        self.0 & Self::TRANSFER != 0
    }
}

/// How a client describes what it has. Repeated unchanged in the reply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SumHead {
    count: i32,
    block_len: i32,
    strong_len: i32,
    remainder: i32,
}

impl SumHead {
    fn read(input: &mut Reader<'_>, form: RequestForm) -> Result<Self, WireError> {
        let block_len_max = if form.protocol < Protocol::V30 { BLOCK_LEN_MAX_29 } else { BLOCK_LEN_MAX };
        let head = Self {
            count: input.int()?,
            block_len: input.int()?,
            strong_len: input.int()?,
            remainder: input.int()?,
        };
        let sound = head.count >= 0
            && (0..=block_len_max).contains(&head.block_len)
            && (head.block_len > 0 || head.count == 0)
            && usize::try_from(head.strong_len).is_ok_and(|len| len <= form.strong_len_max)
            && (0..=head.block_len).contains(&head.remainder);
        if sound { Ok(head) } else { Err(WireError::Malformed("sum head")) }
    }

    pub(super) fn put(self, out: &mut Vec<u8>) {
        for value in [self.count, self.block_len, self.strong_len, self.remainder] {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// How many octets of block sums follow.
    fn sums_len(self) -> Result<u64, WireError> {
        let len = u64::from(self.count.unsigned_abs()) * (4 + u64::from(self.strong_len.unsigned_abs()));
        if len > BLOCK_SUMS_LEN_MAX {
            return Err(WireError::Limit {
                what: "the block sums' length",
                limit: usize::try_from(BLOCK_SUMS_LEN_MAX).unwrap_or(usize::MAX),
            });
        }
        Ok(len)
    }

    /// How many blocks there are.
    pub(super) fn count(self) -> usize {
        self.count.unsigned_abs() as usize
    }

    /// The length of all blocks but the last.
    pub(super) fn block_len(self) -> usize {
        self.block_len.unsigned_abs() as usize
    }

    /// How much of a strong sum is sent.
    pub(super) fn strong_len(self) -> usize {
        self.strong_len.unsigned_abs() as usize
    }

    /// The length of one block.
    pub(super) fn len_of(self, block: usize) -> usize {
        let is_short = block + 1 == self.count() && self.remainder != 0;
        if is_short { self.remainder.unsigned_abs() as usize } else { self.block_len() }
    }

    #[cfg(test)]
    pub(super) fn of(count: usize, block_len: usize, strong_len: usize, remainder: usize) -> Self {
        let int = |value| i32::try_from(value).unwrap();
        Self {
            count: int(count),
            block_len: int(block_len),
            strong_len: int(strong_len),
            remainder: int(remainder),
        }
    }

    /// How many octets the client has, under `--append` (8.5).
    #[must_use]
    pub fn existing_len(self) -> u64 {
        let whole = u64::from(self.count.unsigned_abs()) * u64::from(self.block_len.unsigned_abs());
        if self.remainder == 0 {
            return whole;
        }
        whole.saturating_sub(u64::from(self.block_len.abs_diff(self.remainder)))
    }
}

/// One request, to be repeated at the head of its reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which entry.
    pub index: u32,
    /// What about it.
    pub flags: ItemFlags,
    /// Under `--append`, in the first phase: how many octets the client has.
    pub append_from: Option<u64>,
    /// What the client has, if it is to be compared.
    pub(crate) sums: Option<BlockSums>,
    basis_type: Option<u8>,
    xname: Option<Vec<u8>>,
    head: Option<SumHead>,
}

impl Request {
    /// A request for all contents of an entry, as a client without the file sends it.
    #[must_use]
    pub fn whole_file(index: u32) -> Self {
        Self {
            index,
            flags: ItemFlags(ItemFlags::TRANSFER),
            append_from: None,
            sums: None,
            basis_type: None,
            xname: None,
            head: Some(SumHead::default()),
        }
    }

    /// Whether block sums of `len` octets are worth their memory.
    fn has_usable_sums(&self, len: u64) -> bool {
        let is_usable = |head: SumHead| head.strong_len > 0 && head.block_len <= BLOCK_LEN_MAX;
        len <= BLOCK_SUMS_KEPT_MAX && self.head.is_some_and(is_usable)
    }

    /// Octets of block sums.
    pub(crate) fn sums_len(&self) -> usize {
        self.sums.as_ref().map_or(0, |sums| sums.octets.len())
    }

    /// Octets of the sum head and the block sums that came with it.
    pub(super) fn described_len(&self) -> u64 {
        const HEAD_LEN: u64 = 16;
        let of = |head: SumHead| {
            HEAD_LEN + if self.append_from.is_some() { 0 } else { head.sums_len().unwrap_or(0) }
        };
        self.head.map_or(0, of)
    }

    /// Whether it only keeps a connection of protocol 29 alive (12.4).
    #[must_use]
    pub fn is_keep_alive(&self, entries: usize) -> bool {
        self.index as usize == entries && self.flags.0 == ItemFlags::IS_NEW
    }

    /// Appends all of the reply's head but the index.
    pub(super) fn put_head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.flags.0.to_le_bytes());
        if let Some(basis_type) = self.basis_type {
            out.push(basis_type);
        }
        if let Some(xname) = &self.xname {
            codec::put_vstring(out, xname);
        }
        if let Some(head) = self.head {
            head.put(out);
        }
    }
}

/// What a client says in the transfer loop.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientWord {
    /// Asks for something.
    Request(Request),
    /// Ends a phase, or says goodbye.
    Done,
    /// What it deleted: files, directories, symbolic links, devices, specials.
    DeletionStats([i32; 5]),
}

/// What the form of a request depends on.
#[derive(Debug, Clone, Copy)]
pub struct RequestForm {
    /// The protocol of the connection.
    pub protocol: Protocol,
    /// Contents are never sent: requests carry no sum head.
    pub dry_run: bool,
    /// `--append`: no block sums in the first phase.
    pub append: bool,
    /// The length of the connection's checksum: no block's may be longer.
    pub strong_len_max: usize,
    /// Block sums are kept for comparing.
    pub keeps_sums: bool,
}

/// Reads the client's side of the transfer loop.
#[derive(Debug)]
pub struct RequestReader {
    ndx: NdxReader,
    form: RequestForm,
    /// Octets of block sums that are still to come, and to be dropped.
    skip: u64,
    /// A request whose block sums are still to come, and how many octets they have.
    collecting: Option<(Request, usize)>,
}

/// A name of a client's alternative basis file; only repeated, never used as a path.
const XNAME_LEN_MAX: usize = 4095;

impl RequestReader {
    pub(crate) fn new(form: RequestForm) -> Self {
        Self { ndx: NdxReader::new(form.protocol), form, skip: 0, collecting: None }
    }

    /// Drops block sums: how many of the octets at hand to pass over. Literals need none.
    pub(crate) fn take_skip(&mut self, at_hand: usize) -> usize {
        let now = usize::try_from(self.skip).unwrap_or(usize::MAX).min(at_hand);
        self.skip -= now as u64;
        now
    }

    /// Whether block sums are to be taken in by [`Self::collect`].
    pub(crate) fn is_collecting(&self) -> bool {
        self.collecting.is_some()
    }

    /// Takes block sums off the octets at hand; gives their request once they are all there.
    pub(crate) fn collect(&mut self, data: &mut BytesMut) -> Option<Request> {
        let (request, len) = self.collecting.as_mut()?;
        let sums = request.sums.as_mut()?;
        let now = data.len().min(*len - sums.octets.len());
        sums.octets.extend_from_slice(&data.split_to(now));
        if sums.octets.len() < *len {
            return None;
        }
        self.collecting.take().map(|(request, _)| request)
    }

    /// Reads one word; `None` if it is a request whose block sums are still to be collected. Nothing is remembered
    /// unless it is there in full.
    pub(crate) fn read(
        &mut self,
        input: &mut Reader<'_>,
        first_phase: bool,
    ) -> Result<Option<ClientWord>, WireError> {
        let mut ndx = self.ndx.clone();
        let word = match ndx.read(input)? {
            Ndx::Done => ClientWord::Done,
            Ndx::DeletionStats => ClientWord::DeletionStats(deletion_stats(input)?),
            Ndx::Entry(index) => {
                let (mut request, len) = self.request(index, input, first_phase)?;
                self.ndx = ndx;
                if len > 0 && self.form.keeps_sums && request.has_usable_sums(len) {
                    request.sums = request.head.map(|head| BlockSums { head, octets: Vec::new() });
                    self.collecting = Some((request, usize::try_from(len).unwrap_or(usize::MAX)));
                    return Ok(None);
                }
                self.skip = len;
                return Ok(Some(ClientWord::Request(request)));
            }
        };
        self.ndx = ndx;
        Ok(Some(word))
    }

    fn request(
        &self,
        index: u32,
        input: &mut Reader<'_>,
        first_phase: bool,
    ) -> Result<(Request, u64), WireError> {
        let flags = ItemFlags(input.short()?);
        let has = |bit| flags.0 & bit != 0;
        let basis_type = if has(ItemFlags::BASIS_TYPE_FOLLOWS) { Some(input.byte()?) } else { None };
        let xname =
            if has(ItemFlags::XNAME_FOLLOWS) { Some(input.vstring(XNAME_LEN_MAX)?.to_vec()) } else { None };
        let carries_head = flags.is_transfer() && !self.form.dry_run;
        let head = if carries_head { Some(SumHead::read(input, self.form)?) } else { None };
        let appending = self.form.append && first_phase;
        let skip = match head {
            Some(head) if !appending => head.sums_len()?,
            _ => 0,
        };
        let append_from = head.filter(|_| appending).map(SumHead::existing_len);
        Ok((Request { index, flags, append_from, sums: None, basis_type, xname, head }, skip))
    }
}

fn deletion_stats(input: &mut Reader<'_>) -> Result<[i32; 5], WireError> {
    let mut stats = [0; 5];
    for value in &mut stats {
        *value = input.varint()?;
        if !(0..=DELETIONS_MAX).contains(value) {
            return Err(WireError::Malformed("deletion statistics"));
        }
    }
    Ok(stats)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(append: bool) -> RequestReader {
        RequestReader::new(RequestForm {
            protocol: Protocol::NEWEST,
            dry_run: false,
            append,
            strong_len_max: 16,
            keeps_sums: false,
        })
    }

    fn read(octets: &[u8]) -> Result<ClientWord, WireError> {
        reader(false).read(&mut Reader::new(octets), true).map(Option::unwrap)
    }

    fn head(values: [i32; 4]) -> Vec<u8> {
        let values = values.map(i32::to_le_bytes).concat();
        [&[0x02, 0x0C, 0x80][..], &values].concat()
    }

    #[test]
    fn requests_are_read_only_when_whole() {
        let octets = head([0, 0, 0, 0]);
        for cut in 0..octets.len() {
            assert_eq!(read(&octets[..cut]), Err(WireError::Short));
        }
        let Ok(ClientWord::Request(request)) = read(&octets) else { panic!("no request") };
        assert_eq!(request.index, 1);
        let mut echo = Vec::new();
        request.put_head(&mut echo);
        assert_eq!(echo, octets[1..]);
    }

    #[test]
    fn block_sums_are_announced_bounded_and_dropped() {
        let mut reader = reader(false);
        reader.read(&mut Reader::new(&head([147, 700, 2, 200])), true).unwrap();
        assert_eq!(reader.take_skip(500), 500);
        assert_eq!(reader.take_skip(5000), 147 * 6 - 500);
        assert_eq!(reader.take_skip(5000), 0);
        for values in [
            [-1, 700, 2, 0],
            [1, 0, 2, 0],
            [1, 131_073, 2, 0],
            [1, 700, 17, 0],
            [1, 700, -1, 0],
            [1, 700, 2, 701],
            [i32::MAX, 700, 16, 0],
        ] {
            assert!(read(&head(values)).is_err(), "{values:?}");
        }
    }

    #[test]
    fn block_sums_that_are_kept_are_collected_in_any_pieces() {
        let sums: Vec<u8> = (0..12).collect();
        let mut reader = reader(false);
        reader.form.keeps_sums = true;
        assert_eq!(reader.read(&mut Reader::new(&head([2, 700, 2, 0])), true), Ok(None));
        for piece in sums.chunks(5).take(2) {
            assert_eq!(reader.collect(&mut piece.into()), None);
        }
        let mut last = BytesMut::from(&[10, 11, 99][..]);
        let request = reader.collect(&mut last).unwrap();
        assert_eq!((request.sums_len(), &last[..], reader.is_collecting()), (12, &[99][..], false));
        assert_eq!(request.sums.unwrap().octets, sums);
        // More than is kept is dropped.
        let word = reader.read(&mut Reader::new(&head([1 << 20, 700, 16, 0])), true);
        assert!(matches!(word, Ok(Some(ClientWord::Request(_)))) && !reader.is_collecting());
        assert_eq!(reader.take_skip(1 << 30), 20 << 20);
    }

    #[test]
    fn append_says_what_is_there_and_carries_no_sums() {
        let mut reader = reader(true);
        let octets = head([147, 700, 2, 200]);
        let Ok(Some(ClientWord::Request(request))) = reader.read(&mut Reader::new(&octets), true) else {
            panic!("no request")
        };
        assert_eq!(request.append_from, Some(146 * 700 + 200));
        assert_eq!(reader.take_skip(1), 0);
    }
}
