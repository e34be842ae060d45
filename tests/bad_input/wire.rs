//! Raw frames, right and wrong (RFC 6455, section 5.2).

/// The writer of the frame: a client masks, a server does not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Client,
    Server,
}

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
/// The first bit of a frame: its message ends here.
pub(crate) const FIN: u8 = 0x80;

#[derive(Clone)]
pub(crate) struct Frame {
    first: u8,
    payload: Vec<u8>,
    announced: Option<u64>,
    wrong_mask: bool,
}

/// A frame with this first byte: bits and opcode.
pub(crate) fn frame(first: u8, payload: impl Into<Vec<u8>>) -> Frame {
    Frame { first, payload: payload.into(), announced: None, wrong_mask: false }
}

impl Frame {
    /// Says another length than it has.
    pub(crate) fn announcing(mut self, length: u64) -> Self {
        self.announced = Some(length);
        self
    }

    /// Masks where it must not, or does not where it must.
    pub(crate) fn wrongly_masked(mut self) -> Self {
        self.wrong_mask = true;
        self
    }

    pub(crate) fn bytes(&self, from: From) -> Vec<u8> {
        let masked = (from == From::Client) != self.wrong_mask;
        let mask_bit = if masked { 0x80 } else { 0 };
        let mut bytes = vec![self.first];
        match self.announced.unwrap_or(self.payload.len() as u64) {
            length @ 0..126 => bytes.push(mask_bit | length as u8),
            length @ 126..65_536 => {
                bytes.push(mask_bit | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(mask_bit | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        if masked {
            // A mask of zeros leaves the payload as it is.
            bytes.extend([0; 4]);
        }
        bytes.extend(&self.payload);
        bytes
    }
}

/// The code of the first close frame among `bytes`, which may be masked; frames before it must be short.
pub(crate) fn close_code(mut bytes: &[u8]) -> Option<u16> {
    loop {
        let [first, second, rest @ ..] = bytes else { return None };
        let length = usize::from(second & 0x7f);
        assert!(length < 126, "a long frame");
        let (mask, rest) = if second & 0x80 != 0 { rest.split_at(4) } else { (&[0; 4][..], rest) };
        if *first == FIN | CLOSE {
            return (length >= 2).then(|| u16::from_be_bytes([rest[0] ^ mask[0], rest[1] ^ mask[1]]));
        }
        bytes = &rest[length..];
    }
}
