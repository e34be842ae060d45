use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::{Deflate, Stats, end::End, incoming::Incoming, outgoing::Outgoing};
use crate::{Error, Message, Transport, layer::control::Control};

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
        control: Control<Message>,
        end: End,
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
            control: Control::new(),
            end: End::Open,
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
    /// After a final refusal: sends the close message and closes. Ready when there is nothing left to do.
    fn poll_end(self: Pin<&mut Self>, cx: &Context<'_>) -> Poll<()> {
        let this = self.project();
        if matches!(this.end, End::Refusing(_)) {
            // Closed, or failed: then the peer is out of reach, and the refusal has been told already.
            let _ = ready!(this.control.poll_shutdown(this.inner, cx));
            this.end.is_over();
        }
        Poll::Ready(())
    }

    /// `poll_ready` where it is not the inner transport's alone.
    #[cold]
    #[inline(never)]
    fn poll_room(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.end.check_open()?;
        let this = self.project();
        this.control.poll_ready(this.inner, cx).map_err(Into::into)
    }

    /// `poll_flush` where it is not the inner transport's alone.
    #[cold]
    #[inline(never)]
    fn poll_out(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        // What was accepted before a refusal goes out ahead of the close message.
        let flushed = ready!(this.control.poll_flush(this.inner, cx));
        this.end.check_open()?;
        Poll::Ready(flushed.map_err(Into::into))
    }

    /// `start_send` of a message that is not just handed on.
    #[inline(never)]
    fn encode(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.end.check_open()?;
        let this = self.project();
        let message = this.outgoing.encode(message, this.deflate, this.stats);
        this.control.start_send(this.inner, message).map_err(|error| {
            this.outgoing.forget();
            error.into()
        })
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
        if let Some(code) = refused.is_final {
            this.control.push(this.end.refuse(code, &refused.error));
            this.control.end();
            // At once, as far as it goes, for callers that do not poll again after an error.
            let _ = self.poll_end(cx);
        }
        Poll::Ready(Some(Err(refused.error)))
    }
}

impl<T> Stream for Compressed<T>
where
    T: Transport<Message, In = Message>,
{
    type Item = Result<Message, Error>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.end.is_open() {
            ready!(self.poll_end(cx));
            return Poll::Ready(None);
        }
        match self.as_mut().project().inner.poll_next(cx) {
            Poll::Ready(Some(Ok(message))) if Incoming::passes(&message) => Poll::Ready(Some(Ok(message))),
            polled => self.decode(polled, cx),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if !self.end.is_open() {
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

    // Nothing was refused while `control` is steady: one look for both.

    #[inline]
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.as_mut().project();
        if this.control.is_steady() {
            return this.control.poll_ready(this.inner, cx).map_err(Into::into);
        }
        self.poll_room(cx)
    }

    #[inline]
    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.as_mut().project();
        if Outgoing::passes(&message, this.deflate) && this.control.passes() {
            return this.inner.start_send(message).map_err(Into::into);
        }
        self.encode(message)
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.as_mut().project();
        if this.control.is_steady() {
            return this.control.poll_flush(this.inner, cx).map_err(Into::into);
        }
        self.poll_out(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.control.poll_close(this.inner, cx).map_err(Into::into)
    }
}
