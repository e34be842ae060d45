use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_core::Stream;
use futures_sink::Sink;
use tower_service::Service;

use super::{
    error::CallError,
    fate::{Outcome, Polled, Room},
    frame::CallOptions,
    outgoing::{KEPT, Left, Outgoing, milliseconds},
    places::Place,
    protocol::Protocol,
    requests::Grants,
};
use crate::{
    Error,
    sync::{Mutex, MutexGuard},
    transport::wakers::poll_prepared,
};

/// The state that a peer's future and its handles share.
pub(super) struct Shared<P: Protocol> {
    state: Mutex<State<P>>,
    /// Wakes the future.
    pub(super) grants: Arc<Grants>,
    max_notifications: usize,
    window: u32,
}

pub(super) struct State<P: Protocol> {
    pub(super) outgoing: Outgoing<P::Request, P::Response, P::Failure>,
    /// The calls with a time limit that the future has not seen.
    pub(super) timed: Vec<(usize, u64, Duration)>,
    pub(super) is_shutting_down: bool,
    pub(super) ended: Option<Error>,
}

impl<P: Protocol> Shared<P> {
    pub(super) fn new(max_calls: usize, max_notifications: usize, window: u32) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                outgoing: Outgoing::new(max_calls),
                timed: Vec::new(),
                is_shutting_down: false,
                ended: None,
            }),
            grants: Arc::default(),
            max_notifications,
            window,
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock()
    }

    fn wake(&self) {
        self.grants.peer.wake();
    }

    /// Fails what is in flight: the calls that were sent, or `all` of them because nothing else will come.
    pub(super) fn fail(&self, error: &Error, all: bool) {
        self.wake_each(|outgoing| outgoing.fail_next(error, all));
    }

    fn wake_each<F>(&self, mut next: F)
    where
        F: FnMut(
            &mut Outgoing<P::Request, P::Response, P::Failure>,
        ) -> Option<Left<P::Request, P::Response, P::Failure>>,
    {
        loop {
            // One lock for each: what is left of a call is woken and dropped without one.
            let left = next(&mut self.lock().outgoing);
            match left {
                Some(left) => left.wake(),
                None => return,
            }
        }
    }

    /// Ends every call, now and later.
    pub(super) fn end(&self, error: &Error) {
        let notifications = {
            let mut state = self.lock();
            state.ended.get_or_insert_with(|| error.clone());
            state.outgoing.take_notifications()
        };
        drop(notifications);
        loop {
            let waiter = self.lock().outgoing.places.dissolve();
            match waiter {
                Some(waiter) => waiter.wake(),
                None => break,
            }
        }
        self.fail(error, true);
        self.wake_each(Outgoing::forget_next);
    }
}

/// Makes calls to the other end of a [`Peer`](super::Peer). It is a cloneable `Service` of single answers;
/// [`stream`](Self::stream) makes calls with many requests or answers.
///
/// # Backpressure
///
/// `poll_ready` waits for one of the places in flight ([`max_calls`](super::PeerBuilder::max_calls)), in the order of
/// the tasks that wait. A place is free again when the call is over, and the peer has been told if it ended early.
///
/// # Errors
///
/// See [`CallError`]. Each call ends once, with an answer or with a cause. After the connection has ended, all calls
/// fail as not executed.
///
/// # Cancel safety
///
/// Dropping the future of a call, or its stream, cancels the call: a request that is not written yet is withdrawn, and
/// otherwise the other end is told and drops its handler.
///
/// # Deadlines and traces
///
/// [`timeout`](Self::timeout) and [`traceparent`](Self::traceparent) are settings of the handle, and its clones have
/// them too: `caller.clone().timeout(time).oneshot(request)` sets one for a single call.
pub struct Caller<P: Protocol> {
    shared: Arc<Shared<P>>,
    place: Place,
    timeout: Option<Duration>,
    traceparent: Option<String>,
}

