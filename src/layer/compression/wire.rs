//! The wire format of a compressed message, also documented in `docs/wire.md`. Pure.
//!
//! ```text
//! deflate data, without its last 00 00 FF FF | length, u32, little endian | mark of 8 bytes
//! ```
//!
//! The length is that of the inflated message. It replaces the four bytes in which every flush ends. It lets the
//! receiver refuse a bomb unopened, detect a truncated message, and allocate exactly the memory that the message needs.

use crate::{
    Message,
    message::trailer::{self, Layer, Opened},
};

/// The number of bytes in a compressed message that are not deflate data.
pub(super) const OVERHEAD: usize = LENGTH + trailer::LEN;

const LENGTH: usize = size_of::<u32>();

/// The last byte of every mark.
const LAST: u8 = 0xff;

/// The properties of a message that its mark contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// Whether the message is text.
    pub(super) is_text: bool,
    /// Whether it may refer to earlier messages.
    pub(super) is_kept: bool,
}

impl Kind {
    const fn code(self) -> u8 {
        1 + self.is_text as u8 + 2 * self.is_kept as u8
    }

    pub(super) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1..=4 => Some(Self { is_text: code.is_multiple_of(2), is_kept: code > 2 }),
            _ => None,
        }
    }
}

/// Returns the bytes that follow the deflate data of a message of `length` bytes.
pub(super) fn end(length: u32, kind: Kind) -> [u8; OVERHEAD] {
    let mut end = [0; OVERHEAD];
    let (first, second) = end.split_at_mut(LENGTH);
    first.copy_from_slice(&length.to_le_bytes());
    second.copy_from_slice(&trailer::mark(Layer::Compression, kind.code()));
    end
}

/// Returns false if there is certainly no mark. Only looks at the last byte.
#[inline]
pub(super) fn may_be_marked(payload: &[u8]) -> bool {
    payload.last() == Some(&LAST)
}

/// Returns the kind of a compressed message and the bytes before its mark. Returns `None` for a plain message.
pub(super) fn open(payload: &[u8]) -> Option<(u8, &[u8])> {
    match trailer::kind(Layer::Compression, payload)? {
        trailer::PLAIN => None,
        kind => Some((kind, payload.get(..payload.len() - trailer::LEN)?)),
    }
}

/// Removes the mark of a message that [`open`] found to be plain.
pub(super) fn plain(message: Message) -> Message {
    match trailer::open(Layer::Compression, message) {
        Opened::Plain(message) => message,
        Opened::Marked(_, rest) => Message::Binary(rest),
    }
}

/// Splits the bytes before the mark into the deflate data and the length of the message.
pub(super) fn split(marked: &[u8]) -> Option<(&[u8], u32)> {
    let (data, length) = marked.split_last_chunk()?;
    Some((data, u32::from_le_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_look_finds_every_mark() {
        assert!(may_be_marked(&end(7, Kind { is_text: true, is_kept: false })));
        assert!(may_be_marked(&trailer::append(b"", Layer::Compression, trailer::PLAIN)));
    }

    #[test]
    fn each_kind_has_its_code_and_no_other_code_is_one() {
        let codes: Vec<u8> = (0..=255).filter(|code| Kind::from_code(*code).is_some()).collect();
        assert_eq!(codes, [1, 2, 3, 4]);
        for code in codes {
            assert_eq!(Kind::from_code(code).unwrap().code(), code);
        }
    }
}
