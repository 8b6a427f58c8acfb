//! File indexes, coded as differences (1.3).

use super::Reader;
use crate::{Protocol, WireError};

/// What stands where an index is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ndx {
    /// The index of an entry of the file list.
    Entry(u32),
    /// End of a phase (-1).
    Done,
    /// Deletion statistics follow (-3).
    DeletionStats,
}

const DONE: u8 = 0x00;
const NEGATIVE: u8 = 0xFF;
const LONG: u8 = 0xFE;

/// The counters of one direction.
#[derive(Debug, Clone, Copy)]
struct Counters {
    positive: i64,
    negative: i64,
}

impl Counters {
    const START: Self = Self { positive: -1, negative: 1 };
}

/// Writes the indexes of one direction: as plain ints before protocol 30.
#[derive(Debug, Clone)]
pub struct NdxWriter(Option<Counters>);

impl Default for NdxWriter {
    fn default() -> Self {
        Self::new(Protocol::NEWEST)
    }
}

impl NdxWriter {
    /// A writer for a connection of this protocol.
    #[must_use]
    pub fn new(protocol: Protocol) -> Self {
        Self((protocol >= Protocol::V30).then_some(Counters::START))
    }

    /// Appends one index.
    pub fn put(&mut self, out: &mut Vec<u8>, ndx: Ndx) {
        let Some(counters) = &mut self.0 else {
            let plain = match ndx {
                Ndx::Done => -1,
                Ndx::Entry(index) => i32::try_from(index).unwrap_or(i32::MAX),
                Ndx::DeletionStats => -3,
            };
            return out.extend_from_slice(&plain.to_le_bytes());
        };
        match ndx {
            Ndx::Done => out.push(DONE),
            Ndx::Entry(index) => put_difference(out, &mut counters.positive, i64::from(index)),
            Ndx::DeletionStats => {
                out.push(NEGATIVE);
                put_difference(out, &mut counters.negative, 3);
            }
        }
    }
}

fn put_difference(out: &mut Vec<u8>, previous: &mut i64, value: i64) {
    let difference = value - *previous;
    *previous = value;
    let [a, b, c, d, ..] = value.to_le_bytes();
    match difference {
        1..=0xFD => out.push(difference.to_le_bytes()[0]),
        0..=0x7FFF => {
            let [low, high, ..] = difference.to_le_bytes();
            out.extend_from_slice(&[LONG, high, low]);
        }
        _ => out.extend_from_slice(&[LONG, 0x80 | d, a, b, c]),
    }
}

/// Reads the indexes of one direction.
#[derive(Debug, Clone)]
pub struct NdxReader(Option<Counters>);

impl Default for NdxReader {
    fn default() -> Self {
        Self::new(Protocol::NEWEST)
    }
}

impl NdxReader {
    /// A reader for a connection of this protocol.
    #[must_use]
    pub fn new(protocol: Protocol) -> Self {
        Self((protocol >= Protocol::V30).then_some(Counters::START))
    }

    /// Reads one index. Nothing is remembered unless it is there in full.
    ///
    /// # Errors
    /// [`WireError::Short`], or what only a sender says.
    pub fn read(&mut self, reader: &mut Reader<'_>) -> Result<Ndx, WireError> {
        let Some(counters) = &mut self.0 else { return read_plain(reader) };
        let mut first = reader.byte()?;
        if first == DONE {
            return Ok(Ndx::Done);
        }
        let negative = first == NEGATIVE;
        if negative {
            first = reader.byte()?;
        }
        let previous = if negative { counters.negative } else { counters.positive };
        let value = if first == LONG { long_form(reader, previous)? } else { previous + i64::from(first) };
        let index = u32::try_from(value).ok().filter(|&v| v <= 0x7FFF_FFFF);
        let index = index.ok_or(WireError::Malformed("file index"))?;
        if !negative {
            counters.positive = value;
            return Ok(Ndx::Entry(index));
        }
        counters.negative = value;
        match index {
            1 => Ok(Ndx::Done),
            3 => Ok(Ndx::DeletionStats),
            // -2 and the sub-lists are only ever said by a sender.
            _ => Err(WireError::Malformed("negative file index")),
        }
    }
}

fn read_plain(reader: &mut Reader<'_>) -> Result<Ndx, WireError> {
    match reader.int()? {
        -1 => Ok(Ndx::Done),
        index => u32::try_from(index).map(Ndx::Entry).map_err(|_| WireError::Malformed("file index")),
    }
}

