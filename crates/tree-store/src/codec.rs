//! Little-endian fields and the sealed frame that every file of ours but the pack has.
//!
//! A frame is magic (8 octets), format version (u32), length of the body (u64), the body as one zstd frame, and
//! the XXH3-128 of all of that. The checksum finds torn and rotten files; it is no defence against a forger, who
//! would need to write to the state directory first.

use std::io::{Read, Write as _};

use xxhash_rust::xxh3::xxh3_128;

const BODY_BYTES_AT: usize = 8 + 4;
const HEAD_BYTES: usize = BODY_BYTES_AT + 8;
const CHECKSUM_BYTES: usize = 16;
/// Fast enough not to be felt at every publish, and most of what there is to gain.
const ZSTD_LEVEL: i32 = 1;
/// Far beyond what the largest tree that an index holds needs.
const BODY_BYTES_MAX: u64 = 8 << 30;

/// Magic and format version.
pub(crate) type Kind = ([u8; 8], u32);

/// Appends fields to a frame.
pub(crate) struct Writer {
    body_bytes: u64,
    /// Fields go into it in pieces that are worth a call to the compressor.
    pending: Vec<u8>,
    /// Writes behind the head.
    compressor: std::io::Result<zstd::Encoder<'static, Vec<u8>>>,
}

const PIECE_BYTES: usize = 128 << 10;

impl Writer {
    pub(crate) fn new((magic, version): Kind) -> Self {
        let mut head = magic.to_vec();
        head.extend_from_slice(&version.to_le_bytes());
        // The body's length: not known yet.
        head.resize(HEAD_BYTES, 0);
        Self {
            body_bytes: 0,
            pending: Vec::with_capacity(PIECE_BYTES),
            compressor: zstd::Encoder::new(head, ZSTD_LEVEL),
        }
    }

