use bytes::{Buf, Bytes, BytesMut};

/// Alignment of written messages: rkyv's own, enough for every archived type of the standard library.
pub(super) const ALIGNMENT: usize = 16;

/// The size of the first allocation, made on first use. A connection that never writes costs nothing.
const FIRST: usize = 4 * 1024;

/// Buffers up to this size are never released.
const ALWAYS_KEPT: usize = 64 * 1024;

/// A buffer that messages are copied to, kept from message to message.
///
/// Serializers write many small pieces, and each write costs more into shared bytes than into a plain vector. They
/// therefore write to a vector, and the finished message is copied here once.
///
/// Each message is split off as shared bytes. Once all messages of an allocation are dropped, the allocation is reused;
/// until then a new one takes its place. One large message does not pin its memory: a buffer more than four times as
/// large as recent messages need is released.
#[derive(Debug, Default)]
pub(super) struct KeptBuffer {
    bytes: BytesMut,
    /// The size that recent messages need, in bytes. Rises at once and falls by a sixteenth per message.
    recent: usize,
    /// The largest message in the present allocation.
    largest: usize,
}

impl KeptBuffer {
    /// Returns a message with these bytes, at an address aligned to [`ALIGNMENT`].
    pub(super) fn copy(&mut self, bytes: &[u8]) -> Bytes {
        let len = bytes.len();
        // Messages are split off in whole multiples of the alignment, so the next one starts aligned.
        let padding = len.next_multiple_of(ALIGNMENT) - len;
        self.make_room(len + padding);
        self.bytes.extend_from_slice(bytes);
        if padding > 0 {
            self.bytes.extend_from_slice(&[0; ALIGNMENT][..padding]);
        }
        let mut message = self.bytes.split().freeze();
        message.truncate(len);

        // Rises at once and falls slowly: a size that alternates must not release the buffer each time.
        self.recent = len.max(self.recent - self.recent / 16);
        self.largest = self.largest.max(len).max(1);
        if self.largest > ALWAYS_KEPT && self.recent < self.largest / 4 {
            self.bytes = BytesMut::new();
            (self.recent, self.largest) = (len, 0);
        }
        message
    }

    /// Makes room for `len` bytes, and for the size of recent messages, from an aligned start.
    fn make_room(&mut self, len: usize) {
        let room = self.recent.max(len).saturating_add(2 * ALIGNMENT);
        if self.largest == 0 {
            self.bytes = BytesMut::with_capacity(room.max(FIRST));
        } else {
            self.bytes.reserve(room);
        }
        // The allocator aligns the allocation, not the place where the last message ended.
        let misaligned = self.bytes.as_ptr().addr().wrapping_neg() % ALIGNMENT;
        if misaligned > 0 {
            self.bytes.resize(misaligned, 0);
            self.bytes.advance(misaligned);
        }
    }
}

/// The vector that serde's serializers write to, and the buffer that finished messages are copied to.
#[cfg(any(feature = "json", feature = "messagepack", feature = "cbor"))]
#[derive(Default)]
pub(super) struct SerdeBuffer {
    written: Vec<u8>,
    kept: KeptBuffer,
}

#[cfg(any(feature = "json", feature = "messagepack", feature = "cbor"))]
impl SerdeBuffer {
    /// Returns the message that `write` writes.
    pub(super) fn message<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Bytes, E> {
        self.written.clear();
        let result = write(&mut self.written);
        let message = result.map(|()| self.kept.copy(&self.written));
        if self.written.capacity() > ALWAYS_KEPT {
            self.written = Vec::new();
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_when_the_messages_are_dropped() {
        let mut buffer = KeptBuffer::default();
        let first = buffer.copy(&[1; 3000]).as_ptr();
        assert!((0..100).all(|_| buffer.copy(&[2; 3000]).as_ptr() == first));
    }

    #[test]
    fn a_message_that_is_still_held_is_never_written_over() {
        let mut buffer = KeptBuffer::default();
        let held: Vec<Bytes> = (0..50).map(|byte| buffer.copy(&[byte; 700])).collect();
        for (byte, message) in held.iter().enumerate() {
            assert!(message.len() == 700 && message.iter().all(|b| usize::from(*b) == byte));
        }
    }

    #[test]
    fn every_message_starts_aligned() {
        let mut buffer = KeptBuffer::default();
        let held: Vec<Bytes> = (1..200).map(|len| buffer.copy(&vec![0; len])).collect();
        assert!(held.iter().all(|message| message.as_ptr().addr() % ALIGNMENT == 0));
    }

    #[test]
    fn one_large_message_does_not_pin_its_memory() {
        let mut buffer = KeptBuffer::default();
        buffer.copy(&[0; 1 << 20]);
        for _ in 0..100 {
            buffer.copy(b"small");
        }
        assert!(buffer.bytes.capacity() <= FIRST);
    }
}
