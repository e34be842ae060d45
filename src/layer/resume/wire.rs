//! The messages of this layer: fixed layouts, little endian, with a mark. `docs/wire.md` describes them. No I/O.

use bytes::{Bytes, BytesMut};

use crate::{
    Error, Message,
    message::trailer::{self, Layer},
};

/// The version of this layer's messages.
const VERSION: u8 = 1;

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const ACK: u8 = 3;
const BYE: u8 = 4;

/// A session's public name, or its secret.
pub(super) type Bytes16 = [u8; 16];

/// How much may be accepted and not yet acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) messages: u32,
    pub(super) bytes: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self { messages: 1024, bytes: 1 << 20 }
    }
}

impl Window {
    /// Returns how much an end that keeps this much has on a connection without an acknowledgement, if the other end
    /// keeps `other`.
    ///
    /// The other end can hold as much as it keeps, and at least the default. Both ends know this number, and no peer
    /// makes an end hold more than its own bound.
    pub(super) fn towards(self, other: Self) -> Self {
        let least = Self::default();
        Self {
            messages: self.messages.min(other.messages.max(least.messages)),
            bytes: self.bytes.min(other.bytes.max(least.bytes)),
        }
    }

    /// Whether one more message has room: the last one may exceed the bytes. An empty window has room for one.
    #[inline]
    pub(super) fn has_room(self, messages: usize, bytes: usize) -> bool {
        messages < self.messages.max(1) as usize && bytes < self.bytes.max(1) as usize
    }

    /// Whether one in `parts` of the window is used.
    #[inline]
    pub(super) fn is_used(self, messages: u64, bytes: usize, parts: u32) -> bool {
        messages >= u64::from((self.messages / parts).max(1)) || bytes >= (self.bytes / parts).max(1) as usize
    }
}

/// The position of one end in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The number of data messages that came in, and their digest.
    pub(super) received: u64,
    pub(super) digest: u64,
    /// The oldest data message that this end can send again, counted from 0, and the number of all that it has
    /// accepted.
    pub(super) first: u64,
    pub(super) sent: u64,
}

/// The first message of a client.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))] // only in tests, because it contains the secret
pub(super) struct Hello {
    /// The number of the connection: greater than that of every earlier one of this client.
    pub(super) epoch: u64,
    pub(super) window: Window,
    /// The session to resume (name and secret), and the position in it.
    pub(super) session: Option<(Bytes16, Bytes16, Position)>,
    /// The user of this end did not read on the last connection, so nothing follows from a lack of progress there.
    pub(super) is_unread: bool,
}

/// The answer of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))] // only in tests, because it contains the secret
pub(super) struct Welcome {
    pub(super) is_resumed: bool,
    pub(super) id: Bytes16,
    pub(super) token: Bytes16,
    pub(super) window: Window,
    pub(super) position: Position,
    /// As in [`Hello`].
    pub(super) is_unread: bool,
}

/// The progress of one end: the number of messages that it has received, and that it has put on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// A message of this layer.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))] // only in tests, because it contains the secret
pub(super) enum Own {
    Hello(Hello),
    Welcome(Welcome),
    Ack(Ack),
    /// The session is permanently over. No data follows.
    Bye(Ack),
}

/// An incoming message as this layer sees it.
pub(super) enum Parsed {
    /// A message that does not concern this layer, as it was sent.
    Plain(Message),
    Own(Own),
}

/// Whether a message ends in a mark of this layer. Most do not, and need no parsing.
#[inline]
pub(super) fn is_marked(message: &Message) -> bool {
    matches!(message, Message::Binary(payload) if trailer::kind(Layer::Resume, payload).is_some())
}

/// Returns the length of a user's message on the wire, which is the length that both ends count.
#[inline]
pub(super) fn length(message: &Message) -> usize {
    message.len() + trailer::escape_len(Layer::Resume, message)
}

/// Distinguishes this layer's messages from others.
pub(super) fn read(message: Message) -> Result<Parsed, Error> {
    let (kind, body) = match trailer::open(Layer::Resume, message) {
        trailer::Opened::Plain(message) => return Ok(Parsed::Plain(message)),
        trailer::Opened::Marked(kind, body) => (kind, body),
    };
    match parse(kind, &body) {
        Some(own) => Ok(Parsed::Own(own)),
        None => Err(malformed(kind, &body)),
    }
}

fn malformed(kind: u8, body: &Bytes) -> Error {
    let length = body.len();
    match (kind, body.first()) {
        (HELLO | WELCOME, Some(&version)) if version != VERSION => Error::protocol(format!(
            "resume: the peer speaks version {version} of the session messages, this end version {VERSION}"
        )),
        _ => Error::protocol(format!("resume: a session message of kind {kind} and {length} bytes is malformed")),
    }
}

