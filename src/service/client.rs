use std::{
    fmt,
    future::Future,
    num::NonZeroUsize,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{
    correlate::{ByTag, Correlate, InOrder, Tagged},
    drive::Drive,
    exchange::{Ended, Flush, Task},
    poll_task::{Step, poll_task},
    shared_exchange::{Readiness, SharedExchange, Stage, Want},
};
use crate::{Error, Transport, transport::wakers::PreparedWaker};

/// The default number of calls in flight.
const IN_FLIGHT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

/// A transport as a cloneable `Service<Req, Response = Res>`: a call sends its request and waits for the answer.
///
/// All clones share one transport. There is no task or channel between them. The call that is polled writes its
/// request; one of the waiting calls reads for all, hands each answer to its call, and passes the lead on when it is
/// done. Nothing is allocated per call.
///
/// # Backpressure
///
/// `poll_ready` returns `Pending` while as many calls are in flight as the client allows (1024, or the limit of
/// [`with_max_in_flight`](Self::with_max_in_flight)). When it returns `Ready`, it has reserved a place for one call.
/// Places are granted in the order of the requests for them. A handle that was woken and is not polled, for example
/// because the future of `ready` was dropped, loses its turn to the next one; it is the first in line when it is polled
/// again. A clone starts without a place. A reserved place that is not used is released when its handle is dropped, so
/// do not keep a ready handle that has nothing to call.
///
/// The call's future waits for the transport to accept the request, then for the answer.
///
/// # Flushing
///
/// A call that is alone flushes at once. While other calls are in flight, the first call to write asks to be polled
/// again, and then flushes for all calls that have written by that time.
///
/// # Errors
///
/// Each call completes. [`Error::may_have_been_executed`] tells whether the request of a failed call may have reached
/// the peer. If it is `false`, a retry cannot execute the call twice.
///
/// | event | calls whose request was sent | calls that wait to be sent | later calls |
/// |---|---|---|---|
/// | the transport ends or fails | fail with the cause | fail with the cause, as not executed | fail |
/// | the connection is replaced, by tag | fail with a [rejection](Error::is_rejection) | are sent later | work |
/// | the same, in order, with calls in flight | fail | fail, as not executed | fail |
/// | the transport rejects a request (it is too large, say) | only that call fails, as not executed | - | work |
/// | an answer cannot be read, in order | only its call fails | - | work |
/// | an answer cannot be read, by tag | all fail: the call that it belongs to is unknown | - | work |
/// | a layer with a queue rejects a request late, by tag | the same | - | work |
/// | a layer with a queue rejects a request late, in order | fail | fail, as not executed | fail |
/// | the transport or its codec panics, by tag | fail with a [rejection](Error::is_rejection) | are sent later | work |
/// | the same while it sends a request, by tag | only that call fails | - | work |
/// | the same, in order | fail | fail, as not executed | fail |
///
/// [`is_closed`](Error::is_closed) is true for the errors of a lost connection.
///
/// A call without a place (without a `poll_ready` that returned `Ready`) fails; no other call is affected.
///
/// # Over a reconnecting transport
///
/// By tag, a client continues across connections, whatever [`WhenLost`](crate::layer::reconnect::WhenLost) is set to. A
/// request that was kept and is sent again may still be executed and answered. Its call has failed by then, and the
/// answer is counted in [`unknown_answers`](Self::unknown_answers). A session that is resumed without a loss fails no
/// call. In order, an answer is identified only by its position, and an answer to a request that was sent again would
/// be given to another call. A loss with calls in flight therefore ends the client. Use a
/// [`Pool`](crate::stack::pool::Pool) for in-order answers: it makes a new client for each connection.
///
/// # Cancel safety
///
/// A dropped call is abandoned. If the transport has not yet accepted the request, the request is withdrawn. Otherwise
/// the peer will answer it. In order, the answer is discarded when it comes, and the call keeps its place in flight
/// until then. By tag, the place is free at once, and the late answer is counted in
/// [`unknown_answers`](Self::unknown_answers) (tags are never reused). A request that was accepted but not flushed goes
/// out with the next flush.
///
/// # Keep polling, or drive
///
/// A call that reads or flushes for all must be polled when it is woken; a task does this automatically. A future that
/// is kept but not polled (such as an arm of a `select!` that is not polled for a while) can hold up other calls only
/// until one of them is polled, which then takes over. It keeps its place in flight. [`drive`](Self::drive) moves the
/// reading to its own future. It also detects the end of the transport, and answers pings, while no call is in flight.
///
/// # Example
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tower::{Service, ServiceExt};
/// use tower_transport::{TransportExt, channel, service::Client};
///
/// let (here, mut there) = channel::<u32, u32>(8);
/// tokio::spawn(async move {
///     while let Some(Ok(number)) = there.receive_message().await {
///         there.send_message(number * number).await.unwrap();
///     }
/// });
///
/// let mut client = Client::in_order(here);
/// let other = client.clone();
/// assert_eq!(client.ready().await?.call(7).await?, 49);
/// assert_eq!(other.oneshot(9).await?, 81);
/// # Ok::<(), tower_transport::Error>(()) }).unwrap();
/// ```
pub struct Client<T, Req, Res, C = InOrder> {
    shared: Arc<SharedExchange<T, Req, Res, C>>,
    readiness: Readiness,
}

impl<T, Req, Res> Client<T, Req, Res>
where
    T: Transport<Req, In = Res>,
{
    /// Creates a client whose answers come in the order of their requests.
    pub fn in_order(transport: T) -> Self {
        Self::new(transport, InOrder)
    }
}

impl<T, Req, Res> Client<T, Req, Res, ByTag>
where
    T: Transport<Tagged<Req>, In = Tagged<Res>>,
{
    /// Creates a client whose requests and answers carry a tag, so that answers may come in any order.
    pub fn by_tag(transport: T) -> Self {
        Self::new(transport, ByTag)
    }
}

impl<T, Req, Res, C> Client<T, Req, Res, C>
where
    C: Correlate<Req, Res>,
    T: Transport<C::Out, In = C::In>,
{
    /// Creates a client with your own correlation.
    pub fn new(transport: T, correlate: C) -> Self {
        Self::with_max_in_flight(transport, correlate, IN_FLIGHT)
    }

    /// Creates a client with your own correlation and at most `limit` calls in flight. Their memory is allocated as
    /// needed.
    pub fn with_max_in_flight(transport: T, correlate: C, limit: NonZeroUsize) -> Self {
        let shared = SharedExchange::new(transport, correlate, C::IN_ORDER, limit.get());
        Self { shared: Arc::new(shared), readiness: Readiness::Unready }
    }

    /// Returns a future that reads for all calls, whether or not any are waiting. Spawning it is optional: calls work
    /// without it.
    ///
    /// Use it to detect the end of the transport while no call is in flight (the future completes then), to answer
    /// pings and send heartbeats all the time, or if call futures are kept without being polled. It costs one hop
    /// between tasks for each batch of answers.
    ///
    /// It completes with `Ok` when the peer has closed the transport. It also completes with `Ok` when every handle and
    /// call is gone, after it has closed the transport itself ([`Drive::close_within`] limits that). Without a driver,
    /// the transport is dropped with the last handle or call.
    ///
    /// # Errors
    ///
    /// The future completes with the cause when the transport fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future returns the reading to the calls.
    pub fn drive(&self) -> Drive<T, Req, Res, C> {
        Drive::new(self.shared.clone())
    }
}

impl<T, Req, Res, C> Client<T, Req, Res, C> {
    /// Returns how many answers came for which no call was waiting: late answers with the tag of a dropped call, and
    /// answers that no call ever asked for.
    #[must_use]
    pub fn unknown_answers(&self) -> u64 {
        self.shared.state.lock().unknown_answers
    }

    /// Returns how many calls wait for their answer.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.state.lock().calls.waiting()
    }
}

