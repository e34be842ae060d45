use std::{
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;
use tungstenite::{
    Error as WsError, Message as WsMessage,
    error::{CapacityError, ProtocolError},
};

use super::frames::{Frames, LARGE, Large, apply_mask};
use crate::transport::signal;

/// The maximum number of bytes that one system call reads.
const CHUNK: usize = 128 * 1024;

/// The number of bytes read beyond a large payload. It is enough for the header of the next one. A read that does not
/// fill the buffer tells tokio that the socket is empty, which saves a system call.
const AHEAD: usize = 256;

/// The first allocation for a payload, unless the previous payload was larger. Memory is allocated as bytes arrive,
/// never because a header has announced them: first this amount or the size of the previous payload, then as much as
/// has already arrived.
const FIRST: usize = 64 * 1024;

/// The bytes from the socket. The engine reads all of them except the payloads of large frames. Those are read directly
/// into the message's memory, without a copy and without zero-filling.
#[derive(Debug)]
pub(super) struct Incoming {
    buffer: ReadBuffer,
    frames: Frames,
    /// The frame at which the engine's bytes end.
    payload: Option<Payload>,
    /// The length of that frame, if it is over the limit.
    refused: Option<usize>,
    limit: usize,
    /// The length of the previous payload.
    last: usize,
}

impl Incoming {
    /// Creates a reader. `limit` is the maximum payload of a frame, in bytes.
    pub(super) fn new(leftover: Bytes, is_client: bool, limit: usize) -> Self {
        Self {
            buffer: ReadBuffer::new(leftover),
            frames: Frames::new(is_client, limit),
            payload: None,
            refused: None,
            limit,
            last: 0,
        }
    }

    /// Reads for the engine. Stops before a large frame until that one has been taken by [`poll_large`].
    ///
    /// [`poll_large`]: Self::poll_large
    pub(super) fn poll_read<S: AsyncRead>(
        &mut self,
        io: Pin<&mut S>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.payload.is_some() || self.refused.is_some() {
            return Poll::Pending;
        }
        // Reads at most the size of a large payload, so that no bytes follow the payload that begins here.
        let most = out.len().min(LARGE);
        let len = ready!(self.buffer.poll_read(io, cx, &mut out[..most]))?;
        let Some((header, payload, large)) = self.frames.find(&out[..len]) else { return Poll::Ready(Ok(len)) };
        if large.len > self.limit {
            self.refused = Some(large.len);
            return if header == 0 { Poll::Pending } else { Poll::Ready(Ok(header)) };
        }
        let start = &out[payload..len];
        let here = start.len() + self.buffer.held().len();
        self.payload = Some(Payload::new(large, start, self.last.max(2 * here)));
        if header == 0 { Poll::Pending } else { Poll::Ready(Ok(header)) }
    }

    /// Reads the next large frame, if it is next. The engine must have consumed all bytes it was given.
    pub(super) fn poll_large<S: AsyncRead>(
        &mut self,
        io: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<WsMessage, WsError>> {
        if let Some(size) = self.refused {
            let error = CapacityError::MessageTooLong { size, max_size: self.limit };
            return Poll::Ready(Err(WsError::Capacity(error)));
        }
        let Some(mut payload) = self.payload.take() else { return Poll::Pending };
        if payload.poll_fill(&mut self.buffer, io, cx)?.is_pending() {
            self.payload = Some(payload);
            return Poll::Pending;
        }
        self.last = payload.frame.len;
        Poll::Ready(payload.into_message())
    }

    /// Returns the number of frames passed to the engine, modulo 2^32.
    pub(super) fn frames(&self) -> u32 {
        self.frames.count()
    }

    /// Returns the payload of the peer's close frame, once it has been read.
    pub(super) fn close_payload(&self) -> Option<&[u8]> {
        self.frames.close_payload()
    }

    /// Reads and discards bytes.
    pub(super) fn poll_skip<S: AsyncRead>(
        &mut self,
        io: Pin<&mut S>,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.buffer.poll_read(io, cx, scratch)
    }
}

#[derive(Debug)]
struct Payload {
    frame: Large,
    /// The received part of the payload, unmasked.
    bytes: Vec<u8>,
}

impl Payload {
    fn new(frame: Large, start: &[u8], room: usize) -> Self {
        let mut payload = Self { frame, bytes: Vec::new() };
        payload.grow(room);
        payload.bytes.extend_from_slice(start);
        payload.unmask(0);
        payload
    }

    fn poll_fill<S: AsyncRead>(
        &mut self,
        buffer: &mut ReadBuffer,
        mut io: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), WsError>> {
        while self.bytes.len() < self.frame.len {
            let before = self.bytes.len();
            if before == self.bytes.capacity() {
                self.grow(2 * before);
            }
            if ready!(buffer.poll_append(io.as_mut(), cx, &mut self.bytes, self.frame.len - before))? == 0 {
                return Poll::Ready(Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)));
            }
            self.unmask(before);
        }
        Poll::Ready(Ok(()))
    }

    fn grow(&mut self, room: usize) {
        let room = self.frame.len.min(room.max(FIRST)) + AHEAD;
        self.bytes.reserve_exact(room.saturating_sub(self.bytes.len()));
    }

    fn unmask(&mut self, from: usize) {
        if let Some(mask) = self.frame.mask {
            apply_mask(&mut self.bytes[from..], mask, from);
        }
    }

    fn into_message(self) -> Result<WsMessage, WsError> {
        let payload = Bytes::from(self.bytes);
        Ok(if self.frame.is_text { WsMessage::Text(payload.try_into()?) } else { WsMessage::Binary(payload) })
    }
}

