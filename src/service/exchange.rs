//! The state that the handles and calls of a client share. No user code runs here, so it can be locked anywhere.

use std::{collections::VecDeque, sync::Arc, task::Waker};

use super::{
    calls::{Calls, Delivered},
    list::List,
    permits::Permits,
    wake_flag::WakeFlag,
};
use crate::{Error, transport::wakers::PreparedWaker};

/// A task that waits for something of the client. The order is that of precedence: a driver leads rather than a call.
///
/// A handle that waits for a place can lead, too: in order, all places may belong to dropped calls whose answers nobody
/// else would read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// A handle that waits for a place.
    Waiter(usize),
    Call(usize),
    Driver(usize),
}

impl Task {
    fn rank(self) -> u8 {
        match self {
            Self::Waiter(_) => 1,
            Self::Call(_) => 2,
            Self::Driver(_) => 3,
        }
    }
}

/// The task that flushes the requests which calls have fed.
///
/// ```text
///          a call promises to flush             another call feeds
///   AtOnce -----------------------> Promised(call) --------------> Awaited(call)
///     ^         the call comes or is dropped          |                 |
///     \__________________________________________________/                 |
///     \_____________ the same, or it has not come when the leader checks __/
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    /// The task that feeds, before it puts the transport back. Where the transport was pending, the leader goes on.
    AtOnce,
    /// This call, when it is polled again, after the calls that run before it have fed their requests.
    Promised(usize),
    /// This call has promised, and other calls have left their requests to its flush. Its future may be kept without
    /// being polled, so the leader checks that it comes.
    Awaited(usize),
}

impl Flush {
    /// Returns whether this call has promised to flush.
    pub(super) fn is_promised_by(self, key: usize) -> bool {
        matches!(self, Self::Promised(by) | Self::Awaited(by) if by == key)
    }
}

/// ```text
///            a write fails              the stream is pending or ends
///   Running --------------> Failing ---------------------------------> Ended
///      \______ the stream fails or ends, the client closes __________/
/// ```
///
/// While `Failing`, nothing is written, and answers that have arrived are still read: their calls succeed.
pub(super) enum Life {
    Running,
    Failing(Error),
    Ended(Ended),
}

#[derive(Clone)]
pub(super) struct Ended {
    pub(super) cause: Error,
    /// Whether the transport was closed by either side, and not cut.
    pub(super) clean: bool,
}

/// The exchange of requests and answers over the transport, for all handles and calls of a client.
///
/// # Who is woken
///
/// Each section under the lock ends with [`settle`](Self::settle): there is a leader as long as any task has left a
/// waker, and the wake flag holds the leader's. If the transport was pending, it wakes the flag. If it was not, for
/// example because the budget was used up, it will not wake for the rest: `must_poll` then makes the section wake the
/// leader. `wakes` collects the wakers of other tasks until the lock is free.
///
/// A task that waits has one waker. It is in the task's entry (in `calls` or `drivers`), or in the flag if the task is
/// `armed` or waits for a place. Wakers are moved and never cloned, because cloning runs code of the executor.
///
/// # Tasks that do not come
///
/// A task that was woken may never be polled, because its owner keeps the future for later. So no role stays with it:
///
/// | role | is taken over |
/// |---|---|
/// | leader | by any task that is polled after the leader was woken; else the lead goes only to tasks with a waker |
/// | flusher | by the leader, once another call depends on the flush; the leader's check tells |
/// | waiter with a granted place | by the next waiter, after [two checks](Permits) |
/// | checker | by any task that is polled again and still waits |
pub(super) struct Exchange<I, Req, Res> {
    /// `None` while a task uses the transport, and once the client has ended.
    pub(super) io: Option<I>,
    pub(super) in_order: bool,
    pub(super) calls: Calls<Req, Res>,
    pub(super) permits: Permits,
    pub(super) drivers: List<Option<Waker>>,
    pub(super) flag: Arc<WakeFlag>,
    /// The task that reads for all, and is woken when the transport can make progress.
    leader: Option<Task>,
    /// The task whose waker is in the flag instead of in its entry.
    armed: Option<Task>,
    /// The task that was woken as the leader to check whether others have come, until it does so.
    checker: Option<Task>,
    /// The task that uses the transport, until it is done.
    pub(super) holder: Option<Task>,
    /// Whether the leader must poll the transport although the transport wakes nobody.
    pub(super) must_poll: bool,
    pub(super) flush: Flush,
    /// Whether the last answers came several at a time, as the next requests then will.
    pub(super) is_bursty: bool,
    life: Life,
    pub(super) unknown_answers: u64,
    /// The number of dropped calls whose place is free again, because their answer came or will not come.
    pub(super) discarded: u64,
    /// The wakers to wake as soon as the lock is free.
    pub(super) wakes: VecDeque<Waker>,
}

