//! The calls of both directions, without the transport that carries them.

use std::{
    collections::VecDeque,
    future::Future,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use tower_service::Service;

use super::{
    caller::Shared,
    deadlines::{Deadlines, Timed},
    error::CallError,
    fate::{Fate, Outcome},
    frame::{Frame, Rejection},
    handler::{IncomingCall, Reply},
    incoming::{Incoming, IncomingLimits, Violation},
    protocol::{InFrame, OutFrame, Protocol},
};
use crate::{
    Error, log,
    rt::{self, Instant},
};

/// The calls in flight of both directions: takes the frames of the other end, and has the next frame to write.
pub(super) struct Calls<P, Fut, St>
where
    P: Protocol,
    Fut: Future<Output = Result<Reply<P::InResponse, St>, P::Failure>>,
    St: Stream<Item = Result<P::InResponse, P::Failure>>,
{
    incoming: Incoming<P::InRequest, P::InResponse, P::Failure, Fut, St>,
    /// Calls of the other end that are not answered by the service.
    rejections: VecDeque<(u64, Rejection)>,
    deadlines: Deadlines,
    /// The calls of this end with a time limit whose deadline is not set: empty between two polls.
    timed: Vec<(usize, u64, Duration)>,
    /// Whether this end shuts down, as of the last look.
    pub(super) is_shutting_down: bool,
    /// Whether answers are looked at before this end's own calls: they take turns.
    answers_first: bool,
    /// The calls of this end.
    pub(super) shared: Arc<Shared<P>>,
}

impl<P, Fut, St> Calls<P, Fut, St>
where
    P: Protocol,
    Fut: Future<Output = Result<Reply<P::InResponse, St>, P::Failure>>,
    St: Stream<Item = Result<P::InResponse, P::Failure>>,
{
    pub(super) fn new(limits: IncomingLimits, shared: Arc<Shared<P>>) -> Self {
        Self {
            incoming: Incoming::new(limits, shared.grants.clone()),
            rejections: VecDeque::new(),
            deadlines: Deadlines::default(),
            timed: Vec::new(),
            is_shutting_down: false,
            answers_first: true,
            shared,
        }
    }

    /// Returns how many calls of the other end are in flight.
    pub(super) fn incoming(&self) -> usize {
        self.incoming.len()
    }

    /// Returns the order of all frames that wait.
    #[cfg(test)]
    pub(super) fn order(&self) -> String {
        format!("{:?} {:?} {}", self.shared.lock().outgoing.order(), self.incoming.order(), self.answers_first)
    }

    /// Returns whether a notification waits that the service can handle now.
    pub(super) fn can_notify(&self) -> bool {
        self.incoming.can_notify()
    }

    /// Returns how many rejections are not written.
    pub(super) fn rejections(&self) -> usize {
        self.rejections.len()
    }

    /// Returns whether every call is over and every frame is written.
    pub(super) fn is_idle(&mut self) -> bool {
        !self.shared.lock().outgoing.has_open() && self.incoming.is_idle() && !self.has_frame()
    }

    /// Forgets the calls of a connection that was lost.
    pub(super) fn connection_lost(&mut self) {
        self.incoming.clear();
        self.rejections.clear();
        let error = Error::closed("the connection was lost before the call was answered").into_rejection();
        self.shared.fail(&error, false);
    }

    /// Ends all calls, now and later.
    pub(super) fn end(&mut self, error: &Error) {
        self.incoming.clear();
        self.shared.end(error);
    }

    /// Ends the calls whose time is over, and looks whether this end shuts down.
    pub(super) fn poll_deadlines(&mut self, cx: &mut Context<'_>) {
        let mut state = self.shared.lock();
        self.is_shutting_down = state.is_shutting_down;
        // The two vectors change places, so neither is allocated again.
        std::mem::swap(&mut self.timed, &mut state.timed);
        drop(state);
        if !self.timed.is_empty() && !rt::has_timers() {
            for (key, _, _) in self.timed.drain(..) {
                let error = Error::config(
                    "the timeout of a call needs a runtime with timers, which the peer's task does not have",
                );
                let left = self.shared.lock().outgoing.cancel(key, error.into_rejection());
                left.wake();
            }
        } else if !self.timed.is_empty() {
            let now = Instant::now();
            let live = self.shared.lock().outgoing.len() + self.incoming.len();
            for (key, id, time) in self.timed.drain(..) {
                if let Some(at) = now.checked_add(time) {
                    self.shared.lock().outgoing.set_deadline(key, id, at);
                    let incoming = &self.incoming;
                    let shared = &self.shared;
                    self.deadlines.add(at, Timed::Outgoing(key, id), |call| is_live(call, incoming, shared), live);
                }
            }
        }
        while let Poll::Ready(call) = self.deadlines.poll(cx) {
            match call {
                Timed::Outgoing(key, id) => {
                    let left = self.shared.lock().outgoing.time_out(key, id);
                    left.wake();
                }
                Timed::Incoming(id, arrival) => {
                    if self.incoming.arrival(id) == Some(arrival) {
                        self.incoming.cancel(id, "the time of the call is over");
                        self.rejections.push_back((id, Rejection::TimedOut));
                    }
                }
            }
        }
    }

    /// Polls the handlers, and calls the service with what waits.
    ///
    /// # Errors
    ///
    /// The error of the service's `poll_ready`.
    pub(super) fn poll_handlers<S>(&mut self, service: &mut S, cx: &mut Context<'_>) -> Result<(), P::Failure>
    where
        S: Service<IncomingCall<P::InRequest>, Future = Fut, Response = Reply<P::InResponse, St>, Error = P::Failure>,
    {
        self.incoming.poll(cx);
        self.incoming.start(service, cx)
    }

    /// Returns the next frame to write, if any. `None` also if something finished that has no frame.
    pub(super) fn next_frame(&mut self) -> Option<OutFrame<P>> {
        if let Some((id, reason)) = self.rejections.pop_front() {
            return Some(Frame::Rejected { id, reason });
        }
        if let Some((id, requests)) = self.incoming.next_grant() {
            return Some(Frame::RequestCredit { id, requests });
        }
        self.answers_first = !self.answers_first;
        if self.answers_first && self.incoming.has_answer() {
            return self.incoming.next_answer();
        }
        let next = self.shared.lock().outgoing.next_frame(Instant::now);
        match next {
            Some((frame, left)) => {
                left.wake();
                Some(frame)
            }
            None => self.incoming.next_answer(),
        }
    }

    /// Returns whether there is a frame to write.
    pub(super) fn has_frame(&mut self) -> bool {
        !self.rejections.is_empty()
            || self.incoming.has_answer()
            || self.incoming.has_grant()
            || self.shared.lock().outgoing.has_due()
    }

    /// Handles a frame that the transport or the protocol did not take.
    pub(super) fn rejected(&mut self, owner: Owner, error: Error) {
        match owner {
            // It was the first frame of its call, so the peer knows nothing.
            Owner::Call(id) => self.shared.fail_call(id, error.into_unsent(), false),
            Owner::Request(id) => self.shared.fail_call(id, error, true),
            Owner::Answer(id) => {
                log::answer_rejected(&error);
                self.incoming.cancel(id, "an answer could not be sent");
                self.rejections.push_back((id, Rejection::Unsendable));
            }
            Owner::Nobody => log::notification_rejected(&error),
        }
    }

    /// Takes a frame of the other end. While this end drains, new calls are rejected.
    pub(super) fn take(&mut self, frame: InFrame<P>, is_draining: bool) -> Result<(), Violation> {
        let shared = &self.shared;
        let fate = match frame {
            Frame::Call { id, .. } if is_draining => {
                self.rejections.push_back((id, Rejection::ShuttingDown));
                return Ok(());
            }
            Frame::Call { id, request, options } => {
                let timeout = options.timeout_ms.map(Duration::from_millis);
                if let Err(reason) = self.incoming.begin(id, request, options)? {
                    self.rejections.push_back((id, reason));
                    return Ok(());
                }
                if let Some(at) = timeout.and_then(|time| Instant::now().checked_add(time)).filter(|_| rt::has_timers())
                {
                    let live = shared.lock().outgoing.len() + self.incoming.len();
                    let incoming = &self.incoming;
                    let call = Timed::Incoming(id, incoming.arrival(id).unwrap_or_default());
                    self.deadlines.add(at, call, |call| is_live(call, incoming, shared), live);
                }
                return Ok(());
            }
            Frame::Request { id, request } => return self.incoming.request(id, request),
            Frame::RequestsEnd { id } => {
                self.incoming.end_requests(id);
                return Ok(());
            }
            Frame::AnswerCredit { id, answers } => return self.incoming.answer_credit(id, answers),
            Frame::Cancel { id } => {
                self.incoming.cancel(id, "the caller has cancelled the call");
                return Ok(());
            }
            Frame::Notification { .. } if is_draining => return Ok(()),
            Frame::Notification { request } => return self.incoming.notify(request),
            Frame::RequestCredit { id, requests } => shared.lock().outgoing.request_credit(id, requests),
            Frame::Accepted { .. } => return Ok(()),
            Frame::Item { id, answer } => {
                let fate = shared.lock().outgoing.item(id, answer);
                match fate.unwrap_or(Fate::Unknown) {
                    Fate::Violation if !P::HAS_CREDIT => {
                        let error = Error::full(
                            "the items of the stream came faster than they were read, and the protocol has no credit \
                             to slow them down (PeerBuilder::window)",
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
pub(super) enum Owner {
    /// It begins a call of this end.
    Call(u64),
    /// It goes on with one.
    Request(u64),
    /// It answers a call of the other end.
    Answer(u64),
    Nobody,
}

impl Owner {
    pub(super) fn of<Req, Res, F>(frame: &Frame<Req, Res, F>) -> Self {
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
        Timed::Incoming(id, arrival) => incoming.arrival(id) == Some(arrival),
    }
}
