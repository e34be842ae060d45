//! A transport over `tokio_tungstenite::WebSocketStream`.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WsError, Message as WsMessage, Utf8Bytes,
        error::{CapacityError, ProtocolError},
        protocol::CloseFrame as WsCloseFrame,
    },
};

use super::{frame_loop::Failure, frames::MAX_CONTROL};
use crate::{
    CloseCode, CloseFrame, Error, Limits, Message, Text,
    transport::{
        closing::{self, Closable, Closing, Received},
        signal,
        wakers::WakerSlot,
    },
};

/// A `tokio_tungstenite::WebSocketStream` as a transport of this crate, for programs that make their connections with
/// tokio-tungstenite or with a library on top of it.
///
/// Messages, close frames and errors are converted; pings are answered and the closing handshake is completed and
/// bounded as by the crate's own [`WebSocket`](super::WebSocket). Prefer that one for new code:
///
/// | topic | here | [`WebSocket`](super::WebSocket) |
/// |---|---|---|
/// | limits of sizes | the `WebSocketConfig` of the stream | [`Limits`] |
/// | backpressure | `write_buffer_size` (128 KiB) and `max_write_buffer_size` (unlimited) | [`Limits::write_buffer`] |
/// | a message over the limit when sending | sent | rejected |
/// | [bytes that move](crate::transport::signal::moved) | reported per message | reported per read and write |
/// | an idle connection's buffers | 128 KiB | none |
///
/// A heartbeat above it may take a long message on a slow line for silence, because its parts are not reported.
///
/// ```no_run
/// # async fn connect() -> Result<(), tower_transport::BoxError> {
/// use tower_transport::{Message, TransportExt, transport::websocket::TungsteniteTransport};
///
/// let tcp = tokio::net::TcpStream::connect("localhost:3000").await?;
/// let (stream, _response) = tokio_tungstenite::client_async("ws://localhost:3000/chat", tcp).await?;
/// let mut transport = TungsteniteTransport::from(stream);
/// transport.send_message(Message::text("hello")).await?;
/// # Ok(()) }
/// ```
///
/// # Closing
///
/// As [`WebSocket`](super::WebSocket): see its table. Close codes are converted both ways. A code of the peer that must
/// not be sent arrives as tungstenite reports it: as a close frame with the code 1002.
///
/// # Errors
///
/// As [`WebSocket`](super::WebSocket). In addition, the sink returns an error for which [`is_full`](Error::is_full) and
/// [`is_rejection`](Error::is_rejection) are true if `max_write_buffer_size` is reached.
///
/// # Cancel safety
///
/// Dropping a future that reads or sends loses nothing: see [`TransportExt`](crate::TransportExt).
///
/// # Panics
///
/// Closing waits on tokio's clock and panics if the runtime's time driver is not enabled (`enable_time`).
pub struct TungsteniteTransport<S> {
    stream: WebSocketStream<S>,
    closing: Closing,
    /// The write error after which the sink cannot be used. The peer's last messages may still be read.
    write_failed: Option<Error>,
    /// Whether a pong or a close waits in tungstenite. It must be sent even if the user never flushes.
    answer_waits: bool,
    reader: WakerSlot,
    writer: WakerSlot,
}

impl<S> TungsteniteTransport<S> {
    /// Wraps a stream whose opening handshake is complete.
    #[must_use]
    pub fn new(stream: WebSocketStream<S>) -> Self {
        let closing = Closing::new(Limits::default().close);
        let (reader, writer) = Default::default();
        Self { stream, closing, write_failed: None, answer_waits: false, reader, writer }
    }

    /// Sets how long a close may take. Defaults to 10 seconds, as [`Limits::close`].
    #[must_use]
    pub fn close_within(mut self, time: Duration) -> Self {
        self.closing = Closing::new(time);
        self
    }

    /// Returns a reference to the stream of tokio-tungstenite.
    #[must_use]
    pub fn get_ref(&self) -> &WebSocketStream<S> {
        &self.stream
    }

