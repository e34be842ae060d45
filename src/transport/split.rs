use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::wakers::WakerPair;

/// The writing half of [`TransportExt::split`](crate::TransportExt::split).
pub struct SplitSink<T, Out> {
    shared: Arc<Shared<T>>,
    waker: Waker,
    out: PhantomData<fn(Out)>,
}

/// The reading half of [`TransportExt::split`](crate::TransportExt::split).
pub struct SplitStream<T> {
    shared: Arc<Shared<T>>,
    waker: Waker,
}

struct Shared<T> {
    transport: Mutex<Pin<Box<T>>>,
    /// The transport is polled with a waker for both halves: a transport that keeps a single waker per direction could
    /// otherwise lose one half's waker.
    halves: Arc<WakerPair>,
}

pub(super) fn split<T, Out>(transport: T) -> (SplitSink<T, Out>, SplitStream<T>) {
    let (halves, waker) = WakerPair::new();
    let shared = Arc::new(Shared { transport: Mutex::new(Box::pin(transport)), halves });
    let sink = SplitSink { shared: shared.clone(), waker: waker.clone(), out: PhantomData };
    (sink, SplitStream { shared, waker })
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Pin<Box<T>>> {
        // If the transport panicked, the panic has already propagated. The other half uses the transport in whatever
        // state that left.
        self.transport.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Stream> Stream for SplitStream<T> {
    type Item = T::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T::Item>> {
        self.shared.halves.reader.register(cx.waker());
        self.shared.lock().as_mut().poll_next(&mut Context::from_waker(&self.waker))
    }
}

impl<T, Out> SplitSink<T, Out> {
    fn poll<R>(&self, cx: &Context<'_>, poll: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<R>) -> Poll<R> {
        self.shared.halves.writer.register(cx.waker());
        poll(self.shared.lock().as_mut(), &mut Context::from_waker(&self.waker))
    }
}

impl<T: Sink<Out>, Out> Sink<Out> for SplitSink<T, Out> {
    type Error = T::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.poll(cx, Sink::poll_ready)
    }

    fn start_send(self: Pin<&mut Self>, item: Out) -> Result<(), T::Error> {
        self.shared.lock().as_mut().start_send(item)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.poll(cx, Sink::poll_flush)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.poll(cx, Sink::poll_close)
    }
}

impl<T, Out> fmt::Debug for SplitSink<T, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SplitSink").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SplitStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SplitStream").finish_non_exhaustive()
    }
}
