//! What one end knows of a session: counts of both directions, and what the peer may still lack. No I/O and no clock.

use std::collections::VecDeque;

use super::{
    budget::Budget,
    outgoing::{Outgoing, step},
    wire::{Ack, Bytes16, Position},
};
use crate::{CloseFrame, Error, Message};

/// What may be accepted and not yet acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) messages: u32,
    pub(super) bytes: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self { messages: 1024, bytes: 1 << 20 }
    }
}

impl Window {
    /// After how much the other end acknowledges.
    fn quarter(self) -> Self {
        Self { messages: (self.messages / 4).max(1), bytes: (self.bytes / 4).max(1) }
    }
}

/// One end of a session.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) id: Bytes16,
    pub(super) out: Outgoing,
    pub(super) incoming: Incoming,
    pub(super) inbox: Inbox,
    /// This end ends the session, with this close message if the user gave one.
    pub(super) closing: Option<Option<CloseFrame>>,
    /// The session was ended, by either end.
    pub(super) is_over: bool,
}

/// Why a session cannot go on at the position that a peer names.
#[derive(Debug)]
pub(super) enum Mismatch {
    /// A position that cannot be. The session is as it was.
    Lie(Error),
    /// Both ends have seen different messages. The session is of no use any more.
    Diverged(Error),
}

impl Core {
    pub(super) fn new(id: Bytes16, own: Window, peer: Window, budget: Budget) -> Self {
        Self {
            id,
            out: Outgoing::new(own, budget),
            incoming: Incoming { received: 0, digest: 0, told: 0, bytes: 0, every: peer.quarter() },
            inbox: Inbox::default(),
            closing: None,
            is_over: false,
        }
    }

    pub(super) fn position(&self) -> Position {
        Position {
            received: self.incoming.received,
            digest: self.incoming.digest,
            first: self.out.acked,
            sent: self.out.sent(),
        }
    }

    /// Where this end stands, to be put on the connection now.
    pub(super) fn ack(&mut self) -> Ack {
        self.incoming.told = self.incoming.received;
        self.incoming.bytes = 0;
        Ack { received: self.incoming.received, sent: self.out.written }
    }

    /// The peer says where it stands.
    pub(super) fn acknowledged(&mut self, ack: Ack) -> Result<(), Error> {
        let received = self.incoming.received;
        if ack.sent != received {
            let sent = ack.sent;
            return Err(Error::protocol(format!(
                "resume: the peer has sent {sent} messages and {received} have come in: a layer or transport below loses or \
                 repeats messages, so this session cannot go on"
            )));
        }
        let out = &mut self.out;
        if ack.received < out.acked || ack.received > out.written {
            return Err(Error::protocol(format!(
                "resume: the peer acknowledges {} messages, of {} acknowledged before and {} sent",
                ack.received, out.acked, out.written
            )));
        }
        out.release(ack.received);
        Ok(())
    }

    /// Whether the session can go on with a peer at this position. Changes nothing.
    pub(super) fn check(&self, peer: &Position) -> Result<(), Mismatch> {
        let (received, out) = (self.incoming.received, &self.out);
        if peer.received < out.acked || peer.received > out.most_written {
            return Err(Mismatch::Lie(Error::protocol(format!(
                "resume: the peer says it has received {} messages, of {} acknowledged before and {} sent",
                peer.received, out.acked, out.most_written
            ))));
        }
        if received < peer.first || received > peer.sent {
            return Err(Mismatch::Lie(Error::protocol(format!(
                "resume: {received} messages have come in, and the peer says it holds those from {} to {}",
                peer.first, peer.sent
            ))));
        }
        if out.digest_at(peer.received) != Some(peer.digest) {
            return Err(Mismatch::Diverged(Error::protocol(
                "resume: the peer has received other messages than were sent: a layer or transport below loses or repeats \
                 messages, so this session cannot go on",
            )));
        }
        Ok(())
    }

    /// Goes on, on a new connection, with a peer whose position was [checked](Self::check). Says how many messages are sent
    /// again, or for the first time after they were accepted without a connection.
    pub(super) fn go_on(&mut self, peer: &Position, window: Window) -> u64 {
        self.out.release(peer.received);
        self.incoming.told = self.incoming.received;
        self.incoming.bytes = 0;
        self.incoming.every = window.quarter();
        self.out.rewind()
    }
}

/// What came in.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) received: u64,
    digest: u64,
    /// The last number that the peer was told, and the bytes since.
    told: u64,
    bytes: usize,
    every: Window,
}

impl Incoming {
    /// Counts a data message.
    pub(super) fn count(&mut self, message: &Message) {
        self.received += 1;
        self.digest = step(self.digest, message);
        self.bytes += message.len();
    }

    /// Whether the peer waits for an acknowledgement.
    pub(super) fn is_due(&self) -> bool {
        self.received - self.told >= u64::from(self.every.messages) || self.bytes >= self.every.bytes as usize
    }

    /// Whether there is something to acknowledge.
    pub(super) fn is_owed(&self) -> bool {
        self.received != self.told
    }
}

/// What was read while the user waited for room to write. It is counted as received, so it outlives the connection.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    queue: VecDeque<Message>,
    bytes: usize,
}

impl Inbox {
    const MESSAGES: usize = 64;
    const BYTES: usize = 64 << 10;

    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < Self::MESSAGES && self.bytes < Self::BYTES
    }

    pub(super) fn push(&mut self, message: Message) {
        self.bytes += message.len();
        self.queue.push_back(message);
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = self.queue.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }
}

#[cfg(test)]
mod tests;
