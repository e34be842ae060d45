//! The calls that this end makes, from their request to their last answer. Pure.

use std::{collections::VecDeque, task::Waker, time::Duration};

use super::{
    error::CallError,
    fate::{Fate, Outcome, Polled, Room},
    frame::{CallOptions, Frame},
    places::Places,
    window::Window,
};
use crate::{Error, rt::Instant, service::list::List, transport::wakers::PreparedWaker};

/// Every call of this end. The memory of a call is reused when the call is over; its number is not.
///
/// A call has three parts that go on independently:
///
/// ```text
/// the call      Unsent ----> Sent ----> (gone, once it is over and its handle has taken everything)
///                  \           \
///                   \           `- handle dropped, or time over: the peer is told (must_cancel), then (gone)
///                    `- handle dropped: (gone), the peer never sees it
/// requests      Open --end--> Ending --written--> Ended      (Ended from the start for a single request)
/// answers       queue of items, then one outcome, after which nothing comes
/// ```
///
/// `due` holds each call once that has a frame to write, so calls take turns, frame by frame. A notification has a
/// place of its own among them, so the other end gets it between the calls before it and those after it.
pub(super) struct Outgoing<Req, Res, F> {
    calls: List<Call<Req, Res, F>>,
    due: VecDeque<Due>,
    notifications: VecDeque<Req>,
    /// A number is a counter followed by this many bits with the key of its call.
    key_bits: u32,
    issued: u64,
    len: usize,
    /// Each call has one until it is removed.
    pub(super) places: Places,
}

/// The number of entries that are kept without looking whether they are still needed.
pub(super) const KEPT: usize = 64;

#[derive(Clone, Copy)]
enum Due {
    /// The call with this key and number. It is stale if the key belongs to another call by now.
    Call(usize, u64),
    /// The next notification.
    Notification,
}

struct Call<Req, Res, F> {
    id: u64,
    is_due: bool,
    /// The first request, until it is written.
    unsent: Option<(Req, CallOptions)>,
    /// The time at which the call is over, if it has a limit and the peer's future has seen it.
    deadline: Option<Instant>,
    /// The handle is gone.
    is_abandoned: bool,
    /// The peer does not know yet that the call is over. The call keeps its place until then, so that calls which end
    /// early cannot be more than there are places.
    must_cancel: bool,
    requests: Requests,
    /// The request that is written next.
    next: Option<Req>,
    /// How many more requests the peer takes.
    credit: u32,
    items: VecDeque<Res>,
    window: Window,
    outcome: Option<Outcome<Res, F>>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Requests {
    Open,
    Ending,
    Ended,
}

/// The rest of a call, to be woken and dropped by the caller without a lock.
#[must_use = "wake and drop it without a lock"]
pub(super) struct Left<Req, Res, F> {
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Of the handle that got the place of the call.
    next: Option<Waker>,
    _request: Option<Req>,
    _call: Option<Call<Req, Res, F>>,
}

impl<Req, Res, F> Left<Req, Res, F> {
    const NONE: Self = Self { reader: None, writer: None, next: None, _request: None, _call: None };

    pub(super) fn wake(self) {
        let Self { reader, writer, next, .. } = self;
        reader.into_iter().chain(writer).chain(next).for_each(Waker::wake);
    }
}

/// The outcome of a call, and what is left of it.
type Ended<Req, Res, F> = (Outcome<Res, F>, Left<Req, Res, F>);

/// A frame to write, and what is left of a call that it ends.
type Written<Req, Res, InRes, F> = (Frame<Req, InRes, F>, Left<Req, Res, F>);

/// Returns a time as it is on the wire. Less than a millisecond counts as one, since 0 would end the call on arrival.
pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}

impl<Req, Res, F> Outgoing<Req, Res, F> {
    /// Creates room for at most `limit` calls at a time.
    pub(super) fn new(limit: usize) -> Self {
        let key_bits = (usize::BITS - limit.saturating_sub(1).leading_zeros()).min(32);
        Self {
            calls: List::new(),
            due: VecDeque::new(),
            notifications: VecDeque::new(),
            key_bits,
            issued: 0,
            len: 0,
            places: Places::new(limit),
        }
    }

    /// Returns how many calls are in flight.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns whether a call has no outcome. Others wait for their handles alone.
    pub(super) fn has_open(&self) -> bool {
        self.calls.first().is_some()
    }

    /// Returns the number of a call.
    #[cfg(test)]
    pub(super) fn number(&self, key: usize) -> u64 {
        self.calls.get(key).map_or(0, |call| call.id)
    }

