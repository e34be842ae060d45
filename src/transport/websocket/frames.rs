//! Frame headers and masks (RFC 6455, sections 5.2 and 5.3).

use bytes::{BufMut, BytesMut};

/// The first byte of a header: the flags, and the opcode in the lower half.
pub(super) const FIN: u8 = 0x80;
pub(super) const RSV1: u8 = 0x40;
pub(super) const RSV: u8 = 0x70;

pub(super) const CONTINUATION: u8 = 0;
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

/// The bit of the second byte that announces a mask.
const MASKED: u8 = 0x80;

/// The maximum payload of a control frame, in bytes (RFC 6455, section 5.5).
pub(super) const MAX_CONTROL: usize = 125;

/// The header of an incoming frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The flags and the opcode.
    pub(super) first: u8,
    pub(super) mask: Option<[u8; 4]>,
    /// The announced length of the payload in bytes.
    pub(super) len: u64,
    /// The length of this header in bytes.
    pub(super) size: usize,
}

impl Header {
    /// Returns the header at the beginning of `bytes`, or `None` if there are not enough bytes.
    #[inline]
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let (len, rest) = match second & !MASKED {
            126 => {
                let (len, rest) = rest.split_first_chunk()?;
                (u16::from_be_bytes(*len).into(), rest)
            }
            127 => {
                let (len, rest) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*len), rest)
            }
            len => (len.into(), rest),
        };
        let (mask, rest) = match second & MASKED {
            0 => (None, rest),
            _ => {
                let (mask, rest) = rest.split_first_chunk()?;
                (Some(*mask), rest)
            }
        };
        Some(Self { first, mask, len, size: bytes.len() - rest.len() })
    }

    /// Appends the header of an outgoing frame to `out`.
    #[inline]
    pub(super) fn write(first: u8, len: usize, mask: Option<[u8; 4]>, out: &mut BytesMut) {
        let masked = if mask.is_some() { MASKED } else { 0 };
        match len {
            0..126 => out.put_slice(&[first, masked | len as u8]),
            126..0x1_0000 => {
                let [high, low] = (len as u16).to_be_bytes();
                out.put_slice(&[first, masked | 126, high, low]);
            }
            _ => {
                out.put_slice(&[first, masked | 127]);
                out.put_u64(len as u64);
            }
        }
        if let Some(mask) = mask {
            out.put_slice(&mask);
        }
    }

    pub(super) fn is_final(&self) -> bool {
        self.first & FIN != 0
    }

    pub(super) fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    pub(super) fn is_control(&self) -> bool {
        self.first & 0x08 != 0
    }
}

/// Applies a mask. `position` is the number of bytes of the same payload that came before.
#[inline]
pub(super) fn apply_mask(payload: &mut [u8], mut mask: [u8; 4], position: usize) {
    mask.rotate_left(position % 4);
    let word = u32::from_ne_bytes(mask);
    let wide = u64::from(word) | u64::from(word) << 32;
    // Wide blocks, which compilers turn into a few vector instructions.
    let (blocks, rest) = payload.as_chunks_mut::<32>();
    for block in blocks {
        for bytes in block.as_chunks_mut::<8>().0 {
            *bytes = (u64::from_ne_bytes(*bytes) ^ wide).to_ne_bytes();
        }
    }
    let (words, rest) = rest.as_chunks_mut::<4>();
    for bytes in words {
        *bytes = (u32::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;

    use super::*;

    proptest! {
        #[test]
        fn a_header_is_written_and_parsed_as_tungstenite_does(
            (flags, opcode) in (0..16u8, prop::sample::select(vec![0, 1, 2, 8, 9, 10])),
            len in prop_oneof![0..300usize, 65_530..65_540usize, any::<u32>().prop_map(|len| len as usize)],
            mask in prop::option::of(any::<[u8; 4]>()),
        ) {
            let first = flags << 4 | opcode;
            let mut ours = BytesMut::new();
            Header::write(first, len, mask, &mut ours);
            let parsed = FrameHeader::parse(&mut Cursor::new(&ours)).unwrap();
            let (theirs, their_len) = parsed.expect("a whole header");
            let mut written = Vec::new();
            theirs.format(their_len, &mut written).unwrap();
            prop_assert_eq!(&ours[..], &written[..]);
            prop_assert_eq!((theirs.is_final, theirs.rsv1, theirs.mask), (first & FIN != 0, first & RSV1 != 0, mask));
            for cut in 0..ours.len() {
                prop_assert_eq!(Header::parse(&ours[..cut]), None);
            }
            prop_assert_eq!(Header::parse(&ours), Some(Header { first, mask, len: len as u64, size: ours.len() }));
        }

        #[test]
        fn a_mask_is_the_same_in_pieces(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            mask in any::<[u8; 4]>(),
            cut in 0..200usize,
        ) {
            let expected: Vec<u8> = payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
            let mut masked = payload;
            let cut = cut.min(masked.len());
            let (head, tail) = masked.split_at_mut(cut);
            apply_mask(head, mask, 0);
            apply_mask(tail, mask, cut);
            prop_assert_eq!(masked, expected);
        }
    }
}
