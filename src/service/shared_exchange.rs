//! The lock around a client's state, and what each task does when it is polled.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use super::{
    correlate::Correlate,
    exchange::{Ended, Exchange, Leader},
    held::{Held, Io, Want},
    wake_flag::WakeFlag,
};
use crate::{Error, Transport, transport::wakers::PreparedWaker};

/// A client's state under its lock, and the flag.
///
/// No user code runs under the lock, so any of it may use the client: the transport with its codecs, [`Correlate`], the
/// drops of messages and errors, and wakers. A task that has work for the transport takes it out of the state
/// ([`Held`]), works without the lock, and puts it back. It takes the lock once a round, to fetch the next request and
/// to hand out the answers that it has read. A task that finds the transport taken leaves its request in the state and
/// waits: the task with the transport looks at the state again before it puts the transport back.
pub(super) struct SharedExchange<T, Req, Res, C> {
    state: Mutex<Exchange<T, Req, Res, C>>,
    pub(super) flag: Arc<WakeFlag>,
    /// The flag as a waker, which the transport is polled with.
    pub(super) waker: Waker,
    /// The number of `Client` handles.
    handles: AtomicUsize,
}

/// A handle's share of the places in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Unready,
    Waiting(usize),
    Reserved,
}

/// The progress of a call.
pub(super) enum Stage<Req> {
    /// Not polled yet; the call has a place in flight.
    New(Req),
    Waiting(usize),
    /// Called without a place.
    Refused,
    Done,
}

/// What a task finds in the state.
enum Step<R> {
    Done(R),
    /// It waits as this task, and wants this of the transport.
    Wait(Leader, Want),
}

