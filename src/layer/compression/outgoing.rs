//! Messages, compressed where it pays. Pure: no I/O.

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

/// Up to this size messages are compressed into a buffer of the thread, of about this size.
const SCRATCH: usize = 64 << 10;

/// What `length` bytes are at most when they are compressed: level 1 gives each byte 9 bits at most, the others store what does
/// not shrink. In this room every message can be flushed whole, and zlib sees that it is (a state that is reset with bytes left
/// to write panics later, in zlib-rs 0.6).
const fn room(length: usize) -> usize {
    length + length / 8 + 64
}

/// The outgoing direction of one connection.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// What was sent so far, where the context is kept: made for the first message that needs it.
    context: Option<Box<Compress>>,
}

impl Outgoing {
    /// The message as it is sent.
    #[inline]
    pub(super) fn encode(&mut self, message: Message, deflate: &Deflate, stats: &Stats) -> Message {
        let passes = match &message {
            Message::Text(text) => !deflate.wants(text.len()),
            Message::Binary(bytes) => !deflate.wants(bytes.len()) && !wire::may_be_marked(bytes),
            _ => true,
        };
        if passes { message } else { self.transform(message, deflate, stats) }
    }

    fn transform(&mut self, message: Message, deflate: &Deflate, stats: &Stats) -> Message {
        let plain = match &message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
            _ => return message,
        };
        if !deflate.wants(plain.len()) {
            return trailer::close(Layer::Compression, message);
        }
        let kind = Kind { is_text: matches!(message, Message::Text(_)), is_kept: deflate.keep_context };
        let compressed = if deflate.keep_context {
            let context = self.context.get_or_insert_with(|| Box::new(per_thread::new_compress(deflate.level)));
            let compressed = compress(context, plain, kind, deflate);
            if compressed.is_none() {
                // The peer will not see these bytes in its context.
                context.reset();
            }
            compressed
        } else {
            per_thread::with_compress(deflate.level, |state| compress(state, plain, kind, deflate))
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

    /// A message was compressed and then not sent: what follows refers to nothing before.
    pub(super) fn forget(&mut self) {
        if let Some(context) = &mut self.context {
            context.reset();
        }
    }
}

/// `plain` as it is sent compressed, in memory of exactly that size; `None` if that is not smaller, or smaller than the peer
/// would believe.
fn compress(state: &mut Compress, plain: &[u8], kind: Kind, deflate: &Deflate) -> Option<Bytes> {
    let length = u32::try_from(plain.len()).ok()?;
    if plain.len() <= SCRATCH {
        return per_thread::with_scratch(|scratch| {
            scratch.reserve_exact(room(plain.len()));
            let length_of_data = run(state, plain, scratch, deflate)?;
            let data = scratch.get(..length_of_data)?;
            let mut exact = Vec::with_capacity(data.len() + wire::OVERHEAD);
            exact.extend_from_slice(data);
            exact.extend_from_slice(&wire::end(length, kind));
            Some(exact.into())
        });
    }
    let mut out = Vec::with_capacity(room(plain.len()));
    let data = run(state, plain, &mut out, deflate)?;
    out.truncate(data);
    out.extend_from_slice(&wire::end(length, kind));
    out.shrink_to_fit();
    Some(out.into())
}

/// Compresses into `out`, and says how many bytes of it are the deflate data, if that is worth it.
fn run(state: &mut Compress, plain: &[u8], out: &mut Vec<u8>, deflate: &Deflate) -> Option<usize> {
    let before = state.total_in();
    let result = state.compress_vec(plain, out, FlushCompress::Sync);
    let is_read = state.total_in() - before == plain.len() as u64;
    if result.is_err() || !is_read || out.len() == out.capacity() || !out.ends_with(&FLUSHED) {
        // There was room, so this should not be. The state must not be used again.
        *state = per_thread::new_compress(deflate.level);
        return None;
    }
    let data = out.len() - FLUSHED.len();
    (data + wire::OVERHEAD < plain.len() && deflate.is_sound(plain.len(), data)).then_some(data)
}
