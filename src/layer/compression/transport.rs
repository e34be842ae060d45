use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::{
    Deflate, Stats,
    incoming::{Incoming, Refused},
    outgoing::Outgoing,
};
use crate::{CloseCode, CloseFrame, Error, Message, Transport, layer::own::LayerSink};

/// What the inner stream gives.
type Polled<T> = Poll<Option<Result<Message, <T as Transport>::TransportError>>>;

pin_project! {
    /// A transport of messages that are compressed on their way: what [`CompressionLayer`](super::CompressionLayer) makes.
    ///
    /// The [module](super) tells what becomes of each message.
    #[derive(Debug)]
    pub struct Compressed<T> {
        #[pin]
        inner: T,
        deflate: Deflate,
        stats: Stats,
        outgoing: Outgoing,
        incoming: Incoming,
        sink: LayerSink<Message>,
    }
}

impl<T> Compressed<T> {
    pub(super) fn new(inner: T, deflate: Deflate, stats: Stats) -> Self {
        Self {
            inner,
            deflate,
            stats,
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            sink: LayerSink::new(),
        }
    }

    /// What compression did, over all transports of the layer that this one is of.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }

    /// The inner transport.
    #[must_use]
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The inner transport. What is sent there goes out plain, what is received there is as the peer sent it; with a
    /// [kept context](Deflate::keep_context), a compressed message that is received there is missing here.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// The inner transport; kept contexts are dropped. No message is held here, unless the transport is being closed for one
    /// that was refused.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T> Compressed<T>
where
    T: Transport<Message>,
{
    /// `start_send` of a message that is not just handed on.
    #[inline(never)]
    fn encode(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.sink.check_open()?;
        let this = self.project();
        let message = this.outgoing.encode(message, this.deflate, this.stats);
        this.sink.start_send(this.inner, message).inspect_err(|_| this.outgoing.forget())
    }
}

impl<T> Compressed<T>
where
    T: Transport<Message, In = Message>,
{
    /// All that the inner stream gives but a message that is just handed on.
    #[inline(never)]
    fn decode(mut self: Pin<&mut Self>, polled: Polled<T>, cx: &Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        let message = match ready!(polled) {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        let this = self.as_mut().project();
        let refused = match this.incoming.decode(message, this.deflate, this.stats) {
            Ok(message) => return Poll::Ready(Some(Ok(message))),
            Err(refused) => refused,
        };
        let Refused { error, is_final: Some(code) } = refused else { return Poll::Ready(Some(Err(refused.error))) };
        let closed = Error::closed("the transport was closed for a compressed message that was refused")
            .with_source(error.clone());
        this.sink.close_as(CloseFrame::new(code, reason(code)), error, closed);
        this.sink.poll_end(this.inner, cx)
    }
}

impl<T> Stream for Compressed<T>
where
    T: Transport<Message, In = Message>,
{
    type Item = Result<Message, Error>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.as_mut().project();
        if this.sink.has_ended() {
            return this.sink.poll_end(this.inner, cx);
        }
        match this.inner.poll_next(cx) {
            Poll::Ready(Some(Ok(message))) if Incoming::passes(&message) => Poll::Ready(Some(Ok(message))),
            polled => self.decode(polled, cx),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.sink.has_ended() {
            return (0, Some(0));
        }
        // One item for each, but after a final refusal.
        let (least, most) = self.inner.size_hint();
        (least.min(1), most)
    }
}

impl<T> Sink<Message> for Compressed<T>
where
    T: Transport<Message>,
{
    type Error = Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.sink.poll_ready(this.inner, cx)
    }

    #[inline]
    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.as_mut().project();
        if Outgoing::passes(&message, this.deflate) && this.sink.passes() {
            return this.inner.start_send(message).map_err(Into::into);
        }
        self.encode(message)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.sink.poll_flush(this.inner, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.sink.poll_close(this.inner, cx)
    }
}

/// What the peer learns of a message that was refused, and no more than that.
fn reason(code: CloseCode) -> &'static str {
    match code {
        CloseCode::TOO_BIG => "a compressed message is over the limit",
        CloseCode::PROTOCOL => "a kept compression context is not expected here",
        _ => "a compressed message cannot be inflated",
    }
}
