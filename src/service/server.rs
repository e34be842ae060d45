use std::{
    fmt,
    future::Future,
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    answers::{Answers, OnRejected},
    correlate::{ByTag, InOrder, Respond, Tagged},
    handle::Handle,
    phase::{Failure, Phase, close_timed_out},
};
use crate::{
    Error, MaybeSend, MaybeSync, Transport,
    transport::{
        close_deadline::{CLOSE_WITHIN, CloseDeadline, WaitsFor},
        signal::{self, Mark},
    },
};

/// The default number of requests that are answered at a time.
const CONCURRENCY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

/// The number of requests that are still taken once the server's drain has started: those that have arrived.
const ARRIVED: usize = 1024;

/// The number of requests that one poll takes before it flushes and lets other tasks run.
const BUDGET: usize = 128;

pin_project! {
    /// A future that answers the requests of a transport with a service, until the transport ends.
    ///
    /// # Backpressure
    ///
    /// Each request waits for the service's `poll_ready`, then the service is called with it. Nothing is read while the
    /// service is not ready, or while as many requests are in flight as [`concurrency`](Self::concurrency) allows (64
    /// by default). A request counts until the transport has accepted its answer. This puts backpressure on the peer.
    /// The server holds the one request that found the service not ready. An idle connection does not reserve a service
    /// that it may share with others.
    ///
    /// Answers are flushed when there is nothing else to do, or after 128 requests. Nothing is allocated per request: a
    /// future reuses the memory of one that is done.
    ///
    /// # Shutdown and errors
    ///
    /// - When the peer closes, requests in flight are finished, their answers are sent as far as the peer still accepts
    ///   them, the transport is closed, and the future completes with `Ok`.
    /// - [`graceful_shutdown`](Handle::graceful_shutdown) does the same without waiting for the peer.
    /// - When the transport's [`Drain`](crate::transport) starts, the requests that have arrived are finished too (1024
    ///   at most). The transport then closes with the frame of the drain, and the future waits for the peer's close.
    /// - In these cases a peer that does not read its answers is given up after
    ///   [`close_within`](Self::close_within) without progress, and so is a transport that does not finish its close.
    /// - An error of the transport completes the future at once; requests in flight are dropped.
    /// - An answer that the transport rejects (too large, or it cannot be encoded) is replaced by the answer that
    ///   [`on_rejected_answer`](Self::on_rejected_answer) makes of the error. No other call is affected. Without it, a
    ///   rejected answer closes the connection: see the [module](super#rejected-answers).
    /// - A request that cannot be read closes the connection in the same way.
    /// - When a reconnecting transport loses its connection, requests in flight are dropped and the server goes on.
    ///   Their answers would reach a peer that has not asked, under tags that it may use itself. Do not set
    ///   [`WhenLost::Keep`](crate::layer::reconnect::WhenLost::Keep) on such a transport.
    /// - An error of the service ends the connection: other requests in flight are dropped, answers that were already
    ///   sent are flushed, the transport is closed, and the future completes with the error. To answer with a response
    ///   instead, use tower's `ServiceBuilder::map_result`. An error of `poll_ready` always ends the connection.
    /// - A panic of the service propagates to the task that polls this future. Other connections are not affected.
    ///
    /// An error closes the transport with code 1011 ([`INTERNAL`](crate::CloseCode::INTERNAL)). The peer does not learn
    /// the error itself.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future drops the transport and everything in flight.
    ///
    /// # Example
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    /// use tower_transport::{BoxError, channel, service::{Client, Server}};
    ///
    /// let (here, there) = channel(8);
    /// let divide = ServiceBuilder::new()
    ///     .map_result(|answer: Result<u32, BoxError>| Ok::<_, BoxError>(answer.map_err(|error| error.to_string())))
    ///     .service_fn(async |(a, b): (u32, u32)| a.checked_div(b).ok_or_else(|| "no division by zero".into()));
    /// tokio::spawn(Server::as_they_finish(there, divide));
    ///
    /// let client = Client::by_tag(here);
    /// assert_eq!(client.clone().oneshot((6, 2)).await?, Ok(3));
    /// assert_eq!(client.oneshot((6, 0)).await?, Err("no division by zero".to_owned()));
    /// # Ok::<(), tower_transport::Error>(()) }).unwrap();
    /// ```
    #[must_use = "futures do nothing unless awaited"]
    // The fields name the service's future and answer, which needs the bounds.
    pub struct Server<T, S, Req, R = InOrder>
    where
        S: Service<Req>,
        R: Respond<Req, S::Response>,
    {
        #[pin]
        transport: T,
        service: S,
        concurrency: NonZeroUsize,
        answers: Answers<S::Future, R, Req, S::Response>,
        // A request that waits for the service to be ready.
        waiting: Option<(R::Tag, Req)>,
        phase: Phase,
        // Whether answers were fed that are not flushed.
        is_dirty: bool,
        drain: DrainState,
        // Runs from `Draining` on, while the transport is what the server waits for.
        deadline: CloseDeadline,
        handle: Handle,
    }
}

