//! The knowledge of one end about a session: the counts of both directions, and the messages that the peer may lack. No
//! I/O and no clock.

use std::collections::VecDeque;

use super::{
    replay::{Budget, ReplayBuffer, step},
    wire::{self, Ack, Bytes16, Position, Window},
};
use crate::{
    CloseFrame, Error, Message,
    layer::stall::{Blame, GivenUp, Patience, Stall, is_too_large},
    rt::Instant,
};

/// The digest of an end that had to count a message without reading it. Real messages have it by chance only.
const UNKNOWN: u64 = 0;

/// One end of a session.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) id: Bytes16,
    pub(super) out: ReplayBuffer,
    pub(super) incoming: Incoming,
    pub(super) inbox: Inbox,
    /// This end ends the session, with this close frame if the user gave one.
    pub(super) closing: Option<Option<CloseFrame>>,
    /// The session was ended by either end.
    pub(super) is_over: bool,
    /// The close of the user has succeeded: messages without an acknowledgement count as delivered.
    pub(super) is_closed: bool,
    /// The peer drains: it has ended the session, and told exactly which messages its user got.
    pub(super) is_left: bool,
    /// The rejections that the user was not told about yet.
    refusals: Refusals,
    /// Whether connections make progress.
    pub(super) progress: Progress,
}

/// Messages that were accepted and then refused by a connection.
#[derive(Debug, Default)]
struct Refusals {
    first: Option<Error>,
    more: u64,
}

/// Why a session cannot go on from the position that a peer reports.
#[derive(Debug)]
pub(super) enum Mismatch {
    /// An impossible position. The session stays as it was.
    Impossible(Error),
    /// The two ends have seen different messages. The session cannot go on.
    Diverged(Error),
}

impl Ledger {
    pub(super) fn new(id: Bytes16, own: Window, peer: Window, budget: Budget, patience: Patience) -> Self {
        Self {
            id,
            inbox: Inbox::new(budget.another()),
            out: ReplayBuffer::new(own, own.towards(peer), budget),
            incoming: Incoming {
                received: 0,
                digest: Some(0),
                told: 0,
                bytes: 0,
                dropped: 0,
                window: peer.towards(own),
            },
            closing: None,
            is_over: false,
            is_closed: false,
            is_left: false,
            refusals: Refusals::default(),
            progress: Progress::new(patience),
        }
    }

    /// Whether the user may send: neither end has ended the session.
    #[inline]
    pub(super) const fn is_writable(&self) -> bool {
        self.closing.is_none() && !self.is_over
    }

    /// Drops messages that were read ahead and not given to the user. They come again on the next connection.
    pub(super) fn forget_inbox(&mut self) {
        self.inbox.clear();
    }

    /// Drops messages that were read ahead, because the user gets no more on this connection.
    pub(super) fn drop_inbox(&mut self) {
        self.incoming.dropped += self.inbox.data as u64;
        self.inbox.clear();
    }

    /// Returns the position of this end, for a new connection.
    pub(super) fn position(&mut self) -> Position {
        self.forget_inbox();
        Position {
            received: self.incoming.received,
            digest: self.incoming.digest.unwrap_or(UNKNOWN),
            first: self.out.acked,
            sent: self.out.sent(),
        }
    }

    /// Returns the progress of this end, to be put on the connection now.
    pub(super) fn ack(&mut self) -> Ack {
        // Told as soon as it is made. If the connection fails to carry it, the next one begins with the position.
        self.incoming.told = self.incoming.received;
        self.incoming.bytes = 0;
        Ack { received: self.incoming.received, sent: self.out.written }
    }

    /// Counts a message that the user gets now. A message that was read ahead does not count as received, so the peer
    /// sends no more than its window, however slow the user is.
    #[inline]
    pub(super) fn give(&mut self, message: &Message) {
        self.progress.is_read = false;
        if message.is_data() {
            self.incoming.count(message, wire::length(message));
        }
    }

    /// Whether the next message of the connection is the next of the user: no rejection and no message read ahead goes
    /// first.
    #[inline]
    pub(super) fn reads_directly(&self) -> bool {
        self.refusals.first.is_none() && self.inbox.queue.is_empty()
    }

