use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    num::{NonZeroU32, NonZeroUsize},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    caller::{Caller, Shared},
    deadlines::{Deadlines, Timed},
    error::CallError,
    frame::{Frame, Rejection},
    handler::{IncomingCall, Reply},
    incoming::{Incoming, IncomingLimits, Violation, WhenNotificationsFull},
    outgoing::{Fate, Outcome},
    protocol::{Decoded, InFrame, OutFrame, Protocol},
};
use crate::{
    CloseCode, CloseFrame, Error, Transport, log,
    rt::{self, Instant},
    service::server::poll_discard,
    transport::{
        close_deadline::{CLOSE_WITHIN, CloseDeadline, WaitsFor},
        signal::{self, Mark},
    },
};

/// The number of steps in one poll before other tasks get their turn.
const BUDGET: usize = 128;

/// The number of replies of the protocol's own that may wait before nothing more is read.
const REPLIES: usize = 64;

/// The same for rejections, which take 16 bytes each. Two ends that both stop reading would wait for each other for
/// ever, so this is more than the calls of an end that keeps to the limits.
const REJECTIONS: usize = 4096;

/// The settings of a [`Peer`].
#[derive(Clone, Debug)]
pub struct PeerBuilder<P> {
    protocol: P,
    max_calls: NonZeroUsize,
    outgoing_notifications: usize,
    incoming: IncomingLimits,
    close_within: Duration,
}

impl<P: Protocol> PeerBuilder<P> {
    /// Creates the settings of a peer with this wire.
    pub fn new(protocol: P) -> Self {
        Self {
            protocol,
            max_calls: NonZeroUsize::MIN.saturating_add(1023),
            outgoing_notifications: 1024,
            incoming: IncomingLimits {
                calls: 1024,
                notifications: 1024,
                when_full: WhenNotificationsFull::default(),
                window: 16,
            },
            close_within: CLOSE_WITHIN,
        }
    }

    /// Sets how many calls of this end may be in flight. Defaults to 1024. Set it to at most the other end's
    /// [`max_incoming_calls`](Self::max_incoming_calls), which rejects what is over.
    #[must_use]
    pub fn max_calls(mut self, limit: NonZeroUsize) -> Self {
        self.max_calls = limit;
        self
    }

    /// Sets how many calls of the other end may be in flight. Defaults to 1024. A call over the limit is rejected as
    /// [overloaded](Rejection::Overloaded): it cannot wait, because the answers to this end's calls come behind it.
    #[must_use]
    pub fn max_incoming_calls(mut self, limit: NonZeroUsize) -> Self {
        self.incoming.calls = limit.get();
        self
    }

    /// Sets how many notifications of this end may wait for the transport. Defaults to 1024.
    #[must_use]
    pub fn outgoing_notifications(mut self, limit: usize) -> Self {
        self.outgoing_notifications = limit;
        self
    }

    /// Sets how many notifications of the other end may wait for the service, and what happens to those over the
    /// limit. Defaults to 1024 and [`Close`](WhenNotificationsFull::Close).
    #[must_use]
    pub fn notifications(mut self, limit: usize, when_full: WhenNotificationsFull) -> Self {
        self.incoming.notifications = limit;
        self.incoming.when_full = when_full;
        self
    }

    /// Sets how many items of one stream the other end may send ahead: answers to a call of this end, requests of a
    /// call of the other end. Defaults to 16. They are kept in memory until they are read, each of at most the
    /// transport's message size.
    #[must_use]
    pub fn window(mut self, items: NonZeroU32) -> Self {
        self.incoming.window = items.get();
        self
    }

    /// Sets the maximum time that the peer waits for its transport once it shuts down, without progress. Defaults to
    /// 10 seconds; [`Duration::MAX`] disables the limit. See [`Server::close_within`](crate::service::Server).
    #[must_use]
    pub fn close_within(mut self, time: Duration) -> Self {
        self.close_within = time;
        self
    }

