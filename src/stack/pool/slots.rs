//! Chooses the connection for a call, queues waiting calls, and decides when to open another connection. No I/O and no
//! clock. Values to drop and calls to notify are handed out, so that no waker runs under the lock of the slots.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::Error;

/// The limits of the slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) calls_per_connection: usize,
    pub(super) waiting: usize,
}

/// The connections, each with its load, and the line of calls that wait for one.
///
/// ```text
///   begin         opened              remove, clear               ended
/// --------> connecting ------> open -----------------> retired --------> (gone)
///              \__ failed __> (gone)  \_____________ ended ____________/
/// ```
///
/// All three count against [`Limits::connections`]: a retired connection is as open as any other to the server.
pub(super) struct Slots<K> {
    limits: Limits,
    open: Vec<Slot<K>>,
    /// The number of connects under way.
    connecting: usize,
    /// The number of connections that get no more calls and have not ended.
    retired: usize,
    /// First come, first served. Each call is told once: of its connection, or of a failed connect.
    line: VecDeque<Waiting<K>>,
    next_id: u64,
}

/// How many connections are in which state, and how many calls wait.
#[cfg(feature = "trace")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    idle: usize,
    used: usize,
    connecting: usize,
    retired: usize,
    waiting: usize,
}

#[cfg(feature = "trace")]
impl Counts {
    pub(super) fn all(self) -> [usize; 5] {
        let Self { idle, used, connecting, retired, waiting } = self;
        [idle, used, connecting, retired, waiting]
    }
}

struct Waiting<K> {
    id: u64,
    /// The connect that was begun for this call, while it is under way.
    connect: Option<u64>,
    grant: oneshot::Sender<Grant<K>>,
}

struct Slot<K> {
    id: u64,
    handle: K,
    /// The number of calls on it, including those that were abandoned and whose answers are still to come.
    load: usize,
    /// The number of the latter. Negative for a moment if an answer comes before its call is counted as abandoned.
    abandoned: isize,
    /// The number of ticks that have passed without a call, and without an answer to an abandoned one.
    quiet: u32,
}

impl<K> Slot<K> {
    /// Returns whether nobody waits for an answer on this connection.
    fn is_unused(&self) -> bool {
        self.load.checked_add_signed(-self.abandoned) == Some(0)
    }
}

/// The end of a call's wait: a connection, whose load includes the call, or the error of a failed connect.
pub(super) type Grant<K> = Result<(u64, K), Error>;

/// The result of asking for a connection.
#[derive(Debug)]
pub(super) enum Admission<K> {
    /// The connection with the lowest load, which now includes this call.
    Use(u64, K),
    /// A place in line, and where its end is told. If the sender is dropped, ask again.
    Wait(u64, oneshot::Receiver<Grant<K>>),
    Refuse(Error),
}

impl<K: Clone> Slots<K> {
    pub(super) const fn new(limits: Limits) -> Self {
        Self { limits, open: Vec::new(), connecting: 0, retired: 0, line: VecDeque::new(), next_id: 0 }
    }

    /// Finds a connection for a call, or a place in line. The number is that of the connect that the caller must start.
    pub(super) fn admit(&mut self) -> (Admission<K>, Option<u64>) {
        // Before this call counts.
        let is_busy = self.open.iter().all(|slot| slot.load > 0);
        if self.line.is_empty()
            && let Some((id, handle)) = self.use_least()
        {
            // Ahead of need, one at a time: a pool whose connections are all in use grows before a call has to wait.
            let connect = if is_busy && self.connecting == 0 { self.begin() } else { None };
            return (Admission::Use(id, handle), connect);
        }
        let limit = self.limits.waiting;
        if self.line.len() >= limit {
            let error =
                format!("the line of calls that wait for a connection is full (PoolBuilder::max_waiting: {limit})");
            return (Admission::Refuse(Error::full(error)), None);
        }
        // Only a call that waits allocates.
        let (grant, receiver) = oneshot::channel();
        let id = self.id();
        // At most one connect for each call in line, this one included.
        let connect = if self.connecting <= self.line.len() { self.begin() } else { None };
        self.line.push_back(Waiting { id, connect, grant });
        (Admission::Wait(id, receiver), connect)
    }

