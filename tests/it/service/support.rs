//! Wakers that count, and transports that behave as real ones do.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker, ready},
};

use futures_util::{Sink, Stream};
use tower::Service;
use tower_transport::{Channel, Error, service::Client, transport::signal};

pub(crate) fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll(future, Waker::noop())
}

pub(crate) fn poll_ready<S: Service<R>, R>(service: &mut S, waker: &Waker) -> Poll<Result<(), S::Error>> {
    service.poll_ready(&mut Context::from_waker(waker))
}

/// Calls a service that must be ready.
pub(crate) fn call<S: Service<R>, R>(service: &mut S, request: R) -> S::Future {
    assert!(poll_ready(service, Waker::noop()).is_ready());
    service.call(request)
}

/// The next message for this end, if there is one.
pub(crate) fn receive<Out, In>(end: &mut Channel<Out, In>) -> Option<In> {
    match Pin::new(end).poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(message)) => Some(message.unwrap()),
        _ => None,
    }
}

pub(crate) fn send<Out, In>(end: &mut Channel<Out, In>, message: Out) {
    assert!(try_send(end, message).is_ok());
}

pub(crate) fn try_send<Out, In>(mut end: &mut Channel<Out, In>, message: Out) -> Result<(), Error> {
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(&mut end).poll_ready(&mut cx) {
        Poll::Pending => Err(Error::full("the other end does not read")),
        Poll::Ready(ready) => ready.and_then(|()| Pin::new(end).start_send(message)),
    }
}

/// A transport that keeps what was fed until it is flushed, counts flushes, and fails when it is told to.
pub(crate) struct Buffered<Out, In> {
    channel: Channel<Out, In>,
    fed: VecDeque<Out>,
    room: usize,
    control: Arc<Control>,
}

#[derive(Default)]
pub(crate) struct Control {
    pub(crate) flushes: AtomicUsize,
    pub(crate) fault: Mutex<Option<Error>>,
    /// Refuses the next message, for its own sake.
    pub(crate) refusal: Mutex<Option<Error>>,
    loses: AtomicBool,
    reader: Mutex<Option<Waker>>,
}

impl Control {
    /// The transport loses its connection with what was fed, and continues with another one.
    pub(crate) fn lose(&self) {
        self.loses.store(true, SeqCst);
        self.reader.lock().unwrap().take().into_iter().for_each(Waker::wake);
    }
}

impl<Out, In> Buffered<Out, In> {
    pub(crate) fn new(channel: Channel<Out, In>) -> (Self, Arc<Control>) {
        let control = Arc::new(Control::default());
        (Self { channel, fed: VecDeque::new(), room: 8, control: control.clone() }, control)
    }

    /// With room for so many that are not flushed.
    pub(crate) fn with_room(channel: Channel<Out, In>, room: usize) -> Self {
        Self { room, ..Self::new(channel).0 }
    }
}

impl<Out: Unpin, In> Stream for Buffered<Out, In> {
    type Item = Result<In, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(fault) = self.control.fault.lock().unwrap().take() {
            return Poll::Ready(Some(Err(fault)));
        }
        if self.control.loses.swap(false, SeqCst) {
            self.fed.clear();
            signal::connection_lost();
        }
        *self.control.reader.lock().unwrap() = Some(cx.waker().clone());
        Pin::new(&mut self.channel).poll_next(cx)
    }
}

impl<Out: Unpin, In> Sink<Out> for Buffered<Out, In> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.fed.len() < self.room { Poll::Ready(Ok(())) } else { self.as_mut().poll_flush(cx) }
    }

    fn start_send(mut self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        if let Some(refusal) = self.control.refusal.lock().unwrap().take() {
            return Err(refusal);
        }
        self.fed.push_back(message);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        this.control.flushes.fetch_add(1, SeqCst);
        while !this.fed.is_empty() {
            ready!(Pin::new(&mut this.channel).poll_ready(cx))?;
            if let Some(message) = this.fed.pop_front() {
                Pin::new(&mut this.channel).start_send(message)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.channel).poll_close(cx)
    }
}

/// A small generator of numbers, the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

pub(crate) type InOrderClient = Client<Channel<u32, u32>, u32, u32>;

/// A transport that takes everything and never finishes its close.
pub(crate) struct NeverCloses<T>(pub(crate) T);

impl<T: Stream + Unpin> Stream for NeverCloses<T> {
    type Item = T::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}

impl<Out, T: Sink<Out> + Unpin> Sink<Out> for NeverCloses<T> {
    type Error = T::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        Pin::new(&mut self.0).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Out) -> Result<(), T::Error> {
        Pin::new(&mut self.0).start_send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        Poll::Pending
    }
}
