use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use futures_sink::Sink;

use super::{
    SessionId, SessionStore,
    budget::Budget,
    link::{End, Event, Link},
    slot::{Offer, Outcome},
    state::{Core, Mismatch},
    store::Seat,
    wire::{Hello, Own, Welcome},
};
use crate::{CloseCode, CloseFrame, Error, Message, Text, Transport, rt::Timer, transport::halves::Halves};

/// A client's session on the server: a transport that outlives its connections.
///
/// While the client is away, the stream is `Pending`, and the sink takes messages while the replay buffer has room; a flush
/// waits. When the client comes back, what it lacks is sent again, and all goes on. The end, seen by stream and sink:
///
/// | what happened | stream | sink |
/// |---|---|---|
/// | the client ended the session | its close message where it sent one, then `None` | [`is_closed`](Error::is_closed) |
/// | it did not come back within [`SessionStore::ttl`] | an error that [`is_closed`](Error::is_closed) with a source that [`is_timeout`](Error::is_timeout), then `None` | the same |
/// | it breaks the protocol, or something below loses messages | an error that [`is_protocol`](Error::is_protocol), then `None` | [`is_closed`](Error::is_closed) |
///
/// [`unacknowledged`](Self::unacknowledged) then still tells how many messages may not have arrived.
///
/// Pings, pongs and close messages of a connection belong to it: they are passed on, but not sent again, and a close message
/// without the end of the session ends that connection only.
///
/// Dropped, the session is over; its client begins a new one.
pub struct Session<T> {
    link: Option<Link<T>>,
    core: Core,
    halves: Arc<Halves>,
    seat: Seat<T>,
    /// The newest connection's.
    epoch: u64,
    resumptions: u64,
    ttl: Duration,
    ack_delay: Duration,
    timer: Timer,
    ended: Option<Ended>,
}

/// The end of the session.
struct Ended {
    /// What the stream still has to say.
    error: Option<Error>,
    /// What the sink says.
    sink: Error,
}

impl<T> Session<T> {
    pub(super) fn new(link: T, seat: Seat<T>, halves: Arc<Halves>, store: &SessionStore<T>, hello: &Hello) -> Self {
        let config = store.config;
        Self {
            link: Some(Link::new(link, halves.clone(), config.ack_delay, None)),
            core: Core::new(seat.id, config.window, hello.window, Budget::of(store.pool.clone())),
            halves,
            seat,
            epoch: hello.epoch,
            resumptions: 0,
            ttl: config.ttl,
            ack_delay: config.ack_delay,
            timer: Timer::new(),
            ended: None,
        }
    }

    /// The session's public name.
    #[must_use]
    pub fn id(&self) -> SessionId {
        SessionId(self.core.id)
    }

    /// The connection that the session has, as far as it knows.
    #[must_use]
    pub fn get_ref(&self) -> Option<&T> {
        self.link.as_ref().map(Link::get_ref)
    }

    /// How often the client came back.
    #[must_use]
    pub fn resumptions(&self) -> u64 {
        self.resumptions
    }

    /// How many messages were accepted that the client has not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.core.out.unacknowledged().0
    }

    fn finish(&mut self, error: Option<Error>) {
        let sink = match &error {
            Some(error) if error.is_closed() => error.clone(),
            Some(error) => Error::closed("resume: the session has failed").with_source(error.clone()),
            None => Error::closed("resume: the session is over"),
        };
        self.ended = Some(Ended { error, sink });
        self.link = None;
        self.seat.leave();
        self.halves.reader.wake();
        self.halves.writer.wake();
    }

    fn link_ended(&mut self, end: End) {
        match end {
            End::Over => self.finish(None),
            End::Cut(_) if self.core.is_over => self.finish(None),
            End::Cut(_) => {
                self.link = None;
                self.seat.slot.set_connected(false);
                self.timer.set(self.ttl);
                // The other half is to see it, and wait for the time too.
                self.halves.reader.wake();
                self.halves.writer.wake();
            }
            End::Broken(error) => self.finish(Some(error)),
        }
    }

    /// Without a connection: whether the client's time is over.
    fn check_ttl(&mut self) -> bool {
        let both = self.halves.clone().into();
        if self.timer.poll(&mut Context::from_waker(&both)).is_pending() {
            return false;
        }
        let (ttl, (messages, bytes)) = (self.ttl, self.core.out.unacknowledged());
        let late = Error::timeout(format!("resume: no connection of the client within {ttl:?} (SessionStore::ttl)"));
        let error = Error::closed(format!(
            "resume: the client did not come back; {messages} messages ({bytes} bytes) were not acknowledged"
        ));
        self.finish(Some(error.with_source(late)));
        true
    }

    fn writable(&self) -> Result<(), Error> {
        match &self.ended {
            Some(ended) => Err(ended.sink.clone()),
            None if self.core.is_over || self.core.closing.is_some() => {
                Err(Error::closed("resume: the session is closed"))
            }
            None => Ok(()),
        }
    }
}

