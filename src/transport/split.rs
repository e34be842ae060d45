use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Condvar, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::{
    Transport, signal,
    wakers::{Half, WakerPair},
};
use crate::{
    CloseFrame, Error,
    sync::{Mutex, MutexGuard},
};

/// The writing half of [`TransportExt::into_split`](crate::TransportExt::into_split).
///
/// A message that is sent *within* a poll of the other half, by code of the transport, waits here until this half is
/// polled again. Dropping this half without a flush loses it. On another thread, sending a message waits for the end of
/// that poll.
pub struct SplitSink<T, Out> {
    shared: Arc<SharedTransport<T>>,
    waker: Waker,
    /// A message that was sent within a poll of the other half, for which the transport had room.
    waiting: Option<Out>,
}

/// The reading half of [`TransportExt::into_split`](crate::TransportExt::into_split).
pub struct SplitStream<T> {
    shared: Arc<SharedTransport<T>>,
    waker: Waker,
}

struct SharedTransport<T> {
    state: Mutex<TransportSlot<T>>,
    /// Notified when the transport is put back, if anyone [waits](TransportSlot::senders).
    returned: Condvar,
    /// The transport is polled with a waker for both halves: a transport that keeps a single waker per direction could
    /// otherwise lose one half's waker.
    halves: Arc<WakerPair>,
}

/// A half takes the transport out of the lock while it polls it, so that code of the transport and of its messages may
/// use the other half. That half then waits for its turn, as it does when another thread is in the middle of a poll.
///
/// A message cannot wait for a wake-up, since the answer to it is due now. So `start_send` blocks its thread until the
/// transport is back, as for a lock. Only within the other half's poll it cannot: then the message is kept.
struct TransportSlot<T> {
    transport: Option<Pin<Box<T>>>,
    /// The thread that uses the transport, while it is `None`.
    user: usize,
    /// Whether the other half found the transport in use.
    is_awaited: bool,
    /// The number of threads that are blocked until the transport is back.
    senders: usize,
}

/// Returns a number that no other living thread has.
fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// The transport in the hands of a half. Dropping this puts it back, even after a panic.
struct Held<'a, T> {
    shared: &'a SharedTransport<T>,
    half: Half,
    transport: Option<Pin<Box<T>>>,
}

pub(super) fn split<T, Out>(transport: T) -> (SplitSink<T, Out>, SplitStream<T>) {
    let (halves, waker) = WakerPair::new();
    let state = TransportSlot { transport: Some(Box::pin(transport)), user: 0, is_awaited: false, senders: 0 };
    let shared = Arc::new(SharedTransport { state: Mutex::new(state), returned: Condvar::new(), halves });
    let sink = SplitSink { shared: shared.clone(), waker: waker.clone(), waiting: None };
    (sink, SplitStream { shared, waker })
}

impl<T> SharedTransport<T> {
    /// Runs `poll` on the transport. If the other half uses it, returns `None`, and wakes this half afterwards.
    fn with<R>(&self, half: Half, poll: impl FnOnce(Pin<&mut T>) -> R) -> Option<R> {
        self.with_locked(self.state.lock(), half, poll)
    }

    /// As [`with`](Self::with), but waits for another thread that uses the transport.
    fn with_blocking<R>(&self, half: Half, poll: impl FnOnce(Pin<&mut T>) -> R) -> Option<R> {
        let mut state = self.state.lock();
        // Within its own poll this thread would wait for itself.
        while state.transport.is_none() && state.user != this_thread() {
            state.senders += 1;
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.senders -= 1;
        }
        self.with_locked(state, half, poll)
    }

    fn with_locked<R>(
        &self,
        mut state: MutexGuard<'_, TransportSlot<T>>,
        half: Half,
        poll: impl FnOnce(Pin<&mut T>) -> R,
    ) -> Option<R> {
        let transport = state.transport.take();
        match transport {
            Some(_) => state.user = this_thread(),
            // Noted under the lock in which the transport was found missing, and looked at under the lock in which it
            // is put back. So the wake-up cannot fall between the two.
            None => state.is_awaited = true,
        }
        drop(state);
        let mut held = Held { shared: self, half, transport };
        held.transport.as_mut().map(|transport| poll(transport.as_mut()))
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        // This half never had it.
        if self.transport.is_none() {
            return;
        }
        let mut state = self.shared.state.lock();
        state.transport = self.transport.take();
        let is_awaited = std::mem::take(&mut state.is_awaited);
        let has_senders = state.senders > 0;
        drop(state);
        if has_senders {
            self.shared.returned.notify_all();
        }
        if is_awaited {
            match self.half {
                Half::Reader => self.shared.halves.writer.wake(),
                Half::Writer => self.shared.halves.reader.wake(),
            }
        }
    }
}

