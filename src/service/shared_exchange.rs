//! The lock around a client's state.

use std::{collections::VecDeque, pin::Pin, sync::Arc, task::Waker};

use pin_project_lite::pin_project;

use super::{
    exchange::{Exchange, Flush, Task},
    wake_flag::WakeFlag,
};
use crate::{
    Error,
    sync::{
        atomic::{AtomicUsize, Ordering},
        checked::{Mutex, MutexGuard},
    },
};

/// A client's state under its lock, and the flag.
///
/// No user code runs under the lock, so any of it may use the client: the transport with its codecs, the correlation,
/// the drops of messages and errors, and wakers. A task that has work for the transport takes it out of the state
/// (`Held`), works without the lock, and puts it back. It takes the lock once a round, to fetch the next request and to
/// hand out the answers that it has read. A task that finds the transport taken leaves its request in the state and
/// waits: the task with the transport looks at the state again before it puts the transport back.
pub(super) struct SharedExchange<T, Req, Res, C> {
    pub(super) state: Mutex<ClientState<T, Req, Res, C>>,
    pub(super) flag: Arc<WakeFlag>,
    /// The flag as a waker, which the transport is polled with.
    pub(super) waker: Waker,
    /// The number of `Client` handles.
    handles: AtomicUsize,
}

/// A client's state, of which the transport is a part while nobody uses it.
pub(super) type ClientState<T, Req, Res, C> = Exchange<Pin<Box<Io<T, Res, C>>>, Req, Res>;

pin_project! {
    /// The transport of a client, and what only the task that uses it touches.
    pub(super) struct Io<T, Res, C> {
        #[pin]
        pub(super) transport: T,
        pub(super) correlate: C,
        // Answers that were read, with their tags. Between rounds it holds those that nobody wants, to be dropped.
        pub(super) read: VecDeque<(Option<u64>, Result<Res, Error>)>,
        // Whether something was fed and is not flushed.
        pub(super) is_dirty: bool,
        // Whether a flush was begun, and the transport was pending in it.
        pub(super) is_flushing: bool,
    }
}

/// A handle's share of the places in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Unready,
    Waiting(usize),
    Reserved,
}

/// The work that a task has for the transport, in addition to the leader's reading.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// To read, if it leads. `again`: it has waited before.
    Read { again: bool },
    /// To write its new request, and to read if it leads.
    Write,
    /// To flush as it has promised, and to read if it leads.
    Flush,
    /// To flush as it has promised. Its answer is there: reading would delay it for others.
    FlushOnly,
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

impl<T, Req, Res, C> SharedExchange<T, Req, Res, C> {
    pub(super) fn new(transport: T, correlate: C, in_order: bool, limit: usize) -> Self {
        let flag = Arc::new(WakeFlag::default());
        let waker = Waker::from(flag.clone());
        let io = Box::pin(Io { transport, correlate, read: VecDeque::new(), is_dirty: false, is_flushing: false });
        let state = Mutex::new(Exchange::new(io, flag.clone(), in_order, limit));
        Self { state, flag, waker, handles: AtomicUsize::new(1) }
    }

    /// Changes the state. Returns the garbage of the change, to be dropped.
    #[must_use = "drop it once the client is unlocked"]
    fn change<R>(&self, change: impl FnOnce(&mut ClientState<T, Req, Res, C>) -> R) -> (R, Option<Waker>) {
        let mut state = self.state.lock();
        let garbage = change(&mut state);
        let old = state.settle();
        self.unlock(state);
        (garbage, old)
    }

    /// Unlocks, then wakes the collected wakers. They are taken out in small batches, so that nothing is allocated and
    /// the memory of `wakes` is kept.
    pub(super) fn unlock<'a>(&'a self, mut state: MutexGuard<'a, ClientState<T, Req, Res, C>>) {
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
            state = self.state.lock();
        }
    }

    pub(super) fn add_handle(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// Drops a handle and releases its place.
    pub(super) fn drop_handle(&self, readiness: Readiness) {
        // Released here and acquired in `is_left`: who sees no handle also sees what the handles have done.
        let last = self.handles.fetch_sub(1, Ordering::AcqRel) == 1;
        // A handle that holds nothing needs no lock: clones come and go with each call.
        if last || readiness != Readiness::Unready {
            let garbage = self.change(|state| {
                // The driver closes the transport when no handle or call is left.
                state.must_poll |= last;
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

    /// Drops a call that has no answer yet, or whose answer was not taken. Returns whether its place stays taken until
    /// its answer comes.
    pub(super) fn forget(&self, stage: Stage<Req>) -> bool {
        let key = match stage {
            Stage::Refused | Stage::Done => return false,
            Stage::New(_) => None,
            Stage::Waiting(key) => Some(key),
        };
        let mut is_kept = false;
        let garbage = self.change(|state| {
            // In order, the answer will come and must be told apart from the next one.
            let keep = state.in_order && state.ended().is_none();
            // | the call | its place |
            // |---|---|
            // | was never polled, or its request was not sent | is free at once |
            // | was sent, by tag | is free at once: a late answer is recognized by its tag, and dropped |
            // | was sent, in order | stays taken until the answer comes |
            let (rest, free) = key.map_or((None, true), |key| state.calls.forget(key, keep));
            is_kept = key.is_some() && !free;
            if free {
                state.release();
            }
            let waker = key.and_then(|key| state.unpark(Task::Call(key), None));
            if key.is_some_and(|key| state.flush.is_promised_by(key)) {
                // The leader performs the flush that this call had promised.
                state.flush = Flush::AtOnce;
                state.must_poll = true;
            }
            state.must_poll |= self.is_left(state);
            (rest, waker)
        });
        drop((garbage, stage));
        is_kept
    }

    /// Returns whether only a driver is left.
    pub(super) fn is_left(&self, state: &ClientState<T, Req, Res, C>) -> bool {
        state.calls.waiting() == 0 && self.handles.load(Ordering::Acquire) == 0
    }

    /// Returns whether a driver closes the transport, because nothing else is left.
    pub(super) fn is_closing(&self) -> bool {
        self.handles.load(Ordering::Acquire) == 0 && self.is_left(&self.state.lock())
    }

    /// Ends the client, and drops its transport.
    pub(super) fn give_up(&self, cause: Error) {
        let (garbage, old) = self.change(|state| (state.io.take(), state.end(cause, false)));
        drop((garbage, old));
    }

    /// Drops a driver.
    pub(super) fn leave(&self, key: usize) {
        let garbage = self.change(|state| {
            let waker = state.drivers.remove(key).flatten();
            state.unpark(Task::Driver(key), waker)
        });
        drop(garbage);
    }
}
