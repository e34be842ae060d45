//! The wire format of a batch, also documented in `docs/wire.md`.
//!
//! ```text
//! payload of each message | entry of each message | length of all entries, 4 bytes | 01 | 02 | F8 74 74 78 01 FF
//! ```
//!
//! An entry is a varint (7 bits a byte, lowest first): twice the length of the payload, plus one for text.

use std::str;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::BatchPolicy;
use crate::{
    Error, Message,
    message::{
        Text,
        trailer::{self, Layer, Opened},
    },
};

/// The kind of mark of a batch.
pub(super) const KIND: u8 = 1;

/// The length of the index, little endian.
pub(super) const LENGTH: usize = size_of::<u32>();

/// Writes the entry of one message.
#[inline]
pub(super) fn push_entry(index: &mut Vec<u8>, len: usize, is_text: bool) {
    let mut entry = (len << 1) | usize::from(is_text);
    while entry >= 0x80 {
        index.push(entry as u8 | 0x80);
        entry >>= 7;
    }
    index.push(entry as u8);
}

/// Reads one entry, and returns the rest. Returns `None` if the entry is truncated or larger than 32 bits.
#[inline]
pub(super) fn split_entry(index: &[u8]) -> Option<(usize, bool, &[u8])> {
    match index {
        // The common case: payloads below 64 bytes.
        [entry @ ..0x80, rest @ ..] => Some((usize::from(entry >> 1), entry & 1 == 1, rest)),
        _ => split_long_entry(index),
    }
}

fn split_long_entry(index: &[u8]) -> Option<(usize, bool, &[u8])> {
    let mut entry = 0;
    for (place, &byte) in index.iter().enumerate() {
        let bits = u32::from(byte & 0x7f);
        // Only four bits of the fifth byte are valid.
        if place > 4 || (place == 4 && bits > 0xf) {
            return None;
        }
        entry |= bits << (7 * place);
        if byte < 0x80 {
            return Some(((entry >> 1) as usize, entry & 1 == 1, index.get(place + 1..)?));
        }
    }
    None
}

/// Writes everything that follows the payloads.
pub(super) fn finish(payload: &mut BytesMut, index: &[u8]) {
    payload.reserve(index.len() + LENGTH + trailer::LEN);
    payload.extend_from_slice(index);
    // A policy allows at most 65,535 entries of at most 5 bytes.
    payload.put_u32_le(index.len() as u32);
    payload.extend_from_slice(&trailer::mark(Layer::Batch, KIND));
}

/// A buffer and an index larger than this are given away with their batch instead of being reused.
const KEEP: usize = 4 * 1024;

/// The messages that wait to be sent as one. Pure: no I/O, no clock.
pub(super) struct Pack {
    policy: BatchPolicy,
    /// The only message so far, which may be sent alone, uncopied.
    first: Option<Message>,
    count: usize,
    /// The number of payload bytes, including the first message.
    bytes: usize,
    payload: BytesMut,
    index: Vec<u8>,
    /// The size of the last batch, used as an estimate for the next.
    last: usize,
}

impl Pack {
    pub(super) fn new(policy: BatchPolicy) -> Self {
        Self { policy, first: None, count: 0, bytes: 0, payload: BytesMut::new(), index: Vec::new(), last: 0 }
    }

    pub(super) const fn policy(&self) -> &BatchPolicy {
        &self.policy
    }

    /// Returns the number of waiting messages.
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns whether a message of this length can join.
    pub(super) const fn has_room(&self, len: usize) -> bool {
        self.policy.allows(self.count + 1, self.bytes.saturating_add(len))
    }

    /// Returns whether the waiting messages are a full batch. Nothing is no batch, even where no byte is allowed: room
    /// is made by sending what waits, so there has to be something.
    pub(super) const fn is_full(&self) -> bool {
        !self.is_empty() && self.policy.is_reached(self.count, self.bytes)
    }

    /// Returns whether a data message of this length would wait alone.
    #[inline]
    pub(super) const fn is_open_for_first(&self, len: usize) -> bool {
        self.count == 0 && !self.policy.goes_alone(len) && !self.policy.is_reached(1, len)
    }

