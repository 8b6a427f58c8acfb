//! The decoders here follow the notes, not the encoders: they stand for a client.

use super::*;
use crate::codec::Reader;
use crate::mux::{FrameReader, Received};
use bytes::BytesMut;
use flate2::{Decompress, FlushDecompress};
use proptest::prelude::*;

fn sample(len: usize, seed: u32) -> Vec<u8> {
    let mut x = seed | 1;
    let mut step = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        x.to_le_bytes()[3]
    };
    // Half text-like, half noise, so that both ends of the compressors are seen.
    (0..len).map(|at| if (at / 9000) % 2 == 0 { b"ebuild "[at % 7] } else { step() }).collect()
}

struct Client {
    kind: CompressorKind,
    zstd: ::zstd::stream::raw::Decoder<'static>,
}

impl Client {
    fn new(kind: CompressorKind) -> Self {
        Self { kind, zstd: ::zstd::stream::raw::Decoder::new().unwrap() }
    }

    fn file(&mut self, input: &mut Reader<'_>) -> Vec<u8> {
        if self.kind == CompressorKind::None {
            return plain(input);
        }
        let mut deflate = Decompress::new(false);
        let mut out = Vec::new();
        let mut fed = false;
        loop {
            let flag = input.byte().unwrap();
            if flag == END {
                if fed && matches!(self.kind, CompressorKind::Zlib | CompressorKind::Zlibx) {
                    inflate(&mut deflate, &[0, 0, 0xFF, 0xFF], &mut out);
                }
                return out;
            }
            assert_eq!(flag & 0xC0, PIECE, "only literals");
            let len = usize::from(flag & 0x3F) << 8 | usize::from(input.byte().unwrap());
            assert!(len > 0, "an empty piece");
            let piece = input.take(len).unwrap();
            fed = true;
            match self.kind {
                CompressorKind::Lz4 => out.extend(lz4_flex::block::decompress(piece, 32_912).unwrap()),
                CompressorKind::Zstd => self.unzstd(piece, &mut out),
                CompressorKind::Zlib | CompressorKind::Zlibx | CompressorKind::None => {
                    inflate(&mut deflate, piece, &mut out);
                }
            }
        }
    }

    fn unzstd(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        use ::zstd::stream::raw::Operation as _;
        let mut buffer = vec![0; 1 << 17];
        loop {
            let status = self.zstd.run_on_buffers(piece, &mut buffer).unwrap();
            out.extend_from_slice(&buffer[..status.bytes_written]);
            piece = &piece[status.bytes_read..];
            if piece.is_empty() && status.bytes_written < buffer.len() {
                return;
            }
        }
    }
}

fn plain(input: &mut Reader<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let token = input.int().unwrap();
        let len = usize::try_from(token).expect("only literals");
        assert!(len <= 32_768);
        if len == 0 {
            return out;
        }
        out.extend_from_slice(input.take(len).unwrap());
    }
}

fn inflate(stream: &mut Decompress, mut piece: &[u8], out: &mut Vec<u8>) {
    loop {
        out.reserve(1 << 16);
        let before = stream.total_in();
        stream.decompress_vec(piece, out, FlushDecompress::Sync).unwrap();
        piece = &piece[usize::try_from(stream.total_in() - before).unwrap()..];
        if piece.is_empty() && out.len() < out.capacity() {
            return;
        }
    }
}

/// Sends files in literals of `step` octets and gives what a client makes of them.
fn round_trip(compression: Compression, files: &[Vec<u8>], step: usize) -> Vec<Vec<u8>> {
    let kind = compression.kind;
    let mut tokens = TokenWriter::new(compression);
    let mut frames = FrameWriter::default();
    for file in files {
        for literal in file.chunks(step) {
            tokens.literal(literal, &mut frames).unwrap();
        }
        tokens.finish_file(&mut frames).unwrap();
    }
    let (mut raw, mut data) = (BytesMut::from(&frames.take()[..]), BytesMut::new());
    let mut reader = FrameReader::default();
    while reader.read(&mut raw, &mut data) == Ok(Received::Data) {}
    assert!(raw.is_empty());
    let mut input = Reader::new(&data);
    let kind = if matches!(tokens.form, Form::Plain) { CompressorKind::None } else { kind };
    let mut client = Client::new(kind);
    let got = files.iter().map(|_| client.file(&mut input)).collect();
    assert!(input.is_empty());
    got
}

