use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::{Error, Limits, Message, transport::framing};

/// The maximum payload that is copied behind its head, in bytes, so that many small messages are one chunk for QUIC.
const COPIED: usize = 1024;

/// The room reserved for small messages at a time, in bytes.
const ROOM: usize = 4096;

/// Messages that were accepted and that QUIC does not have yet. Pure.
#[derive(Debug)]
pub(super) struct Outgoing {
    limits: Limits,
    chunks: VecDeque<Bytes>,
    /// Small messages, after the chunks.
    tail: BytesMut,
    unwritten: usize,
}

impl Outgoing {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, chunks: VecDeque::new(), tail: BytesMut::new(), unwritten: 0 }
    }

    /// Writes the byte that the opener of a stream sends first.
    pub(super) fn push_preamble(&mut self) {
        self.push_bytes(&[super::PREAMBLE]);
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        if self.tail.capacity() - self.tail.len() < bytes.len() {
            self.tail.reserve(ROOM.max(bytes.len()));
        }
        self.tail.extend_from_slice(bytes);
        self.unwritten += bytes.len();
    }

    /// Accepts a message.
    ///
    /// # Errors
    ///
    /// Returns an error if the message is over the limit. It is not accepted.
    pub(super) fn push(&mut self, message: Message) -> Result<(), Error> {
        framing::check_outgoing(&message, self.limits.message)?;
        if self.tail.capacity() - self.tail.len() < framing::MAX_HEAD + COPIED {
            self.tail.reserve(ROOM);
        }
        let before = self.tail.len();
        let payload = framing::head(message, &mut self.tail);
        self.unwritten += self.tail.len() - before + payload.len();
        if payload.len() <= COPIED {
            self.tail.extend_from_slice(&payload);
        } else {
            self.seal();
            self.chunks.push_back(payload);
        }
        Ok(())
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
    }

    /// Returns whether one more message may be accepted.
    pub(super) fn has_room(&self) -> bool {
        self.unwritten < self.limits.write_buffer.max(1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unwritten == 0
    }

    /// Returns the number of waiting bytes.
    pub(super) fn len(&self) -> usize {
        self.unwritten
    }

    /// Returns all waiting chunks. The writer removes written bytes from their front.
    pub(super) fn chunks(&mut self) -> &mut [Bytes] {
        self.seal();
        self.chunks.make_contiguous()
    }

    /// Records that `bytes` of [`chunks`](Self::chunks) were removed, which emptied `chunks` of them.
    pub(super) fn written(&mut self, bytes: usize, chunks: usize) {
        self.unwritten = self.unwritten.saturating_sub(bytes);
        self.chunks.drain(..chunks.min(self.chunks.len()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transport::framing::Decoder;

    /// Writes at most `most` bytes, as QUIC would.
    fn write(outgoing: &mut Outgoing, mut most: usize, into: &mut Vec<u8>) {
        let (mut bytes, mut done) = (0, 0);
        for chunk in outgoing.chunks() {
            let part = chunk.split_to(chunk.len().min(most));
            into.extend_from_slice(&part);
            (bytes, most) = (bytes + part.len(), most - part.len());
            if !chunk.is_empty() {
                break;
            }
            done += 1;
        }
        outgoing.written(bytes, done);
    }

    proptest! {
        #[test]
        fn what_is_pushed_is_written_in_order_however_it_is_cut(
            sizes in proptest::collection::vec(prop_oneof![0..40usize, 900..1200usize, 4000..5000usize], 0..20),
            cuts in proptest::collection::vec(1..3000usize, 1..10),
        ) {
            let mut outgoing = Outgoing::new(Limits::default());
            let mut written = Vec::new();
            let mut cuts = cuts.iter().cycle();
            for (i, size) in sizes.iter().enumerate() {
                outgoing.push(Message::binary(vec![i as u8; *size])).unwrap();
                write(&mut outgoing, *cuts.next().unwrap(), &mut written);
            }
            while !outgoing.is_empty() {
                write(&mut outgoing, *cuts.next().unwrap(), &mut written);
            }
            prop_assert!(outgoing.chunks().is_empty());
            let (mut decoder, mut input) = (Decoder::new(1 << 20), Bytes::from(written));
            for (i, size) in sizes.iter().enumerate() {
                prop_assert_eq!(decoder.next(&mut input).unwrap(), Some(Message::binary(vec![i as u8; *size])));
            }
            prop_assert!(input.is_empty());
        }
    }

    #[test]
    fn a_large_payload_is_not_copied() {
        let payload = Bytes::from(vec![7; 100_000]);
        let mut outgoing = Outgoing::new(Limits::default());
        outgoing.push(Message::binary(payload.clone())).unwrap();
        assert_eq!(outgoing.chunks()[1].as_ptr(), payload.as_ptr());
    }

    #[test]
    fn a_message_over_the_limit_is_refused_and_leaves_nothing_behind() {
        let mut outgoing = Outgoing::new(Limits::new().message(10));
        assert!(outgoing.push(Message::binary(vec![0; 11])).unwrap_err().is_too_large());
        assert!(outgoing.push(Message::Ping(vec![0; 126].into())).unwrap_err().is_too_large());
        assert!(outgoing.is_empty() && outgoing.chunks().is_empty());
        outgoing.push(Message::binary(vec![0; 10])).unwrap();
    }

    #[test]
    fn there_is_room_until_the_write_buffer_is_full() {
        let mut outgoing = Outgoing::new(Limits::new().write_buffer(100));
        outgoing.push(Message::binary(vec![0; 90])).unwrap();
        assert!(outgoing.has_room());
        outgoing.push(Message::binary(vec![0; 90])).unwrap();
        assert!(!outgoing.has_room());
        write(&mut outgoing, 100, &mut Vec::new());
        assert!(outgoing.has_room());
    }
}
