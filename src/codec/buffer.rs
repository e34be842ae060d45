use bytes::{Buf, Bytes, BytesMut};

/// Alignment of what is written: rkyv's own, enough for every archived type of the standard library.
pub(super) const ALIGNMENT: usize = 16;

/// The first allocation, on first use: a connection that never writes costs nothing.
const FIRST: usize = 4 * 1024;

/// How many bytes are staged on their way into the buffer.
const STAGE: usize = 1024;

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
    /// The end of the message that is being written.
    staged: Vec<u8>,
    /// What recent messages need, in bytes: rises at once, falls by a sixteenth per message.
    recent: usize,
    /// The largest message in the present allocation.
    largest: usize,
}

impl KeptBuffer {
    /// Starts a message, and gives what to write it with. One that was started before and not finished is dropped.
    pub(super) fn start(&mut self) -> Writer<'_> {
        self.prepare(0);
        self.staged.clear();
        self.staged.reserve_exact(STAGE);
        Writer { staged: &mut self.staged, bytes: &mut self.bytes }
    }

    /// A message with these bytes, at an aligned address.
    #[cfg(feature = "rkyv")]
    pub(super) fn copy(&mut self, bytes: &[u8]) -> Bytes {
        self.staged.clear();
        self.prepare(bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.finish().0
    }

    /// Empties the buffer and aligns its start, with room for what recent messages needed and for `at_least` bytes.
    fn prepare(&mut self, at_least: usize) {
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
    }

    /// What was written since [`start`](Self::start), and whether the buffer let go of an outsized allocation.
    pub(super) fn finish(&mut self) -> (Bytes, bool) {
        self.bytes.extend_from_slice(&self.staged);
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

/// Writes at the end of a message.
///
/// Serializers write many small pieces, and a `BytesMut` takes longer over each than a `Vec`: of a chat message, 45 ns in
/// all. So pieces are staged, and go to the message together; large ones go there at once.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    staged: &'a mut Vec<u8>,
    bytes: &'a mut BytesMut,
}

impl Writer<'_> {
    /// The length of the message so far.
    #[cfg(feature = "rkyv")]
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.staged.len()
    }

    #[inline]
    pub(super) fn put(&mut self, piece: &[u8]) {
        if piece.len() > STAGE - self.staged.len().min(STAGE) {
            self.unstage();
            if piece.len() >= STAGE {
                return self.bytes.extend_from_slice(piece);
            }
        }
        self.staged.extend_from_slice(piece);
    }

    #[cold]
    fn unstage(&mut self) {
        self.bytes.extend_from_slice(self.staged);
        self.staged.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(buffer: &mut KeptBuffer, payload: &[u8]) -> Bytes {
        buffer.start().put(payload);
        buffer.finish().0
    }

    #[test]
    fn pieces_of_any_size_come_out_in_order() {
        let mut buffer = KeptBuffer::default();
        let mut expected = Vec::new();
        let mut writer = buffer.start();
        for size in [1, 0, 500, 511, 12, 1024, 1, 1023, 1025, 5000, 3] {
            let piece: Vec<u8> = (0..size).map(|n| (n + size) as u8).collect();
            writer.put(&piece);
            expected.extend_from_slice(&piece);
            assert_eq!(writer.len(), expected.len());
        }
        assert_eq!(buffer.finish().0, expected);
        assert_eq!(buffer.copy(&expected), expected);
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
        buffer.start().put(b"given up");
        assert_eq!(write(&mut buffer, b"whole"), "whole");
    }

    #[test]
    fn one_large_message_does_not_pin_its_memory() {
        let mut buffer = KeptBuffer::default();
        write(&mut buffer, &[0; 1 << 20]);
        let let_go = (0..100).any(|_| {
            buffer.start().put(b"small");
            buffer.finish().1
        });
        assert!(let_go);
        assert!(buffer.bytes.capacity() <= FIRST);
    }
}
