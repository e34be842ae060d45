//! The states of zlib, one of each per thread. A message is compressed or inflated within one call, so no connection
//! holds a state in between. Resetting a state is several times cheaper than creating one.

use std::{cell::Cell, thread::LocalKey};

use flate2::{Compress, Compression, Decompress};

use super::Level;

thread_local! {
    static COMPRESS: Cell<Option<(Level, Compress)>> = const { Cell::new(None) };
    static DECOMPRESS: Cell<Option<Decompress>> = const { Cell::new(None) };
    static SCRATCH: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
}

/// Creates a state that compresses to raw deflate.
pub(super) fn new_compress(level: Level) -> Compress {
    Compress::new(Compression::new(level.get().into()), false)
}

/// Creates a state that inflates raw deflate.
pub(super) fn new_decompress() -> Decompress {
    Decompress::new(false)
}

/// Runs `task` with this thread's compressor, which is reset.
pub(super) fn with_compress<R>(level: Level, task: impl FnOnce(&mut Compress) -> R) -> R {
    let fresh = || (level, new_compress(level));
    let (_, mut compress) = match take(&COMPRESS) {
        Some((last, mut compress)) => {
            compress.reset();
            if last == level || compress.set_level(Compression::new(level.get().into())).is_ok() {
                (level, compress)
            } else {
                fresh()
            }
        }
        None => fresh(),
    };
    let result = task(&mut compress);
    put(&COMPRESS, (level, compress));
    result
}

/// Runs `task` with this thread's inflater, which is reset.
pub(super) fn with_decompress<R>(task: impl FnOnce(&mut Decompress) -> R) -> R {
    let mut decompress = match take(&DECOMPRESS) {
        Some(mut decompress) => {
            decompress.reset(false);
            decompress
        }
        None => new_decompress(),
    };
    let result = task(&mut decompress);
    put(&DECOMPRESS, decompress);
    result
}

/// Runs `task` with an empty buffer. The buffer is kept, so it must not become large.
pub(super) fn with_scratch<R>(task: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut scratch = take(&SCRATCH).unwrap_or_default();
    scratch.clear();
    let result = task(&mut scratch);
    put(&SCRATCH, scratch);
    result
}

/// Also returns `None` on a thread that is about to end.
fn take<T>(slot: &'static LocalKey<Cell<Option<T>>>) -> Option<T> {
    slot.try_with(Cell::take).ok().flatten()
}

fn put<T>(slot: &'static LocalKey<Cell<Option<T>>>, value: T) {
    // On a thread that is about to end, the value is dropped.
    let _ = slot.try_with(|slot| slot.set(Some(value)));
}
