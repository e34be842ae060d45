use std::{fmt, hash::Hash, num::NonZeroUsize, sync::Arc, time::Duration};

use super::{close_deadline::CLOSE_WITHIN, payload::Payload};
use crate::{
    CloseCode, MaybeSend, MaybeSync, Message,
    fingerprint::{Fingerprint, Seeds},
    threads::dyn_shared,
};

/// The bounds of a [driven](crate::TransportExt::drive) transport's queues, and the policy for a full outgoing queue.
/// The queue layer, for transports that are not driven, takes the same type and has no inbox.
///
/// A clone is another queue with the same configuration.
///
/// | bound | default |
/// |---|---|
/// | [`max_messages`](Self::max_messages) | 1024 outgoing messages; 64 [plain values](Self::values) that own memory |
/// | [`max_bytes`](Self::max_bytes) | 1 MiB of outgoing messages |
/// | [`max_inbox`](Self::max_inbox) | 64 incoming messages, or 1 MiB |
/// | [`when_full`](Self::when_full) | [`WhenFull::Block`] |
/// | [`close_within`](Self::close_within) | 10 seconds without progress |
///
/// For [messages](Self::messages), bytes are payload bytes. For values, [`values_sized_by`](Self::values_sized_by) sets
/// how bytes are measured. The bytes of outgoing [plain values](Self::values) are unknown; incoming ones count with the
/// size of the message that a codec decoded.
/// Bytes are checked before a message is taken: the last message may exceed the bound, as may one per ready sender.
/// Pings and pongs overtake data and are never dropped in its favor. A close message stays behind the data and is not
/// dropped either.
///
/// ```
/// use tower_transport::{Message, QueueConfig, WhenFull};
///
/// let quotes = QueueConfig::messages().max_messages(100.try_into()?).when_full(WhenFull::DropOldest);
/// # drop(quotes);
/// # Ok::<(), std::num::TryFromIntError>(())
/// ```
pub struct QueueConfig<Out = Message, In = Out> {
    pub(super) max_messages: usize,
    pub(super) max_bytes: usize,
    pub(super) max_inbox: usize,
    pub(super) when_full: WhenFull<Out>,
    pub(super) close_within: Duration,
    pub(crate) outgoing: Payload<Out>,
    /// A value of unknown size counts with its encoded size if a codec below reports it.
    pub(super) incoming: Payload<In>,
}

/// The policy for a message that is sent to a full outgoing queue.
#[non_exhaustive]
pub enum WhenFull<Out> {
    /// Senders wait their turn, first come, first served.
    Block,
    /// The oldest waiting data message is dropped and [counted](crate::Sender::dropped), and so are the next ones until
    /// the queue is below its bound of bytes.
    DropOldest,
    /// The new message is dropped and [counted](crate::Sender::dropped).
    DropNewest,
    /// A message replaces the waiting message with the same key, whether or not the queue is full. The replaced message
    /// is [counted](crate::Sender::dropped). If there is no such message, senders wait, and so do those whose message is
    /// larger than the one that it replaces while the queue is full by bytes. See
    /// [`coalesce_by`](Self::coalesce_by).
    CoalesceBy(CoalesceBy<Out>),
    /// All waiting messages are dropped and [counted](crate::Sender::dropped), and the connection is closed with this
    /// code (usually [`CloseCode::TRY_AGAIN`]), above a codec too. A transport without close codes is closed in its own
    /// way.
    Close(CloseCode),
}

impl<Out> WhenFull<Out> {
    /// Creates the policy [`CoalesceBy`](Self::CoalesceBy) for the key that `key` finds in a message. The newest value
    /// of each key waits, at the place of the oldest. Messages without a key wait as with [`Block`](Self::Block).
    ///
    /// The queue keeps a seeded 128-bit hash of each waiting key, not the key itself. `key` is called once for each
    /// message, before the queue is locked.
    pub fn coalesce_by<K: Hash + Eq>(key: impl Fn(&Out) -> Option<K> + MaybeSend + MaybeSync + 'static) -> Self {
        let seeds = Seeds::default();
        Self::CoalesceBy(CoalesceBy(Arc::new(move |message| key(message).map(|key| seeds.of(&key)))))
    }
}

