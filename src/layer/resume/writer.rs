//! The writing side of one connection of a session.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::BytesMut;

use super::{
    ledger::{Acknowledgement, Incoming, Ledger},
    wire::Own,
};
use crate::{Error, Message, Transport, rt::Timer, transport::wakers::WakerPair};

/// Writes what the ledger holds, and the messages of this layer, to the transport below.
///
/// User data does not wait in a queue here. The ledger keeps each message until it is acknowledged, and knows which of
/// them this connection has not had. A message of this layer may therefore take any room in the transport below; a
/// message of the user that was promised this room is accepted by the ledger and follows.
///
/// | [`Room`] | the user was told "ready" | the transport below was, too | the next message |
/// |---|---|---|---|
/// | `None` | no | no | needs `poll_ready` |
/// | `Below` | yes | yes | goes straight down, unless older ones wait |
/// | `InLedger` | yes | no: an own message took it | stays in the ledger until the next poll |
///
/// `is_dirty` and `said_bye` are independent of it and of each other. After `failed` only reading makes sense.
#[derive(Debug)]
pub(super) struct Writer<T> {
    pub(super) inner: T,
    wakers: Arc<WakerPair>,
    /// Wakes both halves. The transport below gets it whenever one half may do the work of the other.
    pub(super) both: Waker,
    /// The first message on this connection, if this end begins.
    greeting: Option<Message>,
    /// A control message of the user whose room was taken.
    control: Option<Message>,
    acknowledger: Acknowledger,
    room: Room,
    /// The transport below holds messages of this layer that nobody else flushes.
    pub(super) is_dirty: bool,
    /// The peer was told that the session is over. Nothing but a close follows.
    pub(super) said_bye: bool,
    /// Why the sink cannot be used any more.
    pub(super) failed: Option<Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    None,
    Below,
    InLedger,
}

/// Returns whether an error of `start_send` concerns the message that was sent, and not the connection.
fn concerns_one_message(error: &Error) -> bool {
    error.is_rejection() || error.is_too_large() || error.is_codec() || error.is_rate_limited() || error.is_full()
}

/// The error of a connection that rejects messages which it had accepted. Which ones is not known, so all are sent
/// again on the next one.
pub(super) fn refused_below(error: Error) -> Error {
    Error::closed("resume: the connection refused messages that it had accepted").with_source(error)
}

impl<T> Writer<T> {
    pub(super) fn new(inner: T, wakers: Arc<WakerPair>, ack_delay: Duration, greeting: Option<Message>) -> Self {
        Self {
            inner,
            both: wakers.clone().into(),
            wakers,
            is_dirty: greeting.is_some(),
            greeting,
            control: None,
            acknowledger: Acknowledger::new(ack_delay),
            room: Room::None,
            said_bye: false,
            failed: None,
        }
    }

    pub(super) fn has_promised(&self) -> bool {
        self.room != Room::None
    }

    /// Whether nothing has to be written but what the user sends next.
    #[inline]
    pub(super) fn is_quiet(&self, ledger: &Ledger) -> bool {
        self.acknowledger.due != Acknowledgement::Now
            && !ledger.out.has_next()
            && self.greeting.is_none()
            && self.control.is_none()
            && ledger.closing.is_none()
    }

    /// Stores the error after which only reading makes sense.
    pub(super) fn fail<R>(&mut self, error: impl Into<Error>) -> Poll<Result<R, Error>> {
        let error = error.into();
        let error = if error.is_rejection() { refused_below(error) } else { error };
        self.failed = Some(error.clone());
        Poll::Ready(Err(error))
    }

    /// Notes that the user received a message. Returns whether that has to be acknowledged at once.
    #[inline]
    pub(super) fn received(&mut self, incoming: &Incoming) -> bool {
        !self.said_bye && self.acknowledger.received(incoming)
    }
}

impl<T: Transport<Message, In = Message> + Unpin> Writer<T> {
    /// Writes what waits while nothing comes in, among it an acknowledgement whose delay is over.
    pub(super) fn poll_idle(&mut self, ledger: &mut Ledger) {
        if ledger.incoming.is_owed() && !self.said_bye {
            self.acknowledger.check_delay(&self.both);
        }
        if self.is_dirty || !self.is_quiet(ledger) {
            let _ = self.poll_write(ledger);
        }
    }