    /// Creates the peer of a transport, and the handle that makes calls to the other end. `service` handles the calls
    /// of the other end.
    pub fn build<T, S, St>(self, transport: T, service: S) -> (Caller<P>, Peer<T, P, S, St>)
    where
        T: Transport<P::Out, In = P::In>,
        S: Service<IncomingCall<P::InRequest>, Response = Reply<P::InResponse, St>, Error = P::Failure>,
        St: Stream<Item = Result<P::InResponse, P::Failure>>,
    {
        let shared = Shared::new(self.max_calls.get(), self.outgoing_notifications, self.incoming.window);
        let caller = Caller::new(shared.clone());
        let peer = Peer {
            transport,
            service,
            protocol: self.protocol,
            decoded: Decoded::new(),
            incoming: Incoming::new(self.incoming, shared.grants.clone()),
            rejections: Vec::new(),
            credits: Vec::new(),
            deadlines: Deadlines::default(),
            phase: Phase::Serving,
            is_dirty: false,
            is_drained: false,
            answers_first: true,
            deadline: CloseDeadline::new(self.close_within),
            shared: Guard(shared),
            stream: PhantomData,
        };
        (caller, peer)
    }
}

/// The phases of a peer.
///
/// ```text
///   Serving ---- graceful_shutdown ----> Draining ---- all calls are over ----> Closing
///      \________________ the other end breaks the protocol, or ends ______________/
/// ```
#[derive(Debug)]
enum Phase {
    Serving,
    Draining,
    /// With the result of the future.
    Closing(Result<(), Error>, Option<CloseFrame>),
}

/// Fails the calls of all handles when the future is dropped.
struct Guard<P: Protocol>(Arc<Shared<P>>);

impl<P: Protocol> Drop for Guard<P> {
    fn drop(&mut self) {
        self.0.end(&Error::closed("the peer was dropped, which ends its calls"));
    }
}

pin_project! {
    /// One end of a connection on which both ends make calls: a future that does the work of its transport, answers the
    /// calls of the other end, and makes those of its [`Caller`]s. Spawn it. [`PeerBuilder::build`] creates it.
    ///
    /// # Backpressure
    ///
    /// Neither direction holds up the other. The peer always reads: answers and items go to their calls, which are
    /// bounded by their number and their credit; calls of the other end wait for the service, bounded by
    /// [`max_incoming_calls`](PeerBuilder::max_incoming_calls). It stops reading only while rejections that the other
    /// end does not read pile up. Frames are written in turns, one for each call, so a call with a long stream does not
    /// delay the others.
    ///
    /// # Errors and shutdown
    ///
    /// | event | calls in flight | the future |
    /// |---|---|---|
    /// | the other end closes the transport | fail as closed; handlers are dropped | completes with `Ok` |
    /// | the transport fails | fail with the cause; handlers are dropped | completes with the cause |
    /// | the transport [loses](crate::transport::signal::connection_lost) its connection and goes on with another | those that were sent fail with a [rejection](Error::is_rejection); handlers are dropped | goes on |
    /// | a session resumes without a loss | go on | goes on |
    /// | the other end breaks the protocol (credit, numbers) | fail | closes with 1002, completes with an error |
    /// | the transport rejects a request | that call fails, as not executed | goes on |
    /// | the transport rejects an answer | that call fails at the other end ([`Unsendable`](Rejection::Unsendable)) | goes on |
    /// | a message cannot be read | fail: whose it is cannot be known | closes with 1002, completes with the cause |
    /// | a handler panics | that call fails at the other end ([`Panicked`](Rejection::Panicked)) | goes on |
    /// | the service's `poll_ready` fails | fail | closes with 1011, completes with an error |
    /// | [`graceful_shutdown`](Caller::graceful_shutdown), or a [`Drain`](crate::transport::Drain) of the server | are finished; new calls of both ends are rejected as not executed | closes, completes with `Ok` |
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the transport and the handlers, and fails the calls of its handles.
    #[must_use = "futures do nothing unless awaited"]
    pub struct Peer<T, P, S, St>
    where
        P: Protocol,
        S: Service<IncomingCall<P::InRequest>, Response = Reply<P::InResponse, St>, Error = P::Failure>,
        St: Stream<Item = Result<P::InResponse, P::Failure>>,
    {
        #[pin]
        transport: T,
        service: S,
        protocol: P,
        decoded: Decoded<P>,
        incoming: Incoming<P::InRequest, P::InResponse, P::Failure, S::Future, St>,
        // Calls of the other end that are not answered by the service.
        rejections: Vec<(u64, Rejection)>,
        // Credit for the requests of calls that have begun.
        credits: Vec<(u64, u32)>,
        deadlines: Deadlines,
        phase: Phase,
        // Whether frames were fed that are not flushed.
        is_dirty: bool,
        // Whether the server's drain has started, which the transport reports.
        is_drained: bool,
        // Whether answers are looked at before this end's own calls: they take turns.
        answers_first: bool,
        deadline: CloseDeadline,
        shared: Guard<P>,
        stream: PhantomData<fn() -> St>,
    }
}

