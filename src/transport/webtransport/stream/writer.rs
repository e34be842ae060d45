use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};

use super::RawSend;
use crate::{
    Error, Limits, Message, rt,
    transport::{framing, signal},
};

/// The sending half of a stream, which passes messages to QUIC.
pub(super) struct Writer {
    /// The stream below, taken out when this stream is dropped.
    send: Option<RawSend>,
    outgoing: Outgoing,
    /// The newest ping that is not answered yet.
    pong: Option<Bytes>,
    /// Whether room was promised, which remains valid whatever else is written.
    promised: bool,
    /// Whether waiting data must be sent even if no task flushes.
    owes: bool,
    /// Whether the last message is in `outgoing`, or already with QUIC.
    closing: bool,
    /// Whether QUIC has the last message and the end of the stream.
    finished: bool,
    failed: Option<Error>,
}

impl Writer {
    pub(super) fn new(send: RawSend, limits: Limits) -> Self {
        Self {
            send: Some(send),
            outgoing: Outgoing::new(limits),
            pong: None,
            promised: false,
            owes: false,
            closing: false,
            finished: false,
            failed: None,
        }
    }

    pub(super) fn push_preamble(&mut self) {
        self.outgoing.push_preamble();
    }

    /// Returns why nothing can be written any more.
    pub(super) fn failed(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    pub(super) fn push(&mut self, message: Message) -> Result<(), Error> {
        self.promised = false;
        let is_close = message.is_close();
        self.outgoing.push(message)?;
        self.closing |= is_close;
        self.owes |= is_close;
        Ok(())
    }

    /// Queues a message that must leave even if no task flushes. The promise of room to the user stays.
    pub(super) fn push_owed(&mut self, message: Message) {
        self.owes |= self.outgoing.push(message).is_ok();
    }

    /// Ends the stream once everything is written, without a close frame.
    pub(super) fn end(&mut self) {
        self.closing = true;
        self.owes = true;
    }

    /// Answers a ping as soon as there is room. If several wait, only the newest is answered (RFC 6455, section 5.5.3).
    pub(super) fn answer(&mut self, ping: Bytes) {
        self.pong = Some(ping);
        self.owes = true;
    }

    /// Returns whether data waits that must be sent even if no task flushes: a pong, the last message.
    pub(super) fn owes(&self) -> bool {
        self.failed.is_none() && self.owes
    }

    /// Promises room for a message, if there is room.
    pub(super) fn has_room(&mut self) -> bool {
        self.promised |= self.outgoing.has_room();
        self.promised
    }

    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.has_room() {
            ready!(self.poll_write(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives QUIC all waiting data.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if self.outgoing.has_room()
                && !self.closing
                && let Some(pong) = self.pong.take()
            {
                // The payload arrived in a ping, so it is not too large for a pong.
                let _ = self.outgoing.push(Message::Pong(pong));
            }
            if self.outgoing.is_empty() {
                break;
            }
            ready!(self.poll_write(cx))?;
        }
        if self.closing && !self.finished {
            self.pong = None;
            self.finished = true;
            if let Some(send) = &mut self.send {
                send.finish();
            }
        }
        self.owes = false;
        Poll::Ready(Ok(()))
    }

    /// Writes some of the waiting data.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        let Some(send) = &mut self.send else { return Poll::Ready(Err(Error::closed("the stream is closed"))) };
        Poll::Ready(match ready!(send.poll_write(cx, self.outgoing.chunks())) {
            Ok(Written { bytes, chunks }) => {
                self.outgoing.written(bytes, chunks);
                signal::moved(bytes);
                Ok(())
            }
            Err(error) => Err(self.fail(error)),
        })
    }

    fn fail(&mut self, error: Error) -> Error {
        self.failed = Some(error.clone());
        // A stream that the peer has stopped counts toward the maximum number of open streams until it is reset.
        self.reset(0);
        error
    }

    /// Reports the progress that was made below meanwhile.
    pub(super) fn report_progress(&mut self) {
        if let Some(send) = &mut self.send {
            send.report_progress();
        }
    }

    /// Returns the number of bytes that the peer does not have yet, as far as is known.
    pub(super) fn unsent(&mut self) -> u64 {
        self.outgoing.len() as u64 + self.send.as_mut().map_or(0, RawSend::unsent)
    }

    /// Abandons undelivered data, and reports why.
    pub(super) fn reset(&mut self, code: u32) {
        if let Some(send) = &mut self.send
            && !self.finished
        {
            send.reset(code);
        }
        self.finished = true;
        self.failed.get_or_insert_with(|| Error::closed("the stream is closed"));
    }

    pub(super) fn set_priority(&self, priority: i32) {
        if let Some(send) = &self.send {
            send.set_priority(priority);
        }
    }

    /// Waits until the peer has acknowledged the whole stream. Returns an error if the peer stops it.
    pub(super) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match &mut self.send {
            Some(send) => send.poll_stopped(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Handles the drop of the stream. QUIC still delivers data that it accepted with the end of the stream: until
    /// then, for [`Limits::close`](crate::Limits::close) from the last progress, the session is kept.
    pub(super) fn leave(&mut self) {
        if !self.finished || self.failed.is_some() {
            return self.reset(0);
        }
        let Some(mut send) = self.send.take() else { return };
        if send.poll_stopped(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        // Without a runtime, no task can wait.
        if rt::has_runtime() {
            rt::detach(send.linger(self.outgoing.limits.close));
        }
    }
}

/// How much of the waiting data was written: bytes, and chunks that became empty.
pub(super) struct Written {
    pub(super) bytes: usize,
    pub(super) chunks: usize,
}

/// The maximum payload that is copied behind its head, in bytes, so that many small messages are one chunk for QUIC.
const COPIED: usize = 1024;

/// The room reserved for small messages at a time, in bytes.
const ROOM: usize = 4096;

/// Messages that were accepted and that QUIC does not have yet. Pure.
#[derive(Debug)]
struct Outgoing {
    limits: Limits,
    chunks: VecDeque<Bytes>,
    /// Small messages, after the chunks.
    tail: BytesMut,
    unwritten: usize,
}

impl Outgoing {
    fn new(limits: Limits) -> Self {
        Self { limits, chunks: VecDeque::new(), tail: BytesMut::new(), unwritten: 0 }
    }

    /// Writes the byte that the opener of a stream sends first.
    fn push_preamble(&mut self) {
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
    fn push(&mut self, message: Message) -> Result<(), Error> {
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
    fn has_room(&self) -> bool {
        self.unwritten < self.limits.write_buffer.max(1)
    }

    fn is_empty(&self) -> bool {
        self.unwritten == 0
    }

    /// Returns the number of waiting bytes.
    fn len(&self) -> usize {
        self.unwritten
    }

    /// Returns all waiting chunks. The writer removes written bytes from their front.
    fn chunks(&mut self) -> &mut [Bytes] {
        self.seal();
        self.chunks.make_contiguous()
    }

    /// Records that `bytes` of [`chunks`](Self::chunks) were removed, which emptied `chunks` of them.
    fn written(&mut self, bytes: usize, chunks: usize) {
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
