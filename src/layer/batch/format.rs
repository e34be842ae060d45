//! The wire format of a batch, also documented in `docs/wire.md`.
//!
//! ```text
//! payload of each message | entry of each message | length of all entries, 4 bytes | 01 | 02 | F8 74 74 78 01 FF
//! ```
//!
//! An entry is a varint (7 bits a byte, lowest first): twice the length of the payload, plus one for text.

use bytes::{BufMut, BytesMut};

use crate::message::trailer::{self, Layer};

/// The kind of mark of a batch.
pub(super) const KIND: u8 = 1;

/// The length of the index, little endian.
pub(super) const LENGTH: usize = size_of::<u32>();

/// Writes the entry of one message.
#[inline]
pub(super) fn push_entry(index: &mut Vec<u8>, len: usize, is_text: bool) {
    let mut entry = (len << 1) | usize::from(is_text);
    while entry >= 0x80 {
        index.push(entry as u8 | 0x80);
        entry >>= 7;
    }
    index.push(entry as u8);
}

/// Reads one entry, and returns the rest. Returns `None` if the entry is truncated or larger than 32 bits.
#[inline]
pub(super) fn split_entry(index: &[u8]) -> Option<(usize, bool, &[u8])> {
    match index {
        // The common case: payloads below 64 bytes.
        [entry @ ..0x80, rest @ ..] => Some((usize::from(entry >> 1), entry & 1 == 1, rest)),
        _ => split_long_entry(index),
    }
}

fn split_long_entry(index: &[u8]) -> Option<(usize, bool, &[u8])> {
    let mut entry = 0;
    for (place, &byte) in index.iter().enumerate() {
        let bits = u32::from(byte & 0x7f);
        // Only four bits of the fifth byte are valid.
        if place > 4 || (place == 4 && bits > 0xf) {
            return None;
        }
        entry |= bits << (7 * place);
        if byte < 0x80 {
            return Some(((entry >> 1) as usize, entry & 1 == 1, index.get(place + 1..)?));
        }
    }
    None
}

/// Writes everything that follows the payloads.
pub(super) fn finish(payload: &mut BytesMut, index: &[u8]) {
    payload.reserve(index.len() + LENGTH + trailer::LEN);
    payload.extend_from_slice(index);
    // A policy allows at most 65,535 entries of at most 5 bytes.
    payload.put_u32_le(index.len() as u32);
    payload.extend_from_slice(&trailer::mark(Layer::Batch, KIND));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_every_length_are_read_as_they_were_written() {
        for len in [0, 1, 63, 64, 127, 128, 8191, 8192, 1 << 20, (1 << 30) - 1, 1 << 30] {
            for is_text in [false, true] {
                let mut index = Vec::new();
                push_entry(&mut index, len, is_text);
                index.push(9);
                assert_eq!(split_entry(&index), Some((len, is_text, &[9][..])));
            }
        }
    }

    #[test]
    fn entries_that_are_cut_or_larger_than_32_bits_are_none() {
        for index in [
            &[][..],
            &[0x80],
            &[0xff; 4],
            &[0xff, 0xff, 0xff, 0xff, 0x10],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0],
            &[0xff; 10],
        ] {
            assert_eq!(split_entry(index), None, "{index:x?}");
        }
        assert_eq!(split_entry(&[0xff, 0xff, 0xff, 0xff, 0xf]), Some((u32::MAX as usize >> 1, true, &[][..])));
    }
}
