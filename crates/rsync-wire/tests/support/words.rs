//! What a client says, written by hand.

use rsync_wire::codec::{Ndx, NdxWriter};
use rsync_wire::memory::MemoryTree;

/// A client up to the frames: protocol 31, no negotiation.
pub fn hello(options: &[&str]) -> Vec<u8> {
    let mut octets = b"@RSYNCD: 31.0\nm\n--server\0--sender\0".to_vec();
    for argument in options.iter().chain(&[".", "m/"]) {
        octets.extend_from_slice(argument.as_bytes());
        octets.push(0);
    }
    octets.push(0);
    octets
}

pub fn frame(data: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = u32::try_from(data.len()).unwrap().to_le_bytes();
    [&[a, b, c, 7][..], data].concat()
}

pub const NO_FILTERS: [u8; 4] = [0; 4];

/// Whole-file requests for these indexes.
pub fn requests(ndx: &mut NdxWriter, indexes: impl IntoIterator<Item = u32>) -> Vec<u8> {
    let mut octets = Vec::new();
    for index in indexes {
        ndx.put(&mut octets, Ndx::Entry(index));
        octets.extend_from_slice(&[0x00, 0xA0]);
        octets.extend_from_slice(&[0; 16]);
    }
    octets
}

pub fn client(options: &[&str], data: &[u8]) -> Vec<u8> {
    [hello(options), frame(&NO_FILTERS), data.chunks(30_000).flat_map(frame).collect()].concat()
}

pub fn small_tree() -> MemoryTree {
    let mut tree = MemoryTree::new(0);
    tree.file("a", b"first", 0o644, (1, 0));
    tree.file("b", &vec![7; 300_000], 0o644, (2, 0));
    tree
}
