use std::{collections::VecDeque, task::Waker};

use super::waiters::{Flushes, Position, Waiters};
use crate::{
    CloseCode, CloseFrame, Error,
    transport::{
        backlog::{self, Backlog, Discarded, Entry, Pushed},
        queue::QueueConfig,
        wakers::PreparedWaker,
    },
};

/// The outgoing queue: messages accepted and not yet given to the transport. No I/O, no clock. Its owner wakes the
/// wakers and drops the messages.
///
/// ```text
///          the last sender is gone, Sender::close,        the transport is closed,
///          a drain, or a full queue closes                or has failed
///   Open -----------------------------------> Closing ----------------------------> Ended
///     \___________________ the transport has failed, or the driver is gone __________/
/// ```
///
/// Nothing is accepted from `Closing` on.
pub(super) struct Outbox<Out> {
    backlog: Backlog<Out>,
    /// The number of messages that the driver has taken and neither given to the transport nor put back.
    taken: usize,
    /// The number of places promised to ready senders.
    reserved: usize,
    pub(super) waiters: Waiters,
    phase: Phase,
    /// The numbers of control messages accepted, and given to the transport.
    control_accepted: u64,
    control_fed: u64,
    /// The number of data messages given to the transport, or dropped.
    data_fed: u64,
    pub(super) flushes: Flushes,
    /// The number of losses of accepted messages while the transport continued, and the error of the last loss.
    losses: u64,
    loss: Option<Error>,
    /// The tasks that wait for the end, modeled as a flush that is never reached.
    ends: Flushes,
    senders: usize,
    next_id: u64,
}

enum Phase {
    Open,
    Closing(Cause),
    Ended(End),
}

/// The reason why this end closes the transport.
#[derive(Clone)]
enum Cause {
    /// The last sender is gone.
    Unused,
    /// A sender asked for it. Accepted messages are sent first.
    Asked(CloseFrame),
    /// The transport's server drains. Accepted messages are sent first; the transport knows the frame.
    Drained,
    /// The queue was full. Waiting messages were dropped.
    Overflow(CloseCode),
}

/// The reason why nothing is sent any more.
#[derive(Clone)]
pub(super) struct End {
    /// The error of every later send.
    pub(super) error: Error,
    /// Whether this end closed, after all accepted messages were sent.
    pub(super) is_clean: bool,
}

impl Cause {
    fn error(&self) -> Error {
        match self {
            Self::Unused => Error::closed("the last sender was dropped or closed, which closes the transport"),
            Self::Asked(frame) => Error::closed(format!("this end closed the transport with {frame}")),
            Self::Drained => Error::closed("the server is shutting down"),
            Self::Overflow(code) => backlog::closed_by(*code),
        }
    }
}

/// The outcome of messages that were taken.
#[derive(Debug, Default)]
pub(super) struct Fed {
    bytes: u64,
    control: u64,
    data: u64,
    pub(super) refused: u64,
}

impl Fed {
    pub(super) const fn new() -> Self {
        Self { bytes: 0, control: 0, data: 0, refused: 0 }
    }

    pub(super) fn count<Out>(&mut self, entry: &Entry<Out>) {
        self.bytes += entry.size();
        match entry.is_control() {
            true => self.control += 1,
            false => self.data += 1,
        }
    }
}

/// The answer to a sender that wants to push.
pub(super) enum Admission {
    Ready,
    Wait,
    Closed(Error),
}

/// Messages that were accepted or rejected, and that must be dropped.
#[must_use = "drop it once the queue is unlocked"]
pub(super) enum Gone<Out> {
    Nothing,
    One(#[allow(dead_code, reason = "held to be dropped")] Entry<Out>),
    Some(
        #[allow(dead_code, reason = "held to be dropped")] Entry<Out>,
        #[allow(dead_code, reason = "held to be dropped")] Vec<Entry<Out>>,
    ),
    All(
        #[allow(dead_code, reason = "held to be dropped")] Entry<Out>,
        #[allow(dead_code, reason = "held to be dropped")] Discarded<Out>,
        #[allow(dead_code, reason = "held to be dropped")] Watchers,
    ),
}

/// Tasks that wait for the end. Dropping this wakes them.
pub(super) struct Watchers(Vec<Waker>);

impl Drop for Watchers {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

/// The next step of the driver, once it has received the queue's messages.
#[derive(Debug)]
pub(super) enum Next {
    /// Pass on the taken messages, or wait for more.
    GoOn,
    /// Everything was passed on: close the transport with this frame.
    Close(Option<CloseFrame>),
}

impl<Out> Outbox<Out> {
    pub(super) fn new<In>(queue: &QueueConfig<Out, In>) -> Self {
        Self {
            backlog: Backlog::new(queue),
            taken: 0,
            reserved: 0,
            waiters: Waiters::default(),
            phase: Phase::Open,
            control_accepted: 0,
            control_fed: 0,
            data_fed: 0,
            flushes: Flushes::default(),
            losses: 0,
            loss: None,
            ends: Flushes::default(),
            senders: 0,
            next_id: 0,
        }
    }

