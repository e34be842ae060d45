//! The RFC 6455 engine: tungstenite's state machine between our two buffers. tungstenite's types are used only in this
//! file, so that another engine can replace it.

use std::{
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tungstenite::{
    Error as WsError, Message as WsMessage,
    error::{CapacityError, ProtocolError},
    protocol::{
        CloseFrame as WsCloseFrame, Role, WebSocketConfig, WebSocketContext,
        frame::coding::{Control, Data, OpCode},
    },
};

use super::{frames::MAX_CONTROL, incoming::Incoming, write_buffer::WriteBuffer};
use crate::{CloseCode, CloseFrame, Error, Limits, Message, Text};

/// The number of bytes that tungstenite zero-fills before each read, and that an idle connection holds:
/// `docs/benchmarks.md` has the price of more. Large messages bypass the engine, see [`Incoming`].
const READ_BUFFER: usize = 1024;

/// The maximum number of pongs that wait in the engine while the write buffer is full. Beyond that, only the newest
/// ping is answered (RFC 6455, section 5.5.3).
const WAITING_PONGS: usize = 512;

/// The maximum number of reads that one poll discards, so that a peer that keeps sending does not block the thread.
const DISCARDS: usize = 64;

/// The maximum number of frames that the engine takes in one poll before it lets other tasks run. Most frames are
/// messages, and end the poll. This limits those that yield none, such as empty fragments. The engine is given 1 KiB at
/// a time, so it may take 512 frames more.
const FRAMES: u32 = 512;

#[derive(Debug)]
pub(super) struct Engine {
    context: WebSocketContext,
    reader: Incoming,
    writer: WriteBuffer,
    is_client: bool,
    limits: Limits,
    /// Whether a pong or a close waits in the write buffer. It must be sent even if the user never flushes.
    answer_waits: bool,
    /// Whether a pong waits in the engine for room in the write buffer.
    is_held: bool,
}

/// The reason why reading ended.
#[derive(Debug)]
pub(super) enum ReadEnd {
    /// The closing handshake is complete.
    Closed,
    /// The connection failed. The code is for the peer, if the peer is at fault.
    Failed(Error, Option<CloseCode>),
}

impl Engine {
    pub(super) fn new(is_client: bool, limits: Limits, leftover: Bytes) -> Self {
        let frame = limits.frame.min(limits.message);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(WAITING_PONGS)
            .max_message_size(Some(limits.message))
            // The engine applies this to control frames too. A smaller limit is applied to data before the engine sees
            // it.
            .max_frame_size(Some(frame.max(MAX_CONTROL)));
        let role = if is_client { Role::Client } else { Role::Server };
        Self {
            context: WebSocketContext::new(role, Some(config)),
            reader: Incoming::new(leftover, is_client, frame),
            writer: WriteBuffer::default(),
            is_client,
            limits,
            answer_waits: false,
            is_held: false,
        }
    }

    /// Returns whether an answer to the peer waits to be written.
    pub(super) fn answer_waits(&self) -> bool {
        self.answer_waits
    }

    /// Returns the number of bytes that wait to be written.
    pub(super) fn unwritten(&self) -> usize {
        self.writer.len()
    }

    /// Reads one message. The answer to a ping or a close goes into the write buffer immediately.
    pub(super) fn poll_read<S>(&mut self, io: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<Result<Message, ReadEnd>>
    where
        S: AsyncRead,
    {
        let Self { context, reader, writer, limits, is_held, .. } = self;
        *is_held = false;
        let start = reader.frames();
        let mut wire = Wire {
            reader,
            socket: Some((io, cx)),
            writer,
            room: limits.write_buffer,
            is_held,
            start,
            is_spent: false,
            is_mute: false,
        };
        let before = wire.writer.len();
        let read = match context.read(&mut wire) {
            // The engine has consumed all bytes it was given.
            Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => wire.poll_large(),
            read => Poll::Ready(read),
        };
        let mut answer = None;
        let message = match read {
            Poll::Ready(Ok(WsMessage::Close(engines))) => {
                let frame = match close_frame(wire.reader.close_payload()) {
                    Ok(frame) => frame,
                    Err(end) => return Poll::Ready(Err(end)),
                };
                // The answer is in the engine, and the flush moves it into the write buffer. If the engine does not
                // know the code, it would answer with another one: that answer is discarded and replaced by ours.
                let is_known = engines.map(|frame| frame.code.into()) == frame.as_ref().map(|frame| frame.code().get());
                (wire.room, wire.is_mute) = (usize::MAX, !is_known);
                let _ = context.flush(&mut wire);
                answer = frame.clone().filter(|_| !is_known);
                Some(Message::Close(frame))
            }
            Poll::Ready(Ok(message)) => from_engine(message),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(end(error, *limits))),
            Poll::Pending => None,
        };
        if matches!(message, Some(Message::Ping(_))) {
            // The same for the pong. An error here occurs again below.
            let _ = context.flush(&mut wire);
        }
        wire.wake_if_spent(message.is_none());
        if let Some(frame) = answer {
            let payload = [&frame.code().get().to_be_bytes(), frame.reason().as_bytes()].concat();
            self.push(OpCode::Control(Control::Close), true, payload.into());
        }
        self.answer_waits |= self.writer.len() > before;
        match message {
            Some(message) => Poll::Ready(Ok(message)),
            None => Poll::Pending,
        }
    }

    /// Reads and discards, until the peer has closed.
    pub(super) fn poll_discard<S: AsyncRead>(&mut self, mut io: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 1024];
        for _ in 0..DISCARDS {
            match ready!(self.reader.poll_skip(io.as_mut(), cx, &mut scratch)) {
                Ok(len) if len > 0 => {}
                _ => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Puts one message into the write buffer, in as many frames as the limit requires.
    pub(super) fn send(&mut self, message: Message) -> Result<(), Error> {
        let (kind, payload) = match message {
            Message::Text(text) => (Data::Text, text.into_bytes()),
            Message::Binary(bytes) => (Data::Binary, bytes),
            Message::Ping(bytes) => return self.send_control(Control::Ping, bytes),
            Message::Pong(bytes) => return self.send_control(Control::Pong, bytes),
            Message::Close(frame) => {
                self.close(frame);
                return Ok(());
            }
        };
        if payload.len() > self.limits.message {
            return Err(too_large("outgoing", payload.len(), self.limits.message, "message").into_rejection());
        }
        let frame = self.limits.frame.max(1);
        if payload.len() <= frame {
            self.push(OpCode::Data(kind), true, payload);
            return Ok(());
        }
        let mut rest = payload;
        let mut kind = kind;
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(frame));
            self.push(OpCode::Data(kind), rest.is_empty(), part);
            kind = Data::Continue;
        }
        Ok(())
    }

    fn send_control(&mut self, kind: Control, payload: Bytes) -> Result<(), Error> {
        if payload.len() > MAX_CONTROL {
            return Err(Error::too_large(format!(
                "an outgoing ping or pong of {} bytes is over the {MAX_CONTROL} that RFC 6455 allows, and was not sent",
                payload.len()
            ))
            .into_rejection());
        }
        self.push(OpCode::Control(kind), true, payload);
        Ok(())
    }

    fn push(&mut self, opcode: OpCode, is_final: bool, payload: Bytes) {
        // RFC 6455, section 10.3: a new, unpredictable mask for each frame.
        let mask = self.is_client.then(rand::random);
        self.writer.push_frame(opcode, is_final, payload, mask);
    }

    /// Puts a close frame into the write buffer, after everything else, and ends the sending. A second call has no
    /// effect.
    pub(super) fn close(&mut self, frame: Option<CloseFrame>) {
        let Self { context, reader, writer, is_held, .. } = self;
        let mut wire = Wire::to_buffer(reader, writer, is_held);
        // Without a limit and a socket, the engine cannot fail. Waiting pongs go first.
        let _ = context.flush(&mut wire);
        let _ = context.close(&mut wire, frame.map(to_engines_frame));
        self.answer_waits = true;
    }

    /// Writes until there is room for another message.
    pub(super) fn poll_room<S: AsyncWrite>(&mut self, io: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_write(io, cx, self.limits.write_buffer)
    }

    /// Writes all accepted messages, and flushes the socket.
    pub(super) fn poll_flush<S: AsyncWrite>(
        &mut self,
        mut io: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.writer.poll_write(io.as_mut(), cx, 0))?;
        if std::mem::take(&mut self.is_held) {
            let Self { context, reader, writer, is_held, .. } = self;
            let _ = context.flush(&mut Wire::to_buffer(reader, writer, is_held));
            ready!(self.writer.poll_write(io.as_mut(), cx, 0))?;
        }
        ready!(io.poll_flush(cx))?;
        self.answer_waits = false;
        Poll::Ready(Ok(()))
    }
}

