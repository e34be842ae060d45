use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_layer::Layer;

use crate::{
    CloseCode, CloseFrame, Error, Message, MessageStream, QueueConfig, Transport,
    codec::{Codec, Outbound},
    layer::own::LayerSink,
    transport::signal,
};

/// The maximum number of pings and pongs that one poll skips before other tasks run.
const BUDGET: usize = 128;

/// Turns a transport of messages into a transport of values. See the [module](super) for the complete documentation.
///
/// Each transport gets a clone of the codec, with buffers of its own.
#[derive(Clone, Debug)]
pub struct CodecLayer<C> {
    codec: C,
    close_on_bad_payload: bool,
}

impl<C> CodecLayer<C> {
    /// Creates a layer of this codec. A bad payload is an error for its message, and the stream goes on.
    #[must_use]
    pub const fn new(codec: C) -> Self {
        Self { codec, close_on_bad_payload: false }
    }

    /// Closes the transport with [1007](crate::CloseCode::INVALID_PAYLOAD) after the error of a bad payload. The stream
    /// ends once the close message is flushed. By default it goes on with the next message.
    #[must_use]
    pub fn close_on_bad_payload(mut self) -> Self {
        self.close_on_bad_payload = true;
        self
    }
}

impl<T: MessageStream, C: Clone> Layer<T> for CodecLayer<C> {
    type Service = Coded<T, C>;

    fn layer(&self, inner: T) -> Coded<T, C> {
        Coded {
            inner,
            codec: self.codec.clone(),
            close_on_bad_payload: self.close_on_bad_payload,
            sink: LayerSink::new(),
            has_ended: false,
            frame: None,
        }
    }
}

pin_project! {
    /// A transport of values over a transport of messages, created by [`CodecLayer`].
    ///
    /// It is a `Sink<C::Out>` and a `Stream` of `Result<C::In, Error>`. The [module](super) documents how each message
    /// is handled.
    #[derive(Debug)]
    pub struct Coded<T, C> {
        #[pin]
        inner: T,
        codec: C,
        close_on_bad_payload: bool,
        sink: LayerSink<Message>,
        // The stream below has ended, or the peer has sent a close message.
        has_ended: bool,
        // From an error of the transport below.
        frame: Option<CloseFrame>,
    }
}

impl<T, C> Coded<T, C> {
    /// Returns the close frame with which the transport was closed: the peer's, or the one of a refused payload. `None`
    /// before that, and if the close message had no code.
    #[must_use]
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.sink.close_frame().or(self.frame.as_ref())
    }

    /// Returns the codec.
    #[must_use]
    pub fn codec(&self) -> &C {
        &self.codec
    }

    accessors! {
        inner: T, "transport",
        get_mut: "Messages that are sent or received there bypass the codec.",
        into_inner: ". No message is held here.",
    }
}

/// The error of the sink, with the frame if there is one.
fn closed(frame: Option<CloseFrame>) -> Error {
    Error::closed("the transport was closed with a close message").with_close_frame(frame)
}

impl<T, C> Stream for Coded<T, C>
where
    T: Transport<Message, In = Message>,
    C: Codec,
{
    type Item = Result<C::In, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        if this.sink.has_ended() {
            return this.sink.poll_end(this.inner, cx);
        }
        if *this.has_ended {
            return Poll::Ready(None);
        }
        for _ in 0..BUDGET {
            let message = match ready!(this.inner.as_mut().poll_next(cx)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    let error: Error = error.into();
                    if this.frame.is_none() {
                        *this.frame = error.close_frame().cloned();
                    }
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    *this.has_ended = true;
                    return Poll::Ready(None);
                }
            };
            match message {
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Close(frame) => {
                    *this.has_ended = true;
                    this.frame.clone_from(&frame);
                    this.sink.close_sink(closed(frame));
                    // The stream is not polled after its end, so the transport gets this poll to send its answer.
                    let _ = this.inner.as_mut().poll_next(cx);
                    return Poll::Ready(None);
                }
                Message::Text(_) | Message::Binary(_) => {
                    signal::decoded(message.len());
                    let error = match this.codec.decode(message) {
                        Err(error) if *this.close_on_bad_payload => error,
                        value => return Poll::Ready(Some(value)),
                    };
                    // The peer learns no more than that.
                    let frame = CloseFrame::new(CloseCode::INVALID_PAYLOAD, "a payload is not what this end expects");
                    this.sink.close_as(frame, error, closed(None));
                    return this.sink.poll_end(this.inner, cx);
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.has_ended || self.sink.has_ended() {
            return (0, Some(0));
        }
        // Each message may be one that is skipped, and each gives one item at most.
        (0, self.inner.size_hint().1)
    }
}

impl<T, C> Sink<C::Out> for Coded<T, C>
where
    T: Transport<Message>,
    C: Codec,
{
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.sink.poll_ready(this.inner, cx)
    }

    fn start_send(self: Pin<&mut Self>, value: C::Out) -> Result<(), Error> {
        self.sink.check_open()?;
        let this = self.project();
        this.sink.start_send(this.inner, this.codec.encode(&value)?)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.sink.poll_flush(this.inner, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut this = self.project();
        // A close message tells the code to transports that do not know the signal. It must not delay the close of a
        // transport that is full.
        if let Some(frame) = signal::close_frame()
            && this.sink.is_open()
        {
            if let Poll::Ready(Ok(())) = this.sink.poll_ready(this.inner.as_mut(), cx) {
                // It may be closed already.
                let _ = this.sink.start_send(this.inner.as_mut(), Message::Close(Some(frame)));
            }
            this.sink.close_sink(closed(None));
        }
        this.sink.poll_close(this.inner, cx)
    }
}

impl<C: Codec> QueueConfig<Outbound<C>, C::In> {
    /// Creates a queue for outgoing messages of an [`EncodeOnce`](crate::codec::EncodeOnce). At most 1024 messages or
    /// 1 MiB wait.
    ///
    /// | message | counts with |
    /// |---|---|
    /// | encoded | the length of its payload |
    /// | a value that owns memory ([`needs_drop`](std::mem::needs_drop)), as a `String` does | 16 KiB |
    /// | any other value | the size of its type |
    ///
    /// A value is encoded only when it is sent, so the size of the memory that it owns is unknown while it waits. At
    /// most 64 such values wait, as in [`values`](Self::values). To bound their bytes, measure them with
    /// [`size_by`](Self::size_by). For more of them, set [`max_bytes`](Self::max_bytes). Incoming values count as in
    /// [`values`](Self::values).
    #[must_use]
    pub fn outbound() -> Self {
        Self::outgoing_sized_by(size::<C>)
    }
}

fn size<C: Codec>(outbound: &Outbound<C>) -> usize {
    /// 64 of them are 1 MiB, the default bound of a queue.
    const OWNING_VALUE: usize = 16 * 1024;

    match outbound {
        Outbound::Value(_) if std::mem::needs_drop::<C::Out>() => size_of::<C::Out>().max(OWNING_VALUE),
        Outbound::Value(_) => size_of::<C::Out>(),
        Outbound::Encoded(encoded) => encoded.message().len(),
    }
}
