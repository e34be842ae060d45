//! The protocol of RFC 6455 between the two handshakes, without I/O and without a clock: bytes of the peer go in,
//! messages come out, and frames for the peer go into the [`WriteBuffer`].
//!
//! Reading is in one of three states. Independent of it, a data message may have begun (`message`), because control
//! frames may come between its fragments.
//!
//! ```text
//!              a data frame, part of which is missing
//!   ┌────────┐ ─────────────────────────────────────► ┌─────────┐
//!   │ Header │                                        │ Payload │ ──┐ bytes: unmasked, validated, appended
//!   └────────┘ ◄───────────────────────────────────── └─────────┘ ◄─┘
//!    │  │  ▲    its last byte; a message if it is final    │
//!    │  └──┘                                               │
//!    │  a whole frame                                      │ text that is not UTF-8
//!    │                                                     ▼
//!    │  a close frame, or a fault                     ┌─────────┐
//!    └──────────────────────────────────────────────► │  Over   │ discards
//!                                                     └─────────┘
//! ```
//!
//! Unless a message ends the call, all bytes of the input are taken, except the beginning of a small message: the rest
//! usually comes with the next read, and the message then needs no memory of its own. Once nothing more comes, that
//! beginning is taken, too ([`FrameLoop::keep`]). For a peer that has sent part of a frame, only that part is kept: a
//! header and a control frame in `cut`, a payload in `message`.

use std::{fmt, mem};

use bytes::{Buf, Bytes, BytesMut, buf::Limit};

use super::{
    frames::{BINARY, CLOSE, CONTINUATION, FIN, Header, MAX_CONTROL, PING, PONG, RSV, RSV1, TEXT, apply_mask},
    partial::{Partial, Payload},
    read_buffer::{ROOM, take},
    write_buffer::WriteBuffer,
};
use crate::{CloseCode, CloseFrame, Error, Limits, Message};

#[derive(Debug)]
pub(super) struct FrameLoop {
    is_client: bool,
    /// Whether an extension was negotiated that marks messages with the bit RSV1.
    has_rsv1: bool,
    limits: Limits,
    reading: Reading,
    /// The beginning of a frame that continues in the next bytes: part of a header, or of a whole control frame.
    cut: Vec<u8>,
    message: Partial,
    /// The newest ping that was not answered, because the write buffer was full (RFC 6455, section 5.5.3).
    unanswered: Option<Bytes>,
    /// Whether our close frame was queued.
    is_closed: bool,
    /// Whether a pong, a close or a message of the server itself waits to be written. It must be sent even if the user
    /// never flushes.
    answer_waits: bool,
    writer: WriteBuffer,
}

#[derive(Debug)]
enum Reading {
    Header,
    Payload(Payload),
    Over,
}

/// The outcome of [`FrameLoop::next`].
#[derive(Debug)]
pub(super) enum Step {
    Message(Message),
    /// A data message with the bit RSV1. Its text is not validated yet.
    #[cfg_attr(not(feature = "deflate"), allow(dead_code, reason = "no extension is negotiated then"))]
    Compressed {
        is_text: bool,
        payload: Bytes,
    },
    /// More bytes are needed. All are taken, except the beginning of a small message.
    Starved,
    /// The budget is used up.
    Spent,
}

/// The reason why reading ended, with the code for the peer if the peer is at fault.
#[derive(Debug)]
pub(crate) struct Failure(pub(super) Error, pub(super) Option<CloseCode>);

impl FrameLoop {
    pub(super) fn new(is_client: bool, limits: Limits) -> Self {
        Self {
            is_client,
            has_rsv1: false,
            limits,
            reading: Reading::Header,
            cut: Vec::new(),
            message: Partial::default(),
            unanswered: None,
            is_closed: false,
            answer_waits: false,
            writer: WriteBuffer::default(),
        }
    }

    /// Accepts messages that are marked with the bit RSV1.
    #[cfg(feature = "deflate")]
    pub(super) fn accept_compressed(&mut self) {
        self.has_rsv1 = true;
    }

    /// Returns the maximum size of a message in bytes.
    #[cfg(feature = "deflate")]
    pub(super) fn message_limit(&self) -> usize {
        self.limits.message
    }

    #[inline]
    pub(super) fn writer(&mut self) -> &mut WriteBuffer {
        &mut self.writer
    }

    /// Returns the number of bytes that wait to be written.
    #[inline]
    pub(super) fn unwritten(&self) -> usize {
        self.writer.len()
    }

    /// Returns whether an answer to the peer waits to be written.
    #[inline]
    pub(super) fn answer_waits(&self) -> bool {
        self.answer_waits
    }

