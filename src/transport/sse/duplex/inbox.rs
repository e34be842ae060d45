//! The messages that were sent up and wait for the handler, and the number of the next expected one. Pure.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    Error, Limits, Message,
    transport::framing::{self, Unit},
};

/// The maximum number of waiting messages, however small they are.
const MAX_MESSAGES: usize = 1024;

#[derive(Debug)]
pub(super) struct Inbox {
    messages: VecDeque<Message>,
    bytes: usize,
    limits: Limits,
    /// The number of the next message, or part of one, that has not arrived.
    next: u64,
    /// The received parts of an incomplete message.
    parts: Option<Vec<u8>>,
    /// Whether a close message arrived, which is the last one.
    is_closed: bool,
}

/// The outcome of a received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    New,
    /// A part of a message whose rest has not arrived yet.
    Part,
    /// A duplicate from an earlier POST whose response was lost.
    Again,
    /// A ping or pong after the close: it was in flight when its sender closed.
    Passed,
    /// A message after the close.
    Late,
}

impl Inbox {
    /// Creates an inbox in which at most [`Limits::write_buffer`] bytes wait. The last message may exceed this.
    pub(super) fn new(limits: Limits) -> Self {
        Self { messages: VecDeque::new(), bytes: 0, limits, next: 0, parts: None, is_closed: false }
    }

