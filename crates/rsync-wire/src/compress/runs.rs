//! Block numbers in the compressed forms: those that follow each other are one token (9.2).

use super::Sink;

const ABSOLUTE: u8 = 0x20;
const ABSOLUTE_RUN: u8 = 0x21;
const RELATIVE: u8 = 0x80;
const RELATIVE_RUN: u8 = 0xC0;
/// How far a relative token reaches.
const RELATIVE_MAX: u32 = 0x3F;

/// Holds back a run of blocks until something else comes.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// The first block, and how many follow it.
    run: Option<(u32, u16)>,
    /// The last block of the run before, in this file.
    previous: u32,
}

impl Runs {
    pub(super) fn add(&mut self, number: u32, out: &mut impl Sink) {
        if let Some((first, more)) = &mut self.run
            && *more < u16::MAX
            && first.checked_add(u32::from(*more) + 1) == Some(number)
        {
            *more += 1;
            return;
        }
        self.flush(out);
        self.run = Some((number, 0));
    }

    pub(super) fn flush(&mut self, out: &mut impl Sink) {
        let Some((first, more)) = self.run.take() else { return };
        let distance = first.checked_sub(self.previous).filter(|&distance| distance <= RELATIVE_MAX);
        if let Some(distance) = distance.and_then(|distance| u8::try_from(distance).ok()) {
            out.data(&[if more == 0 { RELATIVE } else { RELATIVE_RUN } | distance]);
        } else {
            out.data(&[if more == 0 { ABSOLUTE } else { ABSOLUTE_RUN }]);
            out.data(&first.to_le_bytes());
        }
        if more > 0 {
            out.data(&more.to_le_bytes());
        }
        self.previous = first + u32::from(more);
    }

    pub(super) fn finish_file(&mut self, out: &mut impl Sink) {
        self.flush(out);
        self.previous = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::FrameWriter;

    fn said(blocks: &[u32]) -> Vec<u8> {
        let (mut runs, mut out) = (Runs::default(), FrameWriter::default());
        for &block in blocks {
            runs.add(block, &mut out);
        }
        runs.finish_file(&mut out);
        out.take()[4..].to_vec()
    }

    #[test]
    fn runs_have_the_documented_octets() {
        let first: Vec<u32> = (0..=9).chain(12..=15).collect();
        assert_eq!(said(&first), [0xC0, 9, 0, 0xC3, 3, 0]);
        assert_eq!(said(&[5]), [0x85]);
        assert_eq!(said(&[64]), [0x20, 64, 0, 0, 0]);
        assert_eq!(said(&[70, 71, 3]), [0x21, 70, 0, 0, 0, 1, 0, 0x20, 3, 0, 0, 0]);
        let long: Vec<u32> = (0..=65_536).collect();
        assert_eq!(said(&long), [0xC0, 0xFF, 0xFF, 0x81]);
    }
}
