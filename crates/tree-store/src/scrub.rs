//! Reads every content of a generation again and compares its digest.

use blake2::{Blake2b512, Digest as _};

use crate::generation::{Generation, NodeId};
use crate::parallel;

/// The paths whose content can't be read or is not what it was, sorted.
pub(crate) fn damaged_paths(generation: &Generation) -> Vec<Vec<u8>> {
    let files: Vec<NodeId> = generation.ids().filter(|&id| generation.content(id).is_some()).collect();
    let find =
        |&id: &NodeId, buffer: &mut Vec<u8>| (!is_whole(generation, id, buffer)).then(|| generation.path(id));
    // A panic in there would be a bug; then nothing is known to be whole.
    let damaged = parallel::find_all(&files, find);
    let mut damaged = damaged.unwrap_or_else(|| files.iter().map(|&id| generation.path(id)).collect());
    damaged.sort_unstable();
    damaged
}

fn is_whole(generation: &Generation, id: NodeId, buffer: &mut [u8]) -> bool {
    let mut hasher = Blake2b512::new();
    let mut offset = 0;
    loop {
        match generation.read_at(id, offset, buffer) {
            Ok(0) => break,
            Ok(read) => {
                hasher.update(&buffer[..read]);
                offset += read as u64;
            }
            Err(_) => return false,
        }
    }
    let found: [u8; 64] = hasher.finalize().into();
    generation.content(id).is_some_and(|content| *content.digest.as_bytes() == found)
}
