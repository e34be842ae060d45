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

    /// Joins the end of the queue.
    pub(super) fn wait(&mut self, waker: Waker) -> usize {
        self.queue.push_back(Waiter { waker: Some(waker), granted: false })
    }

    /// Takes the place that was granted to a waiter, which leaves the queue. Otherwise keeps its new waker and returns
    /// the old one.
    pub(super) fn claim(&mut self, key: usize, waker: &Waker) -> Result<(), Option<Waker>> {
        match self.queue.get_mut(key) {
            Some(waiter) if !waiter.granted => {
                let same = waiter.waker.as_ref().is_some_and(|old| old.will_wake(waker));
                Err(if same { None } else { waiter.waker.replace(waker.clone()) })
            }
            _ => {
                self.queue.remove(key);
                Ok(())
            }
        }
    }

    /// Releases a place; returns the waker of the waiter that got it.
    #[must_use]
    pub(super) fn release(&mut self) -> Option<Waker> {
        // Granted to the first waiter by name, not put back: a newcomer that polls first cannot overtake it.
        let Some(key) = self.queue.first() else {
            self.free += 1;
            return None;
        };
        // A waiter with a granted place still has its key, but is out of the queue.
        self.queue.unlink(key);
        let waiter = self.queue.get_mut(key)?;
        waiter.granted = true;
        waiter.waker.take()
    }

    /// Removes a waiter. Returns its waker, and the waker of the waiter that got a place already granted to it.
    pub(super) fn leave(&mut self, key: usize) -> (Option<Waker>, Option<Waker>) {
        match self.queue.remove(key) {
            Some(Waiter { granted: true, .. }) => (None, self.release()),
            Some(waiter) => (waiter.waker, None),
            None => (None, None),
        }
    }

    /// Returns the waiter that has waited longest.
    pub(super) fn first(&self) -> Option<usize> {
        self.queue.first()
    }

    pub(super) fn waker(&self, key: usize) -> Option<&Waker> {
        self.queue.get(key)?.waker.as_ref()
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
        let first = permits.wait(Waker::noop().clone());
        let second = permits.wait(Waker::noop().clone());
        assert!(permits.release().is_some());
        assert!(!permits.take());
        assert!(permits.claim(second, Waker::noop()).is_err());
        assert!(permits.claim(first, Waker::noop()).is_ok());
    }

    #[test]
    fn a_place_given_to_who_leaves_goes_on_to_the_next() {
        let mut permits = Permits::new(0);
        let first = permits.wait(Waker::noop().clone());
        let second = permits.wait(Waker::noop().clone());
        assert!(permits.release().is_some());
        assert!(permits.leave(first).1.is_some());
        assert!(permits.claim(second, Waker::noop()).is_ok());
        assert!(permits.release().is_none());
        assert!(permits.take());
    }
}
