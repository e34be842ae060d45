use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use futures_sink::Sink;

use super::{
    SessionId,
    ending::LinkEnd,
    handoff::{Offer, Outcome},
    ledger::{Ledger, Mismatch},
    link::{Link, Received},
    registry::Entry,
    wire::{Own, Welcome},
};
use crate::{
    CloseCode, CloseFrame, Error, Message, Text, Transport,
    rt::{Instant, Timer},
    transport::{signal, wakers::WakerPair},
};

/// A client's session on the server: a transport that outlives its connections.
///
/// While the client is away, the stream is `Pending`, the sink accepts messages while the replay buffer has room, and a
/// flush waits. When the client comes back, it gets what it lacks. The session ends as follows:
///
/// | event | last items of the stream | sink |
/// |---|---|---|
/// | the client ends the session | its close message, if it sent one | [`is_closed`](Error::is_closed) |
/// | it does not come back in time | [`is_closed`](Error::is_closed), with a timeout as its source | the same |
/// | the store needs the room while it is away | an [`is_closed`](Error::is_closed) error | the same |
/// | connections end without progress | an error that names the last cause | [`is_closed`](Error::is_closed) |
/// | a proxy rejects a message (413) | the same | the same |
/// | it breaks the protocol | an [`is_protocol`](Error::is_protocol) error | [`is_closed`](Error::is_closed) |
/// | something below loses messages | the same | the same |
///
/// The bounds are [`SessionStore::ttl`](super::SessionStore::ttl),
/// [`SessionStore::sessions`](super::SessionStore::sessions),
/// [`SessionStore::sessions_per_key`](super::SessionStore::sessions_per_key) and
/// [`SessionStore::max_stalled_connections`](super::SessionStore::max_stalled_connections).
///
/// After the end, [`unacknowledged`](Self::unacknowledged) still returns how many messages may not have arrived.
///
/// A message that a connection rejects ([`is_too_large`](Error::is_too_large), for example) leaves the session, which
/// goes on. The error is returned by the sink. If the message was accepted before, the stream yields it once as a
/// [rejection](Error::is_rejection). An incoming message that a layer below rejects is a rejection of the stream, too.
/// It counts as received, and the client makes another connection.
///
/// Pings, pongs and close messages belong to a connection: they are passed on and not sent again. A close message
/// without the end of the session ends that connection only.
///
/// Layers above the session keep what they learned about its first connection, such as the peer's address in a span of
/// [`trace`](crate::layer).
///
/// Dropping this transport ends the session; its client begins a new one.
pub struct Session<T> {
    link: Option<Link<T>>,
    ledger: Ledger,
    wakers: Arc<WakerPair>,
    entry: Entry<T>,
    /// The number of the newest connection.
    epoch: u64,
    resumptions: u64,
    ttl: Duration,
    ack_delay: Duration,
    timer: Timer,
    ended: Option<Ended>,
    on_adopted: Option<OnAdopted<T>>,
    is_leaving: Option<IsLeaving>,
}

/// A function that tells whether the server drains.
type IsLeaving = Box<dyn Fn() -> bool + Send + Sync>;

/// A function that is called with each later connection.
type OnAdopted<T> = Box<dyn Fn(&T) + Send + Sync>;

/// The end of the session.
struct Ended {
    /// The last item of the stream, if it is an error.
    error: Option<Error>,
    /// The error of the sink.
    sink: Error,
}

/// The connection as a method of the sink finds it.
enum Connection {
    Usable,
    /// The client is away, or its connection is ending.
    Missing,
    /// Something has changed: check again.
    Changed,
}

impl<T> Session<T> {
    pub(super) fn new(
        link: T,
        entry: Entry<T>,
        wakers: Arc<WakerPair>,
        ledger: Ledger,
        epoch: u64,
        (ttl, ack_delay): (Duration, Duration),
    ) -> Self {
        Self {
            link: Some(Link::new(link, wakers.clone(), ack_delay, None)),
            ledger,
            wakers,
            entry,
            epoch,
            resumptions: 0,
            ttl,
            ack_delay,
            timer: Timer::new(),
            ended: None,
            on_adopted: None,
            is_leaving: None,
        }
    }