    /// Makes what waits be written as an answer is.
    pub(super) fn request_write(&mut self) {
        self.answer_waits = true;
    }

    /// Records that everything was written. Returns `false` if there is more: a pong for which there was no room.
    #[inline]
    pub(super) fn record_flush(&mut self) -> bool {
        let Some(payload) = self.unanswered.take() else {
            self.answer_waits = false;
            return true;
        };
        self.push(FIN | PONG, payload, false);
        false
    }

    /// Returns whether [`next`](Self::next) has nothing to do before more bytes have come, if its input is empty.
    #[inline]
    pub(super) fn is_between_frames(&self) -> bool {
        matches!(self.reading, Reading::Header)
    }

    /// Takes frames from `input` up to the next message. The answer to a ping is queued before the ping is returned.
    /// `budget` is the number of frames that may be taken without a message.
    pub(super) fn next(&mut self, input: &mut BytesMut, budget: &mut usize) -> Result<Step, Failure> {
        loop {
            let step = match self.reading {
                Reading::Header => {
                    if input.is_empty() {
                        return Ok(Step::Starved);
                    }
                    if *budget == 0 {
                        return Ok(Step::Spent);
                    }
                    *budget -= 1;
                    self.take_frame(input, false)
                }
                Reading::Payload(payload) if payload.is_complete() => {
                    self.reading = Reading::Header;
                    if payload.is_final { self.message.end().map(Some) } else { Ok(None) }
                }
                Reading::Payload(ref mut payload) => {
                    if input.is_empty() {
                        return Ok(Step::Starved);
                    }
                    self.message.take(input, payload, self.limits.message).map(|()| None)
                }
                Reading::Over => {
                    input.clear();
                    return Ok(Step::Starved);
                }
            };
            match step {
                Ok(None) => {}
                Ok(Some(step)) => return Ok(step),
                Err(failure) => return Err(self.fail(failure)),
            }
        }
    }

    /// Takes the beginning of a message that [`next`](Self::next) has left in `input`, because no more bytes come for
    /// now.
    pub(super) fn keep(&mut self, input: &mut BytesMut) -> Result<(), Failure> {
        let kept = self.take_frame(input, true).and_then(|_| match &mut self.reading {
            Reading::Payload(payload) => self.message.take(input, payload, self.limits.message),
            Reading::Header | Reading::Over => Ok(()),
        });
        kept.map_err(|failure| self.fail(failure))
    }

    fn fail(&mut self, failure: Failure) -> Failure {
        self.reading = Reading::Over;
        failure
    }

    /// Returns the memory into which the next bytes should be read, if much of a payload is missing. Call it when
    /// [`next`](Self::next) is starved, and [`filled`](Self::filled) afterwards.
    #[inline]
    pub(super) fn direct(&mut self) -> Option<Limit<&mut Vec<u8>>> {
        let Reading::Payload(payload) = &self.reading else { return None };
        self.message.direct(payload, self.limits.message)
    }

    /// Takes `len` bytes that were read into the memory of [`direct`](Self::direct).
    pub(super) fn filled(&mut self, len: usize) -> Result<(), Failure> {
        let Reading::Payload(payload) = &mut self.reading else { return Ok(()) };
        self.message.received(payload, len).inspect_err(|_| self.reading = Reading::Over)
    }

    /// Takes the frame that begins in `input`, or as much of it as there is. The beginning of a small message stays
    /// there, unless it `must` be taken.
    #[inline]
    fn take_frame(&mut self, input: &mut BytesMut, must: bool) -> Result<Option<Step>, Failure> {
        let header = if self.cut.is_empty() { Header::parse(input) } else { self.continue_cut(input) };
        let Some(header) = header else {
            self.cut.extend_from_slice(input);
            input.clear();
            return Ok(None);
        };
        self.check(&header)?;
        // The checks have bounded it.
        let len = header.len as usize;
        if header.is_control() {
            return self.take_control(&header, len, input);
        }
        // A header that was cut has been taken out of the input byte by byte, so nothing of it is left to skip.
        let skip = if mem::take(&mut self.cut).is_empty() { header.size } else { 0 };
        let is_compressed = header.first & RSV1 != 0;
        if header.opcode() != CONTINUATION {
            if header.is_final() && skip + len <= input.len() {
                if let Some(mask) = header.mask {
                    apply_mask(&mut input[skip..skip + len], mask, 0);
                }
                return whole(header.opcode(), is_compressed, take(input, skip, len)).map(Some);
            }
            // A message within one read is made in the buffer; one that is cut would need a `Vec`. A header that was
            // cut (`skip` is 0) has left the buffer already.
            if header.is_final() && skip > 0 && skip + len <= ROOM && !must {
                return Ok(Some(Step::Starved));
            }
            self.message.begin(header.opcode(), is_compressed);
        }
        input.advance(skip);
        self.message.begin_fragment();
        self.reading = Reading::Payload(Payload::new(len, header.mask, header.is_final()));
        Ok(None)
    }

