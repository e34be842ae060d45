//! Messages in a byte stream, as WebTransport streams and the POSTs next to SSE carry them. Pure; `docs/wire.md` has
//! the format.
//!
//! ```text
//! kind, 1 byte | length, 1, 2, 4 or 8 bytes (RFC 9000, section 16) | payload
//! ```

#[cfg(test)]
mod tests;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{CloseCode, CloseFrame, Error, Message, Text};

const TEXT: u8 = 0;
const BINARY: u8 = 1;
const PING: u8 = 2;
const PONG: u8 = 3;
const CLOSE: u8 = 4;
/// The kind of a part of a message that is not the last one. Parts occur only in POSTs, and are sent only to servers
/// that announce support for them.
#[cfg(any(feature = "sse", test))]
const PART: u8 = 5;
#[cfg(any(feature = "sse", test))]
const LAST_OF_TEXT: u8 = 6;
#[cfg(any(feature = "sse", test))]
const LAST_OF_BINARY: u8 = 7;

/// The maximum size of a head, in bytes.
pub(super) const MAX_HEAD: usize = 9;

/// The maximum payload of a ping, a pong or a close, in bytes, as in WebSocket (RFC 6455, section 5.5).
const MAX_CONTROL: usize = 125;

/// The minimum allocation for a message that arrives in pieces, unless the message itself is smaller.
const PIECE: usize = 1024;

/// Checks whether `message` may be sent. A message that the peer's decoder would reject with the same limit is rejected
/// here.
///
/// # Errors
///
/// Returns a rejection for data over `limit` bytes, and for a ping or a pong over 125 bytes.
pub(super) fn check_outgoing(message: &Message, limit: usize) -> Result<(), Error> {
    let length = message.len();
    let error = match message {
        Message::Text(_) | Message::Binary(_) if length > limit => Error::too_large(format!(
            "an outgoing message of {length} bytes is over the limit of {limit} (Limits::message)"
        )),
        Message::Ping(_) | Message::Pong(_) if length > MAX_CONTROL => {
            Error::too_large(format!("an outgoing control message of {length} bytes is over {MAX_CONTROL}"))
        }
        _ => return Ok(()),
    };
    Err(error.into_rejection())
}

/// Writes the head of `message` to `into`, and returns the payload that follows it.
pub(super) fn head(message: Message, into: &mut BytesMut) -> Bytes {
    let (kind, payload) = match message {
        Message::Text(text) => (TEXT, text.into_bytes()),
        Message::Binary(payload) => (BINARY, payload),
        Message::Ping(payload) => (PING, payload),
        Message::Pong(payload) => (PONG, payload),
        Message::Close(frame) => (CLOSE, frame.as_ref().map(close_payload).unwrap_or_default()),
    };
    into.put_u8(kind);
    put_length(payload.len() as u64, into);
    payload
}

/// Writes the whole `message` to `into`.
#[cfg(any(feature = "sse", test))]
pub(super) fn encode(message: &Message, into: &mut BytesMut) {
    into.reserve(MAX_HEAD + message.len());
    // The clone shares the payload.
    let payload = head(message.clone(), into);
    into.extend_from_slice(&payload);
}

/// Writes `message` in parts with payloads of at most `most` bytes, and returns the number of parts. A message that
/// fits, or is not data, is written whole.
#[cfg(any(feature = "sse", test))]
pub(super) fn encode_in_parts(message: &Message, most: usize, into: &mut BytesMut) -> u64 {
    let last = match message {
        Message::Text(text) if text.len() > most => LAST_OF_TEXT,
        Message::Binary(payload) if payload.len() > most => LAST_OF_BINARY,
        whole => {
            encode(whole, into);
            return 1;
        }
    };
    let mut parts = message.as_bytes().chunks(most.max(1)).peekable();
    let mut count = 0;
    while let Some(part) = parts.next() {
        into.reserve(MAX_HEAD + part.len());
        into.put_u8(if parts.peek().is_some() { PART } else { last });
        put_length(part.len() as u64, into);
        into.extend_from_slice(part);
        count += 1;
    }
    count
}

