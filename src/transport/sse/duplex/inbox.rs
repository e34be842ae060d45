//! What came up and waits for the handler, and which message is due next. Pure.

use std::collections::VecDeque;

use crate::Message;

/// How many messages may wait, however small they are.
const MAX_MESSAGES: usize = 1024;

#[derive(Debug)]
pub(super) struct Inbox {
    messages: VecDeque<Message>,
    bytes: usize,
    /// How many bytes may wait; the last message may go over it.
    limit: usize,
    /// The number of the next message that has not come.
    next: u64,
    /// A close message came: it is the last one.
    is_closed: bool,
}

/// What is done with a message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    New,
    /// It came before, in a POST whose answer was lost.
    Again,
    /// A ping or pong after the last one: it was on its way when its sender closed.
    Passed,
    /// A message after the last one.
    Late,
}

impl Inbox {
    pub(super) fn new(limit: usize) -> Self {
        Self { messages: VecDeque::new(), bytes: 0, limit, next: 0, is_closed: false }
    }

    /// The number of the message that is due.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn has_room(&self) -> bool {
        self.messages.len() < MAX_MESSAGES && self.bytes < self.limit.max(1)
    }

    /// Takes the message of this number, which is at most [`next`](Self::next).
    pub(super) fn take(&mut self, number: u64, message: Message) -> Taken {
        if number < self.next {
            return Taken::Again;
        }
        if self.passes_over(&message) {
            self.next += 1;
            return Taken::Passed;
        }
        if self.is_closed {
            return Taken::Late;
        }
        self.next += 1;
        self.is_closed = message.is_close();
        self.bytes += message.len();
        self.messages.push_back(message);
        Taken::New
    }

    /// Whether the next message is one that nobody misses.
    pub(super) fn passes_over(&self, message: &Message) -> bool {
        self.is_closed && matches!(message, Message::Ping(_) | Message::Pong(_))
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }

    /// Lets go of what nobody will read.
    pub(super) fn clear(&mut self) {
        self.messages = VecDeque::new();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(number: u64) -> Message {
        Message::text(number.to_string())
    }

    #[test]
    fn what_comes_again_is_taken_once() {
        let mut inbox = Inbox::new(100);
        assert_eq!(inbox.take(0, text(0)), Taken::New);
        assert_eq!(inbox.take(1, text(1)), Taken::New);
        assert_eq!(inbox.take(0, text(0)), Taken::Again);
        assert_eq!(inbox.take(1, text(1)), Taken::Again);
        assert_eq!(inbox.take(2, text(2)), Taken::New);
        assert_eq!(inbox.next(), 3);
        let all: Vec<_> = std::iter::from_fn(|| inbox.pop()).collect();
        assert_eq!(all, [text(0), text(1), text(2)]);
    }

    #[test]
    fn nothing_comes_after_a_close() {
        let mut inbox = Inbox::new(100);
        assert_eq!(inbox.take(0, Message::Close(None)), Taken::New);
        assert_eq!(inbox.take(0, Message::Close(None)), Taken::Again);
        assert_eq!(inbox.take(1, text(1)), Taken::Late);
    }

    #[test]
    fn pings_and_pongs_behind_a_close_are_counted_and_passed_over() {
        let mut inbox = Inbox::new(100);
        inbox.take(0, Message::Close(None));
        assert_eq!(inbox.take(1, Message::Pong("".into())), Taken::Passed);
        assert_eq!(inbox.take(2, Message::Ping("".into())), Taken::Passed);
        assert_eq!(inbox.next(), 3);
        assert_eq!(inbox.take(3, text(3)), Taken::Late);
        assert_eq!((inbox.pop(), inbox.pop()), (Some(Message::Close(None)), None));
    }

    #[test]
    fn there_is_room_for_one_message_over_the_bytes_and_for_so_many_empty_ones() {
        let mut inbox = Inbox::new(10);
        assert!(inbox.has_room());
        inbox.take(0, Message::binary(vec![0; 1000]));
        assert!(!inbox.has_room());
        inbox.pop();
        for number in 1..=1024 {
            assert!(inbox.has_room());
            inbox.take(number, Message::text(""));
        }
        assert!(!inbox.has_room());
        inbox.pop();
        assert!(inbox.has_room());
        assert!(Inbox::new(0).has_room(), "else nothing would ever come in");
    }

    proptest! {
        /// A client that sends from where it last had an answer, whose answers get lost.
        #[test]
        fn whatever_is_sent_again_arrives_once_and_in_order(batches in proptest::collection::vec((1u64..6, any::<bool>()), 1..40)) {
            let mut inbox = Inbox::new(usize::MAX);
            let mut acknowledged = 0;
            for (messages, is_answered) in batches {
                for number in acknowledged..acknowledged + messages {
                    inbox.take(number, text(number));
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