impl<P: Protocol> Caller<P> {
    pub(super) fn new(shared: Arc<Shared<P>>) -> Self {
        Self { shared, place: Place::None, timeout: None, traceparent: None }
    }

    /// Sets the time after which a call of this handle fails with an error for which
    /// [`is_timeout`](Error::is_timeout) is true. It counts from the next poll of the [`Peer`](super::Peer), and for
    /// a stream it covers the whole call. The other end learns how much time there is (in whole milliseconds),
    /// and drops its handler when it is over.
    ///
    /// Other than tower's timeout on a caller, it costs no timer a call, and the other end knows of it.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = Some(time);
        self
    }

    /// Sets the trace that the calls of this handle are part of: the value of a `traceparent` header (W3C Trace
    /// Context, section 3.2).
    #[must_use]
    pub fn traceparent(mut self, value: impl Into<String>) -> Self {
        self.traceparent = Some(value.into());
        self
    }

    /// Sends a request that has no answer, after the calls and notifications that were begun before it, and before
    /// those that are begun later. The other end begins them in this order.
    ///
    /// It does not wait: the notification is in a queue of limited length
    /// ([`outgoing_notifications`](super::PeerBuilder::outgoing_notifications)) when this returns.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_full`](Error::is_full) is true if the queue is full, and the cause if the
    /// connection has ended.
    pub fn notify(&self, request: P::Request) -> Result<(), Error> {
        let mut state = self.shared.lock();
        let error = if let Some(error) = &state.ended {
            error.clone().into_unsent()
        } else if state.is_shutting_down {
            shutting_down()
        } else if state.outgoing.notifications() >= self.shared.max_notifications {
            Error::full(format!(
                "{} notifications wait to be sent, which is the limit (PeerBuilder::outgoing_notifications)",
                self.shared.max_notifications
            ))
        } else {
            state.outgoing.notify(request);
            drop(state);
            self.shared.wake();
            return Ok(());
        };
        drop(state);
        Err(error)
    }

    /// Begins a call with a stream of answers and, if `has_more`, further requests. Waits for a place in flight first.
    ///
    /// # Errors
    ///
    /// Returns the cause if the connection has ended.
    pub async fn stream(
        &mut self,
        request: P::Request,
        has_more: bool,
    ) -> Result<CallStream<P>, CallError<P::Failure>> {
        std::future::poll_fn(|cx| self.poll_place(cx)).await?;
        let begun =
            self.begin(request, CallOptions { answers: self.shared.window, has_more, ..CallOptions::default() });
        begun.map(|key| CallStream { shared: self.shared.clone(), key: Some(key) }).map_err(CallError::Unanswered)
    }

    /// Ends the peer in order: calls of the other end are rejected from now on, and so are new calls of this end. The
    /// calls in flight are finished, in both directions, and the transport is closed.
    pub fn graceful_shutdown(&self) {
        self.shared.lock().is_shutting_down = true;
        self.shared.wake();
    }

    /// Returns how many calls of this end are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.lock().outgoing.len()
    }

    fn poll_place(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError<P::Failure>>> {
        let Self { shared, place, .. } = self;
        let reserved = ready!(poll_prepared(cx, |prepared| {
            let mut state = shared.lock();
            if let Some(ended) = &state.ended {
                return Some(Err(ended.clone()));
            }
            state.outgoing.places.poll(place, prepared).map(Ok)
        }));
        Poll::Ready(match reserved {
            Ok(_waker) => Ok(()),
            Err(ended) => {
                self.leave();
                Err(CallError::Unanswered(ended.into_unsent()))
            }
        })
    }

    /// Gives up the place, or the wait for one.
    fn leave(&mut self) {
        let place = std::mem::replace(&mut self.place, Place::None);
        if place != Place::None {
            let (next, _own) = self.shared.lock().outgoing.places.leave(place);
            next.into_iter().for_each(Waker::wake);
        }
    }

    fn begin(&mut self, request: P::Request, mut options: CallOptions) -> Result<usize, Error> {
        if self.place != Place::Reserved {
            return Err(Error::other("called without a place; wait for poll_ready before each call").into_unsent());
        }
        options.timeout_ms = self.timeout.map(milliseconds);
        options.traceparent.clone_from(&self.traceparent);
        let mut state = self.shared.lock();
        if state.ended.is_some() || state.is_shutting_down {
            let error = state.ended.clone().unwrap_or_else(shutting_down);
            drop(state);
            self.leave();
            return Err(error.into_unsent());
        }
        self.place = Place::None;
        let (key, id) = state.outgoing.begin(request, options);
        if let Some(time) = self.timeout {
            let State { outgoing, timed, .. } = &mut *state;
            // Of calls that were dropped before the peer's future ran.
            if timed.len() >= KEPT + 2 * outgoing.len() {
                timed.retain(|(key, id, _)| outgoing.is_live(*key, *id));
            }
            timed.push((key, id, time));
        }
        drop(state);
        self.shared.wake();
        Ok(key)
    }
}

