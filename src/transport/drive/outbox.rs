use std::{collections::VecDeque, task::Waker};

use super::{
    flushes::{Flushes, Mark},
    waiters::Waiters,
};
use crate::{
    CloseCode, Error,
    transport::queue::{CoalesceBy, Queue, WhenFull},
};

/// How many messages that overtake may wait beside a full queue.
const CONTROL: usize = 64;

/// The outgoing queue: what was accepted and is not yet with the transport. No I/O, no clock; its owner wakes the wakers.
pub(super) struct Outbox<Out, In> {
    config: Queue<Out, In>,
    control: VecDeque<Out>,
    data: VecDeque<Out>,
    bytes: usize,
    /// The place of the first of `data`: how many were before it.
    first: u64,
    /// Messages that the driver has taken, and neither gave to the transport nor back.
    taken: usize,
    /// Places promised to senders that are ready.
    reserved: usize,
    pub(super) waiters: Waiters,
    dropped: u64,
    state: State,
    /// Control messages accepted, and given to the transport.
    control_accepted: u64,
    control_fed: u64,
    /// Data messages given to the transport, or dropped.
    data_fed: u64,
    pub(super) flushes: Flushes,
    pub(super) senders: usize,
    next_sender: u64,
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

impl<Out, In> Outbox<Out, In> {
    pub(super) fn new(config: Queue<Out, In>) -> Self {
        Self {
            data: VecDeque::with_capacity(config.max_messages.min(64)),
            config,
            control: VecDeque::new(),
            bytes: 0,
            first: 0,
            taken: 0,
            reserved: 0,
            waiters: Waiters::default(),
            dropped: 0,
            state: State::Open,
            control_accepted: 0,
            control_fed: 0,
            data_fed: 0,
            flushes: Flushes::default(),
            senders: 0,
            next_sender: 0,
        }
    }

    pub(super) fn join(&mut self) -> u64 {
        self.senders += 1;
        self.next_sender += 1;
        self.next_sender
    }