    /// Stores a message that waits alone.
    #[inline]
    pub(super) fn set_first(&mut self, message: Message, len: usize) {
        self.count = 1;
        self.bytes = len;
        self.first = Some(message);
    }

    /// Takes the message that waits alone, if it can be sent as it is.
    #[inline]
    pub(super) fn take_alone(&mut self) -> Option<Message> {
        match &self.first {
            // It looks like a batch, so it has to be escaped, which `take` does.
            Some(Message::Binary(payload)) if trailer::kind(Layer::Batch, payload).is_some() => return None,
            None => return None,
            Some(_) => {}
        }
        self.count = 0;
        self.bytes = 0;
        self.first.take()
    }

    /// Adds a data message of this length, for which there is room.
    #[inline]
    pub(super) fn add(&mut self, message: Message, len: usize) {
        if self.count == 0 {
            return self.set_first(message, len);
        }
        self.count += 1;
        self.bytes += len;
        if self.first.is_some() {
            self.begin();
        }
        self.append(&message);
    }

    /// Starts a batch when a second message joins the first.
    fn begin(&mut self) {
        // Batches of one connection are alike, so the last one is the best guess.
        let expected = self.last.max(2 * self.bytes).max(64);
        // If the transport below is done with the last batch, its memory is reused.
        if !self.payload.try_reclaim(expected) {
            self.payload = BytesMut::with_capacity(expected);
        }
        if let Some(first) = self.first.take() {
            self.append(&first);
        }
    }

    #[inline]
    fn append(&mut self, message: &Message) {
        let payload = message.as_bytes();
        self.payload.extend_from_slice(payload);
        push_entry(&mut self.index, payload.len(), matches!(message, Message::Text(_)));
    }

    /// Takes everything that waits as one message: a batch, or the single message itself.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Message> {
        if let Some(alone) = self.first.take() {
            self.count = 0;
            self.bytes = 0;
            return Some(trailer::close(Layer::Batch, alone));
        }
        (!self.is_empty()).then(|| Message::Binary(self.finish()))
    }

    fn finish(&mut self) -> Bytes {
        self.count = 0;
        self.bytes = 0;
        finish(&mut self.payload, &self.index);
        self.index.clear();
        self.index.shrink_to(KEEP);
        self.last = self.payload.len();
        match self.payload.capacity() <= KEEP {
            true => self.payload.split().freeze(),
            // No other handle exists, so a WebSocket can mask it in place.
            false => std::mem::take(&mut self.payload).freeze(),
        }
    }
}

debug_fields!(Pack { count, bytes });

/// Handles a batch that the transport below did not accept.
pub(super) fn refused(error: Error, count: usize) -> Error {
    if count < 2 || error.is_closed() {
        return error;
    }
    error.context(format!(
        "a batch of {count} messages was refused by the transport below and not sent; its message limit must be above \
         BatchPolicy::max_bytes"
    ))
}

/// The classification of a peer's message. Pure: no I/O, no clock.
#[derive(Debug)]
pub(super) enum Unpacked {
    /// A message that is not a batch.
    Single(Message),
    /// A batch of messages.
    Many(Unpack),
}

/// The messages of a batch that were not delivered yet: a cursor over the peer's bytes, all of which were validated
/// before.
#[derive(Default)]
pub(super) struct Unpack {
    payload: Bytes,
    index: Bytes,
}

/// Returns whether a message is as it was sent: neither a batch, nor a message that only looks like one.
#[inline]
pub(super) fn is_plain(message: &Message) -> bool {
    match message {
        Message::Binary(payload) => trailer::kind(Layer::Batch, payload).is_none(),
        _ => true,
    }
}