    /// Returns the calls that have a frame to write, in their order.
    #[cfg(test)]
    pub(super) fn order(&self) -> Vec<u64> {
        let due = self.due.iter().filter_map(|due| match due {
            Due::Call(_, id) => Some(*id),
            Due::Notification => None,
        });
        due.collect()
    }

    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Begins a call that has a place. Returns its key and number.
    pub(super) fn begin(&mut self, request: Req, options: CallOptions) -> (usize, u64) {
        let requests = if options.has_more { Requests::Open } else { Requests::Ended };
        let key = self.calls.push_back(Call {
            id: 0,
            is_due: false,
            requests,
            next: None,
            credit: 0,
            items: VecDeque::new(),
            window: Window::new(options.answers),
            unsent: Some((request, options)),
            deadline: None,
            is_abandoned: false,
            must_cancel: false,
            outcome: None,
            reader: None,
            writer: None,
        });
        self.issued += 1;
        self.len += 1;
        let id = self.issued << self.key_bits | key as u64;
        if let Some(call) = self.calls.get_mut(key) {
            call.id = id;
        }
        self.mark_due(key);
        (key, id)
    }

    fn mark_due(&mut self, key: usize) {
        if let Some(call) = self.calls.get_mut(key)
            && !std::mem::replace(&mut call.is_due, true)
        {
            let due = Due::Call(key, call.id);
            self.push_due(due);
        }
    }

    fn push_due(&mut self, due: Due) {
        // A call that ends before it is written leaves its entry behind, or until such entries are the majority.
        if self.due.len() >= KEPT + 2 * (self.len + self.notifications.len()) {
            let calls = &self.calls;
            self.due.retain(|due| match due {
                Due::Call(key, id) => calls.get(*key).is_some_and(|call| call.id == *id),
                Due::Notification => true,
            });
        }
        self.due.push_back(due);
    }

    /// Adds a notification, behind everything that waits.
    pub(super) fn notify(&mut self, request: Req) {
        self.notifications.push_back(request);
        self.push_due(Due::Notification);
    }

    /// Returns how many notifications wait.
    pub(super) fn notifications(&self) -> usize {
        self.notifications.len()
    }

    /// Takes the notifications that wait, of an end that sends no more.
    pub(super) fn take_notifications(&mut self) -> VecDeque<Req> {
        std::mem::take(&mut self.notifications)
    }

    /// Sets the time at which a call is over.
    pub(super) fn set_deadline(&mut self, key: usize, id: u64, at: Instant) {
        if let Some(call) = self.calls.get_mut(key).filter(|call| call.id == id) {
            call.deadline = Some(at);
        }
    }

    /// Takes the next frame to write, and what is left of a call that it ends. Only for a call with a deadline, `now` is
    /// asked how much time is left.
    pub(super) fn next_frame<InRes>(&mut self, now: impl Fn() -> Instant) -> Option<Written<Req, Res, InRes, F>> {
        while let Some(due) = self.due.pop_front() {
            let (key, id) = match due {
                Due::Call(key, id) => (key, id),
                Due::Notification => match self.notifications.pop_front() {
                    Some(request) => return Some((Frame::Notification { request }, Left::NONE)),
                    None => continue,
                },
            };
            let Some(call) = self.calls.get_mut(key).filter(|call| call.id == id) else { continue };
            call.is_due = false;
            let mut left = Left::NONE;
            let frame = if let Some((request, mut options)) = call.unsent.take() {
                if let Some(at) = call.deadline {
                    options.timeout_ms = Some(milliseconds(at.saturating_duration_since(now())));
                }
                Frame::Call { id, request, options }
            } else if std::mem::take(&mut call.must_cancel) {
                if call.is_abandoned {
                    left = self.remove(key);
                }
                return Some((Frame::Cancel { id }, left));
            } else if call.window.is_due() {
                Frame::AnswerCredit { id, answers: call.window.grant() }
            } else if let Some(request) = call.next.take() {
                left.writer = call.writer.take();
                Frame::Request { id, request }
            } else if call.requests == Requests::Ending {
                call.requests = Requests::Ended;
                left.writer = call.writer.take();
                Frame::RequestsEnd { id }
            } else {
                continue;
            };
            if call.window.is_due() || call.next.is_some() || call.requests == Requests::Ending {
                self.mark_due(key);
            }
            return Some((frame, left));
        }
        None
    }

    fn remove(&mut self, key: usize) -> Left<Req, Res, F> {
        let Some(call) = self.calls.remove(key) else { return Left::NONE };
        self.len -= 1;
        Left { next: self.places.release(), _call: Some(call), ..Left::NONE }
    }

    fn key(&self, id: u64) -> Option<usize> {
        let key = (id & ((1 << self.key_bits) - 1)) as usize;
        self.calls.get(key).is_some_and(|call| call.id == id).then_some(key)
    }

