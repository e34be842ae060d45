//! The messages to send up next and those in flight: a client's side of the sequence. Pure.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use super::poster::FIRST_POST;
use crate::{Error, Message, transport::framing};

/// The maximum size of a part, in bytes: a POST may be that small.
const MAX_PART: usize = FIRST_POST - framing::MAX_HEAD;

/// | `is_pushed` | `flying` | accepted messages |
/// |---|---|---|
/// | no | no | wait for a flush |
/// | yes | no | go with the POST that the next poll of the delivery begins |
/// | no | yes | wait for a flush, and for the POST in flight |
/// | yes | yes | go with the POST that follows the one in flight at once |
///
/// `is_answering` goes with each row. It makes the reading half drive the delivery: no writer waits for the answer to a
/// ping or a close. It ends with the POST that carries the last answer.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Framed messages for the next POST.
    pending: BytesMut,
    messages: u64,
    /// The number of the first pending message.
    next: u64,
    /// The answer to the newest ping.
    pong: Option<Bytes>,
    /// The size in bytes of the POST in flight, or `None`.
    flying: Option<usize>,
    /// The number of bytes that may wait, in flight or not.
    limit: usize,
    /// The maximum size of a POST, in bytes, unless a single message is larger.
    max_post: usize,
    /// The maximum size of one part of a message, in bytes, if the server accepts parts.
    max_part: usize,
    /// Whether the next POST is requested.
    is_pushed: bool,
    /// Whether the reading half waits for an acknowledgement of its own messages.
    is_answering: bool,
    /// The number of bytes that the server has acknowledged since the reading half looked.
    answered: usize,
}

/// The content of one POST.
#[derive(Debug)]
pub(super) struct Batch {
    /// The numbers of its messages.
    pub(super) numbers: Range<u64>,
    pub(super) bytes: Bytes,
}

impl Outbox {
    /// Creates an outbox for a server that accepts messages in parts, or does not.
    pub(super) fn new(limit: usize, max_post: usize, takes_parts: bool) -> Self {
        let in_a_post = max_post.saturating_sub(framing::MAX_HEAD).clamp(1, MAX_PART);
        let max_part = if takes_parts { in_a_post } else { usize::MAX };
        Self {
            pending: BytesMut::new(),
            messages: 0,
            next: 0,
            pong: None,
            flying: None,
            limit: limit.max(1),
            max_post,
            max_part,
            is_pushed: false,
            is_answering: false,
            answered: 0,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.len() < self.limit
    }

    /// Returns the number of bytes that were accepted and not acknowledged.
    pub(super) fn len(&self) -> usize {
        self.pending.len() + self.flying.unwrap_or(0)
    }

    /// Takes a reference: a payload must not be dropped under the lock of the outbox.
    pub(super) fn send(&mut self, message: &Message) {
        self.messages += framing::encode_in_parts(message, self.max_part, &mut self.pending);
    }

    /// Adds our close, after which nothing is sent: a waiting pong is dropped.
    pub(super) fn close(&mut self, message: &Message) {
        self.pong = None;
        self.send(message);
    }

    /// Returns whether all accepted messages were acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.flying.is_none()
    }

    /// Requests that waiting messages be sent.
    pub(super) fn push(&mut self) {
        self.is_pushed = true;
    }

    /// Answers a ping. An answer that is still waiting is replaced.
    pub(super) fn pong(&mut self, payload: Bytes) {
        self.pong = Some(payload);
        self.answer();
    }

    /// Requests, for the reading half, that waiting messages be sent.
    pub(super) fn answer(&mut self) {
        self.is_answering = true;
        self.is_pushed = true;
    }

    /// Returns whether the reading half has to drive the sending.
    pub(super) fn is_answering(&self) -> bool {
        self.is_answering
    }

