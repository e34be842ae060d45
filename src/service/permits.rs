//! The number of calls in flight, and the queue of calls that wait for a place. Pure.

use std::task::Waker;

use super::list::List;

/// A count of free places with a fair queue. A freed place is granted to the waiter that has waited longest, by name,
/// so a waiter cannot be overtaken, and no waiter is woken in vain.
pub(super) struct Permits {
    free: usize,
    queue: List<Waiter>,
}

struct Waiter {
    waker: Option<Waker>,
    granted: bool,
}

impl Permits {
    pub(super) const fn new(free: usize) -> Self {
        Self { free, queue: List::new() }
    }

    /// Takes a free place. Fails while there are waiters.
    pub(super) fn take(&mut self) -> bool {
        let free = self.free > 0;
        self.free -= usize::from(free);
        free
    }

    /// Joins the end of the queue, without a waker yet.
    pub(super) fn wait(&mut self) -> usize {
        self.queue.push_back(Waiter { waker: None, granted: false })
    }

    /// Takes the place that was granted to a waiter, which leaves the queue. Returns whether there was one.
    pub(super) fn claim(&mut self, key: usize) -> bool {
        let granted = self.queue.get(key).is_none_or(|waiter| waiter.granted);
        if granted {
            self.queue.remove(key);
        }
        granted
    }

    /// Releases a place. Returns the waiter that got it, and its waker.
    #[must_use]
    pub(super) fn release(&mut self) -> Option<(usize, Option<Waker>)> {
        // Granted to the first waiter by name, not put back: a newcomer that polls first cannot overtake it.
        let Some(key) = self.queue.first() else {
            self.free += 1;
            return None;
        };
        // A waiter with a granted place still has its key, but is out of the queue.
        self.queue.unlink(key);
        let waiter = self.queue.get_mut(key)?;
        waiter.granted = true;
        Some((key, waiter.waker.take()))
    }

    /// Removes a waiter. Returns its waker, and whether a place was granted to it, which is to be released.
    pub(super) fn leave(&mut self, key: usize) -> (Option<Waker>, bool) {
        self.queue.remove(key).map_or((None, false), |waiter| (waiter.waker, waiter.granted))
    }

    /// Returns the waiter that has waited longest.
    pub(super) fn first(&self) -> Option<usize> {
        self.queue.first()
    }

    /// Returns the place of a waiter's waker while it waits.
    pub(super) fn slot(&mut self, key: usize) -> Option<&mut Option<Waker>> {
        self.queue.get_mut(key).filter(|waiter| !waiter.granted).map(|waiter| &mut waiter.waker)
    }

    /// Ends the queue, because there will be no more places. Returns one waker after another.
    pub(super) fn dissolve(&mut self) -> Option<Waker> {
        while let Some(key) = self.queue.first() {
            self.queue.unlink(key);
            if let Some(waker) = self.queue.get_mut(key).and_then(|waiter| waiter.waker.take()) {
                return Some(waker);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_goes_to_who_waits_longest_and_never_to_who_comes_later() {
        let mut permits = Permits::new(1);
        assert!(permits.take());
        let (first, second) = (permits.wait(), permits.wait());
        assert!(permits.release().is_some());
        assert!(!permits.take());
        assert!(!permits.claim(second));
        assert!(permits.claim(first));
    }

    #[test]
    fn a_place_given_to_who_leaves_goes_on_to_the_next() {
        let mut permits = Permits::new(0);
        let (first, second) = (permits.wait(), permits.wait());
        assert!(permits.release().is_some());
        assert!(permits.leave(first).1);
        assert!(permits.release().is_some());
        assert!(permits.claim(second));
        assert!(permits.release().is_none());
        assert!(permits.take());
    }
}
