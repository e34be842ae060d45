//! The state that the handles and calls of a client share. No user code runs here, so it can be locked anywhere.

use std::{collections::VecDeque, sync::Arc, task::Waker};

use super::{
    calls::{Calls, Delivered},
    list::List,
    permits::Permits,
    wake_flag::WakeFlag,
};
use crate::{Error, transport::wakers::PreparedWaker};

/// The task that reads for all, and is woken when the transport can make progress. Later variants take over from
/// earlier ones.
///
/// A handle that waits for a place can lead, too: in order, all places may belong to dropped calls whose answers nobody
/// else would read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leader {
    Nobody,
    /// A handle that waits for a place.
    Waiter(usize),
    Call(usize),
    Driver(usize),
}

impl Leader {
    fn rank(self) -> u8 {
        match self {
            Self::Nobody => 0,
            Self::Waiter(_) => 1,
            Self::Call(_) => 2,
            Self::Driver(_) => 3,
        }
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
/// Each section under the lock ends with [`settle`](Self::settle): there is a leader as long as anyone waits, and the
/// wake flag holds its waker. If the transport was pending, it wakes the flag. If it was not, for example because the
/// budget was used up, it will not wake for the rest: `todo` then makes the section wake the leader. `wakes` collects
/// the wakers of other tasks until the lock is free.
///
/// A task that waits has one waker. It is in the task's entry (in `calls`, `permits` or `drivers`), or in the flag if
/// the task is `armed`. Wakers are moved between the two and never cloned, because cloning runs code of the executor.
pub(super) struct Exchange<I, Req, Res> {
    /// `None` while a task uses the transport, and once the client has ended.
    pub(super) io: Option<I>,
    pub(super) in_order: bool,
    pub(super) calls: Calls<Req, Res>,
    pub(super) permits: Permits,
    pub(super) drivers: List<Option<Waker>>,
    pub(super) flag: Arc<WakeFlag>,
    leader: Leader,
    /// The task whose waker is in the flag instead of in its entry.
    armed: Leader,
    /// The leader, once it was woken to check whether the waiters with a granted place have come.
    checker: Leader,
    /// Whether the leader must poll the transport although the transport wakes nobody.
    pub(super) todo: bool,
    /// The call that has promised to flush when it is polled again, after the calls that run before it have fed theirs.
    pub(super) flusher: Option<usize>,
    /// Whether the last answers came several at a time, as the next requests then will.
    pub(super) burst: bool,
    life: Life,
    pub(super) unknown: u64,
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
            leader: Leader::Nobody,
            armed: Leader::Nobody,
            checker: Leader::Nobody,
            todo: false,
            flusher: None,
            burst: false,
            life: Life::Running,
            unknown: 0,
            wakes: VecDeque::new(),
        }
    }

    /// Returns whether `me` must read now: as the leader, in place of a lesser one, or in place of one that was woken
    /// and has not come yet (it might never come, because its future may be kept and not polled).
    pub(super) fn leads(&mut self, me: Leader) -> bool {
        let leads = self.leader == me || me.rank() > self.leader.rank();
        // While another task uses the transport, the leader has nothing to come for.
        let steals = !leads && self.io.is_some() && (self.todo || self.flag.is_set());
        if leads || steals && me.rank() == self.leader.rank() {
            self.lead(me);
        }
        leads || steals
    }

    fn lead(&mut self, leader: Leader) {
        if self.leader != leader {
            // Nobody has told the next leader to check.
            (self.leader, self.checker) = (leader, Leader::Nobody);
        }
    }

    /// Joins the line for a place. Of the handles in line, the last one leads: it is the least likely to be kept by a
    /// task that has given up waiting.
    pub(super) fn join_line(&mut self) -> usize {
        let key = self.permits.wait();
        if matches!(self.leader, Leader::Waiter(_)) {
            self.lead(Leader::Waiter(key));
        }
        key
    }