fn shutting_down() -> Error {
    Error::closed("this end of the peer is shutting down (Caller::graceful_shutdown)").into_unsent()
}

impl<P: Protocol> Service<P::Request> for Caller<P> {
    type Response = P::Response;
    type Error = CallError<P::Failure>;
    type Future = Call<P>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_place(cx)
    }

    fn call(&mut self, request: P::Request) -> Call<P> {
        match self.begin(request, CallOptions::default()) {
            Ok(key) => Call { shared: Some(self.shared.clone()), key, refused: None },
            Err(error) => Call { shared: None, key: 0, refused: Some(error) },
        }
    }
}

impl<P: Protocol> Drop for Caller<P> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<P: Protocol> Clone for Caller<P> {
    /// Returns another handle, without a place in flight: readiness is not shared.
    fn clone(&self) -> Self {
        let Self { shared, timeout, traceparent, .. } = self;
        Self { shared: shared.clone(), place: Place::None, timeout: *timeout, traceparent: traceparent.clone() }
    }
}

debug_fields!([P: Protocol] Caller<P>, |this| { in_flight: this.in_flight() });

/// The future of a call with a single answer. Dropping it cancels the call.
#[must_use = "futures do nothing unless awaited"]
pub struct Call<P: Protocol> {
    /// Until it is done.
    shared: Option<Arc<Shared<P>>>,
    key: usize,
    refused: Option<Error>,
}

impl<P: Protocol> Unpin for Call<P> {}

impl<P: Protocol> Future for Call<P> {
    type Output = Result<P::Response, CallError<P::Failure>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(shared) = &self.shared else {
            let refused = self.refused.take();
            let error = refused.unwrap_or_else(|| Error::other("the call was polled after it was done"));
            return Poll::Ready(Err(CallError::Unanswered(error)));
        };
        let key = self.key;
        let (outcome, left) = ready!(poll_prepared(cx, |prepared| {
            // The guard is dropped before what is left of the call.
            let mut state = shared.lock();
            state.outgoing.poll_outcome(key, prepared)
        }));
        left.wake();
        self.shared = None;
        Poll::Ready(match outcome {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => {
                let error = Error::protocol("the peer ended a call of a single answer without an answer");
                Err(CallError::Unanswered(error.into_rejection()))
            }
            Err(error) => Err(error),
        })
    }
}

impl<P: Protocol> Drop for Call<P> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            abandon(&shared, self.key);
        }
    }
}

fn abandon<P: Protocol>(shared: &Shared<P>, key: usize) {
    let (left, must_tell) = shared.lock().outgoing.abandon(key);
    left.wake();
    if must_tell {
        shared.wake();
    }
}

impl<P: Protocol> fmt::Debug for Call<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("is_done", &self.shared.is_none()).finish_non_exhaustive()
    }
}

