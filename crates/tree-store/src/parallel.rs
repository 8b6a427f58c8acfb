//! One function over many items on every processor.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Beyond this, readers only wait for the same disk.
pub(crate) const THREADS_MAX: usize = 8;

pub(crate) fn threads_count() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX)
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
