use std::fmt;

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
