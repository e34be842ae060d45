use std::io::Cursor;

use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

/// Payloads from this size on are worth a path of their own: smaller ones come to the engine in one piece.
pub(super) const LARGE: usize = 64 * 1024;

/// Follows the incoming bytes from frame to frame (RFC 6455, section 5.2), and finds those frames that need nothing but to be
/// read: large, regular, and a message of their own. It judges nothing: all else is for the engine to take or to refuse.
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
    /// The peer has closed, or what it sends is no frame: nothing is looked for any more.
    is_over: bool,
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
        Self { is_client, limit, left: 0, cut: Vec::new(), is_fragmented: false, is_over: false }
    }

    /// Takes the next bytes; gives the first large frame that begins among them, and the places of its header and of its
    /// payload. What comes after that payload is for the next call, the payload itself for none.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<(usize, usize, Large)> {
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
                self.cut.push(bytes[at]);
                at += 1;
                if let Some((header, len)) = self.parse(&mut Cursor::new(&self.cut.clone())) {
                    self.cut.clear();
                    self.pass(&header, len);
                }
                continue;
            }
            let mut cursor = Cursor::new(&bytes[at..]);
            let Some((header, len)) = self.parse(&mut cursor) else {
                self.cut.extend_from_slice(&bytes[at..]);
                break;
            };
            let payload = at + cursor.position() as usize;
            if let Some(large) = self.large(&header, len) {
                return Some((at, payload, large));
            }
            self.pass(&header, len);
            at = payload;
        }
        None
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

    fn pass(&mut self, header: &FrameHeader, len: u64) {
        self.left = len;
        match header.opcode {
            OpCode::Data(_) => self.is_fragmented = !header.is_final,
            OpCode::Control(Control::Close) => self.is_over = true,
            OpCode::Control(_) => {}
        }
    }
}