/// Returns how many messages and parts at the front of `bytes`, which this end wrote, take at most `most` bytes
/// together, and how many bytes they take. The first one is always included.
#[cfg(any(feature = "sse", test))]
pub(super) fn fitting(bytes: &[u8], most: usize) -> (u64, usize) {
    let (mut count, mut end) = (0, 0);
    while let Some(length) = first_length(bytes.get(end..).unwrap_or_default()) {
        if count > 0 && end + length > most {
            break;
        }
        (count, end) = (count + 1, end + length);
    }
    (count, end)
}

/// Returns the length in bytes of the message or part at the front of `bytes`, which this end wrote.
#[cfg(any(feature = "sse", test))]
pub(super) fn first_length(bytes: &[u8]) -> Option<usize> {
    let (_, length, head) = parse_head(bytes)?;
    Some(head + usize::try_from(length).ok()?)
}

fn close_payload(frame: &CloseFrame) -> Bytes {
    let mut payload = BytesMut::with_capacity(2 + frame.reason().len());
    payload.put_u16(frame.code().get());
    payload.extend_from_slice(frame.reason().as_bytes());
    payload.freeze()
}

fn put_length(length: u64, into: &mut BytesMut) {
    match length {
        0..0x40 => into.put_u8(length as u8),
        0x40..0x4000 => into.put_u16(0x4000 | length as u16),
        0x4000..0x4000_0000 => into.put_u32(0x8000_0000 | length as u32),
        _ => into.put_u64(0xc000_0000_0000_0000 | length),
    }
}

/// The kind of a data message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Binary,
}

/// A unit in a POST: a message, or a part of one.
#[cfg(any(feature = "sse", test))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Message(Message),
    /// A part that is followed by another one.
    Part(Bytes),
    Last(Kind, Bytes),
}

/// Decodes messages from input that is cut into arbitrary pieces. It holds at most one message and a head, and uses at
/// most twice the memory of the bytes that have arrived: a length alone allocates nothing.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The maximum payload, in bytes.
    limit: usize,
    /// An incomplete head.
    head: BytesMut,
    /// The kind of the message whose payload is awaited, and the number of missing bytes.
    open: Option<(u8, usize)>,
    payload: Vec<u8>,
}