impl<T, S, Req> Server<T, S, Req>
where
    S: Service<Req>,
    T: Transport<S::Response, In = Req>,
{
    /// Creates a server that answers in the order of the requests. A slow answer delays those behind it.
    pub fn in_order(transport: T, service: S) -> Self {
        Self::new(transport, service, InOrder)
    }
}

impl<T, S, Req> Server<T, S, Req, ByTag>
where
    S: Service<Req>,
    T: Transport<Tagged<S::Response>, In = Tagged<Req>>,
{
    /// Creates a server that answers each request when it is done, with the tag of the request.
    pub fn as_they_finish(transport: T, service: S) -> Self {
        Self::new(transport, service, ByTag)
    }
}

impl<T, S, Req, R> Server<T, S, Req, R>
where
    S: Service<Req>,
    R: Respond<Req, S::Response>,
{
    /// Creates a server that answers according to `respond`.
    pub fn new(transport: T, service: S, respond: R) -> Self
    where
        T: Transport<R::Out, In = R::In>,
    {
        Self {
            transport,
            service,
            concurrency: CONCURRENCY,
            answers: Answers::new(respond),
            waiting: None,
            phase: Phase::Serving,
            is_dirty: false,
            drain: DrainState::Open,
            deadline: CloseDeadline::new(CLOSE_WITHIN),
            handle: Handle::new(),
        }
    }

    /// Sets how many requests may be in flight. Defaults to 64.
    pub fn concurrency(mut self, limit: NonZeroUsize) -> Self {
        self.concurrency = limit;
        self
    }

    /// Sets the function that makes a replacement for an answer that the transport rejected, for example because it is
    /// too large or cannot be encoded. The function gets the transport's error. Without it, a rejected answer
    /// [closes](super#rejected-answers) the connection. Keep the replacement small: if it is rejected in turn, the
    /// connection is closed as well.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// # use tower::{ServiceExt, service_fn};
    /// # use tower_transport::{channel, layer::limit::LimitLayer, service::{Client, Server}};
    /// use tower_transport::{Error, Message, TransportExt};
    ///
    /// let (here, there) = channel::<Message, Message>(8);
    /// let large = service_fn(async |_: Message| Ok::<_, Error>(Message::binary(vec![0; 5000])));
    /// let server = Server::in_order(there.layer(LimitLayer::new().max_message(1000)), large)
    ///     .on_rejected_answer(|error| Message::text(format!("error: {error}")));
    /// tokio::spawn(server);
    /// let answer = Client::in_order(here).oneshot("all".into()).await?;
    /// assert!(answer.as_text().unwrap().starts_with("error: an outgoing message of 5000 bytes"));
    /// # Ok::<(), Error>(()) }).unwrap();
    /// ```
    pub fn on_rejected_answer(
        mut self,
        answer: impl Fn(&Error) -> S::Response + MaybeSend + MaybeSync + 'static,
    ) -> Self
    where
        R::Tag: Clone,
    {
        self.answers.on_rejected(OnRejected { copy: R::Tag::clone, answer: Box::new(answer) });
        self
    }

    /// Sets the maximum time that the server waits for its transport once it reads no more requests: to take the last
    /// answers, to flush them, and to close. Defaults to 10 seconds. [`Duration::MAX`] disables the limit.
    ///
    /// The time counts from the last progress: an answer that the transport takes, or bytes that
    /// [move](crate::transport::signal::moved). However slowly they move, it takes at most 16 times this value. It does
    /// not count while the server waits for the service alone, or a session of the resume layer for its client (which
    /// `SessionStore::ttl` limits), and starts again afterwards. At the limit the future completes with an error for
    /// which [`is_timeout`](Error::is_timeout) is true, or with the failure that it closes for, and dropping it cuts
    /// the connection.
    ///
    /// It needs timers, as [`QueueConfig::close_within`](crate::QueueConfig::close_within) does. Without them, it is
    /// off.
    pub fn close_within(mut self, time: Duration) -> Self {
        self.deadline.set_limit(time);
        self
    }

    /// Returns a handle that shuts down this server from elsewhere.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    accessors! {
        transport: T, "transport",
        get_mut: "Messages that you read or send directly are not matched with any call.",
        into_inner: ". The requests in flight and their answers are lost.",
    }
}