impl<I, Req, Res> Exchange<I, Req, Res> {
    pub(super) fn new(io: I, flag: Arc<WakeFlag>, in_order: bool, limit: usize) -> Self {
        Self {
            io: Some(io),
            in_order,
            calls: Calls::new(limit),
            permits: Permits::new(limit),
            drivers: List::new(),
            flag,
            leader: None,
            armed: None,
            checker: None,
            holder: None,
            must_poll: false,
            flush: Flush::AtOnce,
            is_bursty: false,
            life: Life::Running,
            unknown_answers: 0,
            discarded: 0,
            wakes: VecDeque::new(),
        }
    }

    /// Returns whether `me` must read now: as the leader, in place of a lesser one, or in place of one that was woken
    /// and has not come yet. It leads from then on.
    pub(super) fn leads(&mut self, me: Task) -> bool {
        let rank = self.leader.map_or(0, Task::rank);
        let leads = self.leader == Some(me) || me.rank() > rank;
        // A leader without a waker was woken, unless it is the task that uses the transport. The next wake would reach
        // nobody if it does not come. A greater leader that comes takes the lead back.
        let steals = !leads && self.holder != self.leader && !self.has_leader_waker();
        if leads || steals {
            let (checker, was_woken) = (self.checker, self.must_poll || self.flag.is_set());
            self.set_leader(Some(me));
            // The checker is most likely about to come. A handle may wait for the very place that is to be checked.
            if steals && !was_woken && !matches!(me, Task::Waiter(_)) {
                self.checker = checker;
            }
        }
        leads || steals
    }

    fn set_leader(&mut self, leader: Option<Task>) {
        if self.leader != leader {
            // Nobody has told the next leader to check.
            (self.leader, self.checker) = (leader, None);
        }
    }

    /// Joins the line for a place. Of the handles in line, the last one leads: it is the least likely to be kept by a
    /// task that has given up waiting.
    pub(super) fn join_line(&mut self) -> usize {
        let key = self.permits.wait();
        if matches!(self.leader, Some(Task::Waiter(_))) {
            self.set_leader(Some(Task::Waiter(key)));
        }
        key
    }

    /// Leaves requests to the flush that another call has promised. `me` is the task that has fed them, if it waits.
    pub(super) fn await_flush(&mut self, me: Option<Task>) {
        let Flush::Promised(key) = self.flush else { return };
        self.flush = Flush::Awaited(key);
        // A check is a wake of the leader. It comes after the flusher, which is in the executor's queue already.
        if me.is_some() && (self.leader == Some(Task::Call(key)) || !self.has_leader_waker()) {
            self.set_leader(me);
        }
    }

