use std::mem;

use bytes::{Buf, BufMut, BytesMut, buf::Limit};

use super::{
    frame_loop::{Failure, Step, not_utf8},
    frames::{CONTINUATION, TEXT, apply_mask},
};
use crate::{Message, Text};

/// The minimum number of missing bytes of a payload that are read directly into the message.
const DIRECT: usize = 16 * 1024;

/// The maximum number of bytes read directly at a time, so that they are still in the cache when they are unmasked.
const PIECE: usize = 128 * 1024;

/// The received part of a data message.
#[derive(Debug, Default)]
pub(super) struct Partial {
    /// The opcode, or [`CONTINUATION`] while no message has begun.
    opcode: u8,
    is_compressed: bool,
    payload: Vec<u8>,
    /// The number of bytes of a text that are known to be UTF-8. The rest is the beginning of a character.
    checked: usize,
    fragments: usize,
    /// The length of the previous message, as an estimate for this one.
    last: usize,
}

/// The payload of a data frame, while it is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload {
    /// The number of bytes that have come.
    position: usize,
    /// The number of missing bytes.
    left: usize,
    mask: Option<[u8; 4]>,
    pub(super) is_final: bool,
}

impl Payload {
    pub(super) fn new(len: usize, mask: Option<[u8; 4]>, is_final: bool) -> Self {
        Self { position: 0, left: len, mask, is_final }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.left == 0
    }
}

impl Partial {
    pub(super) fn has_begun(&self) -> bool {
        self.opcode != CONTINUATION
    }

    pub(super) fn len(&self) -> usize {
        self.payload.len()
    }

    /// Returns the number of frames that have begun.
    pub(super) fn fragments(&self) -> usize {
        self.fragments
    }

    pub(super) fn begin(&mut self, opcode: u8, is_compressed: bool) {
        (self.opcode, self.is_compressed) = (opcode, is_compressed);
    }

    pub(super) fn begin_fragment(&mut self) {
        self.fragments += 1;
    }

    /// Takes from `input` what belongs to `payload`. `limit` is the maximum size of a message.
    pub(super) fn take(&mut self, input: &mut BytesMut, payload: &mut Payload, limit: usize) -> Result<(), Failure> {
        let len = payload.left.min(input.len());
        self.reserve(len, payload, limit);
        self.payload.extend_from_slice(&input[..len]);
        input.advance(len);
        self.received(payload, len)
    }

    /// Returns the memory into which the next bytes of `payload` should be read, if there are many.
    pub(super) fn direct(&mut self, payload: &Payload, limit: usize) -> Option<Limit<&mut Vec<u8>>> {
        if payload.left < DIRECT {
            return None;
        }
        self.reserve(0, payload, limit);
        // Not all of the missing bytes: what a header announces is not allocated before it comes.
        let room = self.payload.capacity() - self.payload.len();
        (room > 0).then(|| (&mut self.payload).limit(room.min(payload.left).min(PIECE)))
    }

    /// Unmasks and validates the newest `len` bytes.
    pub(super) fn received(&mut self, payload: &mut Payload, len: usize) -> Result<(), Failure> {
        let start = self.payload.len() - len;
        if let Some(mask) = payload.mask {
            apply_mask(&mut self.payload[start..], mask, payload.position);
        }
        if self.opcode == TEXT && !self.is_compressed {
            match str::from_utf8(&self.payload[self.checked..]) {
                Ok(text) => self.checked += text.len(),
                // The end of the input cuts a character. The next bytes show whether it is valid.
                Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
                Err(_) => return Err(not_utf8()),
            }
        }
        payload.position += len;
        payload.left -= len;
        Ok(())
    }

    /// Ends the message, whose last frame is complete.
    pub(super) fn end(&mut self) -> Result<Step, Failure> {
        let Self { opcode, is_compressed, payload, checked, .. } = mem::take(self);
        // Messages of a connection are often alike, and this peer has already sent as much as the estimate.
        self.last = payload.len();
        let is_text = opcode == TEXT;
        Ok(match (is_compressed, is_text) {
            (true, _) => Step::Compressed { is_text, payload: payload.into() },
            (false, true) if checked < payload.len() => return Err(not_utf8()),
            // SAFETY: the first `checked` bytes are UTF-8, and there are no others.
            (false, true) => Step::Message(Message::Text(unsafe { Text::from_utf8_unchecked(payload.into()) })),
            (false, false) => Step::Message(Message::Binary(payload.into())),
        })
    }

    /// Makes room for `len` more bytes. Memory is allocated as bytes arrive, never because a header has announced them:
    /// as much again as is here, or the length of the previous message.
    fn reserve(&mut self, len: usize, payload: &Payload, limit: usize) {
        let now = self.payload.len();
        if self.payload.capacity() - now >= len.max(1) {
            return;
        }
        let end = now + payload.left;
        let ahead = (2 * (now + len)).max(self.last).min(end);
        // More fragments follow, of a number and length that nobody knows.
        let more = if payload.is_final { 0 } else { (2 * now).min(limit) };
        self.payload.reserve_exact((now + len).max(ahead).max(more) - now);
    }
}
