//! The times at which calls are over, with one timer for all of them.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    task::{Context, Poll},
};

use super::outgoing::KEPT;
use crate::rt::{Instant, Timer};

/// A call with a time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timed {
    /// A call of this end: its key and number.
    Outgoing(usize, u64),
    /// A call of the peer: its number and arrival.
    Incoming(u64, u64),
}

/// The deadlines of the calls in flight, the next one first. A call that ends early leaves its entry behind until its
/// time, or until such entries are the majority.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, Timed)>>,
    timer: Timer,
    armed: Option<Instant>,
}

impl Deadlines {
    pub(super) fn add(&mut self, at: Instant, call: Timed, is_live: impl Fn(Timed) -> bool, live: usize) {
        if self.heap.len() >= KEPT + 2 * live {
            self.heap.retain(|Reverse((_, call))| is_live(*call));
        }
        self.heap.push(Reverse((at, call)));
    }

    /// Returns the next call whose time is over. `Pending` wakes the task at the next deadline.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Timed> {
        loop {
            let Some(Reverse((at, call))) = self.heap.peek().copied() else {
                self.timer.clear();
                self.armed = None;
                return Poll::Pending;
            };
            if self.armed == Some(at) {
                if self.timer.is_set() && self.timer.poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.armed = None;
                self.heap.pop();
                return Poll::Ready(call);
            }
            // Several calls with the same deadline, or a passed one, cost no timer each.
            if at <= Instant::now() {
                self.heap.pop();
                return Poll::Ready(call);
            }
            self.timer.set_at(at);
            self.armed = Some(at);
        }
    }
}