impl<T, Req, Res, C> Service<Req> for Client<T, Req, Res, C>
where
    C: Correlate<Req, Res>,
    T: Transport<C::Out, In = C::In>,
{
    type Response = Res;
    type Error = Error;
    type Future = Call<T, Req, Res, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Self { shared, readiness } = self;
        let polled = poll_task(shared, cx, PreparedWaker::new(cx.waker()), |state, _| {
            if let Some(Ended { cause, .. }) = state.ended() {
                let cause = cause.clone();
                let waker = match std::mem::replace(readiness, Readiness::Unready) {
                    Readiness::Waiting(key) => state.leave_line(key),
                    _ => None,
                };
                return Step::Done((Err(cause), waker));
            }
            let (key, again) = match *readiness {
                Readiness::Waiting(key) if !state.permits.claim(key) => (key, true),
                Readiness::Unready if !state.permits.take() => (state.join_line(), false),
                _ => {
                    *readiness = Readiness::Reserved;
                    return Step::Done((Ok(()), None));
                }
            };
            *readiness = Readiness::Waiting(key);
            Step::Wait(Task::Waiter(key), Want::Read { again })
        });
        polled.map(|(ready, _)| ready.map_err(Error::into_unsent))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        match self.readiness {
            Readiness::Reserved => {
                self.readiness = Readiness::Unready;
                Call::new(self.shared.clone(), Stage::New(request))
            }
            // Not a panic: a clone starts without a place, which is easy to miss.
            Readiness::Unready | Readiness::Waiting(_) => Call::new(self.shared.clone(), Stage::Refused),
        }
    }
}