    fn compress(&mut self) {
        self.body_bytes += self.pending.len() as u64;
        // Kept for the end: nobody could do anything about it before.
        if let Ok(compressor) = &mut self.compressor
            && let Err(error) = compressor.write_all(&self.pending)
        {
            self.compressor = Err(error);
        }
        self.pending.clear();
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.raw(&[value]);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn raw(&mut self, octets: &[u8]) {
        self.pending.extend_from_slice(octets);
        if self.pending.len() >= PIECE_BYTES {
            self.compress();
        }
    }

    /// A length (u32) and that many octets. What does not fit a u32 is cut: callers bound their fields
    /// far below it.
    pub(crate) fn bytes(&mut self, octets: &[u8]) {
        let length = u32::try_from(octets.len()).unwrap_or(u32::MAX);
        self.u32(length);
        self.raw(octets.get(..length as usize).unwrap_or(octets));
    }

    /// Writes a count of what follows.
    pub(crate) fn count(&mut self, count: usize) {
        self.u64(count as u64);
    }

    /// The whole frame; fails only as the compressor's memory does.
    pub(crate) fn finish(mut self) -> std::io::Result<Vec<u8>> {
        self.compress();
        let mut out = self.compressor?.finish()?;
        out[BODY_BYTES_AT..HEAD_BYTES].copy_from_slice(&self.body_bytes.to_le_bytes());
        let checksum = xxh3_128(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        Ok(out)
    }
}

/// What does not fit about a frame.
pub(crate) type Misfit = &'static str;

/// The format version that a frame says it has.
pub(crate) fn version(frame: &[u8]) -> Option<u32> {
    let version = frame.get(8..BODY_BYTES_AT)?;
    Some(u32::from_le_bytes(version.try_into().ok()?))
}

/// Checks the frame around a body and gives the body's length and the body, still compressed.
pub(crate) fn check((magic, version): Kind, frame: &[u8]) -> Result<(u64, &[u8]), Misfit> {
    let Some(covered_bytes) = frame.len().checked_sub(CHECKSUM_BYTES).filter(|&n| n >= HEAD_BYTES) else {
        return Err("shorter than its head");
    };
    let (covered, checksum) = frame.split_at(covered_bytes);
    let mut head = Reader { rest: covered };
    if head.array::<8>()? != magic {
        return Err("not a file of this kind");
    }
    if head.u32()? != version {
        return Err("a format version that this program does not read");
    }
    let body_bytes = head.u64()?;
    if xxh3_128(covered).to_le_bytes() != checksum {
        return Err("checksum does not fit");
    }
    if body_bytes > BODY_BYTES_MAX {
        return Err("larger than any file of this kind");
    }
    Ok((body_bytes, head.rest))
}

/// The body of a frame.
pub(crate) fn unseal(kind: Kind, frame: &[u8]) -> Result<Vec<u8>, Misfit> {
    let (body_bytes, compressed) = check(kind, frame)?;
    let wrong = |_| "the body can't be decompressed";
    let decoder = zstd::Decoder::with_buffer(compressed).map_err(wrong)?;
    let mut body = Vec::new();
    // The length is only believed as far as octets really come.
    decoder.take(body_bytes + 1).read_to_end(&mut body).map_err(wrong)?;
    if body.len() as u64 == body_bytes { Ok(body) } else { Err("truncated, or longer than it says") }
}

/// Takes fields from a body.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Misfit> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err("a field reaches past the end");
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Misfit> {
        self.take(N)?.try_into().map_err(|_| "a field reaches past the end")
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Misfit> {
        self.array::<1>().map(|[octet]| octet)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Misfit> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Misfit> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Misfit> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Misfit> {
        let count = self.u32()?;
        self.take(count as usize)
    }

    pub(crate) fn str(&mut self) -> Result<&'a str, Misfit> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a text is not UTF-8")
    }

    /// A count of records that take at least `record_bytes` each, so that no count can make us allocate
    /// more than the file's own length.
    pub(crate) fn count(&mut self, record_bytes: usize) -> Result<usize, Misfit> {
        let count = usize::try_from(self.u64()?).map_err(|_| "a count is too large")?;
        match count.checked_mul(record_bytes) {
            Some(needed) if needed <= self.rest.len() => Ok(count),
            _ => Err("a count is too large"),
        }
    }

    pub(crate) fn end(&self) -> Result<(), Misfit> {
        if self.rest.is_empty() { Ok(()) } else { Err("something follows the last field") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: [u8; 8] = *b"ROOKTEST";

    fn frame() -> Vec<u8> {
        let mut writer = Writer::new((MAGIC, 7));
        writer.u32(5);
        writer.bytes(b"octets");
        writer.finish().unwrap()
    }

    #[test]
    fn every_flipped_octet_and_every_truncation_is_found() {
        let whole = frame();
        assert!(unseal((MAGIC, 7), &whole).is_ok());
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            assert!(unseal((MAGIC, 7), &flipped).is_err(), "octet {at} flipped");
            assert!(unseal((MAGIC, 7), &whole[..at]).is_err(), "cut at {at}");
        }
        assert!(unseal((MAGIC, 8), &whole).is_err());
        let longer = [whole.as_slice(), b"x"].concat();
        assert!(unseal((MAGIC, 7), &longer).is_err());
    }

    #[test]
    fn a_body_longer_or_shorter_than_it_says_is_refused() {
        for said in [0_u64, 13, 15, u64::MAX] {
            let mut frame = frame();
            let covered = frame.len() - CHECKSUM_BYTES;
            frame[12..20].copy_from_slice(&said.to_le_bytes());
            let checksum = xxh3_128(&frame[..covered]);
            frame[covered..].copy_from_slice(&checksum.to_le_bytes());
            assert!(unseal((MAGIC, 7), &frame).is_err(), "{said}");
        }
    }

    #[test]
    fn fields_come_back() {
        let whole = frame();
        let body = unseal((MAGIC, 7), &whole).unwrap();
        let mut reader = Reader::new(&body);
        assert_eq!(reader.u32(), Ok(5));
        assert!(reader.end().is_err());
        assert_eq!(reader.bytes(), Ok(b"octets".as_slice()));
        assert_eq!(reader.end(), Ok(()));
        assert!(reader.u8().is_err());
    }
}
