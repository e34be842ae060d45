//! What one end knows of a session: counts of both directions, and what the peer may still lack. No I/O and no clock.

use std::collections::VecDeque;

use super::{
    budget::Budget,
    outgoing::{Outgoing, step},
    wire::{self, Ack, Bytes16, Position},
};
use crate::{CloseCode, CloseFrame, Error, Message};

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
    /// What an end that keeps this much has on a connection, unacknowledged, where the other end keeps `other`. The other end can hold as much
    /// as it keeps, and at least the default; so both know this number, and what a peer says never makes an end hold more than it would.
    pub(super) fn towards(self, other: Self) -> Self {
        let least = Self::default();
        Self {
            messages: self.messages.min(other.messages.max(least.messages)),
            bytes: self.bytes.min(other.bytes.max(least.bytes)),
        }
    }

    /// Whether one more message has room beside so many: the last one may go over the bytes. A window of nothing has room for one.
    #[inline]
    pub(super) fn has_room(self, messages: usize, bytes: usize) -> bool {
        messages < self.messages.max(1) as usize && bytes < self.bytes.max(1) as usize
    }

    /// Whether one in `parts` of the window is used.
    #[inline]
    fn is_used(self, messages: u64, bytes: usize, parts: u32) -> bool {
        messages >= u64::from((self.messages / parts).max(1)) || bytes >= (self.bytes / parts).max(1) as usize
    }
}

/// The digest of an end that had to count a message without reading it. Of messages there is such a digest by chance alone.
const UNKNOWN: u64 = 0;

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
    /// What the user is still to be told of.
    refusals: Refusals,
    /// Whether connections get anything done.
    pub(super) progress: Progress,
}

/// Messages that were accepted, and then refused by a connection.
#[derive(Debug, Default)]
struct Refusals {
    first: Option<Error>,
    more: u64,
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
    pub(super) fn new(id: Bytes16, own: Window, peer: Window, budget: Budget, max_stalled: u32) -> Self {
        Self {
            id,
            inbox: Inbox::new(budget.another()),
            out: Outgoing::new(own, own.towards(peer), budget),
            incoming: Incoming { received: 0, digest: Some(0), told: 0, bytes: 0, window: peer.towards(own) },
            closing: None,
            is_over: false,
            refusals: Refusals::default(),
            progress: Progress::new(max_stalled),
        }
    }

    /// Drops what was read ahead and not given to the user: it comes again on the next connection.
    pub(super) fn forget_inbox(&mut self) {
        self.inbox.clear();
    }

