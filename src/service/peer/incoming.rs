//! The calls of the other end, from their request to their last answer.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use tower_service::Service;

use super::{
    frame::{CallOptions, Frame, Rejection},
    handler::{Event, IncomingCall, Reply, Task},
    requests::{Grants, Queue, Requests},
};
use crate::{CloseCode, Error, in_flight::InFlight, service::list::List};

/// The calls that this end answers.
///
/// ```text
/// Call --> waiting (for the service to be ready) --> running --+--> answered (gone)
///                                                     ^        |
///                                                     |        +-- an item, credit left: running
///                                                     |        +-- an item, no credit: parked
///                                                     +--------------- credit ---------'
/// Cancel, the deadline, or a lost connection: (gone), and whatever runs is dropped
/// ```
pub(super) struct Incoming<Req, Res, F, Fut, St>
where
    Fut: Future<Output = Result<Reply<Res, St>, F>>,
    St: Stream<Item = Result<Res, F>>,
{
    calls: HashMap<u64, Handled<Req, St>>,
    running: InFlight<Task<Fut, St>, Tag, Event<Res, F, St>>,
    /// How many calls have arrived.
    arrived: u64,
    /// The calls that wait for the service to be ready. A list, because any of them may be cancelled.
    waiting: List<(u64, IncomingCall<Req>)>,
    /// The calls whose callers are to be told of credit for requests.
    granting: List<u64>,
    /// The calls that handlers have earned credit for, on their way into `granting`: empty between two polls.
    earned: Vec<u64>,
    /// How many calls have further requests.
    with_requests: usize,
    /// The notifications that wait, each with how many calls had arrived before it.
    notifications: VecDeque<(u64, Req)>,
    /// Whether a notification is being handled. They are handled one after another, in their order.
    is_notifying: bool,
    limits: IncomingLimits,
    grants: Arc<Grants>,
    pub(super) dropped_notifications: u64,
}

/// The bounds of the other end's calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct IncomingLimits {
    pub(super) calls: usize,
    pub(super) notifications: usize,
    pub(super) when_full: WhenNotificationsFull,
    pub(super) window: u32,
}

/// The policy for a notification of the other end that comes while as many wait for the service as
/// [`notifications`](super::PeerBuilder::notifications) allows.
///
/// Waiting is not offered: it would hold up answers, which come on the same connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenNotificationsFull {
    /// The one that waits longest is dropped.
    DropOldest,
    /// The new one is dropped.
    DropNewest,
    /// The connection is closed with code 1013 ([`TRY_AGAIN`](CloseCode::TRY_AGAIN)). The default:
    /// nothing is lost silently.
    #[default]
    Close,
}

/// One call of the other end.
struct Handled<Req, St> {
    /// Its place among all calls of the other end, which tells it from an earlier call with the same number.
    arrival: u64,
    /// Where it is among those that wait for the service.
    waiting: Option<usize>,
    /// Where it is among those with credit to tell.
    granting: Option<usize>,
    /// The credit for requests that it begins with, until the caller is told.
    initial: u32,
    /// Where its task is, until its answer is written.
    slot: Option<usize>,
    /// A stream that has no credit.
    parked: Option<Pin<Box<St>>>,
    /// The queue of its further requests.
    queue: Option<Arc<Queue<Req>>>,
    /// How many items may be sent.
    credit: u32,
    /// Whether the caller takes a stream.
    is_stream: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tag {
    Call(u64),
    Notification,
}

/// The other end breaks the protocol.
#[derive(Clone, Copy, Debug)]
pub(super) struct Violation {
    pub(super) what: &'static str,
    pub(super) code: CloseCode,
}

impl Violation {
    pub(super) const fn new(what: &'static str) -> Self {
        Self { what, code: CloseCode::PROTOCOL }
    }
}

impl<Req, Res, F, Fut, St> Incoming<Req, Res, F, Fut, St>
where
    Fut: Future<Output = Result<Reply<Res, St>, F>>,
    St: Stream<Item = Result<Res, F>>,
{
    pub(super) fn new(limits: IncomingLimits, grants: Arc<Grants>) -> Self {
        Self {
            calls: HashMap::new(),
            running: InFlight::new(false),
            arrived: 0,
            waiting: List::new(),
            granting: List::new(),
            earned: Vec::new(),
            with_requests: 0,
            notifications: VecDeque::new(),
            is_notifying: false,
            limits,
            grants,
            dropped_notifications: 0,
        }
    }

    /// Returns how many calls are not answered.
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Returns the calls with credit to tell and those with an answer to write, in their order.
    #[cfg(test)]
    pub(super) fn order(&self) -> (Vec<u64>, Vec<u64>) {
        let granting = std::iter::successors(self.granting.first(), |key| self.granting.next(*key));
        let answers = self.running.tags().filter_map(|tag| if let Tag::Call(id) = tag { Some(*id) } else { None });
        (granting.filter_map(|key| self.granting.get(key).copied()).collect(), answers.collect())
    }

    /// Returns whether nothing is left to do for the other end.
    pub(super) fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.notifications.is_empty() && !self.is_notifying
    }