    /// Checks, if `me` is the leader that was woken for this, whether waiters with a granted place have not come. Their
    /// places go to the next in line. Returns whether there were any.
    pub(super) fn end_turns(&mut self, me: Leader) -> bool {
        if self.checker != me {
            return false;
        }
        self.checker = Leader::Nobody;
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

    /// Returns the place of a waiting task's waker, unless the task has stopped waiting.
    fn slot(&mut self, who: Leader) -> Option<&mut Option<Waker>> {
        match who {
            Leader::Nobody => None,
            Leader::Waiter(key) => self.permits.slot(key),
            Leader::Call(key) => self.calls.slot(key),
            Leader::Driver(key) => self.drivers.get_mut(key),
        }
    }

    /// Keeps the waker of a task that waits.
    pub(super) fn park(&mut self, who: Leader, prepared: &mut PreparedWaker<'_>) {
        if self.armed == who {
            self.flag.keep(prepared);
        } else if let Some(slot) = self.slot(who) {
            prepared.keep_in(slot);
        }
    }

    /// Takes the waker of the leader. It stays the leader, and parks again when it comes.
    pub(super) fn leader_waker(&mut self) -> Option<Waker> {
        if self.armed == self.leader { self.flag.swap(None) } else { self.slot(self.leader)?.take() }
    }

    /// Returns the waker of a task whose entry no longer waits, and had this waker.
    pub(super) fn unpark(&mut self, who: Leader, waker: Option<Waker>) -> Option<Waker> {
        if self.armed != who {
            return waker;
        }
        self.armed = Leader::Nobody;
        self.flag.swap(None)
    }

    /// Ends a section: makes sure that there is a leader as long as anyone waits, and that the flag has its waker.
    /// Returns a waker that must be dropped outside the lock.
    #[must_use = "drop it once the client is unlocked"]
    pub(super) fn settle(&mut self) -> Option<Waker> {
        let mut old = None;
        if self.slot(self.leader).is_none() {
            // The newest call, because in order it waits longest: the lead passes on as rarely as possible.
            let driver = self.drivers.first().map(Leader::Driver);
            let call = || self.calls.newest().map(Leader::Call);
            let waiter = || self.permits.newest().map(Leader::Waiter);
            self.lead(driver.or_else(call).or_else(waiter).unwrap_or(Leader::Nobody));
        }
        if self.armed != self.leader {
            let waker = self.slot(self.leader).and_then(Option::take);
            old = self.flag.swap(waker);
            if let Some(slot) = self.slot(self.armed) {
                *slot = old.take();
            }
            self.armed = self.leader;
            // A wake that came before has woken the previous leader, or nobody.
            self.todo |= self.io.is_some() && self.flag.is_set();
        }
        // A task that uses the transport looks at `todo` before it gives the transport back.
        if self.todo && self.io.is_some() {
            let leader = self.leader_waker();
            self.wakes.extend(leader);
        }
        // After the waiters that it checks: they are in `wakes` already.
        if self.permits.needs_check()
            && self.checker != self.leader
            && let Some(leader) = self.leader_waker()
        {
            self.wakes.push_back(leader);
            self.checker = self.leader;
        }
        old
    }

    /// Releases the place of a call.
    pub(super) fn release(&mut self) {
        if let Some((key, waker)) = self.permits.release() {
            let waker = self.unpark(Leader::Waiter(key), waker);
            self.wakes.extend(waker);
        }
    }

    /// Removes a handle from the line for a place. Returns its waker, to be dropped.
    pub(super) fn leave_line(&mut self, key: usize) -> Option<Waker> {
        let (waker, was_granted) = self.permits.leave(key);
        if was_granted {
            self.release();
        }
        self.unpark(Leader::Waiter(key), waker)
    }

    /// Ends the client: every waiting call is woken and finds the cause. Returns the previous state, to be dropped.
    #[must_use = "drop it once the client is unlocked"]
    pub(super) fn end(&mut self, cause: Error, clean: bool) -> Life {
        if self.ended().is_some() {
            // The cause is dropped in its place.
            return Life::Failing(cause);
        }
        let before = std::mem::replace(&mut self.life, Life::Ended(Ended { cause, clean }));
        let leader = self.unpark(self.armed, None);
        self.wakes.extend(leader);
        while let Some(waker) = self.calls.next_waker() {
            self.wakes.push_back(waker);
        }
        while let Some(waker) = self.permits.dissolve() {
            self.wakes.push_back(waker);
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
            Delivered::To(key, waker) => Ok((key, self.unpark(Leader::Call(key), waker))),
            Delivered::Abandoned(answer) => {
                self.release();
                Err(answer)
            }
            Delivered::Unknown(answer) => {
                self.unknown += 1;
                Err(answer)
            }
        }
    }

    /// Fails one call whose request was fetched last and not sent.
    pub(super) fn refuse(&mut self, key: usize, error: &Error) {
        match self.calls.answer(key, Err(error.clone())) {
            Delivered::To(key, waker) => {
                let waker = self.unpark(Leader::Call(key), waker);
                self.wakes.extend(waker);
            }
            // Dropped while the transport looked at its request.
            Delivered::Abandoned(_) => self.release(),
            Delivered::Unknown(_) => {}
        }
    }

    /// By tag: fails every call whose request was sent.
    pub(super) fn fail_sent(&mut self, error: &Error) {
        while let Some(key) = self.calls.oldest_sent() {
            match self.calls.answer(key, Err(error.clone())) {
                Delivered::To(_, waker) => {
                    let waker = self.unpark(Leader::Call(key), waker);
                    self.wakes.extend(waker);
                }
                Delivered::Abandoned(_) => self.release(),
                Delivered::Unknown(_) => return,
            }
        }
    }
}
