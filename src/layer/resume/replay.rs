//! The messages that one end has accepted and the other has not acknowledged. No I/O and no clock.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::wire::Window;
use crate::{
    Message,
    message::trailer::{self, Layer},
};

/// Updates a digest that is the same at both ends as long as they have seen the same messages. It detects a loss below
/// this layer that the counts do not show. It finds accidents and is not a defense against a peer.
#[inline]
pub(super) fn step(digest: u64, message: &Message) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let bytes = message.as_bytes();
    let (head, tail) = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
        _ => (bytes.iter().fold(0, |all, &byte| all << 8 | u64::from(byte)), 0),
    };
    let kind = u64::from(matches!(message, Message::Text(_))) << 63 | (bytes.len() as u64 + 1);
    let mixed = (digest.rotate_left(23) ^ head).wrapping_mul(ODD);
    (mixed ^ tail.rotate_left(32) ^ kind).wrapping_mul(ODD)
}

/// Accepted messages, kept until the peer has them.
///
/// ```text
///     acked             written            sent          messages, counted from 0
///       |  on this        |  not yet on      |
///       |  connection     |  this connection |
///       +-----------------+------------------+---->  buffer
///        at most `flight`
///        at most `window` in all
/// ```
#[derive(Debug)]
pub(super) struct ReplayBuffer {
    /// How much may be accepted and not yet acknowledged.
    window: Window,
    /// How much may be on a connection and not yet acknowledged: the peer holds no more for a user that does not read.
    flight: Window,
    budget: Budget,
    buffer: VecDeque<Kept>,
    bytes: usize,
    /// The bytes of the messages on this connection.
    flying: usize,
    /// The number of the buffer's first message, counted from 0, and the digest of all before it.
    pub(super) acked: u64,
    acked_digest: u64,
    /// The digest of all accepted messages.
    digest: u64,
    /// The number of messages up to the last one on this connection.
    pub(super) written: u64,
    /// The maximum of `written` over all connections.
    pub(super) most_written: u64,
}

#[derive(Debug)]
struct Kept {
    /// The message as it goes over the wire.
    message: Message,
    /// The digest up to and including it.
    digest: u64,
}

impl ReplayBuffer {
    pub(super) fn new(window: Window, flight: Window, budget: Budget) -> Self {
        Self {
            window,
            flight,
            budget,
            buffer: VecDeque::new(),
            bytes: 0,
            flying: 0,
            acked: 0,
            acked_digest: 0,
            digest: 0,
            written: 0,
            most_written: 0,
        }
    }

    pub(super) fn window(&self) -> Window {
        self.window
    }

    #[inline]
    pub(super) fn sent(&self) -> u64 {
        self.acked + self.buffer.len() as u64
    }

    /// Whether one more message may be accepted. The last one may exceed the bound in bytes.
    #[inline]
    pub(super) fn has_room(&mut self) -> bool {
        self.window.has_room(self.buffer.len(), self.bytes) && self.budget.covers(self.bytes)
    }

    #[inline]
    pub(super) fn push(&mut self, message: Message) {
        self.digest = step(self.digest, &message);
        let message = trailer::close(Layer::Resume, message);
        // The length on the wire: the peer counts it, and `release` subtracts it.
        self.bytes += message.len();
        self.budget.hold(self.bytes);
        self.buffer.push_back(Kept { message, digest: self.digest });
    }

    /// [Pushes](Self::push) a message that goes on this connection at once, and notes that it was put there. Returns it
    /// as it goes over the wire, or `None` if older messages or acknowledgements have to go first.
    ///
    /// The same as `push`, `next` and `wrote`, without looking the message up in the buffer each time.
    #[inline]
    pub(super) fn push_written(&mut self, message: Message) -> Option<Message> {
        let goes = self.written == self.sent() && self.flight.has_room(self.in_flight(), self.flying);
        self.push(message);
        if !goes {
            return None;
        }
        let newest = &self.buffer.back()?.message;
        self.flying += newest.len();
        self.written += 1;
        self.most_written = self.most_written.max(self.written);
        Some(newest.clone())
    }

    /// Returns how many messages are on this connection without an acknowledgement.
    #[inline]
    fn in_flight(&self) -> usize {
        usize::try_from(self.written - self.acked).unwrap_or(usize::MAX)
    }

    /// Returns the next message for this connection, if the peer has room for it.
    #[inline]
    pub(super) fn next(&self) -> Option<&Message> {
        if self.has_next() { self.buffer.get(self.in_flight()).map(|kept| &kept.message) } else { None }
    }

