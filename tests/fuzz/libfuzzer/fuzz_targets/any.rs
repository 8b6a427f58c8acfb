//! One program for all targets: the environment variable says which, so that a new one costs no build. Where a target has
//! bounds, each input's time and memory are measured, and one above them is a crash like any other.
#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rookery_fuzz::Bounds;
use rustix::time::{ClockId, clock_gettime};

/// Counts what is allocated now, and the most that it was.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on as it came; only lengths are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Chosen {
    target: fn(&[u8]),
    bounds: Option<Bounds>,
}

fn choose() -> Chosen {
    let name = std::env::var("ROOKERY_FUZZ_TARGET").expect("ROOKERY_FUZZ_TARGET names the target");
    let target = rookery_fuzz::target(&name).expect("a target of rookery-fuzz");
    Chosen { target, bounds: rookery_fuzz::bounds(&name) }
}

/// Of this thread: what else runs on the host does not count.
fn time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

fn measure(target: fn(&[u8]), octets: &[u8]) -> (Duration, usize) {
    let (before, began) = (NOW.load(Ordering::Relaxed), time());
    MOST.store(before, Ordering::Relaxed);
    target(octets);
    (time().saturating_sub(began), MOST.load(Ordering::Relaxed).saturating_sub(before))
}

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    static CHOSEN: OnceLock<Chosen> = OnceLock::new();
    static SLOWEST_US: AtomicUsize = AtomicUsize::new(0);
    static LARGEST: AtomicUsize = AtomicUsize::new(0);
    let Chosen { target, bounds } = CHOSEN.get_or_init(choose);
    let Some(bounds) = bounds else { return target(octets) };
    let (mut took, memory) = measure(*target, octets);
    // An interrupt costs time, too: what is really slow is slow again.
    for _ in 0..2 {
        if took > bounds.time {
            took = took.min(measure(*target, octets).0);
        }
    }
    let micros = usize::try_from(took.as_micros()).unwrap_or(usize::MAX);
    let is_record = micros > SLOWEST_US.fetch_max(micros, Ordering::Relaxed)
        || memory > LARGEST.fetch_max(memory, Ordering::Relaxed);
    if is_record {
        let (slowest, largest) = (SLOWEST_US.load(Ordering::Relaxed), LARGEST.load(Ordering::Relaxed));
        eprintln!("slowest so far {slowest} us, largest so far {largest} octets");
    }
    assert!(took <= bounds.time, "took {took:?} of the processor's time, more than {:?}", bounds.time);
    assert!(memory <= bounds.memory_bytes, "took {memory} octets of memory, more than {}", bounds.memory_bytes);
});