    /// Asks the transport below for room, or returns `None` if something has to be written before the user's next
    /// message.
    #[inline]
    pub(super) fn poll_direct_room(
        &mut self,
        ledger: &Ledger,
        cx: &mut Context<'_>,
    ) -> Option<Poll<Result<(), Error>>> {
        if self.acknowledger.due != Acknowledgement::Later || !self.is_quiet(ledger) {
            return None;
        }
        let room = Pin::new(&mut self.inner).poll_ready(cx);
        Some(self.promise(room, cx))
    }

    /// Notes whether the transport below has room.
    #[inline]
    fn promise(&mut self, room: Poll<Result<(), impl Into<Error>>>, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        match room {
            Poll::Ready(Ok(())) => {
                self.room = Room::Below;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => self.fail(error),
            Poll::Pending => {
                self.wakers.writer.register(cx.waker());
                Poll::Pending
            }
        }
    }

    /// Returns `Ready` when the transport below has room for a message of the user.
    pub(super) fn poll_ready(&mut self, ledger: &mut Ledger, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(room) = self.poll_direct_room(ledger, cx) {
            return room;
        }
        // The user is about to write, and the acknowledgement goes along.
        self.acknowledger.go_along();
        self.wakers.writer.register(cx.waker());
        ready!(self.poll_pump(ledger))?;
        let room = Pin::new(&mut self.inner).poll_ready(&mut Context::from_waker(&self.both));
        self.promise(room, cx)
    }

    pub(super) fn start_send(&mut self, ledger: &mut Ledger, message: Message) -> Result<(), Error> {
        let room = std::mem::replace(&mut self.room, Room::None);
        match message {
            // Straight down, unless older messages wait for the peer's window: then the ledger keeps it behind them.
            Message::Text(_) | Message::Binary(_) if room == Room::Below => {
                // From here on the session delivers the message. A failure of the connection is told by the next poll.
                let Some(message) = ledger.out.push_written(message) else { return Ok(()) };
                if let Err(error) = Pin::new(&mut self.inner).start_send(message) {
                    return self.refused(error.into(), || ledger.out.refuse_last());
                }
            }
            Message::Text(_) | Message::Binary(_) => {
                if room == Room::None && !ledger.out.has_room() {
                    return Err(Error::full("resume: start_send without room; wait for poll_ready first"));
                }
                ledger.out.push(message);
            }
            Message::Close(frame) => ledger.closing = Some(frame),
            control if room != Room::Below => self.control = Some(control),
            control => {
                if let Err(error) = Pin::new(&mut self.inner).start_send(control) {
                    return self.refused(error.into(), || {});
                }
            }
        }
        Ok(())
    }

    /// Handles an error of the connection's `start_send`. Returns one that concerns the message alone, after `forget`
    /// has taken the message back: it was never on the wire. Any other is the end of the connection.
    fn refused(&mut self, error: Error, forget: impl FnOnce()) -> Result<(), Error> {
        if concerns_one_message(&error) {
            forget();
            return Err(error.into_rejection());
        }
        self.failed = Some(error);
        Ok(())
    }

    /// Writes the next message of the ledger. An error concerns this message alone, which was never on the wire and has
    /// left the session.
    fn write_next(&mut self, ledger: &mut Ledger) -> Result<(), Error> {
        let Some(message) = ledger.out.next() else { return Ok(()) };
        let sent = Pin::new(&mut self.inner).start_send(message.clone());
        // Before the result is looked at: `refuse_last` takes back a message that counts as written.
        ledger.out.wrote();
        sent.or_else(|error| self.refused(error.into(), || ledger.out.refuse_last()))
    }

    /// Writes everything that waits, but not what the user sends next. The order is greeting, acknowledgement, data,
    /// control, bye, close.
    pub(super) fn poll_pump(&mut self, ledger: &mut Ledger) -> Poll<Result<(), Error>> {
        loop {
            if let Some(error) = &self.failed {
                return Poll::Ready(Err(error.clone()));
            }
            // The end of the session goes behind everything that was accepted before, also behind what the peer has no
            // room for yet.
            let ends = ledger.closing.is_some() && !ledger.out.is_blocked();
            let bye_waits = ends && !self.said_bye;
            let close_waits = ends && matches!(ledger.closing, Some(Some(_)));
            let waits =
                self.greeting.is_some() || ledger.out.has_next() || self.control.is_some() || bye_waits || close_waits;
            let acknowledges = self.acknowledger.goes(waits) && !self.said_bye;
            if !(waits || acknowledges) {
                return Poll::Ready(Ok(()));
            }
            if let Err(error) = ready!(Pin::new(&mut self.inner).poll_ready(&mut Context::from_waker(&self.both))) {
                return self.fail(error);
            }
            // The promise to the user outlives the room: its message waits in the ledger for the next poll.
            if self.room == Room::Below {
                self.room = Room::InLedger;
            }
            self.is_dirty = true;
            let message = if let Some(greeting) = self.greeting.take() {
                greeting
            } else if acknowledges {
                // In front of data: it says how many messages went before it, which the peer compares with its count.
                self.acknowledger.message(ledger)
            } else if ledger.out.has_next() {
                if let Err(error) = self.write_next(ledger) {
                    self.tell(ledger, error);
                }
                continue;
            } else if let Some(control) = self.control.take() {
                match Pin::new(&mut self.inner).start_send(control).map_err(Into::into) {
                    Ok(()) => {}
                    Err(error) if concerns_one_message(&error) => self.tell(ledger, error),
                    Err(error) => return self.fail(error),
                }
                continue;
            } else if bye_waits {
                self.said_bye = true;
                ledger.is_over = true;
                Own::Bye(ledger.ack()).into_message()
            } else {
                let Some(Some(frame)) = ledger.closing.replace(None) else { return Poll::Ready(Ok(())) };
                Message::Close(Some(frame))
            };
            if let Err(error) = Pin::new(&mut self.inner).start_send(message) {
                return self.fail(error);
            }
        }
    }

    /// Tells the reader about a message that was refused after it was accepted.
    fn tell(&self, ledger: &mut Ledger, error: Error) {
        ledger.refused(error);
        self.wakers.reader.wake();
    }

    /// Writes and flushes what waits, for either half.
    pub(super) fn poll_write(&mut self, ledger: &mut Ledger) -> Poll<Result<(), Error>> {
        ready!(self.poll_pump(ledger))?;
        if !self.is_dirty {
            return Poll::Ready(Ok(()));
        }
        match ready!(Pin::new(&mut self.inner).poll_flush(&mut Context::from_waker(&self.both))) {
            Ok(()) => {
                self.is_dirty = false;
                Poll::Ready(Ok(()))
            }
            Err(error) => self.fail(error),
        }
    }

    /// Sends a close frame as far as that goes without waiting.
    pub(super) fn say_close(&mut self, close: Message) {
        let mut cx = Context::from_waker(&self.both);
        if self.failed.is_none()
            && matches!(Pin::new(&mut self.inner).poll_ready(&mut cx), Poll::Ready(Ok(())))
            && Pin::new(&mut self.inner).start_send(close).is_ok()
        {
            let _ = Pin::new(&mut self.inner).poll_flush(&mut cx);
        }
    }
}

/// Decides when an acknowledgement goes out. An end that writes in any case does not spend a write and a system call on
/// it.
#[derive(Debug)]
struct Acknowledger {
    due: Acknowledgement,
    delay: Duration,
    /// Set while less is owed than goes out without it.
    timer: Timer,
    /// The memory of the messages: used again once the transport below has let go of the last one.
    memory: BytesMut,
}

impl Acknowledger {
    fn new(delay: Duration) -> Self {
        Self { due: Acknowledgement::Later, delay, timer: Timer::new(), memory: BytesMut::new() }
    }