    /// Adds a sender and returns its id.
    pub(super) fn join(&mut self) -> u64 {
        self.senders += 1;
        self.id()
    }

    /// Returns a new id.
    pub(super) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Removes a sender. Returns whether it was the last one.
    pub(super) fn part(&mut self) -> bool {
        self.senders -= 1;
        if self.senders == 0 && matches!(self.phase, Phase::Open) {
            self.phase = Phase::Closing(Cause::Unused);
        }
        self.senders == 0
    }

    /// Stops accepting messages, and closes the transport with this frame once accepted messages are sent. Returns the
    /// wakers to wake.
    pub(super) fn close(&mut self, frame: CloseFrame) -> Vec<Waker> {
        match self.phase {
            // No frame was chosen yet.
            Phase::Open | Phase::Closing(Cause::Unused) => {
                self.phase = Phase::Closing(Cause::Asked(frame));
                self.waiters.wake_all()
            }
            _ => Vec::new(),
        }
    }

    /// Stops accepting messages, and closes the transport once accepted messages are sent, because its server drains.
    /// Returns the wakers to wake.
    pub(super) fn drain(&mut self) -> Vec<Waker> {
        if !matches!(self.phase, Phase::Open) {
            return Vec::new();
        }
        self.phase = Phase::Closing(Cause::Drained);
        self.waiters.wake_all()
    }

    /// Returns why the transport has ended, or `None` and registers `watcher`, which gets an id if it has none.
    pub(super) fn poll_end(&mut self, watcher: &mut Option<u64>, prepared: &mut PreparedWaker<'_>) -> Option<End> {
        match &self.phase {
            Phase::Ended(end) => return Some(end.clone()),
            // The waiting messages are dropped. Senders learn it now: the transport may not be polled again, such as an
            // event stream whose client does not read.
            Phase::Closing(cause @ Cause::Overflow(_)) => return Some(End { error: cause.error(), is_clean: false }),
            _ => {}
        }
        // The position is never reached, so only `end` wakes the watcher.
        let id = *watcher.get_or_insert_with(|| self.id());
        self.ends.poll(Position { data: u64::MAX, control: u64::MAX }, id, prepared);
        None
    }

    /// Removes a watcher that no longer waits for the end. Returns its waker, to be dropped.
    #[must_use = "drop it once the queue is unlocked"]
    pub(super) fn forget_end(&mut self, watcher: u64) -> Option<Waker> {
        self.ends.forget(watcher)
    }

    pub(super) fn len(&self) -> usize {
        self.backlog.len() + self.taken
    }

    pub(super) fn bytes(&self) -> usize {
        self.backlog.bytes()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.backlog.dropped()
    }

    /// Returns the number of places that are neither taken nor promised.
    pub(super) fn free(&self) -> usize {
        self.backlog.free(self.taken + self.reserved)
    }

    /// Returns why no more messages are accepted.
    pub(super) fn closed(&self) -> Option<Error> {
        match &self.phase {
            Phase::Open => None,
            Phase::Closing(cause) => Some(cause.error()),
            Phase::Ended(end) => Some(end.error.clone()),
        }
    }

    /// Returns why accepted messages that are not flushed never will be.
    pub(super) fn over(&self) -> Option<Error> {
        match &self.phase {
            Phase::Open | Phase::Closing(Cause::Unused | Cause::Asked(_) | Cause::Drained) => None,
            _ => self.closed(),
        }
    }

    /// Returns whether this end is closing the transport.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing(_))
    }

    /// Returns the error of a full queue whose policy closes and that has not yet been reported to the transport.
    #[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
    pub(super) fn overflow(&self) -> Option<Error> {
        matches!(self.phase, Phase::Closing(Cause::Overflow(_))).then(|| self.closed()).flatten()
    }

    /// Returns the error with which a sender has given up the close.
    #[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
    pub(super) fn given_up(&self) -> Option<Error> {
        matches!(self.phase, Phase::Ended(_)).then(|| self.closed()).flatten()
    }