/// The configuration of coalescing, created by [`WhenFull::coalesce_by`].
pub struct CoalesceBy<Out>(pub(super) KeyOf<Out>);

/// Finds the key of a message.
pub(crate) type KeyOf<Out> = Arc<dyn_shared!(Fn(&Out) -> Option<Fingerprint>)>;

impl QueueConfig<Message> {
    /// Creates a queue of [`Message`]s, measured by their payloads.
    #[must_use]
    pub fn messages() -> Self {
        Self::new(Payload::messages(), Payload::messages())
    }
}

impl<Out, In> QueueConfig<Out, In> {
    const fn new(outgoing: Payload<Out>, incoming: Payload<In>) -> Self {
        Self {
            max_messages: outgoing.capacity(),
            max_bytes: 1 << 20,
            max_inbox: 64,
            when_full: WhenFull::Block,
            close_within: CLOSE_WITHIN,
            outgoing,
            incoming,
        }
    }

    /// Creates a queue of values.
    ///
    /// | | bound |
    /// |---|---|
    /// | outgoing | 1024 values; 64 if a value owns memory ([`needs_drop`](std::mem::needs_drop)), as a `String` does |
    /// | incoming | 64 values, or 1 MiB |
    ///
    /// An incoming value counts with the size of the message that a [codec](crate::layer::codec) below decoded it from,
    /// so a peer cannot fill more than that. Without a codec it counts with the size of its type.
    ///
    /// An outgoing value is encoded only when it is sent, so its bytes are unknown while it waits: 64 strings of 1 MiB
    /// are 64 MiB. To bound bytes, use [`values_sized_by`](Self::values_sized_by). For a longer queue, set
    /// [`max_messages`](Self::max_messages).
    #[must_use]
    pub fn values() -> Self {
        Self::new(Payload::values(), Payload::values())
    }

    /// Creates a queue of values that these functions measure in bytes: `out` for outgoing and `incoming` for incoming
    /// values. At most 1024 outgoing values or 1 MiB, and at most 64 incoming values or 1 MiB, wait.
    ///
    /// ```
    /// use tower_transport::QueueConfig;
    ///
    /// struct Post {
    ///     author: u64,
    ///     text: String,
    /// }
    ///
    /// let size = |post: &Post| size_of::<Post>() + post.text.len();
    /// let queue = QueueConfig::values_sized_by(size, |read: &u64| size_of_val(read));
    /// # drop(queue);
    /// let lines = QueueConfig::values_sized_by(String::len, String::len);
    /// # drop(lines);
    /// ```
    #[must_use]
    pub fn values_sized_by(out: fn(&Out) -> usize, incoming: fn(&In) -> usize) -> Self {
        Self::new(Payload::values().sized_by(out), Payload::values().sized_by(incoming))
    }

    /// Creates a queue that only measures outgoing values. Incoming ones count as in [`values`](Self::values).
    pub(crate) fn outgoing_sized_by(out: fn(&Out) -> usize) -> Self {
        Self::new(Payload::values().sized_by(out), Payload::values())
    }

    /// Sets the functions that measure outgoing and incoming values in bytes. They run before the queue is locked.
    #[must_use]
    pub fn size_by(mut self, out: fn(&Out) -> usize, incoming: fn(&In) -> usize) -> Self {
        // The bound in messages stays: it was chosen, or the constructor's.
        self.outgoing = self.outgoing.sized_by(out);
        self.incoming = self.incoming.sized_by(incoming);
        self
    }

    /// Sets the maximum number of waiting outgoing messages. Defaults to 1024, and to 64 for [plain
    /// values](Self::values) that own memory.
    #[must_use]
    pub fn max_messages(mut self, messages: NonZeroUsize) -> Self {
        self.max_messages = messages.get();
        self
    }

