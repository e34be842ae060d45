use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_layer::Layer;

use super::{
    Deflate, Stats,
    compressor::Compressor,
    inflater::{Inflater, Refused},
};
use crate::{
    CloseCode, CloseFrame, Error, Message, MessageStream, Transport, layer::own::LayerSink, transport::contract::Polled,
};

/// Compresses outgoing messages and inflates incoming ones. See the [module](super) for the complete documentation.
///
/// The settings are per connection; the [`Stats`] are shared by all transports of this layer and of its clones.
#[derive(Clone, Debug, Default)]
pub struct CompressionLayer {
    deflate: Deflate,
    stats: Stats,
}

impl CompressionLayer {
    /// Creates a layer with these settings.
    #[must_use]
    pub fn new(deflate: Deflate) -> Self {
        Self { deflate, stats: Stats::default() }
    }

    /// Returns the largest number of bytes that this layer adds to a message: a mark, or the growth of a small message
    /// with a kept context.
    #[cfg(feature = "optimized")]
    pub(crate) const fn overhead(&self) -> usize {
        if self.deflate.keep_context { super::compressor::MOST } else { crate::message::trailer::LEN }
    }

    /// Returns whether the context is kept.
    #[cfg(feature = "optimized")]
    pub(crate) const fn keeps_context(&self) -> bool {
        self.deflate.keep_context
    }

    /// Returns the same layer with or without a kept context, as the peer announced.
    #[cfg(feature = "optimized")]
    pub(crate) fn with_context(&self, keep: bool) -> Self {
        Self { deflate: Deflate { keep_context: keep, ..self.deflate }, stats: self.stats.clone() }
    }

    /// Returns the size in bytes from which a message is kept out of batches, if those are sent plain.
    #[cfg(feature = "optimized")]
    pub(crate) const fn alone_from(&self) -> usize {
        if self.deflate.batches { usize::MAX } else { self.deflate.min_size }
    }

    /// Creates a layer that neither compresses nor inflates, for two ends that have not agreed on compression.
    #[cfg(feature = "optimized")]
    pub(crate) fn off() -> Self {
        Self::new(Deflate { inflates: false, ..Deflate::new().receive_only() })
    }

    /// Returns the live counters of this layer.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }
}

impl<T: MessageStream> Layer<T> for CompressionLayer {
    type Service = Compressed<T>;

    fn layer(&self, inner: T) -> Compressed<T> {
        Compressed {
            inner,
            deflate: self.deflate,
            stats: self.stats.clone(),
            compressor: Compressor::default(),
            inflater: Inflater::default(),
            sink: LayerSink::new(),
        }
    }
}

pin_project! {
    /// A transport that compresses messages, created by [`CompressionLayer`].
    ///
    /// The [module](super) documents how each message is handled.
    #[derive(Debug)]
    pub struct Compressed<T> {
        #[pin]
        inner: T,
        deflate: Deflate,
        stats: Stats,
        compressor: Compressor,
        inflater: Inflater,
        sink: LayerSink<Message>,
    }
}

impl<T> Compressed<T> {
    /// Returns the counters of the layer, which all its transports share.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }

    accessors! {
        inner: T, "transport",
        get_mut: "Messages are sent there plain, and received as the peer sent them. With a [kept \
            context](Deflate::keep_context), a compressed message that is received there is missing here.",
        into_inner: ", and drops kept contexts. No message is held here, unless the transport is being closed \
            because of a message that was refused.",
    }
}

impl<T> Compressed<T>
where
    T: Transport<Message>,
{
    /// Sends a message that does not just pass.
    #[inline(never)]
    fn encode(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.sink.check_open()?;
        let this = self.project();
        let message = this.compressor.encode(message, this.deflate, this.stats);
        // The peer will not get this message, so its context and this one would differ from here on.
        this.sink.start_send(this.inner, message).inspect_err(|_| this.compressor.forget())
    }
}

impl<T> Compressed<T>
where
    T: Transport<Message, In = Message>,
{
    /// Handles everything except a message that just passes. `polled` is what the transport below gave, unless this
    /// layer has ended it.
    #[inline(never)]
    fn decode(
        mut self: Pin<&mut Self>,
        polled: Option<Polled<T>>,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Message, Error>>> {
        let Some(polled) = polled else {
            let this = self.project();
            return this.sink.poll_end(this.inner, cx);
        };
        let message = match ready!(polled) {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        let this = self.as_mut().project();
        let refused = match this.inflater.decode(message, this.deflate, this.stats) {
            Ok(message) => return Poll::Ready(Some(Ok(message))),
            Err(refused) => refused,
        };
        let Refused { error, is_final: Some(code) } = refused else { return Poll::Ready(Some(Err(refused.error))) };
        // Later messages refer to this one, so none of them could be inflated.
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
            return self.decode(None, cx);
        }
        match this.inner.poll_next(cx) {
            Poll::Ready(Some(Ok(message))) if Inflater::passes(&message) => Poll::Ready(Some(Ok(message))),
            polled => self.decode(Some(polled), cx),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.sink.has_ended() {
            return (0, Some(0));
        }
        // One item for each message, except after a final refusal.
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
        if Compressor::passes(&message, this.deflate) && this.sink.passes() {
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

/// The reason in the close frame: all that the peer learns about a message that was refused.
fn reason(code: CloseCode) -> &'static str {
    match code {
        CloseCode::TOO_BIG => "a compressed message is over the limit",
        CloseCode::PROTOCOL => "a kept compression context is not expected here",
        _ => "a compressed message cannot be inflated",
    }
}
