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
    SessionId, Verdict,
    cell::{Lease, SessionCell, superseded},
    ending::LinkEnd,
    ledger::Ledger,
    link::{Link, Received},
};
use crate::{
    Error, Message, Transport,
    rt::Instant,
    transport::{OutlivesConnection, Resumed, SessionLoss, Unacknowledged, wakers::WakerPair},
};

/// One connection of a client's session: the transport that a [`Resume`](super::Resume) connector returns.
///
/// It ends with its connection, as any transport does; the session goes on with the next one. A message that this
/// transport accepted (`start_send` returned `Ok`) is delivered by the session: do not send it again.
///
/// Dropping or closing the transport, or its failure, returns the session to the connector. When a newer connection of
/// the same session is opened, this one fails with an error for which [`is_closed`](Error::is_closed) is true the next
/// time it is polled.
pub struct ResumedTransport<T> {
    link: Link<T>,
    wakers: Arc<WakerPair>,
    lease: Lease,
    verdict: Verdict,
    /// The error of the sink after the session was returned.
    failed: Option<Error>,
    stream_ended: bool,
    is_used: bool,
    /// Whether messages of an earlier session wait to be sent in this one.
    carries: bool,
}

impl<T> ResumedTransport<T> {
    pub(super) fn new(
        link: T,
        wakers: Arc<WakerPair>,
        ledger: Ledger,
        cell: Arc<SessionCell>,
        (epoch, verdict): (u64, Verdict),
        ack_delay: Duration,
    ) -> Self {
        Self {
            carries: cell.carries(),
            verdict,
            link: Link::new(link, wakers.clone(), ack_delay, None),
            wakers,
            lease: Lease { ledger: Some(ledger), cell, epoch },
            failed: None,
            stream_ended: false,
            is_used: false,
        }
    }

    /// Returns the inner transport.
    #[must_use]
    pub fn get_ref(&self) -> &T {
        self.link.get_ref()
    }

    /// Returns the inner transport. Messages that are sent or received there bypass the session and make it unusable.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        self.link.get_mut()
    }

    /// Returns the inner transport, and the session to the connector. The session keeps the messages that the peer has
    /// not acknowledged for its next connection. Close the inner transport, so that the peer does not wait for them on
    /// this one.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.link.into_inner()
    }

    /// Returns what became of the session when this connection was opened.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Inserts the [verdict](Self::verdict) into the extensions of a connector's response, together with what the
    /// reconnect layer has to know: [`OutlivesConnection`], [`Unacknowledged`], [`Resumed`] if the session goes on, and
    /// [`SessionLoss`] if messages are lost. [`Resume`](super::Resume) does this for each connection.
    pub fn insert_into(&self, extensions: &mut http::Extensions) {
        extensions.insert(self.verdict);
        extensions.insert(OutlivesConnection);
        extensions.insert(Unacknowledged::of(self.lease.cell.clone()));
        match self.verdict {
            Verdict::Resumed { .. } => {
                extensions.insert(Resumed);
            }
            Verdict::Fresh { lost } if lost > 0 => {
                extensions.insert(SessionLoss(lost));
            }
            // Nothing of the earlier session is lost in either direction: it goes on with another server.
            Verdict::Fresh { .. } if self.carries => {
                extensions.insert(Resumed);
            }
            Verdict::New | Verdict::Fresh { .. } => {}
        }
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
        self.wakers.wake_both();
    }

    /// Whether a newer connection has taken over. If so, the session is returned.
    #[inline]
    fn is_superseded(&mut self) -> bool {
        if !self.is_used {
            self.is_used = true;
            self.lease.cell.used(self.verdict);
        }
        if self.carries
            && let Some(ledger) = &mut self.lease.ledger
        {
            self.carries = !self.lease.cell.take_carried(ledger);
        }
        let is_newest = self.lease.cell.is_newest(self.lease.epoch);
        if !is_newest && self.lease.ledger.is_some() {
            self.end(false, Some(&superseded()));
        }
        !is_newest
    }

    /// Returns the session, for the sink.
    #[inline]
    fn writable(&mut self) -> Result<(&mut Link<T>, &mut Ledger), Error> {
        match &mut self.lease.ledger {
            Some(ledger) if ledger.is_writable() => Ok((&mut self.link, ledger)),
            Some(_) => Err(Error::closed("resume: the session is closed")),
            None => Err(self.failed.clone().unwrap_or_else(superseded)),
        }
    }

    /// Shows the counts of the ledger to the handles.
    #[inline]
    fn show(&self) {
        if let Some(ledger) = &self.lease.ledger {
            self.lease.cell.show(ledger);
        }
    }
}