    /// Sets the maximum size of all waiting outgoing messages, in bytes. Defaults to 1 MiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: NonZeroUsize) -> Self {
        self.max_bytes = bytes.get();
        self
    }

    /// Sets the maximum number of waiting incoming messages. Defaults to 64. While they wait, the transport is not
    /// read.
    #[must_use]
    pub fn max_inbox(mut self, messages: NonZeroUsize) -> Self {
        self.max_inbox = messages.get();
        self
    }

    /// Sets the policy for a full outgoing queue. Defaults to [`WhenFull::Block`].
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull<Out>) -> Self {
        self.when_full = when_full;
        self
    }

    /// Sets the maximum time for a driven transport to write the accepted messages and close, once the last sender is
    /// gone or one has [closed](crate::Sender::close) it. The peer has the same time again to close its own end, if the
    /// transport does not limit that. Defaults to 10 seconds. [`Duration::MAX`] disables the limit.
    ///
    /// The time counts from the last progress: a message that the transport takes, bytes that
    /// [move](crate::transport::signal::moved), or, after this end's close, a message of the peer. However slowly they
    /// move, each of the two takes at most 16 times this value. The time stands still while a full inbox keeps the
    /// driver from reading. It does not run while a session of the resume layer waits for its client, which
    /// `SessionStore::ttl` limits; it starts again once the client is back. For a client that reconnects it always
    /// runs.
    ///
    /// A client that has vanished without a word (a half-open connection) cannot be told from one that does not read.
    /// So the time runs for it, and the session ends with it. If its client should have the session's time to come back
    /// instead, put a heartbeat below the session, and set this value above the heartbeat's interval and timeout.
    ///
    /// A connection that exceeds it is cut. Waiting messages are lost and [counted](crate::Sender::dropped). The
    /// driver, the receiver and the senders that wait for the end get an error for which
    /// [`is_timeout`](crate::Error::is_timeout) is true. A transport that reconnects stops reconnecting.
    ///
    /// For the event stream of an `event_channel`, whose HTTP server decides when to write, it bounds
    /// the future of [`Sender::close`](crate::Sender::close).
    ///
    /// Requires the feature `rt` and, natively, a tokio runtime with timers. Without the feature, outside of a runtime,
    /// or in a runtime without timers, there is no limit. (tokio can only be asked for a timer by making one, so a
    /// runtime without timers reports a panic of tokio's to the panic hook, once per thread, which the driver catches.
    /// With `panic = "abort"` such a runtime aborts.) The queue layer does not use it.
    #[must_use]
    pub fn close_within(mut self, time: Duration) -> Self {
        self.close_within = time;
        self
    }
}

// A derived implementation would require the same trait of `Out` and `In`.
impl<Out, In> Clone for QueueConfig<Out, In> {
    fn clone(&self) -> Self {
        Self { when_full: self.when_full.clone(), ..*self }
    }
}

impl<Out> Clone for WhenFull<Out> {
    fn clone(&self) -> Self {
        match self {
            Self::Block => Self::Block,
            Self::DropOldest => Self::DropOldest,
            Self::DropNewest => Self::DropNewest,
            Self::CoalesceBy(by) => Self::CoalesceBy(by.clone()),
            Self::Close(code) => Self::Close(*code),
        }
    }
}

impl<Out> Clone for CoalesceBy<Out> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Default for QueueConfig<Message> {
    fn default() -> Self {
        Self::messages()
    }
}

debug_fields!([Out, In] QueueConfig<Out, In> { max_messages, max_bytes, max_inbox, when_full, close_within });

impl<Out> fmt::Debug for WhenFull<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block => f.write_str("Block"),
            Self::DropOldest => f.write_str("DropOldest"),
            Self::DropNewest => f.write_str("DropNewest"),
            Self::CoalesceBy(_) => f.write_str("CoalesceBy"),
            Self::Close(code) => f.debug_tuple("Close").field(code).finish(),
        }
    }
}

impl<Out> fmt::Debug for CoalesceBy<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CoalesceBy")
    }
}
