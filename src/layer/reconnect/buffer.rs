use std::{collections::VecDeque, fmt, num::NonZeroUsize};

use crate::{
    Message,
    layer::stall::{Blame, Patience, Stall},
    rt::Instant,
    transport::payload::Payload,
};

/// The fate of messages that a connection had accepted when it was lost: those of which no flush is known to have
/// succeeded.
///
/// | | `Fail` (default) | `Drop` | `Keep` |
/// |---|---|---|---|
/// | the messages are | lost, and counted | lost, and counted | sent again on the next connection, before any other |
/// | the writer is told | by [one error](#the-error-of-fail) | only by [`lost`](super::ReconnectHandle::lost) | - |
/// | delivery | at most once | at most once | at least once: a message may arrive twice |
/// | `poll_ready` without a connection | waits | waits | is ready until the buffer is full |
///
/// None of them knows what the peer has read: a message that was flushed into a connection which then failed may be
/// lost unnoticed. If every message must arrive exactly once, both ends need sequence numbers: use a resume layer.
///
/// # With a resume layer
///
/// With a resume layer in the connector, messages [outlive](crate::transport::OutlivesConnection) the connection:
/// nothing is lost with it, and nothing is counted, failed or sent again here. Only messages that wait for a connection
/// are this layer's.
///
/// If the server begins a new session (because it restarted, the session expired, or it was given up), the messages
/// that the previous session had accepted and the peer had not acknowledged are
/// [lost](crate::transport::SessionLoss). They count as [`lost`](super::ReconnectHandle::lost). With `Fail` and `Keep`,
/// one error reports their number when the new session begins. It is the next item of the stream, or the result of the
/// sink's call that waits for the connection, whichever is polled first. Like [that of `Fail`](#the-error-of-fail) it
/// is closed and a rejection, a [`Driver`](crate::Driver) passes it on, and the transport goes on. `Keep` cannot send
/// these messages again, as it has no copy of them. When the layer gives up, the close fails, or the transport is
/// dropped before its close has succeeded, the messages of the session that the peer has not acknowledged count as
/// lost, too, and the error of the sink or of the close tells it.
///
/// # The error of `Fail`
///
/// The next call of the sink fails once, with the number of lost messages, and then the sink goes on: the error [is
/// closed](crate::Error::is_closed) and [is a rejection](crate::Error::is_rejection). A [`Driver`](crate::Driver)
/// passes it to its [`Receiver`](crate::Receiver) and to the next [`flush`](crate::Sender::flush) of each sender, and
/// continues to write. `Fail` is the default because it alone neither loses nor repeats a message unnoticed.
#[derive(Default)]
#[non_exhaustive]
pub enum WhenLost<Out> {
    /// The messages are lost, and the next call of the sink fails, once.
    #[default]
    Fail,
    /// The messages are lost, and counted.
    Drop,
    /// The messages are sent again.
    Keep(Keep<Out>),
}

/// The buffer of [`WhenLost::Keep`], for messages that are not known to be flushed and messages that wait for a
/// connection.
///
/// | bound | default |
/// |---|---|
/// | [`max_messages`](Self::max_messages) | 1024; 64 [values](Self::values) that own memory |
/// | [`max_bytes`](Self::max_bytes) | 1 MiB of payload; the last message may exceed it |
///
/// Each message is cloned into it, which for a [`Message`] costs a reference count. When it is full, `poll_ready`
/// flushes, or waits if there is no connection.
///
/// A new connection gets the kept messages in bursts of 1, 2, 4 and so on, each followed by a flush. A message that was
/// flushed leaves the buffer. So a line that is cut often gets ahead as long as each connection carries a message.
pub struct Keep<Out = Message> {
    pub(super) max_messages: usize,
    pub(super) max_bytes: usize,
    pub(super) payload: Payload<Out>,
    pub(super) clone: fn(&Out) -> Out,
}

impl Keep<Message> {
    /// Creates a buffer of [`Message`]s, measured by their payloads.
    #[must_use]
    pub fn messages() -> Self {
        Self::new(Payload::messages())
    }
}

impl<Out: Clone> Keep<Out> {
    /// Creates a buffer of values, each measured by the size of its type; see [`size_by`](Self::size_by). It holds 1024
    /// values, or 64 if a value owns memory ([`needs_drop`](std::mem::needs_drop)), because the size of that memory is
    /// unknown.
    #[must_use]
    pub fn values() -> Self {
        Self::new(Payload::values())
    }

    fn new(payload: Payload<Out>) -> Self {
        Self { max_messages: payload.capacity(), max_bytes: 1 << 20, payload, clone: Out::clone }
    }
}

