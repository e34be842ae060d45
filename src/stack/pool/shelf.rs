//! Chooses the connection for a call, queues waiting calls, and decides when to open another connection. Pure: no I/O
//! and no clock.

use std::{collections::VecDeque, task::Waker};

use crate::Error;

/// The limits of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) connections: usize,
    pub(super) calls_per_connection: usize,
    pub(super) waiting: usize,
}

/// The open connections, each with its load, and the line of calls that wait for one.
pub(super) struct Shelf<K> {
    bounds: Bounds,
    open: Vec<Slot<K>>,
    connecting: usize,
    line: VecDeque<(u64, Waker)>,
    next: u64,
    /// The number of failed connects, and the last error.
    failures: u64,
    failure: Option<Error>,
}

struct Slot<K> {
    id: u64,
    handle: K,
    load: usize,
    /// The number of ticks that have passed without a call.
    quiet: u32,
}

/// A call's place in line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    number: u64,
    /// The number of failures when the call joined the line. Earlier failures do not concern it.
    failures: u64,
}

/// The result of asking for a connection.
#[derive(Debug)]
pub(super) enum Admission<K> {
    /// The connection with the lowest load, which now includes this call.
    Use(u64, K),
    Wait(Ticket),
    Refuse(Error),
}

impl<K: Clone> Shelf<K> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, open: Vec::new(), connecting: 0, line: VecDeque::new(), next: 0, failures: 0, failure: None }
    }

    /// Finds a connection for a call, or a place in line. First come, first served. The flag tells the caller to open a
    /// connection, which counts as connecting from now on.
    pub(super) fn admit(&mut self, ticket: Option<Ticket>, waker: &Waker) -> (Admission<K>, bool) {
        let first = self.line.front().map(|(number, _)| *number);
        let is_first = first.is_none() || first == ticket.map(|ticket| ticket.number);
        let least = self.open.iter_mut().min_by_key(|slot| slot.load);
        let is_busy = least.as_ref().is_none_or(|slot| slot.load > 0);
        if let Some(slot) = least
            && is_first
            && slot.load < self.bounds.calls_per_connection
        {
            slot.load += 1;
            slot.quiet = 0;
            let admission = Admission::Use(slot.id, slot.handle.clone());
            return (admission, is_busy && self.connecting == 0 && self.begin());
        }
        if let Some(ticket) = ticket {
            if let (Some(failure), true) = (&self.failure, self.failures > ticket.failures && self.open.is_empty()) {
                return (Admission::Refuse(failure.clone()), false);
            }
            if let Some((_, old)) = self.line.iter_mut().find(|(number, _)| *number == ticket.number) {
                old.clone_from(waker);
            }
            let opens = self.connecting == 0 && self.begin();
            return (Admission::Wait(ticket), opens);
        }
        if self.line.len() >= self.bounds.waiting {
            let limit = self.bounds.waiting;
            let refusal =
                format!("the line of calls that wait for a connection is full (PoolBuilder::max_waiting: {limit})");
            return (Admission::Refuse(Error::full(refusal)), false);
        }
        let ticket = Ticket { number: self.next, failures: self.failures };
        self.next += 1;
        self.line.push_back((ticket.number, waker.clone()));
        let opens = self.connecting < self.line.len() && self.begin();
        (Admission::Wait(ticket), opens)
    }

    /// Returns whether there is room for another connection, which then counts as connecting.
    pub(super) fn begin(&mut self) -> bool {
        let has_room = self.size() < self.bounds.connections;
        self.connecting += usize::from(has_room);
        has_room
    }

    /// Adds a new connection. Returns its id and the wakers of waiting calls.
    pub(super) fn opened(&mut self, handle: K) -> (u64, Vec<Waker>) {
        self.connecting = self.connecting.saturating_sub(1);
        let id = self.next;
        self.next += 1;
        self.open.push(Slot { id, handle, load: 0, quiet: 0 });
        (id, self.line())
    }

    /// Records a failed connect. Returns the wakers of waiting calls.
    pub(super) fn failed(&mut self, error: Error) -> Vec<Waker> {
        self.connecting = self.connecting.saturating_sub(1);
        self.failures += 1;
        self.failure = Some(error);
        self.line()
    }

    /// Ends a call. Returns the waker of a waiting call.
    pub(super) fn release(&mut self, id: u64) -> Option<Waker> {
        if let Some(slot) = self.open.iter_mut().find(|slot| slot.id == id) {
            slot.load = slot.load.saturating_sub(1);
            slot.quiet = 0;
        }
        self.first()
    }

    /// Counts another tick of a connection's idle time, and returns how many in a row were quiet. A pool that keeps
    /// `least` connections open does not count below that number.
    pub(super) fn tick(&mut self, id: u64, least: usize) -> u32 {
        let is_needed = self.open.len() <= least;
        let Some(slot) = self.open.iter_mut().find(|slot| slot.id == id) else { return 0 };
        slot.quiet = if slot.load > 0 || is_needed { 0 } else { slot.quiet + 1 };
        slot.quiet
    }

    /// Removes a connection, so that it gets no more calls. Returns its handle, to be dropped outside the lock, and the
    /// wakers of waiting calls.
    pub(super) fn take(&mut self, id: u64) -> (Option<K>, Vec<Waker>) {
        let place = self.open.iter().position(|slot| slot.id == id);
        let handle = place.map(|place| self.open.swap_remove(place).handle);
        // A waiting call may have to open another connection.
        (handle, self.line())
    }

    /// Removes all connections, as [`take`](Self::take) removes one.
    pub(super) fn take_all(&mut self) -> (Vec<K>, Vec<Waker>) {
        let handles = self.open.drain(..).map(|slot| slot.handle).collect();
        (handles, self.line())
    }

    /// Removes a call from the line. Returns the waker of another waiting call.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waker> {
        self.line.retain(|(number, _)| *number != ticket.number);
        self.first()
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Returns the number of connections that are open or being opened.
    pub(super) fn size(&self) -> usize {
        self.open.len() + self.connecting
    }

    pub(super) fn waiting(&self) -> usize {
        self.line.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.open.iter().map(|slot| slot.load).sum()
    }

    fn first(&self) -> Option<Waker> {
        self.line.front().map(|(_, waker)| waker.clone())
    }

    fn line(&self) -> Vec<Waker> {
        self.line.iter().map(|(_, waker)| waker.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(connections: usize, calls_per_connection: usize, waiting: usize) -> Shelf<char> {
        Shelf::new(Bounds { connections, calls_per_connection, waiting })
    }

    fn used(admission: Admission<char>) -> char {
        match admission {
            Admission::Use(_, handle) => handle,
            other => panic!("{other:?}"),
        }
    }

    fn waits(admission: Admission<char>) -> Ticket {
        match admission {
            Admission::Wait(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_least_loaded_connection_is_chosen() {
        let mut shelf = shelf(2, 8, 8);
        shelf.opened('a');
        shelf.opened('b');
        let chosen: String = (0..4).map(|_| used(shelf.admit(None, Waker::noop()).0)).collect();
        assert_eq!(chosen, "abab");
    }

    #[test]
    fn one_more_is_opened_while_all_are_busy_and_never_more_than_the_bound() {
        let mut shelf = shelf(2, 8, 8);
        let (admission, opens) = shelf.admit(None, Waker::noop());
        let ticket = waits(admission);
        assert!(opens);
        shelf.opened('a');
        assert_eq!(used(shelf.admit(Some(ticket), Waker::noop()).0), 'a');
        shelf.leave(ticket);
        assert!(shelf.admit(None, Waker::noop()).1, "the only one is busy");
        assert!(!shelf.admit(None, Waker::noop()).1, "the bound is two");
    }

    #[test]
    fn nobody_overtakes_the_line() {
        let mut shelf = shelf(1, 1, 8);
        let (id, _) = shelf.opened('a');
        used(shelf.admit(None, Waker::noop()).0);
        let first = waits(shelf.admit(None, Waker::noop()).0);
        let second = waits(shelf.admit(None, Waker::noop()).0);
        shelf.release(id);
        waits(shelf.admit(None, Waker::noop()).0);
        waits(shelf.admit(Some(second), Waker::noop()).0);
        assert_eq!(used(shelf.admit(Some(first), Waker::noop()).0), 'a');
    }

    #[test]
    fn a_connection_is_quiet_while_no_call_uses_it_and_the_last_ones_are_kept_warm() {
        let mut shelf = shelf(2, 8, 8);
        let (a, _) = shelf.opened('a');
        assert_eq!((shelf.tick(a, 0), shelf.tick(a, 0)), (1, 2));
        used(shelf.admit(None, Waker::noop()).0);
        assert_eq!(shelf.tick(a, 0), 0);
        shelf.release(a);
        assert_eq!((shelf.tick(a, 0), shelf.tick(a, 1)), (1, 0));
    }

    #[test]
    fn the_line_is_bounded() {
        let mut shelf = shelf(1, 1, 1);
        waits(shelf.admit(None, Waker::noop()).0);
        match shelf.admit(None, Waker::noop()).0 {
            Admission::Refuse(error) => assert!(error.is_full()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_connect_that_fails_fails_those_who_waited_for_it_and_no_later_ones() {
        let mut shelf = shelf(1, 1, 8);
        let early = waits(shelf.admit(None, Waker::noop()).0);
        shelf.failed(Error::refused("nobody"));
        match shelf.admit(Some(early), Waker::noop()).0 {
            Admission::Refuse(error) => assert!(error.is_refused()),
            other => panic!("{other:?}"),
        }
        shelf.leave(early);
        let (admission, opens) = shelf.admit(None, Waker::noop());
        waits(admission);
        assert!(opens, "each call may try again");
    }
}