    #[inline]
    pub(super) fn has_next(&self) -> bool {
        self.written < self.sent() && self.flight.has_room(self.in_flight(), self.flying)
    }

    /// Whether messages wait for an acknowledgement before they may go on this connection.
    #[inline]
    pub(super) fn is_blocked(&self) -> bool {
        self.written < self.sent() && !self.flight.has_room(self.in_flight(), self.flying)
    }

    /// Notes that the next message was put on the connection.
    #[inline]
    pub(super) fn wrote(&mut self) {
        self.flying += self.buffer.get(self.in_flight()).map_or(0, |kept| kept.message.len());
        self.written += 1;
        self.most_written = self.most_written.max(self.written);
    }

    /// Removes the message that was put on this connection last, because the connection refused it. The peer has seen
    /// neither it nor the messages behind it, so these move up and both ends agree on all numbers and digests.
    pub(super) fn refuse_last(&mut self) {
        let Some(index) = self.in_flight().checked_sub(1) else { return };
        let Some(refused) = self.buffer.remove(index) else { return };
        self.written -= 1;
        self.bytes -= refused.message.len();
        self.flying -= refused.message.len();
        self.budget.shrink(self.bytes);
        self.most_written = self.written;
        let before = index.checked_sub(1).and_then(|last| self.buffer.get(last));
        let mut digest = before.map_or(self.acked_digest, |kept| kept.digest);
        for kept in self.buffer.iter_mut().skip(index) {
            // The digest covers messages before they are escaped.
            if let trailer::Opened::Plain(message) = trailer::open(Layer::Resume, kept.message.clone()) {
                digest = step(digest, &message);
            }
            kept.digest = digest;
        }
        self.digest = digest;
    }

    /// Returns the number of messages without an acknowledgement, and their bytes on the wire.
    #[inline]
    pub(super) fn unacknowledged(&self) -> (usize, usize) {
        (self.buffer.len(), self.bytes)
    }

    pub(super) fn release(&mut self, received: u64) {
        // A message of an earlier connection may be acknowledged before it flew on this one.
        while self.acked < received
            && let Some(kept) = self.buffer.pop_front()
        {
            self.acked += 1;
            self.acked_digest = kept.digest;
            self.bytes -= kept.message.len();
            self.flying = self.flying.saturating_sub(kept.message.len());
        }
        self.budget.shrink(self.bytes);
    }

    /// Takes the messages that were not acknowledged, as they were before they went to the wire.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Message> {
        self.bytes = 0;
        self.budget.shrink(0);
        std::mem::take(&mut self.buffer).into_iter().filter_map(|kept| {
            match trailer::open(Layer::Resume, kept.message) {
                trailer::Opened::Plain(message) => Some(message),
                // Nothing else is kept here.
                trailer::Opened::Marked(..) => None,
            }
        })
    }

    /// Begins a new connection, which has had none of these messages. Returns their number.
    pub(super) fn rewind(&mut self, flight: Window) -> u64 {
        self.written = self.acked;
        self.flying = 0;
        self.flight = flight;
        self.buffer.len() as u64
    }

    pub(super) fn digest_at(&self, number: u64) -> Option<u64> {
        match number.checked_sub(self.acked)? {
            0 => Some(self.acked_digest),
            more => self.buffer.get(usize::try_from(more - 1).ok()?).map(|kept| kept.digest),
        }
    }
}

/// A growing buffer takes as much again as it holds from the pool, within these bounds. So not every message touches
/// the pool, and the share of a session follows its use.
const LEAST: usize = 1 << 10;
const MOST: usize = 64 << 10;

/// The bytes that all sessions of a store may hold together.
#[derive(Debug)]
pub(super) struct Pool {
    limit: usize,
    used: AtomicUsize,
}

impl Pool {
    pub(super) const fn new(bytes: usize) -> Self {
        Self { limit: bytes, used: AtomicUsize::new(0) }
    }

    fn take(&self, bytes: usize) -> bool {
        let mut used = self.used.load(Ordering::Relaxed);
        while let Some(more) = used.checked_add(bytes).filter(|more| *more <= self.limit) {
            match self.used.compare_exchange_weak(used, more, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => used = other,
            }
        }
        false
    }