    /// Checks whether the tasks have come that others wait for, if `me` is the leader that was woken for this, or comes
    /// `again` before that leader does. Returns whether places were passed on to the next in line.
    pub(super) fn check(&mut self, me: Task, again: bool) -> bool {
        if self.checker != Some(me) {
            // Without a checker, the leader could not be woken: it was woken before and has not come.
            let is_overdue = self.checker.is_some() || self.needs_check();
            if !again || (self.leader == Some(me) && self.checker.is_none()) || !is_overdue {
                return false;
            }
            self.set_leader(Some(me));
        }
        self.checker = None;
        // The flusher was in the executor's queue ahead of this check, so by now it has come or will not.
        if matches!(self.flush, Flush::Awaited(key) if me != Task::Call(key)) {
            self.flush = Flush::AtOnce;
            self.must_poll = true;
        }
        self.permits.check();
        let mut has_expired = false;
        while self.permits.expire() {
            self.release();
            has_expired = true;
        }
        has_expired
    }

    /// Returns why the client has ended, if it has.
    pub(super) fn ended(&self) -> Option<&Ended> {
        match &self.life {
            Life::Ended(ended) => Some(ended),
            _ => None,
        }
    }

    /// Returns the error of the write that failed, until the client ends.
    pub(super) fn failing(&self) -> Option<&Error> {
        match &self.life {
            Life::Failing(error) => Some(error),
            _ => None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.life, Life::Running)
    }

    /// Records the error of a failed write.
    pub(super) fn fail(&mut self, error: &Error) {
        if self.is_running() {
            self.life = Life::Failing(error.clone());
        }
    }

    /// Returns whether a task waits for another one that may not come.
    fn needs_check(&self) -> bool {
        self.permits.needs_check() || matches!(self.flush, Flush::Awaited(_))
    }

    fn is_waiting(&mut self, task: Task) -> bool {
        match task {
            Task::Waiter(key) => self.permits.is_waiting(key),
            Task::Call(_) | Task::Driver(_) => self.entry(task).is_some(),
        }
    }

    /// Returns the place of a waiting task's waker, unless the task has stopped waiting. A waiter's is in the flag.
    fn entry(&mut self, task: Task) -> Option<&mut Option<Waker>> {
        match task {
            Task::Waiter(_) => None,
            Task::Call(key) => self.calls.waker(key),
            Task::Driver(key) => self.drivers.get_mut(key),
        }
    }

    /// Keeps the waker of a task that waits.
    pub(super) fn park(&mut self, task: Task, prepared: &mut PreparedWaker<'_>) {
        match task {
            Task::Waiter(key) if self.permits.is_waiting(key) => self.flag.keep_in_line(key, prepared),
            _ if self.armed == Some(task) => self.flag.keep(prepared),
            _ => {
                if let Some(entry) = self.entry(task) {
                    prepared.keep_in(entry);
                }
            }
        }
    }

    /// Returns the waker of a task whose entry no longer waits, and had this waker.
    pub(super) fn unpark(&mut self, task: Task, waker: Option<Waker>) -> Option<Waker> {
        if self.armed != Some(task) {
            return waker;
        }
        self.armed = None;
        self.flag.swap(None, false)
    }

    /// Wakes the leader, which stays the leader and parks again when it comes. Where handles in line lead, all of them
    /// are woken. Returns whether there was a waker.
    fn tell_leader(&mut self) -> bool {
        let before = self.wakes.len();
        match self.leader {
            Some(Task::Waiter(_)) => self.wakes.extend(self.flag.take()),
            Some(leader) if self.armed == Some(leader) => self.wakes.extend(self.flag.swap(None, false)),
            Some(leader) => {
                let waker = self.entry(leader).and_then(Option::take);
                self.wakes.extend(waker);
            }
            None => {}
        }
        self.wakes.len() > before
    }

    /// Returns whether the leader could be woken: it has come since it was woken last.
    fn has_leader_waker(&mut self) -> bool {
        match self.leader {
            Some(Task::Waiter(_)) => self.flag.has_waker_in_line(),
            Some(leader) if self.armed == Some(leader) => self.flag.has_waker(),
            Some(leader) => self.entry(leader).is_some_and(|entry| entry.is_some()),
            None => false,
        }
    }

