use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::state::{Direction, End, State};
use crate::{Error, transport::wakers::WakerPair};

pin_project! {
    /// A transport with injected faults; see [`Faults`](super::Faults).
    #[derive(Debug)]
    pub struct Fault<T> {
        #[pin]
        inner: T,
        link: Arc<Link>,
    }
}

/// The state that a transport shares with its controller.
#[derive(Debug, Default)]
pub(super) struct Link {
    state: Mutex<State>,
    wakers: WakerPair,
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.wakers.wake_both();
    }

    fn check(&self) -> Result<(), Error> {
        match self.lock().end() {
            End::Cut | End::Ended => Err(cut()),
            End::Open | End::HalfOpen => Ok(()),
        }
    }

    fn is_half_open(&self) -> bool {
        self.lock().end() == End::HalfOpen
    }
}

fn cut() -> Error {
    Error::closed("the connection was cut (by fault injection)")
}

impl<T> Fault<T> {
    pub(super) fn new(inner: T, link: Arc<Link>) -> Self {
        Self { inner, link }
    }

    /// Returns a reference to the inner transport.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns a mutable reference to the inner transport.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Returns the inner transport, without its faults.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T, In, E> Stream for Fault<T>
where
    T: Stream<Item = Result<In, E>>,
    E: Into<Error>,
{
    type Item = Result<In, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        // Registered first, so that a change during the check is not missed; and always, because a change also wakes a
        // task that waits for the transport below.
        this.link.wakers.reader.register(cx.waker());
        loop {
            {
                let mut state = this.link.lock();
                match state.end() {
                    End::Open if state.waits(Direction::Incoming) => return Poll::Pending,
                    End::Open => {}
                    End::HalfOpen => return Poll::Pending,
                    End::Cut => {
                        state.ended();
                        return Poll::Ready(Some(Err(cut())));
                    }
                    End::Ended => return Poll::Ready(None),
                }
            }
            match ready!(this.inner.as_mut().poll_next(cx)) {
                Some(Ok(message)) if this.link.lock().pass(Direction::Incoming) => {
                    return Poll::Ready(Some(Ok(message)));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<T, Out> Sink<Out> for Fault<T>
where
    T: Sink<Out, Error: Into<Error>>,
{
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.link.wakers.writer.register(cx.waker());
        this.link.check()?;
        if this.link.is_half_open() {
            return Poll::Ready(Ok(()));
        }
        if this.link.lock().waits(Direction::Outgoing) {
            return Poll::Pending;
        }
        this.inner.poll_ready(cx).map_err(Into::into)
    }

    fn start_send(self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let this = self.project();
        this.link.check()?;
        if this.link.is_half_open() || !this.link.lock().pass(Direction::Outgoing) {
            return Ok(());
        }
        this.inner.start_send(message).map_err(Into::into)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.link.wakers.writer.register(cx.waker());
        this.link.check()?;
        if this.link.is_half_open() {
            return Poll::Ready(Ok(()));
        }
        if this.link.lock().is_stalled(Direction::Outgoing) {
            return Poll::Pending;
        }
        this.inner.poll_flush(cx).map_err(Into::into)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.link.wakers.writer.register(cx.waker());
        this.link.check()?;
        if this.link.is_half_open() {
            return Poll::Ready(Ok(()));
        }
        if this.link.lock().is_stalled(Direction::Outgoing) {
            return Poll::Pending;
        }
        this.inner.poll_close(cx).map_err(Into::into)
    }
}
