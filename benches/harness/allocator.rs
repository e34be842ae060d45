//! An allocator that counts what passes through it.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Bytes that are allocated now, in the whole process.
pub fn live_bytes() -> usize {
    LIVE.load(Relaxed)
}

/// Allocations so far, in the whole process; a reallocation is one.
pub fn allocations() -> u64 {
    ALLOCATIONS.load(Relaxed)
}

/// The system's allocator, counted.
pub struct Counting;

impl Counting {
    fn grow(bytes: usize) {
        LIVE.fetch_add(bytes, Relaxed);
        ALLOCATIONS.fetch_add(1, Relaxed);
    }
}

// SAFETY: every call goes to `System` with the caller's own arguments; counting touches two atomics and allocates
// nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::grow(layout.size());
        // SAFETY: the caller's promise about `layout`, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::grow(layout.size());
        // SAFETY: the caller's promise about `layout`, handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise about `memory` and `layout`, handed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size(), Relaxed);
        Self::grow(size);
        // SAFETY: the caller's promise about `memory`, `layout` and `size`, handed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}