    /// Returns the wakers of the tasks that wait for the end, which look again.
    #[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
    pub(super) fn watchers(&mut self) -> impl Iterator<Item = Waker> {
        self.ends.end()
    }

    /// Returns the number of messages given to the transport, or dropped.
    #[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
    pub(super) fn progress(&self) -> u64 {
        self.data_fed + self.control_fed
    }

    /// Decides whether the sender that holds `ticket`, if any, may have a place. With [`Admission::Ready`] it has one.
    /// If the message is known, it may need no place because it replaces another message.
    pub(super) fn admit(&mut self, ticket: Option<u64>, entry: Option<&Entry<Out>>) -> Admission {
        if let Some(error) = self.closed() {
            return Admission::Closed(error);
        }
        // Other policies always take a message, and drop another one or close if there is no room.
        if self.backlog.waits() {
            // Places are not handed over. A sender that asks gets one unless as many waiters are before it as there are
            // places, so a waiter that was dropped keeps none (docs/decisions.md).
            let ahead = self.waiters.ahead(ticket);
            let free = self.free();
            if ahead >= free && !entry.is_some_and(|entry| self.backlog.replaces(entry)) {
                if free > 0 {
                    // A place is free, but it is another sender's turn. That sender keeps the turn only for a short
                    // time.
                    self.waiters.watch();
                }
                return Admission::Wait;
            }
            self.reserved += 1;
            self.waiters.count_taken();
        }
        Admission::Ready
    }

