use super::wire::OVERHEAD;
use crate::zlib::Level;

/// The settings of compression: which messages are compressed and how, and how much a peer may make this end inflate.
///
/// | setting | default | |
/// |---|---|---|
/// | [`level`](Self::level) | [`Level::FASTEST`] | speed against size |
/// | [`min_size`](Self::min_size) | 256 bytes | smaller messages are sent plain |
/// | [`max_inflated`] | 4 MiB | larger messages are refused before they are inflated, and sent plain |
/// | [`max_ratio`](Self::max_ratio) | 200 to 1 | the same for messages over 64 KiB that shrink more than that |
/// | [`keep_context`](Self::keep_context) | off | both ends, or neither |
/// | [`receive_only`](Self::receive_only) | off | for a peer that does not know compression |
/// | [`batches`](Self::batches) | on | turn it off if secrets and text of others may leave in one batch |
///
/// [`max_inflated`]: Self::max_inflated
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    pub(super) level: Level,
    pub(super) min_size: usize,
    pub(super) max_inflated: usize,
    pub(super) max_ratio: u32,
    pub(super) keep_context: bool,
    pub(super) receive_only: bool,
    /// Whether compressed messages are accepted. Off if the two ends have not agreed on compression.
    pub(super) inflates: bool,
    pub(super) batches: bool,
}

/// The size up to which the ratio is not limited. It bounds what a message of a few bytes can claim.
const ALWAYS: usize = 64 << 10;

impl Deflate {
    /// Creates the default settings.
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

    /// Sets the level. Defaults to [`Level::FASTEST`]. The two ends may differ.
    #[must_use]
    pub const fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Sets the size in bytes from which messages are compressed. Defaults to 256. A compressed message carries 12 more
    /// bytes, so messages of up to 12 bytes are always plain.
    #[must_use]
    pub const fn min_size(mut self, bytes: usize) -> Self {
        self.min_size = bytes;
        self
    }

    /// Sets the largest message that a peer may make this end inflate, in bytes. Defaults to 4 MiB, as
    /// [`Limits::message`](crate::Limits::message), which bounds the compressed size. A larger message is an error for
    /// which [`is_too_large`](crate::Error::is_too_large) is true, and is not inflated. Larger outgoing messages are
    /// sent plain; the transport's own limit decides about them.
    #[must_use]
    pub const fn max_inflated(mut self, bytes: usize) -> Self {
        self.max_inflated = bytes;
        self
    }

    /// Sets the largest ratio of inflated to compressed size of a message over 64 KiB. Defaults to 200; deflate can
    /// reach 1032. A message that claims more is an error for which [`is_too_large`](crate::Error::is_too_large) is
    /// true, and is not inflated. Outgoing messages that shrink more are sent plain, so that two ends with the same
    /// setting always understand each other.
    #[must_use]
    pub const fn max_ratio(mut self, ratio: u32) -> Self {
        self.max_ratio = ratio;
        self
    }

    /// Lets each message refer to those before it: small messages that resemble each other shrink two to three times as
    /// far. **Both ends must set it**; an end that does not keep its context refuses a peer that does.
    ///
    /// A connection that sends and receives holds about 420 KiB for it (371 KiB to compress, 47 KiB to inflate), from
    /// the first compressed message of each direction until the transport is dropped. Messages of up to 4 KiB are sent
    /// compressed even if they grow, as long as earlier ones shrank by more (or 1 KiB in all), because later messages
    /// may refer to them. Nothing below this layer may drop or reorder messages, and one message that cannot be
    /// inflated ends the connection.
    #[must_use]
    pub const fn keep_context(mut self) -> Self {
        self.keep_context = true;
        self
    }

    /// Compresses nothing, but inflates the messages of a peer that compresses. Messages are sent unchanged, except a
    /// binary message that ends in this layer's own mark. Use it for a peer that does not know compression.
    #[must_use]
    pub const fn receive_only(mut self) -> Self {
        self.receive_only = true;
        self
    }

    /// Sets whether batches (those of the `batch` layer) are compressed. Defaults to `true`.
    ///
    /// The messages of a batch share a block of deflate. Its length therefore reveals whether a secret of one message
    /// occurs in text that an attacker chose in another (CRIME, BREACH). Turn this off if messages of different owners
    /// leave together and somebody may observe the lengths. Messages that leave alone are still compressed;
    /// `BatchPolicy::alone_from` keeps those that are worth it out of batches.
    #[must_use]
    pub const fn batches(mut self, compress: bool) -> Self {
        self.batches = compress;
        self
    }

    /// Returns whether to try to compress an outgoing message of this length.
    #[inline]
    pub(super) fn wants(&self, len: usize) -> bool {
        let large_enough = len >= self.min_size && len > OVERHEAD;
        large_enough && !self.receive_only && self.level > Level::NONE && self.may_inflate(len)
    }

    /// Returns whether a message of `len` bytes is within the limit.
    #[inline]
    pub(super) fn may_inflate(&self, len: usize) -> bool {
        len <= self.max_inflated && u32::try_from(len).is_ok()
    }

    /// Returns whether a message of `len` bytes may result from `compressed` bytes.
    pub(super) fn is_sound(&self, len: usize, compressed: usize) -> bool {
        len <= ALWAYS || len <= compressed.saturating_mul(usize::try_from(self.max_ratio).unwrap_or(usize::MAX))
    }
}

impl Default for Deflate {
    fn default() -> Self {
        Self::new()
    }
}