    /// Where this end stands, for a new connection.
    pub(super) fn position(&mut self) -> Position {
        self.forget_inbox();
        Position {
            received: self.incoming.received,
            digest: self.incoming.digest.unwrap_or(UNKNOWN),
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

    /// The user gets a message: only then it counts as received. So what the peer may send, and what is read ahead here, stays
    /// within the peer's bounds, however slow the user is.
    pub(super) fn give(&mut self, message: &Message) {
        if message.is_data() {
            self.incoming.count(message);
        }
    }

    /// The next message that was read ahead, for the user.
    pub(super) fn take_read(&mut self) -> Option<Message> {
        let message = self.inbox.pop()?;
        self.give(&message);
        Some(message)
    }

    /// Keeps a message that was read while the user waited for room to write.
    ///
    /// [`is_protocol`](Error::is_protocol): the peer breaks its window. [`is_full`](Error::is_full): all sessions together hold what they
    /// may, so this connection has to end; its messages come again on the next one.
    pub(super) fn read_ahead(&mut self, message: Message) -> Result<(), Error> {
        self.inbox.push(message, self.incoming.window)
    }

    /// Something that the user sent was refused after it was accepted.
    pub(super) fn refused(&mut self, error: Error) {
        let what = "resume: the connection refused a message that was accepted before; it is not sent again";
        self.tell(error.context(what).into_rejection());
    }

    /// The next message that came in cannot be given: it counts, and the user is told.
    pub(super) fn reject_incoming(&mut self, error: Error) {
        self.incoming.count_refused();
        self.tell(error);
    }

    /// The user is told once, with how many there were.
    fn tell(&mut self, error: Error) {
        match &self.refusals.first {
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

    /// The peer closes the connection.
    pub(super) fn peer_closed(&mut self, frame: Option<&CloseFrame>) {
        self.progress.is_refused |= frame.is_some_and(is_refusal);
    }

    /// The connection was dropped by its user. Its end counts if the peer had closed it because of a message, though nobody read
    /// as far as that. Returns an error if the session is given up.
    pub(super) fn connection_dropped(&mut self) -> Option<Error> {
        if self.progress.is_refused { self.connection_ended(None) } else { None }
    }

    /// A connection has ended. With an error, the session is to be given up.
    pub(super) fn connection_ended(&mut self, cause: Option<&Error>) -> Option<Error> {
        let (messages, bytes) = self.out.unacknowledged();
        if let Some(error) = cause.filter(|error| error.status() == Some(http::StatusCode::PAYLOAD_TOO_LARGE)) {
            let what = format!(
                "resume: a message is too large for the way to the peer; {messages} messages ({bytes} bytes) wait"
            );
            return Some(error.clone().context(what).into_fatal());
        }
        let stalled = self.progress.ended(messages == 0, self.out.acked, self.incoming.received, cause)?;
        let ended = match stalled {
            Stalled::Refused(connections) => format!("{connections} connections ended because of a message"),
            Stalled::Cut(connections) => format!("{connections} connections in a row ended without progress"),
        };
        let what = format!("resume: {ended} while {messages} messages ({bytes} bytes) wait (max_stalled_connections)");
        Some(match cause {
            // The peer says what is wrong with a message: that is no lost connection.
            Some(error) if is_too_large(error) => {
                Error::too_large(what).with_close_frame(error.close_frame().cloned()).with_source(error.clone())
            }
            Some(error) => error.clone().context(what).into_fatal(),
            None => Error::closed(what),
        })
    }

    /// The peer says where it stands.
    pub(super) fn acknowledged(&mut self, ack: Ack) -> Result<(), Error> {
        let received = self.incoming.received + self.inbox.data as u64;
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
        if peer.digest != UNKNOWN && out.digest_at(peer.received) != Some(peer.digest) {
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
        self.progress.begins(self.out.acked < peer.received, peer.received, self.incoming.received);
        self.out.release(peer.received);
        self.incoming.told = self.incoming.received;
        self.incoming.bytes = 0;
        let own = self.out.window();
        self.incoming.window = window.towards(own);
        self.out.rewind(own.towards(window))
    }
}

fn is_too_large(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>());
    error.is_too_large()
        || cause.is_some_and(Error::is_too_large)
        || error.close_frame().is_some_and(|frame| frame.code() == CloseCode::TOO_BIG)
}

/// Whether an error says that a peer cannot take what it was sent, so that it will not the next time either.
fn refuses_a_message(error: &Error) -> bool {
    is_too_large(error) || error.close_frame().is_some_and(is_refusal)
}

fn is_refusal(frame: &CloseFrame) -> bool {
    [CloseCode::TOO_BIG, CloseCode::UNSUPPORTED, CloseCode::INVALID_PAYLOAD].contains(&frame.code())
}

/// Counts the connections that ended while messages wait, since the peer last acknowledged a message.
#[derive(Debug)]
pub(super) struct Progress {
    /// After this many cuts the session is given up.
    most: u32,
    /// Connections in a row that ended without an acknowledgement and without a message from the peer.
    cut: u32,
    /// Connections that ended because of a message. Incoming messages do not reset it: they say nothing about the refused one.
    refused: u32,
    /// What was acknowledged and received when this connection began; `None` once its end was counted.
    start: Option<(u64, u64)>,
    /// The peer closed this connection because of a message.
    is_refused: bool,
}

/// The reason to give a session up, with the number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stalled {
    Refused(u32),
    Cut(u32),
}

impl Progress {
    /// A peer that refused the same message three times refuses it again.
    const MAX_REFUSED: u32 = 3;

    const fn new(most: u32) -> Self {
        Self { most, cut: 0, refused: 0, start: Some((0, 0)), is_refused: false }
    }

    /// Starts a connection. `is_progress` says whether the peer acknowledged more than before in its opening message.
    const fn begins(&mut self, is_progress: bool, acked: u64, received: u64) {
        if is_progress {
            (self.cut, self.refused) = (0, 0);
        }
        self.start = Some((acked, received));
        self.is_refused = false;
    }

    /// Counts the end of a connection. Returns the reason if the session is to be given up. Without waiting messages there is
    /// no progress to make.
    fn ended(&mut self, is_empty: bool, acked: u64, received: u64, cause: Option<&Error>) -> Option<Stalled> {
        let start = self.start.take()?;
        if is_empty || start.0 != acked {
            (self.cut, self.refused) = (0, 0);
            return None;
        }
        self.cut = if start.1 == received { self.cut + 1 } else { 0 };
        self.refused += u32::from(self.is_refused || cause.is_some_and(refuses_a_message));
        if self.refused >= self.most.min(Self::MAX_REFUSED) {
            return Some(Stalled::Refused(self.refused));
        }
        (self.cut >= self.most).then_some(Stalled::Cut(self.cut))
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

/// What came in.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) received: u64,
    /// Unknown once a message could not be read: it was counted, and what it was is known to its sender alone.
    digest: Option<u64>,
    /// The last number that the peer was told, and the bytes since.
    told: u64,
    bytes: usize,
    /// The smaller of both ends' bounds: the peer has no more than that on its way.
    window: Window,
}

impl Incoming {
    /// Counts a data message.
    #[inline]
    fn count(&mut self, message: &Message) {
        self.received += 1;
        self.digest = self.digest.map(|digest| step(digest, message));
        self.bytes += wire::length(message);
    }

    /// Counts a data message that came in and cannot be given to the user, so that it is acknowledged and not sent again.
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

/// What was read while the user waited for room to write. An honest peer has no more on its way than the smaller of both ends' bounds, so
/// all of it fits, and the acknowledgements that stand behind it can always be read: two ends that write much at a time do not
/// wait for each other for ever.
#[derive(Debug)]
pub(super) struct Inbox {
    budget: Budget,
    queue: VecDeque<Message>,
    data: usize,
    bytes: usize,
}

impl Inbox {
    /// Pings and pongs that are kept for the user; those beyond were answered below, and are dropped.
    const CONTROL: usize = 64;

    const fn new(budget: Budget) -> Self {
        Self { budget, queue: VecDeque::new(), data: 0, bytes: 0 }
    }

    fn clear(&mut self) {
        self.queue = VecDeque::new();
        (self.data, self.bytes) = (0, 0);
        self.budget.shrink(0);
    }

    fn push(&mut self, message: Message, window: Window) -> Result<(), Error> {
        if message.is_data() {
            if !window.has_room(self.data, self.bytes) {
                return Err(Error::protocol(format!(
                    "resume: the peer sends more than {} messages or {} bytes without an acknowledgement: those are the smaller \
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
