//! Little-endian fields and the sealed frame that every file of ours but the pack has.
//!
//! A frame is magic (8 octets), format version (u32), body length (u64), body, and the XXH3-128 of all
//! of that. The checksum finds torn and rotten files; it is no defence against a forger, who would need
//! to write to the state directory first.

use xxhash_rust::xxh3::xxh3_128;

const HEAD_BYTES: usize = 8 + 4 + 8;
const CHECKSUM_BYTES: usize = 16;

/// Appends fields to a frame.
#[derive(Debug)]
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(magic: [u8; 8], version: u32, body_bytes_hint: usize) -> Self {
        let mut out = Vec::with_capacity(HEAD_BYTES + body_bytes_hint + CHECKSUM_BYTES);
        out.extend_from_slice(&magic);
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&0_u64.to_le_bytes());
        Self { out }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn raw(&mut self, octets: &[u8]) {
        self.out.extend_from_slice(octets);
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

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let body_bytes = (self.out.len() - HEAD_BYTES) as u64;
        self.out[12..HEAD_BYTES].copy_from_slice(&body_bytes.to_le_bytes());
        let checksum = xxh3_128(&self.out);
        self.out.extend_from_slice(&checksum.to_le_bytes());
        self.out
    }
}

/// What does not fit about a frame.
pub(crate) type Misfit = &'static str;

/// Takes fields from a frame.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks the frame around the body.
    pub(crate) fn open(magic: [u8; 8], version: u32, frame: &'a [u8]) -> Result<Self, Misfit> {
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
        if head.u64()? != head.rest.len() as u64 {
            return Err("truncated, or longer than it says");
        }
        if xxh3_128(covered).to_le_bytes() != checksum {
            return Err("checksum does not fit");
        }
        Ok(head)
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
        let mut writer = Writer::new(MAGIC, 7, 64);
        writer.u32(5);
        writer.bytes(b"octets");
        writer.finish()
    }

    #[test]
    fn every_flipped_octet_and_every_truncation_is_found() {
        let whole = frame();
        assert!(Reader::open(MAGIC, 7, &whole).is_ok());
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            assert!(Reader::open(MAGIC, 7, &flipped).is_err(), "octet {at} flipped");
            assert!(Reader::open(MAGIC, 7, &whole[..at]).is_err(), "cut at {at}");
        }
        assert!(Reader::open(MAGIC, 8, &whole).is_err());
        let longer = [whole.as_slice(), b"x"].concat();
        assert!(Reader::open(MAGIC, 7, &longer).is_err());
    }

    #[test]
    fn fields_come_back() {
        let whole = frame();
        let mut reader = Reader::open(MAGIC, 7, &whole).unwrap();
        assert_eq!(reader.u32(), Ok(5));
        assert!(reader.end().is_err());
        assert_eq!(reader.bytes(), Ok(b"octets".as_slice()));
        assert_eq!(reader.end(), Ok(()));
        assert!(reader.u8().is_err());
    }
}
