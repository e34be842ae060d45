use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::signal::{self, Mark};
use crate::{CloseCode, CloseFrame, Error, Message, Transport};

/// The size of the messages that long writes are divided into, in bytes, by default.
const MAX_MESSAGE: usize = 64 * 1024;

/// A transport of binary messages as a stream of bytes: [`AsyncRead`], [`AsyncBufRead`] and [`AsyncWrite`].
///
/// [`TransportExt::into_io`](crate::TransportExt::into_io) makes it. Any protocol over bytes then runs over any
/// transport, and so over a session that reconnects and resumes: HTTP/2 and gRPC, MQTT, SSH. Both ends need such a
/// stream; the borders of messages mean nothing.
///
/// The inverse exists in other crates: a byte stream becomes a transport with `tokio_util::codec::Framed` and
/// [`Foreign`](super::Foreign).
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tower_transport::{Message, TransportExt, channel};
///
/// let (here, there) = channel::<Message, Message>(8);
/// let (mut here, mut there) = (here.into_io(), there.into_io());
///
/// here.write_all(b"ping").await?;
/// here.shutdown().await?; // flushes, and ends this direction
///
/// let mut request = String::new();
/// there.read_to_string(&mut request).await?; // until the end of this direction
/// there.write_all(b"pong").await?;
/// there.shutdown().await?;
///
/// let mut answer = String::new();
/// here.read_to_string(&mut answer).await?;
/// assert_eq!((&*request, &*answer), ("ping", "pong"));
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
///
/// # Writing
///
/// Each write becomes a binary message of at most [`max_message`](Self::max_message) bytes; a vectored write becomes
/// one message. Written bytes rest in the transport until `poll_flush`, as in tokio's `BufWriter`: flush before you
/// wait for an answer. A write is `Pending` while the transport has no room, which carries its backpressure to the
/// writer.
///
/// # The end of a direction
///
/// A TCP connection can end in one direction and go on in the other. Messages have no such end, so `poll_shutdown`
/// sends an empty message as a mark, and flushes. The peer reads the end of the stream there and may continue to write.
/// Once both directions have ended, the transport is closed with code 1000: by the `poll_shutdown` that comes second,
/// and by the read that finds the peer's mark.
///
/// | what arrives | a read returns |
/// |---|---|
/// | a binary message | its bytes |
/// | an empty binary message, a close with code 1000 or without one, or the end of the transport | the end: 0 bytes |
/// | a close with another code | [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) |
/// | a text message | [`InvalidData`](io::ErrorKind::InvalidData) |
/// | an error of the transport | that error |
/// | nothing, because a connection below was lost and its session did not resume | [`ConnectionReset`] |
///
/// The last line is of a transport that reconnects. It begins a new session after the server was restarted or the
/// session expired, and goes on. Bytes may be lost then, so both directions end, even if no message is missing. Make a
/// new stream. A connection that is replaced within its session is not noticed.
///
/// [`ConnectionReset`]: io::ErrorKind::ConnectionReset
///
/// A protocol that must tell a complete stream from one that was cut short marks its end itself, as HTTP and TLS do.
///
/// # Errors
///
/// An I/O error of this stream contains an [`Error`], and `Error::from(io_error)` recovers it. After an error, the
/// direction has ended: every later read or write returns the error again. No byte is lost or repeated silently.
/// `poll_shutdown` then closes the transport with code 1011, so that the peer's read fails as well, and returns the
/// error.
///
/// # Cancel safety
///
/// Dropping a future of tokio's `AsyncReadExt::read` or `AsyncWriteExt::write` loses nothing. Dropping the stream
/// without `shutdown` drops the transport, with what was not flushed.
pub struct ByteStream<T> {
    transport: T,
    /// The unread rest of the current message.
    chunk: Bytes,
    max_message: usize,
    reading: Reading,
    writing: Writing,
}

/// The incoming direction.
enum Reading {
    Open,
    Ended,
    Failed(Error),
}

