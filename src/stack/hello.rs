//! The first message in each direction between two ends that know the stack: what each end supports. Pure;
//! `docs/wire.md` documents the format.

use std::fmt;

use bytes::Bytes;

use crate::{
    Error, Message,
    message::trailer::{self, Layer, Opened},
};

/// The subprotocol by which two ends detect that both know the stack (RFC 6455, section 1.9). Its version covers
/// everything that they agree on afterwards.
pub(super) use crate::transport::subprotocol::STACK as SUBPROTOCOL;

const HELLO: u8 = 1;
const PROOF: u8 = 2;

/// A random number of a client's hello. The server repeats it in the message that follows its own hello, which a
/// recorded hello cannot do.
pub(super) type Nonce = [u8; 16];

/// The announcement of one end about its own side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) capabilities: Capabilities,
    /// The largest message that this end accepts, in bytes, as its application sees it.
    pub(super) max_message: u32,
    /// The number of additional bytes that its transport accepts, for what the layers of the other end add.
    pub(super) headroom: u32,
    /// The number that the other end has to repeat. Only a client asks for it.
    pub(super) nonce: Option<Nonce>,
}

/// The first message of a peer that agreed to the subprotocol.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    Hello(Hello),
    /// A message that no version of the stack sends as a hello, although it bears the stack's mark. It may be a
    /// stranger's data that happens to end like the mark.
    Marked(Message),
    /// A message of a peer that does not know the subprotocol.
    Other(Message),
}

impl Hello {
    /// Encodes two or three little-endian numbers of four bytes each, and the nonce. A later version may append more.
    pub(super) fn encode(self) -> Message {
        let mut body = Vec::with_capacity(28);
        for number in [self.capabilities.bits(), self.max_message, self.headroom] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        match self.nonce {
            Some(nonce) => body.extend_from_slice(&nonce),
            // Without anything to announce, the short form of two numbers is enough.
            None if self.headroom == 0 => body.truncate(8),
            None => {}
        }
        Message::Binary(trailer::append(&body, Layer::Stack, HELLO))
    }

    /// Creates the message that repeats a nonce.
    pub(super) fn proof(nonce: Nonce) -> Message {
        Message::Binary(trailer::append(&nonce, Layer::Stack, PROOF))
    }

    /// Classifies the first message of a peer.
    pub(super) fn first(message: Message) -> First {
        let is_marked = matches!(&message, Message::Binary(payload) if trailer::kind(Layer::Stack, payload).is_some());
        if !is_marked {
            return First::Other(message);
        }
        match trailer::open(Layer::Stack, message.clone()) {
            Opened::Marked(HELLO, body) => Self::parse(&body).map_or(First::Marked(message), First::Hello),
            _ => First::Marked(message),
        }
    }

    /// Decodes the hello of a peer that must send one.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_protocol`](Error::is_protocol) is true if the message is not a hello.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the server's end is native"))]
    pub(super) fn decode(message: Message) -> Result<Self, Error> {
        match Self::first(message) {
            First::Hello(hello) => Ok(hello),
            First::Marked(_) => Err(Self::not_valid()),
            First::Other(_) => Err(Error::protocol(
                "the peer agreed to the subprotocol `tower-transport.v1`, but its first message is not a hello",
            )),
        }
    }

    /// Returns the error for a [`First::Marked`] of a peer that knows the subprotocol.
    pub(super) fn not_valid() -> Error {
        Error::protocol("the peer's first message belongs to the stack but is not a valid hello: the peer may be newer")
    }

    /// Returns `None` for a body that no version of the stack sends.
    fn parse(body: &Bytes) -> Option<Self> {
        let number = |at: usize| body.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        let capabilities = Capabilities::from_bits(number(0)?);
        let max_message = number(4).filter(|bytes| *bytes > 0)?;
        let headroom = if body.len() == 8 { 0 } else { number(8)? };
        // A stranger's data can end like the mark by chance, so the content has to make sense as well.
        let is_possible =
            capabilities.is_known() && (capabilities.compression() || !capabilities.compression_context());
        let nonce = body.get(12..28).and_then(|bytes| bytes.try_into().ok());
        is_possible.then_some(Self { capabilities, max_message, headroom, nonce })
    }
}

/// The wire features that two ends of an [`OptimizedTransport`](super::OptimizedTransport) have agreed on.
///
/// A feature is on if both ends have it on. Features that one end provides alone (limits, rate limits, WebSocket pings,
/// the queue, reconnecting, traces) are not capabilities: they work with every peer.
///
/// ```
/// use tower_transport::stack::Capabilities;
///
/// let plain = Capabilities::NONE;
/// assert!(!plain.batch() && !plain.is_known());
/// assert_eq!(plain.to_string(), "plain messages");
/// assert_eq!(Capabilities::ALL.to_string(), "batch, compression, compression context, resume, trace context");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Capabilities(u32);

