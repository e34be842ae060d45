//! Counts the memory that the current thread holds, so that tests that run beside do not disturb.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread that ends has nothing left to measure.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        PEAK.try_with(|peak| peak.set(peak.get().max(held.get())))
    });
}

// SAFETY: all is left to the system's allocator; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// How many bytes this thread held at most beyond what it holds now.
pub(crate) struct Growth(isize);

impl Growth {
    pub(crate) fn start() -> Self {
        let held = HELD.get();
        PEAK.set(held);
        Self(held)
    }

    pub(crate) fn peak(&self) -> usize {
        (PEAK.get() - self.0).try_into().unwrap()
    }
}

#[test]
fn what_is_given_back_still_counts_in_the_peak() {
    let growth = Growth::start();
    drop(std::hint::black_box(vec![0_u8; 100_000]));
    assert!((100_000..110_000).contains(&growth.peak()), "{}", growth.peak());
}