impl<Out> Keep<Out> {
    /// Sets the maximum number of messages. Defaults to 1024, or 64 values that own memory.
    #[must_use]
    pub fn max_messages(mut self, messages: NonZeroUsize) -> Self {
        self.max_messages = messages.get();
        self
    }

    /// Sets the maximum size of all messages, in bytes. Defaults to 1 MiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: NonZeroUsize) -> Self {
        self.max_bytes = bytes.get();
        self
    }

    /// Sets the function that measures a message, in bytes.
    #[must_use]
    pub fn size_by(mut self, size: fn(&Out) -> usize) -> Self {
        self.payload = self.payload.sized_by(size);
        self
    }

    /// Returns the part of [`max_bytes`](Self::max_bytes) that a message takes. A message that is larger takes all of
    /// it, so that sums stay exact whatever the measuring function returns.
    fn size(&self, message: &Out) -> usize {
        self.payload.size(message).min(self.max_bytes)
    }
}

// A derived implementation would require `Out: Clone`.
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

debug_fields!([Out] Keep<Out> { max_messages, max_bytes });

impl<Out> fmt::Debug for WhenLost<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail => f.write_str("Fail"),
            Self::Drop => f.write_str("Drop"),
            Self::Keep(keep) => keep.fmt(f),
        }
    }
}

/// The accepted messages that are not known to be flushed. Pure: it neither sends nor waits.
///
/// With `Keep`, `queue` holds all of them: first the `sent` ones, then those that wait for a connection. Otherwise it
/// holds at most one message, and the sent ones are only counted.
pub(super) struct Buffer<Out> {
    when_lost: WhenLost<Out>,
    queue: VecDeque<Out>,
    bytes: usize,
    /// The number of messages at the front of the queue that the current connection accepted. With `Keep` only.
    sent: usize,
    /// How many kept messages the current connection gets before the next flush, while older ones wait. It begins with
    /// 1 and doubles with each flush. So a line that is cut often gets ahead if it carries one message per connection,
    /// and a good line needs few flushes.
    burst: usize,
    /// The number of messages at the front of the queue that an earlier connection accepted. With `Keep` only.
    tried: usize,
    /// The number of messages that the current connection accepted. Without `Keep` only.
    unflushed: u64,
    /// The number of lost messages that must be reported to the writer.
    report: u64,
    /// The number of messages that have left the queue. It identifies the message at the front.
    left: u64,
    /// Counts the connections that were lost with the same unflushed message at the front of the queue: the message
    /// with the number `stalled_front`.
    stall: Stall,
    stalled_front: u64,
    is_stuck: bool,
}

impl<Out> Buffer<Out> {
    pub(super) fn new(when_lost: WhenLost<Out>) -> Self {
        Self {
            when_lost,
            queue: VecDeque::new(),
            bytes: 0,
            sent: 0,
            burst: 1,
            tried: 0,
            unflushed: 0,
            report: 0,
            left: 0,
            stall: Stall::new(Patience::default()),
            stalled_front: 0,
            is_stuck: false,
        }
    }

    /// Returns whether a message must wait for a connection before it is accepted.
    pub(super) fn waits_for_connection(&self) -> bool {
        match &self.when_lost {
            WhenLost::Keep(_) => self.is_full(),
            _ => true,
        }
    }