    #[inline]
    fn received(&mut self, incoming: &Incoming) -> bool {
        self.due = self.due.max(incoming.acknowledgement());
        self.due == Acknowledgement::Now
    }

    fn go_along(&mut self) {
        if self.due == Acknowledgement::WithNextWrite {
            self.due = Acknowledgement::Now;
        }
    }

    /// Whether an acknowledgement goes out now. `writes` says whether something else does.
    fn goes(&self, writes: bool) -> bool {
        match self.due {
            Acknowledgement::Later => false,
            Acknowledgement::WithNextWrite => writes,
            Acknowledgement::Now => true,
        }
    }

    /// Makes an acknowledgement due whose delay is over. The timer wakes both halves, so it is polled once, when it is
    /// set, and not on each `Pending`.
    fn check_delay(&mut self, both: &Waker) {
        if self.due == Acknowledgement::Now {
            return;
        }
        let is_late = if self.timer.is_set() {
            self.timer.has_rung()
        } else {
            self.timer.set(self.delay);
            self.timer.start(&mut Context::from_waker(both)).is_ready()
        };
        if is_late {
            self.timer.clear();
            self.due = Acknowledgement::Now;
        }
    }

    fn message(&mut self, ledger: &mut Ledger) -> Message {
        self.due = Acknowledgement::Later;
        // The delay counts from the next message that is not acknowledged.
        self.timer.clear();
        Own::Ack(ledger.ack()).write_to(&mut self.memory)
    }
}
