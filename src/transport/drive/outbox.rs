use std::{collections::VecDeque, task::Waker};

use super::{
    flushes::{Flushes, Mark},
    waiters::Waiters,
};
use crate::{
    CloseCode, CloseFrame, Error,
    transport::{
        backlog::{self, Backlog, Pushed},
        queue::Queue,
    },
};

/// The outgoing queue: what was accepted and is not yet with the transport. No I/O, no clock; its owner wakes the wakers.
pub(super) struct Outbox<Out> {
    backlog: Backlog<Out>,
    close: Option<fn(CloseFrame) -> Out>,
    /// Messages that the driver has taken, and neither gave to the transport nor back.
    taken: usize,
    /// Places promised to senders that are ready.
    reserved: usize,
    pub(super) waiters: Waiters,
    state: State,
    /// Control messages accepted, and given to the transport.
    control_accepted: u64,
    control_fed: u64,
    /// Data messages given to the transport, or dropped.
    data_fed: u64,
    pub(super) flushes: Flushes,
    /// How often accepted messages were lost while the transport went on, and the error of the last time.
    losses: u64,
    loss: Option<Error>,
    /// Who waits for the end: a flush that is never reached.
    ends: Flushes,
    pub(super) senders: usize,
    next_id: u64,
}

enum State {
    Open,
    /// A full queue closed the connection.
    Overflowed(CloseCode),
    /// No more is taken, and this is why.
    Ended(Error),
}

/// What became of messages that were taken.
#[derive(Debug, Default)]
pub(super) struct Fed {
    bytes: usize,
    control: u64,
    data: u64,
    pub(super) refused: u64,
}

impl Fed {
    pub(super) fn count(&mut self, bytes: usize, is_control: bool) {
        self.bytes += bytes;
        match is_control {
            true => self.control += 1,
            false => self.data += 1,
        }
    }
}

/// Whether a sender may push.
pub(super) enum Admission {
    Ready,
    Wait,
    Closed(Error),
}

