//! Compresses outgoing messages if that makes them smaller. Pure: no I/O.

use bytes::Bytes;

use super::{
    Deflate, Stats,
    wire::{self, Kind},
};
use crate::{
    Message,
    message::trailer::{self, Layer},
    zlib::{self, Deflater, MAX_WINDOW_BITS},
};

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
    state: Deflater,
    /// The number of bytes by which messages may grow before one is sent plain.
    credit: usize,
}

/// The initial credit of a connection.
const CREDIT: usize = 1 << 10;

/// The maximum credit, and the largest message that may use it.
pub(super) const MOST: usize = 4 << 10;

impl KeptContext {
    fn new(deflate: &Deflate) -> Self {
        Self { state: Deflater::new(deflate.level, MAX_WINDOW_BITS), credit: CREDIT }
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
            zlib::with_deflater(deflate.level, MAX_WINDOW_BITS, |state| compress(state, plain, kind, 0, deflate))
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

/// Returns `plain` compressed, with its mark. Returns `None` if it does not shrink (or grows by more than `growth`), or
/// shrinks so much that the peer would refuse it.
fn compress(state: &mut Deflater, plain: &[u8], kind: Kind, growth: usize, deflate: &Deflate) -> Option<Bytes> {
    let end = wire::end(u32::try_from(plain.len()).ok()?, kind);
    state.compress(plain, &end, |data| {
        let size = data + wire::OVERHEAD;
        // The peer checks the ratio, too: a message of zeros would be refused there, and is sent plain in place of
        // that.
        (size < plain.len() || size <= plain.len() + growth && growth > 0) && deflate.is_sound(plain.len(), data)
    })
}