    /// Takes an item of the peer, or gives it back.
    pub(super) fn item(&mut self, id: u64, item: Res) -> Result<Fate<Req, Res, F>, Res> {
        let Some(key) = self.key(id) else { return Err(item) };
        let Some(call) = self.calls.get_mut(key) else { return Err(item) };
        // An item of a call that is over already, or will be cancelled, crossed our frame.
        if call.outcome.is_some() || call.is_abandoned {
            return Err(item);
        }
        if call.unsent.is_some() || !call.window.receive() {
            return Ok(Fate::Violation);
        }
        call.items.push_back(item);
        Ok(Fate::Taken(Left { reader: call.reader.take(), ..Left::NONE }))
    }

    /// Ends the call with this number.
    pub(super) fn answer(&mut self, id: u64, outcome: Outcome<Res, F>) -> Result<Fate<Req, Res, F>, Outcome<Res, F>> {
        let Some(key) = self.key(id) else { return Err(outcome) };
        match self.calls.get(key) {
            Some(call) if call.unsent.is_some() => Ok(Fate::Violation),
            _ => self.end(key, outcome).map(Fate::Taken),
        }
    }

    /// Ends a call, whatever its state. Gives the outcome back if the call has one already.
    pub(super) fn end(&mut self, key: usize, outcome: Outcome<Res, F>) -> Result<Left<Req, Res, F>, Outcome<Res, F>> {
        let Some(call) = self.calls.get_mut(key).filter(|call| call.outcome.is_none()) else { return Err(outcome) };
        if call.is_abandoned {
            // Nothing is left to cancel.
            return Ok(self.remove(key));
        }
        call.outcome = Some(outcome);
        call.requests = Requests::Ended;
        let request = call.next.take().or_else(|| call.unsent.take().map(|(request, _)| request));
        let left = Left { reader: call.reader.take(), writer: call.writer.take(), _request: request, ..Left::NONE };
        // Out of the order, which is that of the calls without an outcome. Its handle has the key.
        self.calls.unlink(key);
        Ok(left)
    }

    /// Ends a call from this end with an error. The peer is told if it has the call.
    pub(super) fn cancel(&mut self, key: usize, error: Error) -> Left<Req, Res, F> {
        let Some(call) = self.calls.get_mut(key).filter(|call| call.outcome.is_none()) else { return Left::NONE };
        let was_sent = call.unsent.is_none();
        if call.is_abandoned {
            return Left::NONE;
        }
        call.must_cancel = was_sent;
        let error = if was_sent { error } else { error.into_unsent() };
        let left = self.end(key, Err(CallError::Unanswered(error))).unwrap_or(Left::NONE);
        if was_sent {
            self.mark_due(key);
        }
        left
    }

    /// Returns whether a call has no outcome yet.
    pub(super) fn is_live(&self, key: usize, id: u64) -> bool {
        self.calls.get(key).is_some_and(|call| call.id == id && call.outcome.is_none())
    }

    /// Ends a call from this end, because a frame of it could not be sent. With `tell`, the peer has the call.
    pub(super) fn fail(&mut self, id: u64, error: Error, tell: bool) -> Left<Req, Res, F> {
        let Some(key) = self.key(id) else { return Left::NONE };
        if tell {
            return self.cancel(key, error);
        }
        self.end(key, Err(CallError::Unanswered(error))).unwrap_or(Left::NONE)
    }

    /// Ends a call whose time is over.
    pub(super) fn time_out(&mut self, key: usize, id: u64) -> Left<Req, Res, F> {
        if self.key(id) != Some(key) {
            return Left::NONE;
        }
        self.cancel(key, Error::timeout("the call was not answered within its time (Caller::timeout)"))
    }

    /// Fails every call that was sent, because the connection that had them is lost; `all` fails the others as well,
    /// because there will be no other connection. Returns one call after another.
    pub(super) fn fail_next(&mut self, error: &Error, all: bool) -> Option<Left<Req, Res, F>> {
        let mut keys = std::iter::successors(self.calls.first(), |key| self.calls.next(*key));
        let key = keys.find(|key| {
            let call = self.calls.get(*key);
            call.is_some_and(|call| call.outcome.is_none() && (all || call.unsent.is_none()))
        })?;
        let is_unsent = self.calls.get(key).is_some_and(|call| call.unsent.is_some());
        let error = if is_unsent { error.clone().into_unsent() } else { error.clone() };
        self.end(key, Err(CallError::Unanswered(error))).ok()
    }

