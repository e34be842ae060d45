use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

#[cfg(feature = "deflate")]
use super::deflate::PerMessage;
use super::{
    frame_loop::{Failure, FrameLoop, Step},
    read_buffer::ReadBuffer,
};
use crate::{CloseFrame, Error, Limits, Message, transport::signal};

/// The maximum number of reads that one poll discards, so that a peer that keeps sending does not block the thread.
const DISCARDS: usize = 64;

/// The maximum number of frames that one poll takes without a message before it lets other tasks run. A peer may send
/// empty fragments without end.
const FRAMES: usize = 1000;

/// The I/O of the [`FrameLoop`].
#[derive(Debug)]
pub(super) struct Engine {
    frames: FrameLoop,
    reader: ReadBuffer,
    write_buffer: usize,
    #[cfg(feature = "deflate")]
    deflate: Option<Box<PerMessage>>,
}

impl Engine {
    pub(super) fn new(is_client: bool, limits: Limits, leftover: &Bytes) -> Self {
        Self {
            frames: FrameLoop::new(is_client, limits),
            reader: ReadBuffer::new(leftover),
            write_buffer: limits.write_buffer,
            #[cfg(feature = "deflate")]
            deflate: None,
        }
    }

    /// Compresses and inflates messages from now on, which is before the first one.
    #[cfg(feature = "deflate")]
    pub(super) fn set_deflate(&mut self, deflate: PerMessage) {
        self.frames.accept_compressed();
        self.deflate = Some(Box::new(deflate));
    }

    #[cfg(feature = "deflate")]
    pub(super) fn deflate(&self) -> Option<&PerMessage> {
        self.deflate.as_deref()
    }

    /// Returns whether an answer to the peer waits to be written.
    #[inline]
    pub(super) fn answer_waits(&self) -> bool {
        self.frames.answer_waits()
    }

    /// Returns the number of bytes that wait to be written.
    #[inline]
    pub(super) fn unwritten(&self) -> usize {
        self.frames.unwritten()
    }