thread_local! {
    /// A chunk is held only while it has unread bytes, so the connections of a thread can share one.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer between the socket and the engine, which asks for few bytes at a time. The socket is read into a chunk that
/// the connections of a thread share, and the bytes are passed on from there. An idle connection therefore holds
/// nothing, a small message costs one copy, and a large one few system calls.
#[derive(Debug, Default)]
struct ReadBuffer {
    /// Bytes that arrived with the handshake, or after a large payload.
    leftover: Bytes,
    chunk: Vec<u8>,
    position: usize,
}

impl ReadBuffer {
    fn new(leftover: Bytes) -> Self {
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

    fn poll_read<S: AsyncRead>(
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
    fn poll_append<S: AsyncRead>(
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
    fn held(&self) -> &[u8] {
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Returns the header of a binary frame of 4 MiB from a server, and `len` bytes of its payload.
    fn start(len: usize) -> Vec<u8> {
        let mut bytes = vec![0x82, 127, 0, 0, 0, 0, 0, 0x40, 0, 0];
        bytes.resize(10 + len, 7);
        bytes
    }

    #[test]
    fn an_announced_payload_costs_little_more_than_has_come_of_it() {
        let cx = &mut Context::from_waker(Waker::noop());
        for here in [0, 1, 4000, 100_000, 1 << 20] {
            let (mut io, _peer) = tokio::io::duplex(1);
            let mut incoming = Incoming::new(start(here).into(), true, 1 << 22);
            assert!(incoming.poll_read(Pin::new(&mut io), cx, &mut [0; 4096]).is_pending());
            assert!(incoming.poll_large(Pin::new(&mut io), cx).is_pending());
            let payload = incoming.payload.unwrap();
            assert_eq!(payload.bytes, vec![7; here]);
            assert!(payload.bytes.capacity() <= FIRST.max(2 * here) + AHEAD, "{}", payload.bytes.capacity());
        }
    }

    #[test]
    fn what_comes_behind_a_large_payload_is_for_the_engine() {
        let cx = &mut Context::from_waker(Waker::noop());
        let (mut io, _peer) = tokio::io::duplex(1);
        let mut bytes = start(1 << 22);
        bytes.extend([0x89, 0]);
        let mut incoming = Incoming::new(bytes.into(), true, 1 << 22);
        let out = &mut [0; 4096];
        assert!(incoming.poll_read(Pin::new(&mut io), cx, out).is_pending());
        let Poll::Ready(Ok(message)) = incoming.poll_large(Pin::new(&mut io), cx) else { panic!("it is all there") };
        assert_eq!(message.into_data(), vec![7; 1 << 22]);
        assert!(matches!(incoming.poll_read(Pin::new(&mut io), cx, out), Poll::Ready(Ok(2))));
        assert_eq!(out[..2], [0x89, 0]);
    }
}