    /// Returns the arrival of the call in flight with this number.
    pub(super) fn arrival(&self, id: u64) -> Option<u64> {
        self.calls.get(&id).map(|call| call.arrival)
    }

    /// Takes a call, or tells why it is rejected.
    pub(super) fn begin(
        &mut self,
        id: u64,
        request: Req,
        options: CallOptions,
    ) -> Result<Result<(), Rejection>, Violation> {
        if self.calls.len() >= self.limits.calls {
            return Ok(Err(Rejection::Overloaded));
        }
        let Entry::Vacant(vacant) = self.calls.entry(id) else {
            return Err(Violation::new("the number of a call that is in flight was used again"));
        };
        self.with_requests += usize::from(options.has_more);
        let (requests, queue, initial) = if options.has_more {
            let (requests, queue) = Requests::new(id, self.limits.window, self.grants.clone());
            (requests, Some(queue), self.limits.window)
        } else {
            (Requests::none(), None, 0)
        };
        self.arrived += 1;
        let timeout = options.timeout_ms.map(Duration::from_millis);
        let call =
            IncomingCall { request, requests, timeout, traceparent: options.traceparent, is_notification: false };
        vacant.insert(Handled {
            arrival: self.arrived,
            waiting: Some(self.waiting.push_back((id, call))),
            granting: (initial > 0).then(|| self.granting.push_back(id)),
            initial,
            slot: None,
            parked: None,
            queue,
            credit: options.answers,
            is_stream: options.answers > 0,
        });
        Ok(Ok(()))
    }

    /// Takes a notification.
    pub(super) fn notify(&mut self, request: Req) -> Result<(), Violation> {
        let notification = (self.arrived, request);
        if self.notifications.len() < self.limits.notifications {
            self.notifications.push_back(notification);
            return Ok(());
        }
        self.dropped_notifications += 1;
        match self.limits.when_full {
            WhenNotificationsFull::DropNewest => {}
            WhenNotificationsFull::DropOldest => {
                // With a limit of 0 there is no older one, and none may wait.
                if self.notifications.pop_front().is_some() {
                    self.notifications.push_back(notification);
                }
            }
            WhenNotificationsFull::Close => {
                let what = "more notifications wait than are allowed";
                return Err(Violation { what, code: CloseCode::TRY_AGAIN });
            }
        }
        Ok(())
    }

    /// Takes a further request of a call. One of a call that is over is dropped: it crossed the answer.
    pub(super) fn request(&mut self, id: u64, request: Req) -> Result<(), Violation> {
        match self.calls.get(&id) {
            Some(Handled { queue: Some(queue), .. }) if queue.push(request) => Ok(()),
            Some(_) => Err(Violation::new("a call had more requests than its credit allows")),
            None => Ok(()),
        }
    }

    pub(super) fn end_requests(&mut self, id: u64) {
        if let Some(Handled { queue: Some(queue), .. }) = self.calls.get(&id) {
            queue.end(None);
        }
    }