impl<T, Req, Res, C> Clone for Client<T, Req, Res, C> {
    /// Returns another handle, without a place in flight: readiness is not shared.
    fn clone(&self) -> Self {
        self.shared.add_handle();
        Self { shared: self.shared.clone(), readiness: Readiness::Unready }
    }
}

impl<T, Req, Res, C> Drop for Client<T, Req, Res, C> {
    fn drop(&mut self) {
        self.shared.drop_handle(self.readiness);
    }
}

impl<T, Req, Res, C> fmt::Debug for Client<T, Req, Res, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        let (in_flight, unknown) = (state.calls.waiting(), state.unknown_answers);
        let ended = state.ended().map(|ended| ended.cause.clone());
        // Unlocked: the formatter and the source of an error are user code.
        drop(state);
        f.debug_struct("Client")
            .field("in_flight", &in_flight)
            .field("unknown_answers", &unknown)
            .field("ended", &ended)
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}

/// The future of a call of a [`Client`](super::Client). Nothing is sent before it is first polled. Dropping it abandons
/// the call.
#[must_use = "futures do nothing unless awaited"]
pub struct Call<T, Req, Res, C> {
    shared: Arc<SharedExchange<T, Req, Res, C>>,
    stage: Stage<Req>,
}

// A request is moved out of the call, never pinned in it.
impl<T, Req, Res, C> Unpin for Call<T, Req, Res, C> {}

impl<T, Req, Res, C> Call<T, Req, Res, C> {
    fn new(shared: Arc<SharedExchange<T, Req, Res, C>>, stage: Stage<Req>) -> Self {
        Self { shared, stage }
    }

    /// Abandons the call, as dropping it does. Returns whether its place stays taken until its answer comes.
    pub(crate) fn abandon(&mut self) -> bool {
        self.shared.forget(std::mem::replace(&mut self.stage, Stage::Done))
    }
}

impl<T, Req, Res, C> Future for Call<T, Req, Res, C>
where
    C: Correlate<Req, Res>,
    T: Transport<C::Out, In = C::In>,
{
    type Output = Result<Res, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shared, stage } = &mut *self;
        let mut prepared = PreparedWaker::new(cx.waker());
        match stage {
            // It will most likely wait.
            Stage::New(_) => prepared.prepare(),
            Stage::Waiting(_) => {}
            Stage::Refused => {
                *stage = Stage::Done;
                return Poll::Ready(Err(Error::other("called without a place; wait for poll_ready before each call")));
            }
            Stage::Done => return Poll::Pending,
        }
        let mut is_first = true;
        let polled = poll_task(shared, cx, prepared, |state, is_free| {
            let mut want = Want::Read { again: true };
            let key = match std::mem::replace(stage, Stage::Done) {
                Stage::Waiting(key) => key,
                Stage::New(request) => {
                    want = Want::Write;
                    state.calls.insert(request)
                }
                Stage::Refused | Stage::Done => {
                    return Step::Done((Err(Error::other("polled after it was done")), None));
                }
            };
            let is_answered = state.calls.is_answered(key);
            // Unless the promise was made in this poll.
            if std::mem::take(&mut is_first) && state.flush.is_promised_by(key) {
                state.flush = Flush::AtOnce;
                // Otherwise the task that has the transport flushes.
                if is_free && state.ended().is_none() {
                    *stage = Stage::Waiting(key);
                    return Step::Wait(Task::Call(key), if is_answered { Want::FlushOnly } else { Want::Flush });
                }
            }
            // Before the end is looked at: an answer that came first counts.
            if let Some(answer) = state.calls.take_answer(key) {
                state.release();
                if state.flush.is_promised_by(key) {
                    state.flush = Flush::AtOnce;
                }
                state.must_poll |= shared.is_left(state);
                return Step::Done((answer, None));
            }
            if let Some(Ended { cause, .. }) = state.ended() {
                let cause = cause.clone();
                let cause = if state.calls.is_unsent(key) { cause.into_unsent() } else { cause };
                let (rest, _) = state.calls.forget(key, false);
                return Step::Done((Err(cause), rest));
            }
            *stage = Stage::Waiting(key);
            Step::Wait(Task::Call(key), want)
        });
        polled.map(|(answer, _)| answer)
    }
}

impl<T, Req, Res, C> Drop for Call<T, Req, Res, C> {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl<T, Req, Res, C> fmt::Debug for Call<T, Req, Res, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::New(_) => "not polled yet",
            Stage::Waiting(_) => "waiting",
            Stage::Refused | Stage::Done => "done",
        };
        f.debug_struct("Call").field("stage", &stage).finish_non_exhaustive()
    }
}