impl<Out> Outbox<Out> {
    pub(super) fn new<In>(queue: &Queue<Out, In>) -> Self {
        Self {
            backlog: Backlog::new(queue),
            close: queue.close,
            taken: 0,
            reserved: 0,
            waiters: Waiters::default(),
            state: State::Open,
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

    pub(super) fn join(&mut self) -> u64 {
        self.senders += 1;
        self.id()
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Why no more is taken, or `None` and a promise to wake `watcher`, who is new without an id.
    pub(super) fn poll_end(&mut self, watcher: &mut Option<u64>, waker: &Waker) -> Option<Error> {
        let closed = self.closed();
        if closed.is_none() {
            let id = *watcher.get_or_insert_with(|| self.id());
            self.ends.poll(Mark { data: u64::MAX, control: u64::MAX }, id, waker);
        }
        closed
    }

    /// A watcher does not wait for the end any more.
    pub(super) fn forget_end(&mut self, watcher: u64) {
        self.ends.forget(watcher);
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

    /// Places that nobody has and nobody was promised.
    pub(super) fn free(&self) -> usize {
        self.backlog.free(self.taken + self.reserved)
    }

    pub(super) fn closed(&self) -> Option<Error> {
        match &self.state {
            State::Open => None,
            State::Overflowed(code) => Some(backlog::closed_by(*code)),
            State::Ended(error) => Some(error.clone()),
        }
    }

    /// Whether the sender that holds `ticket`, or none yet, may have a place. With [`Admission::Ready`] it has one. Where the
    /// message is known, it may be one that takes no place but another's.
    pub(super) fn admit(&mut self, ticket: Option<u64>, message: Option<&Out>) -> Admission {
        if let Some(error) = self.closed() {
            return Admission::Closed(error);
        }
        if self.backlog.waits() {
            let position = ticket.map_or(self.waiters.len(), |ticket| self.waiters.position(ticket));
            if position >= self.free() && message.is_none_or(|message| self.backlog.place(message).is_none()) {
                return Admission::Wait;
            }
            self.reserved += 1;
        }
        Admission::Ready
    }

    /// Gives back a place that [`admit`](Self::admit) gave.
    pub(super) fn give_back(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// Takes a message into a place that [`admit`](Self::admit) gave.
    pub(super) fn push(&mut self, message: Out) -> Result<(), Error> {
        if self.backlog.waits() {
            self.give_back();
        }
        if let Some(error) = self.closed() {
            return Err(error);
        }
        match self.backlog.push(message, self.taken) {
            Pushed::Ahead => self.control_accepted += 1,
            Pushed::InPlaceOfOldest => self.data_fed += 1,
            Pushed::Behind | Pushed::InPlace | Pushed::Dropped => {}
            Pushed::Overflowed(code) => {
                self.state = State::Overflowed(code);
                return Err(self.backlog.overflow(code));
            }
        }
        Ok(())
    }

    /// Moves up to `most` messages to the driver, control first.
    pub(super) fn take(&mut self, batch: &mut VecDeque<(Out, bool)>, most: usize) {
        while batch.len() < most {
            let Some(message) = self.backlog.pop() else { break };
            self.taken += 1;
            batch.push_back(message);
        }
    }

    /// Puts back what the transport did not take; it goes first again.
    pub(super) fn put_back(&mut self, batch: &mut VecDeque<(Out, bool)>) {
        while let Some((message, is_control)) = batch.pop_back() {
            self.taken -= 1;
            if !self.backlog.put_back(message, is_control) {
                self.data_fed += 1;
            }
        }
    }

    /// Forgets what the driver has taken: the connection is over.
    pub(super) fn discard(&mut self, batch: &mut VecDeque<(Out, bool)>) {
        let data = batch.iter().filter(|(_, is_control)| !is_control).count();
        self.backlog.count_dropped(data as u64);
        self.taken -= batch.len();
        batch.clear();
    }

    /// So much of what was taken is with the transport now, or was refused by it.
    pub(super) fn fed(&mut self, fed: Fed) {
        self.taken -= (fed.control + fed.data) as usize;
        self.backlog.release(fed.bytes);
        self.control_fed += fed.control;
        self.data_fed += fed.data;
        self.backlog.count_dropped(fed.refused);
    }

    /// All that is accepted by now.
    pub(super) fn accepted(&self) -> Mark {
        Mark { data: self.data_fed + self.backlog.data() as u64 + self.taken_data(), control: self.control_accepted }
    }

    fn taken_data(&self) -> u64 {
        self.taken as u64 - (self.control_accepted - self.control_fed - self.backlog.control() as u64)
    }

    /// All that the transport was given before now has left it; gives whom to wake.
    pub(super) fn flushed(&mut self) -> impl Iterator<Item = Waker> {
        self.flushes.reach(Mark { data: self.data_fed, control: self.control_fed })
    }

    /// Messages that the transport had accepted are lost: each sender's next flush tells. Gives whom to wake.
    pub(super) fn lost(&mut self, error: Error) -> impl Iterator<Item = Waker> {
        self.losses += 1;
        self.loss = Some(error);
        self.flushes.end()
    }

    /// The losses so far.
    pub(super) fn losses(&self) -> u64 {
        self.losses
    }

    /// The error of the last loss, where there were more than `seen`, which then counts it.
    pub(super) fn take_loss(&self, seen: &mut u64) -> Option<Error> {
        if std::mem::replace(seen, self.losses) == self.losses { None } else { self.loss.clone() }
    }

    /// The close message that an overflow asks for, once; `None` inside where the transport has its own way.
    pub(super) fn overflow(&mut self) -> Option<Option<Out>> {
        let State::Overflowed(code) = &self.state else { return None };
        Some(self.close.map(|close| close(backlog::too_slow(*code))))
    }

    /// Takes no more, and says why to everyone who waits. What waits is dropped.
    pub(super) fn end(&mut self, error: Error) -> Vec<Waker> {
        if !matches!(self.state, State::Ended(_)) {
            self.backlog.discard();
            self.state = State::Ended(error);
        }
        let mut wakers = self.waiters.wake_all();
        wakers.extend(self.flushes.end());
        wakers.extend(self.ends.end());
        wakers
    }
}

#[cfg(test)]
mod tests;
