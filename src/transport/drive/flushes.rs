use std::task::Waker;

use crate::transport::wakers::PreparedWaker;

/// A point in both lanes of the outgoing queue: all messages accepted before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) data: u64,
    pub(super) control: u64,
}

/// The point up to which the transport has been flushed, and the tasks that wait for more.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    reached: Position,
    /// One waker per sender.
    waiting: Vec<(u64, Option<Waker>)>,
}

impl Flushes {
    /// Returns whether everything before `position` was flushed. If not, keeps the waker and wakes it after later
    /// flushes.
    pub(super) fn poll(&mut self, position: Position, sender: u64, prepared: &mut PreparedWaker<'_>) -> bool {
        if position.data <= self.reached.data && position.control <= self.reached.control {
            return true;
        }
        match self.waiting.iter_mut().find(|(id, _)| *id == sender) {
            Some((_, kept)) => prepared.keep_in(kept),
            None => {
                if let Some(waker) = prepared.take() {
                    self.waiting.push((sender, Some(waker)));
                }
            }
        }
        false
    }

    /// Records that everything before `position` was flushed. Returns the wakers to wake.
    pub(super) fn reach(&mut self, position: Position) -> impl Iterator<Item = Waker> {
        let waiting = if self.reached == position { 0 } else { self.waiting.len() };
        self.reached = position;
        self.waiting.drain(..waiting).filter_map(|(_, waker)| waker)
    }

    /// Records that there will be no more flushes. Returns the wakers to wake.
    pub(super) fn end(&mut self) -> impl Iterator<Item = Waker> {
        self.waiting.drain(..).filter_map(|(_, waker)| waker)
    }

    /// Removes a sender that no longer waits. Returns its waker, to be dropped.
    #[must_use = "drop it once the queue is unlocked"]
    pub(super) fn forget(&mut self, sender: u64) -> Option<Waker> {
        let place = self.waiting.iter().position(|(id, _)| *id == sender)?;
        self.waiting.swap_remove(place).1
    }
}
