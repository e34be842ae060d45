//! One connection of a session: moves what the core holds over a transport, and says what has to be said beside it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use super::{
    state::Core,
    wire::{self, Own, Read},
};
use crate::{CloseCode, CloseFrame, Error, Message, Transport, rt::Timer, transport::halves::Halves};

/// How many messages of this layer's own one poll reads, before others have their turn.
const BUDGET: usize = 64;

/// How long the peer's close message is waited for, once the peer has said that the session is over.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The data of the user does not pass through a queue here: the core keeps each message until it is acknowledged anyway, and
/// knows which of them this connection has not had. So what this layer says by itself may take any place in the transport
/// below; a message of the user that was promised one is accepted by the core, and follows.
#[derive(Debug)]
pub(super) struct Link<T> {
    inner: T,
    halves: Arc<Halves>,
    both: Waker,
    ack_delay: Duration,
    timer: Timer,
    /// The first message on this connection, if this end has one to say.
    greeting: Option<Message>,
    /// A control message of the user's that lost its place.
    control: Option<Message>,
    ack_waits: bool,
    said_bye: bool,
    heard_bye: bool,
    /// The user was told that there is room, and has not used it.
    is_promised: bool,
    /// The transport below said that there is room, and nobody has used it.
    has_place: bool,
    /// The transport below holds what this layer has to flush by itself.
    is_dirty: bool,
    /// The user waits for acknowledgements, so the sink's methods read.
    sink_reads: bool,
    write_failed: Option<Error>,
    /// How the stream ended, where the sink's methods read that.
    ended: Option<End>,
}

/// What a read gives.
pub(super) enum Event {
    Message(Message),
    End(End),
}

/// How a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// The session is over.
    Over,
    /// The connection is: by a failure, or by an end without a word.
    Cut(Option<Error>),
    /// The peer breaks the protocol; the session cannot go on.
    Broken(Error),
}

impl<T> Link<T> {
    pub(super) fn new(inner: T, halves: Arc<Halves>, ack_delay: Duration, greeting: Option<Message>) -> Self {
        let both = halves.clone().into();
        Self {
            inner,
            halves,
            both,
            ack_delay,
            timer: Timer::new(),
            is_dirty: greeting.is_some(),
            greeting,
            control: None,
            ack_waits: false,
            said_bye: false,
            heard_bye: false,
            is_promised: false,
            has_place: false,
            sink_reads: false,
            write_failed: None,
            ended: None,
        }
    }

    pub(super) fn get_ref(&self) -> &T {
        &self.inner
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Nothing but what the user sends next has to be written.
    fn is_quiet(&self, core: &Core) -> bool {
        !self.ack_waits
            && !core.out.has_next()
            && self.greeting.is_none()
            && self.control.is_none()
            && core.closing.is_none()
    }
}

impl<T: Transport<Message, In = Message> + Unpin> Link<T> {
    fn inner(&mut self) -> Pin<&mut T> {
        Pin::new(&mut self.inner)
    }

    fn fail<R>(&mut self, error: impl Into<Error>) -> Poll<Result<R, Error>> {
        let error = error.into();
        self.write_failed = Some(error.clone());
        Poll::Ready(Err(error))
    }

    /// Whether the sink is of no use any more.
    pub(super) fn write_failed(&self) -> Option<&Error> {
        self.write_failed.as_ref()
    }

    /// Room for one more message: in the core, and on the connection.
    pub(super) fn poll_ready(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(error) = &self.write_failed {
            return Poll::Ready(Err(error.clone()));
        }
        if self.is_promised {
            return Poll::Ready(Ok(()));
        }
        if !core.out.has_room() {
            ready!(self.poll_room(core, cx))?;
        }
        let room = if self.is_quiet(core) {
            self.inner().poll_ready(cx)
        } else {
            self.halves.writer.register(cx.waker());
            ready!(self.poll_pump(core))?;
            let both = self.both.clone();
            self.inner().poll_ready(&mut Context::from_waker(&both))
        };
        match room {
            Poll::Ready(Ok(())) => {
                self.has_place = true;
                self.is_promised = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => self.fail(error),
            Poll::Pending => {
                self.halves.writer.register(cx.waker());
                Poll::Pending
            }
        }
    }

    /// Waits for acknowledgements: reads, since else nobody might.
    fn poll_room(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.halves.writer.register(cx.waker());
        // What the peer must get so that it can acknowledge.
        let written = self.poll_write(core);
        if let Poll::Ready(Err(error)) = written {
            return Poll::Ready(Err(error));
        }
        self.read_ahead(core);
        if core.out.has_room() {
            self.sink_reads = false;
            return Poll::Ready(Ok(()));
        }
        match &self.ended {
            None => Poll::Pending,
            Some(_) => Poll::Ready(Err(Error::closed("resume: the connection has ended"))),
        }
    }

    /// Reads on the writer's task, as long as there is room for what is not an acknowledgement.
    pub(super) fn read_ahead(&mut self, core: &mut Core) {
        self.sink_reads = true;
        let both = self.both.clone();
        let mut cx = Context::from_waker(&both);
        for _ in 0..BUDGET {
            if self.ended.is_some() || !core.inbox.has_room() {
                return;
            }
            match self.poll_read(core, &mut cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(message))) => {
                    core.inbox.push(message);
                    // A reader that found nothing is to look again.
                    self.halves.reader.wake();
                }
                Poll::Ready(Err(end)) => {
                    self.ended = Some(end);
                    self.halves.reader.wake();
                    return;
                }
            }
        }
        self.both.wake_by_ref();
    }

