//! The integers and strings that everything else is made of (section 1).

mod ndx;
mod reader;
mod varint;

pub use ndx::{Ndx, NdxReader, NdxWriter};
pub use reader::Reader;
pub use varint::{put_varint, put_varlong};

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
    use super::{Reader, put_vstring};
    use proptest::prelude::*;

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