    /// Appends to the cut frame what its header needs. Returns the header once it is complete.
    fn continue_cut(&mut self, input: &mut BytesMut) -> Option<Header> {
        loop {
            let header = Header::parse(&self.cut);
            if header.is_some() || input.is_empty() {
                return header;
            }
            // A header has at most 14 bytes, so one at a time is enough.
            self.cut.push(input[0]);
            input.advance(1);
        }
    }

    fn take_control(&mut self, header: &Header, len: usize, input: &mut BytesMut) -> Result<Option<Step>, Failure> {
        let end = header.size + len;
        let unmask = |payload: &mut [u8]| header.mask.into_iter().for_each(|mask| apply_mask(payload, mask, 0));
        let payload = if self.cut.is_empty() && end <= input.len() {
            unmask(&mut input[header.size..end]);
            take(input, header.size, len)
        } else {
            let here = input.len().min(end - self.cut.len());
            self.cut.extend_from_slice(&input[..here]);
            input.advance(here);
            if self.cut.len() < end {
                return Ok(None);
            }
            let mut frame = mem::take(&mut self.cut);
            unmask(&mut frame[header.size..]);
            Bytes::from(frame).slice(header.size..)
        };
        let message = match header.opcode() {
            CLOSE => {
                self.reading = Reading::Over;
                Message::Close(close_frame(&payload)?)
            }
            PING => {
                self.answer(payload.clone());
                Message::Ping(payload)
            }
            _ => Message::Pong(payload),
        };
        Ok(Some(Step::Message(message)))
    }

    /// Checks a header against the protocol and the limits, before any memory is taken for its payload.
    #[inline]
    fn check(&self, header: &Header) -> Result<(), Failure> {
        let opcode = header.opcode();
        if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
            return Err(violation(format_args!("invalid opcode {opcode}")));
        }
        let is_control = header.is_control();
        let Limits { message, frame, fragments, .. } = self.limits;
        // Before fragments are added up: with a length of nearly 2^64, the sum below would overflow.
        if !is_control && header.len > frame.min(message) as u64 {
            return Err(match frame < message {
                true => over_limit("incoming frame of a", header.len, frame, "frame"),
                false => over_limit("incoming", header.len, message, "message"),
            });
        }
        if is_control && header.len > MAX_CONTROL as u64 {
            return Err(violation("a control frame is over 125 bytes"));
        }
        if header.mask.is_some() == self.is_client {
            return Err(violation(match self.is_client {
                true => "a server must not mask its frames",
                false => "a client must mask its frames",
            }));
        }
        let is_marked = header.first & RSV == RSV1 && self.has_rsv1 && matches!(opcode, TEXT | BINARY);
        if header.first & RSV != 0 && !is_marked {
            return Err(violation("reserved bits are set"));
        }
        if is_control {
            return if header.is_final() { Ok(()) } else { Err(violation("a control frame is fragmented")) };
        }
        match (opcode == CONTINUATION, self.message.has_begun()) {
            (false, false) => Ok(()),
            (true, false) => Err(violation("a continuation of no message")),
            (false, true) => Err(violation("a message begins within a fragmented message")),
            (true, true) => {
                let size = self.message.len() as u64 + header.len;
                if size > message as u64 {
                    return Err(over_limit("incoming", size, message, "message"));
                }
                if self.message.fragments() >= fragments {
                    let error = Error::too_large(format!(
                        "an incoming message is in more than {fragments} fragments; raise `Limits::fragments`"
                    ));
                    return Err(Failure(error, Some(CloseCode::TOO_BIG)));
                }
                Ok(())
            }
        }
    }

    fn answer(&mut self, payload: Bytes) {
        // After a close frame, nothing may be sent.
        if self.is_closed {
            return;
        }
        self.answer_waits = true;
        // A peer that pings and does not read would fill the memory with pongs. The newest one answers all.
        if self.writer.len() > self.limits.write_buffer {
            self.unanswered = Some(payload);
        } else {
            self.push(FIN | PONG, payload, false);
        }
    }

    /// Queues one message, in as many frames as the limit requires. If an extension has compressed it, its payload is
    /// `compressed`. `is_vectored` tells whether the socket writes several slices at once.
    pub(super) fn send(&mut self, message: Message, compressed: Option<Bytes>, is_vectored: bool) -> Result<(), Error> {
        let (opcode, payload) = match message {
            Message::Text(text) => (TEXT, text.into_bytes()),
            Message::Binary(bytes) => (BINARY, bytes),
            Message::Ping(bytes) => return self.send_control(PING, bytes),
            Message::Pong(bytes) => return self.send_control(PONG, bytes),
            Message::Close(frame) => {
                self.close(frame);
                return Ok(());
            }
        };
        if payload.len() > self.limits.message {
            // A peer with the same limits would close the connection. Here, only this message fails.
            let (size, limit) = (payload.len(), self.limits.message);
            return Err(over_limit("outgoing", size as u64, limit, "message").0.into_rejection());
        }
        match compressed {
            Some(compressed) => self.send_data(RSV1 | opcode, compressed, is_vectored),
            None => self.send_data(opcode, payload, is_vectored),
        }
        Ok(())
    }

    /// Queues a data message. `first` is its opcode, with the bit RSV1 if an extension marks it.
    #[inline]
    fn send_data(&mut self, mut first: u8, mut payload: Bytes, is_vectored: bool) {
        let frame = self.limits.frame.max(1);
        while payload.len() > frame {
            let part = payload.split_to(frame);
            self.push(first, part, is_vectored);
            first = CONTINUATION;
        }
        self.push(FIN | first, payload, is_vectored);
    }

    fn send_control(&mut self, opcode: u8, payload: Bytes) -> Result<(), Error> {
        if payload.len() > MAX_CONTROL {
            return Err(Error::too_large(format!(
                "an outgoing ping or pong of {} bytes is over the {MAX_CONTROL} that RFC 6455 allows, and was not sent",
                payload.len()
            ))
            .into_rejection());
        }
        self.push(FIN | opcode, payload, false);
        Ok(())
    }

    /// Queues a close frame after everything else. A second call has no effect.
    pub(super) fn close(&mut self, frame: Option<CloseFrame>) {
        if self.is_closed {
            return;
        }
        if let Some(payload) = self.unanswered.take() {
            self.push(FIN | PONG, payload, false);
        }
        let payload = frame.map(|frame| [&frame.code().get().to_be_bytes(), frame.reason().as_bytes()].concat());
        self.push(FIN | CLOSE, payload.unwrap_or_default().into(), false);
        (self.is_closed, self.answer_waits) = (true, true);
    }

    #[inline]
    fn push(&mut self, first: u8, payload: Bytes, is_vectored: bool) {
        // RFC 6455, section 10.3: a new, unpredictable mask for each frame.
        let mask = self.is_client.then(|| rand::random::<u32>().to_ne_bytes());
        self.writer.push_frame(first, payload, mask, is_vectored);
    }
}