/// What a sink method finds.
enum Way {
    /// A connection that can be written.
    Link,
    /// None: the client is away.
    Away,
    /// Something has changed.
    Again,
}

impl<T: Transport<Message, In = Message> + Unpin> Session<T> {
    /// Takes a new connection, if one waits.
    fn adopt(&mut self) {
        if !self.seat.slot.has_offer() {
            return;
        }
        let Some((ticket, offer)) = self.seat.slot.take() else { return };
        let outcome = if self.ended.is_some() || self.core.is_over {
            Outcome::Free(offer.link)
        } else if offer.epoch <= self.epoch {
            let error = Error::closed("resume: the client has had a newer connection than this one");
            Outcome::Refused(offer.link, error)
        } else {
            match self.core.check(&offer.position) {
                Ok(()) => self.go_on(offer),
                Err(Mismatch::Lie(error)) => Outcome::Refused(offer.link, error),
                Err(Mismatch::Diverged(error)) => {
                    self.finish(Some(error));
                    Outcome::Free(offer.link)
                }
            }
        };
        self.seat.slot.report(ticket, outcome);
    }

    fn go_on(&mut self, offer: Offer<T>) -> Outcome<T> {
        if let (Some(mut older), Some(code)) = (self.link.take(), CloseCode::new(4409)) {
            older.leave(CloseFrame::new(code, Text::from_static("resume: a newer connection has the session")));
        }
        self.core.go_on(&offer.position, offer.window);
        let welcome = Welcome {
            is_resumed: true,
            id: self.core.id,
            token: [0; 16],
            window: self.core.out.window(),
            position: self.core.position(),
        };
        let greeting = Own::Welcome(welcome).into_message();
        self.link = Some(Link::new(offer.link, self.halves.clone(), self.ack_delay, Some(greeting)));
        self.epoch = offer.epoch;
        self.resumptions += 1;
        self.timer.clear();
        self.seat.slot.set_connected(true);
        // Whichever half did not take it may have something to do.
        self.halves.reader.wake();
        self.halves.writer.wake();
        Outcome::Taken
    }

    fn way(&mut self, cx: &Context<'_>) -> Way {
        self.adopt();
        let Some(link) = &mut self.link else {
            self.halves.writer.register(cx.waker());
            return if self.ended.is_none() && self.check_ttl() { Way::Again } else { Way::Away };
        };
        if link.write_failed().is_some() {
            // Its last words are read, so that its end is known.
            self.halves.writer.register(cx.waker());
            link.read_ahead(&mut self.core);
        }
        match (link.take_end(), link.write_failed()) {
            (Some(end), _) => {
                self.link_ended(end);
                Way::Again
            }
            (None, Some(_)) => Way::Away,
            (None, None) => Way::Link,
        }
    }