impl Own {
    pub(super) fn into_message(self) -> Message {
        self.write_to(&mut BytesMut::new())
    }

    /// Writes the message into `memory`. That allocates only if the message before it is still in use.
    pub(super) fn write_to(self, memory: &mut BytesMut) -> Message {
        // On the stack, so that the payload is allocated once, with its exact length.
        let mut to = Buffer([0; 90], 0);
        let kind = match self {
            Self::Hello(hello) => {
                let (id, token, position) = hello.session.unwrap_or_default();
                to.put([VERSION, flags(hello.session.is_some(), hello.is_unread)]);
                to.put(id);
                to.put(token);
                to.window(hello.window);
                to.position(position);
                to.put(hello.epoch.to_le_bytes());
                HELLO
            }
            Self::Welcome(welcome) => {
                to.put([VERSION, flags(welcome.is_resumed, welcome.is_unread)]);
                to.put(welcome.id);
                to.put(welcome.token);
                to.window(welcome.window);
                to.position(welcome.position);
                WELCOME
            }
            Self::Ack(ack) => to.ack(ack, ACK),
            Self::Bye(ack) => to.ack(ack, BYE),
        };
        memory.reserve(to.written().len() + trailer::LEN);
        memory.extend_from_slice(to.written());
        memory.extend_from_slice(&trailer::mark(Layer::Resume, kind));
        Message::Binary(memory.split().freeze())
    }
}

fn flags(goes_on: bool, is_unread: bool) -> u8 {
    if goes_on && is_unread { 3 } else { u8::from(goes_on) }
}

fn parse(kind: u8, body: &[u8]) -> Option<Own> {
    let mut from = Reader(body);
    let own = match kind {
        HELLO => {
            let (has_session, is_unread) = from.flags()?;
            let (id, token) = (from.take()?, from.take()?);
            let (window, position) = (from.window()?, from.position()?);
            // One form for each content: what is not there is zero.
            if !has_session && (id, token, position) != Default::default() {
                return None;
            }
            let session = has_session.then_some((id, token, position));
            Own::Hello(Hello { epoch: from.number()?, window, session, is_unread })
        }
        WELCOME => {
            let (is_resumed, is_unread) = from.flags()?;
            let (id, token) = (from.take()?, from.take()?);
            let (window, position) = (from.window()?, from.position()?);
            Own::Welcome(Welcome { is_resumed, id, token, window, position, is_unread })
        }
        ACK => Own::Ack(from.ack()?),
        BYE => Own::Bye(from.ack()?),
        _ => return None,
    };
    // Nothing may follow, or a later version could not add a field that this one must refuse.
    from.0.is_empty().then_some(own)
}

/// Room for the largest message, and the number of bytes that are written.
struct Buffer([u8; 90], usize);

impl Buffer {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        if let Some(place) = self.0.get_mut(self.1..).and_then(|rest| rest.first_chunk_mut()) {
            *place = bytes;
            self.1 += N;
        }
    }

    fn window(&mut self, window: Window) {
        self.put(window.messages.to_le_bytes());
        self.put(window.bytes.to_le_bytes());
    }

    fn position(&mut self, position: Position) {
        for number in [position.received, position.digest, position.first, position.sent] {
            self.put(number.to_le_bytes());
        }
    }

    fn ack(&mut self, ack: Ack, kind: u8) -> u8 {
        self.put(ack.received.to_le_bytes());
        self.put(ack.sent.to_le_bytes());
        kind
    }

    fn written(&self) -> &[u8] {
        self.0.get(..self.1).unwrap_or_default()
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    /// Reads the version, which must be ours, and two flags. The second one concerns a session that goes on.
    fn flags(&mut self) -> Option<(bool, bool)> {
        match self.take()? {
            [VERSION, 0] => Some((false, false)),
            [VERSION, 1] => Some((true, false)),
            [VERSION, 3] => Some((true, true)),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn window(&mut self) -> Option<Window> {
        let (messages, bytes) = (self.take().map(u32::from_le_bytes)?, self.take().map(u32::from_le_bytes)?);
        Some(Window { messages, bytes })
    }

    fn position(&mut self) -> Option<Position> {
        let (received, digest) = (self.number()?, self.number()?);
        Some(Position { received, digest, first: self.number()?, sent: self.number()? })
    }

    fn ack(&mut self) -> Option<Ack> {
        Some(Ack { received: self.number()?, sent: self.number()? })
    }
}

#[cfg(test)]
mod tests;