    /// Returns a mutable reference to the stream of tokio-tungstenite. Messages that are read or sent there bypass the
    /// closing handshake.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut WebSocketStream<S> {
        &mut self.stream
    }

    /// Returns the stream of tokio-tungstenite. No message is lost.
    #[must_use]
    pub fn into_inner(self) -> WebSocketStream<S> {
        self.stream
    }

    /// Returns the close frame that the peer sent, once it has arrived.
    #[must_use]
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.closing.peer_close()
    }
}

impl<S> From<WebSocketStream<S>> for TungsteniteTransport<S> {
    fn from(stream: WebSocketStream<S>) -> Self {
        Self::new(stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TungsteniteTransport<S> {
    /// Closes the connection and waits for its end, at most the time of [`close_within`](Self::close_within). Returns
    /// the peer's close frame. Messages that still arrive are dropped.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_closed`](Error::is_closed) is true if the peer vanished, and one for which
    /// [`is_timeout`](Error::is_timeout) is true if it did not answer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the close continues with the next poll of the stream.
    pub async fn close(&mut self, frame: Option<CloseFrame>) -> Result<Option<CloseFrame>, Error> {
        closing::close(self, frame).await
    }

    fn written(&mut self, written: Poll<Result<(), WsError>>, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        if written.is_pending() {
            self.writer.register(cx);
        }
        Poll::Ready(ready!(written).map_err(|error| {
            let error = failed(error);
            self.write_failed = Some(error.clone());
            error
        }))
    }
}

/// Converts the error of a write.
fn failed(error: WsError) -> Error {
    match end(error) {
        None => Error::closed("the connection is closed"),
        Some(Failure(error, _)) => error,
    }
}

/// Converts the error of a read. An orderly end is not a failure.
fn end(error: WsError) -> Option<Failure> {
    Some(match error {
        WsError::ConnectionClosed | WsError::AlreadyClosed => return None,
        WsError::Io(error) => Failure(error.into(), None),
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            Failure(Error::closed("the peer vanished without a close frame"), None)
        }
        WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            let error = Error::too_large(format!(
                "an incoming message of {size} bytes is over the limit of {max_size} bytes; raise \
                 `WebSocketConfig::max_message_size` or `max_frame_size`, or send less at once"
            ));
            Failure(error, Some(CloseCode::TOO_BIG))
        }
        WsError::Utf8(_) => {
            let error = Error::protocol("the peer sent text that is not UTF-8").with_source(error);
            Failure(error, Some(CloseCode::INVALID_PAYLOAD))
        }
        error => {
            let what = Error::protocol(format!("the peer violated the WebSocket protocol: {error}")).with_source(error);
            Failure(what, Some(CloseCode::PROTOCOL))
        }
    })
}

/// Converts a received message. Raw frames are only for writing.
fn from_theirs(message: WsMessage) -> Option<Message> {
    Some(match message {
        // tungstenite has validated it, but `Text` cannot know that.
        WsMessage::Text(text) => Message::Text(Text::try_from(Bytes::from(text)).ok()?),
        WsMessage::Binary(bytes) => Message::Binary(bytes),
        WsMessage::Ping(bytes) => Message::Ping(bytes),
        WsMessage::Pong(bytes) => Message::Pong(bytes),
        WsMessage::Close(frame) => Message::Close(frame.and_then(|frame| {
            let code = CloseCode::new(frame.code.into())?;
            Some(CloseFrame::new(code, frame.reason.as_str()))
        })),
        WsMessage::Frame(_) => return None,
    })
}

fn to_theirs(message: Message) -> Result<WsMessage, Error> {
    Ok(match message {
        Message::Text(text) => {
            let text = Utf8Bytes::try_from(text.into_bytes());
            WsMessage::Text(text.map_err(|error| Error::other("a text is not UTF-8").with_source(error))?)
        }
        Message::Binary(bytes) => WsMessage::Binary(bytes),
        Message::Ping(bytes) => WsMessage::Ping(bytes),
        Message::Pong(bytes) => WsMessage::Pong(bytes),
        Message::Close(frame) => WsMessage::Close(
            frame.map(|frame| WsCloseFrame { code: frame.code().get().into(), reason: frame.reason().into() }),
        ),
    })
}

impl<S: AsyncRead + AsyncWrite + Unpin> Closable for TungsteniteTransport<S> {
    fn closing(&mut self) -> &mut Closing {
        &mut self.closing
    }