    /// Asks the connection, or what there is without one, until the answer stands.
    fn poll_sink(
        &mut self,
        cx: &mut Context<'_>,
        mut link: impl FnMut(&mut Link<T>, &mut Core, &mut Context<'_>) -> Poll<Result<(), Error>>,
        away: impl Fn(&mut Self) -> Poll<Result<(), Error>>,
        check: impl Fn(&Self) -> Result<(), Error>,
    ) -> Poll<Result<(), Error>> {
        loop {
            let way = self.way(cx);
            check(self)?;
            match (way, &mut self.link) {
                (Way::Again, _) => {}
                (Way::Link, Some(connection)) => match link(connection, &mut self.core, cx) {
                    // What failed is the connection: without it the session goes on.
                    Poll::Ready(Err(_)) => {}
                    Poll::Pending if self.seat.slot.has_offer() => {}
                    poll => return poll,
                },
                _ => match away(self) {
                    Poll::Pending if self.seat.slot.has_offer() => {}
                    poll => return poll,
                },
            }
        }
    }
}

impl<T: Transport<Message, In = Message> + Unpin> Sink<Message> for Session<T> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let away = |this: &mut Self| if this.core.out.has_room() { Poll::Ready(Ok(())) } else { Poll::Pending };
        self.poll_sink(cx, Link::poll_ready, away, Self::writable)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.writable()?;
        let this = &mut *self;
        match (&mut this.link, message) {
            (Some(link), message) => link.start_send(&mut this.core, message),
            (None, Message::Close(frame)) => {
                this.core.closing = Some(frame);
                Ok(())
            }
            // A ping to a client that is away has no meaning when it is back.
            (None, message) if message.is_control() => Ok(()),
            (None, _) if !this.core.out.has_room() => {
                Err(Error::full("resume: start_send without room; wait for poll_ready first"))
            }
            (None, message) => {
                this.core.out.push(message);
                Ok(())
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let away = |this: &mut Self| match this.core.out.unacknowledged() {
            (0, _) if this.core.closing.is_none() => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        };
        let check = |this: &Self| this.ended.as_ref().map_or(Ok(()), |ended| Err(ended.sink.clone()));
        self.poll_sink(cx, Link::poll_flush, away, check)
    }

    /// Ends the session: what was accepted is sent, then the word that it is over, then the connection closed. While the
    /// client is away and lacks something, that waits for it.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(ended) = &self.ended {
            // Whoever closes wants it closed, and that it is, but for what the client does not have.
            let owes = self.core.closing.is_some() && self.core.out.unacknowledged().0 > 0 && !self.core.is_over;
            return Poll::Ready(if owes { Err(ended.sink.clone()) } else { Ok(()) });
        }
        self.core.closing.get_or_insert(None);
        let away = |this: &mut Self| {
            if this.core.is_over || this.core.out.unacknowledged().0 == 0 {
                this.finish(None);
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        };
        let check = |this: &Self| match &this.ended {
            Some(ended) if !this.core.is_over => Err(ended.sink.clone()),
            _ => Ok(()),
        };
        let closed = self.poll_sink(cx, Link::poll_close, away, check);
        if closed.is_ready() {
            self.seat.leave();
        }
        closed
    }
}

impl<T: Transport<Message, In = Message> + Unpin> Stream for Session<T> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            this.adopt();
            let Some(link) = &mut this.link else {
                this.halves.reader.register(cx.waker());
                if let Some(message) = this.core.inbox.pop() {
                    return Poll::Ready(Some(Ok(message)));
                }
                if let Some(ended) = &mut this.ended {
                    return Poll::Ready(ended.error.take().map(Err));
                }
                if !this.check_ttl() && !this.seat.slot.has_offer() {
                    return Poll::Pending;
                }
                continue;
            };
            match link.poll_next(&mut this.core, cx) {
                Poll::Ready(Event::Message(message)) if message.is_close() && !this.core.is_over => {
                    // Of this connection alone.
                    link.settle(cx);
                    this.link_ended(End::Cut(None));
                }
                Poll::Ready(Event::Message(message)) => return Poll::Ready(Some(Ok(message))),
                Poll::Ready(Event::End(end)) => this.link_ended(end),
                Poll::Pending if this.seat.slot.has_offer() => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<T> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id())
            .field("is_connected", &self.link.is_some())
            .field("resumptions", &self.resumptions)
            .finish_non_exhaustive()
    }
}
