//! zstd: a frame ends where a run of literals ends, at the latest with its file (9.4).
//!
//! One stream for the whole connection would compress files that resemble each other better, but each file's octets
//! would depend on those before it, and each connection would hold megabytes of history.

use super::{Sink, put_pieces};
use crate::WireError;
use std::io;
use zstd::bulk::Compressor;
use zstd::stream::raw::{Encoder, Operation, OutBuffer};

const LEVEL_DEFAULT: i32 = 3;
/// Higher levels need tens of MiB a connection.
const LEVEL_MAX: i32 = 9;
const LEVEL_MIN: i32 = -7;
const OUTPUT_STEP: usize = 32 * 1024;

/// Both compressors exist from when they are first needed: they are large.
pub(super) struct ZstdTokens {
    level: i32,
    /// For files that come in pieces.
    stream: Option<Encoder<'static>>,
    /// For files at hand: it knows their length, so that its tables are no larger than they need to be.
    whole: Option<Compressor<'static>>,
    pending: Vec<u8>,
    /// A frame is begun.
    fed: bool,
}

impl ZstdTokens {
    pub(super) fn new(level: Option<i32>) -> Self {
        let level = level.filter(|&level| level != 0).unwrap_or(LEVEL_DEFAULT);
        let level = level.clamp(LEVEL_MIN, LEVEL_MAX);
        Self { level, stream: None, whole: None, pending: Vec::new(), fed: false }
    }

    /// A file in one frame.
    pub(super) fn whole(&mut self, octets: &[u8], out: &mut impl Sink) -> Result<(), WireError> {
        if octets.is_empty() {
            return Ok(());
        }
        let compressor = match self.whole.take() {
            Some(compressor) => compressor,
            None => Compressor::new(self.level).map_err(failed)?,
        };
        let compressor = self.whole.insert(compressor);
        self.pending.resize(zstd::zstd_safe::compress_bound(octets.len()), 0);
        let written = compressor.compress_to_buffer(octets, &mut self.pending[..]).map_err(failed)?;
        self.pending.truncate(written);
        put_pieces(&mut self.pending, true, out);
        Ok(())
    }

    pub(super) fn literal(&mut self, mut octets: &[u8], out: &mut impl Sink) -> Result<(), WireError> {
        while !octets.is_empty() {
            self.fed = true;
            let (stream, pending) = self.parts()?;
            let start = pending.len();
            pending.resize(start + OUTPUT_STEP, 0);
            let status = stream.run_on_buffers(octets, &mut pending[start..]).map_err(failed)?;
            pending.truncate(start + status.bytes_written);
            octets = &octets[status.bytes_read..];
            put_pieces(pending, false, out);
        }
        Ok(())
    }

    /// Ends a run of literals, and the frame: the client has all of it then.
    pub(super) fn flush(&mut self, out: &mut impl Sink) -> Result<(), WireError> {
        if !std::mem::take(&mut self.fed) {
            return Ok(());
        }
        let (stream, pending) = self.parts()?;
        loop {
            let start = pending.len();
            pending.resize(start + OUTPUT_STEP, 0);
            let mut buffer = OutBuffer::around(&mut pending[start..]);
            let left = stream.finish(&mut buffer, true).map_err(failed)?;
            let written = buffer.pos();
            pending.truncate(start + written);
            if left == 0 {
                break;
            }
        }
        put_pieces(pending, true, out);
        Ok(())
    }

    fn parts(&mut self) -> Result<(&mut Encoder<'static>, &mut Vec<u8>), WireError> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => Encoder::new(self.level).map_err(failed)?,
        };
        Ok((self.stream.insert(stream), &mut self.pending))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn failed(error: io::Error) -> WireError {
    WireError::Compression(error.to_string())
}

impl std::fmt::Debug for ZstdTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZstdTokens").field("level", &self.level).finish_non_exhaustive()
    }
}
