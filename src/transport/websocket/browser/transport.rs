use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use futures_sink::Sink;

use super::socket::{End, Socket};
use crate::{
    CloseFrame, Error, Limits, Message,
    rt::Timer,
    transport::{
        closing::{self, Closable, Closing, Phase, Received},
        signal,
        wakers::Half,
    },
};

/// The time after which a full `bufferedAmount` is first looked at again.
const SOON: Duration = Duration::from_millis(1);
/// The longest time between two looks at a full `bufferedAmount`.
const LATER: Duration = Duration::from_millis(16);

/// The browser's WebSocket, the client's end.
///
/// [`WebSocketConnector`](super::WebSocketConnector) creates it. It behaves as the native `WebSocket` does, as far
/// as a page can: text and binary messages, [`Limits`], the same phases of a close, the same kinds of errors.
/// The differences are those of the browser:
///
/// | subject | in a page |
/// |---|---|
/// | pings and pongs | the browser answers pings and shows none. The sink rejects both |
/// | close codes | a page may send 1000 and 3000 to 4999. Any other code closes without code and reason |
/// | a message over [`Limits::message`] | refused once the browser has received it. The peer is not told 1009 |
/// | [`Limits::frame`] | unused: the browser decides about fragments |
/// | bytes that move | seen once a message is complete, so a heartbeat's timeout has to allow for the largest message |
/// | messages that arrive after a close was begun here | the browser drops them; natively they are yielded |
/// | dropping it | closes without a code after the accepted messages. A page cannot cut a connection |
///
/// # Closing
///
/// Either end may begin: by [`Message::Close`], [`close`](Self::close) or `poll_close`. The other answers with the same
/// code, and then both have ended.
///
/// | the peer | the stream yields |
/// |---|---|
/// | sends a close frame | [`Message::Close`], then `None` |
/// | does not answer our close frame within [`Limits::close`] | an error: [`is_timeout`](Error::is_timeout) |
/// | vanishes without a close frame, or violates the protocol | an error: [`is_closed`](Error::is_closed) |
/// | sends a message over the limit | an error: [`is_too_large`](Error::is_too_large) |
/// | sends more than the page reads | an error: [`is_full`](Error::is_full) |
///
/// From the first close frame on, the sink returns an error for which [`is_closed`](Error::is_closed) is true.
///
/// # Backpressure
///
/// The sink is not ready while the browser's `bufferedAmount` is more than [`Limits::write_buffer`]. No event tells
/// when it falls, so a timer looks again after 1 ms, and then after twice the time, at most 16 ms, as long as nothing
/// moves. Browsers make timers of hidden pages slower (once a second, or once a minute): a page that uploads in the
/// background needs a larger `write_buffer`. Flushing never waits, because `send` passes a message to the browser at
/// once.
///
/// A page cannot stop its peer. Messages that nobody reads are queued up to
/// [`incoming_bytes`](super::WebSocketConnector::incoming_bytes). The first one over it closes the connection: the
/// stream yields everything before it, and then the error. Below a resume layer nothing is lost, because what was not
/// acknowledged is sent again over the next connection.
///
/// # Cancel safety
///
/// Dropping a future that reads or sends loses nothing: see [`TransportExt`](crate::TransportExt).
pub struct WebSocket {
    socket: Socket,
    limits: Limits,
    closing: Closing,
    subprotocol: Option<Box<str>>,
    /// Looks at the browser's buffer while it is full.
    timer: Timer,
    delay: Duration,
    /// The browser's buffer when it was last looked at.
    buffered: u64,
}

impl WebSocket {
    pub(super) fn new(socket: Socket, limits: Limits, subprotocol: Option<Box<str>>) -> Self {
        let closing = Closing::new(limits.close).with_idle(limits.idle);
        Self { socket, limits, closing, subprotocol, timer: Timer::new(), delay: SOON, buffered: 0 }
    }

