//! Integers whose first octet says by its leading ones how many octets follow (1.1, 1.2).

/// Appends the shortest form of a 32-bit value.
pub fn put_varint(out: &mut Vec<u8>, value: i32) {
    put(out, &value.to_le_bytes(), 1);
}

/// Appends the shortest form of a 64-bit value that has `octets_min` octets or more.
pub fn put_varlong(out: &mut Vec<u8>, value: i64, octets_min: usize) {
    put(out, &value.to_le_bytes(), octets_min);
}

/// `octets` is the value, least significant first. The highest significant octet goes into the first one,
/// below its leading ones, if it fits there; otherwise one more octet follows.
fn put(out: &mut Vec<u8>, octets: &[u8], octets_min: usize) {
    let significant = octets.iter().rposition(|&o| o != 0).map_or(1, |last| last + 1);
    let count = significant.max(octets_min);
    let top = octets[count - 1];
    let extra = count - octets_min;
    if u16::from(top) < 1 << (7 - extra) {
        out.push(leading_ones(extra) | top);
        out.extend_from_slice(&octets[..count - 1]);
    } else {
        out.push(leading_ones(extra + 1));
        out.extend_from_slice(&octets[..count]);
    }
}

fn leading_ones(count: usize) -> u8 {
    !(0xFF_u8.checked_shr(u32::try_from(count).unwrap_or(8)).unwrap_or(0))
}

/// How many octets beyond the minimum follow a first octet: 7 and 8 leading ones count as 6.
pub(super) fn extra_octets(first: u8) -> usize {
    (first.leading_ones() as usize).min(6)
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::*;
    use proptest::prelude::*;

    fn varint(value: i32) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        out
    }

    fn varlong(value: i64, octets_min: usize) -> Vec<u8> {
        let mut out = Vec::new();
        put_varlong(&mut out, value, octets_min);
        out
    }

    #[test]
    fn varint_has_the_documented_octets() {
        let table: &[(i32, &[u8])] = &[
            (0, &[0x00]),
            (1, &[0x01]),
            (127, &[0x7F]),
            (128, &[0x80, 0x80]),
            (255, &[0x80, 0xFF]),
            (256, &[0x81, 0x00]),
            (511, &[0x81, 0xFF]),
            (16_383, &[0xBF, 0xFF]),
            (16_384, &[0xC0, 0x00, 0x40]),
            (65_535, &[0xC0, 0xFF, 0xFF]),
            (2_097_151, &[0xDF, 0xFF, 0xFF]),
            (2_097_152, &[0xE0, 0x00, 0x00, 0x20]),
            (268_435_455, &[0xEF, 0xFF, 0xFF, 0xFF]),
            (268_435_456, &[0xF0, 0x00, 0x00, 0x00, 0x10]),
            (i32::MAX, &[0xF0, 0xFF, 0xFF, 0xFF, 0x7F]),
            (-1, &[0xF0, 0xFF, 0xFF, 0xFF, 0xFF]),
        ];
        for &(value, octets) in table {
            assert_eq!(varint(value), octets, "{value}");
            assert_eq!(Reader::new(octets).varint().unwrap(), value);
        }
    }

    #[test]
    fn varlong_has_the_documented_octets() {
        let table: &[(i64, usize, &[u8])] = &[
            (0, 3, &[0x00, 0x00, 0x00]),
            (32, 3, &[0x00, 0x20, 0x00]),
            (65_536, 3, &[0x01, 0x00, 0x00]),
            (102_400, 3, &[0x01, 0x00, 0x90]),
            (8_388_607, 3, &[0x7F, 0xFF, 0xFF]),
            (8_388_608, 3, &[0x80, 0x00, 0x00, 0x80]),
            (5_000_000_000, 3, &[0xC1, 0x00, 0xF2, 0x05, 0x2A]),
            (1_700_000_003, 4, &[0x65, 0x03, 0xF1, 0x53]),
            (2_147_483_648, 4, &[0x80, 0x00, 0x00, 0x00, 0x80]),
            (8_000_000_000, 4, &[0x81, 0x00, 0x50, 0xD6, 0xDC]),
            (0, 4, &[0x00, 0x00, 0x00, 0x00]),
            (-1, 4, &[0xF8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
            (-315_619_200, 4, &[0xF8, 0x80, 0x08, 0x30, 0xED, 0xFF, 0xFF, 0xFF, 0xFF]),
        ];
        for &(value, octets_min, octets) in table {
            assert_eq!(varlong(value, octets_min), octets, "{value}");
            assert_eq!(Reader::new(octets).varlong(octets_min).unwrap(), value);
        }
    }

    #[test]
    fn overlong_forms_are_malformed() {
        assert!(Reader::new(&[0xF8; 9]).varint().is_err());
        assert!(Reader::new(&[0xFF; 12]).varlong(4).is_err());
    }

    proptest! {
        #[test]
        fn varint_survives(value: i32) {
            let octets = varint(value);
            prop_assert_eq!(Reader::new(&octets).varint().unwrap(), value);
            for cut in 0..octets.len() {
                prop_assert!(Reader::new(&octets[..cut]).varint().is_err());
            }
        }

        #[test]
        fn varlong_survives(value: i64, shift in 0_u32..64, octets_min in 3_usize..=4) {
            let value = value >> shift;
            let octets = varlong(value, octets_min);
            prop_assert_eq!(Reader::new(&octets).varlong(octets_min).unwrap(), value);
        }
    }
}