    /// Takes credit for the items of a call.
    pub(super) fn answer_credit(&mut self, id: u64, more: u32) -> Result<(), Violation> {
        let Some(call) = self.calls.get_mut(&id) else { return Ok(()) };
        let Some(credit) = call.credit.checked_add(more) else {
            return Err(Violation::new("the credit of a call is more than a number can hold"));
        };
        call.credit = credit;
        if let Some(stream) = call.parked.take_if(|_| credit > 0) {
            Self::go_on(&mut self.running, id, call, stream);
        }
        Ok(())
    }

    /// Takes note of the credit that handlers have earned for the other end.
    fn collect_grants(&mut self) {
        // The two vectors change places, so neither is allocated again.
        self.grants.take(&mut self.earned);
        for id in self.earned.drain(..) {
            if let Some(call) = self.calls.get_mut(&id).filter(|call| call.granting.is_none()) {
                call.granting = Some(self.granting.push_back(id));
            }
        }
    }

    /// Returns whether there is credit to tell.
    pub(super) fn has_grant(&self) -> bool {
        self.granting.first().is_some()
    }

    /// Returns the next credit for the other end.
    pub(super) fn next_grant(&mut self) -> Option<(u64, u32)> {
        while let Some(id) = self.granting.first().and_then(|key| self.granting.remove(key)) {
            if let Some(call) = self.calls.get_mut(&id) {
                call.granting = None;
                let earned = call.queue.as_ref().map_or(0, |queue| queue.grant());
                let more = std::mem::take(&mut call.initial).saturating_add(earned);
                if more > 0 {
                    return Some((id, more));
                }
            }
        }
        None
    }

    /// Drops a call, with everything that runs for it.
    pub(super) fn cancel(&mut self, id: u64, why: &'static str) {
        let Some(call) = self.remove(id) else { return };
        if let Some(queue) = call.queue {
            queue.end(Some(Error::closed(why)));
        }
        if let Some(slot) = call.slot {
            self.running.cancel(slot);
        }
        if let Some(key) = call.waiting {
            drop(self.waiting.remove(key));
        }
    }

    fn remove(&mut self, id: u64) -> Option<Handled<Req, St>> {
        let call = self.calls.remove(&id)?;
        self.with_requests -= usize::from(call.queue.is_some());
        if let Some(key) = call.granting {
            self.granting.remove(key);
        }
        Some(call)
    }

    /// Drops everything, because the connection that it belongs to is lost.
    pub(super) fn clear(&mut self) {
        for (_, call) in self.calls.drain() {
            if let Some(queue) = call.queue {
                queue.end(Some(Error::closed("the connection of the call was lost")));
            }
        }
        self.running.clear();
        self.waiting = List::new();
        self.granting = List::new();
        self.with_requests = 0;
        self.notifications.clear();
        self.is_notifying = false;
    }

