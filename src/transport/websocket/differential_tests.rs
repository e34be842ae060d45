//! Feeds the same bytes to our engine and to tungstenite. Both must yield the same messages, and end alike, however the
//! bytes are cut. The differences, all on purpose:
//!
//! | input | tungstenite | ours | because |
//! |---|---|---|---|
//! | a fault in a frame that does not come to its end | waits for the end of the frame | fails at the faulty byte | RFC 6455, section 8.1; Autobahn 6.4 |
//! | a ping, pong or close frame over the limit of data frames | 1009 | 1002 | control frames have a limit of their own |
//! | a close code that may be sent, and is not on tungstenite's list (1014) | replaced | as sent | the peer sent it |
//! | a close code that may not be sent | replaced by a code that the peer did not send | an error, 1002 | the same |

use std::{
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use proptest::prelude::*;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::{
    Role, WebSocketConfig, WebSocketContext, frame::coding::CloseCode as TheirCode,
};

use super::{
    engine::Engine,
    frame_loop::Failure,
    tungstenite::{end, from_theirs},
};
use crate::{CloseCode, CloseFrame, Limits, Message};

/// Around the sizes of our buffers.
const LARGE: usize = 64 * 1024;
const FRAME: usize = 3 * LARGE;
const MESSAGE: usize = 4 * LARGE;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const PING: u8 = 9;
const FIN: u8 = 0x80;

/// The form in which a frame is written, valid or not.
#[derive(Clone, Debug)]
struct Frame {
    first: u8,
    size: usize,
    /// Whether the mask contradicts the peer's role.
    is_wrongly_masked: bool,
    /// The position of a byte that is not UTF-8.
    flaw: Option<usize>,
    /// The first bytes of the payload, if it is as long.
    start: [u8; 2],
}

impl Frame {
    fn write(&self, is_from_client: bool, out: &mut Vec<u8>) {
        let masked = is_from_client != self.is_wrongly_masked;
        let flag = if masked { 0x80 } else { 0 };
        out.push(self.first);
        match self.size {
            0..126 => out.push(flag | self.size as u8),
            126..0x1_0000 => {
                out.push(flag | 126);
                out.extend((self.size as u16).to_be_bytes());
            }
            _ => {
                out.push(flag | 127);
                out.extend((self.size as u64).to_be_bytes());
            }
        }
        let mask = if masked { [1, 77, 200, 34] } else { [0; 4] };
        if masked {
            out.extend(mask);
        }
        let start = out.len();
        out.extend((0..self.size).map(|i| b'a' + (i % 23) as u8));
        if self.first & 0x0f == 8 && self.size > 1 {
            out[start..start + 2].copy_from_slice(&self.start);
        }
        if let Some(flaw) = self.flaw.filter(|_| self.size > 0) {
            out[start + flaw % self.size] = 0xff;
        }
        out[start..].iter_mut().enumerate().for_each(|(i, byte)| *byte ^= mask[i % 4]);
    }
}

fn right(first: u8, size: usize) -> Frame {
    Frame { first, size, is_wrongly_masked: false, flaw: None, start: [3, 232] }
}

fn sizes() -> impl Strategy<Value = usize> {
    let (small, middle, large) = (0..300_usize, 1000..5000_usize, LARGE..FRAME);
    prop_oneof![6 => small, 2 => middle, 6 => LARGE - 2..LARGE + 3, 3 => large, 1 => FRAME - 1..FRAME + 2]
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let data = || prop_oneof![Just(TEXT), Just(BINARY)];
    let whole = (data(), sizes()).prop_map(|(kind, size)| vec![right(FIN | kind, size)]);
    let control =
        (prop_oneof![Just(PING), Just(10)], 0..126_usize).prop_map(|(kind, size)| vec![right(FIN | kind, size)]);
    let fragmented = (data(), prop::collection::vec((0..LARGE + 2, any::<bool>()), 2..4)).prop_map(|(kind, parts)| {
        let last = parts.len() - 1;
        let mut frames = Vec::new();
        for (i, (size, is_followed)) in parts.into_iter().enumerate() {
            let fin = if i == last { FIN } else { 0 };
            frames.push(right(fin | if i == 0 { kind } else { 0 }, size));
            frames.extend(is_followed.then(|| right(FIN | PING, 3)));
        }
        frames
    });
    let code = prop_oneof![995..1020_u16, 2990..3010_u16, 4990..5010_u16, any::<u16>()];
    let close =
        (0..126_usize, code).prop_map(|(size, code)| vec![Frame { start: code.to_be_bytes(), ..right(FIN | 8, size) }]);
    let unfinished = (data(), 0..LARGE + 2).prop_map(|(kind, size)| vec![right(kind, size)]);
    // Like a large frame, except for one bit of the first byte, or the mask.
    let odd = (data(), 0..8_u32, any::<bool>(), LARGE..FRAME).prop_map(|(kind, bit, is_wrongly_masked, size)| {
        let first = if is_wrongly_masked { FIN | kind } else { (FIN | kind) ^ (1 << bit) };
        vec![Frame { is_wrongly_masked, ..right(first, size) }]
    });
    let wild = (any::<u8>(), sizes(), any::<bool>(), any::<Option<usize>>()).prop_map(
        |(first, size, is_wrongly_masked, flaw)| vec![Frame { is_wrongly_masked, flaw, ..right(first, size) }],
    );
    let flawed = (data(), sizes(), any::<usize>())
        .prop_map(|(kind, size, flaw)| vec![Frame { flaw: Some(flaw), ..right(FIN | kind, size) }]);
    let rare = prop_oneof![1 => unfinished, 1 => close, 2 => odd, 1 => wild, 1 => flawed];
    let part = prop_oneof![12 => whole, 4 => control, 4 => fragmented, 6 => rare];
    prop::collection::vec(part, 1..8).prop_map(|parts| parts.concat())
}

/// Yields the bytes in pieces, and is pending between them.
struct Cut {
    bytes: Bytes,
    pieces: std::iter::Cycle<std::vec::IntoIter<usize>>,
    has_given: bool,
}

impl AsyncRead for Cut {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.has_given = !self.has_given;
        if !self.has_given {
            return Poll::Pending;
        }
        let piece = self.pieces.next().unwrap_or(1);
        let len = piece.min(self.bytes.len()).min(out.remaining());
        out.put_slice(&self.bytes.split_to(len));
        Poll::Ready(Ok(()))
    }
}