    /// Returns the number of the next expected message.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn has_room(&self) -> bool {
        self.messages.len() < MAX_MESSAGES && self.bytes < self.limits.write_buffer.max(1)
    }

    /// Takes the message with this number, which is at most [`next`](Self::next).
    ///
    /// # Errors
    ///
    /// Returns an error if the parts together are over [`Limits::message`], if another message arrives between them, or
    /// if they are not the text that they claim to be.
    pub(super) fn take(&mut self, number: u64, unit: Unit) -> Result<Taken, Error> {
        // The response of an earlier POST was lost: the messages were taken, and are not taken twice.
        if number < self.next {
            return Ok(Taken::Again);
        }
        if self.passes_over(&unit) {
            self.next += 1;
            return Ok(Taken::Passed);
        }
        if self.is_closed {
            return Ok(Taken::Late);
        }
        let message = match unit {
            Unit::Part(part) => {
                self.append(&part)?;
                self.next += 1;
                return Ok(Taken::Part);
            }
            Unit::Last(kind, part) => {
                self.append(&part)?;
                framing::message(kind, self.parts.take().unwrap_or_default().into())?
            }
            Unit::Message(message) if message.is_data() && self.parts.is_some() => {
                return Err(Error::protocol("a message came between the parts of another one"));
            }
            Unit::Message(message) => message,
        };
        self.next += 1;
        self.is_closed = message.is_close();
        if self.is_closed {
            self.parts = None;
        }
        self.bytes += message.len();
        self.messages.push_back(message);
        Ok(Taken::New)
    }

    /// Keeps a part. At most twice the received bytes are held.
    fn append(&mut self, part: &Bytes) -> Result<(), Error> {
        let parts = self.parts.get_or_insert_default();
        let (length, limit) = (parts.len().saturating_add(part.len()), self.limits.message);
        if length > limit {
            return Err(Error::too_large(format!(
                "an incoming message in parts, {length} bytes so far, is over the limit of {limit} (Limits::message)"
            )));
        }
        // Doubled by hand: `Vec` would round up past the limit.
        if length > parts.capacity() {
            let capacity = length.max(limit.min(2 * parts.len()));
            parts.reserve_exact(capacity - parts.len());
        }
        parts.extend_from_slice(part);
        Ok(())
    }

    /// Returns whether the next message can be skipped without loss.
    pub(super) fn passes_over(&self, unit: &Unit) -> bool {
        self.is_closed && matches!(unit, Unit::Message(Message::Ping(_) | Message::Pong(_)))
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }

    /// Drops messages that the handler will not read.
    pub(super) fn clear(&mut self) {
        // Not only cleared: a session that is left may live on for a while, and holds no memory for it.
        self.messages = VecDeque::new();
        self.bytes = 0;
        self.parts = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transport::framing::Kind;

    fn text(number: u64) -> Message {
        Message::text(number.to_string())
    }

    fn inbox(write_buffer: usize) -> Inbox {
        Inbox::new(Limits::new().write_buffer(write_buffer).message(1000))
    }

    fn take(inbox: &mut Inbox, number: u64, message: Message) -> Taken {
        inbox.take(number, Unit::Message(message)).unwrap()
    }

    fn part(bytes: &'static [u8]) -> Unit {
        Unit::Part(Bytes::from_static(bytes))
    }

    fn last(kind: Kind, bytes: &'static [u8]) -> Unit {
        Unit::Last(kind, Bytes::from_static(bytes))
    }

    #[test]
    fn what_comes_again_is_taken_once() {
        let mut inbox = inbox(100);
        assert_eq!(take(&mut inbox, 0, text(0)), Taken::New);
        assert_eq!(take(&mut inbox, 1, text(1)), Taken::New);
        assert_eq!(take(&mut inbox, 0, text(0)), Taken::Again);
        assert_eq!(take(&mut inbox, 1, text(1)), Taken::Again);
        assert_eq!(take(&mut inbox, 2, text(2)), Taken::New);
        assert_eq!(inbox.next(), 3);
        let all: Vec<_> = std::iter::from_fn(|| inbox.pop()).collect();
        assert_eq!(all, [text(0), text(1), text(2)]);
    }

    #[test]
    fn nothing_comes_after_a_close() {
        let mut inbox = inbox(100);
        assert_eq!(take(&mut inbox, 0, Message::Close(None)), Taken::New);
        assert_eq!(take(&mut inbox, 0, Message::Close(None)), Taken::Again);
        assert_eq!(take(&mut inbox, 1, text(1)), Taken::Late);
        assert_eq!(inbox.take(1, part(b"a")).unwrap(), Taken::Late);
    }

    #[test]
    fn pings_and_pongs_behind_a_close_are_counted_and_passed_over() {
        let mut inbox = inbox(100);
        take(&mut inbox, 0, Message::Close(None));
        assert_eq!(take(&mut inbox, 1, Message::Pong("".into())), Taken::Passed);
        assert_eq!(take(&mut inbox, 2, Message::Ping("".into())), Taken::Passed);
        assert_eq!(inbox.next(), 3);
        assert_eq!(take(&mut inbox, 3, text(3)), Taken::Late);
        assert_eq!((inbox.pop(), inbox.pop()), (Some(Message::Close(None)), None));
    }

    #[test]
    fn there_is_room_for_one_message_over_the_bytes_and_for_so_many_empty_ones() {
        let mut inbox = inbox(10);
        assert!(inbox.has_room());
        take(&mut inbox, 0, Message::binary(vec![0; 1000]));
        assert!(!inbox.has_room());
        inbox.pop();
        for number in 1..=1024 {
            assert!(inbox.has_room());
            take(&mut inbox, number, Message::text(""));
        }
        assert!(!inbox.has_room());
        inbox.pop();
        assert!(inbox.has_room());
        assert!(self::inbox(0).has_room(), "else nothing would ever come in");
    }

    #[test]
    fn parts_make_one_message_whatever_character_they_are_cut_in() {
        let mut inbox = inbox(100);
        assert_eq!(inbox.take(0, part(b"h\xc3")).unwrap(), Taken::Part);
        assert_eq!(inbox.take(0, part(b"h\xc3")).unwrap(), Taken::Again);
        // A control message may arrive in between, as on a WebSocket.
        assert_eq!(take(&mut inbox, 1, Message::Pong("".into())), Taken::New);
        assert_eq!(inbox.take(2, last(Kind::Text, b"\xa9")).unwrap(), Taken::New);
        assert_eq!(inbox.take(3, last(Kind::Binary, b"\xff")).unwrap(), Taken::New);
        let all: Vec<_> = std::iter::from_fn(|| inbox.pop()).collect();
        assert_eq!(all, [Message::Pong("".into()), Message::text("h\u{e9}"), Message::binary(&b"\xff"[..])]);
        assert_eq!(inbox.next(), 4);
    }

    #[test]
    fn parts_are_bounded_together_and_hold_what_has_come() {
        let mut inbox = inbox(100);
        for number in 0..10 {
            inbox.take(number, Unit::Part(vec![0; 100].into())).unwrap();
            let held = inbox.parts.as_ref().unwrap().capacity();
            assert!(held <= (2 * 100 * (number as usize + 1)).min(1000), "{held}");
        }
        assert!(inbox.take(10, part(b"a")).unwrap_err().is_too_large());
    }

    #[test]
    fn parts_that_are_no_message_are_a_broken_protocol() {
        let mut inbox = inbox(100);
        inbox.take(0, part(b"\xff")).unwrap();
        assert!(inbox.take(1, Unit::Message(text(1))).unwrap_err().is_protocol());
        assert!(inbox.take(1, last(Kind::Text, b"")).unwrap_err().is_protocol());
    }

    #[test]
    fn a_close_between_parts_is_the_end_of_them() {
        let mut inbox = inbox(100);
        inbox.take(0, part(b"a")).unwrap();
        assert_eq!(take(&mut inbox, 1, Message::Close(None)), Taken::New);
        assert!(inbox.parts.is_none());
    }

    proptest! {
        /// A client that resends from its last acknowledged message, and whose responses get lost.
        #[test]
        fn whatever_is_sent_again_arrives_once_and_in_order(
            batches in proptest::collection::vec((1u64..6, any::<bool>()), 1..40),
        ) {
            let mut inbox = inbox(usize::MAX);
            let mut acknowledged = 0;
            for (messages, is_answered) in batches {
                for number in acknowledged..acknowledged + messages {
                    take(&mut inbox, number, text(number));
                }
                if is_answered {
                    acknowledged = inbox.next();
                }
            }
            let all: Vec<_> = std::iter::from_fn(|| inbox.pop()).collect();
            let expected: Vec<_> = (0..inbox.next()).map(text).collect();
            prop_assert_eq!(all, expected);
        }
    }
}
