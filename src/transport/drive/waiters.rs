use std::{collections::VecDeque, task::Waker};

use crate::transport::{backlog::KEPT, wakers::PreparedWaker};

/// Tasks in line for free places, first come, first served.
///
/// No place is reserved for a task that may never poll again: the task at position `p` may take a place while more than
/// `p` are free. A `Sink` cannot detect that the future polling it was dropped, so turns expire. A task that was woken
/// and has not polled when the driver checks [again](Self::end_turns), while others wait, is removed from the line. It
/// only loses that place: its ticket keeps its age, and if it polls later it regains its position.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// The waiting tasks by ticket, the oldest first. An entry without a waker was woken and has not polled since.
    line: VecDeque<(u64, Option<Waker>)>,
    /// The number of entries, from the first on, that were woken.
    woken: usize,
    next_ticket: u64,
    /// The number of places taken so far.
    taken: u64,
    /// The value of `taken` when a task began to wait for the woken ones.
    watched: Option<u64>,
}

impl Waiters {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.line.len()
    }

    fn find(&self, ticket: u64) -> Result<usize, usize> {
        self.line.binary_search_by_key(&ticket, |(ticket, _)| *ticket)
    }

    /// Returns the number of tasks in line ahead of a ticket, or ahead of a task without one.
    pub(crate) fn ahead(&self, ticket: Option<u64>) -> usize {
        ticket.map_or(self.line.len(), |ticket| self.find(ticket).unwrap_or_else(|place| place))
    }

    /// Waits at the position of its ticket, or at the end with a new one.
    pub(crate) fn sleep(&mut self, ticket: &mut Option<u64>, prepared: &mut PreparedWaker<'_>) {
        let found = match *ticket {
            Some(ticket) => self.find(ticket),
            None => Err(self.line.len()),
        };
        match found {
            Ok(place) => {
                // It has looked and sleeps again. Those in front of `woken` count as awake, so it must not be among
                // them.
                self.woken = self.woken.min(place);
                prepared.keep_in(&mut self.line[place].1);
            }
            Err(place) => {
                let Some(waker) = prepared.take() else { return };
                let ticket = *ticket.get_or_insert(self.next_ticket);
                // A sender that lost its turn comes back with its old ticket, and so to its old place.
                self.next_ticket = self.next_ticket.max(ticket + 1);
                self.woken = self.woken.min(place);
                self.line.insert(place, (ticket, Some(waker)));
            }
        }
    }

    /// Leaves the line. Returns the waker, to be dropped.
    #[must_use = "drop it once the queue is unlocked"]
    pub(crate) fn leave(&mut self, ticket: u64) -> Option<Waker> {
        let place = self.find(ticket).ok()?;
        self.woken -= usize::from(place < self.woken);
        self.line.remove(place)?.1
    }

    /// Counts a place that was taken.
    pub(crate) fn count_taken(&mut self) {
        self.taken += 1;
    }

    /// Returns the waker of the next of the first `free` tasks in line. Call it until it returns `None`.
    pub(crate) fn next(&mut self, free: usize) -> Option<Waker> {
        while self.woken < free.min(self.line.len()) {
            let waker = self.line[self.woken].1.take();
            self.woken += 1;
            // Without a waker it was woken before and has not looked yet: the place is for it.
            if waker.is_some() {
                return waker;
            }
        }
        None
    }

    /// Returns whether a task sleeps behind one that was woken.
    pub(crate) fn wait_for_a_turn(&self) -> bool {
        self.woken > 0 && self.woken < self.line.len()
    }

    /// Starts the time limit for woken tasks, which lasts until the driver checks again.
    pub(crate) fn watch(&mut self) {
        self.watched.get_or_insert(self.taken);
    }

    /// Removes, when the driver checks, the tasks that were woken before a task began to [`watch`](Self::watch) them
    /// and that have not polled. While any of them polls, the others get more time.
    pub(crate) fn end_turns(&mut self) {
        match self.watched.take() {
            // Nobody took a place since the driver looked last. Those that were woken and did not come may never come.
            Some(taken) if taken == self.taken => {
                self.line.retain(|(_, waker)| waker.is_some());
                self.woken = 0;
            }
            Some(_) if self.woken > 0 => self.watched = Some(self.taken),
            _ => {}
        }
    }

    /// Wakes every task.
    pub(crate) fn wake_all(&mut self) -> Vec<Waker> {
        std::iter::from_fn(|| self.next(usize::MAX)).collect()
    }

    pub(crate) fn has_spare(&self) -> bool {
        self.line.is_empty() && self.line.capacity() > 2 * KEPT
    }

    /// Releases memory that an empty line does not need.
    pub(crate) fn trim(&mut self) {
        if self.has_spare() {
            self.line = VecDeque::new();
        }
    }
}

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
        // All of them, though not all have what they wait for: they look again, and a list in order of positions would
        // cost each message more than that.
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

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sleep(waiters: &mut Waiters, mut ticket: Option<u64>, task: &Arc<Count>) -> u64 {
        let waker = task.clone().into();
        let mut prepared = PreparedWaker::new(&waker);
        prepared.prepare();
        waiters.sleep(&mut ticket, &mut prepared);
        ticket.unwrap()
    }

    fn line(len: usize) -> (Waiters, Vec<(u64, Arc<Count>)>) {
        let mut waiters = Waiters::default();
        let tasks = (0..len).map(|_| {
            let count = Arc::new(Count::default());
            (sleep(&mut waiters, None, &count), count)
        });
        let tasks = tasks.collect();
        (waiters, tasks)
    }

    fn wake(waiters: &mut Waiters, free: usize) {
        while let Some(waker) = waiters.next(free) {
            waker.wake();
        }
    }

    fn woken(tasks: &[(u64, Arc<Count>)]) -> Vec<usize> {
        tasks.iter().map(|(_, count)| count.0.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn as_many_are_woken_as_there_are_places_and_each_once() {
        let (mut waiters, tasks) = line(4);
        wake(&mut waiters, 2);
        wake(&mut waiters, 2);
        assert_eq!(woken(&tasks), [1, 1, 0, 0]);
        wake(&mut waiters, 3);
        assert_eq!(woken(&tasks), [1, 1, 1, 0]);
    }

    #[test]
    fn when_the_first_leaves_the_next_moves_up_and_is_woken() {
        let (mut waiters, tasks) = line(3);
        wake(&mut waiters, 1);
        assert!(waiters.leave(tasks[0].0).is_none());
        assert_eq!(waiters.ahead(Some(tasks[1].0)), 0);
        wake(&mut waiters, 1);
        assert_eq!(woken(&tasks), [1, 1, 0]);
    }

    #[test]
    fn one_who_left_in_the_middle_is_not_counted() {
        let (mut waiters, tasks) = line(3);
        assert!(waiters.leave(tasks[1].0).is_some());
        wake(&mut waiters, 1);
        assert_eq!(woken(&tasks), [1, 0, 0]);
        assert!(waiters.leave(tasks[0].0).is_none());
        wake(&mut waiters, 1);
        assert_eq!(woken(&tasks), [1, 0, 1]);
        assert!(waiters.leave(tasks[2].0).is_none());
        assert_eq!(waiters.len(), 0);
    }

    #[test]
    fn one_who_looked_and_slept_on_is_woken_again() {
        let (mut waiters, tasks) = line(2);
        wake(&mut waiters, 2);
        sleep(&mut waiters, Some(tasks[1].0), &tasks[1].1);
        wake(&mut waiters, 2);
        assert_eq!(woken(&tasks), [1, 2]);
    }

    #[test]
    fn one_who_does_not_come_loses_the_turn_and_keeps_its_age() {
        let (mut waiters, tasks) = line(3);
        wake(&mut waiters, 1);
        assert!(waiters.wait_for_a_turn());
        waiters.watch();
        waiters.end_turns();
        wake(&mut waiters, 1);
        assert_eq!(woken(&tasks), [1, 1, 0]);
        sleep(&mut waiters, Some(tasks[0].0), &tasks[0].1);
        assert_eq!(tasks.iter().map(|(ticket, _)| waiters.ahead(Some(*ticket))).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn while_some_come_the_others_have_more_time() {
        let (mut waiters, tasks) = line(3);
        wake(&mut waiters, 2);
        waiters.watch();
        assert!(waiters.leave(tasks[0].0).is_none());
        waiters.count_taken();
        waiters.end_turns();
        assert_eq!(waiters.ahead(Some(tasks[2].0)), 1);
        waiters.end_turns();
        assert_eq!(waiters.ahead(Some(tasks[2].0)), 0);
    }
}