    pub(super) fn len(&self) -> usize {
        self.control.len() + self.data.len() + self.taken
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Places that nobody has and nobody was promised.
    pub(super) fn free(&self) -> usize {
        if self.bytes >= self.config.max_bytes {
            return 0;
        }
        self.config.max_messages.saturating_sub(self.len() + self.reserved)
    }

    fn waits(&self) -> bool {
        matches!(self.config.when_full, WhenFull::Block | WhenFull::CoalesceBy(_))
    }

    pub(super) fn closed(&self) -> Option<Error> {
        match &self.state {
            State::Open => None,
            State::Overflowed(code) => {
                let why = "the outgoing queue was full, and its policy closed the connection with";
                Some(Error::closed(format!("{why} {code}")))
            }
            State::Ended(error) => Some(error.clone()),
        }
    }

    /// Whether the sender that holds `ticket`, or none yet, may have a place. With [`Admission::Ready`] it has one. Where the
    /// message is known, it may be one that takes no place but another's.
    pub(super) fn admit(&mut self, ticket: Option<u64>, message: Option<&Out>) -> Admission {
        if let Some(error) = self.closed() {
            return Admission::Closed(error);
        }
        if self.waits() {
            let position = ticket.map_or(self.waiters.len(), |ticket| self.waiters.position(ticket));
            if position >= self.free() && message.is_none_or(|message| self.place(message).is_none()) {
                return Admission::Wait;
            }
            self.reserved += 1;
        }
        Admission::Ready
    }

    /// Where a message waits that this one replaces.
    fn place(&self, message: &Out) -> Option<usize> {
        match &self.config.when_full {
            WhenFull::CoalesceBy(CoalesceBy(keys)) => Some((keys.place(message)? - self.first) as usize),
            _ => None,
        }
    }

    /// Gives back a place that [`admit`](Self::admit) gave.
    pub(super) fn give_back(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// Takes a message into a place that [`admit`](Self::admit) gave.
    pub(super) fn push(&mut self, message: Out) -> Result<(), Error> {
        let by_place = self.waits();
        if by_place {
            self.give_back();
        }
        if let Some(error) = self.closed() {
            return Err(error);
        }
        let size = (self.config.size_out)(&message);
        if (self.config.overtakes)(&message) && (by_place || self.control.len() < CONTROL) {
            self.bytes += size;
            self.control.push_back(message);
            self.control_accepted += 1;
            return Ok(());
        }
        if let Some(waiting) = self.place(&message).and_then(|place| self.data.get_mut(place)) {
            self.bytes = self.bytes - (self.config.size_out)(waiting) + size;
            *waiting = message;
            self.dropped += 1;
            return Ok(());
        }
        let full = self.data.len() + self.taken >= self.config.max_messages || self.bytes >= self.config.max_bytes;
        match &mut self.config.when_full {
            WhenFull::DropNewest if full => {
                self.dropped += 1;
                return Ok(());
            }
            WhenFull::DropOldest if full => match self.data.pop_front() {
                Some(oldest) => {
                    self.bytes -= (self.config.size_out)(&oldest);
                    self.first += 1;
                    self.data_fed += 1;
                    self.dropped += 1;
                }
                // All that waits is with the driver already.
                None => {
                    self.dropped += 1;
                    return Ok(());
                }
            },
            WhenFull::Close(code) if full => {
                let code = *code;
                self.dropped += self.data.len() as u64 + 1;
                self.clear();
                self.state = State::Overflowed(code);
                return Err(Error::full(format!(
                    "the outgoing queue is full ({} messages, {} bytes at most): the connection is closed with {code}",
                    self.config.max_messages, self.config.max_bytes
                )));
            }
            WhenFull::CoalesceBy(CoalesceBy(keys)) => {
                keys.put(&message, self.first + self.data.len() as u64);
            }
            _ => {}
        }
        self.bytes += size;
        self.data.push_back(message);
        Ok(())
    }

    /// Moves up to `most` messages to the driver, control first.
    pub(super) fn take(&mut self, batch: &mut VecDeque<(Out, bool)>, most: usize) {
        while batch.len() < most {
            let Some(message) = self.control.pop_front() else { break };
            self.taken += 1;
            batch.push_back((message, true));
        }
        while batch.len() < most {
            let Some(message) = self.data.pop_front() else { break };
            if let WhenFull::CoalesceBy(CoalesceBy(keys)) = &mut self.config.when_full {
                keys.take(&message);
            }
            self.first += 1;
            self.taken += 1;
            batch.push_back((message, false));
        }
    }

    /// Puts back what the transport did not take; it goes first again.
    pub(super) fn put_back(&mut self, batch: &mut VecDeque<(Out, bool)>) {
        while let Some((message, is_control)) = batch.pop_back() {
            self.taken -= 1;
            if is_control {
                self.control.push_front(message);
                continue;
            }
            if let WhenFull::CoalesceBy(CoalesceBy(keys)) = &mut self.config.when_full {
                // A newer value of the same key has come meanwhile.
                if keys.place(&message).is_some() {
                    self.bytes -= (self.config.size_out)(&message);
                    self.data_fed += 1;
                    self.dropped += 1;
                    continue;
                }
                keys.put(&message, self.first - 1);
            }
            self.first -= 1;
            self.data.push_front(message);
        }
    }

    /// Forgets what the driver has taken: the connection is over.
    pub(super) fn discard(&mut self, batch: &mut VecDeque<(Out, bool)>) {
        self.dropped += batch.iter().filter(|(_, is_control)| !is_control).count() as u64;
        self.taken -= batch.len();
        batch.clear();
    }

    /// So much of what was taken is with the transport now, or was refused by it.
    pub(super) fn fed(&mut self, fed: Fed) {
        self.taken -= (fed.control + fed.data) as usize;
        self.bytes = self.bytes.saturating_sub(fed.bytes);
        self.control_fed += fed.control;
        self.data_fed += fed.data;
        self.dropped += fed.refused;
    }

    /// All that is accepted by now.
    pub(super) fn accepted(&self) -> Mark {
        Mark { data: self.data_fed + self.data.len() as u64 + self.taken_data(), control: self.control_accepted }
    }

    fn taken_data(&self) -> u64 {
        self.taken as u64 - (self.control_accepted - self.control_fed - self.control.len() as u64)
    }

    /// All that the transport was given before now has left it; gives whom to wake.
    pub(super) fn flushed(&mut self) -> impl Iterator<Item = Waker> {
        self.flushes.reach(Mark { data: self.data_fed, control: self.control_fed })
    }

    /// The close message that an overflow asks for, once; `None` inside where the transport has its own way.
    pub(super) fn overflow(&mut self) -> Option<Option<Out>> {
        let State::Overflowed(code) = &self.state else { return None };
        let frame = crate::CloseFrame::new(*code, "too slow: the outgoing queue was full");
        Some(self.config.close.map(|close| close(frame)))
    }

    /// Takes no more, and says why to everyone who waits. What waits is dropped.
    pub(super) fn end(&mut self, error: Error) -> Vec<Waker> {
        if !matches!(self.state, State::Ended(_)) {
            self.dropped += self.data.len() as u64;
            self.clear();
            self.state = State::Ended(error);
        }
        let mut wakers = self.waiters.wake_all();
        wakers.extend(self.flushes.end());
        wakers
    }

    fn clear(&mut self) {
        self.control.clear();
        self.data.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests;