/// Makes a message of a frame that was there as a whole.
#[inline]
fn whole(opcode: u8, is_compressed: bool, payload: Bytes) -> Result<Step, Failure> {
    let is_text = opcode == TEXT;
    Ok(match (is_compressed, is_text) {
        (true, is_text) => Step::Compressed { is_text, payload },
        (false, true) => Step::Message(Message::Text(payload.try_into().map_err(|_| not_utf8())?)),
        (false, false) => Step::Message(Message::Binary(payload)),
    })
}

fn close_frame(payload: &[u8]) -> Result<Option<CloseFrame>, Failure> {
    if payload.is_empty() {
        return Ok(None);
    }
    let Some((code, reason)) = payload.split_first_chunk() else {
        return Err(violation("a close frame with half a code"));
    };
    let number = u16::from_be_bytes(*code);
    let reason = str::from_utf8(reason).map_err(|_| not_utf8())?;
    let Some(code) = CloseCode::new(number) else {
        let error = Error::protocol(format!("the peer closed with code {number}, which must not be sent"));
        return Err(Failure(error, Some(CloseCode::PROTOCOL)));
    };
    Ok(Some(CloseFrame::new(code, reason)))
}

#[cold]
pub(super) fn violation(what: impl fmt::Display) -> Failure {
    let error = Error::protocol(format!("the peer violated the WebSocket protocol: {what}"));
    Failure(error, Some(CloseCode::PROTOCOL))
}

#[cold]
pub(super) fn not_utf8() -> Failure {
    Failure(Error::protocol("the peer sent text that is not UTF-8"), Some(CloseCode::INVALID_PAYLOAD))
}

#[cold]
pub(super) fn over_limit(what: &str, size: u64, limit: usize, setting: &str) -> Failure {
    let error = Error::too_large(format!(
        "an {what} message of {size} bytes is over the limit of {limit} bytes; raise `Limits::{setting}`, or send \
         less at once"
    ));
    Failure(error, Some(CloseCode::TOO_BIG))
}
