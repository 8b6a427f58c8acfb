//! Bare line feeds in what clients send.
//!
//! A parser that takes a lone LF for a line's end, behind or before one that doesn't, reads other requests
//! than its neighbour does (RFC 9112, section 2.2). Ours takes it, and can't be told otherwise. No request
//! here has a body, so every octet that a client sends is of a head, and no head has a lone LF.

/// What the parser gets instead: no octet that a head may have, so it answers 400.
const REFUSED: u8 = 0;

/// Whether the octet before was a CR.
#[derive(Debug, Clone, Copy, Default)]
pub struct LineEnds {
    after_cr: bool,
}

impl LineEnds {
    /// Spoils every lone LF, wherever the octets were cut.
    pub fn spoil_bare(&mut self, octets: &mut [u8]) {
        for octet in octets {
            if *octet == b'\n' && !self.after_cr {
                *octet = REFUSED;
            }
            self.after_cr = *octet == b'\r';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lone_line_feed_is_spoilt_wherever_the_octets_are_cut() {
        let sent = b"\nGET / HTTP/1.1\r\nA: b\nC: d\r\r\n\n\r\n";
        let expected = b"\0GET / HTTP/1.1\r\nA: b\0C: d\r\r\n\0\r\n";
        for cut in 0..=sent.len() {
            let mut line_ends = LineEnds::default();
            let mut got = sent.to_vec();
            let (first, second) = got.split_at_mut(cut);
            line_ends.spoil_bare(first);
            line_ends.spoil_bare(second);
            assert_eq!(got, expected, "cut at {cut}");
        }
    }
}