impl<T, P, S, St> Future for Peer<T, P, S, St>
where
    P: Protocol,
    T: Transport<P::Out, In = P::In>,
    S: Service<IncomingCall<P::InRequest>, Response = Reply<P::InResponse, St>, Error = P::Failure>,
    St: Stream<Item = Result<P::InResponse, P::Failure>>,
{
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.shared.0.grants.peer.register(cx.waker());
        let mut budget = BUDGET;
        let mark = Mark::now();
        loop {
            if let Phase::Closing(..) = self.phase {
                return self.poll_close(cx);
            }
            let expired = self.as_mut().poll_deadlines(cx);
            let handled = self.as_mut().poll_handlers(cx);
            let wrote = match self.as_mut().write(cx, &mut budget) {
                Ok(wrote) => wrote,
                Err(error) => return Poll::Ready(self.failed(error)),
            };
            let read = match self.as_mut().read(cx, &mut budget) {
                Ok(read) => read,
                Err(error) => return Poll::Ready(self.failed(error)),
            };
            if !expired && !handled && !wrote && !read {
                break;
            }
            budget = budget.saturating_sub(1);
            if budget == 0 {
                cx.waker().wake_by_ref();
                break;
            }
        }
        if let Err(error) = self.as_mut().flush(cx) {
            return Poll::Ready(self.failed(error));
        }
        self.poll_drained(cx, mark)
    }
}

