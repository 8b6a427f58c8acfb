//! lz4: every piece is a block of its own (9.5).

use super::{PIECE_LEN_MAX, Sink, put_piece};
use crate::WireError;

/// Independent LZ4 blocks.
#[derive(Debug, Default)]
pub(super) struct Lz4Tokens {
    block: Vec<u8>,
}

impl Lz4Tokens {
    pub(super) fn literal(&mut self, octets: &[u8], out: &mut impl Sink) -> Result<(), WireError> {
        for piece in octets.chunks(PIECE_LEN_MAX) {
            self.piece(piece, out)?;
        }
        Ok(())
    }

    /// What doesn't get short enough in one block is sent as two.
    fn piece(&mut self, piece: &[u8], out: &mut impl Sink) -> Result<(), WireError> {
        self.block.resize(lz4_flex::block::get_maximum_output_size(piece.len()), 0);
        let len = lz4_flex::block::compress_into(piece, &mut self.block)
            .map_err(|error| WireError::Compression(error.to_string()))?;
        if len <= PIECE_LEN_MAX {
            put_piece(&self.block[..len], out);
            return Ok(());
        }
        let (first, second) = piece.split_at(piece.len() / 2);
        self.piece(first, out)?;
        self.piece(second, out)
    }
}
