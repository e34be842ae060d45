//! Compresses outgoing messages if that makes them smaller. Pure: no I/O.

use bytes::Bytes;
use flate2::{Compress, FlushCompress};

use super::{
    Deflate, Stats, per_thread,
    wire::{self, FLUSHED, Kind},
};
use crate::{
    Message,
    message::trailer::{self, Layer},
};

/// The largest message that is compressed into the buffer of the thread, which has about this size.
const SCRATCH: usize = 64 << 10;

/// Returns the largest size that `length` bytes can have when they are compressed: level 1 gives each byte 9 bits at
/// most, the other levels store data that does not shrink. With this room every message can be flushed whole, and zlib
/// knows that it is (zlib-rs 0.6 panics later if a state is reset with bytes left to write).
const fn room(length: usize) -> usize {
    length + length / 7 + 64
}

/// The outgoing direction of one connection.
#[derive(Debug, Default)]
pub(super) struct Compressor {
    /// If the context is kept: created for the first message that needs it.
    context: Option<Box<KeptContext>>,
}

/// The messages sent so far, and how much they have saved.
///
/// A small message alone seldom shrinks; the next one that resembles it does. If a message that does not shrink were
/// sent plain, the peer would not see it in its context, and the context would be lost. Such messages are therefore
/// sent compressed on credit.
#[derive(Debug)]
struct KeptContext {
    state: Compress,
    /// The number of bytes by which messages may grow before one is sent plain.
    credit: usize,
}

/// The initial credit of a connection.
const CREDIT: usize = 1 << 10;

/// The maximum credit, and the largest message that may use it.
pub(super) const MOST: usize = 4 << 10;

impl KeptContext {
    fn new(deflate: &Deflate) -> Self {
        Self { state: per_thread::new_compress(deflate.level), credit: CREDIT }
    }

    fn compress(&mut self, plain: &[u8], kind: Kind, deflate: &Deflate) -> Option<Bytes> {
        // A large message that grows would use up the credit of many small ones.
        let growth = if plain.len() <= MOST { self.credit } else { 0 };
        let compressed = compress(&mut self.state, plain, kind, growth, deflate);
        match &compressed {
            Some(compressed) => {
                self.credit = (self.credit + plain.len()).saturating_sub(compressed.len()).min(MOST);
            }
            // Sent plain, these bytes are not in the peer's context.
            None => self.state.reset(),
        }
        compressed
    }
}

impl Compressor {
    /// Returns whether a message is sent as it is.
    #[inline]
    pub(super) fn passes(message: &Message, deflate: &Deflate) -> bool {
        match message {
            Message::Text(text) => !deflate.wants(text.len()),
            Message::Binary(bytes) => !wants_binary(bytes, deflate) && !wire::may_be_marked(bytes),
            _ => true,
        }
    }

    /// Returns the message to send.
    pub(super) fn encode(&mut self, message: Message, deflate: &Deflate, stats: &Stats) -> Message {
        let (plain, is_wanted) = match &message {
            Message::Text(text) => (text.as_bytes(), deflate.wants(text.len())),
            Message::Binary(bytes) => (&**bytes, wants_binary(bytes, deflate)),
            _ => return message,
        };
        if !is_wanted {
            return trailer::close(Layer::Compression, message);
        }
        let kind = Kind { is_text: matches!(message, Message::Text(_)), is_kept: deflate.keep_context };
        let compressed = if deflate.keep_context {
            let context = self.context.get_or_insert_with(|| Box::new(KeptContext::new(deflate)));
            context.compress(plain, kind, deflate)
        } else {
            per_thread::with_compress(deflate.level, |state| compress(state, plain, kind, 0, deflate))
        };
        match compressed {
            Some(compressed) => {
                stats.count_sent(plain.len(), compressed.len());
                Message::Binary(compressed)
            }
            None => {
                stats.count_skipped();
                trailer::close(Layer::Compression, message)
            }
        }
    }

    /// Starts a new context, because a message was compressed and then not sent.
    pub(super) fn forget(&mut self) {
        if let Some(context) = &mut self.context {
            context.state.reset();
        }
    }
}

#[inline]
fn wants_binary(bytes: &[u8], deflate: &Deflate) -> bool {
    deflate.wants(bytes.len()) && (deflate.batches || trailer::kind(Layer::Batch, bytes).is_none())
}

/// Returns `plain` compressed, in memory of exactly that size. Returns `None` if it does not shrink (or grows by more
/// than `growth`), or shrinks so much that the peer would refuse it.
fn compress(state: &mut Compress, plain: &[u8], kind: Kind, growth: usize, deflate: &Deflate) -> Option<Bytes> {
    let end = wire::end(u32::try_from(plain.len()).ok()?, kind);
    let is_worth_it = |data: usize| {
        let size = data + wire::OVERHEAD;
        // The peer checks the ratio, too: a message of zeros would be refused there, and is sent plain in place of
        // that.
        (size < plain.len() || size <= plain.len() + growth && growth > 0) && deflate.is_sound(plain.len(), data)
    };
    if plain.len() <= SCRATCH {
        return per_thread::with_scratch(|scratch| {
            scratch.reserve_exact(room(plain.len()));
            let length = run(state, plain, scratch, deflate).filter(|length| is_worth_it(*length))?;
            let data = scratch.get(..length)?;
            // A message may wait in a queue for long, so it holds no spare memory.
            let mut exact = Vec::with_capacity(data.len() + wire::OVERHEAD);
            exact.extend_from_slice(data);
            exact.extend_from_slice(&end);
            Some(exact.into())
        });
    }
    let mut out = Vec::with_capacity(room(plain.len()));
    let length = run(state, plain, &mut out, deflate).filter(|length| is_worth_it(*length))?;
    out.truncate(length);
    out.extend_from_slice(&end);
    out.shrink_to_fit();
    Some(out.into())
}

/// Compresses into the capacity of `out`. Returns the length of the deflate data.
fn run(state: &mut Compress, plain: &[u8], out: &mut Vec<u8>, deflate: &Deflate) -> Option<usize> {
    let before = state.total_in();
    let result = state.compress_vec(plain, out, FlushCompress::Sync);
    let is_read = state.total_in() - before == plain.len() as u64;
    if result.is_err() || !is_read || out.len() == out.capacity() || !out.ends_with(&FLUSHED) {
        // There was room, so this should not happen. The state must not be used again.
        *state = per_thread::new_compress(deflate.level);
        return None;
    }
    Some(out.len() - FLUSHED.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::compression::Level;

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
    fn there_is_room_for_whatever_comes_at_every_level() {
        for level in 0..=9 {
            let deflate = Deflate::new().level(Level::try_from(level).unwrap());
            let mut state = per_thread::new_compress(deflate.level);
            for length in (1..100).chain([1000, 16_383, 65_536, 65_537, 300_000]) {
                let plain = worst(length);
                let mut out = Vec::with_capacity(room(length));
                assert!(run(&mut state, &plain, &mut out, &deflate).is_some(), "{length} bytes at level {level}");
                state.reset();
            }
        }
    }
}