fn long_form(reader: &mut Reader<'_>, previous: i64) -> Result<i64, WireError> {
    let high = reader.byte()?;
    let low = reader.byte()?;
    if high & 0x80 == 0 {
        return Ok(previous + i64::from(u16::from_be_bytes([high, low])));
    }
    let rest = reader.take(2)?;
    Ok(i64::from(u32::from_le_bytes([low, rest[0], rest[1], high & 0x7F])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The table of section 1.3: the previous index, the index, its octets.
    const POSITIVE: &[(i64, u32, &[u8])] = &[
        (-1, 0, &[0x01]),
        (0, 1, &[0x01]),
        (2, 255, &[0xFD]),
        (256, 510, &[0xFE, 0x00, 0xFE]),
        (511, 33_278, &[0xFE, 0x7F, 0xFF]),
        (33_279, 66_047, &[0xFE, 0x80, 0xFF, 0x01, 0x01]),
        (66_047, 5, &[0xFE, 0x80, 0x05, 0x00, 0x00]),
        (5, 5, &[0xFE, 0x00, 0x00]),
    ];

    #[test]
    fn indexes_have_the_documented_octets() {
        for &(positive, index, octets) in POSITIVE {
            let counters = Counters { positive, negative: 1 };
            let mut out = Vec::new();
            NdxWriter(Some(counters)).put(&mut out, Ndx::Entry(index));
            assert_eq!(out, octets, "{index}");
            let read = NdxReader(Some(counters)).read(&mut Reader::new(octets));
            assert_eq!(read, Ok(Ndx::Entry(index)));
        }
    }

    #[test]
    fn special_values_have_the_documented_octets() {
        let mut writer = NdxWriter::default();
        let mut out = Vec::new();
        writer.put(&mut out, Ndx::Done);
        writer.put(&mut out, Ndx::DeletionStats);
        writer.put(&mut out, Ndx::Entry(0));
        assert_eq!(out, [0x00, 0xFF, 0x02, 0x01]);
        let mut reader = NdxReader::default();
        let mut input = Reader::new(&out);
        assert_eq!(reader.read(&mut input), Ok(Ndx::Done));
        assert_eq!(reader.read(&mut input), Ok(Ndx::DeletionStats));
        assert_eq!(reader.read(&mut input), Ok(Ndx::Entry(0)));
    }

    #[test]
    fn before_protocol_30_indexes_are_ints() {
        let (mut writer, mut reader) = (NdxWriter::new(Protocol::OLDEST), NdxReader::new(Protocol::OLDEST));
        let mut out = Vec::new();
        writer.put(&mut out, Ndx::Entry(0x0102));
        writer.put(&mut out, Ndx::Done);
        assert_eq!(out, [2, 1, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        let mut input = Reader::new(&out);
        assert_eq!(reader.read(&mut input), Ok(Ndx::Entry(0x0102)));
        assert_eq!(reader.read(&mut input), Ok(Ndx::Done));
        assert!(reader.read(&mut Reader::new(&[0xFD, 0xFF, 0xFF, 0xFF])).is_err());
    }

    #[test]
    fn what_only_a_sender_says_is_malformed() {
        for octets in [&[0xFF, 0x01][..], &[0xFF, 0x63]] {
            assert!(NdxReader::default().read(&mut Reader::new(octets)).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_sequence_survives_any_cut(indexes in proptest::collection::vec(0_u32..0x7FFF_FFFF, 1..40), small in proptest::collection::vec(0_u32..40_000, 1..40)) {
            let mut writer = NdxWriter::default();
            let mut out = Vec::new();
            let all: Vec<u32> = small.into_iter().chain(indexes).collect();
            for &index in &all {
                writer.put(&mut out, Ndx::Entry(index));
            }
            let mut reader = NdxReader::default();
            let mut start = 0;
            for &index in &all {
                let mut end = start;
                loop {
                    let mut input = Reader::new(&out[start..end]);
                    match reader.read(&mut input) {
                        Ok(ndx) => {
                            prop_assert_eq!(ndx, Ndx::Entry(index));
                            prop_assert_eq!(start + input.position(), end);
                            break;
                        }
                        Err(error) => prop_assert_eq!(error, WireError::Short),
                    }
                    end += 1;
                }
                start = end;
            }
        }
    }
}
