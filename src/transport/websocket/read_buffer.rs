use std::{
    cell::Cell,
    io, mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use crate::transport::signal;

/// The number of bytes that one read takes at most.
const CHUNK: usize = 64 * 1024;

/// The minimum room of a chunk whose beginning is still in use by messages. Half a chunk, so that messages that are all
/// kept hold at most twice their size.
pub(super) const ROOM: usize = CHUNK / 2;

/// The sizes of the memory that small payloads are copied into. A payload goes into the first one that is at least four
/// times as large, so that a message that is kept for long holds little besides itself.
const COPIES: [usize; 3] = [4 * 1024, 16 * 1024, 32 * 1024];

/// The alignment of payloads that are copied, which is that of rkyv's archives: they are then read in place.
const ALIGNMENT: usize = 16;

thread_local! {
    /// A chunk is held only while it has unread bytes, so the connections of a thread share one.
    static SPARE: Cell<Option<BytesMut>> = const { Cell::new(None) };
    /// The memory of [`COPIES`], used again once all payloads in it are dropped.
    static COPIED: [Cell<Option<BytesMut>>; COPIES.len()] =
        const { [const { Cell::new(None) }; COPIES.len()] };
}

/// The bytes that were read from the socket, and that no frame has taken yet.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    bytes: BytesMut,
    /// Whether `bytes` is a chunk that belongs to the thread.
    is_chunk: bool,
}