    /// Reads one message. The answer to a ping goes into the write buffer immediately.
    pub(super) fn poll_read<S: AsyncRead>(
        &mut self,
        mut io: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Message, Failure>> {
        let mut budget = FRAMES;
        loop {
            // Without input there is nothing to take, and half of the polls end with a socket that has none.
            let step = match self.reader.is_empty() && self.frames.is_between_frames() {
                true => Step::Starved,
                false => {
                    let step = self.frames.next(self.reader.bytes(), &mut budget)?;
                    self.reader.release();
                    step
                }
            };
            match step {
                Step::Message(message) => return Poll::Ready(Ok(message)),
                #[cfg(feature = "deflate")]
                Step::Compressed { is_text, payload } => {
                    // Without an extension, the loop has refused the mark.
                    let Some(deflate) = &mut self.deflate else { continue };
                    return Poll::Ready(deflate.inflate(&payload, is_text, self.frames.message_limit()));
                }
                // No extension was negotiated, so the loop has refused the mark.
                #[cfg(not(feature = "deflate"))]
                Step::Compressed { .. } => {}
                Step::Spent => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Step::Starved => {}
            }
            let read = if let Some(mut memory) = self.frames.direct() {
                let len = ready!(poll_read_buf(io.as_mut(), cx, &mut memory)).map_err(lost)?;
                signal::moved(len);
                self.frames.filled(len)?;
                len
            } else {
                match self.reader.poll_fill(io.as_mut(), cx) {
                    Poll::Ready(read) => read.map_err(lost)?,
                    Poll::Pending => {
                        if !self.reader.is_empty() {
                            self.frames.keep(self.reader.bytes())?;
                            self.reader.release();
                        }
                        return Poll::Pending;
                    }
                }
            };
            if read == 0 {
                return Poll::Ready(Err(Failure(Error::closed("the peer vanished without a close frame"), None)));
            }
        }
    }

    /// Reads and discards, until the peer has closed.
    pub(super) fn poll_discard<S: AsyncRead>(&mut self, mut io: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..DISCARDS {
            self.reader.bytes().clear();
            self.reader.release();
            match ready!(self.reader.poll_fill(io.as_mut(), cx)) {
                Ok(len) if len > 0 => {}
                _ => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Queues one message, in as many frames as the limit requires. `is_vectored` tells whether the socket writes
    /// several slices at once.
    #[inline]
    pub(super) fn send(&mut self, message: Message, is_vectored: bool) -> Result<(), Error> {
        #[cfg(feature = "deflate")]
        let compressed = match &mut self.deflate {
            Some(deflate) if message.len() <= self.frames.message_limit() => deflate.compress(&message),
            _ => None,
        };
        #[cfg(not(feature = "deflate"))]
        let compressed = None;
        self.frames.send(message, compressed, is_vectored)
    }

    /// Makes the reading half write what waits, as it does for answers.
    pub(super) fn request_write(&mut self) {
        self.frames.request_write();
    }

    /// Queues a close frame after everything else, and ends the sending. A second call has no effect.
    pub(super) fn close(&mut self, frame: Option<CloseFrame>) {
        self.frames.close(frame);
    }

    /// Writes until there is room for another message.
    #[inline]
    pub(super) fn poll_room<S: AsyncWrite>(&mut self, io: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.frames.unwritten() <= self.write_buffer {
            return Poll::Ready(Ok(()));
        }
        self.frames.writer().poll_write(io, cx, self.write_buffer)
    }

    /// Writes all accepted messages, and flushes the socket.
    #[inline]
    pub(super) fn poll_flush<S: AsyncWrite>(
        &mut self,
        mut io: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.frames.writer().poll_write(io.as_mut(), cx, 0))?;
            ready!(io.as_mut().poll_flush(cx))?;
            if self.frames.record_flush() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

fn lost(error: io::Error) -> Failure {
    Failure(error.into(), None)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::ReadBuf;

    use super::{
        super::frames::{BINARY, FIN, Header},
        *,
    };

    /// Fills every read, until its bytes are used up.
    struct Fast(Bytes);

    impl AsyncRead for Fast {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let len = out.remaining().min(self.0.len());
            if len == 0 {
                return Poll::Pending;
            }
            out.put_slice(&self.0.split_to(len));
            Poll::Ready(Ok(()))
        }
    }

    fn frames(size: usize, count: usize) -> Bytes {
        let mut bytes = bytes::BytesMut::new();
        for number in 0..count {
            Header::write(FIN | BINARY, size, None, &mut bytes);
            bytes.extend_from_slice(&vec![number as u8; size]);
        }
        bytes.freeze()
    }

    #[test]
    fn small_messages_that_lie_across_two_reads_take_no_memory_of_their_own() {
        for size in [100, 5000, 16 * 1024, 30_000] {
            let mut io = Fast(frames(size, 100));
            let mut engine = Engine::new(true, Limits::new(), &Bytes::new());
            let mut places = Vec::new();
            for number in 0..100 {
                let polled = engine.poll_read(Pin::new(&mut io), &mut Context::from_waker(Waker::noop()));
                let Poll::Ready(Ok(Message::Binary(payload))) = polled else { panic!("{polled:?}") };
                assert!(payload.len() == size && payload.iter().all(|&byte| byte == number));
                places.push(payload.as_ptr().addr());
            }
            // All of them in the chunk, or in the memory for copies of small ones.
            let (first, last) = (places.iter().min().unwrap(), places.iter().max().unwrap());
            assert!(last - first < 64 * 1024, "{size}: {}", last - first);
        }
    }

    #[test]
    fn a_message_that_stops_in_the_middle_is_moved_out_of_the_chunk_and_ends_as_any_other() {
        for cut in [1, 5, 50, 999] {
            let bytes = frames(1000, 2);
            let mut io = Fast(bytes.slice(..1004 + cut));
            let mut engine = Engine::new(true, Limits::new(), &Bytes::new());
            let cx = &mut Context::from_waker(Waker::noop());
            assert!(engine.poll_read(Pin::new(&mut io), cx).is_ready());
            assert!(engine.poll_read(Pin::new(&mut io), cx).is_pending());
            assert_eq!(engine.reader.bytes().capacity(), 0, "the chunk is the thread's again");
            io.0 = bytes.slice(1004 + cut..);
            let polled = engine.poll_read(Pin::new(&mut io), cx);
            let Poll::Ready(Ok(Message::Binary(payload))) = polled else { panic!("{polled:?}") };
            assert_eq!(payload, vec![1; 1000]);
        }
    }
}