    /// Returns whether a flush must make room before one more message can be sent.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        match &self.when_lost {
            WhenLost::Keep(keep) => self.queue.len() >= keep.max_messages || self.bytes >= keep.max_bytes,
            _ => false,
        }
    }

    /// Returns whether the user is told of lost messages.
    pub(super) fn reports_losses(&self) -> bool {
        !matches!(self.when_lost, WhenLost::Drop)
    }

    /// Counts a message that is about to be given to the connection. Returns `false`, and does nothing, with `Keep`,
    /// which needs the message. The message is not an argument here, so that it need not be copied on its way.
    #[inline]
    pub(super) fn count_sending(&mut self) -> bool {
        // Without a branch on the count itself: this is on the path of each message.
        let counts = !matches!(self.when_lost, WhenLost::Keep(_));
        self.unflushed += u64::from(counts);
        counts
    }

    /// Counts or keeps a message that is about to be given to the connection.
    pub(super) fn sending(&mut self, message: &Out) {
        match &self.when_lost {
            WhenLost::Keep(keep) => {
                self.bytes = self.bytes.saturating_add(keep.size(message));
                // A clone, because `start_send` takes the message: if the connection fails in it, the message is needed
                // for the next one.
                self.queue.push_back((keep.clone)(message));
                self.sent += 1;
            }
            _ => self.unflushed += 1,
        }
    }

    /// Forgets the message that was given to the connection last: it was rejected, or a layer below keeps it. Returns
    /// whether no earlier connection had accepted it.
    pub(super) fn not_held(&mut self) -> bool {
        match &self.when_lost {
            WhenLost::Keep(keep) => {
                self.sent = self.sent.saturating_sub(1);
                if let Some(message) = self.queue.remove(self.sent) {
                    self.left += 1;
                    self.bytes = self.bytes.saturating_sub(keep.size(&message));
                }
                // Messages that an earlier connection had are all in front of those that none had.
                let is_new = self.tried <= self.sent;
                self.tried -= usize::from(!is_new);
                is_new
            }
            _ => {
                self.unflushed = self.unflushed.saturating_sub(1);
                true
            }
        }
    }

    /// Accepts a message for the next connection.
    pub(super) fn push(&mut self, message: Out) {
        if let WhenLost::Keep(keep) = &self.when_lost {
            self.bytes = self.bytes.saturating_add(keep.size(&message));
        }
        self.queue.push_back(message);
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.queue.len() > self.sent
    }

    /// Returns whether what was sent must be flushed, and forgotten, before the next kept message is sent.
    pub(super) fn must_flush(&self) -> bool {
        self.sent >= self.burst
    }

    /// Notes that what was sent of the kept messages is flushed.
    pub(super) fn burst_flushed(&mut self) {
        self.flushed();
        // Doubled after each success: a line that is cut often gets a message through, and a good one is soon as fast
        // as without bursts.
        self.burst = self.burst.saturating_mul(2);
    }

    /// Returns the next message for a new connection, and counts it as sent.
    pub(super) fn next_unsent(&mut self) -> Option<Out> {
        match &self.when_lost {
            WhenLost::Keep(keep) => {
                // It stays in the queue until a flush succeeds.
                let message = self.queue.get(self.sent).map(keep.clone)?;
                self.sent += 1;
                Some(message)
            }
            _ => {
                let message = self.queue.pop_front()?;
                self.unflushed += 1;
                Some(message)
            }
        }
    }

    /// Forgets everything that was sent.
    #[inline]
    pub(super) fn flushed(&mut self) {
        // A flush covers everything that was sent before it, from either half.
        self.unflushed = 0;
        if self.sent > 0 {
            self.forget_sent();
        }
    }

    fn forget_sent(&mut self) {
        self.left += self.sent as u64;
        self.tried = self.tried.saturating_sub(self.sent);
        if let WhenLost::Keep(keep) = &self.when_lost {
            for message in self.queue.drain(..self.sent.min(self.queue.len())) {
                self.bytes = self.bytes.saturating_sub(keep.size(&message));
            }
        }
        self.sent = 0;
    }

    /// Returns whether no message waits for a connection or a flush.
    pub(super) fn is_clear(&self) -> bool {
        self.unflushed == 0 && self.queue.is_empty()
    }

    /// Handles a lost connection. `is_read`: the user was reading. Returns how many messages were lost with it.
    pub(super) fn connection_lost(&mut self, blame: Option<Blame>, is_read: bool, now: Instant) -> u64 {
        // A connection that was lost before it had a message says nothing about the message at the front.
        if self.sent > 0 {
            if std::mem::replace(&mut self.stalled_front, self.left) != self.left {
                self.stall.reset();
            }
            self.is_stuck = self.stall.ended(blame, is_read, now).is_some();
        }
        // All kept messages are unsent again, and those at the front may reach the peer twice. The next connection
        // begins with the smallest burst, because this one may have been cut by what it carried.
        self.tried = self.tried.max(self.sent);
        (self.sent, self.burst) = (0, 1);
        let lost = std::mem::take(&mut self.unflushed);
        if matches!(self.when_lost, WhenLost::Fail) {
            self.report += lost;
        }
        lost
    }

    /// Returns whether too many connections were lost before the message at the front was flushed.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Drops everything, for no connection follows. Returns how many messages are lost.
    pub(super) fn abandon(&mut self) -> u64 {
        let lost = self.unflushed + self.queue.len() as u64;
        (self.unflushed, self.sent, self.bytes) = (0, 0, 0);
        // Frees the memory as well: a transport that has ended may live on.
        self.queue = VecDeque::new();
        lost
    }

    /// Returns the number of lost messages, once.
    pub(super) fn take_report(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.report)).filter(|lost| *lost > 0)
    }

    #[inline]
    pub(super) fn has_report(&self) -> bool {
        self.report > 0
    }
}