    /// Returns the content of the next POST, if one is requested and none is in flight.
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        if !self.is_pushed || self.flying.is_some() {
            return None;
        }
        if let Some(payload) = self.pong.take() {
            self.send(&Message::Pong(payload));
        }
        let (count, length) = match self.pending.len() {
            length if length <= self.max_post => (self.messages, length),
            _ => framing::fitting(&self.pending, self.max_post),
        };
        self.messages -= count;
        // A flush is for all accepted messages, so the rest follows without another request.
        self.is_pushed = self.messages > 0;
        if count == 0 {
            // Pushed with nothing to send: the answer went with an earlier POST.
            self.is_answering = false;
            return None;
        }
        let numbers = self.next..self.next + count;
        self.next = numbers.end;
        self.flying = Some(length);
        Some(Batch { numbers, bytes: self.pending.split_to(length).freeze() })
    }

    /// Records that the server has acknowledged `bytes` of the POST in flight.
    pub(super) fn answered(&mut self, bytes: usize) {
        self.answered = self.answered.saturating_add(bytes);
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered > 0
    }

    /// Returns how many bytes the server has acknowledged since the last call.
    pub(super) fn take_answered(&mut self) -> usize {
        std::mem::take(&mut self.answered)
    }

    /// Records that the whole POST in flight was acknowledged.
    pub(super) fn acknowledged(&mut self) {
        self.flying = None;
        self.is_answering = self.is_answering && self.is_pushed;
    }
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Removes the messages that the server has; `due` is the number that it expects next.
    ///
    /// # Errors
    ///
    /// Returns an error if the number does not belong to this batch.
    pub(super) fn acknowledge(&mut self, due: u64) -> Result<(), Error> {
        if due < self.numbers.start || due > self.numbers.end {
            return Err(Error::protocol(format!(
                "the server expects message {due}, but messages {} to {} were sent",
                self.numbers.start, self.numbers.end
            )));
        }
        for _ in self.numbers.start..due {
            let Some(length) = framing::first_length(&self.bytes) else { break };
            self.bytes.advance(length.min(self.bytes.len()));
        }
        self.numbers.start = due;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::framing::Decoder;

    fn outbox(limit: usize) -> Outbox {
        Outbox::new(limit, usize::MAX, true)
    }

    fn messages(batch: &Batch) -> Vec<Message> {
        let (mut bytes, mut decoder) = (batch.bytes.clone(), Decoder::new(usize::MAX));
        std::iter::from_fn(|| decoder.next(&mut bytes).unwrap()).collect()
    }

    fn text(number: u64) -> Message {
        Message::text(number.to_string())
    }

    #[test]
    fn what_is_accepted_while_a_post_is_on_its_way_goes_with_the_next() {
        let mut outbox = outbox(100);
        outbox.send(&text(0));
        assert!(outbox.next_batch().is_none(), "nobody wants it to go yet");
        outbox.push();
        let batch = outbox.next_batch().unwrap();
        assert_eq!((messages(&batch), batch.numbers.clone()), (vec![text(0)], 0..1));
        outbox.send(&text(1));
        outbox.send(&text(2));
        outbox.push();
        assert!(outbox.next_batch().is_none(), "one at a time");
        outbox.acknowledged();
        assert!(!outbox.is_empty());
        let batch = outbox.next_batch().unwrap();
        assert_eq!((messages(&batch), batch.numbers.clone()), (vec![text(1), text(2)], 1..3));
        outbox.acknowledged();
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_is_on_its_way_takes_room_as_what_waits() {
        let mut outbox = outbox(10);
        outbox.send(&Message::binary(vec![0; 20]));
        assert!(!outbox.has_room());
        outbox.push();
        assert!(outbox.next_batch().is_some());
        assert!(!outbox.has_room());
        outbox.acknowledged();
        assert!(outbox.has_room());
    }

    #[test]
    fn of_the_pings_that_come_meanwhile_the_newest_is_answered() {
        let mut outbox = outbox(10);
        outbox.pong(Bytes::from_static(b"a"));
        outbox.pong(Bytes::from_static(b"b"));
        assert!(outbox.is_answering());
        assert_eq!(messages(&outbox.next_batch().unwrap()), [Message::Pong(Bytes::from_static(b"b"))]);
        outbox.pong(Bytes::from_static(b"c"));
        outbox.acknowledged();
        assert!(outbox.is_answering());
        assert_eq!(messages(&outbox.next_batch().unwrap()), [Message::Pong(Bytes::from_static(b"c"))]);
        outbox.acknowledged();
        assert!(!outbox.is_answering());
    }

    #[test]
    fn a_pong_that_waits_does_not_go_behind_a_close() {
        let mut outbox = outbox(10);
        outbox.pong(Bytes::new());
        outbox.close(&Message::Close(None));
        assert_eq!(messages(&outbox.next_batch().unwrap()), [Message::Close(None)]);
    }

    #[test]
    fn a_batch_lets_go_of_what_the_server_has() {
        let mut outbox = outbox(100);
        (0..4).for_each(|number| outbox.send(&text(number)));
        outbox.push();
        let mut batch = outbox.next_batch().unwrap();
        batch.acknowledge(0).unwrap();
        assert_eq!(messages(&batch).len(), 4);
        batch.acknowledge(3).unwrap();
        assert_eq!((messages(&batch), batch.numbers.clone()), (vec![text(3)], 3..4));
        assert!(batch.acknowledge(2).unwrap_err().is_protocol());
        assert!(batch.acknowledge(5).unwrap_err().is_protocol());
        batch.acknowledge(4).unwrap();
        assert!(batch.is_empty() && messages(&batch).is_empty());
    }

    #[test]
    fn no_post_brings_more_than_its_bound_while_more_than_one_message_waits() {
        let mut outbox = Outbox::new(1000, 25, false);
        (0..3).for_each(|_| outbox.send(&Message::binary(vec![0; 10])));
        outbox.send(&Message::binary(vec![0; 100]));
        outbox.push();
        let mut numbers = Vec::new();
        while let Some(batch) = outbox.next_batch() {
            numbers.push((batch.numbers.clone(), batch.bytes.len()));
            assert!(!outbox.is_empty());
            outbox.acknowledged();
        }
        assert_eq!(
            numbers,
            [(0..2, 24), (2..3, 12), (3..4, 103)],
            "a server that knows no parts gets the last one whole"
        );
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_message_over_the_bound_goes_in_parts_each_in_a_post() {
        let mut outbox = Outbox::new(1000, 100, true);
        outbox.send(&text(0));
        outbox.send(&Message::binary(vec![7; 200]));
        outbox.pong(Bytes::new());
        outbox.push();
        let mut posts = Vec::new();
        while let Some(batch) = outbox.next_batch() {
            assert!(batch.bytes.len() <= 100, "{}", batch.bytes.len());
            posts.push(batch.numbers.clone());
            outbox.acknowledged();
            assert!(outbox.is_answering() || posts.len() == 3, "the pong goes with the last one");
        }
        assert_eq!(posts, [0..2, 2..3, 3..5]);
    }
}