/// The engine's I/O for the length of one call.
struct Wire<'a, 'cx, S> {
    reader: &'a mut Incoming,
    socket: Option<(Pin<&'a mut S>, &'a mut Context<'cx>)>,
    writer: &'a mut WriteBuffer,
    /// The size of the write buffer from which it takes no more from the engine, in bytes.
    room: usize,
    /// Whether the write buffer rejected bytes.
    is_held: &'a mut bool,
    /// The count of frames at the beginning of this call.
    start: u32,
    /// Whether the engine's frame limit for this call is reached.
    is_spent: bool,
    /// Whether the engine's output is discarded.
    is_mute: bool,
}

impl<'a> Wire<'a, '_, super::Socket> {
    /// Creates a wire without a socket and without a limit, to move the engine's remaining output into the write
    /// buffer.
    fn to_buffer(reader: &'a mut Incoming, writer: &'a mut WriteBuffer, is_held: &'a mut bool) -> Self {
        let start = reader.frames();
        Self { reader, socket: None, writer, room: usize::MAX, is_held, start, is_spent: false, is_mute: false }
    }
}

impl<S: AsyncRead> Wire<'_, '_, S> {
    /// Lets other tasks run before this one continues.
    fn wake_if_spent(&self, is_pending: bool) {
        if let Some((_, cx)) = self.socket.as_ref().filter(|_| is_pending && self.is_spent) {
            cx.waker().wake_by_ref();
        }
    }

