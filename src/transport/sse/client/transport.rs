use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_core::Stream;
use futures_sink::Sink;
use http::Uri;

use super::{SseMessages, memory::Memory};
use crate::{
    Error,
    transport::sse::{Event, downlink::Downlink},
};

/// A stream of server-sent events, as an [`SseConnector`](super::SseConnector) opens it: a receive-only transport.
///
/// Its stream yields [`Event`]s. Its sink takes [`Infallible`], which has no values, so the compiler ensures that
/// nothing is sent. [`into_messages`](Self::into_messages) turns it into a transport whose messages are the data of the
/// events, for codecs and other message layers.
///
/// # Backpressure
///
/// `poll_next` waits for the network. Nothing is read while events are not taken: at most one read of the connection
/// waits, 64 KiB, and then the operating system's buffers, which slow the server down. The sink never waits.
///
/// # The end
///
/// An event stream has no closing message. When the response ends, the server may be restarting, or the network may be
/// gone. Every end that this side did not request is therefore an error for which [`is_closed`](Error::is_closed) is
/// true. It is worth a retry, and its [`retry_after`](Error::retry_after) is the server's `retry`. After the error
/// comes `None`. An unfinished event is dropped and arrives again if the server continues from `Last-Event-ID`. An
/// event over a limit is an error for which [`is_too_large`](Error::is_too_large) is true, which also ends the stream.
///
/// A connection that is silently lost cannot be told from an idle server. If the server sends comments or events at
/// known intervals, [`SseConnector::max_silence`](super::SseConnector::max_silence) detects the loss and returns an
/// error that is worth a retry.
///
/// Closing or dropping it closes the connection.
///
/// # Cancel safety
///
/// `poll_next` keeps the bytes that it has read: dropping a `next()` loses nothing.
pub struct Sse {
    /// The response, or `None` after the end.
    down: Option<Box<Downlink>>,
    /// The URI under which the shared state knows this stream.
    uri: Uri,
    memory: Memory,
    /// The values last stored in the shared state.
    told: (String, Option<Duration>),
    subprotocol: Option<Box<str>>,
    /// The task that waits for an event, which a close also wakes.
    reader: Option<Waker>,
}

impl Sse {
    pub(super) fn new(down: Downlink, uri: Uri, memory: Memory, subprotocol: Option<Box<str>>) -> Self {
        let told = (down.parser().last_event_id().to_owned(), None);
        Self { down: Some(Box::new(down)), uri, memory, told, subprotocol, reader: None }
    }

    /// Returns the subprotocol that the server chose.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Returns the id of the last event, with which the next connection begins. It is empty if there is no id.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.told.0
    }

    /// Returns the reconnect delay that the server asked for on this stream, if any.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.told.1
    }

    /// Returns a transport whose messages are the data of the events, as text.
    #[must_use]
    pub fn into_messages(self) -> SseMessages {
        SseMessages::new(self)
    }

    /// Stores new values in the shared state.
    fn remember(&mut self) {
        let Some(down) = &self.down else { return };
        let (id, retry) = (down.parser().last_event_id(), down.parser().retry());
        if self.told.0 != id || self.told.1 != retry {
            self.told.0.clear();
            self.told.0.push_str(id);
            self.told.1 = retry;
            self.memory.keep(&self.uri, id, retry);
        }
    }

    fn end(&mut self, error: Error) -> Error {
        self.down = None;
        self.reader = None;
        let error = match error.is_too_large() {
            true => error.context("an incoming event is over a limit of the SseConnector (Limits::message, max_line)"),
            false => error,
        };
        match self.memory.retry() {
            Some(retry) => error.with_retry_after(retry),
            None => error,
        }
    }

    /// Closes the connection and wakes the task that waits for an event.
    pub(super) fn hang_up(&mut self) {
        self.down = None;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn closed(&self) -> Result<(), Error> {
        match self.down {
            Some(_) => Ok(()),
            None => Err(Error::closed("the event stream has ended")),
        }
    }
}

impl Stream for Sse {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(down) = &mut this.down else { return Poll::Ready(None) };
        let polled = down.poll_event(cx);
        // Also for a block without data.
        this.remember();
        if polled.is_pending() && !this.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            this.reader = Some(cx.waker().clone());
        }
        Poll::Ready(Some(match ready!(polled) {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(this.end(Error::closed("the server ended the event stream"))),
            Err(error) => Err(this.end(error)),
        }))
    }
}

impl Sink<Infallible> for Sse {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(self.closed())
    }

    fn start_send(self: Pin<&mut Self>, never: Infallible) -> Result<(), Error> {
        match never {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(self.closed())
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.hang_up();
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Sse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sse")
            .field("is_open", &self.down.is_some())
            .field("retry", &self.told.1)
            .finish_non_exhaustive()
    }
}