impl<T, P, S, St> Peer<T, P, S, St>
where
    P: Protocol,
    T: Transport<P::Out, In = P::In>,
    S: Service<IncomingCall<P::InRequest>, Response = Reply<P::InResponse, St>, Error = P::Failure>,
    St: Stream<Item = Result<P::InResponse, P::Failure>>,
{
    /// Ends the calls whose time is over. Returns whether there were any.
    fn poll_deadlines(self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        let this = self.project();
        let timed = std::mem::take(&mut this.shared.0.lock().timed);
        if !timed.is_empty() && !rt::has_timers() {
            for (key, _, _) in timed {
                let error = Error::config(
                    "the timeout of a call needs a runtime with timers, which the peer's task does not have",
                );
                let left = this.shared.0.lock().outgoing.cancel(key, error.into_rejection());
                left.wake();
            }
        } else if !timed.is_empty() {
            let now = Instant::now();
            let live = this.shared.0.lock().outgoing.len() + this.incoming.len();
            for (key, id, time) in timed {
                if let Some(at) = now.checked_add(time) {
                    let incoming = &*this.incoming;
                    let shared = &this.shared.0;
                    this.deadlines.add(at, Timed::Outgoing(key, id), |call| is_live(call, incoming, shared), live);
                }
            }
        }
        let mut expired = false;
        while let Poll::Ready(call) = this.deadlines.poll(cx) {
            expired = true;
            match call {
                Timed::Outgoing(key, id) => {
                    let left = this.shared.0.lock().outgoing.time_out(key, id);
                    left.wake();
                }
                Timed::Incoming(id) => {
                    if this.incoming.cancel(id, "the time of the call is over") {
                        this.rejections.push((id, Rejection::TimedOut));
                    }
                }
            }
        }
        expired
    }

    /// Polls the handlers, and calls the service with what waits. Returns whether anything happened.
    fn poll_handlers(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        let this = self.as_mut().project();
        let polled = this.incoming.poll(cx);
        match this.incoming.start(this.service, cx) {
            Ok(called) => polled || called,
            Err(_failure) => {
                let error =
                    Error::other("the service of the peer is not ready, and never will be: its poll_ready failed");
                self.close_with(CloseCode::INTERNAL, "the service failed", error);
                true
            }
        }
    }

    /// Returns the next frame to write, if any. `None` also if something finished that has no frame.
    fn next_frame(self: Pin<&mut Self>) -> Option<OutFrame<P>> {
        let this = self.project();
        if let Some((id, reason)) = this.rejections.pop() {
            return Some(Frame::Rejected { id, reason });
        }
        if let Some((id, requests)) = this.credits.pop().or_else(|| this.incoming.next_grant()) {
            return Some(Frame::RequestCredit { id, requests });
        }
        *this.answers_first = !*this.answers_first;
        if *this.answers_first && this.incoming.has_answer() {
            return this.incoming.next_answer();
        }
        let (frame, left) = {
            let mut state = this.shared.0.lock();
            match state.outgoing.next_frame() {
                Some((frame, left)) => (Some(frame), Some(left)),
                None => (state.notifications.pop_front().map(|request| Frame::Notification { request }), None),
            }
        };
        if let Some(left) = left {
            left.wake();
        }
        frame.or_else(|| this.incoming.next_answer())
    }

    /// Hands frames to the transport as long as it takes them. Returns whether it took any.
    fn write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, budget: &mut usize) -> Result<bool, Error> {
        let mut wrote = false;
        while *budget > 0 {
            let has_reply = !self.decoded.replies.is_empty();
            if !has_reply && !self.as_mut().has_pending() {
                break;
            }
            let mark = Mark::now();
            let ready = self.as_mut().project().transport.poll_ready(cx).map_err(Into::into);
            if mark.has_lost() {
                self.as_mut().lost();
                return Ok(true);
            }
            match ready {
                Poll::Pending => break,
                // A layer with a queue rejects a frame that it had taken: whose it is cannot be known.
                Poll::Ready(Err(error)) if error.is_rejection() && !error.is_closed() => {
                    let error = error.context("a frame was rejected after the transport had accepted it");
                    self.as_mut().close_with(CloseCode::INTERNAL, "a frame was lost", error);
                    return Ok(true);
                }
                Poll::Ready(Err(error)) if error.is_rejection() => {
                    cx.waker().wake_by_ref();
                    break;
                }
                Poll::Ready(ready) => ready?,
            }
            *budget -= 1;
            wrote = true;
            self.as_mut().write_next()?;
        }
        Ok(wrote)
    }

    /// Returns whether there is a frame to write.
    fn has_pending(self: Pin<&mut Self>) -> bool {
        let this = self.project();
        if !this.rejections.is_empty() || !this.credits.is_empty() || this.incoming.has_answer() {
            return true;
        }
        if let Some(grant) = this.incoming.next_grant() {
            this.credits.push(grant);
            return true;
        }
        let state = this.shared.0.lock();
        state.outgoing.has_due() || !state.notifications.is_empty()
    }

    /// Hands one message to the transport, which is ready.
    fn write_next(mut self: Pin<&mut Self>) -> Result<(), Error> {
        let (owner, message) = match self.as_mut().project().decoded.replies.pop_front() {
            Some(reply) => (Owner::Nobody, reply),
            None => {
                let Some(frame) = self.as_mut().next_frame() else { return Ok(()) };
                let owner = Owner::of(&frame);
                match self.as_mut().project().protocol.encode(frame) {
                    Ok(Some(message)) => (owner, message),
                    Ok(None) => return Ok(()),
                    Err(error) => {
                        self.rejected(owner, error);
                        return Ok(());
                    }
                }
            }
        };
        let this = self.as_mut().project();
        *this.is_dirty = true;
        let mark = Mark::now();
        let sent = this.transport.start_send(message).map_err(Into::into);
        if mark.has_lost() {
            self.as_mut().lost();
        }
        match sent {
            Err(error) if error.is_rejection() || error.is_too_large() => self.rejected(owner, error),
            sent => sent?,
        }
        Ok(())
    }

    /// Handles a frame that the transport or the protocol did not take.
    fn rejected(self: Pin<&mut Self>, owner: Owner, error: Error) {
        let this = self.project();
        match owner {
            // It was the first frame of its call, so the peer knows nothing.
            Owner::Call(id) => this.shared.0.fail_call(id, error.into_unsent(), false),
            Owner::Request(id) => this.shared.0.fail_call(id, error, true),
            Owner::Answer(id) => {
                log::answer_rejected(&error);
                this.incoming.cancel(id, "an answer could not be sent");
                this.rejections.push((id, Rejection::Unsendable));
            }
            Owner::Nobody => log::notification_rejected(&error),
        }
    }

    /// Takes what the other end sends. Returns whether there was anything.
    fn read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, budget: &mut usize) -> Result<bool, Error> {
        let mut has_read = false;
        while *budget > 0 {
            if matches!(self.phase, Phase::Closing(..)) {
                return Ok(true);
            }
            // Of a peer that does not read what it is told, no more is read.
            if self.rejections.len() >= REJECTIONS || self.decoded.replies.len() >= REPLIES {
                break;
            }
            if self.as_mut().take_frame() {
                has_read = true;
                *budget -= 1;
                continue;
            }
            let mark = Mark::now();
            let this = self.as_mut().project();
            // The transport leaves its close to this peer, whose calls are not over.
            let polled = signal::holding(|| this.transport.poll_next(cx)).map_err(Into::into);
            if mark.has_lost() {
                self.as_mut().lost();
            }
            if mark.has_drained() {
                let this = self.as_mut().project();
                *this.is_drained = true;
                this.shared.0.lock().is_shutting_down = true;
            }
            let message = match polled {
                Poll::Pending => break,
                Poll::Ready(None) => {
                    self.project().phase.close(Ok(()), None);
                    return Ok(true);
                }
                // The loss of a connection is dealt with above.
                Poll::Ready(Some(Err(error))) if error.is_rejection() && error.is_closed() => {
                    has_read = true;
                    *budget -= 1;
                    continue;
                }
                Poll::Ready(Some(Err(error))) if error.is_rejection() => {
                    let error = error.context("a message of the other end could not be read, which ended the peer");
                    self.close_with(CloseCode::PROTOCOL, "a message could not be read", error);
                    return Ok(true);
                }
                Poll::Ready(Some(message)) => message?,
            };
            has_read = true;
            let this = self.as_mut().project();
            if let Err(error) = this.protocol.decode(message, this.decoded) {
                self.close_with(CloseCode::PROTOCOL, "a message breaks the protocol of calls", error);
                return Ok(true);
            }
        }
        Ok(has_read)
    }

    /// Takes one frame that was decoded. Returns whether there was one.
    fn take_frame(mut self: Pin<&mut Self>) -> bool {
        let Some(frame) = self.as_mut().project().decoded.frames.pop_front() else { return false };
        if let Err(Violation { what, code }) = self.as_mut().take(frame) {
            let error = Error::protocol(format!("the other end of the peer broke the protocol: {what}"));
            self.close_with(code, what, error);
        }
        true
    }

    fn take(self: Pin<&mut Self>, frame: InFrame<P>) -> Result<(), Violation> {
        let this = self.project();
        let shared = &this.shared.0;
        let fate = match frame {
            Frame::Call { id, .. } if matches!(this.phase, Phase::Draining) => {
                this.rejections.push((id, Rejection::ShuttingDown));
                return Ok(());
            }
            Frame::Call { id, request, options } => {
                let timeout = options.timeout_ms.map(Duration::from_millis);
                match this.incoming.begin(id, request, options)? {
                    Ok(credit) if credit > 0 => this.credits.push((id, credit)),
                    Ok(_) => {}
                    Err((reason, _request)) => {
                        this.rejections.push((id, reason));
                        return Ok(());
                    }
                }
                if let Some(at) = timeout.and_then(|time| Instant::now().checked_add(time)).filter(|_| rt::has_timers())
                {
                    let live = shared.lock().outgoing.len() + this.incoming.len();
                    let incoming = &*this.incoming;
                    this.deadlines.add(at, Timed::Incoming(id), |call| is_live(call, incoming, shared), live);
                }
                return Ok(());
            }
            Frame::Request { id, request } => return this.incoming.request(id, request),
            Frame::RequestsEnd { id } => {
                this.incoming.end_requests(id);
                return Ok(());
            }
            Frame::AnswerCredit { id, answers } => return this.incoming.answer_credit(id, answers),
            Frame::Cancel { id } => {
                this.incoming.cancel(id, "the caller has cancelled the call");
                // Or a peer that begins and cancels calls, and reads nothing, would make it long.
                this.credits.retain(|(of, _)| *of != id);
                return Ok(());
            }
            Frame::Notification { .. } if matches!(this.phase, Phase::Draining) => return Ok(()),
            Frame::Notification { request } => return this.incoming.notify(request),
            Frame::RequestCredit { id, requests } => shared.lock().outgoing.request_credit(id, requests),
            Frame::Accepted { .. } => return Ok(()),
            Frame::Item { id, answer } => {
                let fate = shared.lock().outgoing.item(id, answer);
                match fate.unwrap_or(Fate::Unknown) {
                    Fate::Violation if !P::HAS_CREDIT => {
                        let error = Error::full(
                            "the items of the stream came faster than they were read, and the protocol has no credit to \
                             slow them down (PeerBuilder::window)",
                        );
                        shared.fail_call(id, error, true);
                        return Ok(());
                    }
                    fate => fate,
                }
            }
            Frame::Answer { id, answer } => shared.answer(id, Ok(answer)),
            Frame::Failure { id, failure } => shared.answer(id, Err(CallError::Failed(failure))),
            Frame::Rejected { id, reason } => shared.answer(id, Err(CallError::rejected(reason))),
        };
        match fate {
            Fate::Taken(left) => left.wake(),
            // Of a call that is over: the frame crossed its cancellation.
            Fate::Unknown => {}
            Fate::Violation => {
                return Err(Violation::new("a call had answers before it was made, or more than its credit"));
            }
        }
        Ok(())
    }

    fn flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Result<(), Error> {
        if !self.is_dirty {
            return Ok(());
        }
        let mark = Mark::now();
        let flushed = self.as_mut().project().transport.poll_flush(cx).map_err(Into::into);
        if mark.has_lost() {
            self.as_mut().lost();
        }
        match flushed {
            Poll::Ready(Ok(())) => *self.project().is_dirty = false,
            Poll::Ready(Err(error)) if error.is_rejection() => {
                if !error.is_closed() {
                    let error = error.context("a frame was rejected after the transport had accepted it");
                    self.close_with(CloseCode::INTERNAL, "a frame was lost", error);
                }
                cx.waker().wake_by_ref();
            }
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => {}
        }
        Ok(())
    }

    /// Moves on to the close once a peer that shuts down has nothing left to do.
    fn poll_drained(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mark: Mark) -> Poll<Result<(), Error>> {
        let this = self.as_mut().project();
        let (is_shutting_down, has_open) = {
            let state = this.shared.0.lock();
            (state.is_shutting_down, state.outgoing.has_open())
        };
        match this.phase {
            Phase::Serving if is_shutting_down => {
                *this.phase = Phase::Draining;
                // Calls that had come before are still answered.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Phase::Draining => {
                let is_idle = !has_open && this.incoming.is_idle() && !self.as_mut().has_pending();
                let this = self.as_mut().project();
                if is_idle && this.decoded.replies.is_empty() {
                    this.deadline.stop();
                    this.phase.close(Ok(()), None);
                    return self.poll_close(cx);
                }
                if !*this.is_dirty {
                    this.deadline.stop();
                    return Poll::Pending;
                }
                ready!(this.deadline.poll(mark.has_moved(), WaitsFor::Room.unless_client(mark), cx));
                let error = timed_out(this.deadline);
                Poll::Ready(self.failed(error))
            }
            Phase::Closing(..) => self.poll_close(cx),
            Phase::Serving => Poll::Pending,
        }
    }

    /// Handles a connection that was lost while the transport goes on with another one, whose other end knows nothing
    /// of these calls.
    fn lost(self: Pin<&mut Self>) {
        let this = self.project();
        this.incoming.clear();
        this.rejections.clear();
        this.credits.clear();
        *this.decoded = Decoded::new();
        this.protocol.connection_lost();
        let error = Error::closed("the connection was lost before the call was answered").into_rejection();
        this.shared.0.fail(&error, false);
    }

    /// Closes the transport for this reason. Nothing else is read or answered.
    fn close_with(self: Pin<&mut Self>, code: CloseCode, reason: &'static str, error: Error) {
        let this = self.project();
        this.incoming.clear();
        this.shared.0.end(&error);
        this.phase.close(Err(error), Some(CloseFrame::new(code, reason)));
    }

    /// Ends everything with the failure of the transport.
    fn failed(self: Pin<&mut Self>, error: Error) -> Result<(), Error> {
        let this = self.project();
        this.incoming.clear();
        this.shared.0.end(&error);
        Err(error)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut this = self.project();
        let Phase::Closing(result, frame) = &mut *this.phase else { return Poll::Pending };
        if result.is_ok() {
            this.incoming.clear();
            this.shared.0.end(&Error::closed("the connection of the peer was closed"));
        }
        let mark = Mark::now();
        let closed = signal::with_close_frame(frame.as_ref(), || this.transport.as_mut().poll_close(cx));
        let closed = match closed.map_err(Into::into) {
            // A socket that is closed with unread frames is reset, and the other end may lose the last answers.
            Poll::Ready(Ok(())) if *this.is_drained => poll_discard(this.transport.as_mut(), cx),
            closed => closed,
        };
        let closed = match closed {
            Poll::Ready(closed) => closed,
            Poll::Pending => {
                ready!(this.deadline.poll(mark.has_moved(), WaitsFor::Transport.unless_client(mark), cx));
                Err(timed_out(this.deadline))
            }
        };
        if closed.as_ref().is_err_and(Error::is_rejection) {
            // The rejection concerns a message; the close goes on.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(match (std::mem::replace(result, Ok(())), closed) {
            (Err(error), _) => Err(error),
            // The other end has closed first.
            (Ok(()), Err(error)) if !error.is_closed() => Err(error),
            _ => Ok(()),
        })
    }
}

