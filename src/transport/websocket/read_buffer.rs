use std::{
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

/// What one system call reads at most, once a connection has shown that it sends much.
const CHUNK: usize = 128 * 1024;

thread_local! {
    /// A chunk is held only while there are unread bytes in it, so the connections of a thread can share one.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Between the socket and the engine, which asks for few bytes at a time: small reads go straight through, and once one
/// came back full, the next reads a whole chunk. So an idle connection holds nothing, a small message costs one copy, and a
/// large one few system calls.
#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    /// Bytes that came with the handshake.
    leftover: Bytes,
    chunk: Vec<u8>,
    position: usize,
    /// The last read was as long as could be: more is probably waiting.
    much: bool,
}

impl ReadBuffer {
    pub(super) fn new(leftover: Bytes) -> Self {
        Self { leftover, ..Self::default() }
    }

    pub(super) fn poll_read<S: AsyncRead>(
        &mut self,
        io: Pin<&mut S>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if !self.leftover.is_empty() {
            let len = out.len().min(self.leftover.len());
            self.leftover.copy_to_slice(&mut out[..len]);
            return Poll::Ready(Ok(len));
        }
        if self.position == self.chunk.len() {
            if !self.much {
                let mut buf = ReadBuf::new(out);
                ready!(io.poll_read(cx, &mut buf))?;
                let len = buf.filled().len();
                self.much = len == out.len();
                return Poll::Ready(Ok(len));
            }
            match self.poll_fill(io, cx) {
                Poll::Ready(Ok(len)) if len > 0 => self.much = len > out.len(),
                other => {
                    self.release();
                    return other;
                }
            }
        }
        let len = out.len().min(self.chunk.len() - self.position);
        out[..len].copy_from_slice(&self.chunk[self.position..self.position + len]);
        self.position += len;
        if self.position == self.chunk.len() {
            self.release();
        }
        Poll::Ready(Ok(len))
    }

    fn poll_fill<S: AsyncRead>(&mut self, io: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.chunk.capacity() == 0 {
            self.chunk = SPARE.take();
        }
        self.chunk.clear();
        self.position = 0;
        self.chunk.reserve(CHUNK);
        poll_read_buf(io, cx, &mut self.chunk)
    }

    fn release(&mut self) {
        self.position = 0;
        self.chunk.clear();
        SPARE.set(std::mem::take(&mut self.chunk));
    }
}
