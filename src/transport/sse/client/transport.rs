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

/// A stream of server-sent events, as an [`SseConnector`](super::SseConnector) opens it: a transport that only receives.
///
/// Its stream gives [`Event`]s; its sink takes [`Infallible`], of which there is none: that nothing can be sent, the compiler says.
/// [`into_messages`](Self::into_messages) makes it a transport whose messages are the data of the events, for codecs and the
/// other layers of messages.
///
/// # Where it waits
///
/// `poll_next` waits for the network. Nothing is read while events are not taken: what waits is one read of the connection, at
/// most 64 KiB, and then the operating system's buffers, which hold the server back. The sink never waits.
///
/// # The end
///
/// An event stream has no last word: when the response ends, the server restarts, or the network is gone. So each end that is not
/// ours is an error that [`is_closed`](Error::is_closed), worth another attempt, with the server's `retry` as its
/// [`retry_after`](Error::retry_after); then comes `None`. An event that the server has not finished is dropped, and will come again
/// if the server goes on from `Last-Event-ID`. An event over a limit is [`is_too_large`](Error::is_too_large), which ends the stream too.
///
/// A connection that is silently gone cannot be told from a server with nothing to say. Where the server sends comments or events at known
/// intervals, [`SseConnector::max_silence`](super::SseConnector::max_silence) finds it out, by an error that is worth another attempt.
///
/// Closing and dropping it close the connection.
///
/// # Cancel safety
///
/// `poll_next` keeps what it has read: dropping a `next()` loses nothing.
pub struct Sse {
    /// `None` after the end.
    down: Option<Box<Downlink>>,
    /// What the memory knows this stream by.
    uri: Uri,
    memory: Memory,
    /// What the memory has been told.
    told: (String, Option<Duration>),
    subprotocol: Option<Box<str>>,
    /// Who waits for an event, for whom a close is one.
    reader: Option<Waker>,
}

impl Sse {
    pub(super) fn new(down: Downlink, uri: Uri, memory: Memory, subprotocol: Option<Box<str>>) -> Self {
        let told = (down.parser().last_event_id().to_owned(), None);
        Self { down: Some(Box::new(down)), uri, memory, told, subprotocol, reader: None }
    }

    /// The subprotocol that the server chose.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The id of the last event, with which the next connection begins; empty where there is none.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.told.0
    }

    /// How long the server wants a client to wait before it connects again, where this stream has said so.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.told.1
    }

    /// A transport whose messages are the data of the events, as text.
    #[must_use]
    pub fn into_messages(self) -> SseMessages {
        SseMessages::new(self)
    }

    /// Tells the memory what is new.
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

    /// Closes the connection, and tells who waits for an event.
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
        // Of a block without data, too.
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
