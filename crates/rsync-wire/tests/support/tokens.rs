//! A client's token decoders.

use super::client::Input;
use flate2::{Decompress, FlushDecompress};
use rsync_wire::compress::CompressorKind;
use zstd::stream::raw::{Decoder, Operation};

/// Decodes one file after the other.
pub struct Tokens {
    kind: CompressorKind,
    zstd: Decoder<'static>,
}

/// The literals of one file, and how many of the client's blocks were referred to. With zlib blocks enter the history,
/// and this client has none: what follows one there is passed over.
pub type File = (Vec<u8>, usize);

impl Tokens {
    pub fn new(kind: CompressorKind) -> Self {
        Self { kind, zstd: Decoder::new().unwrap() }
    }

    pub fn file(&mut self, input: &mut Input) -> File {
        if self.kind == CompressorKind::None {
            return plain(input);
        }
        let mut inflate = Decompress::new(false);
        let (mut literals, mut blocks, mut fed) = (Vec::new(), 0, false);
        loop {
            let flag = input.byte();
            let is_beyond_us = blocks > 0 && self.kind == CompressorKind::Zlib;
            if flag & 0xC0 == 0x40 {
                let len = usize::from(flag & 0x3F) << 8 | usize::from(input.byte());
                let piece = input.take(len);
                if is_beyond_us {
                    continue;
                }
                fed = true;
                match self.kind {
                    CompressorKind::Lz4 => {
                        literals.extend(lz4_flex::block::decompress(&piece, 32_912).unwrap());
                    }
                    CompressorKind::Zstd => unzstd(&mut self.zstd, &piece, &mut literals),
                    CompressorKind::Zlib | CompressorKind::Zlibx | CompressorKind::None => {
                        run_inflate(&mut inflate, &piece, &mut literals);
                    }
                }
                continue;
            }
            if std::mem::take(&mut fed) && matches!(self.kind, CompressorKind::Zlib | CompressorKind::Zlibx) {
                run_inflate(&mut inflate, &[0, 0, 0xFF, 0xFF], &mut literals);
            }
            match flag {
                0 => return (literals, blocks),
                0x20 | 0x21 => drop(input.int()),
                _ => assert!(flag & 0x80 != 0, "token {flag:#x}"),
            }
            blocks += 1;
            if flag == 0x21 || flag & 0xC0 == 0xC0 {
                blocks += usize::from(input.short());
            }
        }
    }
}

fn plain(input: &mut Input) -> File {
    let (mut literals, mut blocks) = (Vec::new(), 0);
    loop {
        match input.int() {
            0 => return (literals, blocks),
            block @ ..0 => {
                assert!(block < 0);
                blocks += 1;
            }
            len => {
                assert!(len <= 32_768, "a literal of {len}");
                literals.extend(input.take(usize::try_from(len).unwrap()));
            }
        }
    }
}

fn run_inflate(inflate: &mut Decompress, mut piece: &[u8], out: &mut Vec<u8>) {
    loop {
        out.reserve(1 << 16);
        let before = inflate.total_in();
        inflate.decompress_vec(piece, out, FlushDecompress::Sync).unwrap();
        piece = &piece[usize::try_from(inflate.total_in() - before).unwrap()..];
        if piece.is_empty() && out.len() < out.capacity() {
            return;
        }
    }
}

fn unzstd(decoder: &mut Decoder<'_>, mut piece: &[u8], out: &mut Vec<u8>) {
    let mut buffer = vec![0; 1 << 17];
    loop {
        let status = decoder.run_on_buffers(piece, &mut buffer).unwrap();
        out.extend_from_slice(&buffer[..status.bytes_written]);
        piece = &piece[status.bytes_read..];
        if piece.is_empty() && status.bytes_written < buffer.len() {
            return;
        }
    }
}
