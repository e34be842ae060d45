use std::io::Cursor;

use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

/// The minimum payload of a frame that bypasses the engine, in bytes. A message of 16 KiB took as long as through the
/// engine; one of 64 KiB takes two thirds of the time.
pub(super) const LARGE: usize = 64 * 1024;

/// The maximum payload of a control frame, in bytes (RFC 6455, section 5.5).
pub(super) const MAX_CONTROL: usize = 125;

/// Follows the incoming bytes from frame to frame (RFC 6455, section 5.2), and finds frames that only need to be read:
/// large, valid, and a whole message each. The engine handles all others, with one exception: a limit below that of
/// control frames is applied to data here.
#[derive(Debug)]
pub(super) struct Frames {
    is_client: bool,
    /// The maximum payload of a frame, in bytes.
    limit: usize,
    /// The number of remaining payload bytes of the current frame.
    left: u64,
    /// The beginning of a header that continues in the next bytes; empty otherwise.
    cut: Vec<u8>,
    /// Whether a fragmented message has begun.
    is_fragmented: bool,
    /// The number of frames that have begun, modulo 2^32.
    count: u32,
    /// The received part of the peer's close frame. Boxed, because it is absent until the end of the connection.
    close: Option<Box<ClosePayload>>,
    /// Whether the search is over: the peer has closed, or its bytes are not a frame.
    is_over: bool,
}

/// The payload of a close frame as the peer sent it, because the engine replaces codes that are not on its list.
#[derive(Debug)]
struct ClosePayload {
    mask: [u8; 4],
    /// The total length in bytes.
    len: usize,
    /// The received bytes, unmasked.
    bytes: Vec<u8>,
}

/// A frame that can bypass the engine.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Large {
    pub(super) is_text: bool,
    pub(super) mask: Option<[u8; 4]>,
    /// The payload length in bytes.
    pub(super) len: usize,
}

impl Frames {
    pub(super) fn new(is_client: bool, limit: usize) -> Self {
        Self { is_client, limit, left: 0, cut: Vec::new(), is_fragmented: false, count: 0, close: None, is_over: false }
    }

    /// Takes the next bytes. Returns the first large frame that begins among them, and the positions of its header and
    /// of its payload. Pass bytes after that payload to the next call; the payload itself is not passed to any call.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<(usize, usize, Large)> {
        if self.is_over {
            self.take_close(bytes);
            return None;
        }
        let mut at = 0;
        while !self.is_over {
            let passed = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
            self.left -= passed as u64;
            at += passed;
            if at == bytes.len() {
                break;
            }
            if !self.cut.is_empty() {
                // The engine already has its beginning, so this frame stays with the engine, however large.
                let mut cut = std::mem::take(&mut self.cut);
                cut.push(bytes[at]);
                at += 1;
                match self.parse(&mut Cursor::new(&cut)) {
                    Some((header, len)) => {
                        if let Some(large) = self.over(&header, len) {
                            return Some((0, at, large));
                        }
                        self.pass(&header, len);
                    }
                    None => self.cut = cut,
                }
                continue;
            }
            if self.limit >= MAX_CONTROL
                && let Some((header, len)) = small(&bytes[at..])
            {
                self.count = self.count.wrapping_add(1);
                self.left = len;
                at += header;
                continue;
            }
            let mut cursor = Cursor::new(&bytes[at..]);
            let Some((header, len)) = self.parse(&mut cursor) else {
                self.cut.extend_from_slice(&bytes[at..]);
                break;
            };
            let payload = at + cursor.position() as usize;
            if let Some(large) = self.large(&header, len).or_else(|| self.over(&header, len)) {
                return Some((at, payload, large));
            }
            self.pass(&header, len);
            at = payload;
        }
        if self.is_over {
            self.take_close(&bytes[at..]);
        }
        None
    }

    /// Returns the number of frames that have begun, modulo 2^32.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Returns the unmasked payload of the peer's close frame, once all of it has passed.
    pub(super) fn close_payload(&self) -> Option<&[u8]> {
        self.close.as_ref().filter(|close| close.bytes.len() == close.len).map(|close| &close.bytes[..])
    }

    fn take_close(&mut self, bytes: &[u8]) {
        if let Some(close) = &mut self.close {
            let before = close.bytes.len();
            close.bytes.extend_from_slice(&bytes[..bytes.len().min(close.len - before)]);
            apply_mask(&mut close.bytes[before..], close.mask, before);
        }
    }

    fn parse(&mut self, bytes: &mut Cursor<impl AsRef<[u8]>>) -> Option<(FrameHeader, u64)> {
        FrameHeader::parse(bytes).unwrap_or_else(|_| {
            self.is_over = true;
            None
        })
    }

    fn large(&self, header: &FrameHeader, len: u64) -> Option<Large> {
        let is_text = match header.opcode {
            OpCode::Data(Data::Text) => true,
            OpCode::Data(Data::Binary) => false,
            _ => return None,
        };
        let len = usize::try_from(len).ok().filter(|len| (LARGE..=self.limit).contains(len))?;
        let is_plain = header.is_final && !self.is_fragmented && !(header.rsv1 || header.rsv2 || header.rsv3);
        (is_plain && header.mask.is_none() == self.is_client).then_some(Large { is_text, mask: header.mask, len })
    }

    /// Returns a data frame over a limit that is too small for the engine, which would apply it to control frames.
    fn over(&self, header: &FrameHeader, len: u64) -> Option<Large> {
        let is_over = self.limit < MAX_CONTROL && matches!(header.opcode, OpCode::Data(_)) && len > self.limit as u64;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        is_over.then_some(Large { is_text: false, mask: header.mask, len })
    }

    fn pass(&mut self, header: &FrameHeader, len: u64) {
        self.count = self.count.wrapping_add(1);
        self.left = len;
        match header.opcode {
            OpCode::Data(_) => self.is_fragmented = !header.is_final,
            OpCode::Control(Control::Close) => {
                self.is_over = true;
                // The engine rejects a longer one.
                let len = usize::try_from(len).ok().filter(|len| *len <= MAX_CONTROL);
                let mask = header.mask.unwrap_or_default();
                self.close = len.map(|len| Box::new(ClosePayload { mask, len, bytes: Vec::new() }));
            }
            OpCode::Control(_) => {}
        }
    }
}