impl<T, Req, Res, C> SharedExchange<T, Req, Res, C> {
    pub(super) fn new(transport: T, correlate: C, in_order: bool, limit: usize) -> Self {
        let flag = Arc::new(WakeFlag::default());
        let waker = Waker::from(flag.clone());
        let io = Io::new(transport, correlate);
        let state = Mutex::new(Exchange::new(io, flag.clone(), in_order, limit));
        Self { state, flag, waker, handles: AtomicUsize::new(1) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Exchange<T, Req, Res, C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state. Returns the garbage of the change, to be dropped.
    #[must_use = "drop it once the client is unlocked"]
    fn change<R>(&self, change: impl FnOnce(&mut Exchange<T, Req, Res, C>) -> R) -> (R, Option<Waker>) {
        let mut state = self.lock();
        let garbage = change(&mut state);
        let old = state.settle();
        self.unlock(state);
        (garbage, old)
    }

    /// Unlocks, then wakes the collected wakers. They are taken out in small batches, so that nothing is allocated and
    /// the memory of `wakes` is kept.
    pub(super) fn unlock<'a>(&'a self, mut state: MutexGuard<'a, Exchange<T, Req, Res, C>>) {
        while !state.wakes.is_empty() {
            // A wake may call the client again on this thread, so the lock is free meanwhile.
            let mut batch = [const { None }; 16];
            for slot in &mut batch {
                *slot = state.wakes.pop_front();
            }
            let has_more = !state.wakes.is_empty();
            drop(state);
            batch.into_iter().flatten().for_each(Waker::wake);
            if !has_more {
                return;
            }
            state = self.lock();
        }
    }

    pub(super) fn add_handle(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// Drops a handle and releases its place.
    pub(super) fn drop_handle(&self, readiness: Readiness) {
        let last = self.handles.fetch_sub(1, Ordering::AcqRel) == 1;
        // A handle that holds nothing needs no lock: clones come and go with each call.
        if last || readiness != Readiness::Unready {
            let garbage = self.change(|state| {
                // The driver closes the transport when no handle or call is left.
                state.todo |= last;
                match readiness {
                    Readiness::Unready => return None,
                    Readiness::Reserved => state.release(),
                    Readiness::Waiting(key) => return state.leave_line(key),
                }
                None
            });
            drop(garbage);
        }
    }

    /// Drops a call that has no answer yet, or whose answer was not taken.
    pub(super) fn forget(&self, stage: Stage<Req>) {
        let key = match stage {
            Stage::Refused | Stage::Done => return,
            Stage::New(_) => None,
            Stage::Waiting(key) => Some(key),
        };
        let garbage = self.change(|state| {
            // In order, the answer will come and must be told apart from the next one.
            let keep = state.in_order && state.ended().is_none();
            let (rest, free) = key.map_or((None, true), |key| state.calls.forget(key, keep));
            if free {
                state.release();
            }
            let waker = key.and_then(|key| state.unpark(Leader::Call(key), None));
            if key.is_some() && state.flusher == key {
                // The leader performs the flush that this call had promised.
                state.flusher = None;
                state.todo = true;
            }
            state.todo |= self.is_left(state);
            (rest, waker)
        });
        drop((garbage, stage));
    }

    /// Returns whether only a driver is left.
    pub(super) fn is_left(&self, state: &Exchange<T, Req, Res, C>) -> bool {
        state.calls.waiting() == 0 && self.handles.load(Ordering::Acquire) == 0
    }

    /// Drops a driver.
    pub(super) fn leave(&self, key: usize) {
        let garbage = self.change(|state| {
            let waker = state.drivers.remove(key).flatten();
            state.unpark(Leader::Driver(key), waker)
        });
        drop(garbage);
    }
}

impl<T, Req, Res, C> SharedExchange<T, Req, Res, C>
where
    C: Correlate<Req, Res>,
    T: Transport<C::Out, In = C::In>,
{
    pub(super) fn poll_ready(&self, readiness: &mut Readiness, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        let polled = self.run(cx, PreparedWaker::new(cx.waker()), |state, _| {
            if let Some(Ended { cause, .. }) = state.ended() {
                let cause = cause.clone();
                let waker = match std::mem::replace(readiness, Readiness::Unready) {
                    Readiness::Waiting(key) => state.leave_line(key),
                    _ => None,
                };
                return Step::Done((Err(cause), waker));
            }
            let key = match *readiness {
                Readiness::Waiting(key) if !state.permits.claim(key) => key,
                Readiness::Unready if !state.permits.take() => state.permits.wait(),
                _ => {
                    *readiness = Readiness::Reserved;
                    return Step::Done((Ok(()), None));
                }
            };
            *readiness = Readiness::Waiting(key);
            Step::Wait(Leader::Waiter(key), Want::Read)
        });
        polled.map(|(ready, _)| ready.map_err(Error::into_unsent))
    }

    pub(super) fn poll_call(&self, stage: &mut Stage<Req>, cx: &Context<'_>) -> Poll<Result<Res, Error>> {
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
        let polled = self.run(cx, prepared, |state, is_free| {
            let mut want = Want::Read;
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
            if std::mem::take(&mut is_first) && state.flusher == Some(key) {
                state.flusher = None;
                // Otherwise the task that has the transport flushes.
                if is_free && state.ended().is_none() {
                    *stage = Stage::Waiting(key);
                    return Step::Wait(Leader::Call(key), if is_answered { Want::FlushOnly } else { Want::Flush });
                }
            }
            // Before the end is looked at: an answer that came first counts.
            if let Some(answer) = state.calls.take_answer(key) {
                state.release();
                if state.flusher == Some(key) {
                    state.flusher = None;
                }
                state.todo |= self.is_left(state);
                return Step::Done((answer, None));
            }
            if let Some(Ended { cause, .. }) = state.ended() {
                let cause = cause.clone();
                let cause = if state.calls.is_unsent(key) { cause.into_unsent() } else { cause };
                let (rest, _) = state.calls.forget(key, false);
                return Step::Done((Err(cause), rest));
            }
            *stage = Stage::Waiting(key);
            Step::Wait(Leader::Call(key), want)
        });
        polled.map(|(answer, _)| answer)
    }

    /// Reads for all calls, until the transport has ended or no handle or call is left.
    pub(super) fn poll_drive(&self, driver: &mut Option<usize>, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        let polled = self.run(cx, PreparedWaker::new(cx.waker()), |state, _| {
            if let Some(ended) = state.ended() {
                *driver = None;
                return Step::Done(ended.clone());
            }
            let key = *driver.get_or_insert_with(|| state.drivers.push_back(None));
            Step::Wait(Leader::Driver(key), Want::Read)
        });
        polled.map(|ended| if ended.clean { Ok(()) } else { Err(ended.cause) })
    }

    /// Polls one task: looks at the state with `check`, does what the task wants or must do as the leader, and parks
    /// the task unless it is done. `check` also learns whether the transport can be taken.
    fn run<R>(
        &self,
        cx: &Context<'_>,
        mut prepared: PreparedWaker<'_>,
        mut check: impl FnMut(&mut Exchange<T, Req, Res, C>, bool) -> Step<R>,
    ) -> Poll<R> {
        let mut done = None;
        let mut held: Option<Held<'_, T, Req, Res, C>> = None;
        loop {
            let mut state = self.lock();
            if let Some(held) = &mut held {
                held.report(&mut state);
            }
            let (mut waits, mut looks_again) = (Leader::Nobody, false);
            if done.is_none() {
                let is_free = state.io.is_some();
                match check(&mut state, is_free) {
                    Step::Done(result) => done = Some(result),
                    Step::Wait(who, want) => {
                        waits = who;
                        looks_again = want == Want::FlushOnly;
                        if held.is_none() && state.ended().is_none() {
                            let reads = !looks_again && (state.leads(who) || state.failing().is_some());
                            if reads || want != Want::Read {
                                held = Held::take(self, &mut state, who, want, reads);
                            }
                            // The task with the transport reads for this one.
                            state.todo |= reads && held.is_none();
                        }
                    }
                }
            }
            if let Some(held) = &mut held {
                let goes_on = held.plan(&mut state, waits);
                if goes_on || looks_again || held.has_garbage() {
                    let old = state.settle();
                    drop(state);
                    drop(old);
                    held.drop_garbage();
                    if goes_on {
                        held.work();
                    }
                    continue;
                }
            }
            if done.is_none() {
                state.park(waits, &mut prepared);
                if prepared.is_missing() {
                    drop(state);
                    prepared.prepare();
                    continue;
                }
            }
            if let Some(held) = &mut held {
                held.put_back(&mut state);
            }
            let old = state.settle();
            if held.is_some() && self.flag.resume() {
                // A deferred wake woke nobody.
                let leader = state.leader_waker();
                state.wakes.extend(leader);
            }
            self.unlock(state);
            drop(old);
            if done.is_none() && held.is_some_and(|held| held.has_promised) {
                // It comes after the tasks that are woken already, whose requests then share the flush.
                cx.waker().wake_by_ref();
            }
            return done.map_or(Poll::Pending, Poll::Ready);
        }
    }
}
