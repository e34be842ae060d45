use std::{
    collections::VecDeque,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use web_transport_quinn::{self as wtq, generic::poll::SendStream as _};

use crate::{
    Error, Limits, Message,
    transport::{
        closing::linger,
        framing, signal,
        webtransport::{Session, error},
    },
};

/// The sending half of a stream, which passes messages to QUIC.
pub(super) struct Writer {
    session: Session,
    /// QUIC's stream, taken out when this stream is dropped.
    send: Option<wtq::SendStream>,
    outgoing: Outgoing,
    progress: Progress,
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
    /// The search for the session's close frame, which may have arrived with the end of the connection.
    lost: Option<Pin<Box<dyn Future<Output = Error> + Send + Sync>>>,
}

impl Writer {
    pub(super) fn new(session: Session, send: wtq::SendStream) -> Self {
        Self {
            send: Some(send),
            outgoing: Outgoing::new(session.limits()),
            progress: Progress::default(),
            pong: None,
            promised: false,
            owes: false,
            closing: false,
            finished: false,
            failed: None,
            lost: None,
            session,
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
                // This fails if the peer has stopped the stream and is no longer interested.
                let _ = wtq::SendStream::finish(send);
            }
        }
        self.owes = false;
        Poll::Ready(Ok(()))
    }

    /// Writes some of the waiting data. The future is created for each poll: it has no state, and QUIC keeps the waker
    /// per stream.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        if let Some(lost) = &mut self.lost {
            let error = ready!(lost.as_mut().poll(cx));
            return Poll::Ready(Err(self.fail(error)));
        }
        let Some(send) = &mut self.send else { return Poll::Ready(Err(Error::closed("the stream is closed"))) };
        let written = ready!(pin!(send.write_chunks(self.outgoing.chunks())).poll(cx));
        Poll::Ready(match written {
            Ok(written) => {
                self.outgoing.written(written.bytes, written.chunks);
                self.progress.given(written.bytes);
                signal::moved(written.bytes);
                Ok(())
            }
            Err(wtq::WriteError::SessionError(reason)) if self.session.may_hide_a_frame(&reason) => {
                let session = self.session.clone();
                self.lost = Some(Box::pin(async move { session.lost(reason).await }));
                return self.poll_write(cx);
            }
            Err(error) => Err(self.fail(error::write(error))),
        })
    }

    fn fail(&mut self, error: Error) -> Error {
        self.lost = None;
        self.failed = Some(error.clone());
        // A stream that the peer has stopped counts toward the maximum number of open streams until it is reset.
        self.reset(0);
        error
    }

    /// Reports the progress that QUIC has made meanwhile.
    pub(super) fn report_progress(&mut self) {
        if self.progress.is_under_way() {
            signal::moved(self.progress.sent_on(self.session.quic()));
        }
    }

    /// Returns the number of bytes that the peer does not have yet, as far as is known.
    pub(super) fn unsent(&mut self) -> u64 {
        self.outgoing.len() as u64 + self.progress.left(self.session.quic())
    }

    /// Abandons undelivered data, and reports why.
    pub(super) fn reset(&mut self, code: u32) {
        if let Some(send) = &mut self.send
            && !self.finished
        {
            let _ = wtq::SendStream::reset(send, code);
        }
        self.finished = true;
        self.failed.get_or_insert_with(|| Error::closed("the stream is closed"));
    }

    pub(super) fn set_priority(&self, priority: i32) {
        if let Some(send) = &self.send {
            // Has no effect on a stream that has ended.
            let _ = wtq::SendStream::set_priority(send, priority);
        }
    }

    /// Waits until the peer has acknowledged the whole stream. Returns an error if the peer stops it.
    pub(super) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match &mut self.send {
            Some(send) => send.poll_closed(cx).map_err(error::write),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Handles the drop of the stream. QUIC still delivers data that it accepted with the end of the stream: until
    /// then, for [`Limits::close`](crate::Limits::close) from the last progress, the session is kept.
    pub(super) fn leave(&mut self) {
        if !self.finished || self.failed.is_some() {
            return self.reset(0);
        }
        let Some(send) = self.send.take() else { return };
        if pin!(send.stopped()).poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        // Without a runtime, no task can wait.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let session = self.session.clone();
            let mut progress = std::mem::take(&mut self.progress);
            runtime.spawn(async move {
                linger(session.limits().close, send.stopped(), || progress.left(session.quic())).await;
            });
        }
    }
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

/// QUIC's progress with the bytes that a stream gave it. QUIC immediately accepts as much as the peer allows
/// ([`SessionLimits::stream_window`](super::super::SessionLimits::stream_window), 1 MiB by default), which is half a
/// minute of a slow line. Without this, that time would look like silence. Pure.
///
/// QUIC counts per connection, so this is an estimate: if other streams of the session send at the same time, it ends
/// too early.
#[derive(Debug, Default)]
struct Progress {
    /// The bytes that QUIC may still have to send.
    left: u64,
    /// The number of STREAM frames sent at the last check, and the bytes of all packets.
    frames: u64,
    bytes: u64,
}

impl Progress {
    /// Records that QUIC accepted `bytes`.
    fn given(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(bytes as u64);
    }

    /// Returns whether QUIC may still have data of this stream to send, so that a check is worth its cost.
    fn is_under_way(&self) -> bool {
        self.left > 0
    }

    /// Returns how many bytes the connection has sent since the last check.
    fn sent_on(&mut self, connection: &wtq::Session) -> usize {
        let stats = quinn::Connection::stats(connection);
        self.sent(stats.frame_tx.stream, stats.udp_tx.bytes)
    }

    /// Returns how many bytes QUIC may still have to send.
    fn left(&mut self, connection: &wtq::Session) -> u64 {
        if self.is_under_way() {
            self.sent_on(connection);
        }
        self.left
    }

    /// Takes the connection's current counts, and returns how many bytes were sent since the last check. The result is
    /// zero if there was no STREAM frame (only acknowledgements, keep-alives): those are also sent to a peer that reads
    /// nothing.
    fn sent(&mut self, frames: u64, bytes: u64) -> usize {
        let (had_frames, had_bytes) = (self.frames, self.bytes);
        (self.frames, self.bytes) = (frames, bytes);
        if frames == had_frames {
            return 0;
        }
        let sent = bytes.saturating_sub(had_bytes);
        self.left = self.left.saturating_sub(sent);
        usize::try_from(sent).unwrap_or(usize::MAX)
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

    #[test]
    fn a_stream_that_gave_nothing_has_nothing_under_way() {
        let mut progress = Progress::default();
        assert!(!progress.is_under_way());
        progress.given(1000);
        assert!(progress.is_under_way());
        assert_eq!(progress.sent(1, 1100), 1100);
        assert!(!progress.is_under_way());
    }

    #[test]
    fn packets_without_data_are_no_progress() {
        let mut progress = Progress::default();
        progress.given(100_000);
        assert_eq!(progress.sent(10, 12_000), 12_000);
        assert_eq!(progress.sent(10, 12_040), 0, "a keep-alive");
        assert_eq!(progress.sent(11, 13_240), 1_200);
        assert!(progress.is_under_way());
    }
}