impl<T, S, Req, R> Future for Server<T, S, Req, R>
where
    S: Service<Req>,
    S::Error: Into<Error>,
    R: Respond<Req, S::Response>,
    T: Transport<R::Out, In = R::In>,
{
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.handle.poll_shutdown(cx.waker()) {
            self.as_mut().project().phase.drain(false);
        }
        let mut budget = BUDGET;
        let mark = Mark::now();
        let mut has_written = false;
        loop {
            if let Phase::Closing(_) = self.phase {
                return self.poll_close(cx);
            }
            let polled = match self.as_mut().project().answers.poll(cx) {
                Ok(polled) => polled,
                Err(error) => {
                    self.as_mut().abort(Failure::of_service(error.into()));
                    continue;
                }
            };
            let wrote = match self.as_mut().write(cx) {
                Ok(wrote) => wrote,
                Err(error) => return Poll::Ready(self.write_failed(cx, error)),
            };
            has_written |= wrote;
            // After the answers: they free places, and a peer that does not read its answers is not read from.
            let took = self.as_mut().take_requests(cx, &mut budget)?;
            if !polled && !wrote && !took {
                break;
            }
            // A round counts as well, because some futures wake themselves each time.
            budget = budget.saturating_sub(1);
            if budget == 0 {
                cx.waker().wake_by_ref();
                break;
            }
        }
        if self.is_dirty {
            let mark = Mark::now();
            let this = self.as_mut().project();
            let flushed = signal::holding(|| this.transport.poll_flush(cx)).map_err(Into::into);
            if mark.has_lost() {
                self.as_mut().drop_in_flight();
            }
            match flushed {
                Poll::Ready(Ok(())) => *self.as_mut().project().is_dirty = false,
                Poll::Ready(Err(error)) if error.is_rejection() => {
                    // The flush goes on in the next poll: the transport was not pending, so it wakes nobody.
                    self.as_mut().rejected_late(error);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(self.write_failed(cx, error)),
                Poll::Pending => {}
            }
        }
        let is_done = self.answers.in_flight() == 0 && self.waiting.is_none();
        if let (Phase::Draining { failure, .. }, true) = (self.as_mut().project().phase, is_done) {
            let failure = failure.take();
            let this = self.as_mut().project();
            *this.phase = Phase::Closing(failure);
            this.deadline.stop();
            return self.poll_close(cx);
        }
        let this = self.project();
        let is_transport_due = *this.is_dirty || this.answers.has_next();
        let has_moved = has_written || mark.has_moved();
        this.phase.poll_deadline(this.deadline, is_transport_due, has_moved, mark, cx).map(Err)
    }
}