    /// Calls `on_adopted` with each connection that the client comes back with.
    #[cfg_attr(not(feature = "optimized"), allow(dead_code, reason = "for the stack, which is a feature"))]
    pub(crate) fn on_adopted(&mut self, on_adopted: impl Fn(&T) + Send + Sync + 'static) {
        self.on_adopted = Some(Box::new(on_adopted));
    }

    /// Makes the session give its user no message after its bye once `is_leaving` returns true. The bye then tells the
    /// client exactly which messages it has to send to another server.
    #[cfg_attr(not(feature = "optimized"), allow(dead_code, reason = "for the stack, which is a feature"))]
    pub(crate) fn leaves_if(&mut self, is_leaving: impl Fn() -> bool + Send + Sync + 'static) {
        self.is_leaving = Some(Box::new(is_leaving));
    }

    /// Returns the session's public name.
    #[must_use]
    pub fn id(&self) -> SessionId {
        SessionId(self.ledger.id)
    }

    /// Returns the current connection, if the session has one.
    #[must_use]
    pub fn get_ref(&self) -> Option<&T> {
        self.link.as_ref().map(Link::get_ref)
    }

    /// Returns how often the client came back.
    #[must_use]
    pub fn resumptions(&self) -> u64 {
        self.resumptions
    }

    /// Returns how many messages were accepted that the client has not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.ledger.out.unacknowledged().0
    }

    fn finish(&mut self, error: Option<Error>) {
        let sink = match &error {
            Some(error) if error.is_closed() => error.clone(),
            Some(error) => Error::closed("resume: the session has failed").with_source(error.clone()),
            None => Error::closed("resume: the session is over"),
        };
        self.ended = Some(Ended { error, sink });
        self.link = None;
        // No later connection finds the session, and one that waits for it is free for a new one.
        self.entry.leave();
        self.wakers.wake_both();
    }

    fn link_ended(&mut self, end: LinkEnd) {
        let cause = match end {
            LinkEnd::Broken(error) => return self.finish(Some(error)),
            LinkEnd::Over => return self.finish(None),
            _ if self.ledger.is_over => return self.finish(None),
            LinkEnd::Cut(cause) => cause,
            // Taken by a method of the sink. The client sends again what the stream did not get to.
            LinkEnd::Rejected(error) => {
                if self.ledger.inbox.is_empty() {
                    self.ledger.reject_incoming(error);
                }
                None
            }
        };
        if let Some(error) = self.ledger.connection_ended(cause.as_ref(), Instant::now()) {
            return self.finish(Some(error));
        }
        // The ledger stays: it is the session. It sends on the next connection what the peer lacks.
        self.link = None;
        self.entry.set_lost(self.ledger.incoming.received > 0 || self.ledger.out.sent() > 0);
        self.timer.set(self.ttl);
        // The other half sees it, and waits for the time too.
        self.wakers.wake_both();
    }

    /// Ends a session without a connection if the client's time is over. Returns whether it did.
    fn check_ttl(&mut self) -> bool {
        let both = self.wakers.clone().into();
        if self.timer.poll(&mut Context::from_waker(&both)).is_pending() {
            return false;
        }
        let (ttl, (messages, bytes)) = (self.ttl, self.ledger.out.unacknowledged());
        let late = Error::timeout(format!("resume: no connection of the client within {ttl:?} (SessionStore::ttl)"));
        let error = Error::closed(format!(
            "resume: the client did not come back; {messages} messages ({bytes} bytes) were not acknowledged"
        ));
        self.finish(Some(error.with_source(late)));
        true
    }

    #[inline]
    fn writable(&self) -> Result<(), Error> {
        match &self.ended {
            Some(ended) => Err(ended.sink.clone()),
            None if self.ledger.is_writable() => Ok(()),
            None => Err(Error::closed("resume: the session is closed")),
        }
    }
}

impl<T: Transport<Message, In = Message> + Unpin> Session<T> {
    /// Takes a new connection, if one waits.
    #[inline]
    fn adopt(&mut self) {
        if self.entry.handoff.has_offer() {
            self.take_offer();
        }
    }