/// A call with many answers, and further requests if it was begun with them: a transport of its own.
///
/// The stream gives the answers and ends with the call; an error is the last item. The sink takes further requests.
/// Layers for transports of values go on it.
///
/// # Backpressure
///
/// The other end sends as many answers ahead as the [window](super::PeerBuilder::window) of this end allows. The sink
/// waits for the credit of the other end. A call that is not read holds up no other call.
///
/// # Flushing
///
/// `poll_flush` is ready when the peer's future has handed all requests to the transport, which it flushes on its own.
/// `poll_close` ends the requests; the answers go on.
///
/// # Errors
///
/// The sink fails with an error for which [`is_closed`](Error::is_closed) is true once the call is over or its requests
/// have ended; the stream tells why.
///
/// # Cancel safety
///
/// Dropping it cancels the call.
pub struct CallStream<P: Protocol> {
    shared: Arc<Shared<P>>,
    /// Until the outcome was given.
    key: Option<usize>,
}

impl<P: Protocol> Unpin for CallStream<P> {}

impl<P: Protocol> Stream for CallStream<P> {
    type Item = Result<P::Response, CallError<P::Failure>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { shared, key } = &mut *self;
        let Some(of) = *key else { return Poll::Ready(None) };
        let polled = ready!(poll_prepared(cx, |prepared| {
            let mut state = shared.lock();
            state.outgoing.poll_item(of, prepared)
        }));
        match polled {
            Polled::Item(item, is_due) => {
                if is_due {
                    shared.wake();
                }
                Poll::Ready(Some(Ok(item)))
            }
            Polled::Over(outcome, left) => {
                left.wake();
                *key = None;
                Poll::Ready(match outcome as Outcome<P::Response, P::Failure> {
                    Ok(Some(last)) => Some(Ok(last)),
                    Ok(None) => None,
                    Err(error) => Some(Err(error)),
                })
            }
        }
    }
}

impl<P: Protocol> CallStream<P> {
    /// Returns the number of the call.
    #[cfg(test)]
    pub(super) fn number(&self) -> u64 {
        self.key.map_or(0, |key| self.shared.lock().outgoing.number(key))
    }

    fn over() -> CallError<P::Failure> {
        CallError::Unanswered(Error::closed("the call takes no more requests: it is over, or its requests have ended"))
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { shared, key } = self;
        let Some(key) = *key else { return Poll::Ready(()) };
        poll_prepared(cx, |prepared| {
            let mut state = shared.lock();
            state.outgoing.poll_written(key, prepared).then_some(())
        })
    }
}

impl<P: Protocol> Sink<P::Request> for CallStream<P> {
    type Error = CallError<P::Failure>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let Self { shared, key } = &mut *self;
        let Some(key) = *key else { return Poll::Ready(Err(Self::over())) };
        let room = ready!(poll_prepared(cx, |prepared| {
            let mut state = shared.lock();
            state.outgoing.poll_room(key, prepared)
        }));
        Poll::Ready(if room == Room::Free { Ok(()) } else { Err(Self::over()) })
    }

    fn start_send(self: Pin<&mut Self>, request: P::Request) -> Result<(), Self::Error> {
        let Some(key) = self.key else { return Err(Self::over()) };
        let sent = self.shared.lock().outgoing.send(key, request);
        match sent {
            Ok(()) => {
                self.shared.wake();
                Ok(())
            }
            Err(_request) => Err(Self::over()),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_written(cx).map(Ok)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if let Some(key) = self.key {
            self.shared.lock().outgoing.end_requests(key);
            self.shared.wake();
        }
        self.poll_written(cx).map(Ok)
    }
}

impl<P: Protocol> Drop for CallStream<P> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            abandon(&self.shared, key);
        }
    }
}

debug_fields!([P: Protocol] CallStream<P>, |this| { is_over: this.key.is_none() });