impl Phase {
    fn close(&mut self, result: Result<(), Error>, frame: Option<CloseFrame>) {
        if !matches!(self, Self::Closing(..)) {
            *self = Self::Closing(result, frame);
        }
    }
}

impl<P: Protocol> Shared<P> {
    fn answer(&self, id: u64, outcome: Outcome<P::Response, P::Failure>) -> Fate<P::Request, P::Response, P::Failure> {
        let fate = self.lock().outgoing.answer(id, outcome);
        fate.unwrap_or(Fate::Unknown)
    }

    /// Fails one call of this end. With `tell`, the other end has it and is told.
    fn fail_call(&self, id: u64, error: Error, tell: bool) {
        let left = self.lock().outgoing.fail(id, error, tell);
        left.wake();
    }
}

/// The call that a frame belongs to, and what its rejection means.
#[derive(Clone, Copy)]
enum Owner {
    /// It begins a call of this end.
    Call(u64),
    /// It goes on with one.
    Request(u64),
    /// It answers a call of the other end.
    Answer(u64),
    Nobody,
}

impl Owner {
    fn of<Req, Res, F>(frame: &Frame<Req, Res, F>) -> Self {
        match frame {
            Frame::Call { id, .. } => Self::Call(*id),
            Frame::Request { id, .. } => Self::Request(*id),
            Frame::Item { id, .. } | Frame::Answer { id, .. } | Frame::Failure { id, .. } => Self::Answer(*id),
            Frame::RequestsEnd { .. }
            | Frame::RequestCredit { .. }
            | Frame::AnswerCredit { .. }
            | Frame::Accepted { .. }
            | Frame::Rejected { .. }
            | Frame::Cancel { .. }
            | Frame::Notification { .. } => Self::Nobody,
        }
    }
}

fn is_live<Req, Res, F, Fut, St, P>(call: Timed, incoming: &Incoming<Req, Res, F, Fut, St>, shared: &Shared<P>) -> bool
where
    Fut: Future<Output = Result<Reply<Res, St>, F>>,
    St: Stream<Item = Result<Res, F>>,
    P: Protocol,
{
    match call {
        Timed::Outgoing(key, id) => shared.lock().outgoing.is_live(key, id),
        Timed::Incoming(id) => incoming.has(id),
    }
}

fn timed_out(deadline: &CloseDeadline) -> Error {
    let error = Error::timeout(format!(
        "the connection was cut: the other end did not take the last frames and the close within {:?} without progress \
         (PeerBuilder::close_within)",
        deadline.limit()
    ));
    log::close_cut(&error, 0);
    error
}

impl<T, P, S, St> fmt::Debug for Peer<T, P, S, St>
where
    P: Protocol,
    S: Service<IncomingCall<P::InRequest>, Response = Reply<P::InResponse, St>, Error = P::Failure>,
    St: Stream<Item = Result<P::InResponse, P::Failure>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("phase", &self.phase)
            .field("incoming", &self.incoming.len())
            .finish_non_exhaustive()
    }
}