    /// Returns a place granted by [`admit`](Self::admit).
    pub(super) fn give_back(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// Pushes a message into a place granted by [`admit`](Self::admit).
    pub(super) fn push(&mut self, entry: Entry<Out>) -> (Result<(), Error>, Gone<Out>) {
        if self.backlog.waits() {
            self.give_back();
        }
        // Asked again: the place was granted in an earlier lock, and the queue may have closed since.
        if let Some(error) = self.closed() {
            return (Err(error), Gone::One(entry));
        }
        let gone = match self.backlog.push(entry, self.taken) {
            Pushed::Ahead => {
                self.control_accepted += 1;
                Gone::Nothing
            }
            Pushed::Behind => Gone::Nothing,
            Pushed::InPlaceOfOldest(oldest, rest) => {
                self.data_fed += 1 + rest.len() as u64;
                Gone::Some(oldest, rest)
            }
            Pushed::InPlace(gone) | Pushed::Dropped(gone) => Gone::One(gone),
            Pushed::Overflowed(code, entry, rest) => {
                self.phase = Phase::Closing(Cause::Overflow(code));
                let watchers = Watchers(self.ends.end().collect());
                return (Err(self.backlog.overflow(code)), Gone::All(entry, rest, watchers));
            }
        };
        (Ok(()), gone)
    }

    /// Returns the waker of the next sender whose turn it is. Call it until it returns `None`, and then
    /// [`wait_for_a_turn`](Self::wait_for_a_turn).
    pub(super) fn next_waiter(&mut self) -> Option<Waker> {
        self.waiters.next(self.free())
    }

    /// Returns whether a sender waits behind those that were woken, so the driver has to check again whether they have
    /// polled.
    pub(super) fn wait_for_a_turn(&mut self) -> bool {
        let wait = self.waiters.wait_for_a_turn();
        if wait {
            self.waiters.watch();
        }
        wait
    }

    /// Moves up to `most` messages to the driver, control first, and returns the next step.
    pub(super) fn take(&mut self, batch: &mut VecDeque<Entry<Out>>, most: usize) -> Next {
        while batch.len() < most {
            let Some(entry) = self.backlog.pop() else { break };
            self.taken += 1;
            batch.push_back(entry);
        }
        match &self.phase {
            Phase::Closing(cause) if batch.is_empty() => Next::Close(match cause {
                Cause::Unused | Cause::Drained => None,
                Cause::Asked(frame) => Some(frame.clone()),
                Cause::Overflow(code) => Some(backlog::too_slow(*code)),
            }),
            _ => Next::GoOn,
        }
    }

    /// Puts back messages that the transport did not take, as the next ones to go. Returns the messages that were
    /// dropped instead: all of them if the queue has overflowed meanwhile, because the close then goes first.
    #[must_use = "drop it once the queue is unlocked"]
    pub(super) fn put_back(&mut self, batch: &mut VecDeque<Entry<Out>>) -> Vec<Entry<Out>> {
        let mut gone = Vec::new();
        // An overflow may happen on another thread while the batch is with the driver.
        let has_overflowed = matches!(self.phase, Phase::Closing(Cause::Overflow(_)));
        if has_overflowed {
            self.count_discarded(batch);
            gone.extend(batch.drain(..));
        }
        while let Some(entry) = batch.pop_back() {
            self.taken -= 1;
            if let Some(entry) = self.backlog.put_back(entry) {
                self.data_fed += 1;
                gone.push(entry);
            }
        }
        gone
    }

    /// Counts the messages that the driver has taken as dropped: the connection is over.
    pub(super) fn count_discarded(&mut self, batch: &VecDeque<Entry<Out>>) {
        let data = batch.iter().filter(|entry| !entry.is_control()).count();
        self.backlog.count_dropped(data as u64);
        self.backlog.release(batch.iter().map(Entry::size).sum());
        self.taken -= batch.len();
        self.data_fed += data as u64;
        self.control_fed += (batch.len() - data) as u64;
    }

    /// Records how many of the taken messages the transport has accepted or rejected.
    pub(super) fn fed(&mut self, fed: Fed) {
        self.taken -= (fed.control + fed.data) as usize;
        self.backlog.release(fed.bytes);
        self.control_fed += fed.control;
        self.data_fed += fed.data;
        self.backlog.count_dropped(fed.refused);
    }

    /// Returns the point behind all messages accepted so far.
    pub(super) fn accepted(&self) -> Position {
        // Each accepted data message is in exactly one of three places, so their sum needs no count of its own. A
        // control message has one, because the two lanes leave the queue in another order than they came.
        Position {
            data: self.data_fed + self.backlog.data() as u64 + self.taken_data(),
            control: self.control_accepted,
        }
    }

    fn taken_data(&self) -> u64 {
        // A message accepted for the control lane that neither waits there nor was fed is among the taken.
        self.taken as u64 - (self.control_accepted - self.control_fed - self.backlog.control() as u64)
    }

    /// Records that the transport has flushed all messages given to it. Returns the wakers to wake.
    pub(super) fn flushed(&mut self) -> impl Iterator<Item = Waker> {
        self.flushes.reach(Position { data: self.data_fed, control: self.control_fed })
    }

    /// Records the loss of messages that the transport had accepted; each sender's next flush reports it. Returns the
    /// wakers to wake, and the error of the previous loss, to be dropped.
    #[must_use = "drop it once the queue is unlocked"]
    pub(super) fn lose(&mut self, error: Error) -> (impl Iterator<Item = Waker>, Option<Error>) {
        self.losses += 1;
        let before = self.loss.replace(error);
        (self.flushes.end(), before)
    }

    /// Returns the number of losses so far.
    pub(super) fn losses(&self) -> u64 {
        self.losses
    }

    /// Returns the error of the last loss if there were more than `seen`, and updates `seen`.
    pub(super) fn take_loss(&self, seen: &mut u64) -> Option<Error> {
        if std::mem::replace(seen, self.losses) == self.losses { None } else { self.loss.clone() }
    }

    /// Stops accepting messages, and reports the reason to every waiting task. If this end was closing and nothing
    /// failed (`is_clean`), the reason is the cause of that close. Returns the waiting messages, to be dropped, and the
    /// wakers to wake.
    pub(super) fn end(&mut self, error: &Error, is_clean: bool) -> (Option<Discarded<Out>>, Vec<Waker>) {
        let end = match &self.phase {
            Phase::Ended(_) => None,
            Phase::Closing(cause) if is_clean => {
                Some(End { error: cause.error(), is_clean: !matches!(cause, Cause::Overflow(_)) })
            }
            _ => Some(End { error: error.clone(), is_clean: false }),
        };
        let gone = end.map(|end| {
            self.phase = Phase::Ended(end);
            self.backlog.discard()
        });
        // Also if the end was known already: a task may have begun to wait since.
        let mut wakers = self.waiters.wake_all();
        wakers.extend(self.flushes.end());
        wakers.extend(self.ends.end());
        (gone, wakers)
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.backlog.capacity()
    }

    /// Returns whether nothing waits and the queue holds memory that it does not need while idle.
    pub(super) fn has_spare(&self) -> bool {
        self.backlog.has_spare() || self.waiters.has_spare()
    }

    /// Releases memory that an idle queue does not need.
    pub(super) fn trim(&mut self) {
        self.backlog.trim();
        self.waiters.trim();
    }
}

#[cfg(test)]
mod tests;