    /// Wakes those who lead because the transport can make progress. Call it after [`settle`](Self::settle).
    pub(super) fn wake_leaders(&mut self) {
        self.wakes.extend(self.flag.take());
    }

    /// Ends a section: makes sure that there is a leader as long as any task has a waker, and that the flag has its
    /// waker. Returns a waker that must be dropped outside the lock.
    #[must_use = "drop it once the client is unlocked"]
    pub(super) fn settle(&mut self) -> Option<Waker> {
        let mut old = None;
        // Three steps, in this order: a leader with its waker in the flag, then the wake that the leader is owed, then
        // the check of tasks that may not come.
        //
        // | `leader` | `armed` | |
        // |---|---|---|
        // | waits | the leader | nothing to do: the common case |
        // | waits | another, or none | the wakers change places |
        // | is gone | any | a new leader is chosen, which may be none |
        let is_gone = self.leader.is_none_or(|leader| !self.is_waiting(leader));
        if is_gone || self.armed != self.leader {
            // Back to its entry, or out if the task has stopped waiting.
            if let Some(armed) = self.armed.take() {
                old = self.flag.swap(None, false);
                if let Some(entry) = self.entry(armed) {
                    *entry = old.take();
                }
            }
            if is_gone {
                let leader = self.next_leader();
                self.set_leader(leader);
            }
            // A leader that was woken and has not come has no waker. The flag is then empty, and the next one that comes takes
            // the lead (`leads`).
            let waker = self.leader.and_then(|leader| self.entry(leader)?.take());
            let none = self.flag.swap(waker, matches!(self.leader, Some(Task::Waiter(_))));
            debug_assert!(none.is_none(), "the flag was emptied above");
            self.armed = self.leader;
            // A wake that came before has woken the previous leader, or nobody.
            self.must_poll |= self.io.is_some() && self.flag.is_set();
        }
        // A task that uses the transport looks at `must_poll` before it gives the transport back.
        if self.must_poll && self.io.is_some() {
            self.wake_leaders();
        }
        // After the tasks that it checks: they are in `wakes` already.
        if !self.needs_check() {
            self.checker = None;
        } else if self.checker.is_none_or(|checker| !self.is_waiting(checker)) {
            self.checker = if self.tell_leader() { self.leader } else { None };
        }
        old
    }

    /// Chooses a leader. A task without a waker was woken and has not come, and might never; if it comes, it takes the
    /// lead from a lesser one.
    fn next_leader(&self) -> Option<Task> {
        let mut drivers = std::iter::successors(self.drivers.first(), |key| self.drivers.next(*key));
        let driver = drivers.find(|key| matches!(self.drivers.get(*key), Some(Some(_))));
        // The newest call, because in order it waits longest: the lead passes on as rarely as possible.
        let call = || self.calls.newest_parked().map(Task::Call);
        let waiter = || self.permits.newest().map(Task::Waiter);
        driver.map(Task::Driver).or_else(call).or_else(waiter)
    }

    /// Releases the place of a call.
    pub(super) fn release(&mut self) {
        if let Some(key) = self.permits.release() {
            let waker = self.flag.take_from_line(key);
            self.wakes.extend(waker);
        }
    }

    /// Releases the place of a dropped call. Wakes a driver, whose owner may keep count of the places.
    pub(super) fn release_discarded(&mut self) {
        self.release();
        self.discarded += 1;
        if let Some(key) = self.drivers.first() {
            let driver = Task::Driver(key);
            let waker = match self.armed {
                Some(armed) if armed == driver => self.flag.swap(None, false),
                _ => self.drivers.get_mut(key).and_then(Option::take),
            };
            self.wakes.extend(waker);
        }
    }