    /// The connection's end, where it was read by the sink's methods.
    pub(super) fn take_end(&mut self) -> Option<End> {
        self.ended.take()
    }

    pub(super) fn start_send(&mut self, core: &mut Core, message: Message) -> Result<(), Error> {
        let is_promised = std::mem::take(&mut self.is_promised);
        match message {
            Message::Text(_) | Message::Binary(_) => {
                if !is_promised && !core.out.has_room() {
                    return Err(Error::full("resume: start_send without room; wait for poll_ready first"));
                }
                core.out.push(message);
                // From here on the message is the session's: what fails on the connection is told by the next poll.
                if std::mem::take(&mut self.has_place) && core.out.next_is_newest() {
                    self.write_next(core);
                }
            }
            Message::Close(frame) => core.closing = Some(frame),
            control => {
                if std::mem::take(&mut self.has_place) {
                    if let Err(error) = self.inner().start_send(control) {
                        self.write_failed = Some(error.into());
                    }
                } else {
                    self.control = Some(control);
                }
            }
        }
        Ok(())
    }

    fn write_next(&mut self, core: &mut Core) {
        let Some(message) = core.out.next() else { return };
        let message = message.clone();
        core.out.wrote();
        if let Err(error) = self.inner().start_send(message) {
            self.write_failed = Some(error.into());
        }
    }

    /// Writes what waits: all but what the user sends next.
    fn poll_pump(&mut self, core: &mut Core) -> Poll<Result<(), Error>> {
        let both = self.both.clone();
        let mut cx = Context::from_waker(&both);
        loop {
            if let Some(error) = &self.write_failed {
                return Poll::Ready(Err(error.clone()));
            }
            let bye_waits = core.closing.is_some() && !self.said_bye;
            let waits = self.greeting.is_some() || self.ack_waits || core.out.has_next() || self.control.is_some();
            if !waits && !bye_waits && !matches!(core.closing, Some(Some(_))) {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.inner().poll_ready(&mut cx)) {
                Ok(()) => self.has_place = false,
                Err(error) => return self.fail(error),
            }
            self.is_dirty = true;
            let message = if let Some(greeting) = self.greeting.take() {
                greeting
            } else if std::mem::take(&mut self.ack_waits) {
                Own::Ack(core.ack()).into_message()
            } else if core.out.has_next() {
                self.write_next(core);
                continue;
            } else if let Some(control) = self.control.take() {
                control
            } else if bye_waits {
                self.said_bye = true;
                core.is_over = true;
                Own::Bye(core.ack()).into_message()
            } else {
                let Some(Some(frame)) = core.closing.replace(None) else { return Poll::Ready(Ok(())) };
                Message::Close(Some(frame))
            };
            if let Err(error) = self.inner().start_send(message) {
                return self.fail(error);
            }
        }
    }

    /// Writes and flushes what waits, for whichever half: the wakers of both stand in [`Halves`].
    fn poll_write(&mut self, core: &mut Core) -> Poll<Result<(), Error>> {
        ready!(self.poll_pump(core))?;
        if !self.is_dirty {
            return Poll::Ready(Ok(()));
        }
        let both = self.both.clone();
        match ready!(self.inner().poll_flush(&mut Context::from_waker(&both))) {
            Ok(()) => {
                self.is_dirty = false;
                Poll::Ready(Ok(()))
            }
            Err(error) => self.fail(error),
        }
    }

    pub(super) fn poll_flush(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(error) = &self.write_failed {
            return Poll::Ready(Err(error.clone()));
        }
        let flushed = if self.is_quiet(core) && !self.is_dirty {
            self.inner().poll_flush(cx)
        } else {
            self.halves.writer.register(cx.waker());
            ready!(self.poll_pump(core))?;
            let both = self.both.clone();
            self.inner().poll_flush(&mut Context::from_waker(&both))
        };
        match flushed {
            Poll::Ready(Ok(())) => {
                self.is_dirty = false;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => self.fail(error),
            Poll::Pending => {
                self.halves.writer.register(cx.waker());
                Poll::Pending
            }
        }
    }

    /// Ends the session: what was accepted, the word that it is over, and the transport's own close.
    pub(super) fn poll_close(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        core.closing.get_or_insert(None);
        self.halves.writer.register(cx.waker());
        if self.write_failed.is_none() && !self.heard_bye {
            ready!(self.poll_pump(core))?;
        }
        let both = self.both.clone();
        match ready!(self.inner().poll_close(&mut Context::from_waker(&both))) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => self.fail(error),
        }
    }

