use std::{
    cell::Cell,
    collections::VecDeque,
    io::{self, IoSlice},
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::frames::{Header, apply_mask};
use crate::transport::signal;

/// The minimum size of a payload that is kept next to the buffer rather than copied into it, in bytes.
const LARGE: usize = 32 * 1024;

/// The same, if the payload is not masked and leaves in the same write as its neighbors.
const MEDIUM: usize = 4 * 1024;

/// The maximum number of bytes copied together. Beyond this, doubling a buffer would hold more than the waiting bytes.
const TOGETHER: usize = 32 * 1024;

/// The number of bytes copied and masked at a time, small enough to stay in the nearest cache.
const PIECE: usize = 8 * 1024;

/// The maximum number of slices per vectored write.
const SLICES: usize = 32;

/// The capacity in bytes with which a buffer begins.
const FIRST: usize = 4 * 1024;

/// The size in bytes from which a payload that was written is kept as a buffer.
const REUSE: usize = 4 * 1024;

/// The size in bytes above which an empty buffer is not kept at all (the default frame limit).
const SHARE: usize = 1024 * 1024;

thread_local! {
    /// A buffer is held only while it has unwritten bytes, so the connections of a thread share one.
    static SPARE: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

/// Frames that wait for the socket. Small payloads are copied together, so that many leave in one write. A large one is
/// not copied. A client has to mask it, and does so in place only if it is the sole owner of the memory.
#[derive(Debug, Default)]
pub(super) struct WriteBuffer {
    segments: VecDeque<Bytes>,
    /// The bytes after all segments.
    tail: BytesMut,
    len: usize,
}

impl WriteBuffer {
    /// Returns the number of waiting bytes.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Appends one frame (RFC 6455, section 5.2), masked if it comes from a client. `first` is its first byte.
    /// `is_vectored` tells whether the socket writes several slices at once.
    pub(super) fn push_frame(&mut self, first: u8, payload: Bytes, mask: Option<[u8; 4]>, is_vectored: bool) {
        // The tail becomes a segment rather than grow: growing would copy it.
        if !self.tail.is_empty() && self.tail.len() + payload.len() > TOGETHER {
            self.segments.push_back(self.tail.split().freeze());
        }
        if self.len == 0 {
            // Nothing waits, so the tail has no memory of its own.
            self.tail = SPARE.take().unwrap_or_else(|| BytesMut::with_capacity(FIRST));
        }
        let before = self.tail.len();
        Header::write(first, payload.len(), mask, &mut self.tail);
        self.len += self.tail.len() - before + payload.len();
        let least = if is_vectored && mask.is_none() { MEDIUM } else { LARGE };
        if payload.len() < least {
            let start = self.tail.len();
            self.tail.extend_from_slice(&payload);
            if let Some(mask) = mask {
                apply_mask(&mut self.tail[start..], mask, 0);
            }
            return;
        }
        self.segments.push_back(self.tail.split().freeze());
        self.segments.push_back(match mask {
            None => payload,
            Some(mask) => masked(payload, mask),
        });
    }

    /// Writes until at most `left` bytes wait.
    pub(super) fn poll_write<S: AsyncWrite>(
        &mut self,
        mut io: Pin<&mut S>,
        cx: &mut Context<'_>,
        left: usize,
    ) -> Poll<io::Result<()>> {
        while self.len > left {
            let written = if self.segments.is_empty() {
                let written = ready!(io.as_mut().poll_write(cx, &self.tail))?;
                // Costs less than to advance to the end.
                if written == self.tail.len() {
                    self.tail.clear()
                } else {
                    self.tail.advance(written)
                }
                written
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let used = self.slices(&mut slices);
                let written = ready!(io.as_mut().poll_write_vectored(cx, &slices[..used]))?;
                self.advance(written);
                written
            };
            // A socket that takes nothing and is not pending would be asked forever.
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            signal::moved(written);
            self.len -= written;
        }
        // An idle connection holds no buffer.
        if self.len == 0 && self.tail.try_reclaim(1) {
            share(mem::take(&mut self.tail));
        }
        Poll::Ready(Ok(()))
    }

    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let parts = self.segments.iter().map(|segment| &segment[..]).chain([&self.tail[..]]);
        let mut used = 0;
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
            used += 1;
        }
        used
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(segment) = self.segments.front_mut() {
            if written < segment.len() {
                segment.advance(written);
                return;
            }
            written -= segment.len();
            let done = self.segments.pop_front();
            // The copy that a client masked can be reused.
            if let Some(Ok(own)) = done.filter(|done| done.len() >= REUSE).map(Bytes::try_into_mut) {
                share(own);
            }
        }
        self.tail.advance(written);
    }
}