    #[cold]
    fn take_offer(&mut self) {
        let Some((ticket, offer)) = self.entry.handoff.take() else {
            if self.ended.is_none() && self.entry.handoff.is_evicted() {
                self.finish(Some(Error::closed(
                    "resume: the session made room for a newer one while its client was away (SessionStore::sessions \
                     and sessions_per_key)",
                )));
            }
            return;
        };
        let outcome = if self.ended.is_some() || self.ledger.is_over {
            Outcome::Free(offer.link)
        } else if offer.epoch <= self.epoch {
            let error = Error::closed("resume: the client has had a newer connection than this one");
            Outcome::Refused(offer.link, error)
        } else {
            match self.ledger.check(&offer.position) {
                Ok(()) => self.resume(offer),
                Err(Mismatch::Impossible(error)) => Outcome::Refused(offer.link, error),
                Err(Mismatch::Diverged(error)) => {
                    self.finish(Some(error));
                    Outcome::Free(offer.link)
                }
            }
        };
        self.entry.handoff.report(ticket, outcome);
    }

    fn resume(&mut self, offer: Offer<T>) -> Outcome<T> {
        if let (Some(older), Some(code)) = (self.link.take(), CloseCode::new(4409)) {
            older.replaced(CloseFrame::new(code, Text::from_static("resume: a newer connection has the session")));
        }
        // Before the welcome is made, which tells the client this end's new position.
        let is_unread = !self.ledger.progress.is_read;
        self.ledger.resume(&offer.position, offer.window, !offer.is_unread);
        if let Some(on_adopted) = &self.on_adopted {
            on_adopted(&offer.link);
        }
        let welcome = Welcome {
            is_resumed: true,
            id: self.ledger.id,
            token: [0; 16],
            window: self.ledger.out.window(),
            position: self.ledger.position(),
            is_unread,
        };
        let greeting = Own::Welcome(welcome).into_message();
        self.link = Some(Link::new(offer.link, self.wakers.clone(), self.ack_delay, Some(greeting)));
        self.epoch = offer.epoch;
        self.resumptions += 1;
        self.timer.clear();
        self.entry.set_found();
        // The half that did not take it may have something to do.
        self.wakers.wake_both();
        Outcome::Taken
    }

    fn connection(&mut self, cx: &Context<'_>) -> Connection {
        // Either half takes a new connection: the handler may only write, or only read.
        self.adopt();
        let Some(link) = &mut self.link else {
            self.wakers.writer.register(cx.waker());
            return if self.ended.is_none() && self.check_ttl() { Connection::Changed } else { Connection::Missing };
        };
        if link.writer.failed.is_some() {
            // Its last words tell why it ended.
            self.wakers.writer.register(cx.waker());
            let _ = link.read_ahead(&mut self.ledger);
        }
        if link.ending.is_parting() {
            self.wakers.writer.register(cx.waker());
            return match link.poll_parted() {
                Poll::Ready(end) => {
                    self.link_ended(end);
                    Connection::Changed
                }
                Poll::Pending => Connection::Missing,
            };
        }
        match (link.ending.take(), &link.writer.failed) {
            (Some(end), _) => {
                self.link_ended(end);
                Connection::Changed
            }
            (None, Some(_)) => Connection::Missing,
            (None, None) => Connection::Usable,
        }
    }