    /// Returns the first waiting call if there is room for it, and the connection that it gets. Call it until it
    /// returns `None`.
    pub(super) fn grant(&mut self) -> Option<(oneshot::Sender<Grant<K>>, u64, K)> {
        if self.line.is_empty() {
            return None;
        }
        let (id, handle) = self.use_least()?;
        let waiting = self.line.pop_front()?;
        Some((waiting.grant, id, handle))
    }

    /// Adds a call to the connection with the lowest load, unless it is full.
    fn use_least(&mut self) -> Option<(u64, K)> {
        let slot = self.open.iter_mut().min_by_key(|slot| slot.load)?;
        if slot.load >= self.limits.calls_per_connection {
            return None;
        }
        slot.load += 1;
        slot.quiet = 0;
        Some((slot.id, slot.handle.clone()))
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Begins a connect if there is room for another connection, and returns its number. It counts until it is
    /// [`opened`](Self::opened) or [`failed`](Self::failed).
    pub(super) fn begin(&mut self) -> Option<u64> {
        if !self.has_room() {
            return None;
        }
        self.connecting += 1;
        Some(self.id())
    }

    /// Adds a new connection and returns its id. Then [grant](Self::grant) its room.
    pub(super) fn opened(&mut self, handle: K) -> u64 {
        self.connecting = self.connecting.saturating_sub(1);
        let id = self.id();
        self.open.push(Slot { id, handle, load: 0, abandoned: 0, quiet: 0 });
        id
    }

    /// Records a failed connect. Returns the calls that it fails; the others go on waiting.
    ///
    /// | there is | fails |
    /// |---|---|
    /// | a connection, which will have room | no call |
    /// | another connect under way | the call that this connect was begun for, and older calls without their own |
    /// | neither | all calls |
    ///
    /// Older calls without a connect of their own would otherwise wait for as long as newer calls begin connects. Calls
    /// that go on waiting do not make another attempt; the next call does.
    pub(super) fn failed(&mut self, connect: u64) -> impl Iterator<Item = oneshot::Sender<Grant<K>>> + use<K> {
        self.connecting = self.connecting.saturating_sub(1);
        let (has_connection, is_last) = (!self.open.is_empty(), self.connecting == 0);
        let mut failed = Vec::new();
        for mut waiting in std::mem::take(&mut self.line) {
            // Numbers increase, so a call with a lower one is older than the connect.
            let is_own = waiting.connect == Some(connect);
            if !has_connection && (is_last || is_own || (waiting.connect.is_none() && waiting.id < connect)) {
                failed.push(waiting.grant);
                continue;
            }
            if is_own {
                waiting.connect = None;
            }
            self.line.push_back(waiting);
        }
        failed.into_iter()
    }

    fn slot(&mut self, id: u64) -> Option<&mut Slot<K>> {
        self.open.iter_mut().find(|slot| slot.id == id)
    }

    /// Ends a call on a connection. Then [grant](Self::grant) its room.
    pub(super) fn release(&mut self, id: u64) {
        if let Some(slot) = self.slot(id) {
            slot.load = slot.load.saturating_sub(1);
            slot.quiet = 0;
        }
    }

    /// Abandons a call on a connection. It keeps its room until its answer is [discarded](Self::discard).
    pub(super) fn abandon(&mut self, id: u64) {
        if let Some(slot) = self.slot(id) {
            slot.abandoned += 1;
        }
    }

    /// Ends an abandoned call on a connection, whose answer has come. Then [grant](Self::grant) its room.
    pub(super) fn discard(&mut self, id: u64) {
        if let Some(slot) = self.slot(id) {
            slot.abandoned -= 1;
        }
        self.release(id);
    }

    /// Counts another tick of a connection's idle time, and returns how many in a row were quiet. A pool that keeps
    /// `least` connections open does not count below that number.
    pub(super) fn tick(&mut self, id: u64, least: usize) -> u32 {
        // The last connections never become idle, because closing them would only open others. One that leaves its
        // abandoned calls without an answer is worth replacing.
        let is_needed = self.open.len() <= least;
        let Some(slot) = self.slot(id) else { return 0 };
        let is_quiet = slot.is_unused() && (slot.load > 0 || !is_needed);
        slot.quiet = if is_quiet { slot.quiet + 1 } else { 0 };
        slot.quiet
    }

    /// Retires a connection: it gets no more calls. Returns its handle, to be dropped without the lock.
    pub(super) fn remove(&mut self, id: u64) -> Option<K> {
        let place = self.open.iter().position(|slot| slot.id == id)?;
        self.retired += 1;
        Some(self.open.swap_remove(place).handle)
    }

    /// Removes a connection that has ended. Returns its handle, to be dropped without the lock, and the number of a
    /// connect to start for the calls that wait.
    pub(super) fn ended(&mut self, id: u64) -> (Option<K>, Option<u64>) {
        let handle = self.remove(id);
        self.retired = self.retired.saturating_sub(1);
        // Once per connection: a target that fails is not asked again and again for calls that wait.
        let connect = if self.connecting < self.line.len() { self.begin() } else { None };
        (handle, connect)
    }

    /// Retires the connections whose answers nobody waits for. Returns their handles, to be dropped without the lock.
    #[must_use = "drop it once the slots are unlocked"]
    pub(super) fn take_unused(&mut self) -> impl Sized + use<K> {
        let unused = self.open.extract_if(.., |slot| slot.is_unused()).collect::<Vec<_>>();
        self.retired += unused.len();
        unused
    }

    /// Retires all connections and removes the waiting calls, to be dropped without the lock.
    pub(super) fn clear(&mut self) -> impl Sized + use<K> {
        self.retired += self.open.len();
        (std::mem::take(&mut self.open), std::mem::take(&mut self.line))
    }

    /// Removes a call from the line. Returns its sender, to be dropped without the lock.
    #[must_use = "drop it once the slots are unlocked"]
    pub(super) fn leave(&mut self, id: u64) -> Option<impl Sized + use<K>> {
        let place = self.line.iter().position(|waiting| waiting.id == id)?;
        self.line.remove(place)
    }

    #[cfg(feature = "trace")]
    pub(super) fn counts(&self) -> Counts {
        let idle = self.open.iter().filter(|slot| slot.load == 0).count();
        Counts {
            idle,
            used: self.open.len() - idle,
            connecting: self.connecting,
            retired: self.retired,
            waiting: self.line.len(),
        }
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Returns whether fewer than `least` connections take calls or are being opened, and another one may be opened.
    pub(super) fn is_short(&self, least: usize) -> bool {
        self.open.len() + self.connecting < least && self.has_room()
    }

    /// Returns whether another connection may be opened.
    fn has_room(&self) -> bool {
        self.open.len() + self.connecting + self.retired < self.limits.connections
    }

    pub(super) fn waiting(&self) -> usize {
        self.line.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.open.iter().map(|slot| slot.load).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(connections: usize, calls_per_connection: usize, waiting: usize) -> Slots<char> {
        Slots::new(Limits { connections, calls_per_connection, waiting })
    }

    fn used(admission: Admission<char>) -> char {
        match admission {
            Admission::Use(_, handle) => handle,
            other => panic!("{other:?}"),
        }
    }

    fn waits(admission: Admission<char>) -> (u64, oneshot::Receiver<Grant<char>>) {
        match admission {
            Admission::Wait(id, grant) => (id, grant),
            other => panic!("{other:?}"),
        }
    }

    /// Tells waiting calls of the room that there is.
    fn grant(slots: &mut Slots<char>) {
        while let Some((waiting, id, handle)) = slots.grant() {
            waiting.send(Ok((id, handle))).unwrap();
        }
    }

    #[test]
    fn the_least_loaded_connection_is_chosen() {
        let mut slots = slots(2, 8, 8);
        slots.opened('a');
        slots.opened('b');
        let chosen: String = (0..4).map(|_| used(slots.admit().0)).collect();
        assert_eq!(chosen, "abab");
    }

    #[test]
    fn one_more_is_opened_while_all_are_busy_and_never_more_than_the_bound() {
        let mut slots = slots(2, 8, 8);
        let (admission, connect) = slots.admit();
        let (_, mut granted) = waits(admission);
        assert!(connect.is_some());
        slots.opened('a');
        grant(&mut slots);
        assert_eq!(granted.try_recv().unwrap().unwrap().1, 'a');
        assert!(slots.admit().1.is_some(), "the only one is busy");
        assert!(slots.admit().1.is_none(), "the bound is two");
    }

    #[test]
    fn nobody_overtakes_the_line() {
        let mut slots = slots(1, 1, 8);
        let id = slots.opened('a');
        used(slots.admit().0);
        let (_, mut first) = waits(slots.admit().0);
        let (_, mut second) = waits(slots.admit().0);
        slots.release(id);
        waits(slots.admit().0);
        grant(&mut slots);
        assert_eq!(first.try_recv().unwrap().unwrap(), (id, 'a'));
        assert!(second.try_recv().is_err());
    }

    #[test]
    fn a_call_that_leaves_the_line_is_passed_over() {
        let mut slots = slots(1, 1, 8);
        let id = slots.opened('a');
        used(slots.admit().0);
        let (first, _gone) = waits(slots.admit().0);
        let (_, mut second) = waits(slots.admit().0);
        assert!(slots.leave(first).is_some());
        slots.release(id);
        grant(&mut slots);
        assert_eq!(second.try_recv().unwrap().unwrap(), (id, 'a'));
    }

    #[test]
    fn a_connection_is_quiet_while_no_call_uses_it_and_the_last_ones_are_kept_warm() {
        let mut slots = slots(2, 8, 8);
        let a = slots.opened('a');
        assert_eq!((slots.tick(a, 0), slots.tick(a, 0)), (1, 2));
        used(slots.admit().0);
        assert_eq!(slots.tick(a, 0), 0);
        slots.release(a);
        assert_eq!((slots.tick(a, 0), slots.tick(a, 1)), (1, 0));
    }

    #[test]
    fn the_line_is_bounded() {
        let mut slots = slots(1, 1, 1);
        let _waiting = waits(slots.admit().0);
        match slots.admit().0 {
            Admission::Refuse(error) => assert!(error.is_full()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_connect_that_fails_fails_those_who_waited_for_it_and_no_later_ones() {
        let mut slots = slots(1, 1, 8);
        let (admission, connect) = slots.admit();
        let _early = waits(admission);
        assert_eq!(slots.failed(connect.unwrap()).count(), 1);
        let (admission, connect) = slots.admit();
        waits(admission);
        assert!(connect.is_some(), "each call may try again");
    }

    #[test]
    fn a_connect_that_fails_while_there_is_a_full_connection_leaves_the_line_and_is_not_repeated_for_it() {
        let mut slots = slots(2, 1, 8);
        let id = slots.opened('a');
        used(slots.admit().0);
        let connect = slots.begin().unwrap();
        let (_, mut waiting) = waits(slots.admit().0);
        assert_eq!(slots.failed(connect).count(), 0);
        assert_eq!(slots.connecting, 0, "no attempt is under way");
        slots.release(id);
        grant(&mut slots);
        assert_eq!(waiting.try_recv().unwrap().unwrap().1, 'a');
    }

    #[test]
    fn a_connection_that_is_lost_is_replaced_for_those_who_wait() {
        let mut slots = slots(1, 1, 8);
        let id = slots.opened('a');
        used(slots.admit().0);
        let _waiting = waits(slots.admit().0);
        assert!(matches!(slots.ended(id), (Some('a'), Some(_))));
        assert_eq!(slots.remove(id), None);
    }

    #[test]
    fn a_retired_connection_counts_until_it_has_ended() {
        let mut slots = slots(1, 1, 8);
        let id = slots.opened('a');
        used(slots.admit().0);
        assert_eq!(slots.remove(id), Some('a'));
        let (admission, connect) = slots.admit();
        let _waiting = waits(admission);
        assert!(connect.is_none());
        assert!(!slots.is_short(1));
        assert!(matches!(slots.ended(id), (None, Some(_))));
    }

    #[test]
    fn an_abandoned_call_keeps_its_room_until_its_answer() {
        let mut slots = slots(1, 1, 8);
        let id = slots.opened('a');
        used(slots.admit().0);
        slots.abandon(id);
        assert_eq!((slots.tick(id, 1), slots.tick(id, 1)), (1, 2));
        let (_, mut waiting) = waits(slots.admit().0);
        grant(&mut slots);
        assert!(waiting.try_recv().is_err());
        slots.discard(id);
        grant(&mut slots);
        assert_eq!(waiting.try_recv().unwrap().unwrap().1, 'a');
        assert_eq!(slots.tick(id, 0), 0);
    }
}
