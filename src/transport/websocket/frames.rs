use std::io::Cursor;

use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use super::mask::apply_mask;

/// Payloads from this size on are worth a path of their own. With 16 KiB a message of that size took as long as through the
/// engine; one of 64 KiB takes two thirds of the time.
pub(super) const LARGE: usize = 64 * 1024;

/// The longest payload of a control frame (RFC 6455, section 5.5).
pub(super) const MAX_CONTROL: usize = 125;

/// Follows the incoming bytes from frame to frame (RFC 6455, section 5.2), and finds those frames that need nothing but to be
/// read: large, regular, and a message of their own. All else is for the engine to take or to refuse, but for one thing: a limit
/// under that of control frames is held against data here.
#[derive(Debug)]
pub(super) struct Frames {
    is_client: bool,
    /// What a frame may have of payload.
    limit: usize,
    /// What has yet to pass of the current frame's payload.
    left: u64,
    /// The beginning of a header that goes on in the next bytes; empty otherwise.
    cut: Vec<u8>,
    /// A message has begun that other frames go on with.
    is_fragmented: bool,
    /// How many frames have begun, modulo 2^32.
    count: u32,
    /// The peer's close frame, as far as it is here. Boxed, for it is empty until the end of the connection.
    close: Option<Box<ClosePayload>>,
    /// The peer has closed, or what it sends is no frame: nothing is looked for any more.
    is_over: bool,
}

/// The payload of a close frame, as the peer sent it: the engine replaces codes that are not on its list.
#[derive(Debug)]
struct ClosePayload {
    mask: [u8; 4],
    /// How long it is in all.
    len: usize,
    /// Unmasked.
    bytes: Vec<u8>,
}

/// A frame that need not go through the engine.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Large {
    pub(super) is_text: bool,
    pub(super) mask: Option<[u8; 4]>,
    /// Bytes of payload.
    pub(super) len: usize,
}

impl Frames {
    pub(super) fn new(is_client: bool, limit: usize) -> Self {
        Self { is_client, limit, left: 0, cut: Vec::new(), is_fragmented: false, count: 0, close: None, is_over: false }
    }

    /// Takes the next bytes; gives the first large frame that begins among them, and the places of its header and of its
    /// payload. What comes after that payload is for the next call, the payload itself for none.
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
                // The engine has its beginning already: this frame is not for us, however large.
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

    /// How many frames have begun, modulo 2^32.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The payload of the peer's close frame, without its mask, once all of it has passed.
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

    /// A frame of data over a limit that is too small for the engine, which would hold it against control frames.
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
                // The engine refuses a longer one.
                let len = usize::try_from(len).ok().filter(|len| *len <= MAX_CONTROL);
                let mask = header.mask.unwrap_or_default();
                self.close = len.map(|len| Box::new(ClosePayload { mask, len, bytes: Vec::new() }));
            }
            OpCode::Control(_) => {}
        }
    }
}

/// The lengths of header and payload of most frames there are: whole messages and pings under 64 KiB. The parser costs as
/// much again as all else here.
fn small(bytes: &[u8]) -> Option<(usize, u64)> {
    // The longest header that there may be is here.
    let &[0x81 | 0x82 | 0x89 | 0x8a, second, high, low, _, _, _, _, ..] = bytes else { return None };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    match second & 0x7f {
        127 => None,
        126 => Some((4 + mask, u16::from_be_bytes([high, low]).into())),
        len => Some((2 + mask, len.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: OpCode, is_final: bool, len: usize) -> Vec<u8> {
        let header = FrameHeader { opcode, is_final, mask: Some([9, 8, 7, 6]), ..FrameHeader::default() };
        let mut bytes = Vec::new();
        header.format(len as u64, &mut bytes).unwrap();
        // What a payload contains looks like a large frame.
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