/// The outgoing direction.
///
/// ```text
///          the mark is accepted           it is flushed
///   Open ------------------------> Marked --------------> Ended ----------------> Closed
///                                                               once Reading::Ended
/// ```
///
/// A failed write, or the loss of a connection, leads to `Failed` from everywhere but `Closed`. A shutdown leads from
/// there to `Aborted`.
enum Writing {
    Open,
    Marked,
    Ended,
    Closed,
    Failed(Error),
    Aborted(Error),
}

impl<T> ByteStream<T> {
    pub(super) fn new(transport: T) -> Self {
        Self {
            transport,
            chunk: Bytes::new(),
            max_message: MAX_MESSAGE,
            reading: Reading::Open,
            writing: Writing::Open,
        }
    }

    /// Sets the maximum length of a message, in bytes. Longer writes are divided. Defaults to 64 KiB; 0 means 1.
    ///
    /// It must not be larger than what the peer accepts.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes.max(1);
        self
    }

    /// Returns a reference to the transport.
    #[must_use]
    pub fn get_ref(&self) -> &T {
        &self.transport
    }

    /// Returns a mutable reference to the transport. A data message that is sent or received directly is missing in the
    /// stream of bytes.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Returns the transport, and the bytes of the last message that were not read.
    #[must_use]
    pub fn into_parts(self) -> (T, Bytes) {
        (self.transport, self.chunk)
    }
}

impl<T> ByteStream<T>
where
    T: Transport<Message, In = Message> + Unpin,
{
    /// Reads until there is a chunk or the direction has ended.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() {
            match &self.reading {
                Reading::Open => {}
                Reading::Failed(error) => return Poll::Ready(Err(error.clone().into())),
                Reading::Ended => {
                    // The writer is done, so nobody else waits for the sink.
                    if let Writing::Ended = self.writing {
                        ready!(self.poll_close_transport(cx));
                    }
                    return Poll::Ready(Ok(()));
                }
            }
            let Some(polled) = self.watched(|transport| transport.poll_next(cx)) else { continue };
            match ready!(polled) {
                Some(Ok(Message::Binary(bytes))) if bytes.is_empty() => self.reading = Reading::Ended,
                Some(Ok(Message::Binary(bytes))) => self.chunk = bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(frame))) => {
                    self.reading = match frame {
                        Some(frame) if frame.code() != CloseCode::NORMAL => Reading::Failed(
                            Error::closed("the peer closed the stream of bytes before its end")
                                .with_close_frame(Some(frame)),
                        ),
                        _ => Reading::Ended,
                    }
                }
                Some(Ok(Message::Text(_))) => {
                    let error = Error::protocol("a text message arrived in a stream of bytes, which is binary");
                    self.reading = Reading::Failed(error);
                }
                Some(Err(error)) => self.reading = Reading::Failed(error.into()),
                None => self.reading = Reading::Ended,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Polls the transport. Returns `None` if a connection below was lost with its session: both directions have failed
    /// then, and the result belongs to another connection.
    fn watched<R>(&mut self, poll: impl FnOnce(Pin<&mut T>) -> R) -> Option<R> {
        let mark = Mark::now();
        let polled = poll(Pin::new(&mut self.transport));
        if !mark.has_lost() {
            return Some(polled);
        }
        let error = Error::closed(
            "a connection below the stream of bytes was lost and not resumed, and bytes may be lost with it",
        );
        if let Reading::Open = self.reading {
            self.reading = Reading::Failed(error.clone());
        }
        if !matches!(self.writing, Writing::Failed(_) | Writing::Aborted(_)) {
            self.writing = Writing::Failed(error);
        }
        None
    }

    /// Closes the transport after both directions have ended. Everything has arrived by then, so a peer that is gone
    /// already is no failure.
    fn poll_close_transport(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = ready!(Pin::new(&mut self.transport).poll_close(cx));
        self.writing = Writing::Closed;
        Poll::Ready(())
    }

    /// Waits for room for one message.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.writing {
            Writing::Open => {}
            Writing::Failed(error) | Writing::Aborted(error) => return Poll::Ready(Err(error.clone().into())),
            Writing::Marked | Writing::Ended | Writing::Closed => {
                return Poll::Ready(Err(Error::closed("this end of the stream of bytes was shut down").into()));
            }
        }
        match self.watched(|transport| transport.poll_ready(cx)) {
            Some(polled) => polled.map(|ready| self.written(ready)),
            None => Poll::Ready(self.failure()),
        }
    }

    fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        match self.watched(|transport| transport.start_send(Message::Binary(bytes))) {
            Some(sent) => self.written(sent),
            None => self.failure(),
        }
    }

    /// Returns the error of the outgoing direction, if it has failed.
    fn failure(&self) -> io::Result<()> {
        match &self.writing {
            Writing::Failed(error) | Writing::Aborted(error) => Err(error.clone().into()),
            _ => Ok(()),
        }
    }

    /// Keeps the error of a write: what comes after a gap must not be written.
    fn written(&mut self, result: Result<(), T::TransportError>) -> io::Result<()> {
        result.map_err(|error| {
            let error = error.into();
            self.writing = Writing::Failed(error.clone());
            error.into()
        })
    }
}

