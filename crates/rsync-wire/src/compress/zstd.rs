//! zstd: one stream for the whole connection, flushed after each file (9.4).

use super::put_pieces;
use crate::WireError;
use crate::mux::FrameWriter;
use std::io;
use zstd::stream::raw::{Encoder, Operation, OutBuffer};

const LEVEL_DEFAULT: i32 = 3;
/// Higher levels need tens of MiB a connection.
const LEVEL_MAX: i32 = 9;
const LEVEL_MIN: i32 = -7;
const OUTPUT_STEP: usize = 32 * 1024;

/// One zstd stream, which exists from the first literal on: it is megabytes.
pub(super) struct ZstdTokens {
    level: i32,
    stream: Option<Encoder<'static>>,
    pending: Vec<u8>,
    fed: bool,
}

impl ZstdTokens {
    pub(super) fn new(level: Option<i32>) -> Self {
        let level = level.filter(|&level| level != 0).unwrap_or(LEVEL_DEFAULT);
        Self { level: level.clamp(LEVEL_MIN, LEVEL_MAX), stream: None, pending: Vec::new(), fed: false }
    }

    pub(super) fn literal(&mut self, mut octets: &[u8], out: &mut FrameWriter) -> Result<(), WireError> {
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

    /// Ends a run of literals: the client has all of it then.
    pub(super) fn flush(&mut self, out: &mut FrameWriter) -> Result<(), WireError> {
        if !std::mem::take(&mut self.fed) {
            return Ok(());
        }
        let (stream, pending) = self.parts()?;
        loop {
            let start = pending.len();
            pending.resize(start + OUTPUT_STEP, 0);
            let mut buffer = OutBuffer::around(&mut pending[start..]);
            let left = stream.flush(&mut buffer).map_err(failed)?;
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