impl<T> SplitStream<T> {
    /// Receives one message, as [`TransportExt::receive_message`](crate::TransportExt::receive_message) does. Returns
    /// `None` at the end of the transport.
    ///
    /// # Errors
    ///
    /// Returns the errors of the transport's stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn receive_message<In, E>(&mut self) -> Option<Result<In, Error>>
    where
        T: Stream<Item = Result<In, E>>,
        E: Into<Error>,
    {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await.map(|item| item.map_err(Into::into))
    }
}

impl<T: Stream> Stream for SplitStream<T> {
    type Item = T::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T::Item>> {
        // Before the transport is polled or found missing: either may wake at once.
        self.shared.halves.reader.register(cx.waker());
        let polled = self.shared.with(Half::Reader, |it| it.poll_next(&mut Context::from_waker(&self.waker)));
        polled.unwrap_or(Poll::Pending)
    }
}

// The waiting message is moved out, never pinned.
impl<T, Out> Unpin for SplitSink<T, Out> {}

impl<T: Transport<Out>, Out> SplitSink<T, Out> {
    /// Sends one message, as [`TransportExt::send_message`](crate::TransportExt::send_message) does: waits until the
    /// transport is ready, gives it the message and flushes.
    ///
    /// # Errors
    ///
    /// Returns the errors of the transport's sink.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before the transport was ready, the message is not sent. If it is dropped later, the
    /// message is accepted and goes out with the next flush.
    pub async fn send_message(&mut self, message: Out) -> Result<(), Error> {
        poll_fn(|cx| Pin::new(&mut *self).poll_ready(cx)).await.map_err(Into::into)?;
        Pin::new(&mut *self).start_send(message).map_err(Into::into)?;
        poll_fn(|cx| Pin::new(&mut *self).poll_flush(cx)).await.map_err(Into::into)
    }

    /// Closes the transport with this code and reason, after flushing accepted messages, as
    /// [`TransportExt::close_with`](crate::TransportExt::close_with) does. The other half ends once the peer has closed
    /// too.
    ///
    /// # Errors
    ///
    /// Returns the errors of the transport's sink.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the transport half closed. Call this method or `poll_close` again to continue.
    pub async fn close_with(&mut self, frame: CloseFrame) -> Result<(), Error> {
        let close = poll_fn(|cx| signal::with_close_frame(Some(&frame), || Pin::new(&mut *self).poll_close(cx)));
        close.await.map_err(Into::into)
    }
}

impl<T: Sink<Out>, Out> SplitSink<T, Out> {
    fn poll<R>(
        &mut self,
        cx: &Context<'_>,
        poll: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<Result<R, T::Error>>,
    ) -> Poll<Result<R, T::Error>> {
        let Self { shared, waker, waiting } = self;
        shared.halves.writer.register(cx.waker());
        let polled = shared.with(Half::Writer, |mut transport| {
            if let Some(message) = waiting.take() {
                transport.as_mut().start_send(message)?;
            }
            poll(transport, &mut Context::from_waker(waker))
        });
        polled.unwrap_or(Poll::Pending)
    }
}

impl<T: Sink<Out>, Out> Sink<Out> for SplitSink<T, Out> {
    type Error = T::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.poll(cx, Sink::poll_ready)
    }

    fn start_send(mut self: Pin<&mut Self>, item: Out) -> Result<(), T::Error> {
        let Self { shared, waiting, .. } = &mut *self;
        // Into the slot first. If this thread is within the other half's poll, the message is where the next poll looks
        // for it.
        *waiting = Some(item);
        let sent = shared.with_blocking(Half::Writer, |it| waiting.take().map_or(Ok(()), |item| it.start_send(item)));
        sent.unwrap_or(Ok(()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.poll(cx, Sink::poll_flush)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.poll(cx, Sink::poll_close)
    }
}

debug_fields!([T, Out] SplitSink<T, Out> {});

debug_fields!([T] SplitStream<T> {});
