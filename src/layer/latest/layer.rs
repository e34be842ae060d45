use std::{
    hash::Hash,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_layer::Layer;

use super::store::{Latest, Subscription};
use crate::{Error, Transport, layer::own::LayerSink};

/// A layer that sends each subscriber the last value of each key, and then everything that is published. See the
/// [module](super) for the complete documentation.
///
/// Each transport that it wraps is a subscriber from then on, until it is dropped.
#[derive(Debug)]
pub struct LatestLayer<K, M> {
    latest: Latest<K, M>,
}

impl<K, M> LatestLayer<K, M> {
    /// Creates a layer whose transports all subscribe to one store.
    #[must_use]
    pub const fn shared(latest: Latest<K, M>) -> Self {
        Self { latest }
    }
}

impl<T, K: Hash + Eq + Clone, M: Clone> Layer<T> for LatestLayer<K, M> {
    type Service = Subscribed<T, K, M>;

    fn layer(&self, inner: T) -> Subscribed<T, K, M> {
        Subscribed::new(inner, self.latest.subscribe())
    }
}

impl<K, M> Clone for LatestLayer<K, M> {
    fn clone(&self) -> Self {
        Self { latest: self.latest.clone() }
    }
}

pin_project! {
    /// A transport that sends published values, created by [`LatestLayer`].
    ///
    /// Messages of its user and of its peer pass unchanged.
    #[derive(Debug)]
    pub struct Subscribed<T, K, M> {
        #[pin]
        inner: T,
        sink: LayerSink<M>,
        subscription: Subscription<K, M>,
        // Whether the sink is closed or has failed: nothing more is sent.
        over: bool,
    }
}

/// The number of values taken from the store at a time. Values that wait in the store are replaced by newer ones;
/// values that were taken are not.
const BATCH: usize = 32;

/// The number of batches that one poll takes before other tasks run.
const ROUNDS: usize = 8;

impl<T, K, M> Subscribed<T, K, M> {
    pub(super) fn new(inner: T, subscription: Subscription<K, M>) -> Self {
        Self { inner, sink: LayerSink::new(), subscription, over: false }
    }

    accessors! {
        inner: T, "transport",
        get_mut: "A message sent there overtakes published values.",
        into_inner: ". At most 32 published values that it had no room for are dropped.",
    }
}

impl<T, K, M> Subscribed<T, K, M>
where
    T: Sink<M, Error: Into<Error>>,
    K: Hash + Eq,
    M: Clone,
{
    /// On the reader's task: sends values that it has not sent. A publisher wakes this task again. Returns the
    /// rejection of a value, after which the next call goes on with the next value.
    fn poll_values(self: Pin<&mut Self>, cx: &Context<'_>) -> Option<Error> {
        let mut this = self.project();
        for _ in 0..ROUNDS {
            if *this.over {
                return None;
            }
            if this.sink.is_empty() {
                if !this.subscription.is_behind() {
                    this.subscription.register(cx);
                }
                // Registered again, for values that were published in between.
                if this.subscription.is_behind() {
                    this.subscription.take(BATCH, |value| this.sink.push(value));
                } else if this.sink.is_idle() {
                    return None;
                }
            }
            match this.sink.poll_send(this.inner.as_mut(), cx) {
                Poll::Pending => return None,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) if error.is_rejection() => return Some(error),
                // The user's own sends, or the end of the stream, report the reason.
                Poll::Ready(Err(_)) => *this.over = true,
            }
        }
        cx.waker().wake_by_ref();
        None
    }
}

impl<T, K, M> Stream for Subscribed<T, K, M>
where
    T: Transport<M>,
    K: Hash + Eq,
    M: Clone,
{
    type Item = Result<T::In, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Before the peer is read: a peer that sends without end still gets its values.
        if (self.subscription.is_behind() || !self.sink.is_idle())
            && let Some(rejected) = self.as_mut().poll_values(cx)
        {
            return Poll::Ready(Some(Err(rejected)));
        }
        match self.as_mut().project().inner.poll_next(cx) {
            Poll::Ready(Some(item)) => Poll::Ready(Some(item.map_err(Into::into))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.poll_values(cx) {
                Some(rejected) => Poll::Ready(Some(Err(rejected))),
                None => Poll::Pending,
            },
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // Each published value may add a rejection.
        (self.inner.size_hint().0, None)
    }
}

impl<T, K, M> Sink<M> for Subscribed<T, K, M>
where
    T: Transport<M>,
    K: Hash + Eq,
    M: Clone,
{
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut this = self.project();
        // The snapshot goes first, before any message of the user.
        while this.subscription.is_in_snapshot() && !*this.over {
            if this.sink.is_empty() {
                this.subscription.take(BATCH, |value| this.sink.push(value));
            }
            ready!(this.sink.poll_flush(this.inner.as_mut(), cx))?;
        }
        this.sink.poll_ready(this.inner.as_mut(), cx)
    }

    fn start_send(self: Pin<&mut Self>, message: M) -> Result<(), Error> {
        let this = self.project();
        this.sink.start_send(this.inner, message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.sink.poll_flush(this.inner, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        // Nothing may follow the close, so later publications are not sent.
        *this.over = true;
        this.sink.poll_close(this.inner, cx)
    }
}
