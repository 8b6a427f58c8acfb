//! One function over many items on every processor.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Beyond this, readers only wait for the same disk.
pub(crate) const THREADS_MAX: usize = 8;

pub(crate) fn threads_count() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX)
}

/// What `convert` makes of each item, in their order. `None` if a thread panicked.
pub(crate) fn map<T: Sync, M: Send>(items: &[T], convert: impl Fn(&T) -> M + Sync) -> Option<Vec<M>> {
    // A few items at a time: each may take only microseconds.
    const ITEMS_AT_ONCE: usize = 16;
    if items.len() <= ITEMS_AT_ONCE {
        return Some(items.iter().map(convert).collect());
    }
    let pieces: Vec<&[T]> = items.chunks(ITEMS_AT_ONCE).collect();
    let numbered: Vec<(usize, &[T])> = pieces.into_iter().enumerate().collect();
    let mut made = find_all(&numbered, |(number, piece), _| {
        Some((*number, piece.iter().map(&convert).collect::<Vec<_>>()))
    })?;
    made.sort_unstable_by_key(|(number, _)| *number);
    Some(made.into_iter().flat_map(|(_, piece)| piece).collect())
}

/// What `find` finds among the items, in no order. Each thread has one buffer. `None` if a thread
/// panicked, so that nothing was found out.
pub(crate) fn find_all<T: Sync, F: Send>(
    items: &[T],
    find: impl Fn(&T, &mut Vec<u8>) -> Option<F> + Sync,
) -> Option<Vec<F>> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut found = Vec::new();
        let mut buffer = vec![0; 256 << 10];
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            found.extend(find(item, &mut buffer));
        }
        found
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads_count()).map(|_| scope.spawn(run)).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().ok()?);
        }
        Some(all)
    })
}