/// Returns the lengths of header and payload of the most common frames: whole messages and pings under 64 KiB. The full
/// parser costs as much as everything else here.
fn small(bytes: &[u8]) -> Option<(usize, u64)> {
    // The longest possible header is available.
    let &[0x81 | 0x82 | 0x89 | 0x8a, second, high, low, _, _, _, _, ..] = bytes else { return None };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    match second & 0x7f {
        127 => None,
        126 => Some((4 + mask, u16::from_be_bytes([high, low]).into())),
        len => Some((2 + mask, len.into())),
    }
}

/// Applies a mask (RFC 6455, section 5.3). `position` is the number of payload bytes that came before.
pub(super) fn apply_mask(payload: &mut [u8], mask: [u8; 4], position: usize) {
    let wide: [u8; 32] = std::array::from_fn(|i| mask[(position + i) % 4]);
    // Wide blocks, which compilers turn into a few vector instructions.
    let (blocks, rest) = payload.as_chunks_mut::<32>();
    for block in blocks {
        for (byte, mask) in block.iter_mut().zip(wide) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in rest.iter_mut().zip(wide) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: OpCode, is_final: bool, len: usize) -> Vec<u8> {
        let header = FrameHeader { opcode, is_final, mask: Some([9, 8, 7, 6]), ..FrameHeader::default() };
        let mut bytes = Vec::new();
        header.format(len as u64, &mut bytes).unwrap();
        // The content of this payload looks like a large frame.
        bytes.extend([0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0].iter().cycle().take(len));
        bytes
    }

    const TEXT: OpCode = OpCode::Data(Data::Text);
    const BINARY: OpCode = OpCode::Data(Data::Binary);

    #[test]
    fn a_frame_is_known_wherever_the_bytes_before_it_are_cut() {
        let before = [frame(BINARY, true, 300), frame(TEXT, true, 0), frame(BINARY, true, 7)].concat();
        let bytes = [before.clone(), frame(TEXT, true, LARGE)].concat();
        for first in 0..before.len() {
            for second in [first, first + 1, first + 3].map(|second| second.min(before.len())) {
                let mut frames = Frames::new(false, LARGE);
                assert_eq!(frames.find(&bytes[..first]), None);
                assert_eq!(frames.find(&bytes[first..second]), None);
                let (at, payload, large) = frames.find(&bytes[second..]).unwrap();
                assert_eq!((second + at, payload - at), (before.len(), 14));
                assert_eq!(large, Large { is_text: true, mask: Some([9, 8, 7, 6]), len: LARGE });
            }
        }
    }

    #[test]
    fn a_large_frame_whose_header_is_cut_passes_whole() {
        let cut = frame(BINARY, true, LARGE);
        for first in 1..14 {
            let mut frames = Frames::new(false, LARGE);
            assert_eq!(frames.find(&cut[..first]), None);
            assert_eq!(frames.find(&cut[first..]), None);
            assert!(frames.find(&frame(BINARY, true, LARGE)).is_some());
        }
    }

    #[test]
    fn a_close_frame_is_kept_as_it_was_sent_wherever_it_is_cut() {
        let bytes = [frame(BINARY, true, 7), frame(OpCode::Control(Control::Close), true, 125)].concat();
        let mut sent = bytes[bytes.len() - 125..].to_vec();
        apply_mask(&mut sent, [9, 8, 7, 6], 0);
        for first in 0..bytes.len() {
            let mut frames = Frames::new(false, LARGE);
            assert_eq!(frames.find(&bytes[..first]), None);
            assert_eq!(frames.close_payload(), None);
            assert_eq!(frames.find(&bytes[first..]), None);
            assert_eq!(frames.close_payload(), Some(&sent[..]), "cut at {first}");
            assert_eq!(frames.count(), 2);
            // Nothing that follows belongs to it.
            assert_eq!(frames.find(&bytes), None);
            assert_eq!(frames.close_payload(), Some(&sent[..]));
        }
    }

    #[test]
    fn parts_of_a_message_pass_and_so_does_all_that_follows_a_close_frame() {
        let mut frames = Frames::new(false, LARGE);
        assert_eq!(frames.find(&frame(TEXT, false, LARGE)), None);
        assert_eq!(frames.find(&frame(OpCode::Control(Control::Ping), true, 5)), None);
        assert_eq!(frames.find(&frame(OpCode::Data(Data::Continue), true, LARGE)), None);
        assert!(frames.find(&frame(TEXT, true, LARGE)).is_some());
        assert_eq!(frames.find(&frame(TEXT, true, LARGE + 1)), None);
        assert_eq!(frames.find(&frame(OpCode::Control(Control::Close), true, 0)), None);
        assert_eq!(frames.find(&frame(TEXT, true, LARGE)), None);
    }
}
