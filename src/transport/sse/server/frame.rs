use std::{fmt::Write, time::Duration};

use bytes::{Bytes, BytesMut};

/// The size in bytes from which a frame is passed on and the next one begins.
pub(super) const FULL: usize = 16 * 1024;

/// The buffer size that a mostly idle stream keeps, in bytes.
const SMALL: usize = 1024;

/// The bytes of the next frame: events until no more are ready, or the frame is full. No I/O, no clock.
///
/// The memory is reused once its content is sent; an idle stream keeps a small buffer.
#[derive(Debug, Default)]
pub(super) struct Frame {
    buffer: BytesMut,
    /// The size of the previous frame.
    expected: usize,
    /// Whether the buffer is larger than an idle stream should keep.
    is_large: bool,
}

impl Frame {
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= FULL
    }

    /// Returns the buffer for the next event.
    #[inline]
    pub(super) fn writer(&mut self) -> &mut BytesMut {
        if self.buffer.is_empty() {
            self.buffer.reserve(self.expected.clamp(SMALL, FULL));
            self.is_large |= self.expected > SMALL;
        }
        &mut self.buffer
    }

    /// Writes a `retry` without an event (WHATWG HTML, section 9.2.6): the client stores it, and the page does not see
    /// it.
    pub(super) fn put_retry(&mut self, time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        // A `BytesMut` grows, so this does not fail.
        let _ = write!(self.writer(), "retry: {milliseconds}\n\n");
    }

    /// Takes the written bytes, or returns `None` if nothing was written.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        if self.buffer.is_empty() {
            return None;
        }
        self.expected = self.buffer.len();
        self.is_large |= self.expected > SMALL;
        Some(self.buffer.split().freeze())
    }

    /// Releases memory, because nothing will be written for a while.
    pub(super) fn rest(&mut self) {
        if std::mem::take(&mut self.is_large) {
            self.buffer = BytesMut::new();
            self.expected = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(frame: &mut Frame, bytes: usize) -> *const u8 {
        frame.writer().extend_from_slice(&vec![7; bytes]);
        let taken = frame.take().unwrap();
        assert_eq!(taken.len(), bytes);
        taken.as_ptr()
    }

    #[test]
    fn the_memory_of_small_frames_is_used_again_once_they_are_sent() {
        let mut frame = Frame::default();
        let first = round(&mut frame, 300);
        let again = (0..100).filter(|_| {
            frame.rest();
            round(&mut frame, 300) == first
        });
        assert!(again.count() >= 30, "a new buffer for each frame");
    }

    #[test]
    fn a_stream_that_rests_after_large_frames_keeps_nothing() {
        let mut frame = Frame::default();
        for size in [FULL, 40_000, SMALL + 1] {
            round(&mut frame, 100);
            round(&mut frame, size);
            frame.rest();
            assert_eq!(frame.buffer.capacity(), 0, "{size}");
        }
    }

    #[test]
    fn there_is_no_frame_without_bytes() {
        let mut frame = Frame::default();
        assert!(frame.take().is_none());
        frame.put_retry(Duration::from_micros(2500));
        assert_eq!(frame.take().unwrap(), "retry: 2\n\n");
        assert!(frame.take().is_none() && frame.is_empty());
    }
}
