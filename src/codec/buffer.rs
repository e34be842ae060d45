use bytes::{Buf, Bytes, BytesMut};

/// Alignment of what is written: rkyv's own, enough for every archived type of the standard library.
pub(super) const ALIGNMENT: usize = 16;

/// The first allocation, on first use: a connection that never writes costs nothing.
const FIRST: usize = 4 * 1024;

/// Buffers up to this size are kept for good.
const ALWAYS_KEPT: usize = 64 * 1024;

/// A write buffer that is kept from message to message.
///
/// Each message is split off as shared bytes. Once those that came from an allocation are dropped, the allocation is written
/// to again; until then a new one takes its place. One large message does not pin its memory: a buffer that is more than
/// four times what recent messages need is let go.
#[derive(Debug, Default)]
pub(super) struct KeptBuffer {
    bytes: BytesMut,
    /// What recent messages need, in bytes: rises at once, falls by a sixteenth per message.
    recent: usize,
    /// The largest message in the present allocation.
    largest: usize,
}

impl KeptBuffer {
    /// An empty buffer with room for what recent messages needed, its start aligned to [`ALIGNMENT`].
    ///
    /// Room for `at_least` bytes is there without moving the start.
    pub(super) fn start(&mut self, at_least: usize) -> &mut BytesMut {
        self.bytes.clear();
        let room = self.recent.max(at_least).saturating_add(ALIGNMENT);
        if self.largest == 0 {
            self.bytes = BytesMut::with_capacity(room.max(FIRST));
        } else {
            self.bytes.reserve(room);
        }
        let padding = self.bytes.as_ptr().addr().wrapping_neg() % ALIGNMENT;
        if padding > 0 {
            self.bytes.resize(padding, 0);
            self.bytes.advance(padding);
        }
        &mut self.bytes
    }

    /// What was written since [`start`](Self::start), and whether the buffer let go of an outsized allocation.
    pub(super) fn finish(&mut self) -> (Bytes, bool) {
        let message = self.bytes.split().freeze();
        let len = message.len();
        self.recent = len.max(self.recent - self.recent / 16);
        self.largest = self.largest.max(len).max(1);
        let outsized = self.largest > ALWAYS_KEPT && self.recent < self.largest / 4;
        if outsized {
            self.bytes = BytesMut::new();
            self.largest = 0;
        }
        (message, outsized)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(buffer: &mut KeptBuffer, payload: &[u8]) -> Bytes {
        buffer.start(0).extend_from_slice(payload);
        buffer.finish().0
    }

    #[test]
    fn memory_comes_back_when_the_messages_are_dropped() {
        let mut buffer = KeptBuffer::default();
        let first = write(&mut buffer, &[1; 3000]).as_ptr();
        assert!((0..100).all(|_| write(&mut buffer, &[2; 3000]).as_ptr() == first));
    }

    #[test]
    fn a_message_that_is_still_held_is_never_written_over() {
        let mut buffer = KeptBuffer::default();
        let held: Vec<Bytes> = (0..50).map(|byte| write(&mut buffer, &[byte; 700])).collect();
        for (byte, message) in held.iter().enumerate() {
            assert!(message.len() == 700 && message.iter().all(|b| usize::from(*b) == byte));
        }
    }

    #[test]
    fn every_message_starts_aligned() {
        let mut buffer = KeptBuffer::default();
        let held: Vec<Bytes> = (1..200).map(|len| write(&mut buffer, &vec![0; len])).collect();
        assert!(held.iter().all(|message| message.as_ptr().addr() % ALIGNMENT == 0));
    }

    #[test]
    fn an_unfinished_message_leaves_nothing_behind() {
        let mut buffer = KeptBuffer::default();
        buffer.start(0).extend_from_slice(b"given up");
        assert_eq!(write(&mut buffer, b"whole"), "whole");
    }

    #[test]
    fn one_large_message_does_not_pin_its_memory() {
        let mut buffer = KeptBuffer::default();
        write(&mut buffer, &[0; 1 << 20]);
        let let_go = (0..100).any(|_| {
            buffer.start(0).extend_from_slice(b"small");
            buffer.finish().1
        });
        assert!(let_go);
        assert!(buffer.bytes.capacity() <= FIRST);
    }
}
