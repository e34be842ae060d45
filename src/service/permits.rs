//! How many calls may be in flight, and who waits for one to end. Pure.

use std::task::Waker;

use super::list::List;

/// A count of free places with a fair queue: a place that becomes free is given to whoever waits longest, by name, so
/// that nobody can overtake and nobody is woken in vain.
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

    /// Takes a free place. There is none while somebody waits.
    pub(super) fn take(&mut self) -> bool {
        let free = self.free > 0;
        self.free -= usize::from(free);
        free
    }

    /// Waits at the end of the queue.
    pub(super) fn wait(&mut self, waker: Waker) -> usize {
        self.queue.push_back(Waiter { waker: Some(waker), granted: false })
    }

    /// Takes the place that was given to a waiter, which leaves; else keeps its new waker, and gives back the old one.
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

    /// Gives a place back; returns the waker of who got it.
    #[must_use]
    pub(super) fn release(&mut self) -> Option<Waker> {
        let Some(key) = self.queue.first() else {
            self.free += 1;
            return None;
        };
        // Granted, it still has its key, but stands in nobody's way.
        self.queue.unlink(key);
        let waiter = self.queue.get_mut(key)?;
        waiter.granted = true;
        waiter.waker.take()
    }

    /// A waiter goes away; returns its waker, and that of who got the place that was already given to it.
    pub(super) fn leave(&mut self, key: usize) -> (Option<Waker>, Option<Waker>) {
        match self.queue.remove(key) {
            Some(Waiter { granted: true, .. }) => (None, self.release()),
            Some(waiter) => (waiter.waker, None),
            None => (None, None),
        }
    }

    /// Who waits longest.
    pub(super) fn first(&self) -> Option<usize> {
        self.queue.first()
    }

    pub(super) fn waker(&self, key: usize) -> Option<&Waker> {
        self.queue.get(key)?.waker.as_ref()
    }

    /// Lets everyone go: there will be no more places. Returns one waker after another.
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