    fn has_failed(&mut self) -> bool {
        self.write_failed.is_some()
    }

    fn closed(&mut self) -> Error {
        match &self.write_failed {
            Some(error) => error.clone().with_close_frame(self.closing.peer_close().cloned()),
            None => self.closing.closed(),
        }
    }

    fn start_close(&mut self, frame: Option<CloseFrame>) {
        // After the peer's close frame tungstenite has its own answer, and takes no other one.
        if let Ok(message) = to_theirs(Message::Close(frame)) {
            let _ = Pin::new(&mut self.stream).start_send(message);
        }
        self.answer_waits = true;
        self.closing.start();
        self.reader.wake();
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) {
        if !self.answer_waits || self.write_failed.is_some() {
            return;
        }
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_flush(cx) {
            self.answer_waits = false;
            self.write_failed = result.err().map(failed);
            // Our waker had replaced the sink's.
            self.writer.wake();
        }
    }

    fn poll_told(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if !self.answer_waits || self.write_failed.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn unsent(&mut self) -> u64 {
        // tungstenite does not tell.
        0
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        loop {
            let message = match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
                None => return Poll::Ready(Received::Finished),
                Some(Ok(message)) => from_theirs(message),
                Some(Err(error)) => {
                    return Poll::Ready(match end(error) {
                        None => Received::Finished,
                        Some(Failure(error, Some(code))) if self.write_failed.is_none() => {
                            Received::Fault(error, closing::coded_fault_frame(code))
                        }
                        Some(Failure(error, _)) => Received::Lost(error),
                    });
                }
            };
            if let Some(message) = message {
                // tungstenite has queued the answer.
                self.answer_waits |= matches!(message, Message::Ping(_) | Message::Close(_));
                signal::moved(message.len());
                return Poll::Ready(Received::Message(message));
            }
        }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Option<Error> {
        self.reader.register(cx);
        None
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(error) = &self.write_failed {
            return Poll::Ready(Err(error.clone()));
        }
        let written = Pin::new(&mut self.stream).poll_flush(cx);
        self.answer_waits &= written.is_pending();
        self.written(written, cx)
    }

    fn wake_writer(&mut self) {
        self.writer.wake();
    }

    fn shut(&mut self, _: &mut Context<'_>) {}
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for TungsteniteTransport<S> {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        closing::poll_next(self.get_mut(), cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Message> for TungsteniteTransport<S> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        if this.write_failed.is_some() {
            return Poll::Ready(Err(this.closed()));
        }
        closing::check_open(this, cx)?;
        let room = Pin::new(&mut this.stream).poll_ready(cx);
        this.written(room, cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.get_mut();
        if this.write_failed.is_some() || !this.closing.is_open() {
            return Err(this.closed());
        }
        if let Message::Close(frame) = message {
            this.start_close(frame);
            return Ok(());
        }
        if message.is_control() && message.len() > MAX_CONTROL {
            return Err(Error::too_large(format!(
                "an outgoing ping or pong of {} bytes is over the {MAX_CONTROL} that RFC 6455 allows, and was not sent",
                message.len()
            ))
            .into_rejection());
        }
        let length = message.len();
        match Pin::new(&mut this.stream).start_send(to_theirs(message)?) {
            Ok(()) => {
                signal::moved(length);
                Ok(())
            }
            Err(WsError::WriteBufferFull(_)) => Err(Error::full(
                "the write buffer of the WebSocketStream is full (WebSocketConfig::max_write_buffer_size)",
            )
            .into_rejection()),
            Err(error) => {
                let error = failed(error);
                this.write_failed = Some(error.clone());
                Err(error)
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        closing::poll_flush(self.get_mut(), cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        closing::poll_close(self.get_mut(), cx)
    }
}

impl<S> fmt::Debug for TungsteniteTransport<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TungsteniteTransport").field("phase", self.closing.phase()).finish_non_exhaustive()
    }
}