    /// Takes bytes that are held already, even over the limit.
    fn force(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// The share of one buffer in a pool. Without a pool there is no such bound.
#[derive(Debug, Default)]
pub(super) struct Budget {
    pool: Option<Arc<Pool>>,
    granted: usize,
}

impl Budget {
    pub(super) const fn of(pool: Arc<Pool>) -> Self {
        Self { pool: Some(pool), granted: 0 }
    }

    /// Creates the share of another buffer of the same session.
    pub(super) fn another(&self) -> Self {
        Self { pool: self.pool.clone(), granted: 0 }
    }

    /// Whether one more message may be held in addition to `bytes`. An empty buffer may always hold one: its
    /// acknowledgement makes room for the next, whatever other sessions hold.
    #[inline]
    pub(super) fn covers(&mut self, bytes: usize) -> bool {
        bytes == 0 || bytes < self.granted || self.pool.is_none() || self.grow(bytes + 1, false)
    }

    /// Notes that a buffer holds `bytes`, at most one message more than was [covered](Self::covers).
    #[inline]
    pub(super) fn hold(&mut self, bytes: usize) {
        if bytes > self.granted && self.pool.is_some() {
            self.grow(bytes, true);
        }
    }

    fn grow(&mut self, bytes: usize, by_force: bool) -> bool {
        let Some(pool) = &self.pool else { return true };
        // With a spare if the pool has it, else exactly. By force only for a message that is held already: its size was
        // not known when it was allowed.
        let missing = bytes.saturating_sub(self.granted);
        let with_spare = missing.saturating_add(spare(bytes));
        if pool.take(with_spare) {
            self.granted += with_spare;
            return true;
        }
        let is_granted = pool.take(missing)
            || by_force && {
                pool.force(missing);
                true
            };
        if is_granted {
            self.granted += missing;
        }
        is_granted
    }

    /// Gives back the share that `bytes` do not need. An empty buffer keeps nothing, because many sessions are idle.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let Some(pool) = &self.pool else { return };
        // A pool that is used up leaves no spare. Otherwise each message over the limit would make room for the next.
        let is_used_up = pool.used() >= pool.limit;
        let keep = if bytes == 0 || is_used_up { bytes } else { bytes.saturating_add(2 * spare(bytes)) };
        if let Some(surplus) = self.granted.checked_sub(keep).filter(|surplus| *surplus > 0) {
            pool.give(surplus);
            self.granted = keep;
        }
    }
}

fn spare(bytes: usize) -> usize {
    bytes.clamp(LEAST, MOST)
}

impl Drop for Budget {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give(self.granted);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_kept_message_takes_56_bytes_in_addition_to_its_payload() {
        assert_eq!(size_of::<Kept>(), 56);
    }

    #[test]
    fn one_message_has_room_whatever_others_hold_and_is_counted() {
        let pool = Arc::new(Pool::new(100));
        let mut budgets: Vec<_> = (0..2).map(|_| Budget::of(pool.clone())).collect();
        budgets[0].hold(100);
        assert!(!budgets[0].covers(100) && budgets[1].covers(0));
        budgets[1].hold(50);
        assert!(!budgets[1].covers(50), "the pool is empty");
        assert_eq!(pool.used(), 150);
        budgets[0].shrink(0);
        assert!(budgets[1].covers(50));
    }

    #[test]
    fn an_empty_buffer_holds_nothing_of_the_pool() {
        let pool = Arc::new(Pool::new(1 << 20));
        let mut budget = Budget::of(pool.clone());
        for bytes in [1, 100, 1 << 16, 1 << 19] {
            budget.hold(bytes);
            assert!(budget.covers(bytes));
            budget.shrink(0);
            assert_eq!(pool.used(), 0, "after {bytes}");
        }
    }

    proptest! {
        #[test]
        fn the_share_of_a_buffer_follows_its_use(
            steps in proptest::collection::vec((0..4usize, 0..3000usize, any::<bool>()), 0..300),
        ) {
            const LIMIT: usize = 8000;
            let pool = Arc::new(Pool::new(LIMIT));
            let mut buffers: Vec<_> = (0..4).map(|_| (Budget::of(pool.clone()), 0)).collect();
            for (which, bytes, more) in steps {
                let (budget, held) = &mut buffers[which];
                if more {
                    if budget.covers(*held) {
                        *held += bytes;
                        budget.hold(*held);
                    }
                } else {
                    *held = held.saturating_sub(bytes);
                    budget.shrink(*held);
                }
                let granted: usize = buffers.iter().map(|(budget, _)| budget.granted).sum();
                prop_assert_eq!(pool.used(), granted);
                // Beyond the limit is at most one message for each.
                prop_assert!(granted <= LIMIT + 4 * 3000);
                for (budget, held) in &buffers {
                    prop_assert!(budget.granted >= *held && budget.granted <= 4 * held + 4 * LEAST);
                }
            }
            drop(buffers);
            prop_assert_eq!(pool.used(), 0);
        }
    }
}