    /// The next message, or how the connection ends. Writes what waits.
    pub(super) fn poll_next(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Poll<Event> {
        for _ in 0..BUDGET {
            if let Some(message) = core.inbox.pop() {
                if self.sink_reads {
                    // There is room for the writer to read on.
                    self.halves.writer.wake();
                }
                return Poll::Ready(Event::Message(message));
            }
            if let Some(end) = self.ended.take() {
                return Poll::Ready(Event::End(end));
            }
            let polled = if self.sink_reads {
                self.halves.reader.register(cx.waker());
                let both = self.both.clone();
                self.poll_read(core, &mut Context::from_waker(&both))
            } else {
                self.poll_read(core, cx)
            };
            match polled {
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(message))) => {
                    if self.ack_waits {
                        self.halves.reader.register(cx.waker());
                        let _ = self.poll_write(core);
                    }
                    return Poll::Ready(Event::Message(message));
                }
                Poll::Ready(Err(end)) => return Poll::Ready(Event::End(end)),
                Poll::Pending => {
                    self.halves.reader.register(cx.waker());
                    if self.poll_idle(core, cx).is_ready() {
                        return Poll::Ready(Event::End(End::Over));
                    }
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// While nothing comes in: acknowledges late what is owed, and writes what waits. Ready when the peer's last words are
    /// not worth waiting for.
    fn poll_idle(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Poll<()> {
        if self.heard_bye {
            return self.timer.poll(cx);
        }
        if core.incoming.is_owed() && !self.ack_waits {
            if !self.timer.is_set() {
                self.timer.set(self.ack_delay);
            }
            self.ack_waits = self.timer.poll(cx).is_ready();
        }
        if self.is_dirty || !self.is_quiet(core) {
            // What fails here fails the sink, and the stream has the last word.
            let _ = self.poll_write(core);
        }
        Poll::Pending
    }

    /// One message from below; `None` for one of this layer's own.
    fn poll_read(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, End>> {
        let message = match ready!(self.inner().poll_next(cx)) {
            Some(Ok(message)) => message,
            _ if self.heard_bye => return Poll::Ready(Err(End::Over)),
            Some(Err(error)) => return Poll::Ready(Err(End::Cut(Some(error.into())))),
            None if self.said_bye => return Poll::Ready(Err(End::Over)),
            None => return Poll::Ready(Err(End::Cut(None))),
        };
        if message.is_control() {
            return Poll::Ready(Ok(Some(message)));
        }
        Poll::Ready(self.receive(core, message).map_err(|error| self.refuse(error)))
    }

    fn receive(&mut self, core: &mut Core, message: Message) -> Result<Option<Message>, Error> {
        if self.heard_bye {
            return Err(Error::protocol("resume: the peer goes on after it has ended the session"));
        }
        let ack = match wire::read(message)? {
            Read::Plain(message) => {
                core.incoming.count(&message);
                self.ack_waits |= core.incoming.is_due();
                return Ok(Some(message));
            }
            Read::Own(Own::Ack(ack)) => ack,
            Read::Own(Own::Bye(ack)) => {
                self.heard_bye = true;
                core.is_over = true;
                self.timer.set(LAST_WORDS);
                ack
            }
            Read::Own(Own::Hello(_) | Own::Welcome(_)) => {
                return Err(Error::protocol("resume: the peer opens a session on a connection that has one"));
            }
        };
        core.acknowledged(ack)?;
        if self.sink_reads && core.out.has_room() {
            self.sink_reads = false;
            self.halves.writer.wake();
        }
        Ok(None)
    }

    /// Tells the peer why, as far as that goes at once.
    fn refuse(&mut self, error: Error) -> End {
        let frame = CloseFrame::new(CloseCode::PROTOCOL, "resume: protocol error");
        self.leave(frame);
        End::Broken(error)
    }

    /// Says goodbye on a connection that is given up, as far as that goes without waiting.
    pub(super) fn leave(&mut self, frame: CloseFrame) {
        let both = self.both.clone();
        let mut cx = Context::from_waker(&both);
        if self.write_failed.is_none()
            && matches!(self.inner().poll_ready(&mut cx), Poll::Ready(Ok(())))
            && self.inner().start_send(Message::Close(Some(frame))).is_ok()
        {
            let _ = self.inner().poll_flush(&mut cx);
        }
    }

    /// Closes the transport below, of a session that is not here any more.
    pub(super) fn poll_close_only(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner().poll_close(cx).map_err(Into::into)
    }

    /// Polls once more a transport that was closed by the peer, which may have an answer to write.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>) {
        let _ = self.inner().poll_next(cx);
    }
}