impl<T> AsyncRead for ByteStream<T>
where
    T: Transport<Message, In = Message> + Unpin,
{
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if to.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_chunk(cx))?;
        let len = self.chunk.len().min(to.remaining());
        to.put_slice(&self.chunk[..len]);
        self.chunk.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<T> AsyncBufRead for ByteStream<T>
where
    T: Transport<Message, In = Message> + Unpin,
{
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_chunk(cx))?;
        Poll::Ready(Ok(&this.chunk))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        self.chunk.advance(amount);
    }
}

impl<T> AsyncWrite for ByteStream<T>
where
    T: Transport<Message, In = Message> + Unpin,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // An empty message is the mark of the end.
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.poll_room(cx))?;
        let len = bytes.len().min(self.max_message);
        self.send(Bytes::copy_from_slice(&bytes[..len]))?;
        Poll::Ready(Ok(len))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total = slices.iter().fold(0, |sum: usize, slice| sum.saturating_add(slice.len()));
        let len = total.min(self.max_message);
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        ready!(self.poll_room(cx))?;
        let mut message = BytesMut::with_capacity(len);
        for slice in slices {
            message.extend_from_slice(&slice[..slice.len().min(len - message.len())]);
        }
        self.send(message.freeze())?;
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.writing {
            Writing::Failed(_) | Writing::Aborted(_) => return Poll::Ready(self.failure()),
            Writing::Ended | Writing::Closed => return Poll::Ready(Ok(())),
            Writing::Open | Writing::Marked => {}
        }
        match self.watched(|transport| transport.poll_flush(cx)) {
            Some(polled) => polled.map(|flushed| self.written(flushed)),
            None => Poll::Ready(self.failure()),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &self.writing {
                Writing::Open => {
                    ready!(self.poll_room(cx))?;
                    self.send(Bytes::new())?;
                    self.writing = Writing::Marked;
                }
                Writing::Marked => {
                    ready!(self.as_mut().poll_flush(cx))?;
                    self.writing = Writing::Ended;
                }
                Writing::Ended if matches!(self.reading, Reading::Ended) => ready!(self.poll_close_transport(cx)),
                Writing::Ended | Writing::Closed => return Poll::Ready(Ok(())),
                Writing::Failed(error) => {
                    let error = error.clone();
                    let frame = CloseFrame::new(CloseCode::INTERNAL, "the stream of bytes failed");
                    let this = &mut *self;
                    let close = || Pin::new(&mut this.transport).poll_close(cx);
                    // The transport may have ended already.
                    let _ = ready!(signal::with_close_frame(Some(&frame), close));
                    self.writing = Writing::Aborted(error);
                }
                Writing::Aborted(_) => return Poll::Ready(self.failure()),
            }
        }
    }
}

debug_fields!([T: fmt::Debug] ByteStream<T> { transport });
