//! One connection of a session.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{
    ending::{ANSWER, Ending, LinkEnd},
    ledger::Ledger,
    wire::{self, Own, Parsed},
    writer::{Writer, refused_below},
};
use crate::{
    CloseCode, CloseFrame, Error, Message, Transport,
    rt::Timer,
    transport::{contract::Polled, signal, wakers::WakerPair},
};

/// Moves the messages of a [`Ledger`] over a transport, for both halves.
///
/// [`Ending`] has the states of the connection. A failed write alone does not end it, because the peer may have said
/// bye before it went away: what it sent is received for at most [`ANSWER`] from the first time that there is nothing
/// to read.
///
/// The end of the session is independent of that of the connection:
///
/// | this end said bye | the peer said bye | the session |
/// |---|---|---|
/// | no | no | goes on |
/// | yes | no | is over; messages of the peer are still received |
/// | no | yes | is over; only the peer's close is waited for, at most [`LAST_WORDS`] |
/// | yes | yes | the same |
#[derive(Debug)]
pub(super) struct Link<T> {
    wakers: Arc<WakerPair>,
    pub(super) writer: Writer<T>,
    pub(super) ending: Ending,
    /// The end of the wait after the peer's bye, or for it after a failed write.
    last_words: Timer,
    /// The user's sink waits for acknowledgements, so its methods read.
    sink_reads: bool,
    heard_bye: bool,
    /// The user gets no more messages: this end has told the peer which ones it got.
    drops_rest: bool,
}

/// How long the peer may take for its close message after it said that the session is over.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How many messages of this layer one poll reads before other tasks have their turn.
const BUDGET: usize = 64;

/// The result of a read.
pub(super) enum Received {
    Message(Message),
    /// The error of one message in either direction. The session goes on.
    Rejected(Error),
    End(LinkEnd),
}

impl<T> Link<T> {
    pub(super) fn new(inner: T, wakers: Arc<WakerPair>, ack_delay: Duration, greeting: Option<Message>) -> Self {
        Self {
            writer: Writer::new(inner, wakers.clone(), ack_delay, greeting),
            wakers,
            ending: Ending::default(),
            last_words: Timer::new(),
            sink_reads: false,
            heard_bye: false,
            drops_rest: false,
        }
    }

    pub(super) fn get_ref(&self) -> &T {
        &self.writer.inner
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        &mut self.writer.inner
    }

    pub(super) fn into_inner(self) -> T {
        self.writer.inner
    }
}

impl<T: Transport<Message, In = Message> + Unpin> Link<T> {
    fn inner(&mut self) -> Pin<&mut T> {
        Pin::new(&mut self.writer.inner)
    }

    /// Returns the next message, or how the connection ends. Writes what waits.
    #[inline]
    pub(super) fn poll_next(&mut self, ledger: &mut Ledger, cx: &mut Context<'_>) -> Poll<Received> {
        // The common case: a message of the user, and nothing else to do.
        if ledger.reads_directly() && self.ending.is_open() && !self.sink_reads && !self.heard_bye && !self.drops_rest {
            return match self.inner().poll_next(cx) {
                Poll::Ready(Some(Ok(message))) if message.is_data() && !wire::is_marked(&message) => {
                    ledger.progress.is_read = false;
                    ledger.incoming.count(&message, message.len());
                    Poll::Ready(self.give(ledger, message, cx))
                }
                // It was polled with the reader's own waker, which is right: nothing else waits for this connection.
                polled => self.poll_slowly(Some(polled), ledger, cx),
            };
        }
        self.poll_slowly(None, ledger, cx)
    }

