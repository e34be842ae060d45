//! The mark that a layer of this crate puts at the *end* of a binary message, so that the payload keeps its position
//! and alignment. `docs/wire.md` describes the format. Pure: no I/O.
//!
//! ```text
//! ... payload ... | body of the mark | kind | layer | F8 74 74 78 01 FF
//!                                      the last 8 bytes
//! ```
//!
//! A message without the mark is plain, so peers that do not know the mark are understood. A plain message that happens
//! to end like a mark of the same layer is sent with another mark behind it, of kind [`PLAIN`].

use bytes::{Bytes, BytesMut};

use crate::Message;

/// The length of a mark without its body.
pub(crate) const LEN: usize = 8;

/// Two bytes that never occur in UTF-8, around `ttx` and the version of the format.
const MAGIC: [u8; 6] = [0xf8, b't', b't', b'x', 1, 0xff];

/// The kind of mark that only says that the preceding bytes are a plain message.
pub(crate) const PLAIN: u8 = 0;

/// The layer that a mark belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(dead_code, reason = "which of them are used depends on the features")]
pub(crate) enum Layer {
    Compression = 1,
    Batch = 2,
    Resume = 3,
    Heartbeat = 4,
    Trace = 5,
    Auth = 6,
    Stack = 7,
}

/// A message as one layer sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// A message that does not concern this layer, as it was before [`close`].
    Plain(Message),
    /// A message with this layer's mark: the mark's kind (never [`PLAIN`]), and everything before the mark.
    Marked(u8, Bytes),
}

/// Returns the mark itself.
#[allow(dead_code, reason = "used by those who write into a buffer of their own")]
pub(crate) const fn mark(layer: Layer, kind: u8) -> [u8; LEN] {
    [kind, layer as u8, MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], MAGIC[4], MAGIC[5]]
}

/// Returns the kind of the mark at the end of `payload`, if it is a mark of this layer.
#[inline]
pub(crate) fn kind(layer: Layer, payload: &[u8]) -> Option<u8> {
    match payload.last_chunk::<LEN>()? {
        [kind, of, magic @ ..] if *of == layer as u8 && *magic == MAGIC => Some(*kind),
        _ => None,
    }
}

/// Ensures that a plain message is recognized as plain. Copies only a message that ends in a mark of this layer.
#[inline]
pub(crate) fn close(layer: Layer, message: Message) -> Message {
    match &message {
        Message::Binary(payload) if kind(layer, payload).is_some() => Message::Binary(append(payload, layer, PLAIN)),
        _ => message,
    }
}

/// Returns `before` followed by the mark: one allocation and one copy.
pub(crate) fn append(before: &[u8], layer: Layer, kind: u8) -> Bytes {
    let mut marked = BytesMut::with_capacity(before.len() + LEN);
    marked.extend_from_slice(before);
    marked.extend_from_slice(&mark(layer, kind));
    marked.freeze()
}

/// Returns the number of bytes that [`close`] adds to this message.
#[inline]
#[cfg_attr(not(feature = "resume"), allow(dead_code, reason = "only the resume layer counts bytes"))]
pub(crate) fn escape_len(layer: Layer, message: &Message) -> usize {
    match message {
        Message::Binary(payload) if kind(layer, payload).is_some() => LEN,
        _ => 0,
    }
}

/// Returns whether `payload` ends like a mark of any layer, so that one of them may have to escape it. At most one
/// does: an escaped message ends in the mark of the layer that escaped it.
#[inline]
#[cfg(feature = "optimized")]
pub(crate) fn ends_like_a_mark(payload: &[u8]) -> bool {
    payload.ends_with(&MAGIC) && payload.len() >= LEN
}

/// Distinguishes this layer's messages from others.
pub(crate) fn open(layer: Layer, message: Message) -> Opened {
    let Message::Binary(mut payload) = message else { return Opened::Plain(message) };
    let Some(kind) = kind(layer, &payload) else { return Opened::Plain(Message::Binary(payload)) };
    payload.truncate(payload.len() - LEN);
    match kind {
        PLAIN => Opened::Plain(Message::Binary(payload)),
        kind => Opened::Marked(kind, payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_message_passes_without_a_copy() {
        let payload = Bytes::from(vec![7u8; 64]);
        let Message::Binary(closed) = close(Layer::Batch, payload.clone().into()) else { panic!("still binary") };
        assert_eq!(closed.as_ptr(), payload.as_ptr());
        assert_eq!(open(Layer::Batch, closed.into()), Opened::Plain(payload.into()));
        let text = Message::text("text is never marked");
        assert_eq!(open(Layer::Batch, close(Layer::Batch, text.clone())), Opened::Plain(text));
    }

    #[test]
    fn a_plain_message_that_ends_like_a_mark_comes_out_as_it_went_in_however_deep() {
        let mut message = Message::Binary(append(b"x", Layer::Batch, 3));
        for _ in 0..3 {
            let closed = close(Layer::Batch, message.clone());
            assert_ne!(closed, message);
            assert_eq!(open(Layer::Batch, closed.clone()), Opened::Plain(message));
            message = closed;
        }
    }

    #[test]
    fn the_length_that_is_added_is_known_before_it_is_added() {
        let (marked, other) = (append(b"x", Layer::Resume, 3), append(b"x", Layer::Batch, 3));
        for message in [marked.into(), other.into(), Message::binary("x"), Message::text("x"), Message::binary("")] {
            let added = escape_len(Layer::Resume, &message);
            assert_eq!(close(Layer::Resume, message.clone()).len(), message.len() + added, "{message:?}");
        }
    }

    #[test]
    fn the_mark_of_one_layer_is_nothing_to_another() {
        let marked = Message::Binary(append(b"body", Layer::Resume, 9));
        assert_eq!(open(Layer::Batch, marked.clone()), Opened::Plain(marked.clone()));
        assert_eq!(open(Layer::Resume, marked), Opened::Marked(9, Bytes::from_static(b"body")));
    }
}