impl<T: Transport<Message, In = Message> + Unpin> ResumedTransport<T> {
    /// Returns what the sink says after `polled`: an error of the connection, or the one for which the session is given
    /// up.
    fn settle(&mut self, polled: Poll<Result<(), Error>>, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        let error = match polled {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Pending if self.is_superseded() => return Poll::Ready(Err(self.closed())),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => error,
        };
        let Some(ledger) = &mut self.lease.ledger else { return Poll::Ready(Err(error)) };
        // A peer that closes because of a message may close the socket while this end still writes. Its close frame is
        // read here, since nobody may be reading. Without it the message would be sent again on each new connection.
        if error.status().is_none() {
            ready!(self.link.poll_last_words(ledger, cx));
        }
        // Messages before that frame are the user's: the stream yields them first, and then the frame.
        let error = if ledger.inbox.has_data() { error } else { self.link.ending.with_peer_close(error) };
        // Only a refusal ends the connection here. Otherwise the stream may still report progress.
        if error.status().is_none() && error.close_frame().is_none() {
            return Poll::Ready(Err(error));
        }
        let Some(given_up) = ledger.connection_ended(Some(&error), Instant::now()) else {
            return Poll::Ready(Err(error));
        };
        self.end(true, Some(&given_up));
        Poll::Ready(Err(given_up))
    }
}

impl<T: Transport<Message, In = Message> + Unpin> Sink<Message> for ResumedTransport<T> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        if this.is_superseded() {
            return Poll::Ready(Err(this.closed()));
        }
        let (link, ledger) = this.writable()?;
        match link.poll_direct_room(ledger, cx) {
            Some(Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
            Some(polled) => return this.settle(polled, cx),
            None => {}
        }
        let ready = link.poll_ready(ledger, cx);
        // It may have had to wait for acknowledgements, and read them.
        this.show();
        this.settle(ready, cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        // If a newer connection has taken over since `poll_ready`, the message goes with the session to it.
        let was_promised = self.link.writer.has_promised();
        if let Some(ledger) = &mut self.lease.ledger
            && was_promised
            && ledger.is_over
            && ledger.closing.is_none()
            && message.is_data()
        {
            // The peer has ended the session since the promise. The message goes to the next one if the peer drains,
            // and is counted as lost otherwise.
            ledger.out.push(message);
            self.show();
            return Ok(());
        }
        let (link, ledger) = self.writable()?;
        let sent = link.writer.start_send(ledger, message);
        self.show();
        sent
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        if this.is_superseded() {
            return Poll::Ready(Err(this.closed()));
        }
        let Some(ledger) = &mut this.lease.ledger else { return Poll::Ready(Err(this.closed())) };
        match this.link.poll_flush(ledger, cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            flushed => this.settle(flushed, cx),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        if this.is_superseded() {
            return Poll::Ready(Ok(()));
        }
        match &mut this.lease.ledger {
            Some(ledger) => this.link.poll_close(ledger, cx),
            // The connection is closed or cut. The session goes on with the next one, or is over.
            // The session has gone elsewhere.
            None => Pin::new(this.link.get_mut()).poll_close(cx).map_err(Into::into),
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
            let Some(ledger) = &mut this.lease.ledger else {
                this.stream_ended = true;
                return Poll::Ready(None);
            };
            let before = ledger.out.unacknowledged().0;
            let received = this.link.poll_next(ledger, cx);
            if ledger.out.unacknowledged().0 != before {
                this.lease.cell.show(ledger);
            }
            let end = match received {
                Poll::Ready(Received::Message(message)) => return Poll::Ready(Some(Ok(message))),
                Poll::Ready(Received::Rejected(error)) => {
                    this.show();
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(Received::End(end)) => end,
                Poll::Pending if this.is_superseded() => continue,
                Poll::Pending => return Poll::Pending,
            };
            this.stream_ended = true;
            match &end {
                // Both ends know that the session is over.
                LinkEnd::Over => ledger.is_closed = true,
                // The sink was closed, but the peer has not answered.
                LinkEnd::Cut(Some(_)) => ledger.is_closed = false,
                _ => {}
            }
            let given_up = match &end {
                LinkEnd::Cut(cause) if !ledger.is_over => ledger.connection_ended(cause.as_ref(), Instant::now()),
                _ => None,
            };
            let (is_broken, error) = match (given_up, end) {
                (Some(error), _) | (None, LinkEnd::Broken(error)) => (true, Some(error)),
                (None, LinkEnd::Over | LinkEnd::Cut(None)) => (false, None),
                // The user got the peer's close message, which says everything.
                (None, LinkEnd::Cut(Some(_))) if this.link.ending.gives_close() => (false, None),
                (None, LinkEnd::Cut(Some(error)) | LinkEnd::Rejected(error)) => (false, Some(error)),
            };
            this.end(is_broken, error.as_ref());
            return Poll::Ready(error.map(Err));
        }
    }
}

impl<T> fmt::Debug for ResumedTransport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.lease.ledger.as_ref().map(|ledger| SessionId(ledger.id));
        f.debug_struct("ResumedTransport").field("session", &id).finish_non_exhaustive()
    }
}