    /// Removes a handle from the line for a place. Returns its waker, to be dropped.
    pub(super) fn leave_line(&mut self, key: usize) -> Option<Waker> {
        let waker = self.flag.take_from_line(key);
        if self.permits.leave(key) {
            self.release();
        }
        waker
    }

    /// Ends the client: every waiting call is woken and finds the cause. Returns the previous state, to be dropped.
    #[must_use = "drop it once the client is unlocked"]
    pub(super) fn end(&mut self, cause: Error, clean: bool) -> Life {
        if self.ended().is_some() {
            // The cause is dropped in its place.
            return Life::Failing(cause);
        }
        // Every waker leaves its entry in this one step: an ended client registers none, so nobody would be woken
        // later.
        let before = std::mem::replace(&mut self.life, Life::Ended(Ended { cause, clean }));
        let leader = self.armed.take().and_then(|_| self.flag.swap(None, false));
        self.wakes.extend(leader);
        while let Some(waker) = self.calls.next_waker() {
            self.wakes.push_back(waker);
        }
        while let Some(key) = self.permits.dissolve() {
            let waker = self.flag.take_from_line(key);
            self.wakes.extend(waker);
        }
        while let Some(key) = self.drivers.first() {
            self.wakes.extend(self.drivers.remove(key).flatten());
        }
        before
    }

    /// Returns how many answers are wanted. Nothing is read that nobody waits for: this is the backpressure on a peer
    /// that sends unasked.
    pub(super) fn wanted(&self) -> usize {
        match self.permits.first().or_else(|| self.drivers.first()) {
            Some(_) => usize::MAX,
            None => self.calls.waiting(),
        }
    }

    /// Gives an answer to its call. Returns the call and its waker, or the answer if nobody wants it.
    pub(super) fn deliver(
        &mut self,
        tag: Option<u64>,
        answer: Result<Res, Error>,
    ) -> Result<(usize, Option<Waker>), Result<Res, Error>> {
        let delivered = match tag {
            _ if self.in_order => self.calls.answer_oldest(answer),
            Some(tag) => self.calls.answer_tag(tag, answer),
            None => Delivered::Unknown(answer),
        };
        match delivered {
            Delivered::To(key, waker) => Ok((key, self.unpark(Task::Call(key), waker))),
            Delivered::Abandoned(answer) => {
                self.release_discarded();
                Err(answer)
            }
            Delivered::Unknown(answer) => {
                self.unknown_answers += 1;
                Err(answer)
            }
        }
    }

    /// Fails one call whose request was fetched last and not sent.
    pub(super) fn refuse(&mut self, key: usize, error: &Error) {
        match self.calls.answer(key, Err(error.clone())) {
            Delivered::To(key, waker) => {
                let waker = self.unpark(Task::Call(key), waker);
                self.wakes.extend(waker);
            }
            // Dropped while the transport looked at its request.
            Delivered::Abandoned(_) => self.release_discarded(),
            Delivered::Unknown(_) => {}
        }
    }

    /// Handles a loss of requests that were sent, or of their answers. By tag, their calls fail. In order, an answer is
    /// identified only by its position, which nobody knows any more, so the client ends. Returns the previous state, to
    /// be dropped once the client is unlocked.
    pub(super) fn lose_sent(&mut self, by_tag: &Error, in_order: Error) -> Option<Life> {
        if self.in_order {
            return Some(self.end(in_order, false));
        }
        self.fail_sent(by_tag);
        None
    }

    /// By tag: fails every call whose request was sent.
    pub(super) fn fail_sent(&mut self, error: &Error) {
        while let Some(key) = self.calls.oldest_sent() {
            match self.calls.answer(key, Err(error.clone())) {
                Delivered::To(_, waker) => {
                    let waker = self.unpark(Task::Call(key), waker);
                    self.wakes.extend(waker);
                }
                Delivered::Abandoned(_) => self.release_discarded(),
                Delivered::Unknown(_) => return,
            }
        }
    }
}
