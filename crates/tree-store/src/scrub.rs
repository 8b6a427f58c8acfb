//! Reads every content of a generation again and compares its digest.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use blake2::{Blake2b512, Digest as _};

use crate::generation::{Generation, NodeId};

/// The paths whose content can't be read or is not what it was, sorted.
pub(crate) fn damaged_paths(generation: &Generation) -> Vec<Vec<u8>> {
    let files: Vec<NodeId> = generation.ids().filter(|&id| generation.content(id).is_some()).collect();
    let next = AtomicUsize::new(0);
    let run = || {
        let mut damaged = Vec::new();
        let mut buffer = vec![0; 256 << 10];
        while let Some(&id) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            if !is_whole(generation, id, &mut buffer) {
                damaged.push(generation.path(id));
            }
        }
        damaged
    };
    let count = thread::available_parallelism().map_or(1, usize::from).min(8);
    let mut damaged: Vec<_> = thread::scope(|scope| {
        let readers: Vec<_> = (0..count).map(|_| scope.spawn(run)).collect();
        readers.into_iter().flat_map(|reader| reader.join().unwrap_or_default()).collect()
    });
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
