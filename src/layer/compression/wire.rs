//! What a compressed message looks like (`docs/wire.md`). Pure.
//!
//! ```text
//! deflate data, without its last 00 00 FF FF | length, u32, little endian | mark of 8 bytes
//! ```
//!
//! The length is the one of the message. It stands where the four bytes stood that every flush ends in, and it is why a
//! bomb can be refused unopened, a cut message is found out, and the message gets exactly the memory that it needs.

use crate::{
    Message,
    message::trailer::{self, Layer, Opened},
};

/// How many bytes a compressed message has besides its deflate data.
pub(super) const OVERHEAD: usize = LENGTH + trailer::LEN;

const LENGTH: usize = size_of::<u32>();

/// The last byte of every mark.
const LAST: u8 = 0xff;

/// What a sync flush ends in: an empty stored block.
pub(super) const FLUSHED: [u8; 4] = [0, 0, 0xff, 0xff];

/// What the mark says of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// It is text.
    pub(super) is_text: bool,
    /// It may refer to messages before it.
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

/// What follows the deflate data of a message of `length` bytes.
pub(super) fn end(length: u32, kind: Kind) -> [u8; OVERHEAD] {
    let mut end = [0; OVERHEAD];
    let (first, second) = end.split_at_mut(LENGTH);
    first.copy_from_slice(&length.to_le_bytes());
    second.copy_from_slice(&trailer::mark(Layer::Compression, kind.code()));
    end
}

/// A quick look: `false` means that there is no mark.
#[inline]
pub(super) fn may_be_marked(payload: &[u8]) -> bool {
    payload.last() == Some(&LAST)
}

/// The kind of a compressed message, and all that stands before its mark; `None` if it is a plain one.
pub(super) fn open(payload: &[u8]) -> Option<(u8, &[u8])> {
    match trailer::kind(Layer::Compression, payload)? {
        trailer::PLAIN => None,
        kind => Some((kind, payload.get(..payload.len() - trailer::LEN)?)),
    }
}

/// A message that [`open`] says is plain, without the mark that says so.
pub(super) fn plain(message: Message) -> Message {
    match trailer::open(Layer::Compression, message) {
        Opened::Plain(message) => message,
        Opened::Marked(_, rest) => Message::Binary(rest),
    }
}

/// The deflate data and the length of the message, of what stood before the mark.
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
