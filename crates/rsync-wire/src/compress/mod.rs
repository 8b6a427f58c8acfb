//! Tokens: how a file's contents are sent, plain or compressed (section 9): literals, and the numbers of blocks that
//! the client has.

mod deflate;
mod lz4;
mod runs;
mod zstd;

use crate::WireError;
use crate::limits::DATA_LEN_MAX;
use crate::mux::FrameWriter;

/// A way to send contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompressorKind {
    /// zstd frames that end with their file.
    Zstd,
    /// LZ4 blocks.
    Lz4,
    /// Deflate, where matched blocks stay out of the history.
    Zlibx,
    /// Deflate, the oldest form: matched blocks enter the history on both sides.
    Zlib,
    /// Plain tokens.
    None,
}

impl CompressorKind {
    /// What is offered in the negotiation, best first.
    pub const OFFERED: [Self; 5] = [Self::Zstd, Self::Lz4, Self::Zlibx, Self::Zlib, Self::None];

    /// The kind of a name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::OFFERED.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(name))
    }

    /// Its name in the negotiation.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Zlibx => "zlibx",
            Self::Zlib => "zlib",
            Self::None => "none",
        }
    }
}

/// How the contents of a connection are sent.
#[derive(Debug, Clone, Copy)]
pub struct Compression {
    /// In which form.
    pub kind: CompressorKind,
    /// The client's wish, clamped to what is worth its time.
    pub level: Option<i32>,
    /// zlib and zlibx keep their form and compress nothing; the others have no such level.
    pub stores: bool,
}

/// The longest piece of compressed data behind one header.
const PIECE_LEN_MAX: usize = 0x3FFF;
/// A piece's first octet: this bit, then the high six bits of the length.
const PIECE: u8 = 0x40;
/// The end of a file's tokens in the compressed forms.
const END: u8 = 0x00;

/// Where tokens go.
pub trait Sink {
    /// Appends octets.
    fn data(&mut self, octets: &[u8]);
}

impl Sink for FrameWriter {
    fn data(&mut self, octets: &[u8]) {
        Self::data(self, octets);
    }
}

impl Sink for Vec<u8> {
    fn data(&mut self, octets: &[u8]) {
        self.extend_from_slice(octets);
    }
}

/// Writes the tokens of one file after the other. No file's tokens depend on another's: they can be kept.
#[derive(Debug)]
pub struct TokenWriter {
    form: Form,
    /// In the compressed forms, blocks that follow each other are one token.
    runs: runs::Runs,
    /// zlib alone.
    blocks_enter_history: bool,
}

#[derive(Debug)]
enum Form {
    /// Lengths and literals.
    Plain,
    /// zlib and zlibx.
    Deflate(Box<deflate::DeflateTokens>),
    Lz4(lz4::Lz4Tokens),
    Zstd(zstd::ZstdTokens),
}

impl TokenWriter {
    /// A writer for a connection.
    #[must_use]
    pub fn new(Compression { kind, level, stores }: Compression) -> Self {
        let form = match kind {
            CompressorKind::None => Form::Plain,
            CompressorKind::Zlib | CompressorKind::Zlibx => match level {
                // A client that wants no compression expects the plain form (9.3).
                Some(0) => Form::Plain,
                level => Form::Deflate(Box::new(deflate::DeflateTokens::new(level, stores))),
            },
            CompressorKind::Lz4 => Form::Lz4(lz4::Lz4Tokens::default()),
            CompressorKind::Zstd => Form::Zstd(zstd::ZstdTokens::new(level)),
        };
        let blocks_enter_history = kind == CompressorKind::Zlib;
        Self { form, runs: runs::Runs::default(), blocks_enter_history }
    }

    /// Adds literal octets of the current file.
    ///
    /// # Errors
    /// [`WireError::Compression`].
    pub fn literal(&mut self, octets: &[u8], out: &mut impl Sink) -> Result<(), WireError> {
        self.runs.flush(out);
        match &mut self.form {
            Form::Plain => {
                for literal in octets.chunks(DATA_LEN_MAX) {
                    put_int(literal.len(), out);
                    out.data(literal);
                }
                Ok(())
            }
            Form::Deflate(tokens) => tokens.literal(octets, out),
            Form::Lz4(tokens) => tokens.literal(octets, out),
            Form::Zstd(tokens) => tokens.literal(octets, out),
        }
    }

    /// Refers to a block that the client has, and whose contents are `octets`.
    ///
    /// # Errors
    /// [`WireError::Compression`].
    pub fn block(&mut self, number: u32, octets: &[u8], out: &mut impl Sink) -> Result<(), WireError> {
        match &mut self.form {
            Form::Plain => {
                out.data(&(!number).to_le_bytes());
                return Ok(());
            }
            // What was said before comes first, to its last octet.
            Form::Deflate(tokens) => {
                tokens.flush(out)?;
                if self.blocks_enter_history {
                    tokens.remember(octets)?;
                }
            }
            Form::Lz4(_) => {}
            Form::Zstd(tokens) => tokens.flush(out)?,
        }
        self.runs.add(number, out);
        Ok(())
    }

    /// All tokens of a file that is at hand as a whole.
    ///
    /// # Errors
    /// [`WireError::Compression`].
    pub fn whole_file(&mut self, octets: &[u8], out: &mut impl Sink) -> Result<(), WireError> {
        match &mut self.form {
            Form::Zstd(tokens) => tokens.whole(octets, out)?,
            Form::Plain | Form::Deflate(_) | Form::Lz4(_) => self.literal(octets, out)?,
        }
        self.finish_file(out)
    }

    /// Ends the current file's tokens; the next literal belongs to the next file.
    ///
    /// # Errors
    /// [`WireError::Compression`].
    pub fn finish_file(&mut self, out: &mut impl Sink) -> Result<(), WireError> {
        self.runs.finish_file(out);
        match &mut self.form {
            Form::Plain => {
                put_int(0, out);
                return Ok(());
            }
            Form::Deflate(tokens) => tokens.finish_file(out)?,
            Form::Lz4(_) => {}
            Form::Zstd(tokens) => tokens.flush(out)?,
        }
        out.data(&[END]);
        Ok(())
    }
}

fn put_int(value: usize, out: &mut impl Sink) {
    let [a, b, c, d, ..] = value.to_le_bytes();
    out.data(&[a, b, c, d]);
}

/// Writes one piece of 1 to [`PIECE_LEN_MAX`] octets behind its header.
fn put_piece(piece: &[u8], out: &mut impl Sink) {
    let [low, high, ..] = piece.len().to_le_bytes();
    out.data(&[PIECE | high, low]);
    out.data(piece);
}

/// Writes whole pieces off the front of `pending`; at the end also what is left.
fn put_pieces(pending: &mut Vec<u8>, at_end: bool, out: &mut impl Sink) {
    let mut pieces = pending.chunks_exact(PIECE_LEN_MAX);
    for piece in pieces.by_ref() {
        put_piece(piece, out);
    }
    let rest = pieces.remainder().len();
    if at_end && rest > 0 {
        put_piece(pieces.remainder(), out);
    }
    let kept = if at_end { 0 } else { rest };
    pending.drain(..pending.len() - kept);
}

#[cfg(test)]
mod tests;
