//! zlib for messages: compression levels, and states that the connections of a thread share. Two users:
//! `layer::compression` and the WebSocket extension permessage-deflate.
//!
//! A message is compressed or inflated within one call, so no connection holds a state in between, unless it keeps its
//! context. Resetting a state is several times cheaper than creating one.

use std::{cell::Cell, thread::LocalKey};

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress};

use crate::Error;

/// The end of a sync flush: an empty stored block.
pub(crate) const FLUSHED: [u8; 4] = [0, 0, 0xff, 0xff];

/// The largest message that is compressed or inflated into the buffer of the thread, which has about this size.
pub(crate) const SCRATCH: usize = 64 << 10;

/// The largest window of deflate, as a power of two in bytes.
pub(crate) const MAX_WINDOW_BITS: u8 = 15;

thread_local! {
    static DEFLATER: Cell<Option<Deflater>> = const { Cell::new(None) };
    static INFLATER: Cell<Option<Decompress>> = const { Cell::new(None) };
    static BUFFER: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
}

/// A level of zlib, from 0 (stores only, so everything is sent plain) to 9 (smallest).
///
/// ```
/// use tower_transport::layer::compression::Level;
///
/// assert_eq!(Level::try_from(1)?, Level::FASTEST);
/// assert!(Level::try_from(10).unwrap_err().is_config());
/// # Ok::<(), tower_transport::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// 0: sends everything plain, and inflates the messages of a peer that compresses.
    pub const NONE: Self = Self(0);
    /// 1, the default: the fastest level that compresses.
    pub const FASTEST: Self = Self(1);
    /// 6, zlib's own default.
    pub const BALANCED: Self = Self(6);
    /// 9: the smallest, for messages that are compressed once and sent to many peers.
    pub const SMALLEST: Self = Self(9);

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::FASTEST
    }
}

impl TryFrom<u8> for Level {
    type Error = Error;

    /// Returns an error for which [`is_config`](Error::is_config) is true if the level is above 9.
    fn try_from(level: u8) -> Result<Self, Error> {
        if level <= 9 {
            Ok(Self(level))
        } else {
            Err(Error::config(format!("there is no compression level {level}: choose one of 0 to 9")))
        }
    }
}

/// A state that compresses to raw deflate.
#[derive(Debug)]
pub(crate) struct Deflater {
    level: Level,
    window_bits: u8,
    state: Compress,
}

impl Deflater {
    /// Creates a state. `window_bits` is 9 to 15; zlib cannot use a window of 8 bits.
    pub(crate) fn new(level: Level, window_bits: u8) -> Self {
        Self { level, window_bits, state: new_compress(level, window_bits) }
    }

    /// Starts a new context.
    pub(crate) fn reset(&mut self) {
        self.state.reset();
    }

    /// Returns `plain` compressed, without the end of its flush ([`FLUSHED`]) but with `end`, in memory of exactly that
    /// size. Returns `None` if `is_worth_it` rejects the length of the deflate data.
    pub(crate) fn compress(
        &mut self,
        plain: &[u8],
        end: &[u8],
        is_worth_it: impl FnOnce(usize) -> bool,
    ) -> Option<Bytes> {
        if plain.len() <= SCRATCH {
            return with_buffer(|buffer| {
                buffer.reserve_exact(room(plain.len()));
                let length = self.flush(plain, buffer).filter(|length| is_worth_it(*length))?;
                let data = buffer.get(..length)?;
                // A message may wait in a queue for long, so it holds no spare memory.
                let mut exact = Vec::with_capacity(data.len() + end.len());
                exact.extend_from_slice(data);
                exact.extend_from_slice(end);
                Some(exact.into())
            });
        }
        let mut out = Vec::with_capacity(room(plain.len()));
        let length = self.flush(plain, &mut out).filter(|length| is_worth_it(*length))?;
        out.truncate(length);
        out.extend_from_slice(end);
        out.shrink_to_fit();
        Some(out.into())
    }

    /// Compresses into the capacity of `out`. Returns the length of the deflate data.
    fn flush(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let before = self.state.total_in();
        let result = self.state.compress_vec(plain, out, FlushCompress::Sync);
        let is_read = self.state.total_in() - before == plain.len() as u64;
        if result.is_err() || !is_read || out.len() == out.capacity() || !out.ends_with(&FLUSHED) {
            // There was room, so this should not happen. The state must not be used again.
            self.state = new_compress(self.level, self.window_bits);
            return None;
        }
        Some(out.len() - FLUSHED.len())
    }
}

/// Returns the largest size that `length` bytes can have when they are compressed: level 1 gives each byte 9 bits at
/// most, the other levels store data that does not shrink. With this room every message can be flushed whole, and zlib
/// knows that it is (zlib-rs 0.6 panics later if a state is reset with bytes left to write).
const fn room(length: usize) -> usize {
    length + length / 7 + 64
}

fn new_compress(level: Level, window_bits: u8) -> Compress {
    Compress::new_with_window_bits(Compression::new(level.get().into()), false, window_bits)
}

/// Creates a state that inflates raw deflate, whatever the window of the sender.
pub(crate) fn new_decompress() -> Decompress {
    Decompress::new(false)
}

/// Runs `task` with this thread's compressor, which is reset.
pub(crate) fn with_deflater<R>(level: Level, window_bits: u8, task: impl FnOnce(&mut Deflater) -> R) -> R {
    let mut deflater = match take(&DEFLATER).filter(|deflater| deflater.window_bits == window_bits) {
        Some(mut deflater) => {
            deflater.reset();
            if deflater.level != level {
                deflater.level = level;
                if deflater.state.set_level(Compression::new(level.get().into())).is_err() {
                    deflater.state = new_compress(level, window_bits);
                }
            }
            deflater
        }
        None => Deflater::new(level, window_bits),
    };
    let result = task(&mut deflater);
    put(&DEFLATER, deflater);
    result
}

/// Runs `task` with this thread's inflater, which is reset.
pub(crate) fn with_inflater<R>(task: impl FnOnce(&mut Decompress) -> R) -> R {
    let mut inflater = match take(&INFLATER) {
        Some(mut inflater) => {
            inflater.reset(false);
            inflater
        }
        None => new_decompress(),
    };
    let result = task(&mut inflater);
    put(&INFLATER, inflater);
    result
}

/// Runs `task` with an empty buffer. The buffer is kept, so it must not become large.
pub(crate) fn with_buffer<R>(task: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut buffer = take(&BUFFER).unwrap_or_default();
    buffer.clear();
    let result = task(&mut buffer);
    put(&BUFFER, buffer);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without a pattern, none of which the fixed code of deflate gives less than 9 bits.
    fn worst(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            144 + ((state >> 32) % 112) as u8
        };
        std::iter::repeat_with(byte).take(length).collect()
    }

    #[test]
    fn there_is_room_for_whatever_comes_at_every_level_and_with_every_window() {
        for (level, window_bits) in (0..=9).map(|level| (level, 15)).chain((9..15).map(|bits| (1, bits))) {
            let mut deflater = Deflater::new(Level::try_from(level).unwrap(), window_bits);
            for length in (1..100).chain([1000, 16_383, 65_536, 65_537, 300_000]) {
                let plain = worst(length);
                let mut out = Vec::with_capacity(room(length));
                assert!(deflater.flush(&plain, &mut out).is_some(), "{length} bytes at level {level}");
                deflater.reset();
            }
        }
    }
}
