use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use futures_sink::Sink;

use super::{
    home::{Home, Lease, superseded},
    link::{End, Event, Link},
    state::Core,
};
use crate::{Error, Message, Transport, transport::wakers::WakerPair};

/// One connection of a client's session: what the connector [`Resume`](super::Resume) gives.
///
/// It ends with its connection, as any transport; the session goes on with the next one. What this transport accepted
/// (`start_send` said `Ok`) is the session's to deliver: do not send it again by yourself.
///
/// Dropped, closed or failed, it gives the session back to its connector. When a newer connection of the same session is
/// opened, it fails with an error that [`is_closed`](Error::is_closed) the next time that it is polled.
pub struct ResumedTransport<T> {
    link: Link<T>,
    halves: Arc<WakerPair>,
    lease: Lease,
    /// Why the sink fails, once the session is gone from here.
    failed: Option<Error>,
    stream_ended: bool,
}

impl<T> ResumedTransport<T> {
    pub(super) fn new(
        link: T,
        halves: Arc<WakerPair>,
        core: Core,
        home: Arc<Home>,
        epoch: u64,
        ack_delay: Duration,
    ) -> Self {
        Self {
            link: Link::new(link, halves.clone(), ack_delay, None),
            halves,
            lease: Lease { core: Some(core), home, epoch },
            failed: None,
            stream_ended: false,
        }
    }

    /// The inner transport.
    #[must_use]
    pub fn get_ref(&self) -> &T {
        self.link.get_ref()
    }

    /// The inner transport. What is sent or received there bypasses the session, and makes it unusable.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        self.link.get_mut()
    }

    fn closed(&self) -> Error {
        self.failed.clone().unwrap_or_else(|| Error::closed("resume: the connection has ended"))
    }

    fn end(&mut self, is_broken: bool, error: Option<&Error>) {
        self.lease.end(is_broken);
        if self.failed.is_none() {
            self.failed = Some(match error {
                Some(error) if error.is_closed() => error.clone(),
                Some(error) => Error::closed("resume: the connection has failed").with_source(error.clone()),
                None => Error::closed("resume: the connection has ended"),
            });
        }
        self.halves.writer.wake();
    }

    /// Whether a newer connection has taken over; if so, the session goes home.
    #[inline]
    fn is_superseded(&mut self) -> bool {
        let is_newest = self.lease.home.is_newest(self.lease.epoch);
        if !is_newest {
            self.yield_session();
        }
        !is_newest
    }

    #[cold]
    fn yield_session(&mut self) {
        if self.lease.core.is_some() {
            self.end(false, Some(&superseded()));
            self.halves.reader.wake();
        }
    }

    /// The session, for the sink.
    fn writable(&mut self) -> Result<(&mut Link<T>, &mut Core), Error> {
        if self.is_superseded() {
            return Err(self.closed());
        }
        match &mut self.lease.core {
            Some(core) if core.closing.is_none() && !core.is_over => Ok((&mut self.link, core)),
            Some(_) => Err(Error::closed("resume: the session is closed")),
            None => Err(self.failed.clone().unwrap_or_else(superseded)),
        }
    }

    /// The sink's error: the connection's, unless the session is given up for it.
    #[cold]
    fn poll_failed(&mut self, error: Error, cx: &Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Transport<Message, In = Message> + Unpin,
    {
        let Some(core) = &mut self.lease.core else { return Poll::Ready(Err(error)) };
        // A peer that closes for a message may close the socket while this end still writes. Its close frame is read here, since
        // nobody may be reading, and without it the message would be sent again on connection after connection.
        if error.status().is_none() {
            ready!(self.link.poll_last_words(core, cx));
        }
        // Messages before that frame are the user's: the stream gives them and then the frame.
        let error = if core.inbox.has_data() { error } else { self.link.with_peer_close(error) };
        // Only a refusal ends the connection here: the stream may still have progress to report.
        if error.status().is_none() && error.close_frame().is_none() {
            return Poll::Ready(Err(error));
        }
        let Some(given_up) = core.connection_ended(Some(&error)) else { return Poll::Ready(Err(error)) };
        self.end(true, Some(&given_up));
        self.halves.reader.wake();
        Poll::Ready(Err(given_up))
    }

    fn show(&self) {
        if let Some(core) = &self.lease.core {
            self.lease.home.show(core);
        }
    }
}

impl<T: Transport<Message, In = Message> + Unpin> Sink<Message> for ResumedTransport<T> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        let (link, core) = this.writable()?;
        let before = core.out.unacknowledged();
        let room = link.poll_ready(core, cx);
        if core.out.unacknowledged() != before {
            // It had to wait for acknowledgements, and read them.
            this.show();
        }
        if room.is_pending() && this.is_superseded() {
            return Poll::Ready(Err(this.closed()));
        }
        match room {
            Poll::Ready(Err(error)) => this.poll_failed(error, cx),
            room => room,
        }
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let (link, core) = self.writable()?;
        let sent = link.start_send(core, message);
        self.show();
        sent
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        if this.is_superseded() {
            return Poll::Ready(Err(this.closed()));
        }
        let Some(core) = &mut this.lease.core else { return Poll::Ready(Err(this.closed())) };
        let flushed = this.link.poll_flush(core, cx);
        if flushed.is_pending() && this.is_superseded() {
            return Poll::Ready(Err(this.closed()));
        }
        match flushed {
            Poll::Ready(Err(error)) => this.poll_failed(error, cx),
            flushed => flushed,
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        if this.is_superseded() {
            return Poll::Ready(Ok(()));
        }
        match &mut this.lease.core {
            Some(core) => this.link.poll_close(core, cx),
            // The connection is closed or cut; the session goes on with the next, or is over.
            None => this.link.poll_close_only(cx),
        }
    }
}

impl<T: Transport<Message, In = Message> + Unpin> Stream for ResumedTransport<T> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.stream_ended {
            return Poll::Ready(None);
        }
        loop {
            if this.is_superseded() {
                this.stream_ended = true;
                return Poll::Ready(Some(Err(this.closed())));
            }
            let Some(core) = &mut this.lease.core else {
                this.stream_ended = true;
                return Poll::Ready(None);
            };
            let before = core.out.unacknowledged().0;
            let event = this.link.poll_next(core, cx);
            if core.out.unacknowledged().0 != before {
                this.lease.home.show(core);
            }
            let end = match event {
                Poll::Ready(Event::Message(message)) => return Poll::Ready(Some(Ok(message))),
                Poll::Ready(Event::Rejected(error)) => {
                    this.show();
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(Event::End(end)) => end,
                Poll::Pending if this.is_superseded() => continue,
                Poll::Pending => return Poll::Pending,
            };
            this.stream_ended = true;
            let given_up = match &end {
                End::Cut(cause) if !core.is_over => core.connection_ended(cause.as_ref()),
                _ => None,
            };
            let error = match (given_up, end) {
                (Some(error), _) | (None, End::Broken(error)) => Some((true, error)),
                // The peer's close message was given to the user, and says all.
                (None, End::Over | End::Cut(None)) => None,
                (None, End::Cut(Some(_))) if this.link.heard_close() => None,
                (None, End::Cut(Some(error)) | End::Rejected(error)) => Some((false, error)),
            };
            this.end(matches!(error, Some((true, _))), error.as_ref().map(|(_, error)| error));
            return Poll::Ready(error.map(|(_, error)| Err(error)));
        }
    }
}

impl<T> fmt::Debug for ResumedTransport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.lease.core.as_ref().map(|core| super::SessionId(core.id));
        f.debug_struct("ResumedTransport").field("session", &id).finish_non_exhaustive()
    }
}