    /// Takes the next message that was read ahead, for the user.
    pub(super) fn take_read(&mut self) -> Option<Message> {
        let message = self.inbox.pop()?;
        self.give(&message);
        Some(message)
    }

    /// Keeps a message that was read while the user waited for room to write.
    ///
    /// Returns an error for which [`is_protocol`](Error::is_protocol) is true if the peer exceeds its window, and one
    /// for which [`is_full`](Error::is_full) is true if all sessions together hold as much as they may. Then this
    /// connection has to end, and its messages come again on the next one.
    pub(super) fn read_ahead(&mut self, message: Message) -> Result<(), Error> {
        self.inbox.push(message, self.incoming.window)
    }

    /// Notes that a message of the user was refused after it was accepted.
    pub(super) fn refused(&mut self, error: Error) {
        let what = "resume: the connection refused a message that was accepted before; it is not sent again";
        self.tell(error.context(what).into_rejection());
    }

    /// Counts an incoming message that the user cannot get, and tells the user.
    pub(super) fn reject_incoming(&mut self, error: Error) {
        self.incoming.count_refused();
        self.tell(error);
    }

    /// Stores an error for the user. Later ones are only counted.
    fn tell(&mut self, error: Error) {
        match &self.refusals.first {
            // One is enough to find the cause. A list would grow with a user that does not read.
            None => self.refusals.first = Some(error),
            Some(_) => self.refusals.more += 1,
        }
    }

    pub(super) const fn has_refusal(&self) -> bool {
        self.refusals.first.is_some()
    }

    pub(super) fn take_refusal(&mut self) -> Option<Error> {
        let Refusals { first, more } = std::mem::take(&mut self.refusals);
        match more {
            0 => first,
            more => {
                first.map(|error| error.context(format!("resume: a message was rejected, and {more} more after it")))
            }
        }
    }

    /// Notes that the peer closes the connection.
    pub(super) fn peer_closed(&mut self, frame: Option<&CloseFrame>) {
        self.progress.blame = self.progress.blame.or(frame.and_then(Blame::of_close));
        self.is_left |=
            self.is_over && self.closing.is_none() && frame.is_some_and(|frame| frame.return_after().is_some());
    }

    /// Counts the end of a connection that its user dropped, if the peer had closed it because of a message. Returns an
    /// error if the session is given up.
    pub(super) fn connection_dropped(&mut self, now: Instant) -> Option<Error> {
        self.progress.blame?;
        self.connection_ended(None, now)
    }

    /// Counts the end of a connection. Returns an error if the session is given up.
    pub(super) fn connection_ended(&mut self, cause: Option<&Error>, now: Instant) -> Option<Error> {
        let (messages, bytes) = self.out.unacknowledged();
        if let Some(error) = cause.filter(|error| error.status() == Some(http::StatusCode::PAYLOAD_TOO_LARGE)) {
            let what = format!(
                "resume: a message is too large for a proxy on the way to the peer; {messages} messages \
                 ({bytes} bytes) wait"
            );
            return Some(error.clone().context(what).into_fatal());
        }
        let given_up = self.progress.ended(messages == 0, self.out.acked, cause, now)?;
        let what = format!(
            "resume: {given_up} while {messages} messages ({bytes} bytes) wait (max_stalled_connections, \
             max_stalled_time)"
        );
        Some(match cause {
            // The peer says what is wrong with a message, so this is more than a lost connection.
            Some(error) if is_too_large(error) => {
                Error::too_large(what).with_close_frame(error.close_frame().cloned()).with_source(error.clone())
            }
            Some(error) => error.clone().context(what).into_fatal(),
            None => Error::closed(what),
        })
    }