    /// `poll_next` when there is more to do. `polled` is the answer of the connection if it was polled.
    fn poll_slowly(
        &mut self,
        mut polled: Option<Polled<T>>,
        ledger: &mut Ledger,
        cx: &mut Context<'_>,
    ) -> Poll<Received> {
        ledger.progress.is_read = true;
        // A turn looks at these, in this order, because each may make the next one pointless:
        // 1. rejections and messages that are the user's already;
        // 2. the end of the connection, once it has begun;
        // 3. the next message from below;
        // 4. without a connection: the peer's last words, own messages to write, and the limit after a failed write.
        for _ in 0..BUDGET {
            let read = if let Some(polled) = polled.take() {
                self.read(polled, ledger)
            } else {
                // Rejections and messages that the sink read come before anything of the connection, even after its
                // end: both are the user's already.
                if let Some(error) = ledger.take_refusal() {
                    return Poll::Ready(Received::Rejected(error));
                }
                if let Some(message) = ledger.take_read() {
                    return Poll::Ready(self.give(ledger, message, cx));
                }
                if self.ending.is_parting() {
                    self.wakers.reader.register(cx.waker());
                    return self.poll_parted().map(Received::End);
                }
                match self.ending.take() {
                    Some(LinkEnd::Rejected(error)) => {
                        self.reject(ledger, error);
                        continue;
                    }
                    Some(end) => return Poll::Ready(Received::End(end)),
                    None => {}
                }
                // While the sink reads too, either half may take what the other waits for, so what comes in wakes both.
                if self.sink_reads {
                    self.wakers.reader.register(cx.waker());
                    let both = self.writer.both.clone();
                    self.poll_read(ledger, &mut Context::from_waker(&both))
                } else {
                    self.poll_read(ledger, cx)
                }
            };
            match read {
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(message))) if self.drops_rest && message.is_data() => ledger.incoming.dropped += 1,
                Poll::Ready(Ok(Some(message))) => {
                    ledger.give(&message);
                    return Poll::Ready(self.give(ledger, message, cx));
                }
                Poll::Ready(Err(end)) => self.ending.finish(end, self.writer.failed.is_some()),
                Poll::Pending if self.ending.is_parting() => {}
                Poll::Pending => {
                    // Registered before the writing below: another half may have to continue it, and wakes this one.
                    self.wakers.reader.register(cx.waker());
                    if self.heard_bye {
                        ready!(self.last_words.poll(cx));
                        return Poll::Ready(Received::End(LinkEnd::Over));
                    }
                    self.writer.poll_idle(ledger);
                    if self.poll_end_of_reading().is_ready() {
                        continue;
                    }
                    // A write may have been refused.
                    if !ledger.has_refusal() {
                        return Poll::Pending;
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Gives the user a message. The peer is told when that makes enough of them.
    #[inline]
    fn give(&mut self, ledger: &mut Ledger, message: Message, cx: &Context<'_>) -> Received {
        if self.writer.received(&ledger.incoming) {
            // At once, and by the reader: a user that only reads never polls the sink, and the peer would stop.
            self.wakers.reader.register(cx.waker());
            let _ = self.writer.poll_write(ledger);
        }
        Received::Message(message)
    }

    /// Tells the user about an incoming message that a layer below rejected, and ends the connection.
    fn reject(&mut self, ledger: &mut Ledger, error: Error) {
        // Counted as received, or the peer would send it again on each connection.
        ledger.reject_incoming(error);
        let end = Error::closed("resume: this end closed the connection after a message that it rejected");
        let frame = CloseFrame::new(CloseCode::RESTART, "resume: a message was rejected; the session goes on");
        self.ending.part(LinkEnd::Cut(Some(end)), Some(frame), ANSWER);
        // The close goes out at once if it can, for callers that do not poll again after an error.
        if let Poll::Ready(end) = self.poll_parted() {
            self.ending.end(end);
        }
    }

    /// Drops the messages of the peer from now on. The bye of this end, which was said, does not count them.
    pub(super) fn drop_rest(&mut self, ledger: &mut Ledger) {
        if !std::mem::replace(&mut self.drops_rest, true) {
            ledger.drop_inbox();
        }
    }

    /// Reads one message from below. Returns `None` for a message of this layer.
    fn poll_read(&mut self, ledger: &mut Ledger, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, LinkEnd>> {
        let polled = self.inner().poll_next(cx);
        self.read(polled, ledger)
    }

    /// Handles what the transport below returned.
    fn read(&mut self, polled: Polled<T>, ledger: &mut Ledger) -> Poll<Result<Option<Message>, LinkEnd>> {
        let message = match ready!(polled) {
            Some(Ok(message)) => message,
            // However the connection ends after that: both ends have what they wanted of the session.
            _ if self.heard_bye => return Poll::Ready(Err(LinkEnd::Over)),
            Some(Err(error)) => {
                let error = error.into();
                // A rejection leaves the connection below as it was, but not this layer's count of messages.
                let end = match () {
                    () if !error.is_rejection() => LinkEnd::Cut(Some(self.ending.with_peer_close(error))),
                    () if error.may_have_been_executed() => LinkEnd::Rejected(error),
                    // It concerns messages that this end sent.
                    () => LinkEnd::Cut(Some(self.ending.with_peer_close(refused_below(error)))),
                };
                return Poll::Ready(Err(end));
            }
            None if self.writer.said_bye => return Poll::Ready(Err(LinkEnd::Over)),
            None => {
                let closed = || self.ending.with_peer_close(Error::closed("resume: the peer closed the connection"));
                return Poll::Ready(Err(LinkEnd::Cut(self.ending.has_peer_close().then(closed))));
            }
        };
        if let Message::Close(frame) = &message {
            self.ending.heard_close(frame.as_ref());
            ledger.peer_closed(frame.as_ref());
        }
        // After a bye even a plain message is an error, which `receive` returns.
        if message.is_control() || (!self.heard_bye && !wire::is_marked(&message)) {
            return Poll::Ready(Ok(Some(message)));
        }
        match self.receive(ledger, message) {
            Ok(message) => Poll::Ready(Ok(message)),
            Err(error) => {
                self.ending.refuse(error);
                Poll::Pending
            }
        }
    }

    /// Handles a message that ends like one of this layer.
    fn receive(&mut self, ledger: &mut Ledger, message: Message) -> Result<Option<Message>, Error> {
        if self.heard_bye {
            return Err(Error::protocol("resume: the peer goes on after it has ended the session"));
        }
        let ack = match wire::read(message)? {
            Parsed::Plain(message) => return Ok(Some(message)),
            Parsed::Own(Own::Ack(ack)) => ack,
            Parsed::Own(Own::Bye(ack)) => {
                self.heard_bye = true;
                ledger.is_over = true;
                self.last_words.set(LAST_WORDS);
                ack
            }
            Parsed::Own(Own::Hello(_) | Own::Welcome(_)) => {
                return Err(Error::protocol("resume: the peer opens a session on a connection that has one"));
            }
        };
        // Checked after a bye as well: a loss below must not look like an orderly end.
        ledger.acknowledged(ack)?;
        // The sink waits for nothing but this. Otherwise the writer would sleep while the reader frees its room.
        if self.sink_reads && (ledger.out.has_room() || ledger.out.has_next()) {
            self.sink_reads = false;
            self.wakers.writer.wake();
        }
        Ok(None)
    }

    /// Reads for the writer: an acknowledgement may be behind messages that the user has not asked for yet. Returns
    /// `Pending` if there may be more to read at once; both halves are woken then.
    pub(super) fn read_ahead(&mut self, ledger: &mut Ledger) -> Poll<()> {
        self.sink_reads = true;
        // The connection keeps one waker for its stream, so it gets that of both halves: the reader's own would be
        // replaced by the writer's.
        let both = self.writer.both.clone();
        let mut cx = Context::from_waker(&both);
        for _ in 0..BUDGET {
            if !self.ending.is_open() {
                return Poll::Ready(());
            }
            match self.poll_read(ledger, &mut cx) {
                Poll::Ready(Ok(None)) => continue,
                Poll::Ready(Ok(Some(message))) => match ledger.read_ahead(message) {
                    Ok(()) => {}
                    Err(error) if error.is_full() => self.ending.give_up(error),
                    Err(error) => self.ending.refuse(error),
                },
                Poll::Ready(Err(end)) => self.ending.finish(end, self.writer.failed.is_some()),
                Poll::Pending => {
                    if self.ending.is_parting() || self.poll_end_of_reading().is_ready() {
                        self.wakers.reader.wake();
                    }
                    return Poll::Ready(());
                }
            }
            // A reader that found nothing before looks again.
            self.wakers.reader.wake();
        }
        // The budget is used up, so a peer that floods this end does not hold up other tasks.
        both.wake_by_ref();
        Poll::Pending
    }

    /// After a write has failed, ends the connection if nothing has come in for some time. Called when there is nothing
    /// to read.
    fn poll_end_of_reading(&mut self) -> Poll<()> {
        let Some(error) = self.writer.failed.clone() else { return Poll::Pending };
        let both = self.writer.both.clone();
        let mut cx = Context::from_waker(&both);
        if !self.last_words.is_set() {
            self.last_words.set(ANSWER);
        }
        // A layer below that ends the connection sends its close message while it is polled.
        let _ = self.inner().poll_flush(&mut cx);
        ready!(self.last_words.poll(&mut cx));
        self.ending.end(LinkEnd::Cut(Some(self.ending.with_peer_close(error))));
        Poll::Ready(())
    }

    /// Reads what the peer still says on a connection that cannot be written. Returns `Ready` once that is known, or if
    /// nothing came in time.
    pub(super) fn poll_last_words(&mut self, ledger: &mut Ledger, cx: &Context<'_>) -> Poll<()> {
        self.wakers.writer.register(cx.waker());
        ready!(self.read_ahead(ledger));
        if self.ending.is_open() {
            return Poll::Pending;
        }
        if self.ending.is_parting() {
            ready!(self.poll_last_close());
        }
        Poll::Ready(())
    }

    /// Lets the last words out, for either half.
    pub(super) fn poll_parted(&mut self) -> Poll<LinkEnd> {
        self.ending.poll(Pin::new(&mut self.writer.inner), &self.writer.both)
    }

    /// Lets the last words out, for the writer: the reader finds the end.
    fn poll_last_close(&mut self) -> Poll<()> {
        let end = ready!(self.poll_parted());
        self.ending.end(end);
        self.wakers.reader.wake();
        Poll::Ready(())
    }

    /// Asks the connection for room, or returns `None` if something else has to be done first. This is the common case
    /// of [`poll_ready`](Self::poll_ready).
    #[inline]
    pub(super) fn poll_direct_room(
        &mut self,
        ledger: &mut Ledger,
        cx: &mut Context<'_>,
    ) -> Option<Poll<Result<(), Error>>> {
        if !self.is_usable() || self.writer.has_promised() || !ledger.out.has_room() {
            return None;
        }
        self.writer.poll_direct_room(ledger, cx)
    }

    /// Whether the connection can be written.
    #[inline]
    pub(super) fn is_usable(&self) -> bool {
        self.ending.is_open() && self.writer.failed.is_none()
    }

    /// Returns `Ready` when the ledger and the connection have room for one more message.
    pub(super) fn poll_ready(&mut self, ledger: &mut Ledger, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(error) = &self.writer.failed {
            return Poll::Ready(Err(error.clone()));
        }
        ready!(self.poll_unless_parting(cx))?;
        // Before the room is looked at: an acknowledgement or a bye may have used it since the promise.
        if self.writer.has_promised() {
            return Poll::Ready(Ok(()));
        }
        if !ledger.out.has_room() {
            ready!(self.poll_acknowledged(ledger, cx, |ledger| ledger.out.has_room()))?;
        }
        // Both bounds hold now: the ledger's, for what is not acknowledged, and the connection's, which is asked here.
        self.writer.poll_ready(ledger, cx)
    }

    /// Waits with the stream until a parting connection has ended.
    fn poll_unless_parting(&mut self, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        if !self.ending.is_parting() {
            return Poll::Ready(Ok(()));
        }
        self.wakers.writer.register(cx.waker());
        ready!(self.poll_last_close());
        let error = self.ending.with_peer_close(Error::closed("resume: the connection has ended"));
        self.writer.fail(error)
    }

    /// Waits until enough is acknowledged, and reads the acknowledgements, because nobody else might.
    fn poll_acknowledged(
        &mut self,
        ledger: &mut Ledger,
        cx: &Context<'_>,
        is_enough: impl Fn(&mut Ledger) -> bool,
    ) -> Poll<Result<(), Error>> {
        self.wakers.writer.register(cx.waker());
        loop {
            // The peer can only acknowledge what it gets, and a user that waits here does not flush.
            self.writer.is_dirty = true;
            if let Poll::Ready(Err(error)) = self.writer.poll_write(ledger) {
                return Poll::Ready(Err(error));
            }
            // Whatever it returns, the ledger tells whether it was enough.
            let _ = self.read_ahead(ledger);
            if is_enough(ledger) {
                self.sink_reads = false;
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_unless_parting(cx))?;
            if !self.ending.is_open() {
                return Poll::Ready(Err(self
                    .ending
                    .with_peer_close(Error::closed("resume: the connection has ended"))));
            }
            // An acknowledgement may let more messages go.
            if !ledger.out.has_next() || self.writer.poll_pump(ledger)?.is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Writes everything that was accepted, which may have to wait for acknowledgements.
    fn poll_written(&mut self, ledger: &mut Ledger, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.writer.poll_pump(ledger))?;
        // Each round may free a part of the peer's window only, so the rest waits for the next acknowledgement.
        while ledger.out.is_blocked() {
            ready!(self.poll_acknowledged(ledger, cx, |ledger| !ledger.out.is_blocked()))?;
            ready!(self.writer.poll_pump(ledger))?;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_flush(&mut self, ledger: &mut Ledger, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.is_usable() {
            if let Some(error) = &self.writer.failed {
                return Poll::Ready(Err(error.clone()));
            }
            ready!(self.poll_unless_parting(cx))?;
        }
        // With the writer's own waker if the connection holds messages of the user alone. Otherwise the reader may have
        // to continue what this half begins, so the connection gets the waker of both.
        let flushed = if self.writer.is_quiet(ledger) && !self.writer.is_dirty && !ledger.out.is_blocked() {
            self.inner().poll_flush(cx)
        } else {
            self.wakers.writer.register(cx.waker());
            ready!(self.poll_written(ledger, cx))?;
            Pin::new(&mut self.writer.inner).poll_flush(&mut Context::from_waker(&self.writer.both))
        };
        match flushed {
            Poll::Ready(Ok(())) => {
                self.writer.is_dirty = false;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => self.writer.fail(error),
            Poll::Pending => {
                self.wakers.writer.register(cx.waker());
                Poll::Pending
            }
        }
    }

    /// Ends the session: writes what was accepted and the bye, and closes the transport below.
    pub(super) fn poll_close(&mut self, ledger: &mut Ledger, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Only the first poll sees the caller's frame: a later one may come from another caller.
        ledger.closing.get_or_insert_with(signal::close_frame);
        self.wakers.writer.register(cx.waker());
        // A connection that cannot carry the bye is closed without it. Its peer keeps the session until it expires.
        if self.writer.failed.is_none() && !self.ending.is_parting() && !self.heard_bye {
            ready!(self.poll_written(ledger, cx))?;
        }
        match ready!(Pin::new(&mut self.writer.inner).poll_close(&mut Context::from_waker(&self.writer.both))) {
            Ok(()) => {
                // Without the bye the peer does not know that the session is over.
                ledger.is_closed = self.writer.said_bye || self.heard_bye;
                Poll::Ready(Ok(()))
            }
            Err(error) => self.writer.fail(error),
        }
    }

    /// Closes a connection that another one has replaced, as far as that goes without waiting.
    pub(super) fn replaced(mut self, frame: CloseFrame) {
        self.writer.say_close(Message::Close(Some(frame)));
    }
}