    /// Polls the connection with `connected`, or without one the session with `away`, until the answer is final.
    fn poll_sink(
        &mut self,
        cx: &mut Context<'_>,
        mut connected: impl FnMut(&mut Link<T>, &mut Ledger, &mut Context<'_>) -> Poll<Result<(), Error>>,
        away: impl Fn(&mut Self) -> Poll<Result<(), Error>>,
        check: impl Fn(&Self) -> Result<(), Error>,
    ) -> Poll<Result<(), Error>> {
        loop {
            let connection = match &self.link {
                Some(link) if link.is_usable() && !self.entry.handoff.has_offer() => Connection::Usable,
                _ => self.connection(cx),
            };
            check(self)?;
            match (connection, &mut self.link) {
                (Connection::Changed, _) => {}
                (Connection::Usable, Some(link)) => match connected(link, &mut self.ledger, cx) {
                    // The connection failed. The session goes on without it, and the next round tells how.
                    Poll::Ready(Err(_)) => {}
                    Poll::Pending if self.entry.handoff.has_offer() => {}
                    poll => return poll,
                },
                _ => match away(self) {
                    Poll::Pending if self.entry.handoff.has_offer() => {}
                    Poll::Pending => {
                        // The ttl limits this wait, and the parting of a connection that ends has a limit too.
                        signal::awaits_client();
                        return Poll::Pending;
                    }
                    poll => return poll,
                },
            }
        }
    }
}

impl<T: Transport<Message, In = Message> + Unpin> Sink<Message> for Session<T> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        // The common case. A newer connection goes first: room in the older one is of no use.
        if let Some(link) = &mut this.link
            && !this.entry.handoff.has_offer()
            && this.ledger.is_writable()
            && let Some(Poll::Ready(Ok(()))) = link.poll_direct_room(&mut this.ledger, cx)
        {
            return Poll::Ready(Ok(()));
        }
        let away = |this: &mut Self| if this.ledger.out.has_room() { Poll::Ready(Ok(())) } else { Poll::Pending };
        self.poll_sink(cx, Link::poll_ready, away, Self::writable)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.writable()?;
        let this = &mut *self;
        match (&mut this.link, message) {
            (Some(link), message) => link.writer.start_send(&mut this.ledger, message),
            (None, Message::Close(frame)) => {
                this.ledger.closing = Some(frame);
                Ok(())
            }
            // A ping to a client that is away means nothing when it is back.
            (None, message) if message.is_control() => Ok(()),
            (None, _) if !this.ledger.out.has_room() => {
                Err(Error::full("resume: start_send without room; wait for poll_ready first"))
            }
            (None, message) => {
                this.ledger.out.push(message);
                Ok(())
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let away = |this: &mut Self| match this.ledger.out.unacknowledged() {
            (0, _) if this.ledger.closing.is_none() => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        };
        let check = |this: &Self| this.ended.as_ref().map_or(Ok(()), |ended| Err(ended.sink.clone()));
        self.poll_sink(cx, Link::poll_flush, away, check)
    }

    /// Ends the session: sends what was accepted and the bye, then closes the connection. While the client is away and
    /// lacks messages, waits for it, at most [`ttl`](super::SessionStore::ttl).
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(ended) = &self.ended {
            // The caller wants the session closed, and it is, except for messages that the client lacks.
            let owes = self.ledger.closing.is_some() && self.unacknowledged() > 0 && !self.ledger.is_over;
            return Poll::Ready(if owes { Err(ended.sink.clone()) } else { Ok(()) });
        }
        self.ledger.closing.get_or_insert_with(signal::close_frame);
        let away = |this: &mut Self| {
            if this.ledger.is_over || this.unacknowledged() == 0 {
                this.finish(None);
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        };
        let check = |this: &Self| match &this.ended {
            Some(ended) if !this.ledger.is_over => Err(ended.sink.clone()),
            _ => Ok(()),
        };
        let closed = self.poll_sink(cx, Link::poll_close, away, check);
        if closed.is_ready() {
            self.entry.leave();
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
                // Before the looks below: an offer, or the end by the other half, may come in between.
                this.wakers.reader.register(cx.waker());
                if let Some(error) = this.ledger.take_refusal() {
                    return Poll::Ready(Some(Err(error)));
                }
                if let Some(message) = this.ledger.take_read() {
                    return Poll::Ready(Some(Ok(message)));
                }
                if let Some(ended) = &mut this.ended {
                    return Poll::Ready(ended.error.take().map(Err));
                }
                if !this.check_ttl() && !this.entry.handoff.has_offer() {
                    return Poll::Pending;
                }
                continue;
            };
            if link.writer.said_bye && this.is_leaving.as_ref().is_some_and(|is_leaving| is_leaving()) {
                link.drop_rest(&mut this.ledger);
            }
            match link.poll_next(&mut this.ledger, cx) {
                Poll::Ready(Received::Message(message)) if message.is_close() && !this.ledger.is_over => {
                    // It ends this connection only.
                    link.ending.part_from_peer();
                }
                Poll::Ready(Received::Rejected(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Received::Message(message)) => return Poll::Ready(Some(Ok(message))),
                Poll::Ready(Received::End(end)) => this.link_ended(end),
                Poll::Pending if this.entry.handoff.has_offer() => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

debug_fields!([T] Session<T>, |this| { id: this.id(), is_connected: this.link.is_some(), resumptions });