fn share(mut buffer: BytesMut) {
    buffer.clear();
    if buffer.capacity() <= SHARE {
        SPARE.set(Some(buffer));
    }
}

fn masked(payload: Bytes, mask: [u8; 4]) -> Bytes {
    let shared = match payload.try_into_mut() {
        Ok(mut own) => {
            apply_mask(&mut own, mask, 0);
            return own.freeze();
        }
        Err(shared) => shared,
    };
    let mut copy = SPARE.take().unwrap_or_default();
    copy.reserve(shared.len());
    // The size is a multiple of four, so that the mask restarts with each piece.
    for piece in shared.chunks(PIECE) {
        let start = copy.len();
        copy.extend_from_slice(piece);
        apply_mask(&mut copy[start..], mask, 0);
    }
    copy.freeze()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use futures_util::FutureExt;
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::FrameSocket;

    use super::{
        super::frames::{BINARY, FIN},
        *,
    };

    /// Accepts at most `most` bytes per write.
    struct Narrow {
        taken: Vec<u8>,
        most: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let len = buf.len().min(self.most);
            self.taken.extend_from_slice(&buf[..len]);
            Poll::Ready(Ok(len))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut left = self.most;
            for buf in bufs {
                let len = buf.len().min(left);
                self.taken.extend_from_slice(&buf[..len]);
                left -= len;
            }
            Poll::Ready(Ok(self.most - left))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn frames_leave_whole_and_in_order_however_little_the_socket_takes(
            sizes in prop::collection::vec(
                prop_oneof![0..200usize, MEDIUM - 1..MEDIUM + 2, LARGE - 1..LARGE + 2, 15 * PIECE - 3..16 * PIECE + 9],
                1..6,
            ),
            most in 1..200_000usize,
            mask in prop::option::of(any::<[u8; 4]>()),
            is_vectored in any::<bool>(),
        ) {
            let payloads: Vec<Bytes> =
                sizes.iter().enumerate().map(|(i, &size)| (0..size).map(|j| (i * 31 + j) as u8).collect()).collect();
            let mut buffer = WriteBuffer::default();
            for payload in &payloads {
                buffer.push_frame(FIN | BINARY, payload.clone(), mask, is_vectored);
            }
            let mut io = Narrow { taken: Vec::new(), most: most.max(buffer.len() / 2000) };
            std::future::poll_fn(|cx| buffer.poll_write(Pin::new(&mut io), cx, 0)).now_or_never().unwrap().unwrap();
            prop_assert_eq!(buffer.len(), 0);

            let mut frames = FrameSocket::new(Cursor::new(io.taken));
            for payload in &payloads {
                let frame = frames.read(None).unwrap().unwrap();
                let mut got = frame.payload().to_vec();
                if let Some(mask) = frame.header().mask {
                    for (i, byte) in got.iter_mut().enumerate() {
                        *byte ^= mask[i % 4];
                    }
                }
                prop_assert_eq!(frame.header().mask, mask);
                prop_assert_eq!(&got[..], &payload[..]);
            }
            prop_assert!(frames.read(None).unwrap().is_none());
        }
    }

    #[test]
    fn a_large_payload_is_not_copied_unless_it_must_be_masked_and_is_shared() {
        let push = |payload: Bytes, mask| {
            let mut buffer = WriteBuffer::default();
            buffer.push_frame(FIN | BINARY, payload, mask, false);
            buffer.segments[1].clone()
        };
        let payload = Bytes::from(vec![1; LARGE]);
        let address = payload.as_ptr();
        assert_eq!(push(payload.clone(), None).as_ptr(), address);
        assert_ne!(push(payload.clone(), Some([1; 4])).as_ptr(), address);
        assert_eq!(payload, vec![1; LARGE], "what others hold is not masked");
        assert_eq!(push(payload, Some([1; 4])).as_ptr(), address);
    }
}