/// Yields all bytes at once and discards written bytes.
struct Whole(Bytes);

impl Read for Whole {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = out.len().min(self.0.len());
        self.0.copy_to_slice(&mut out[..len]);
        Ok(len)
    }
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, PartialEq)]
enum End {
    Closed,
    /// The bytes ended too early.
    Vanished,
    Fault(CloseCode),
    /// A control frame over 125 bytes.
    LongControl,
}

type Outcome = (Vec<Message>, End);

fn by_tungstenite(is_client: bool, limits: Limits, bytes: Bytes) -> Outcome {
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits.message))
        .max_frame_size(Some(limits.frame.min(limits.message)));
    let role = if is_client { Role::Client } else { Role::Server };
    let mut context = WebSocketContext::new(role, Some(config));
    let mut wire = Whole(bytes);
    let mut messages = Vec::new();
    loop {
        match context.read(&mut wire) {
            Ok(message) => messages.extend(from_theirs(message)),
            Err(error) => {
                let end = match end(error) {
                    None => End::Closed,
                    Some(Failure(_, None)) => End::Vanished,
                    Some(Failure(_, Some(code))) => End::Fault(code),
                };
                return (messages, end);
            }
        }
        if messages.last().is_some_and(Message::is_close) {
            return (messages, End::Closed);
        }
    }
}

fn by_us(is_client: bool, limits: Limits, mut bytes: Bytes, leftover: usize, pieces: Vec<usize>) -> Outcome {
    let leftover = bytes.split_to(leftover.min(bytes.len()));
    let mut engine = Engine::new(is_client, limits, &leftover);
    let mut io = Cut { bytes, pieces: pieces.into_iter().cycle(), has_given: false };
    let mut messages = Vec::new();
    let replaced = || Message::Close(Some(CloseFrame::new(CloseCode::PROTOCOL, "Protocol violation")));
    loop {
        match engine.poll_read(Pin::new(&mut io), &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(Message::Close(frame))) => {
                let is_on_their_list =
                    frame.as_ref().is_none_or(|frame| TheirCode::from(frame.code().get()).is_allowed());
                messages.push(if is_on_their_list { Message::Close(frame) } else { replaced() });
                return (messages, End::Closed);
            }
            Poll::Ready(Ok(message)) => messages.push(message),
            Poll::Ready(Err(Failure(error, code))) => {
                let end = match code {
                    None => End::Vanished,
                    Some(_) if error.to_string().contains("must not be sent") => {
                        messages.push(replaced());
                        End::Closed
                    }
                    Some(_) if error.to_string().contains("a control frame is over 125 bytes") => End::LongControl,
                    Some(code) => End::Fault(code),
                };
                return (messages, end);
            }
            Poll::Pending => {}
        }
    }
}

proptest! {
    #[test]
    fn the_engine_yields_what_tungstenite_does(
        frames in frames(),
        is_client in any::<bool>(),
        // Occasionally the end comes early, or the following bytes are not a frame.
        lost in prop_oneof![3 => Just(0), 1 => 0..2 * LARGE],
        noise in prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(any::<u8>(), 0..40)],
        message in prop_oneof![3 => Just(MESSAGE), 1 => Just(2 * LARGE)],
        leftover in prop_oneof![2 => Just(0), 1 => 0..5000_usize, 1 => 0..2 * LARGE],
        mut pieces in prop::collection::vec(prop_oneof![1..20_usize, 4000..4200_usize, 1..FRAME], 0..6),
    ) {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.write(!is_client, &mut bytes));
        bytes.truncate(bytes.len().saturating_sub(lost));
        bytes.extend(noise);
        // Few pieces of one byte among that number of bytes.
        pieces.push(LARGE);
        let bytes = Bytes::from(bytes);
        let limits = Limits::new().frame(FRAME).message(message);
        let (messages, end) = by_us(is_client, limits, bytes.clone(), leftover, pieces);
        let (expected, expected_end) = by_tungstenite(is_client, limits, bytes);
        prop_assert_eq!(messages.len(), expected.len(), "{:?} {:?}", end, expected_end);
        prop_assert!(messages == expected, "messages differ");
        match (end, expected_end) {
            (End::LongControl, End::Fault(CloseCode::PROTOCOL | CloseCode::TOO_BIG)) => {}
            (End::Fault(_) | End::LongControl, End::Vanished) => {}
            (end, expected) => prop_assert_eq!(end, expected),
        }
    }
}