const NAMES: [(u32, &str); 5] = [
    (1 << 1, "batch"),
    (1 << 2, "compression"),
    (1 << 5, "compression context"),
    (1 << 3, "resume"),
    (1 << 4, "trace context"),
];

macro_rules! bits {
    ($($(#[$docs:meta])* $get:ident $with:ident $bit:literal)*) => {$(
        $(#[$docs])*
        #[must_use]
        pub const fn $get(self) -> bool {
            self.0 & (1 << $bit) != 0
        }

        pub(super) const fn $with(self, on: bool) -> Self {
            Self(if on { self.0 | (1 << $bit) } else { self.0 & !(1 << $bit) })
        }
    )*};
}

impl Capabilities {
    /// The capabilities of a peer that does not know this crate: messages are sent as they are.
    pub const NONE: Self = Self(0);

    /// The capabilities of a peer that speaks the subprotocol and has every feature off.
    pub(super) const KNOWN: Self = Self(1);

    /// All capabilities.
    pub const ALL: Self = Self(0b11_1111);

    /// Returns whether the peer speaks the subprotocol.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.0 & Self::KNOWN.0 != 0
    }

    bits! {
        /// Small messages are sent together in one: [`layer::batch`](crate::layer::batch).
        batch with_batch 1
        /// Messages that shrink are deflated: [`layer::compression`](crate::layer::compression).
        compression with_compression 2
        /// The session outlives connections: [`layer::resume`](crate::layer::resume).
        resume with_resume 3
        /// Sampled messages carry their trace: [`layer::trace`](crate::layer::trace).
        trace_context with_trace_context 4
        /// Compressed messages may refer to earlier ones:
        /// [`Deflate::keep_context`](crate::layer::compression::Deflate::keep_context).
        compression_context with_compression_context 5
    }

    /// Returns the capabilities that both ends have on.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the wire form. [`and`](Self::and) removes bits that this version does not know.
    pub(super) const fn bits(self) -> u32 {
        self.0
    }

    pub(super) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut on = NAMES.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| *name);
        f.write_str(on.next().unwrap_or("plain messages"))?;
        on.try_for_each(|name| write!(f, ", {name}"))
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capabilities({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_comes_out_as_it_went_in() {
        for (headroom, nonce) in [(0, None), (67, None), (0, Some([7; 16])), (67, Some([7; 16]))] {
            let hello = Hello { capabilities: Capabilities::ALL, max_message: 4 << 20, headroom, nonce };
            assert_eq!(Hello::decode(hello.encode()).unwrap(), hello);
        }
    }

    #[test]
    fn a_hello_has_the_bytes_of_the_wire_page() {
        let capabilities = Capabilities::KNOWN.with_compression(true).with_compression_context(true);
        let hello = Hello { capabilities, max_message: 4 << 20, headroom: 0, nonce: None };
        let bytes = b"\x25\0\0\0\0\0\x40\0\x01\x07\xf8ttx\x01\xff";
        assert_eq!(hello.encode(), Message::binary(&bytes[..]));
    }

    #[test]
    fn what_a_later_version_adds_is_passed_over() {
        let Message::Binary(encoded) =
            (Hello { capabilities: Capabilities::from_bits(u32::MAX), max_message: 9, headroom: 0, nonce: None })
                .encode()
        else {
            panic!("a hello is binary")
        };
        let mut body = encoded[..8].to_vec();
        body.extend_from_slice(b"more");
        let later = Message::Binary(trailer::append(&body, Layer::Stack, HELLO));
        let both = Hello::decode(later).unwrap().capabilities.and(Capabilities::ALL);
        assert_eq!(both, Capabilities::ALL);
    }

    #[test]
    fn anything_else_is_a_broken_protocol() {
        for other in [Message::text("hi"), Message::binary(&b""[..]), Message::Close(None)] {
            assert!(Hello::decode(other).unwrap_err().is_protocol());
        }
        let short = Message::Binary(trailer::append(b"short", Layer::Stack, HELLO));
        assert!(Hello::decode(short).unwrap_err().is_protocol());
    }

    #[test]
    fn a_marked_message_that_cannot_be_a_hello_is_kept_as_it_came() {
        for (body, kind) in [
            (&b""[..], 9),
            (b"\x01\0\0\0\0\0\x40\0", trailer::PLAIN),
            (b"short", HELLO),
            (b"\0\0\0\0\0\0\x40\0", HELLO),
            (b"\x01\0\0\0\0\0\0\0", HELLO),
            (b"\x21\0\0\0\0\0\x40\0", HELLO),
            (b"\x01\0\0\0\0\0\x40\0abc", HELLO),
        ] {
            let message = Message::Binary(trailer::append(body, Layer::Stack, kind));
            assert_eq!(Hello::first(message.clone()), First::Marked(message));
        }
    }
}
