//! What bodies on their way to clients hold in memory, all connections together.
//!
//! A client that stops reading holds what was read for it for as long as its pace allows. Large pieces, and one
//! read ahead, are quicker; a thousand such clients would hold a gigabyte. So pieces are large while there is
//! plenty, and small beyond that, without anything read ahead.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// Up to this, there is plenty.
const PLENTY_BYTES: u64 = 24 << 20;
const LARGE_PIECE_BYTES: u64 = 256 << 10;
const SMALL_PIECE_BYTES: u64 = 16 << 10;

/// Held by this process.
static HELD_BYTES: AtomicU64 = AtomicU64::new(0);

/// How much the next read may take.
pub(super) fn piece_bytes() -> u64 {
    if is_plenty() { LARGE_PIECE_BYTES } else { SMALL_PIECE_BYTES }
}

/// Whether something may be read before it is asked for.
pub(super) fn is_plenty() -> bool {
    HELD_BYTES.load(Ordering::Relaxed) < PLENTY_BYTES
}

/// Octets that count until the last piece of them is gone.
pub(super) fn held(octets: Vec<u8>) -> Bytes {
    HELD_BYTES.fetch_add(octets.len() as u64, Ordering::Relaxed);
    Bytes::from_owner(Held(octets))
}

struct Held(Vec<u8>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD_BYTES.fetch_sub(self.0.len() as u64, Ordering::Relaxed);
    }
}