    fn poll_large(&mut self) -> Poll<Result<WsMessage, WsError>> {
        let Some((io, cx)) = &mut self.socket else { return Poll::Pending };
        self.reader.poll_large(io.as_mut(), cx)
    }
}

impl<S: AsyncRead> Read for Wire<'_, '_, S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some((io, cx)) = &mut self.socket else { return Err(io::ErrorKind::WouldBlock.into()) };
        if self.reader.frames().wrapping_sub(self.start) >= FRAMES {
            self.is_spent = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match self.reader.poll_read(io.as_mut(), cx, buf) {
            Poll::Ready(read) => read,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S> Write for Wire<'_, '_, S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.is_mute {
            return Ok(buf.len());
        }
        if self.writer.len() > self.room {
            *self.is_held = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.writer.push(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn from_engine(message: WsMessage) -> Option<Message> {
    Some(match message {
        WsMessage::Text(text) => Message::Text(validated(text)),
        WsMessage::Binary(bytes) => Message::Binary(bytes),
        WsMessage::Ping(bytes) => Message::Ping(bytes),
        WsMessage::Pong(bytes) => Message::Pong(bytes),
        WsMessage::Close(frame) => Message::Close(frame.and_then(|frame| {
            let code = CloseCode::new(frame.code.into())?;
            Some(CloseFrame::new(code, frame.reason.as_str()))
        })),
        // Raw frames are only for writing.
        WsMessage::Frame(_) => return None,
    })
}

#[cfg(feature = "tokio-tungstenite")]
pub(super) fn to_engine(message: Message) -> Result<WsMessage, Error> {
    Ok(match message {
        Message::Text(text) => {
            let text = tungstenite::Utf8Bytes::try_from(text.into_bytes());
            WsMessage::Text(text.map_err(|error| Error::other("a text is not UTF-8").with_source(error))?)
        }
        Message::Binary(bytes) => WsMessage::Binary(bytes),
        Message::Ping(bytes) => WsMessage::Ping(bytes),
        Message::Pong(bytes) => WsMessage::Pong(bytes),
        Message::Close(frame) => WsMessage::Close(frame.map(to_engines_frame)),
    })
}

fn to_engines_frame(frame: CloseFrame) -> WsCloseFrame {
    WsCloseFrame { code: frame.code().get().into(), reason: frame.reason().into() }
}

/// Parses the peer's close frame from its bytes. If the code is not on the engine's list, the engine replaces it and
/// its reason with text that the peer never sent.
fn close_frame(payload: Option<&[u8]>) -> Result<Option<CloseFrame>, ReadEnd> {
    let Some((code, reason)) = payload.and_then(<[u8]>::split_first_chunk) else {
        return Ok(None);
    };
    let number = u16::from_be_bytes(*code);
    let Some(code) = CloseCode::new(number) else {
        let error = Error::protocol(format!("the peer closed with code {number}, which must not be sent"));
        return Err(ReadEnd::Failed(error, Some(CloseCode::PROTOCOL)));
    };
    // The engine has validated the reason.
    Ok(Some(CloseFrame::new(code, String::from_utf8_lossy(reason).into_owned())))
}

/// tungstenite has validated the text. A second pass over a megabyte would cost as much as the first (about 40 us).
fn validated(text: tungstenite::Utf8Bytes) -> Text {
    // SAFETY: `Utf8Bytes` holds only valid UTF-8.
    unsafe { Text::from_utf8_unchecked(text.into()) }
}

fn too_large(what: &str, size: usize, limit: usize, setting: &str) -> Error {
    Error::too_large(format!(
        "an {what} message of {size} bytes is over the limit of {limit} bytes; raise `Limits::{setting}`, or send \
         less at once"
    ))
}

pub(super) fn end(error: WsError, limits: Limits) -> ReadEnd {
    match error {
        WsError::ConnectionClosed | WsError::AlreadyClosed => ReadEnd::Closed,
        WsError::Io(error) => ReadEnd::Failed(error.into(), None),
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            ReadEnd::Failed(Error::closed("the peer vanished without a close frame"), None)
        }
        WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            let (what, setting) =
                if max_size < limits.message { ("incoming frame of a", "frame") } else { ("incoming", "message") };
            ReadEnd::Failed(too_large(what, size, max_size, setting), Some(CloseCode::TOO_BIG))
        }
        WsError::Utf8(_) => {
            let error = Error::protocol("the peer sent text that is not UTF-8").with_source(error);
            ReadEnd::Failed(error, Some(CloseCode::INVALID_PAYLOAD))
        }
        error => {
            let what = Error::protocol(format!("the peer violated the WebSocket protocol: {error}")).with_source(error);
            ReadEnd::Failed(what, Some(CloseCode::PROTOCOL))
        }
    }
}