impl Decoder {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, head: BytesMut::new(), open: None, payload: Vec::new() }
    }

    /// Returns whether no message is partially read.
    pub(super) fn is_between_messages(&self) -> bool {
        self.open.is_none() && self.head.is_empty()
    }

    /// Takes the next message from the front of `input`. Returns `None` once all of `input` is consumed and the message
    /// is incomplete: then more input is needed.
    ///
    /// # Errors
    ///
    /// Returns an error for a payload over the limit (before any of it is kept), an unknown kind, text that is not
    /// UTF-8, and a control message over 125 bytes. Nothing can be decoded after an error.
    #[cfg(any(feature = "webtransport", test))]
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Option<Message>, Error> {
        match self.next_frame(input, CLOSE)? {
            Some((kind, payload)) => frame(kind, payload).map(Some),
            None => Ok(None),
        }
    }

    /// Like [`next`](Self::next), for messages that may arrive in parts. The limit applies to each part.
    #[cfg(any(feature = "sse", test))]
    pub(super) fn next_unit(&mut self, input: &mut Bytes) -> Result<Option<Unit>, Error> {
        Ok(match self.next_frame(input, LAST_OF_BINARY)? {
            None => None,
            Some((PART, part)) => Some(Unit::Part(part)),
            Some((LAST_OF_TEXT, part)) => Some(Unit::Last(Kind::Text, part)),
            Some((LAST_OF_BINARY, part)) => Some(Unit::Last(Kind::Binary, part)),
            Some((kind, payload)) => Some(Unit::Message(frame(kind, payload)?)),
        })
    }

    #[inline]
    fn next_frame(&mut self, input: &mut Bytes, max_kind: u8) -> Result<Option<(u8, Bytes)>, Error> {
        let (kind, missing) = match self.open {
            Some(open) => open,
            None => {
                let Some((kind, length)) = self.read_head(input) else { return Ok(None) };
                let length = self.check(kind, length, max_kind)?;
                // The common case, all bytes are available: no copy.
                if input.len() >= length {
                    return Ok(Some((kind, input.split_to(length))));
                }
                (kind, length)
            }
        };
        let part = input.split_to(missing.min(input.len()));
        let room = self.payload.capacity() - self.payload.len();
        if room < part.len() {
            // Never past the end of the message: a complete message fills its memory and becomes `Bytes` without a
            // copy.
            self.payload.reserve_exact(missing.min(part.len().max(self.payload.len()).max(PIECE)));
        }
        self.payload.extend_from_slice(&part);
        if part.len() < missing {
            self.open = Some((kind, missing - part.len()));
            return Ok(None);
        }
        self.open = None;
        Ok(Some((kind, std::mem::take(&mut self.payload).into())))
    }

    fn read_head(&mut self, input: &mut Bytes) -> Option<(u8, u64)> {
        if self.head.is_empty()
            && let Some((kind, length, size)) = parse_head(input)
        {
            input.advance(size);
            return Some((kind, length));
        }
        while !input.is_empty() {
            self.head.put_u8(input.get_u8());
            if let Some((kind, length, _)) = parse_head(&self.head) {
                self.head.clear();
                return Some((kind, length));
            }
        }
        None
    }

    fn check(&self, kind: u8, length: u64, max_kind: u8) -> Result<usize, Error> {
        let at_most = |limit| usize::try_from(length).ok().filter(|&length| length <= limit);
        match kind {
            other if other > max_kind => {
                Err(Error::protocol(format!("an incoming message of kind {other}: expected 0 to {max_kind}")))
            }
            PING | PONG | CLOSE => at_most(MAX_CONTROL).ok_or_else(|| {
                Error::protocol(format!("an incoming control message of {length} bytes is over {MAX_CONTROL}"))
            }),
            _ => at_most(self.limit).ok_or_else(|| {
                let limit = self.limit;
                Error::too_large(format!(
                    "an incoming message of {length} bytes is over the limit of {limit} (Limits::message)"
                ))
            }),
        }
    }
}

/// Returns kind, length and size of a head, once it is complete.
fn parse_head(bytes: &[u8]) -> Option<(u8, u64, usize)> {
    let (&kind, rest) = bytes.split_first()?;
    let (&first, _) = rest.split_first()?;
    let size = 1usize << (first >> 6);
    let mut length = u64::from(first & 0x3f);
    for &byte in rest.get(1..size)? {
        length = length << 8 | u64::from(byte);
    }
    Some((kind, length, 1 + size))
}

/// Creates a data message from its complete payload.
pub(super) fn message(kind: Kind, payload: Bytes) -> Result<Message, Error> {
    let not_text = |error| Error::protocol("a text message is not UTF-8").with_source(error);
    Ok(match kind {
        Kind::Text => Message::Text(Text::try_from(payload).map_err(not_text)?),
        Kind::Binary => Message::Binary(payload),
    })
}

fn frame(kind: u8, payload: Bytes) -> Result<Message, Error> {
    Ok(match kind {
        TEXT => message(Kind::Text, payload)?,
        BINARY => message(Kind::Binary, payload)?,
        PING => Message::Ping(payload),
        PONG => Message::Pong(payload),
        _ => Message::Close(close_frame(&payload)?),
    })
}

fn close_frame(payload: &[u8]) -> Result<Option<CloseFrame>, Error> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Error::protocol("a close code of one byte")) };
    };
    let code = u16::from_be_bytes(*code);
    let Some(code) = CloseCode::new(code) else {
        return Err(Error::protocol(format!("the peer closed with code {code}, which must not be sent")));
    };
    let reason = std::str::from_utf8(reason)
        .map_err(|error| Error::protocol("the reason of a close is not UTF-8").with_source(error))?;
    Ok(Some(CloseFrame::new(code, reason)))
}
