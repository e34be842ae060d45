use super::{Level, wire::OVERHEAD};

/// What is compressed, how, and what a peer may make this end inflate.
///
/// | setting | default | |
/// |---|---|---|
/// | [`level`](Self::level) | [`Level::FASTEST`] | how hard to try |
/// | [`min_size`](Self::min_size) | 256 bytes | smaller messages are sent plain |
/// | [`max_inflated`](Self::max_inflated) | 4 MiB | larger messages are refused before they are inflated, and sent plain |
/// | [`max_ratio`](Self::max_ratio) | 200 to 1 | the same, for what shrinks more than that and is over 64 KiB |
/// | [`keep_context`](Self::keep_context) | off | both ends, or neither |
/// | [`receive_only`](Self::receive_only) | off | for a peer that does not know compression |
/// | [`batches`](Self::batches) | on | off where secrets and text of others may leave in one batch |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    pub(super) level: Level,
    pub(super) min_size: usize,
    pub(super) max_inflated: usize,
    pub(super) max_ratio: u32,
    pub(super) keep_context: bool,
    pub(super) receive_only: bool,
    /// Compressed messages are refused where this is off, for they were not agreed on.
    pub(super) inflates: bool,
    pub(super) batches: bool,
}

/// What may be inflated whatever the ratio. It bounds what a message of a few bytes can claim.
const ALWAYS: usize = 64 << 10;

impl Deflate {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            level: Level::FASTEST,
            min_size: 256,
            max_inflated: 4 << 20,
            max_ratio: 200,
            keep_context: false,
            receive_only: false,
            inflates: true,
            batches: true,
        }
    }

    /// How hard to try. Default: [`Level::FASTEST`]. The two ends may differ.
    #[must_use]
    pub const fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Sends messages of fewer bytes plain. Default: 256. Each compressed message carries 12 bytes besides, so whatever is
    /// set, messages of up to 12 bytes are plain.
    #[must_use]
    pub const fn min_size(mut self, bytes: usize) -> Self {
        self.min_size = bytes;
        self
    }

    /// The largest message that a peer may make this end inflate, in bytes. Default: 4 MiB, as
    /// [`Limits::message`](crate::Limits::message), which bounds the compressed size. A larger one is an error that
    /// [`is_too_large`](crate::Error::is_too_large), and is not inflated. Outgoing messages over it are sent plain, and the
    /// transport's own limit decides.
    #[must_use]
    pub const fn max_inflated(mut self, bytes: usize) -> Self {
        self.max_inflated = bytes;
        self
    }

    /// How many times its compressed size a message over 64 KiB may have. Default: 200; deflate itself gets to 1032. A message
    /// that claims more is an error that [`is_too_large`](crate::Error::is_too_large), and is not inflated. Outgoing messages
    /// that shrink more are sent plain, so that two ends with the same setting always understand each other.
    #[must_use]
    pub const fn max_ratio(mut self, ratio: u32) -> Self {
        self.max_ratio = ratio;
        self
    }

    /// Lets each message refer to those before it: small messages that resemble each other shrink two to three times as far.
    /// **Both ends must set it**; a peer that keeps its context is refused by one that does not.
    ///
    /// It costs about 420 KiB per connection on an end that sends and receives (371 KiB to compress, 47 KiB to inflate), from
    /// the first compressed message of that direction until the transport is dropped. Without it an idle connection holds
    /// none of that. Messages of up to 4 KiB are then sent compressed though they grow by it, as long as earlier ones shrank by
    /// more (or 1 KiB in all): they may pay later. Nothing below this layer may drop or reorder messages then, and one message that cannot be inflated
    /// ends the connection.
    #[must_use]
    pub const fn keep_context(mut self) -> Self {
        self.keep_context = true;
        self
    }

    /// Compresses nothing, and understands a peer that does. What is sent is as it would be without this layer (but for a
    /// binary message that ends in this layer's own mark), so a peer that does not know compression is served.
    #[must_use]
    pub const fn receive_only(mut self) -> Self {
        self.receive_only = true;
        self
    }

    /// Sets whether batches (those of the `batch` layer) are compressed. Defaults to `true`.
    ///
    /// The messages of a batch share a block of deflate, so its length tells of all of them together: a secret of one message and text that an
    /// attacker chose in another (CRIME, BREACH). Turn this off where messages of different owners leave together and somebody may watch the
    /// lengths. Messages that leave alone are compressed as before; `BatchPolicy::alone_from`
    /// keeps those that are worth it out of batches.
    #[must_use]
    pub const fn batches(mut self, compress: bool) -> Self {
        self.batches = compress;
        self
    }

    /// Whether an outgoing message of this length is worth a try.
    #[inline]
    pub(super) fn wants(&self, len: usize) -> bool {
        let large_enough = len >= self.min_size && len > OVERHEAD;
        large_enough && !self.receive_only && self.level > Level::NONE && self.may_inflate(len)
    }

    /// Whether a message of `len` bytes is within the limit.
    #[inline]
    pub(super) fn may_inflate(&self, len: usize) -> bool {
        len <= self.max_inflated && u32::try_from(len).is_ok()
    }

    /// Whether a message of `len` bytes may come out of `compressed` ones.
    pub(super) fn is_sound(&self, len: usize, compressed: usize) -> bool {
        len <= ALWAYS || len <= compressed.saturating_mul(usize::try_from(self.max_ratio).unwrap_or(usize::MAX))
    }
}

impl Default for Deflate {
    fn default() -> Self {
        Self::new()
    }
}
