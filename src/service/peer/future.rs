use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    caller::Shared,
    calls::{Calls, Owner},
    handler::{IncomingCall, Reply},
    incoming::{IncomingLimits, Violation},
    protocol::{Decoded, Protocol},
};
use crate::{
    CloseCode, CloseFrame, Error, Transport, log,
    service::server::poll_discard,
    transport::{
        close_deadline::{CloseDeadline, WaitsFor},
        signal::{self, Mark},
    },
};

/// The number of steps in one poll before other tasks get their turn.
const BUDGET: usize = 128;

/// The number of replies of the protocol's own that may wait before nothing more is read.
const REPLIES: usize = 64;

/// The same for rejections, which take 16 bytes each. Two ends that both stop reading would wait for each other, so
/// this is more than the calls of an end that keeps to the limits.
const REJECTIONS: usize = 4096;

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

/// Whether a direction has to be looked at again in the same poll.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Done,
    Again,
}

/// Fails the calls of all handles when the future is dropped.
pub(super) struct Guard<P: Protocol>(pub(super) Arc<Shared<P>>);

impl<P: Protocol> Drop for Guard<P> {
    fn drop(&mut self) {
        self.0.end(&Error::closed("the peer was dropped, which ends its calls"));
    }
}

pin_project! {
    /// One end of a connection on which both ends make calls: a future that does the work of its transport, answers the
    /// calls of the other end, and makes those of its [`Caller`](super::Caller)s. Spawn it. [`PeerBuilder::build`](super::PeerBuilder::build) creates it.
    ///
    /// # Backpressure
    ///
    /// Neither direction holds up the other. The peer always reads: answers and items go to their calls, which are
    /// bounded by their number and their credit; calls of the other end wait for the service, bounded by
    /// [`max_incoming_calls`](super::PeerBuilder::max_incoming_calls). It stops reading only while rejections that the other
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
    /// | the transport rejects an answer | that call fails at the other end ([`Unsendable`](super::Rejection::Unsendable)) | goes on |
    /// | a message cannot be read | fail: whose it is cannot be known | closes with 1002, completes with the cause |
    /// | a handler panics | that call fails at the other end ([`Panicked`](super::Rejection::Panicked)) | goes on |
    /// | the service's `poll_ready` fails | fail | closes with 1011, completes with an error |
    /// | [`graceful_shutdown`](super::Caller::graceful_shutdown), or a [`Drain`](crate::transport::Drain) of the server | are finished; new calls of both ends are rejected as not executed | closes, completes with `Ok` |
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
        calls: Calls<P, S::Future, St>,
        phase: Phase,
        // Whether frames were fed that are not flushed.
        is_dirty: bool,
        // Whether the server's drain has started, which the transport reports.
        is_drained: bool,
        deadline: CloseDeadline,
        // Last: the transport is dropped before the calls fail.
        shared: Guard<P>,
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
        // One for each direction, so that neither uses up the turns of the other.
        let (mut reads, mut writes) = (BUDGET, BUDGET);
        let mark = Mark::now();
        loop {
            if let Phase::Closing(..) = self.phase {
                return self.poll_close(cx);
            }
            let read = match self.as_mut().read(cx, &mut reads) {
                Ok(read) => read,
                Err(error) => return Poll::Ready(self.failed(error)),
            };
            // A call whose time is over when it comes is not begun.
            self.as_mut().project().calls.poll_deadlines(cx);
            self.as_mut().poll_handlers(cx);
            let wrote = match self.as_mut().write(cx, &mut writes) {
                Ok(wrote) => wrote,
                Err(error) => return Poll::Ready(self.failed(error)),
            };
            if reads == 0 || writes == 0 {
                cx.waker().wake_by_ref();
                break;
            }
            // Usually one turn does it all: what came is handled, and answered. A second one is for what waits until
            // something is written, for a connection that was lost, and for the close.
            let is_closing = matches!(self.phase, Phase::Closing(..));
            if !(is_closing || read == Progress::Again || wrote == Progress::Again) {
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
    pub(super) fn new(
        transport: T,
        service: S,
        protocol: P,
        limits: IncomingLimits,
        close_within: Duration,
        shared: Guard<P>,
    ) -> Self {
        Self {
            transport,
            service,
            protocol,
            decoded: Decoded::new(),
            calls: Calls::new(limits, shared.0.clone()),
            phase: Phase::Serving,
            is_dirty: false,
            is_drained: false,
            deadline: CloseDeadline::new(close_within),
            shared,
        }
    }

    /// Polls the handlers, and calls the service with what waits.
    fn poll_handlers(mut self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let this = self.as_mut().project();
        if let Err(_failure) = this.calls.poll_handlers(this.service, cx) {
            let error = Error::other("the service of the peer will never be ready: its poll_ready failed");
            self.close_with(CloseCode::INTERNAL, "the service failed", error);
        }
    }

    /// Hands frames to the transport as long as it takes them.
    fn write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, budget: &mut usize) -> Result<Progress, Error> {
        let mut progress = Progress::Done;
        while *budget > 0 {
            let has_reply = !self.decoded.replies.is_empty();
            if !has_reply && !self.as_mut().project().calls.has_frame() {
                break;
            }
            let mark = Mark::now();
            let ready = self.as_mut().project().transport.poll_ready(cx).map_err(Into::into);
            if mark.has_lost() {
                self.as_mut().lost();
                return Ok(Progress::Again);
            }
            match ready {
                Poll::Pending => break,
                // A layer with a queue rejects a frame that it had taken: whose it is cannot be known.
                Poll::Ready(Err(error)) if error.is_rejection() && !error.is_closed() => {
                    let error = error.context("a frame was rejected after the transport had accepted it");
                    self.as_mut().close_with(CloseCode::INTERNAL, "a frame was lost", error);
                    return Ok(Progress::Again);
                }
                Poll::Ready(Err(error)) if error.is_rejection() => {
                    cx.waker().wake_by_ref();
                    break;
                }
                Poll::Ready(ready) => ready?,
            }
            *budget -= 1;
            let was_full = self.is_full();
            self.as_mut().write_next()?;
            // The reading has room again, or the notification before is done.
            if was_full || self.calls.can_notify() {
                progress = Progress::Again;
            }
        }
        Ok(progress)
    }

    /// Returns whether the rejections and replies that the other end does not read are at their limit.
    fn is_full(&self) -> bool {
        self.calls.rejections() >= REJECTIONS || self.decoded.replies.len() >= REPLIES
    }

    /// Hands one message to the transport, which is ready.
    fn write_next(mut self: Pin<&mut Self>) -> Result<(), Error> {
        let (owner, message) = match self.as_mut().project().decoded.replies.pop_front() {
            Some(reply) => (Owner::Nobody, reply),
            None => {
                let Some(frame) = self.as_mut().project().calls.next_frame() else { return Ok(()) };
                let owner = Owner::of(&frame);
                match self.as_mut().project().protocol.encode(frame) {
                    Ok(Some(message)) => (owner, message),
                    Ok(None) => return Ok(()),
                    Err(error) => {
                        self.project().calls.rejected(owner, error);
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
            Err(error) if error.is_rejection() || error.is_too_large() => {
                let this = self.project();
                if !matches!(owner, Owner::Nobody) {
                    this.protocol.take_back();
                }
                this.calls.rejected(owner, error);
            }
            sent => sent?,
        }
        Ok(())
    }

    /// Takes what the other end sends.
    fn read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, budget: &mut usize) -> Result<Progress, Error> {
        let mut progress = Progress::Done;
        while *budget > 0 {
            if matches!(self.phase, Phase::Closing(..)) {
                return Ok(Progress::Again);
            }
            if self.is_full() {
                break;
            }
            if self.as_mut().take_frame() {
                *budget -= 1;
                continue;
            }
            let mark = Mark::now();
            let this = self.as_mut().project();
            // The transport leaves its close to this peer, whose calls are not over.
            let polled = signal::holding(|| this.transport.poll_next(cx)).map_err(Into::into);
            if mark.has_lost() {
                self.as_mut().lost();
                progress = Progress::Again;
            }
            if mark.has_drained() {
                let this = self.as_mut().project();
                *this.is_drained = true;
                this.calls.shared.lock().is_shutting_down = true;
                this.calls.is_shutting_down = true;
            }
            let message = match polled {
                Poll::Pending => break,
                Poll::Ready(None) => {
                    self.project().phase.close(Ok(()), None);
                    return Ok(Progress::Again);
                }
                // The loss of a connection is dealt with above.
                Poll::Ready(Some(Err(error))) if error.is_rejection() && error.is_closed() => {
                    *budget -= 1;
                    continue;
                }
                Poll::Ready(Some(Err(error))) if error.is_rejection() => {
                    let error = error.context("a message of the other end could not be read, which ended the peer");
                    self.close_with(CloseCode::PROTOCOL, "a message could not be read", error);
                    return Ok(Progress::Again);
                }
                Poll::Ready(Some(message)) => message?,
            };
            *budget -= 1;
            let this = self.as_mut().project();
            if let Err(error) = this.protocol.decode(message, this.decoded) {
                self.close_with(CloseCode::PROTOCOL, "a message breaks the protocol of calls", error);
                return Ok(Progress::Again);
            }
            self.as_mut().take_frame();
        }
        Ok(progress)
    }

    /// Takes one frame that was decoded. Returns whether there was one.
    fn take_frame(mut self: Pin<&mut Self>) -> bool {
        let this = self.as_mut().project();
        let Some(frame) = this.decoded.frames.pop_front() else { return false };
        let is_draining = matches!(this.phase, Phase::Draining);
        if let Err(Violation { what, code }) = this.calls.take(frame, is_draining) {
            let error = Error::protocol(format!("the other end of the peer broke the protocol: {what}"));
            self.close_with(code, what, error);
        }
        true
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
        match this.phase {
            Phase::Serving if this.calls.is_shutting_down => {
                *this.phase = Phase::Draining;
                // Calls that had come before are still answered.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Phase::Draining => {
                if this.calls.is_idle() && this.decoded.replies.is_empty() {
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
        *this.decoded = Decoded::new();
        this.protocol.connection_lost();
        this.calls.connection_lost();
    }

    /// Closes the transport for this reason. Nothing else is read or answered.
    fn close_with(self: Pin<&mut Self>, code: CloseCode, reason: &'static str, error: Error) {
        let this = self.project();
        this.calls.end(&error);
        this.phase.close(Err(error), Some(CloseFrame::new(code, reason)));
    }

    /// Ends everything with the failure of the transport.
    fn failed(self: Pin<&mut Self>, error: Error) -> Result<(), Error> {
        let this = self.project();
        this.calls.end(&error);
        Err(error)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut this = self.project();
        let Phase::Closing(result, frame) = &mut *this.phase else { return Poll::Pending };
        if result.is_ok() {
            this.calls.end(&Error::closed("the connection of the peer was closed"));
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
            .field("incoming", &self.calls.incoming())
            .finish_non_exhaustive()
    }
}
