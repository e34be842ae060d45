//! The lock around a client's state, and the work that is done under it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use super::{
    correlate::Correlate,
    exchange::{BUDGET, Ended, Exchange, Leader},
    wake_flag::{Deferred, WakeFlag},
};
use crate::{Error, Transport};

/// A client's state under its lock, and the flag.
///
/// The transport is polled under the lock, by whichever task holds it, so what the transport runs must not call the
/// client: a codec drops a request once it has encoded it. Everything else that is the user's runs outside: wakers, and
/// the drops of requests that were not sent, of unwanted answers and of the transport are handed out of each section
/// (`Step`, `wakes`, `old_transport`), because they may call the client again.
pub(super) struct SharedExchange<T, Req, Res, C> {
    state: Mutex<Exchange<T, Req, Res, C>>,
    flag: Arc<WakeFlag>,
    /// The flag as a waker, which the transport is polled with.
    waker: Waker,
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

enum Step<R, G> {
    Done(R),
    Pending,
    /// A value must be dropped outside the lock; then there is more to do.
    Again(G),
}

impl<T, Req, Res, C> SharedExchange<T, Req, Res, C> {
    pub(super) fn new(state: Exchange<T, Req, Res, C>) -> Self {
        let flag = Arc::new(WakeFlag::default());
        let waker = Waker::from(flag.clone());
        Self { state: Mutex::new(state), flag, waker, handles: AtomicUsize::new(1) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Exchange<T, Req, Res, C>> {
        // A transport that panicked has reported its panic already; the other calls continue in whatever state that
        // left.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` under the lock, with the transport's waker. Afterwards there is a leader if any call waits, and the
    /// wakers that `work` collected are woken outside the lock.
    fn work<R>(&self, work: impl FnOnce(&mut Exchange<T, Req, Res, C>, &Deferred<'_>, &mut Context<'_>) -> R) -> R {
        self.work_on(self.lock(), work)
    }

    fn work_on<'a, R>(
        &'a self,
        mut state: MutexGuard<'a, Exchange<T, Req, Res, C>>,
        work: impl FnOnce(&mut Exchange<T, Req, Res, C>, &Deferred<'_>, &mut Context<'_>) -> R,
    ) -> R {
        // The transport may wake while it is polled, on this thread or on another. Waking the leader then would run its
        // executor under the lock, so the flag is only set until it resumes.
        let flag = self.flag.defer();
        let result = work(&mut state, &flag, &mut Context::from_waker(&self.waker));
        let old = state.settle(&flag);
        // A deferred wake woke nobody: the leader is woken here.
        if flag.resume() || state.todo {
            let leader = state.leader_waker().cloned();
            state.wakes.extend(leader);
        }
        let old_transport = state.old_transport.take();
        self.unlock(state);
        drop((old, old_transport));
        result
    }

    /// Unlocks, then wakes the collected wakers. They are taken out in small batches, so that nothing is allocated and
    /// the memory of `wakes` is kept.
    fn unlock<'a>(&'a self, mut state: MutexGuard<'a, Exchange<T, Req, Res, C>>) {
        while !state.wakes.is_empty() {
            // A wake may call the client again on this thread, so the lock is free meanwhile.
            let mut batch = [const { None }; 16];
            for slot in &mut batch {
                *slot = state.wakes.pop_front();
            }
            drop(state);
            batch.into_iter().flatten().for_each(Waker::wake);
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
            let old = self.work(|state, _, _| {
                if last {
                    // The driver closes the transport when no handle or call is left.
                    state.todo = true;
                }
                match readiness {
                    Readiness::Unready => None,
                    Readiness::Reserved => {
                        state.release();
                        None
                    }
                    Readiness::Waiting(key) => {
                        let (old, next) = state.permits.leave(key);
                        state.wakes.extend(next);
                        old
                    }
                }
            });
            drop(old);
        }
    }

    /// Drops a call that has no answer yet, or whose answer was not taken.
    pub(super) fn forget(&self, stage: Stage<Req>) {
        let key = match stage {
            Stage::Refused | Stage::Done => return,
            Stage::New(_) => None,
            Stage::Waiting(key) => Some(key),
        };
        let rest = self.work(|state, _, _| {
            // In order, the answer will come and must be told apart from the next one.
            let keep = state.in_order && state.ended().is_none();
            let (rest, free) = key.map_or((None, true), |key| state.calls.forget(key, keep));
            if free {
                state.release();
            }
            if key.is_some() && state.flusher == key {
                // The leader performs the flush that this call had promised.
                state.flusher = None;
                state.todo = true;
            }
            if self.is_left(state) {
                state.todo = true;
            }
            rest
        });
        drop(rest);
    }

    /// Returns whether only a driver is left.
    fn is_left(&self, state: &Exchange<T, Req, Res, C>) -> bool {
        state.calls.waiting() == 0 && self.handles.load(Ordering::Acquire) == 0
    }

    /// Drops a driver.
    pub(super) fn leave(&self, key: usize) {
        let old = self.work(|state, _, _| state.drivers.remove(key));
        drop(old);
    }
}

impl<T, Req, Res, C> SharedExchange<T, Req, Res, C>
where
    C: Correlate<Req, Res>,
    T: Transport<C::Out, In = C::In>,
{
    pub(super) fn poll_ready(&self, readiness: &mut Readiness, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        let mut budget = BUDGET;
        loop {
            let mut state = self.lock();
            if let Some(Ended { cause, .. }) = state.ended() {
                let cause = cause.clone();
                let left = match std::mem::replace(readiness, Readiness::Unready) {
                    Readiness::Waiting(key) => state.permits.leave(key),
                    _ => (None, None),
                };
                drop(state);
                drop(left);
                return Poll::Ready(Err(cause.into_unsent()));
            }
            // The common case: a free place, and nothing else to do.
            if *readiness == Readiness::Unready && state.permits.take() {
                *readiness = Readiness::Reserved;
            }
            if *readiness == Readiness::Reserved {
                return Poll::Ready(Ok(()));
            }
            drop(state);

            let mut old = None;
            let step = self.work(|state, flag, transport| {
                let key = match *readiness {
                    Readiness::Waiting(key) => match state.permits.claim(key, cx.waker()) {
                        Ok(()) => {
                            *readiness = Readiness::Reserved;
                            return Step::Done(());
                        }
                        Err(waker) => {
                            old = waker;
                            if old.is_some() {
                                state.disarm();
                            }
                            key
                        }
                    },
                    _ if state.permits.take() => {
                        *readiness = Readiness::Reserved;
                        return Step::Done(());
                    }
                    _ => state.permits.wait(cx.waker().clone()),
                };
                *readiness = Readiness::Waiting(key);
                if state.leads(Leader::Waiter(key), flag)
                    && let Some(unwanted) = state.pump(flag, transport, None, &mut budget)
                {
                    return Step::Again(Some(unwanted));
                }
                match state.permits.waker(key) {
                    Some(_) => Step::Pending,
                    // The place was granted, or there will be no more places.
                    None => Step::Again(None),
                }
            });
            drop(old);
            match step {
                Step::Done(()) => {}
                Step::Pending => return Poll::Pending,
                Step::Again(unwanted) => drop(unwanted),
            }
        }
    }

    pub(super) fn poll_call(&self, stage: &mut Stage<Req>, cx: &Context<'_>) -> Poll<Result<Res, Error>> {
        let mut locked = self.lock();
        if let Stage::Waiting(key) = *stage {
            let state = &mut locked;
            // The common case: another call has read the answer, and taking it affects neither the lead nor a promised
            // flush.
            if state.flusher != Some(key)
                && state.permits.first().is_none()
                && !self.is_left(state)
                && let Some(answer) = state.calls.take_answer(key)
            {
                *stage = Stage::Done;
                state.release();
                return Poll::Ready(answer);
            }
        }
        let mut budget = BUDGET;
        loop {
            let mut old = None;
            let step = self.work_on(locked, |state, flag, transport| {
                let (key, fresh) = match std::mem::replace(stage, Stage::Done) {
                    Stage::Waiting(key) => (key, false),
                    Stage::New(request) => {
                        let key = state.calls.insert(request);
                        state.write(transport);
                        (key, true)
                    }
                    Stage::Refused => {
                        let bug = "called without a place; wait for poll_ready before each call";
                        return Step::Done((Some(Err(Error::other(bug))), None, None));
                    }
                    Stage::Done => return Step::Pending,
                };
                *stage = Stage::Waiting(key);
                let mut unwanted = None;
                // A call whose answer is there reads nothing more: it would delay itself for others.
                if state.ended().is_none() && !state.calls.is_answered(key) {
                    self.coalesce(state, transport, key, fresh, cx.waker());
                    if state.leads(Leader::Call(key), flag) || state.is_failing() {
                        unwanted = state.pump(flag, transport, Some(key), &mut budget);
                    }
                }
                // Before the end is looked at: an answer that came first counts.
                if let Some(answer) = state.calls.take_answer(key) {
                    *stage = Stage::Done;
                    self.finish(state, transport, key);
                    return Step::Done((Some(answer), unwanted, None));
                }
                if let Some(Ended { cause, .. }) = state.ended() {
                    *stage = Stage::Done;
                    let is_unsent = state.calls.is_unsent(key);
                    let cause = cause.clone();
                    let cause = Err(if is_unsent { cause.into_unsent() } else { cause });
                    let (rest, _) = state.calls.forget(key, false);
                    return Step::Done((Some(cause), unwanted, rest));
                }
                old = state.calls.park(key, cx.waker());
                if old.is_some() {
                    state.disarm();
                }
                if unwanted.is_some() { Step::Again(unwanted) } else { Step::Pending }
            });
            drop(old);
            match step {
                Step::Done((answer, unwanted, rest)) => {
                    drop((unwanted, rest));
                    return answer.map_or(Poll::Pending, Poll::Ready);
                }
                Step::Pending => return Poll::Pending,
                Step::Again(unwanted) => drop(unwanted),
            }
            locked = self.lock();
        }
    }

    /// Flushes what was fed: at once if this call is alone, otherwise when it is polled again, after the calls that run
    /// before then have fed theirs.
    fn coalesce(
        &self,
        state: &mut Exchange<T, Req, Res, C>,
        transport: &mut Context<'_>,
        key: usize,
        fresh: bool,
        waker: &Waker,
    ) {
        match state.flusher {
            Some(flusher) if flusher == key && !fresh => {
                state.flusher = None;
                state.flush(transport);
            }
            None if fresh && state.can_flush_later() => {
                state.flusher = Some(key);
                state.wakes.push_back(waker.clone());
            }
            None if fresh => state.flush(transport),
            _ => {}
        }
    }

    /// Ends a call that has its answer.
    fn finish(&self, state: &mut Exchange<T, Req, Res, C>, transport: &mut Context<'_>, key: usize) {
        state.release();
        if state.flusher == Some(key) {
            state.flusher = None;
            state.flush(transport);
        }
        if self.is_left(state) {
            state.todo = true;
        }
    }

    /// Reads for all calls, until the transport has ended or no handle or call is left.
    pub(super) fn poll_drive(&self, driver: &mut Option<usize>, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        let mut budget = BUDGET;
        loop {
            let mut old = None;
            let step = self.work(|state, flag, transport| {
                let mut unwanted = None;
                if state.ended().is_none() {
                    let key = match *driver {
                        Some(key) => {
                            if let Some(waker) = state.drivers.get_mut(key).filter(|old| !old.will_wake(cx.waker())) {
                                old = Some(std::mem::replace(waker, cx.waker().clone()));
                                state.disarm();
                            }
                            key
                        }
                        None => *driver.insert(state.drivers.push_back(cx.waker().clone())),
                    };
                    if state.leads(Leader::Driver(key), flag) {
                        unwanted = state.pump(flag, transport, None, &mut budget);
                    }
                    if unwanted.is_none() && self.is_left(state) {
                        // `Ready` means that it has ended the client; otherwise it rings.
                        let _ = state.poll_close(transport);
                    }
                }
                if let Some(ended) = state.ended() {
                    *driver = None;
                    return Step::Done((ended.clone(), unwanted));
                }
                if unwanted.is_some() { Step::Again(unwanted) } else { Step::Pending }
            });
            drop(old);
            match step {
                Step::Done((ended, unwanted)) => {
                    drop(unwanted);
                    return Poll::Ready(if ended.clean { Ok(()) } else { Err(ended.cause) });
                }
                Step::Pending => return Poll::Pending,
                Step::Again(unwanted) => drop(unwanted),
            }
        }
    }
}