#[test]
fn every_compressor_carries_files_of_all_sizes() {
    let sizes = [0, 1, 2, 16_382, 16_383, 16_384, 0, 32_769, 140_001];
    let files: Vec<_> = (1..).zip(sizes).map(|(seed, len)| sample(len, seed)).collect();
    for kind in CompressorKind::OFFERED {
        for (level, stores) in
            [(None, false), (Some(0), false), (Some(-100), false), (Some(100), false), (Some(9), true)]
        {
            let compression = Compression { kind, level, stores };
            for step in [131_072, 5000] {
                assert!(round_trip(compression, &files, step) == files, "{compression:?} {step}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_files_survive(
        files in proptest::collection::vec((0_usize..40_000, any::<u32>()), 1..6),
        kind in proptest::sample::select(CompressorKind::OFFERED.to_vec()),
        step in 1_usize..50_000,
    ) {
        let files: Vec<_> = files.into_iter().map(|(len, seed)| sample(len, seed)).collect();
        let compression = Compression { kind, level: None, stores: false };
        prop_assert!(round_trip(compression, &files, step.max(100)) == files);
    }
}

/// A client with a basis file: literals and blocks in turn. With zlib each block is put into the history as a stored
/// block of deflate, which is how clients do it.
fn with_blocks(
    kind: CompressorKind,
    basis: &[u8],
    block_len: usize,
    turns: &[(u32, Vec<u8>)],
) -> (Vec<u8>, usize) {
    let block = |number: u32| {
        let at = number as usize * block_len;
        &basis[at..(at + block_len).min(basis.len())]
    };
    let mut tokens = TokenWriter::new(Compression { kind, level: None, stores: false });
    let mut frames = FrameWriter::default();
    for (number, literal) in turns {
        tokens.block(*number, block(*number), &mut frames).unwrap();
        tokens.literal(literal, &mut frames).unwrap();
    }
    tokens.finish_file(&mut frames).unwrap();
    let (mut raw, mut data) = (BytesMut::from(&frames.take()[..]), BytesMut::new());
    let mut reader = FrameReader::default();
    while reader.read(&mut raw, &mut data) == Ok(Received::Data) {}
    let mut input = Reader::new(&data);
    let (mut deflate, mut out, mut previous, mut fed) = (Decompress::new(false), Vec::new(), 0, false);
    loop {
        let flag = input.byte().unwrap();
        if flag & 0xC0 == PIECE {
            let len = usize::from(flag & 0x3F) << 8 | usize::from(input.byte().unwrap());
            inflate(&mut deflate, input.take(len).unwrap(), &mut out);
            fed = true;
            continue;
        }
        if std::mem::take(&mut fed) {
            inflate(&mut deflate, &[0, 0, 0xFF, 0xFF], &mut out);
        }
        let first = match flag {
            END => return (out, data.len()),
            0x20 | 0x21 => u32::try_from(input.int().unwrap()).unwrap(),
            _ => previous + u32::from(flag & 0x3F),
        };
        let more = if flag == 0x21 || flag & 0xC0 == 0xC0 { input.short().unwrap() } else { 0 };
        for number in first..=first + u32::from(more) {
            let octets = block(number);
            if kind == CompressorKind::Zlib {
                let len = u16::try_from(octets.len()).unwrap().to_le_bytes();
                let stored = [&[0, len[0], len[1], !len[0], !len[1]], octets].concat();
                inflate(&mut deflate, &stored, &mut out);
            } else {
                out.extend_from_slice(octets);
            }
            previous = number;
        }
    }
}

#[test]
fn blocks_enter_the_history_of_zlib_and_not_of_zlibx() {
    let basis = sample(60_000, 3);
    for block_len in [700, 5000, 60_000] {
        let blocks = u32::try_from(basis.len().div_ceil(block_len)).unwrap();
        // Literals that repeat what is in the block before: what the history is good for.
        let repeat = |number: u32| basis[number as usize * block_len..][..block_len.min(600)].to_vec();
        let turns: Vec<_> =
            (0..blocks).map(|n| (n, if n % 3 == 0 { repeat(n) } else { Vec::new() })).collect();
        let expected: Vec<u8> = turns
            .iter()
            .flat_map(|(n, literal)| {
                let at = *n as usize * block_len;
                [&basis[at..(at + block_len).min(basis.len())], literal].concat()
            })
            .collect();
        let (with, with_len) = with_blocks(CompressorKind::Zlib, &basis, block_len, &turns);
        let (without, without_len) = with_blocks(CompressorKind::Zlibx, &basis, block_len, &turns);
        assert!(with == expected && without == expected, "{block_len}");
        assert!(with_len < without_len, "{block_len}: {with_len} {without_len}");
    }
}
