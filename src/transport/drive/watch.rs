//! Tasks that wait for the driver, or for the end of a queue.

use std::task::{Context, Poll};
#[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
use std::{sync::atomic::Ordering::Relaxed, task::ready};

#[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
use super::queues::wake_all;
use super::{outbox::End, queues::Queues};
#[cfg(all(feature = "rt", not(target_arch = "wasm32")))]
use crate::rt::{self, Timer};
#[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
use crate::transport::close_deadline::{CloseDeadline, WaitsFor};
use crate::{Error, transport::wakers::poll_prepared};

/// How long a call waits for a driver that nobody has polled yet. It is much longer than a task takes to start.
#[cfg(all(feature = "rt", not(target_arch = "wasm32")))]
const UNDRIVEN: std::time::Duration = std::time::Duration::from_secs(10);

/// The wait of one call for a driver that nobody has polled yet, and perhaps never will.
///
/// In wasm32 a call waits forever: a timer of the browser is not `Send`, and the calls are.
#[derive(Debug)]
pub(super) struct Undriven {
    /// The call has found no driver in an earlier poll.
    #[cfg(all(feature = "rt", not(target_arch = "wasm32")))]
    is_noted: bool,
    #[cfg(all(feature = "rt", not(target_arch = "wasm32")))]
    timer: Timer,
}

impl Undriven {
    pub(super) const fn new() -> Self {
        Self {
            #[cfg(all(feature = "rt", not(target_arch = "wasm32")))]
            is_noted: false,
            #[cfg(all(feature = "rt", not(target_arch = "wasm32")))]
            timer: Timer::new(),
        }
    }

    /// Returns the error of a call that has found nothing, once it has waited for too long.
    ///
    /// A correct program need not have timers. It often polls the call before the task of its driver, so the first poll
    /// only asks for a second one. With `panic = "abort"`, a runtime without timers cannot be told from others, and a
    /// timer would abort the process.
    #[cfg(all(feature = "rt", not(target_arch = "wasm32")))]
    pub(super) fn poll<Out, In>(&mut self, queues: &Queues<Out, In>, cx: &mut Context<'_>) -> Poll<Error> {
        if queues.is_driven() || cfg!(panic = "abort") {
            return Poll::Pending;
        }
        if !std::mem::replace(&mut self.is_noted, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !self.timer.is_set() {
            if !rt::has_timers() {
                return Poll::Pending;
            }
            self.timer.set(UNDRIVEN);
        }
        std::task::ready!(self.timer.poll(cx));
        Poll::Ready(Error::config(format!(
            "nobody has polled the driver of this transport for {UNDRIVEN:?}, so nothing is sent or received: call \
             `Driven::spawn`, or spawn the driver of `Driven::into_parts`"
        )))
    }

    #[cfg(not(all(feature = "rt", not(target_arch = "wasm32"))))]
    pub(super) fn poll<Out, In>(&mut self, _: &Queues<Out, In>, _: &mut Context<'_>) -> Poll<Error> {
        Poll::Pending
    }
}

// The futures of the calls are `Send`, in wasm32 too.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Undriven>();
};

/// A task that waits for the end. Dropping it removes its registration.
pub(super) struct EndWatch<'a, Out, In> {
    pub(super) queues: &'a Queues<Out, In>,
    id: Option<u64>,
}

impl<'a, Out, In> EndWatch<'a, Out, In> {
    pub(super) fn new(queues: &'a Queues<Out, In>) -> Self {
        Self { queues, id: None }
    }

    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<End> {
        poll_prepared(cx, |prepared| self.queues.outbox.lock().poll_end(&mut self.id, prepared))
    }
}

impl<Out, In> Drop for EndWatch<'_, Out, In> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let waker = self.queues.outbox.lock().forget_end(id);
            drop(waker);
        }
    }
}

/// A task that waits for a close. If the queue is pulled, it also limits the time of the close.
#[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
pub(super) struct CloseWatch<'a, Out, In> {
    end: EndWatch<'a, Out, In>,
    /// The progress of the queue at the last look.
    seen: u64,
    deadline: CloseDeadline,
}

#[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
impl<'a, Out, In> CloseWatch<'a, Out, In> {
    pub(super) fn new(queues: &'a Queues<Out, In>) -> Self {
        let close = &queues.close;
        close.is_watched.store(close.is_pulled, Relaxed);
        Self { end: EndWatch::new(queues), seen: 0, deadline: CloseDeadline::new(close.limit) }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let queues = self.end.queues;
        // Before the look: each message that is passed on later wakes this task.
        let before = queues.close.is_pulled.then(|| queues.outbox.lock().progress());
        if let Poll::Ready(end) = self.end.poll(cx) {
            return Poll::Ready(end);
        }
        let Some(progress) = before else { return Poll::Pending };
        let has_moved = std::mem::replace(&mut self.seen, progress) != progress;
        ready!(self.deadline.poll(has_moved, WaitsFor::Room, cx));
        let error = self.give_up();
        Poll::Ready(End { error, is_clean: false })
    }

    /// Ends the queue, whose consumer takes nothing.
    fn give_up(&self) -> Error {
        let (queues, limit) = (self.end.queues, self.deadline.limit());
        let mut outbox = queues.outbox.lock();
        let lost = outbox.len();
        let error = Error::timeout(format!(
            "the event stream was cut: its client did not take what was sent within {limit:?} without progress \
             (QueueConfig::close_within). Lost: {lost} queued events"
        ));
        let (gone, wakers) = outbox.end(&error, false);
        drop(outbox);
        drop(gone);
        wake_all(wakers);
        queues.driver.wake();
        crate::log::close_cut(&error, lost);
        error
    }
}
