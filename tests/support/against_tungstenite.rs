//! Feeds the same bytes to our WebSocket and to tungstenite. Both must yield the same messages, and end alike, however
//! the bytes are cut. The differences, all on purpose:
//!
//! | input | tungstenite | ours | because |
//! |---|---|---|---|
//! | a fault in a frame that does not come to its end | waits for the end of the frame | fails at the faulty byte | RFC 6455, section 8.1; Autobahn 6.4 |
//! | a ping, pong or close frame over the limit of data frames | 1009 | 1002 | control frames have a limit of their own |
//! | a close code that may be sent, and is not on tungstenite's list (1014) | replaced | as sent | the peer sent it |
//! | a close code that may not be sent | replaced by a code that the peer did not send | an error, 1002 | the same |
//!
//! The property tests of `tests/net/websocket/differential.rs` and the fuzz target `websocket_messages` use it.

use std::{
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_transport::{Error, Limits, Message, TransportExt, transport::websocket::WebSocket};
use tungstenite::{
    Error as WsError, Message as WsMessage,
    error::ProtocolError,
    protocol::{Role, WebSocketConfig, WebSocketContext, frame::coding::CloseCode as TheirCode},
};

/// A peer that sends bytes in pieces, and discards what it receives.
#[derive(Debug)]
pub struct Peer<'a> {
    bytes: &'a [u8],
    pieces: &'a [usize],
    reads: usize,
    waits: bool,
    is_waiting: bool,
}

impl<'a> Peer<'a> {
    /// Creates a peer whose pieces have these sizes, again and again. With `waits`, a read waits before each piece.
    pub fn new(bytes: &'a [u8], pieces: &'a [usize], waits: bool) -> Self {
        Self { bytes, pieces, reads: 0, waits, is_waiting: false }
    }
}

impl AsyncRead for Peer<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.is_waiting = self.waits && !self.is_waiting;
        if self.is_waiting {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let piece = self.pieces[self.reads % self.pieces.len()].max(1);
        self.reads += 1;
        let (now, later) = self.bytes.split_at(piece.min(self.bytes.len()).min(out.remaining()));
        out.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Yields all bytes at once, and discards what is written.
struct Whole<'a>(&'a [u8]);

impl Read for Whole<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl Write for Whole<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, PartialEq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// Code and reason.
    Close(Option<(u16, String)>),
    /// A close frame whose code tungstenite replaces.
    ReplacedClose,
    /// The bytes ended too early.
    Vanished,
    /// 1009
    TooLarge,
    /// 1007
    NotUtf8,
    /// 1002
    Violation,
    /// The same, by a control frame over 125 bytes.
    LongControl,
}

impl Seen {
    fn by_us(message: Result<Message, Error>) -> Self {
        let error = match message {
            Ok(Message::Text(text)) => return Self::Text(text.as_bytes().to_vec()),
            Ok(Message::Binary(bytes)) => return Self::Binary(bytes.to_vec()),
            Ok(Message::Ping(bytes)) => return Self::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => return Self::Pong(bytes.to_vec()),
            Ok(Message::Close(Some(frame))) if !TheirCode::from(frame.code().get()).is_allowed() => {
                return Self::ReplacedClose;
            }
            Ok(Message::Close(frame)) => {
                return Self::Close(frame.map(|frame| (frame.code().get(), frame.reason().to_owned())));
            }
            Err(error) => error,
        };
        let says = |what| error.to_string().contains(what);
        match () {
            () if says("must not be sent") => Self::ReplacedClose,
            () if says("a control frame is over 125 bytes") => Self::LongControl,
            () if says("not UTF-8") => Self::NotUtf8,
            () if error.is_too_large() => Self::TooLarge,
            () if error.is_protocol() => Self::Violation,
            () => {
                assert!(error.is_closed(), "{error}");
                Self::Vanished
            }
        }
    }

    fn by_them(message: Result<WsMessage, WsError>) -> Self {
        match message {
            Ok(WsMessage::Text(text)) => Self::Text(text.as_bytes().to_vec()),
            Ok(WsMessage::Binary(bytes)) => Self::Binary(bytes.to_vec()),
            Ok(WsMessage::Ping(bytes)) => Self::Ping(bytes.to_vec()),
            Ok(WsMessage::Pong(bytes)) => Self::Pong(bytes.to_vec()),
            Ok(WsMessage::Close(Some(frame)))
                if frame.code == TheirCode::Protocol && frame.reason == "Protocol violation" =>
            {
                Self::ReplacedClose
            }
            Ok(WsMessage::Close(frame)) => {
                Self::Close(frame.map(|frame| (frame.code.into(), frame.reason.to_string())))
            }
            Ok(WsMessage::Frame(_)) => unreachable!("raw frames are only written"),
            Err(WsError::Capacity(_)) => Self::TooLarge,
            Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Self::Vanished,
            Err(WsError::Utf8(_)) => Self::NotUtf8,
            Err(WsError::Protocol(_)) => Self::Violation,
            Err(error) => panic!("{error}"),
        }
    }

    fn is_end(&self) -> bool {
        !matches!(self, Self::Text(_) | Self::Binary(_) | Self::Ping(_) | Self::Pong(_))
    }

    fn agrees_with(&self, theirs: &Self) -> bool {
        match (self, theirs) {
            (Self::Violation | Self::LongControl | Self::NotUtf8 | Self::TooLarge, Self::Vanished)
            | (Self::LongControl, Self::Violation | Self::TooLarge) => true,
            _ => self == theirs,
        }
    }
}

/// Compares the two readers of one end. `early` is the number of bytes that came with the handshake.
///
/// # Panics
///
/// Panics if they differ. It needs a runtime with timers.
pub async fn compare(is_client: bool, limits: Limits, bytes: &[u8], early: usize, pieces: &[usize], waits: bool) {
    let (early, rest) = bytes.split_at(early.min(bytes.len()));
    let (peer, early) = (Peer::new(rest, pieces, waits), early.to_vec());
    let mut ours = match is_client {
        true => WebSocket::client_from_partially_read(peer, early, limits),
        false => WebSocket::server_from_partially_read(peer, early, limits),
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits.message))
        .max_frame_size(Some(limits.frame.min(limits.message)));
    let mut theirs = WebSocketContext::new(if is_client { Role::Client } else { Role::Server }, Some(config));
    let mut whole = Whole(bytes);
    loop {
        let ours = Seen::by_us(ours.receive_message().await.expect("an end is told"));
        let theirs = Seen::by_them(theirs.read(&mut whole));
        assert!(ours.agrees_with(&theirs), "ours: {ours:?}, theirs: {theirs:?}");
        if ours.is_end() {
            break;
        }
    }
    assert!(ours.receive_message().await.is_none(), "the end is the end");
    assert!(ours.receive_message().await.is_none(), "and stays it");
}