    /// Handles an acknowledgement of the peer.
    pub(super) fn acknowledged(&mut self, ack: Ack) -> Result<(), Error> {
        let received = self.incoming.received + self.inbox.data as u64 + self.incoming.dropped;
        // Connections are reliable and ordered, so the counts can only differ if something below dropped or repeated a
        // message. From here on both ends would number messages differently, and replay the wrong ones.
        if ack.sent != received {
            let sent = ack.sent;
            return Err(Error::protocol(format!(
                "resume: the peer has sent {sent} messages and {received} have come in: a layer or transport below \
                 loses or repeats messages, so this session cannot go on"
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

    /// Checks whether the session can go on with a peer at this position. Changes nothing.
    pub(super) fn check(&self, peer: &Position) -> Result<(), Mismatch> {
        // The peer can lack nothing that it acknowledged, and have nothing that was never on a wire. `most_written` and
        // not `written`: the last connection may have replayed less than an earlier one carried.
        let (received, out) = (self.incoming.received, &self.out);
        if peer.received < out.acked || peer.received > out.most_written {
            return Err(Mismatch::Impossible(Error::protocol(format!(
                "resume: the peer says it has received {} messages, of {} acknowledged before and {} sent",
                peer.received, out.acked, out.most_written
            ))));
        }
        if received < peer.first || received > peer.sent {
            return Err(Mismatch::Impossible(Error::protocol(format!(
                "resume: {received} messages have come in, and the peer says it holds those from {} to {}",
                peer.first, peer.sent
            ))));
        }
        if peer.digest != UNKNOWN && out.digest_at(peer.received) != Some(peer.digest) {
            return Err(Mismatch::Diverged(Error::protocol(
                "resume: the peer has received other messages than were sent: a layer or transport below loses or \
                 repeats messages, so this session cannot go on",
            )));
        }
        Ok(())
    }

    /// Resumes the session on a new connection, with a peer whose position was [checked](Self::check). Returns how many
    /// messages are sent again, or for the first time after they were accepted without a connection.
    ///
    /// `is_read`: on the last connection the peer's user was reading.
    pub(super) fn resume(&mut self, peer: &Position, window: Window, is_read: bool) -> u64 {
        self.progress.stall.peer_read(is_read);
        self.progress.begins(self.out.acked < peer.received, peer.received);
        // The position of this end, which the peer gets with the welcome or has from the hello, acknowledges
        // everything.
        self.out.release(peer.received);
        self.incoming.told = self.incoming.received;
        self.incoming.bytes = 0;
        let own = self.out.window();
        self.incoming.window = window.towards(own);
        self.out.rewind(own.towards(window))
    }
}

/// Finds out which connections make no progress: the peer acknowledged no message on them, though one waited. Incoming
/// messages are no progress: they say nothing about the one that waits, for which a proxy may cut every connection.
#[derive(Debug)]
pub(super) struct Progress {
    stall: Stall,
    /// The number acknowledged when this connection began; `None` once its end was counted.
    start: Option<u64>,
    /// The close frame that the peer sent on this connection blames a message.
    blame: Option<Blame>,
    /// The user waits for a message of this connection: it reads. If it does not, the peer may be unable to write and
    /// therefore not read either, and an end without progress says nothing about the line.
    pub(super) is_read: bool,
}

impl Progress {
    const fn new(patience: Patience) -> Self {
        Self { stall: Stall::new(patience), start: Some(0), blame: None, is_read: false }
    }

    /// Starts a connection. `is_progress` says whether the peer acknowledged more than before in its opening message.
    const fn begins(&mut self, is_progress: bool, acked: u64) {
        if is_progress {
            self.stall.reset();
        }
        (self.start, self.blame, self.is_read) = (Some(acked), None, false);
    }

    /// Counts the end of a connection. Returns the reason if the session is to be given up. Without waiting messages
    /// there is no progress to make.
    fn ended(&mut self, is_empty: bool, acked: u64, cause: Option<&Error>, now: Instant) -> Option<GivenUp> {
        let start = self.start.take()?;
        if is_empty || start != acked {
            self.stall.reset();
            return None;
        }
        self.stall.ended(self.blame.or_else(|| cause.and_then(Blame::of)), self.is_read, now)
    }
}

/// When an acknowledgement is sent. An end that writes in any case does not spend a write and a system call on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Acknowledgement {
    /// Once `ack_delay` is over: less than a quarter of the peer's window is used.
    Later,
    /// Before the next message of this end, or once `ack_delay` is over.
    WithNextWrite,
    /// At once: half of the window is used, or `ack_delay` is over.
    Now,
}

/// The incoming messages of a session.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) received: u64,
    /// Unknown once a message was counted that could not be read: only its sender knows it.
    digest: Option<u64>,
    /// The number in the last acknowledgement, and the bytes since.
    told: u64,
    bytes: usize,
    /// The number of messages that came in after this end's bye and were dropped.
    pub(super) dropped: u64,
    /// The smaller of both ends' bounds. The peer has no more than that in flight.
    window: Window,
}

impl Incoming {
    /// Counts a data message with this length on the wire.
    #[inline]
    pub(super) fn count(&mut self, message: &Message, length: usize) {
        self.received += 1;
        self.digest = self.digest.map(|digest| step(digest, message));
        self.bytes += length;
    }

    /// Counts a data message that came in and cannot be given to the user, so that it is acknowledged and not sent
    /// again.
    pub(super) fn count_refused(&mut self) {
        self.received += 1;
        self.digest = None;
    }

    /// When the peer is to get an acknowledgement.
    #[inline]
    pub(super) fn acknowledgement(&self) -> Acknowledgement {
        let messages = self.received - self.told;
        match () {
            () if !self.window.is_used(messages, self.bytes, 4) => Acknowledgement::Later,
            () if !self.window.is_used(messages, self.bytes, 2) => Acknowledgement::WithNextWrite,
            () => Acknowledgement::Now,
        }
    }

    /// Whether there is something to acknowledge.
    #[inline]
    pub(super) fn is_owed(&self) -> bool {
        self.received != self.told
    }
}

/// Messages that were read while the user waited for room to write.
///
/// An honest peer has no more in flight than the smaller of both ends' bounds. All of it fits here, so the
/// acknowledgements behind it can always be read. Otherwise two ends that write a lot at once could wait for each other
/// forever.
#[derive(Debug)]
pub(super) struct Inbox {
    budget: Budget,
    queue: VecDeque<Message>,
    data: usize,
    bytes: usize,
}

impl Inbox {
    /// The maximum number of pings and pongs that are kept for the user. Pings were answered below, so others are
    /// dropped.
    const CONTROL: usize = 64;

    const fn new(budget: Budget) -> Self {
        Self { budget, queue: VecDeque::new(), data: 0, bytes: 0 }
    }

    fn clear(&mut self) {
        // Frees the memory: the session may wait for its client for long.
        self.queue = VecDeque::new();
        (self.data, self.bytes) = (0, 0);
        self.budget.shrink(0);
    }

    fn push(&mut self, message: Message, window: Window) -> Result<(), Error> {
        if message.is_data() {
            // Both ends compute the same window, so only a peer that breaks the rules gets here.
            if !window.has_room(self.data, self.bytes) {
                return Err(Error::protocol(format!(
                    "resume: the peer sends more than {} messages or {} bytes without an acknowledgement: the smaller \
                     of its bounds and of what this end holds",
                    window.messages, window.bytes
                )));
            }
            if !self.budget.covers(self.bytes) {
                return Err(Error::full(
                    "resume: all sessions together hold as many bytes as they may (SessionStore::total_replay_bytes)",
                ));
            }
            self.data += 1;
            self.bytes += wire::length(&message);
            self.budget.hold(self.bytes);
        } else if self.queue.len() - self.data >= Self::CONTROL && !message.is_close() {
            return Ok(());
        }
        self.queue.push_back(message);
        Ok(())
    }

    #[cfg(not(target_arch = "wasm32"))]
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether a message waits that the peer sends again on the next connection.
    pub(super) fn has_data(&self) -> bool {
        self.data > 0
    }

    #[inline]
    fn pop(&mut self) -> Option<Message> {
        let message = self.queue.pop_front()?;
        if message.is_data() {
            self.data -= 1;
            self.bytes -= wire::length(&message);
            self.budget.shrink(self.bytes);
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests;