    /// Calls the service with what waits for it, in the order in which it came, and polls each handler once.
    ///
    /// A call does not wait for the handler of a notification: this handler may wait for a call that comes later. A
    /// handler that needs no second poll is done before what comes after it begins, and that is the order which
    /// protocols such as LSP rely on.
    pub(super) fn start<S>(&mut self, service: &mut S, cx: &mut Context<'_>) -> Result<(), F>
    where
        S: Service<IncomingCall<Req>, Future = Fut, Error = F, Response = Reply<Res, St>>,
    {
        loop {
            let goes_first = self.can_notify() && self.notification_is_next();
            if !goes_first && self.waiting.first().is_none() {
                return Ok(());
            }
            match service.poll_ready(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(ready) => ready?,
            }
            if goes_first && let Some((_, request)) = self.notifications.pop_front() {
                self.handle_notification(service, request);
            } else if let Some((id, call)) = self.waiting.first().and_then(|key| self.waiting.remove(key)) {
                let slot = self.running.insert(Tag::Call(id), Task::call(service, call));
                if let Some(call) = self.calls.get_mut(&id) {
                    (call.waiting, call.slot) = (None, Some(slot));
                }
                let Ok(()) = self.running.poll_future(slot);
            }
        }
    }

    /// Returns whether a notification waits, and none is being handled.
    pub(super) fn can_notify(&self) -> bool {
        !self.is_notifying && !self.notifications.is_empty()
    }

    /// Returns whether the next notification arrived before the next call.
    fn notification_is_next(&self) -> bool {
        let Some((calls_before, _)) = self.notifications.front() else { return false };
        let next_call =
            self.waiting.first().and_then(|key| self.waiting.get(key)).and_then(|(id, _)| self.arrival(*id));
        next_call.is_none_or(|arrival| arrival > *calls_before)
    }

    fn handle_notification<S>(&mut self, service: &mut S, request: Req)
    where
        S: Service<IncomingCall<Req>, Future = Fut, Error = F, Response = Reply<Res, St>>,
    {
        let requests = Requests::none();
        let call = IncomingCall { request, requests, timeout: None, traceparent: None, is_notification: true };
        let slot = self.running.insert(Tag::Notification, Task::call(service, call));
        let Ok(()) = self.running.poll_future(slot);
        // Nobody waits for its answer, so what comes next need not wait for the answers before it to be written.
        self.is_notifying = !self.running.discard_newest(slot);
    }

    /// Polls the tasks that were woken.
    pub(super) fn poll(&mut self, cx: &Context<'_>) {
        let Ok(_) = self.running.poll(cx);
        if self.with_requests > 0 {
            self.collect_grants();
        }
    }

    /// Returns whether there is an answer to send.
    pub(super) fn has_answer(&self) -> bool {
        self.running.front().is_some()
    }

    /// Takes the next answer. `None` if nothing is finished, or if it has nothing to send: look again.
    pub(super) fn next_answer<Out>(&mut self) -> Option<Frame<Out, Res, F>> {
        let (tag, event) = self.running.pop()?;
        let Tag::Call(id) = tag else {
            self.is_notifying = false;
            return None;
        };
        let call = self.calls.get_mut(&id)?;
        call.slot = None;
        let is_stream = call.is_stream;
        let frame = match event {
            Event::Replied(Ok(Reply::Stream(stream))) if is_stream => {
                let stream = Box::pin(stream);
                Self::go_on(&mut self.running, id, call, stream);
                return Some(Frame::Accepted { id });
            }
            Event::Next(Some(Ok(answer)), stream) => {
                // A protocol without credit gives all of it at once.
                call.credit -= u32::from(call.credit != u32::MAX);
                Self::go_on(&mut self.running, id, call, stream);
                return Some(Frame::Item { id, answer });
            }
            Event::Replied(Ok(Reply::One(answer))) => Frame::Answer { id, answer: Some(answer) },
            Event::Replied(Ok(Reply::Stream(_))) => Frame::Rejected { id, reason: Rejection::Streamed },
            Event::Replied(Err(failure)) | Event::Next(Some(Err(failure)), _) => Frame::Failure { id, failure },
            Event::Next(None, _) => Frame::Answer { id, answer: None },
            Event::Panicked => Frame::Rejected { id, reason: Rejection::Panicked },
        };
        self.finish(id);
        Some(frame)
    }

    /// Goes on with a stream, or parks it until there is credit.
    fn go_on(
        running: &mut InFlight<Task<Fut, St>, Tag, Event<Res, F, St>>,
        id: u64,
        call: &mut Handled<Req, St>,
        stream: Pin<Box<St>>,
    ) {
        if call.credit == 0 {
            call.parked = Some(stream);
            return;
        }
        let slot = running.insert(Tag::Call(id), Task::Next { stream: Some(stream) });
        call.slot = Some(slot);
        let Ok(()) = running.poll_future(slot);
    }

    fn finish(&mut self, id: u64) {
        if let Some(Handled { queue: Some(queue), .. }) = self.remove(id) {
            queue.end(None);
        }
    }
}
