//! The number of calls in flight, and the queue of calls that wait for a place. Pure.

use std::collections::VecDeque;

use super::list::List;

/// A count of free places with a fair queue. A freed place is granted to the waiter that has waited longest, by name,
/// so a waiter cannot be overtaken.
///
/// A handle cannot detect that the future polling it was dropped, so grants expire. While others wait, the leader
/// [checks](Self::check) twice whether the waiter has come, and takes its place away otherwise.
pub(super) struct Permits {
    free: usize,
    queue: List<Turn>,
    /// The waiters with a granted place that they have not claimed, and the value of `checks` at that time.
    granted: VecDeque<(usize, u64)>,
    checks: u64,
}

/// ```text
/// Waiting --release--> Granted --claim--> (gone)
///    ^                    |
///    |                  expire
///    |                    v
///    +------claim------ Expired
/// ```
///
/// Only a waiter that is `Waiting` is in the queue. A waiter that comes after its turn has expired is the first again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Waiting,
    Granted,
    Expired,
}

/// The number of checks after which a waiter has lost its turn: the first may run before the waiter could be polled.
const CHECKS: u64 = 2;

impl Permits {
    pub(super) const fn new(free: usize) -> Self {
        Self { free, queue: List::new(), granted: VecDeque::new(), checks: 0 }
    }

    /// Takes a free place. Fails while there are waiters.
    pub(super) fn take(&mut self) -> bool {
        let free = self.free > 0;
        self.free -= usize::from(free);
        free
    }

    /// Joins the end of the queue.
    pub(super) fn wait(&mut self) -> usize {
        self.queue.push_back(Turn::Waiting)
    }

    /// Takes the place that was granted to a waiter, which leaves the queue. Returns whether there was one.
    pub(super) fn claim(&mut self, key: usize) -> bool {
        let granted = match self.queue.get_mut(key) {
            None | Some(Turn::Granted) => true,
            Some(Turn::Waiting) => false,
            Some(turn) => {
                *turn = Turn::Waiting;
                self.queue.first().is_none() && self.take() || {
                    self.queue.link_front(key);
                    false
                }
            }
        };
        if granted {
            self.forget_grant(key);
            self.queue.remove(key);
        }
        granted
    }

    /// Releases a place. Returns the waiter that got it.
    #[must_use = "wake it"]
    pub(super) fn release(&mut self) -> Option<usize> {
        // Granted to the first waiter by name, not put back: a newcomer that polls first cannot overtake it.
        let Some(key) = self.queue.first() else {
            self.free += 1;
            return None;
        };
        // A waiter with a granted place still has its key, but is out of the queue.
        self.queue.unlink(key);
        *self.queue.get_mut(key)? = Turn::Granted;
        self.granted.push_back((key, self.checks));
        Some(key)
    }

    /// Removes a waiter. Returns whether a place was granted to it, which is to be released.
    pub(super) fn leave(&mut self, key: usize) -> bool {
        self.forget_grant(key);
        self.queue.remove(key) == Some(Turn::Granted)
    }

    fn forget_grant(&mut self, key: usize) {
        // Usually the first one: grants are claimed in about their order.
        if let Some(at) = self.granted.iter().position(|(granted, _)| *granted == key) {
            self.granted.remove(at);
        }
    }

    /// Returns whether somebody waits behind a waiter that has not claimed its place yet.
    pub(super) fn needs_check(&self) -> bool {
        !self.granted.is_empty() && self.queue.first().is_some()
    }

    /// Begins a check.
    pub(super) fn check(&mut self) {
        self.checks += 1;
    }

    /// Takes a granted place from a waiter that has not come for [`CHECKS`], if somebody waits for it. The caller
    /// releases the place.
    pub(super) fn expire(&mut self) -> bool {
        let Some((key, since)) = self.granted.front().copied() else { return false };
        if !self.needs_check() || self.checks - since < CHECKS {
            return false;
        }
        self.granted.pop_front();
        if let Some(turn) = self.queue.get_mut(key) {
            *turn = Turn::Expired;
        }
        true
    }

    /// Returns the waiter that came last.
    pub(super) fn newest(&self) -> Option<usize> {
        self.queue.last()
    }

    /// Returns the waiter that has waited longest.
    pub(super) fn first(&self) -> Option<usize> {
        self.queue.first()
    }

    /// Returns whether this waiter waits, and no place was granted to it.
    pub(super) fn is_waiting(&self, key: usize) -> bool {
        self.queue.get(key) == Some(&Turn::Waiting)
    }

    /// Ends the queue, because there will be no more places. Returns one waiter after another.
    pub(super) fn dissolve(&mut self) -> Option<usize> {
        let key = self.queue.first()?;
        self.queue.unlink(key);
        Some(key)
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
        assert!(permits.leave(first));
        assert!(permits.release().is_some());
        assert!(permits.claim(second));
        assert!(permits.release().is_none());
        assert!(permits.take());
    }
    #[test]
    fn a_waiter_that_does_not_come_loses_its_turn_and_is_the_first_again_later() {
        let mut permits = Permits::new(0);
        let (first, second, third) = (permits.wait(), permits.wait(), permits.wait());
        assert!(permits.release().is_some());
        permits.check();
        assert!(!permits.expire());
        permits.check();
        assert!(permits.expire());
        assert!(!permits.expire());
        assert!(permits.release().is_some_and(|key| key == second));
        assert!(permits.claim(second));
        assert!(!permits.claim(first));
        assert!(permits.release().is_some_and(|key| key == first));
        assert!(permits.claim(first));
        assert!(permits.release().is_some_and(|key| key == third));
        permits.check();
        permits.check();
        // Nobody else wants the place.
        assert!(!permits.expire());
        assert!(permits.claim(third));
    }
}
