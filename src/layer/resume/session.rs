mod polls;

use std::{fmt, sync::Arc, task::Context, time::Duration};

use super::{
    SessionId, SessionStore,
    budget::Budget,
    link::{End, Link},
    slot::{Offer, Outcome},
    state::{Core, Mismatch},
    store::Seat,
    wire::{Hello, Own, Welcome},
};
use crate::{CloseCode, CloseFrame, Error, Message, Text, Transport, rt::Timer, transport::wakers::WakerPair};

/// A client's session on the server: a transport that outlives its connections.
///
/// While the client is away, the stream is `Pending`, and the sink takes messages while the replay buffer has room; a flush
/// waits. When the client comes back, what it lacks is sent again, and all goes on. The end, seen by stream and sink:
///
/// | what happened | stream | sink |
/// |---|---|---|
/// | the client ended the session | its close message where it sent one, then `None` | [`is_closed`](Error::is_closed) |
/// | it did not come back within [`SessionStore::ttl`] | an error that [`is_closed`](Error::is_closed) with a source that [`is_timeout`](Error::is_timeout), then `None` | the same |
/// | it was away while the store, or its owner's or key's part of it, was full ([`SessionStore::sessions`], [`SessionStore::sessions_per_key`]) | an error that [`is_closed`](Error::is_closed), then `None` | the same |
/// | connections end again and again without progress ([`SessionStore::max_stalled_connections`]), or a proxy refuses a message (413) | an error that names the last cause, then `None` | [`is_closed`](Error::is_closed) |
/// | it breaks the protocol, or something below loses messages | an error that [`is_protocol`](Error::is_protocol), then `None` | [`is_closed`](Error::is_closed) |
///
/// [`unacknowledged`](Self::unacknowledged) then still tells how many messages may not have arrived.
///
/// A message that a connection refuses ([`is_too_large`](Error::is_too_large), say) leaves the session, which goes on. It is the error of the
/// sink, or, where the message was accepted before, a [rejection](Error::is_rejection) that the stream gives once. A message that came in
/// and is rejected by a layer below is a rejection of the stream, too. It counts as received, and the client makes another connection.
///
/// Pings, pongs and close messages of a connection belong to it: they are passed on, but not sent again, and a close message
/// without the end of the session ends that connection only.
///
/// Dropped, the session is over; its client begins a new one.
pub struct Session<T> {
    link: Option<Link<T>>,
    core: Core,
    halves: Arc<WakerPair>,
    seat: Seat<T>,
    /// The newest connection's.
    epoch: u64,
    resumptions: u64,
    ttl: Duration,
    ack_delay: Duration,
    timer: Timer,
    ended: Option<Ended>,
    /// Is told each later connection.
    adopted: Option<Adopted<T>>,
}

type Adopted<T> = Box<dyn Fn(&T) + Send + Sync>;

/// The end of the session.
struct Ended {
    /// What the stream still has to say.
    error: Option<Error>,
    /// What the sink says.
    sink: Error,
}

impl<T> Session<T> {
    pub(super) fn new(link: T, seat: Seat<T>, halves: Arc<WakerPair>, store: &SessionStore<T>, hello: &Hello) -> Self {
        let config = store.config;
        Self {
            link: Some(Link::new(link, halves.clone(), config.ack_delay, None)),
            core: Core::new(seat.id, config.window, hello.window, Budget::of(store.pool.clone()), config.max_stalled),
            halves,
            seat,
            epoch: hello.epoch,
            resumptions: 0,
            ttl: config.ttl,
            ack_delay: config.ack_delay,
            timer: Timer::new(),
            ended: None,
            adopted: None,
        }
    }

    /// Calls `adopted` with each connection that the client comes back with.
    #[cfg_attr(not(feature = "optimized"), allow(dead_code, reason = "for the stack, which is a feature"))]
    pub(crate) fn on_adopted(&mut self, adopted: impl Fn(&T) + Send + Sync + 'static) {
        self.adopted = Some(Box::new(adopted));
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
            // Taken by a method of the sink: what the stream did not get to, the client sends again.
            End::Cut(_) | End::Rejected(_) => {
                let cause = match end {
                    End::Cut(cause) => cause,
                    End::Rejected(error) if self.core.inbox.is_empty() => {
                        self.core.reject_incoming(error);
                        None
                    }
                    _ => None,
                };
                if let Some(error) = self.core.connection_ended(cause.as_ref()) {
                    return self.finish(Some(error));
                }
                self.link = None;
                self.seat.set_lost(self.core.incoming.received > 0 || self.core.out.sent() > 0);
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

impl<T: Transport<Message, In = Message> + Unpin> Session<T> {
    /// Takes a new connection, if one waits.
    #[inline]
    fn adopt(&mut self) {
        if self.seat.slot.has_offer() {
            self.take_offer();
        }
    }

    #[cold]
    fn take_offer(&mut self) {
        let Some((ticket, offer)) = self.seat.slot.take() else {
            if self.ended.is_none() && self.seat.slot.is_evicted() {
                self.finish(Some(Error::closed(
                    "resume: the session made room for a newer one while its client was away (SessionStore::sessions and \
                     sessions_per_key)",
                )));
            }
            return;
        };
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
        if let Some(adopted) = &self.adopted {
            adopted(&offer.link);
        }
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
        self.seat.set_found();
        // Whichever half did not take it may have something to do.
        self.halves.reader.wake();
        self.halves.writer.wake();
        Outcome::Taken
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