impl<T, S, Req, R> Server<T, S, Req, R>
where
    S: Service<Req>,
    S::Error: Into<Error>,
    R: Respond<Req, S::Response>,
    T: Transport<R::Out, In = R::In>,
{
    /// Hands answers to the transport as long as it accepts them. Returns whether it accepted any.
    fn write(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Result<bool, Error> {
        let mut wrote = false;
        while self.answers.has_next() {
            let mark = Mark::now();
            let this = self.as_mut().project();
            let ready = signal::holding(|| this.transport.poll_ready(cx)).map_err(Into::into);
            if mark.has_lost() {
                self.as_mut().drop_in_flight();
                return Ok(true);
            }
            match ready {
                Poll::Pending => break,
                Poll::Ready(Err(error)) if error.is_rejection() => {
                    self.as_mut().rejected_late(error);
                    cx.waker().wake_by_ref();
                    break;
                }
                Poll::Ready(ready) => ready?,
            }
            let mark = Mark::now();
            self.as_mut().write_next()?;
            if mark.has_lost() {
                self.as_mut().drop_in_flight();
            }
            wrote = true;
        }
        Ok(wrote)
    }

    /// Hands the next answer to the transport, which is ready.
    fn write_next(mut self: Pin<&mut Self>) -> Result<(), Error> {
        let this = self.as_mut().project();
        let Some((answer, spare)) = this.answers.next() else { return Ok(()) };
        *this.is_dirty = true;
        let Err(error) = this.transport.start_send(answer).map_err(Into::into) else { return Ok(()) };
        if !error.is_rejection() && !error.is_too_large() {
            return Err(error);
        }
        this.handle.answer_rejected(&error);
        if !this.answers.replace(spare, &error) {
            self.give_up(error);
        }
        Ok(())
    }

    /// Handles a rejection of an answer that the transport had accepted before. Answers that were lost with a
    /// connection are no longer of interest.
    fn rejected_late(self: Pin<&mut Self>, error: Error) {
        if !error.is_closed() {
            self.handle.answer_rejected(&error);
            self.give_up(error);
        }
    }

    /// Ends the connection because one call gets no answer, which its caller can only learn from the end. By tag, the
    /// other requests in flight are answered first. In order, the next answer would be taken for the missing one.
    fn give_up(self: Pin<&mut Self>, error: Error) {
        match Failure::unanswered(error) {
            failure if R::IN_ORDER => self.abort(failure),
            failure => self.project().phase.fail(failure),
        }
    }

    /// Drops the requests in flight, because the connection was lost and the peer of the next connection has not asked
    /// for them.
    fn drop_in_flight(self: Pin<&mut Self>) {
        let this = self.project();
        this.answers.clear();
        *this.waiting = None;
    }

    /// Calls the service with received requests, as long as there is room and the service is ready. Returns whether it
    /// was called, or the stage has changed.
    fn take_requests(mut self: Pin<&mut Self>, cx: &mut Context<'_>, budget: &mut usize) -> Result<bool, Error> {
        let mut took = false;
        while *budget > 0 && self.answers.in_flight() < self.concurrency.get() {
            // The service is asked only once there is a request, and a request that finds it not ready is kept, because
            // readiness may be a permit that other connections share.
            if self.waiting.is_none() && matches!(self.phase, Phase::Serving) {
                let mark = Mark::now();
                let this = self.as_mut().project();
                // The transport leaves its close to this server, which has answers to send.
                let polled = signal::holding(|| this.transport.poll_next(cx)).map_err(Into::into);
                if mark.has_drained() && this.drain.is_over(&polled) {
                    this.phase.drain(false);
                }
                if mark.has_lost() {
                    self.as_mut().drop_in_flight();
                }
                match polled {
                    Poll::Pending => break,
                    Poll::Ready(Some(Err(error))) if error.is_rejection() => {
                        *budget -= 1;
                        took = true;
                        if error.is_closed() || !error.may_have_been_executed() {
                            self.as_mut().rejected_late(error);
                            continue;
                        }
                        self.handle.request_unreadable(&error);
                        self.as_mut().project().phase.fail(Failure::unreadable(error));
                        continue;
                    }
                    Poll::Ready(Some(message)) => {
                        let this = self.as_mut().project();
                        *this.waiting = Some(this.answers.request(message?));
                    }
                    Poll::Ready(None) => {
                        self.as_mut().project().phase.drain(true);
                        return Ok(true);
                    }
                }
            }
            let this = self.as_mut().project();
            if this.waiting.is_none() {
                break;
            }
            let called = match this.service.poll_ready(cx) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => Err(error),
                Poll::Ready(Ok(())) => match this.waiting.take() {
                    Some((tag, request)) => this.answers.push(tag, this.service.call(request)),
                    None => Ok(()),
                },
            };
            took = true;
            *budget -= 1;
            if let Err(error) = called {
                self.abort(Failure::of_service(error.into()));
                break;
            }
        }
        Ok(took)
    }

    /// Ends the server: no more answers are sent.
    fn abort(mut self: Pin<&mut Self>, failure: Failure) {
        self.as_mut().drop_in_flight();
        *self.project().phase = Phase::Closing(Some(failure));
    }

    /// Handles a peer that accepts no more answers. This is a regular end if the peer has closed, and an error
    /// otherwise.
    fn write_failed(self: Pin<&mut Self>, cx: &mut Context<'_>, error: Error) -> Result<(), Error> {
        let mut this = self.project();
        if !error.is_closed() {
            return Err(error);
        }
        match this.phase {
            Phase::Draining { failure: Some(failure), .. } => return Err(failure.error.clone()),
            Phase::Draining { peer_closed: true, .. } => return Ok(()),
            _ => {}
        }
        // A peer that is completely gone may have left requests behind, whose answers it does not await.
        for _ in 0..BUDGET {
            match this.transport.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(None) => return Ok(()),
                Poll::Ready(Some(Err(_))) | Poll::Pending => break,
            }
        }
        Err(error)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut this = self.project();
        let failure = if let Phase::Closing(failure) = this.phase { failure.as_ref() } else { None };
        let frame = failure.map(Failure::close_frame);
        let mark = Mark::now();
        let closed = signal::with_close_frame(frame.as_ref(), || this.transport.as_mut().poll_close(cx));
        let closed = match closed.map_err(Into::into) {
            // A socket that is closed with unread requests is reset, and the peer may lose the last answers.
            Poll::Ready(Ok(())) if *this.drain != DrainState::Open => poll_discard(this.transport.as_mut(), cx),
            closed => closed,
        };
        let closed = match closed {
            Poll::Ready(closed) => closed,
            Poll::Pending => {
                ready!(this.deadline.poll(mark.has_moved(), WaitsFor::Transport.unless_client(mark), cx));
                Err(close_timed_out(this.deadline))
            }
        };
        if closed.as_ref().is_err_and(Error::is_rejection) {
            // The rejection concerns an answer; the close goes on.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(match (failure, closed) {
            (Some(failure), _) => Err(failure.error.clone()),
            // The peer has closed first.
            (None, Err(error)) if !error.is_closed() => Err(error),
            _ => Ok(()),
        })
    }
}

/// The state of the transport's drain, as far as a server knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DrainState {
    Open,
    /// The drain has started. Contains the number of requests that are still taken.
    Started(usize),
}

impl DrainState {
    /// Counts what a draining transport returned. Returns whether everything that had arrived is read.
    fn is_over<I>(&mut self, polled: &Poll<I>) -> bool {
        let left = match *self {
            Self::Open => ARRIVED,
            Self::Started(left) => left,
        };
        *self = Self::Started(left.saturating_sub(1));
        polled.is_pending() || left <= 1
    }
}

/// Reads and drops messages until the peer has closed.
pub(super) fn poll_discard<T, Out>(mut transport: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
where
    T: Transport<Out>,
{
    for _ in 0..BUDGET {
        match ready!(transport.as_mut().poll_next(cx)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                if !error.into().is_rejection() {
                    return Poll::Ready(Ok(()));
                }
            }
            None => return Poll::Ready(Ok(())),
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

impl<T, S, Req, R> fmt::Debug for Server<T, S, Req, R>
where
    S: Service<Req>,
    R: Respond<Req, S::Response>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("concurrency", &self.concurrency).finish_non_exhaustive()
    }
}
