use std::{fmt, num::NonZeroUsize};

use crate::{Message, transport::payload::Payload};

/// What becomes of messages that a connection took and then was lost with: those of which no flush is known to have
/// succeeded.
///
/// | | `Fail` (default) | `Drop` | `Keep` |
/// |---|---|---|---|
/// | they are | lost, and counted | lost, and counted | sent again on the next connection, before any other |
/// | the writer learns of it | by one error of its next call that [`is_closed`](crate::Error::is_closed), [`is_rejection`](crate::Error::is_rejection) and says how many; then the sink goes on | by [`lost`](super::ReconnectHandle::lost) alone | - |
/// | delivery | at most once | at most once | at least once: a message may come twice |
/// | while there is no connection | `poll_ready` waits | `poll_ready` waits | `poll_ready` is ready until the buffer is full |
///
/// None of them knows what the peer has read: a message that was flushed into a connection which then died may be lost in
/// any case, without a word. Where each message must come, and once, the two ends need sequence numbers: that is what a
/// resume layer is for.
///
/// Below a connector that has one, a connection says that what it takes [outlives](crate::transport::OutlivesConnection) it: then
/// nothing is lost with the connection, and nothing is counted, failed or sent again here. Only what waits for a connection is
/// this layer's.
///
/// The default is `Fail` because it is the only one that neither loses nor repeats a message behind the writer's back. Its
/// error [is a rejection](crate::Error::is_rejection): it concerns the messages that were lost, and the sink goes on. A
/// [`Driver`](crate::Driver) passes it to its [`Receiver`](crate::Receiver) and to the next
/// [`flush`](crate::Sender::flush) of each sender, and goes on writing.
#[derive(Default)]
pub enum WhenLost<Out> {
    /// They are lost, and the next call of the sink fails, once.
    #[default]
    Fail,
    /// They are lost, and counted.
    Drop,
    /// They are sent again.
    Keep(Keep<Out>),
}

/// The buffer of [`WhenLost::Keep`]: what is not known to be flushed, and what waits for a connection.
///
/// | bound | default |
/// |---|---|
/// | [`max_messages`](Self::max_messages) | 1024; 64 [values](Self::values) that own memory |
/// | [`max_bytes`](Self::max_bytes) | 1 MiB of payload; looked at before a message is taken: the last one may go over |
///
/// Each message that is sent is cloned into it, which for a [`Message`] costs a reference count. When it is full,
/// `poll_ready` flushes (or, without a connection, waits).
pub struct Keep<Out = Message> {
    pub(super) max_messages: usize,
    pub(super) max_bytes: usize,
    pub(super) payload: Payload<Out>,
    pub(super) clone: fn(&Out) -> Out,
}

impl Keep<Message> {
    /// A buffer of [`Message`]s, measured by their payloads.
    #[must_use]
    pub fn messages() -> Self {
        Self::new(Payload::messages())
    }
}

impl<Out: Clone> Keep<Out> {
    /// Creates a buffer of values, each measured by the size of its type; see [`size_by`](Self::size_by). It holds 64 values, not 1024, where
    /// a value owns memory ([`needs_drop`](std::mem::needs_drop)), whose size is not known.
    #[must_use]
    pub fn values() -> Self {
        Self::new(Payload::values())
    }

    fn new(payload: Payload<Out>) -> Self {
        Self { max_messages: payload.capacity(), max_bytes: 1 << 20, payload, clone: Out::clone }
    }
}

impl<Out> Keep<Out> {
    /// Holds at most so many messages.
    #[must_use]
    pub fn max_messages(mut self, messages: NonZeroUsize) -> Self {
        self.max_messages = messages.get();
        self
    }

    /// Holds at most so many bytes.
    #[must_use]
    pub fn max_bytes(mut self, bytes: NonZeroUsize) -> Self {
        self.max_bytes = bytes.get();
        self
    }

    /// Measures messages by this function, in bytes.
    #[must_use]
    pub fn size_by(mut self, size: fn(&Out) -> usize) -> Self {
        self.payload = self.payload.sized_by(size);
        self
    }
}

// By hand, since what they hold of `Out` is functions: `Out: Clone` is not needed for the settings to be.
impl<Out> Clone for Keep<Out> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<Out> Clone for WhenLost<Out> {
    fn clone(&self) -> Self {
        match self {
            Self::Fail => Self::Fail,
            Self::Drop => Self::Drop,
            Self::Keep(keep) => Self::Keep(keep.clone()),
        }
    }
}

impl<Out> fmt::Debug for Keep<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keep")
            .field("max_messages", &self.max_messages)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

impl<Out> fmt::Debug for WhenLost<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail => f.write_str("Fail"),
            Self::Drop => f.write_str("Drop"),
            Self::Keep(keep) => keep.fmt(f),
        }
    }
}
