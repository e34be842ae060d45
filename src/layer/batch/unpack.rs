use std::{fmt, str};

use bytes::{Buf, Bytes};

use super::format::{KIND, LENGTH, split_entry};
use crate::{
    Error, Message,
    message::{
        Text,
        trailer::{self, Layer, Opened},
    },
};

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

impl fmt::Debug for Unpack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpack").field("bytes", &self.payload.len()).finish_non_exhaustive()
    }
}
