use std::{collections::VecDeque, task::Waker};

use crate::transport::{backlog::KEPT, parked::Parked};

/// Tasks in line for places that come free, first come, first served.
///
/// Nothing is handed to a task that may never come for it: the task at position `p` may take a place while more than `p` are free. Of a
/// `Sink` nobody learns that the future which polled it was dropped, so a turn ends: a task that was woken, and has not come when the
/// driver looks [again](Self::end_turns) while others wait, is taken out of the line. It loses that place alone: its ticket keeps its
/// age, and if it polls later it stands where it stood.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// By ticket, the oldest first. A place without a waker has been woken and not polled since.
    line: VecDeque<(u64, Option<Waker>)>,
    /// This many, from the first on, have been woken.
    woken: usize,
    next_ticket: u64,
    /// Places taken so far.
    taken: u64,
    /// What `taken` was when somebody began to wait for those who were woken.
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

    /// How many are in line before a ticket, or before somebody who has none yet.
    pub(crate) fn ahead(&self, ticket: Option<u64>) -> usize {
        ticket.map_or(self.line.len(), |ticket| self.find(ticket).unwrap_or_else(|place| place))
    }

    /// Sleeps at the place of its ticket, or at the end with a new one.
    pub(crate) fn sleep(&mut self, ticket: &mut Option<u64>, parked: &mut Parked<'_>) {
        let found = match *ticket {
            Some(ticket) => self.find(ticket),
            None => Err(self.line.len()),
        };
        match found {
            Ok(place) => {
                self.woken = self.woken.min(place);
                parked.keep_in(&mut self.line[place].1);
            }
            Err(place) => {
                let Some(waker) = parked.take() else { return };
                let ticket = *ticket.get_or_insert(self.next_ticket);
                self.next_ticket = self.next_ticket.max(ticket + 1);
                self.woken = self.woken.min(place);
                self.line.insert(place, (ticket, Some(waker)));
            }
        }
    }

    /// Leaves the line; gives the waker to drop.
    #[must_use = "drop it once the queue is unlocked"]
    pub(crate) fn leave(&mut self, ticket: u64) -> Option<Waker> {
        let place = self.find(ticket).ok()?;
        self.woken -= usize::from(place < self.woken);
        self.line.remove(place)?.1
    }

    /// Somebody has taken a place.
    pub(crate) fn count_taken(&mut self) {
        self.taken += 1;
    }

    /// Wakes the next of the first `free` in line; call until it gives `None`.
    pub(crate) fn next(&mut self, free: usize) -> Option<Waker> {
        while self.woken < free.min(self.line.len()) {
            let waker = self.line[self.woken].1.take();
            self.woken += 1;
            if waker.is_some() {
                return waker;
            }
        }
        None
    }

    /// Whether somebody sleeps behind a task that was woken.
    pub(crate) fn wait_for_a_turn(&self) -> bool {
        self.woken > 0 && self.woken < self.line.len()
    }

    /// From now on those who were woken have until the driver looks again.
    pub(crate) fn watch(&mut self) {
        self.watched.get_or_insert(self.taken);
    }

    /// The driver looks: takes out those who were woken before somebody began to [`watch`](Self::watch) them, and have not come. While
    /// any of them comes they have more time.
    pub(crate) fn end_turns(&mut self) {
        match self.watched.take() {
            Some(taken) if taken == self.taken => {
                self.line.retain(|(_, waker)| waker.is_some());
                self.woken = 0;
            }
            Some(_) if self.woken > 0 => self.watched = Some(self.taken),
            _ => {}
        }
    }

    /// Wakes everyone.
    pub(crate) fn wake_all(&mut self) -> Vec<Waker> {
        std::iter::from_fn(|| self.next(usize::MAX)).collect()
    }

    pub(crate) fn has_spare(&self) -> bool {
        self.line.is_empty() && self.line.capacity() > 2 * KEPT
    }

    /// Gives memory back that an empty line does not need.
    pub(crate) fn trim(&mut self) {
        if self.has_spare() {
            self.line = VecDeque::new();
        }
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
        let mut parked = Parked::new(&waker);
        parked.prepare();
        waiters.sleep(&mut ticket, &mut parked);
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
