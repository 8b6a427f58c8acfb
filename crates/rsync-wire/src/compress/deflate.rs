//! zlib and zlibx: raw deflate, one stream a file, each run of literals ended by a sync flush (9.3). With zlib the
//! blocks that a client has are a part of the history: they are compressed, too, and what comes out is dropped.

use super::{Sink, put_pieces};
use crate::WireError;
use flate2::{Compress, Compression, FlushCompress};

/// What a sync flush ends with; the receiver adds it again.
const FLUSH_TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
const LEVEL_DEFAULT: i32 = 6;
const OUTPUT_STEP: usize = 32 * 1024;

/// One raw deflate stream at a time.
#[derive(Debug)]
pub(super) struct DeflateTokens {
    stream: Compress,
    pending: Vec<u8>,
    fed: bool,
    /// The current file has a history.
    used: bool,
}

impl DeflateTokens {
    pub(super) fn new(level: Option<i32>, stores: bool) -> Self {
        let level = level.filter(|&level| level >= 0).unwrap_or(LEVEL_DEFAULT).clamp(1, 9);
        let level =
            if stores { Compression::none() } else { Compression::new(u32::try_from(level).unwrap_or(6)) };
        Self { stream: Compress::new(level, false), pending: Vec::new(), fed: false, used: false }
    }

    pub(super) fn literal(&mut self, octets: &[u8], out: &mut impl Sink) -> Result<(), WireError> {
        self.fed |= !octets.is_empty();
        self.run(octets, FlushCompress::None)?;
        put_pieces(&mut self.pending, false, out);
        Ok(())
    }

    pub(super) fn finish_file(&mut self, out: &mut impl Sink) -> Result<(), WireError> {
        self.flush(out)?;
        if std::mem::take(&mut self.used) {
            self.stream.reset();
        }
        Ok(())
    }

    /// Ends a run of literals: the client has all of it then.
    pub(super) fn flush(&mut self, out: &mut impl Sink) -> Result<(), WireError> {
        if !std::mem::take(&mut self.fed) {
            return Ok(());
        }
        self.run(&[], FlushCompress::Sync)?;
        if !self.pending.ends_with(&FLUSH_TAIL) {
            return Err(WireError::Compression("a deflate stream was not flushed".to_owned()));
        }
        self.pending.truncate(self.pending.len() - FLUSH_TAIL.len());
        put_pieces(&mut self.pending, true, out);
        self.used = true;
        Ok(())
    }

    /// Takes octets that the client has into the history. What was said before must have been flushed.
    pub(super) fn remember(&mut self, octets: &[u8]) -> Result<(), WireError> {
        if octets.is_empty() {
            return Ok(());
        }
        // Up to a boundary of octets, which is where the client goes on.
        self.run(octets, FlushCompress::Sync)?;
        self.pending.clear();
        self.used = true;
        Ok(())
    }

    /// Feeds all of `octets`, and goes on until the output has room left: then nothing is held back.
    fn run(&mut self, mut octets: &[u8], flush: FlushCompress) -> Result<(), WireError> {
        loop {
            self.pending.reserve(OUTPUT_STEP);
            let before = self.stream.total_in();
            self.stream
                .compress_vec(octets, &mut self.pending, flush)
                .map_err(|error| WireError::Compression(error.to_string()))?;
            let taken = usize::try_from(self.stream.total_in() - before).unwrap_or(octets.len());
            octets = &octets[taken.min(octets.len())..];
            if octets.is_empty() && self.pending.len() < self.pending.capacity() {
                return Ok(());
            }
        }
    }
}
