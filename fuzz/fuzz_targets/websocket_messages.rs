//! The lowest bit of the first byte chooses the role, the second how much one read gives; the rest is what the peer
//! sends. Whatever it is: the messages of tungstenite, and its verdict, except for the differences that
//! `src/transport/websocket/differential_tests.rs` lists.
#![no_main]

use std::{
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll},
};

use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_transport::{Error, Limits, Message, TransportExt, transport::websocket::WebSocket};
use tungstenite::{
    Error as WsError, Message as WsMessage,
    protocol::{Role, WebSocketConfig, WebSocketContext, frame::coding::CloseCode as TheirCode},
};

const MESSAGE: usize = 64 * 1024;

/// Returns its bytes in reads of a fixed size, and discards writes.
struct Peer<'a> {
    bytes: &'a [u8],
    piece: usize,
}

impl AsyncRead for Peer<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (now, later) = self.bytes.split_at(self.bytes.len().min(self.piece).min(buf.remaining()));
        buf.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Returns all its bytes at once, and discards writes.
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
    /// Code and reason, `None` where tungstenite replaces them.
    Close(Option<(u16, String)>),
    ReplacedClose,
    Vanished,
    TooLarge,
    Violation,
}

fn of_ours(message: Result<Message, Error>) -> Seen {
    match message {
        Ok(Message::Text(text)) => Seen::Text(text.as_bytes().to_vec()),
        Ok(Message::Binary(bytes)) => Seen::Binary(bytes.to_vec()),
        Ok(Message::Ping(bytes)) => Seen::Ping(bytes.to_vec()),
        Ok(Message::Pong(bytes)) => Seen::Pong(bytes.to_vec()),
        Ok(Message::Close(Some(frame))) if !TheirCode::from(frame.code().get()).is_allowed() => Seen::ReplacedClose,
        Ok(Message::Close(frame)) => {
            Seen::Close(frame.map(|frame| (frame.code().get(), frame.reason().to_owned())))
        }
        Err(error) if error.to_string().contains("must not be sent") => Seen::ReplacedClose,
        Err(error) if error.is_too_large() => Seen::TooLarge,
        Err(error) if error.is_protocol() => Seen::Violation,
        Err(error) => {
            assert!(error.is_closed(), "{error}");
            Seen::Vanished
        }
    }
}

fn of_theirs(message: Result<WsMessage, WsError>) -> Seen {
    match message {
        Ok(WsMessage::Text(text)) => Seen::Text(text.as_bytes().to_vec()),
        Ok(WsMessage::Binary(bytes)) => Seen::Binary(bytes.to_vec()),
        Ok(WsMessage::Ping(bytes)) => Seen::Ping(bytes.to_vec()),
        Ok(WsMessage::Pong(bytes)) => Seen::Pong(bytes.to_vec()),
        Ok(WsMessage::Close(frame)) => match frame {
            Some(frame) if frame.code == TheirCode::Protocol && frame.reason == "Protocol violation" => {
                Seen::ReplacedClose
            }
            frame => Seen::Close(frame.map(|frame| (frame.code.into(), frame.reason.to_string()))),
        },
        Ok(WsMessage::Frame(_)) => unreachable!("raw frames are only written"),
        Err(WsError::Capacity(_)) => Seen::TooLarge,
        Err(WsError::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => Seen::Vanished,
        Err(WsError::Protocol(_) | WsError::Utf8(_)) => Seen::Violation,
        Err(error) => panic!("{error}"),
    }
}

fn is_end(seen: &Seen) -> bool {
    matches!(seen, Seen::Close(_) | Seen::ReplacedClose | Seen::Vanished | Seen::TooLarge | Seen::Violation)
}

fuzz_target!(|input: &[u8]| {
    let [role, piece, bytes @ ..] = input else { return };
    let is_server = role & 1 == 0;
    let peer = Peer { bytes, piece: usize::from(*piece).max(1).pow(2) };
    let limits = Limits::new().message(MESSAGE).frame(MESSAGE).fragments(usize::MAX);
    let mut websocket = if is_server { WebSocket::server(peer, limits) } else { WebSocket::client(peer, limits) };
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE)).max_frame_size(Some(MESSAGE));
    let mut reference =
        WebSocketContext::new(if is_server { Role::Server } else { Role::Client }, Some(config));
    let mut whole = Whole(bytes);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        loop {
            let message = websocket.receive_message().await.expect("an end is told");
            if let Ok(message) = &message {
                assert!(message.len() <= MESSAGE);
            }
            let is_long_control =
                message.as_ref().is_err_and(|error| error.to_string().contains("a control frame is over 125 bytes"));
            let (ours, theirs) = (of_ours(message), of_theirs(reference.read(&mut whole)));
            match (&ours, &theirs) {
                // We do not wait for the end of a frame that is wrong.
                (Seen::Violation | Seen::TooLarge, Seen::Vanished) => {}
                (Seen::Violation, Seen::TooLarge) if is_long_control => {}
                _ => assert_eq!(ours, theirs),
            }
            if is_end(&ours) {
                break;
            }
        }
        assert!(websocket.receive_message().await.is_none(), "the end is the end");
        assert!(websocket.receive_message().await.is_none(), "and stays it");
    });
});
