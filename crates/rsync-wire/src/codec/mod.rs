//! The integers and strings that everything else is made of (section 1).

mod ndx;
mod reader;
mod varint;

pub use ndx::{Ndx, NdxReader, NdxWriter};
pub use reader::Reader;
pub use varint::{put_varint, put_varlong};

use crate::Protocol;

/// Appends an int, which has four octets before protocol 30 and a variable length from then on.
pub fn put_number(out: &mut Vec<u8>, value: i32, protocol: Protocol) {
    if protocol < Protocol::V30 {
        out.extend_from_slice(&value.to_le_bytes());
    } else {
        put_varint(out, value);
    }
}

/// Appends a long: before protocol 30 an int if it fits one, or else all ones and eight octets; from then on
/// of variable length, `octets_min` or more.
pub fn put_long(out: &mut Vec<u8>, value: i64, octets_min: usize, protocol: Protocol) {
    match i32::try_from(value) {
        _ if protocol >= Protocol::V30 => put_varlong(out, value, octets_min),
        Ok(small @ 0..) => out.extend_from_slice(&small.to_le_bytes()),
        _ => {
            out.extend_from_slice(&[0xFF; 4]);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// Appends a string with its length in front: one octet up to 127, two octets up to 32767. Longer strings
/// are cut, which no caller's bounds allow to happen.
pub fn put_vstring(out: &mut Vec<u8>, text: &[u8]) {
    let text = &text[..text.len().min(0x7FFF)];
    let [high, low] = u16::try_from(text.len()).unwrap_or(0x7FFF).to_be_bytes();
    if text.len() >= 0x80 {
        out.push(0x80 | high);
    }
    out.push(low);
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::{Reader, put_long, put_number, put_vstring};
    use crate::Protocol;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_longs_survive_at_every_protocol(number: i32, long: i64, shift in 0_u32..64, version in 29_u32..=32) {
            let protocol = Protocol::negotiate(version, 0).unwrap();
            let long = long >> shift;
            let mut out = Vec::new();
            put_number(&mut out, number, protocol);
            put_long(&mut out, long, 3, protocol);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.number(protocol).unwrap(), number);
            prop_assert_eq!(reader.long(3, protocol).unwrap(), long);
            prop_assert!(reader.is_empty());
            for cut in 0..out.len() {
                let mut reader = Reader::new(&out[..cut]);
                prop_assert!(reader.number(protocol).and_then(|_| reader.long(3, protocol)).is_err());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn vstrings_survive(text in proptest::collection::vec(any::<u8>(), 0..1000)) {
            let mut out = Vec::new();
            put_vstring(&mut out, &text);
            prop_assert_eq!(Reader::new(&out).vstring(1000).unwrap(), text.as_slice());
            for cut in 0..out.len() {
                prop_assert!(Reader::new(&out[..cut]).vstring(1000).is_err());
            }
        }
    }
}
