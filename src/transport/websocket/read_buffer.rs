use std::{
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use crate::transport::signal;

/// The maximum number of bytes that one system call reads.
const CHUNK: usize = 128 * 1024;

/// The number of bytes read beyond a large payload. It is enough for the header of the next one. A read that does not
/// fill the buffer tells tokio that the socket is empty, which saves a system call.
pub(super) const AHEAD: usize = 256;

thread_local! {
    /// A chunk is held only while it has unread bytes, so the connections of a thread can share one.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer between the socket and the engine, which asks for few bytes at a time. The socket is read into a chunk that
/// the connections of a thread share, and the bytes are passed on from there. An idle connection therefore holds
/// nothing, a small message costs one copy, and a large one few system calls.
#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    /// Bytes that arrived with the handshake, or after a large payload.
    leftover: Bytes,
    chunk: Vec<u8>,
    position: usize,
}

impl ReadBuffer {
    pub(super) fn new(leftover: Bytes) -> Self {
        let mut buffer = Self { leftover, ..Self::default() };
        buffer.let_go();
        buffer
    }

    /// Releases the memory of a consumed leftover. It is a slice of an 8 KiB buffer of hyper's, which even an empty
    /// slice keeps alive.
    fn let_go(&mut self) {
        if self.leftover.is_empty() {
            self.leftover = Bytes::new();
        }
    }

    pub(super) fn poll_read<S: AsyncRead>(
        &mut self,
        io: Pin<&mut S>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.held().is_empty() {
            match self.poll_fill(io, cx) {
                Poll::Ready(Ok(len)) if len > 0 => {}
                other => {
                    self.release();
                    return other;
                }
            }
        }
        let len = out.len().min(self.held().len());
        out[..len].copy_from_slice(&self.held()[..len]);
        self.consume(len);
        Poll::Ready(Ok(len))
    }

    /// Appends at most `most` bytes to `out`, which must have spare capacity: directly from the socket, once the
    /// buffered bytes are consumed. It reads at most a chunk at a time, which is still in the cache when it is
    /// unmasked.
    pub(super) fn poll_append<S: AsyncRead>(
        &mut self,
        io: Pin<&mut S>,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let room = out.capacity() - out.len();
        if !self.held().is_empty() {
            let len = self.held().len().min(most).min(room);
            out.extend_from_slice(&self.held()[..len]);
            self.consume(len);
            return Poll::Ready(Ok(len));
        }
        let len = ready!(poll_read_buf(io, cx, &mut out.limit(room.min(most + AHEAD).min(CHUNK))))?;
        signal::moved(len);
        if len > most {
            let end = out.len() - (len - most);
            self.leftover = Bytes::copy_from_slice(&out[end..]);
            out.truncate(end);
        }
        Poll::Ready(Ok(len.min(most)))
    }

    fn poll_fill<S: AsyncRead>(&mut self, io: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.chunk.capacity() == 0 {
            self.chunk = SPARE.take();
        }
        self.chunk.clear();
        self.position = 0;
        self.chunk.reserve(CHUNK);
        let len = ready!(poll_read_buf(io, cx, &mut self.chunk))?;
        signal::moved(len);
        Poll::Ready(Ok(len))
    }

    /// Returns the buffered bytes that were not taken yet.
    pub(super) fn held(&self) -> &[u8] {
        if self.leftover.is_empty() { &self.chunk[self.position..] } else { &self.leftover }
    }

    fn consume(&mut self, len: usize) {
        if !self.leftover.is_empty() {
            self.leftover.advance(len);
            self.let_go();
            return;
        }
        self.position += len;
        if self.position == self.chunk.len() {
            self.release();
        }
    }

    fn release(&mut self) {
        self.position = 0;
        self.chunk.clear();
        SPARE.set(std::mem::take(&mut self.chunk));
    }
}