/// Tells a batch from a single message, and validates its contents.
pub(super) fn open(message: Message, max_items: usize) -> Result<Unpacked, Error> {
    match trailer::open(Layer::Batch, message) {
        Opened::Plain(message) => Ok(Unpacked::Single(message)),
        // The stream continues with the next message.
        Opened::Marked(KIND, body) => Unpack::new(body, max_items).map(Unpacked::Many).map_err(Error::into_rejection),
        Opened::Marked(kind, _) => Err(Error::protocol(format!(
            "the peer sent a batch of kind {kind}, but this end only knows kind {KIND}; the peer may be newer"
        ))
        .into_rejection()),
    }
}

impl Unpack {
    fn new(mut body: Bytes, max_items: usize) -> Result<Self, Error> {
        let Some((before, &length)) = body.split_last_chunk::<LENGTH>() else {
            return Err(bad("it ends before its index"));
        };
        let length = u32::from_le_bytes(length) as usize;
        let Some(payloads) = before.len().checked_sub(length) else {
            return Err(bad("its index length exceeds the batch"));
        };
        let (payload, index) = before.split_at(payloads);
        // As a whole, before the first message is given out: half a batch that turns out to be bad cannot be taken
        // back.
        check(payload, index, max_items)?;
        body.truncate(before.len());
        let index = body.split_off(payloads);
        Ok(Self { payload: body, index })
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Returns the next message: a slice of the peer's bytes.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Message> {
        let (len, is_text, rest) = split_entry(&self.index)?;
        let read = self.index.len() - rest.len();
        if rest.is_empty() {
            // The sender may reuse its memory once the messages are dropped.
            self.index = Bytes::new();
        } else {
            self.index.advance(read);
        }
        // Everything was validated: the lengths fit, and the text is UTF-8.
        let payload = self.payload.split_to(len.min(self.payload.len()));
        match is_text {
            true => Text::try_from(payload).ok().map(Message::Text),
            false => Some(Message::Binary(payload)),
        }
    }
}

/// Validates a whole batch without allocating.
fn check(mut payload: &[u8], mut index: &[u8], max_items: usize) -> Result<(), Error> {
    if index.is_empty() {
        return Err(bad("it has no messages"));
    }
    // Counted here, and not from a number in the header: an empty message costs the peer one byte, and this end a poll.
    let mut items = 0;
    while !index.is_empty() {
        let Some((len, is_text, rest)) = split_entry(index) else {
            return Err(bad("an entry of its index is cut short or longer than 32 bits"));
        };
        index = rest;
        items += 1;
        if items > max_items {
            return Err(Error::too_large(format!(
                "a batch from the peer has more than {max_items} messages (BatchLayer::max_items)"
            )));
        }
        let Some((item, behind)) = payload.split_at_checked(len) else {
            return Err(bad("its index announces more bytes than there are"));
        };
        payload = behind;
        if is_text && let Err(error) = str::from_utf8(item) {
            return Err(bad("a text message in it is not UTF-8").with_source(error));
        }
    }
    if payload.is_empty() { Ok(()) } else { Err(bad("it has bytes that belong to no message")) }
}

fn bad(what: &str) -> Error {
    Error::protocol(format!("a batch from the peer cannot be unpacked: {what}"))
}

debug_fields!(Unpack, |this| { bytes: this.payload.len() });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_every_length_are_read_as_they_were_written() {
        for len in [0, 1, 63, 64, 127, 128, 8191, 8192, 1 << 20, (1 << 30) - 1, 1 << 30] {
            for is_text in [false, true] {
                let mut index = Vec::new();
                push_entry(&mut index, len, is_text);
                index.push(9);
                assert_eq!(split_entry(&index), Some((len, is_text, &[9][..])));
            }
        }
    }

    #[test]
    fn entries_that_are_cut_or_larger_than_32_bits_are_none() {
        for index in [
            &[][..],
            &[0x80],
            &[0xff; 4],
            &[0xff, 0xff, 0xff, 0xff, 0x10],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0],
            &[0xff; 10],
        ] {
            assert_eq!(split_entry(index), None, "{index:x?}");
        }
        assert_eq!(split_entry(&[0xff, 0xff, 0xff, 0xff, 0xf]), Some((u32::MAX as usize >> 1, true, &[][..])));
    }
}