    /// Forgets the cancellations that wait to be written, because nothing will be written. Returns what is left of one
    /// call after another that had nothing else to do.
    pub(super) fn forget_next(&mut self) -> Option<Left<Req, Res, F>> {
        while let Some(due) = self.due.pop_front() {
            if let Due::Call(key, id) = due
                && let Some(call) = self.calls.get_mut(key).filter(|call| call.id == id)
                && std::mem::take(&mut call.must_cancel)
                && call.is_abandoned
            {
                return Some(self.remove(key));
            }
        }
        None
    }

    /// Gives the peer's credit to a call, unless the sum is more than a number can hold.
    pub(super) fn request_credit(&mut self, id: u64, more: u32) -> Fate<Req, Res, F> {
        let Some(key) = self.key(id) else { return Fate::Unknown };
        let Some(call) = self.calls.get_mut(key) else { return Fate::Unknown };
        let Some(credit) = call.credit.checked_add(more) else { return Fate::Violation };
        call.credit = credit;
        Fate::Taken(Left { writer: call.writer.take(), ..Left::NONE })
    }

    /// Takes the outcome of a call for its handle, which ends the call, or keeps the waker.
    pub(super) fn poll_outcome(&mut self, key: usize, prepared: &mut PreparedWaker<'_>) -> Option<Ended<Req, Res, F>> {
        let call = self.calls.get_mut(key)?;
        match call.outcome.take() {
            // The cancellation has to be written first.
            Some(outcome) if call.must_cancel => {
                call.is_abandoned = true;
                Some((outcome, Left::NONE))
            }
            Some(outcome) => Some((outcome, self.remove(key))),
            None => {
                prepared.keep_in(&mut call.reader);
                None
            }
        }
    }

    /// Takes the next item of a call for its handle, or its outcome, or keeps the waker. The flag tells whether credit
    /// is due.
    pub(super) fn poll_item(&mut self, key: usize, prepared: &mut PreparedWaker<'_>) -> Option<Polled<Req, Res, F>> {
        let call = self.calls.get_mut(key)?;
        if let Some(item) = call.items.pop_front() {
            let is_due = call.window.take() && call.outcome.is_none() && !call.is_due;
            if is_due {
                self.mark_due(key);
            }
            return Some(Polled::Item(item, is_due));
        }
        self.poll_outcome(key, prepared).map(|(outcome, left)| Polled::Over(outcome, left))
    }

    /// Returns whether a further request can be sent, or keeps the waker.
    pub(super) fn poll_room(&mut self, key: usize, prepared: &mut PreparedWaker<'_>) -> Option<Room> {
        let Some(call) = self.calls.get_mut(key) else { return Some(Room::Over) };
        if call.outcome.is_some() || call.requests != Requests::Open {
            return Some(Room::Over);
        }
        if call.next.is_none() && call.credit > 0 {
            return Some(Room::Free);
        }
        prepared.keep_in(&mut call.writer);
        None
    }

    /// Takes a further request, if there is room. Gives it back otherwise.
    pub(super) fn send(&mut self, key: usize, request: Req) -> Result<(), Req> {
        match self.calls.get_mut(key) {
            Some(call) if call.requests == Requests::Open && call.next.is_none() && call.credit > 0 => {
                call.credit -= 1;
                call.next = Some(request);
                self.mark_due(key);
                Ok(())
            }
            _ => Err(request),
        }
    }

    /// Ends the requests of a call.
    pub(super) fn end_requests(&mut self, key: usize) {
        if let Some(call) = self.calls.get_mut(key)
            && call.requests == Requests::Open
        {
            call.requests = Requests::Ending;
            self.mark_due(key);
        }
    }

    /// Returns whether all requests of a call are written, and their end if they have ended; or keeps the waker.
    pub(super) fn poll_written(&mut self, key: usize, prepared: &mut PreparedWaker<'_>) -> bool {
        let Some(call) = self.calls.get_mut(key) else { return true };
        let is_written = call.outcome.is_some()
            || (call.unsent.is_none() && call.next.is_none() && call.requests != Requests::Ending);
        if !is_written {
            prepared.keep_in(&mut call.writer);
        }
        is_written
    }

    /// Forgets a call whose handle is gone. The flag tells whether the peer has to be told.
    pub(super) fn abandon(&mut self, key: usize) -> (Left<Req, Res, F>, bool) {
        let Some(call) = self.calls.get_mut(key) else { return (Left::NONE, false) };
        if call.unsent.is_some() || (call.outcome.is_some() && !call.must_cancel) {
            return (self.remove(key), false);
        }
        call.is_abandoned = true;
        call.must_cancel = true;
        call.requests = Requests::Ended;
        let left = Left { reader: call.reader.take(), writer: call.writer.take(), ..Left::NONE };
        let left = Left { _request: call.next.take(), ..left };
        self.mark_due(key);
        (left, true)
    }
}
