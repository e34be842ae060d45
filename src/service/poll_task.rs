//! The poll of a task that waits for a client: a handle, a call or a driver.

use std::task::{Context, Poll};

use super::{
    correlate::Correlate,
    exchange::Task,
    held::Held,
    shared_exchange::{ClientState, SharedExchange, Want},
};
use crate::{Transport, transport::wakers::PreparedWaker};

/// The result of a task's look at the state.
pub(super) enum Step<R> {
    Done(R),
    /// It waits as this task, and wants this of the transport.
    Wait(Task, Want),
}

/// Polls one task: looks at the state with `check`, does what the task wants or must do as the leader, and parks
/// the task unless it is done. `check` also learns whether the transport can be taken.
pub(super) fn poll_task<T, Req, Res, C, R>(
    shared: &SharedExchange<T, Req, Res, C>,
    cx: &Context<'_>,
    mut prepared: PreparedWaker<'_>,
    mut check: impl FnMut(&mut ClientState<T, Req, Res, C>, bool) -> Step<R>,
) -> Poll<R>
where
    C: Correlate<Req, Res>,
    T: Transport<C::Out, In = C::In>,
{
    // Each turn of the loop is one look at the state under the lock. The work without the lock (the transport's
    // work, drops, the clone of a waker) is followed by another look, because the state may have changed meanwhile.
    //
    // | after the look | next |
    // |---|---|
    // | the transport is held, and has work or garbage | `work` without the lock, then look again |
    // | it is held and has no work | park this task, put the transport back, and return |
    // | another task holds it | park this task: the holder looks at the state before it puts the transport back |
    // | the waker has to be cloned first | clone it without the lock, then look again |
    let (mut done, mut has_checked) = (None, false);
    let mut held: Option<Held<'_, T, Req, Res, C>> = None;
    loop {
        let mut state = shared.state.lock();
        if let Some(held) = &mut held {
            held.report(&mut state);
        }
        let (mut waits, mut looks_again) = (None, false);
        if done.is_none() {
            let is_free = state.io.is_some();
            match check(&mut state, is_free) {
                Step::Done(result) => {
                    // The result is kept: this task may still be in the middle of work for others.
                    done = Some(result);
                    held.iter_mut().for_each(|held| held.detach(&mut state));
                }
                Step::Wait(task, want) => {
                    // Once a poll: the tasks that are checked need a round of the executor to come.
                    let checks = !std::mem::replace(&mut has_checked, true);
                    let again = want == Want::Read { again: true };
                    if checks && state.check(task, again) && matches!(task, Task::Waiter(_)) {
                        // The place may be its own now.
                        let old = state.settle();
                        drop(state);
                        drop(old);
                        continue;
                    }
                    waits = Some(task);
                    looks_again = want == Want::FlushOnly;
                    if held.is_none() && state.ended().is_none() {
                        let reads = !looks_again && (state.leads(task) || state.failing().is_some());
                        if reads || !matches!(want, Want::Read { .. }) {
                            held = Held::take(shared, &mut state, task, want, reads);
                        }
                        // The task with the transport reads for this one.
                        state.must_poll |= reads && held.is_none();
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
        // Parked before the transport is put back, in the same lock: a wake in between finds the waker.
        if let Some(task) = waits {
            state.park(task, &mut prepared);
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
        if held.is_some() && shared.flag.resume() {
            // A deferred wake woke nobody.
            state.wake_leaders();
        }
        shared.unlock(state);
        drop(old);
        if done.is_none() && held.is_some_and(|held| held.has_promised) {
            // It comes after the tasks that are woken already, whose requests then share the flush.
            cx.waker().wake_by_ref();
        }
        return done.map_or(Poll::Pending, Poll::Ready);
    }
}
