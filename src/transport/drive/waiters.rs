use std::{collections::VecDeque, task::Waker};

/// Tasks in line for places that come free, first come, first served.
///
/// Nothing is handed to a task that may never come for it: whoever stands at position `p` may take a place while more than
/// `p` are free. So a task that leaves the line, or sleeps on, holds back nobody but those behind it, and only while places
/// are short.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// The ticket of the first in line.
    first: u64,
    line: VecDeque<Place>,
    /// So many, from the first on, have been woken since they last looked.
    woken: usize,
}

#[derive(Debug)]
enum Place {
    Asleep(Waker),
    Awake,
    Left,
}

impl Waiters {
    /// How many are in line. One who has left counts until all before it have gone too.
    pub(crate) fn len(&self) -> usize {
        self.line.len()
    }

    /// Joins the line.
    pub(crate) fn join(&mut self, waker: &Waker) -> u64 {
        self.line.push_back(Place::Asleep(waker.clone()));
        self.first + self.line.len() as u64 - 1
    }

    /// The position of a ticket that has joined and not left.
    pub(crate) fn position(&self, ticket: u64) -> usize {
        (ticket - self.first) as usize
    }

    /// Sleeps on, at the same position.
    pub(crate) fn sleep(&mut self, ticket: u64, waker: &Waker) {
        let position = self.position(ticket);
        self.woken = self.woken.min(position);
        match self.line.get_mut(position) {
            Some(Place::Asleep(old)) => old.clone_from(waker),
            Some(place) => *place = Place::Asleep(waker.clone()),
            None => {}
        }
    }

    /// Leaves the line, with a place or without.
    pub(crate) fn leave(&mut self, ticket: u64) {
        let position = self.position(ticket);
        if let Some(place) = self.line.get_mut(position) {
            *place = Place::Left;
        }
        while matches!(self.line.front(), Some(Place::Left)) {
            self.line.pop_front();
            self.first += 1;
            self.woken = self.woken.saturating_sub(1);
        }
    }

    /// Wakes the next of the first `free` in line; call until it gives `None`.
    pub(crate) fn next(&mut self, free: usize) -> Option<Waker> {
        while self.woken < free.min(self.line.len()) {
            let place = &mut self.line[self.woken];
            self.woken += 1;
            match std::mem::replace(place, Place::Awake) {
                Place::Asleep(waker) => return Some(waker),
                other => *place = other,
            }
        }
        None
    }

    /// Wakes everyone.
    pub(crate) fn wake_all(&mut self) -> Vec<Waker> {
        std::iter::from_fn(|| self.next(usize::MAX)).collect()
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

    fn line(len: usize) -> (Waiters, Vec<(u64, Arc<Count>)>) {
        let mut waiters = Waiters::default();
        let tasks = (0..len).map(|_| {
            let count = Arc::new(Count::default());
            (waiters.join(&count.clone().into()), count)
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
        waiters.leave(tasks[0].0);
        assert_eq!(waiters.position(tasks[1].0), 0);
        wake(&mut waiters, 1);
        assert_eq!(woken(&tasks), [1, 1, 0]);
    }

    #[test]
    fn one_who_left_in_the_middle_is_skipped_once_the_first_are_gone() {
        let (mut waiters, tasks) = line(3);
        waiters.leave(tasks[1].0);
        wake(&mut waiters, 1);
        assert_eq!(woken(&tasks), [1, 0, 0]);
        waiters.leave(tasks[0].0);
        wake(&mut waiters, 1);
        assert_eq!(woken(&tasks), [1, 0, 1]);
        waiters.leave(tasks[2].0);
        assert_eq!(waiters.len(), 0);
    }

    #[test]
    fn one_who_looked_and_slept_on_is_woken_again() {
        let (mut waiters, tasks) = line(2);
        wake(&mut waiters, 2);
        waiters.sleep(tasks[1].0, &tasks[1].1.clone().into());
        wake(&mut waiters, 2);
        assert_eq!(woken(&tasks), [1, 2]);
    }
}