impl ReadBuffer {
    /// Creates a buffer that begins with bytes from the handshake. They are copied, because they are a slice of an
    /// 8 KiB buffer of hyper's.
    pub(super) fn new(leftover: &[u8]) -> Self {
        Self { bytes: leftover.into(), is_chunk: false }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    #[inline]
    pub(super) fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Reads once. At most [`ROOM`] bytes may be left of the reads before, of a message that is not complete.
    pub(super) fn poll_fill<S: AsyncRead>(&mut self, io: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.bytes.is_empty() {
            return self.poll_fill_up(io, cx);
        }
        let mut chunk = SPARE.take().unwrap_or_default();
        if !chunk.try_reclaim(CHUNK) && chunk.capacity() < ROOM {
            chunk = BytesMut::with_capacity(CHUNK);
        }
        let read = poll_read_buf(io, cx, &mut chunk);
        match read {
            Poll::Ready(Ok(len)) if len > 0 => {
                signal::moved(len);
                (self.bytes, self.is_chunk) = (chunk, true);
            }
            // Nothing came, so the connection stays without memory.
            _ => SPARE.set(Some(chunk)),
        }
        read
    }

    /// Reads once, behind the bytes that are left.
    fn poll_fill_up<S: AsyncRead>(&mut self, io: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.bytes.try_reclaim(ROOM) {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            chunk.extend_from_slice(&self.bytes);
            (self.bytes, self.is_chunk) = (chunk, true);
        }
        let read = poll_read_buf(io, cx, &mut self.bytes);
        if let Poll::Ready(Ok(len)) = read {
            signal::moved(len);
        }
        read
    }

    /// Returns an empty buffer to the thread, so that an idle connection holds none.
    #[inline]
    pub(super) fn release(&mut self) {
        if self.is_chunk && self.bytes.is_empty() {
            self.is_chunk = false;
            SPARE.set(Some(mem::take(&mut self.bytes)));
        }
    }
}

/// Takes a payload out of a buffer, and the header of `skip` bytes before it. A large payload is a slice of the buffer,
/// and keeps it alive.
#[inline]
pub(super) fn take(bytes: &mut BytesMut, skip: usize, len: usize) -> Bytes {
    let Some(class) = COPIES.iter().position(|size| 4 * len <= *size) else {
        bytes.advance(skip);
        return bytes.split_to(len).freeze();
    };
    let end = skip + len;
    let payload = if len == 0 { Bytes::new() } else { copy(class, &bytes[skip..end]) };
    // Costs less than to advance to the end.
    if end == bytes.len() {
        bytes.clear()
    } else {
        bytes.advance(end)
    }
    payload
}

fn copy(class: usize, payload: &[u8]) -> Bytes {
    COPIED.with(|copied| {
        let mut memory = copied[class].take().unwrap_or_default();
        let padding = payload.len().wrapping_neg() % ALIGNMENT;
        if !memory.try_reclaim(payload.len() + padding) {
            memory = BytesMut::with_capacity(COPIES[class]);
        }
        memory.extend_from_slice(payload);
        let copy = memory.split().freeze();
        if padding > 0 {
            // So that the next payload is aligned if this one is. Allocators align memory of this size.
            memory.extend_from_slice(&[0; ALIGNMENT][..padding]);
            memory.advance(padding);
        }
        copied[class].set(Some(memory));
        copy
    })
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_payload_that_is_kept_holds_little_besides_itself() {
        for (len, is_copied) in [(1, true), (1024, true), (8192, true), (8193, false)] {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            chunk.resize(len + 1, 7);
            let at = chunk.as_ptr();
            let payload = take(&mut chunk, 0, len);
            assert_eq!((&payload[..], &chunk[..]), (&vec![7; len][..], &[7][..]));
            assert_eq!(payload.as_ptr() != at, is_copied, "{len}");
            drop(payload);
        }
    }

    #[test]
    fn a_payload_that_is_copied_is_aligned() {
        let mut kept = Vec::new();
        for len in (1..300).chain([8191, 8192]) {
            let mut chunk = BytesMut::from(&vec![7; len + 6][..]);
            let payload = take(&mut chunk, 6, len);
            assert_eq!(payload, vec![7; len]);
            assert_eq!(payload.as_ptr().addr() % ALIGNMENT, 0, "{len}");
            kept.push(payload);
        }
    }

    #[test]
    fn copies_use_the_same_memory_once_they_are_dropped() {
        let mut places = Vec::new();
        for _ in 0..1000 {
            let payload = take(&mut BytesMut::from(&[7; 1000][..]), 0, 1000);
            places.push(payload.as_ptr());
        }
        places.sort_unstable();
        places.dedup();
        assert!(places.len() <= 4, "{}", places.len());
    }

    #[tokio::test]
    async fn messages_that_are_all_kept_hold_at_most_twice_their_size() {
        use tokio::io::AsyncWriteExt;

        let (mut io, mut peer) = tokio::io::duplex(CHUNK);
        let mut chunks = std::collections::BTreeSet::new();
        let mut kept = Vec::new();
        for _ in 0..100 {
            peer.write_all(&[7; 10_000]).await.unwrap();
            let mut buffer = ReadBuffer::new(&[]);
            std::future::poll_fn(|cx| buffer.poll_fill(Pin::new(&mut io), cx)).await.unwrap();
            let payload = take(buffer.bytes(), 0, 10_000);
            buffer.release();
            // Slices of one chunk are next to one another.
            let start = payload.as_ptr() as usize;
            if !kept.iter().any(|other: &Bytes| other.as_ptr() as usize + other.len() == start) {
                chunks.insert(start);
            }
            kept.push(payload);
        }
        assert!(chunks.len() * CHUNK <= 2 * 100 * 10_000, "{}", chunks.len());
    }

    #[test]
    fn an_idle_buffer_holds_nothing() {
        let (mut io, peer) = tokio::io::duplex(64);
        let cx = &mut Context::from_waker(Waker::noop());
        let mut buffer = ReadBuffer::new(&[]);
        assert!(buffer.poll_fill(Pin::new(&mut io), cx).is_pending());
        assert_eq!(buffer.bytes.capacity(), 0);
        drop(peer);
        assert!(matches!(buffer.poll_fill(Pin::new(&mut io), cx), Poll::Ready(Ok(0))));
        assert_eq!(buffer.bytes.capacity(), 0);
    }
}