debug_fields!([Out] Buffer<Out>, |this| { when_lost, queued: this.queue.len(), sent, unflushed });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Message, layer::reconnect::Keep};

    fn keep(messages: usize, bytes: usize) -> Buffer<Message> {
        let (messages, bytes) = (messages.try_into().unwrap(), bytes.try_into().unwrap());
        Buffer::new(WhenLost::Keep(Keep::messages().max_messages(messages).max_bytes(bytes)))
    }

    fn lose(buffer: &mut Buffer<Message>) -> u64 {
        buffer.connection_lost(None, true, Instant::now())
    }

    fn unsent(buffer: &mut Buffer<Message>) -> Vec<String> {
        std::iter::from_fn(|| buffer.next_unsent()).map(|message| message.as_text().unwrap().to_owned()).collect()
    }

    #[test]
    fn kept_messages_are_sent_again_in_order_until_they_are_flushed() {
        let mut buffer = keep(10, 100);
        buffer.push("a".into());
        assert_eq!(unsent(&mut buffer), ["a"]);
        buffer.sending(&"b".into());
        assert_eq!(lose(&mut buffer), 0);
        buffer.push("c".into());
        assert_eq!(unsent(&mut buffer), ["a", "b", "c"]);
        buffer.flushed();
        buffer.sending(&"d".into());
        lose(&mut buffer);
        assert_eq!(unsent(&mut buffer), ["d"]);
        buffer.flushed();
        assert!(buffer.is_clear() && buffer.bytes == 0);
    }

    #[test]
    fn a_flush_only_forgets_sent_messages() {
        let mut buffer = keep(10, 100);
        for text in ["a", "b"] {
            buffer.push(text.into());
        }
        buffer.next_unsent();
        buffer.flushed();
        assert!(buffer.has_unsent() && !buffer.is_clear());
        assert_eq!(unsent(&mut buffer), ["b"]);
    }

    #[test]
    fn a_buffer_is_full_by_messages_or_by_bytes() {
        let mut buffer = keep(2, 100);
        buffer.push("a".into());
        assert!(!buffer.is_full());
        buffer.push("b".into());
        assert!(buffer.is_full() && buffer.waits_for_connection());
        let mut buffer = keep(100, 4);
        buffer.push("abcdef".into());
        assert!(buffer.is_full());
        buffer.next_unsent();
        buffer.flushed();
        assert!(!buffer.is_full());
    }

    #[test]
    fn sizes_whose_sum_overflows_fill_the_buffer_until_they_are_flushed() {
        for max_bytes in [1 << 20, usize::MAX] {
            let keep = Keep::messages().max_bytes(max_bytes.try_into().unwrap()).size_by(|_| usize::MAX);
            let mut buffer = Buffer::new(WhenLost::Keep(keep));
            buffer.sending(&"a".into());
            buffer.sending(&"b".into());
            buffer.push("c".into());
            assert!(buffer.is_full());
            assert_eq!(unsent(&mut buffer), ["c"]);
            buffer.flushed();
            assert!(!buffer.is_full() && buffer.is_clear() && buffer.bytes == 0);
        }
    }

    #[test]
    fn a_message_that_the_connection_rejected_is_not_kept() {
        let mut buffer = keep(10, 100);
        buffer.sending(&"a".into());
        buffer.sending(&"b".into());
        buffer.push("c".into());
        buffer.not_held();
        lose(&mut buffer);
        assert_eq!(unsent(&mut buffer), ["a", "c"]);
    }

    #[test]
    fn a_loss_is_counted_and_with_fail_reported_once() {
        for (when_lost, told) in [(WhenLost::Fail, Some(2)), (WhenLost::Drop, None)] {
            let mut buffer = Buffer::new(when_lost);
            buffer.sending(&Message::text("flushed"));
            buffer.flushed();
            for text in ["a", "b", "refused"] {
                buffer.sending(&Message::text(text));
            }
            buffer.not_held();
            assert_eq!(lose(&mut buffer), 2);
            assert_eq!(buffer.take_report(), told);
            assert_eq!((buffer.take_report(), lose(&mut buffer)), (None, 0));
        }
    }

    #[test]
    fn a_message_is_stuck_while_it_is_at_the_front_and_no_connection_is_blamed_for_another() {
        let mut buffer = keep(10, 100);
        let now = Instant::now();
        for text in ["a", "b"] {
            buffer.push(text.into());
            for _ in 0..2 {
                // A connection that had no message does not count.
                buffer.connection_lost(Some(Blame::Refused), true, now);
                buffer.next_unsent();
                buffer.connection_lost(Some(Blame::Refused), true, now);
                assert!(!buffer.is_stuck());
            }
            buffer.next_unsent();
            if text == "a" {
                buffer.flushed();
            }
        }
        buffer.connection_lost(Some(Blame::Refused), true, now);
        assert!(buffer.is_stuck());
    }

    #[test]
    fn at_the_end_all_waiting_messages_count_as_lost() {
        let mut buffer = keep(10, 100);
        buffer.sending(&"a".into());
        buffer.push("b".into());
        assert_eq!((buffer.abandon(), buffer.abandon()), (2, 0));
        assert!(buffer.is_clear());
    }
}