    /// Returns the subprotocol that was negotiated in the handshake (RFC 6455, section 1.9).
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Returns the close frame that the peer sent, once it has arrived.
    #[must_use]
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.closing.peer_close()
    }

    /// Closes the connection and waits for its end, at most [`Limits::close`]. Returns the peer's close frame. Messages
    /// that still arrive are dropped. If the connection is already closing, `frame` is not sent.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_closed`](Error::is_closed) is true if the peer vanished, and one for which
    /// [`is_timeout`](Error::is_timeout) is true if it did not answer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the close continues in the browser.
    pub async fn close(&mut self, frame: Option<CloseFrame>) -> Result<Option<CloseFrame>, Error> {
        closing::close(self, frame).await
    }

    /// Returns the browser's buffer, and reports what has left it.
    fn look(&mut self) -> u64 {
        let buffered = self.socket.buffered();
        if let Some(moved @ 1..) = self.buffered.checked_sub(buffered) {
            signal::moved(usize::try_from(moved).unwrap_or(usize::MAX));
            self.delay = SOON;
        }
        self.buffered = buffered;
        buffered
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.look() > self.limits.write_buffer as u64 {
            // The end of the connection ends the wait as well.
            self.socket.register(Half::Writer, cx);
            if !self.timer.is_set() {
                self.timer.set(self.delay);
                self.delay = LATER.min(self.delay * 2);
            }
            ready!(self.timer.poll(cx));
        }
        self.timer.clear();
        self.delay = SOON;
        self.socket.poll_turn(cx)
    }

    /// Returns the sink's error if the connection has ended and the stream has not said so yet.
    fn ended(&self) -> Option<Error> {
        let end = self.socket.end().filter(|_| self.closing.is_open())?;
        Some(match end.is_close() {
            true => self.closing.closed().with_close_frame(end.frame()),
            false => lost(&end),
        })
    }
}

fn lost(end: &End) -> Error {
    Error::closed("the connection was lost; the browser does not tell a page why").with_close_frame(end.frame())
}

impl Closable for WebSocket {
    fn closing(&mut self) -> &mut Closing {
        &mut self.closing
    }

    fn has_failed(&mut self) -> bool {
        self.socket.end().is_some_and(|end| !end.is_close())
    }

    fn start_close(&mut self, frame: Option<CloseFrame>) {
        if self.closing.is_open() {
            self.socket.close(frame.as_ref());
            self.closing.start();
            // From now on the stream waits for the end of a time limit, too.
            self.socket.wake(Half::Reader);
        }
    }

    fn poll_told(&mut self, _: &mut Context<'_>) -> Poll<()> {
        // The browser tells the peer.
        Poll::Ready(())
    }

    fn unsent(&mut self) -> u64 {
        self.socket.buffered()
    }

    // Bytes that leave the browser's buffer are not reported here: a heartbeat takes bytes that move in `poll_next`
    // for the peer's.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        Poll::Ready(match ready!(self.socket.poll_event(cx)) {
            Ok(message) => {
                // An empty message is a frame of two bytes.
                signal::moved(message.len() + 2);
                Received::Message(message)
            }
            Err(Ok(fault)) => {
                let frame = closing::fault_frame(&fault);
                Received::Fault(fault, frame)
            }
            Err(Err(end)) if !end.is_close() => Received::Lost(lost(&end)),
            Err(Err(end)) => match (end.code, end.frame()) {
                // The browser's number for a close frame without a code.
                (1005, _) => Received::Message(Message::Close(None)),
                (_, Some(frame)) => Received::Message(Message::Close(Some(frame))),
                (code, None) => {
                    Received::Lost(Error::protocol(format!("the peer closed with code {code}, which may not be sent")))
                }
            },
        })
    }

    fn poll_written(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.look();
        Poll::Ready(match self.has_failed() {
            true => Err(self.ended().unwrap_or_else(|| self.closing.closed())),
            false => Ok(()),
        })
    }

    fn wake_writer(&mut self) {
        self.socket.wake(Half::Writer);
    }

    fn shut(&mut self, _: &mut Context<'_>) {
        self.socket.detach();
    }
}

impl Stream for WebSocket {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        closing::poll_next(self.get_mut(), cx)
    }
}

impl Sink<Message> for WebSocket {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        closing::check_open(this, cx)?;
        if let Some(error) = this.ended() {
            return Poll::Ready(Err(error));
        }
        closing::poll_room(this, cx, Self::poll_room).map(Ok)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.get_mut();
        if !this.closing.is_open() {
            return Err(this.closing.closed());
        }
        let (size, max) = (message.len(), this.limits.message);
        match message {
            Message::Close(frame) => this.start_close(frame),
            Message::Ping(_) | Message::Pong(_) => {
                return Err(Error::config(
                    "a page cannot send pings and pongs; the heartbeat layer has \
                     HeartbeatLayer::application_level",
                )
                .into_rejection());
            }
            _ if size > max => {
                return Err(Error::too_large(format!(
                    "an outgoing message of {size} bytes is over the limit of {max} (Limits::message)"
                ))
                .into_rejection());
            }
            _ if !this.socket.is_open() => {
                return Err(this.ended().unwrap_or_else(|| Error::closed("the connection is closed")));
            }
            message => {
                this.socket.send(&message)?;
                this.buffered = this.socket.buffered();
            }
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        closing::poll_flush(self.get_mut(), cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        closing::poll_close(self.get_mut(), cx)
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase: &Phase = self.closing.phase();
        f.debug_struct("WebSocket").field("phase", phase).field("socket", &self.socket).finish_non_exhaustive()
    }
}
