use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use futures_sink::Sink;
use http::Uri;

use crate::{
    Error, Limits, Message,
    transport::{
        burst::Burst,
        idle::Idle,
        sse::{Event, downlink::Downlink},
        wakers::WakerSlot,
    },
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
/// error that is worth a retry. [`Limits::idle`] is the same without the server's comments.
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
    reader: WakerSlot,
    burst: Burst,
    idle: Idle,
}

impl Sse {
    pub(super) fn new(down: Downlink, uri: Uri, memory: Memory, limits: &Limits) -> Self {
        let told = (down.parser().last_event_id().to_owned(), None);
        let (subprotocol, reader, burst) = Default::default();
        let idle = Idle::new(limits.idle);
        Self { down: Some(Box::new(down)), uri, memory, told, subprotocol, reader, burst, idle }
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn with_subprotocol(mut self, subprotocol: Option<Box<str>>) -> Self {
        self.subprotocol = subprotocol;
        self
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
        self.reader = WakerSlot::default();
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
    fn hang_up(&mut self) {
        self.down = None;
        self.reader.wake();
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
        if this.burst.is_over(cx) {
            return Poll::Pending;
        }
        let mark = this.idle.mark();
        let mut polled = down.poll_event(cx);
        this.idle.record(mark);
        if polled.is_pending() {
            polled = this.idle.poll(cx).map(Err);
        }
        this.burst.record(polled.is_ready());
        // Also for a block without data.
        this.remember();
        if polled.is_pending() {
            this.reader.register(cx);
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

/// The data of server-sent events as text messages, without ids and types. Created by [`Sse::into_messages`].
///
/// The layers of this crate, such as a codec or a limit, expect messages both ways. For their sake it has a sink of
/// messages, which rejects each one with an error for which [`is_config`](Error::is_config) is true. A close message is
/// the exception: it closes the connection. Only the type of [`Sse`] expresses that nothing can be sent.
///
/// Use it between a connector and a codec:
///
/// ```no_run
/// # #[cfg(all(feature = "json", feature = "reconnect"))]
/// # async fn read() -> Result<(), tower_transport::Error> {
/// use futures_util::StreamExt;
/// use tower::ServiceBuilder;
/// use tower_transport::{
///     ServiceBuilderExt, codec::JsonCodec, layer::reconnect::Backoff,
///     transport::sse::{Sse, SseConnector},
/// };
///
/// let prices = ServiceBuilder::new()
///     .codec(JsonCodec::<serde_json::Value>::new())
///     .reconnect("https://example.com/prices", Backoff::exponential())
///     .map_response(|response: http::Response<Sse>| response.map(Sse::into_messages))
///     .service(SseConnector::new());
/// let mut prices = Box::pin(prices);
/// while let Some(price) = prices.next().await {
///     println!("{}", price?);
/// }
/// # Ok(()) }
/// ```
///
/// Its backpressure, its end and its cancel safety are those of [`Sse`].
#[derive(Debug)]
pub struct SseMessages {
    events: Sse,
}

impl SseMessages {
    pub(super) fn new(events: Sse) -> Self {
        Self { events }
    }

    accessors! {
        events: Sse, "stream of events",
        get_mut: "Events that are read there are no messages here.",
        into_inner: ".",
    }
}

impl Stream for SseMessages {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.events).poll_next(cx).map_ok(|event| Message::Text(event.into_data()))
    }
}

impl Sink<Message> for SseMessages {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.events).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        if message.is_close() {
            self.events.hang_up();
            return Ok(());
        }
        Err(Error::config("an event stream is receive-only; use SseDuplexConnector to send messages"))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // No accepted message ever waits.
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.events).poll_close(cx)
    }
}

/// The state shared by a connector, its clones and their streams.
#[derive(Clone, Default)]
pub(super) struct Memory(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    /// The URI that the state belongs to: another server's ids mean nothing to this one.
    uri: Option<Uri>,
    last_event_id: String,
    retry: Option<Duration>,
}

impl Memory {
    /// Begins a stream of `uri`. Returns the id to continue from, which is `first` if nothing is known about this URI.
    pub(super) fn begin(&self, uri: &Uri, first: &str) -> String {
        // Dropped after unlocking: the memory of a URI may be the user's (`Bytes::from_owner`).
        let mut before = None;
        let mut kept = self.lock();
        if kept.uri.as_ref() != Some(uri) {
            let new = Kept { uri: Some(uri.clone()), last_event_id: first.to_owned(), retry: None };
            before = Some(std::mem::replace(&mut *kept, new));
        }
        let id = kept.last_event_id.clone();
        drop(kept);
        drop(before);
        id
    }

    /// Stores the state of a stream of `uri`. Has no effect if a stream of another URI has begun meanwhile.
    pub(super) fn keep(&self, uri: &Uri, last_event_id: &str, retry: Option<Duration>) {
        let mut kept = self.lock();
        if kept.uri.as_ref() == Some(uri) {
            if kept.last_event_id != last_event_id {
                kept.last_event_id.clear();
                kept.last_event_id.push_str(last_event_id);
            }
            kept.retry = retry.or(kept.retry);
        }
    }

    pub(super) fn last_event_id(&self) -> String {
        self.lock().last_event_id.clone()
    }

    pub(super) fn retry(&self) -> Option<Duration> {
        self.lock().retry
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // No operation leaves the state half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use bytes::Bytes;
    use http::Uri;

    use super::Memory;

    /// The memory of a URI, which asks as it is dropped.
    struct Owner(Memory);

    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            b"http://h/a"
        }
    }

    impl Drop for Owner {
        fn drop(&mut self) {
            self.0.retry();
        }
    }

    #[test]
    fn the_memory_of_a_uri_is_not_dropped_under_the_lock() {
        let (done, is_done) = mpsc::channel();
        std::thread::spawn(move || {
            let memory = Memory::default();
            let uri = Uri::from_maybe_shared(Bytes::from_owner(Owner(memory.clone()))).unwrap();
            memory.begin(&uri, "");
            drop(uri);
            memory.begin(&Uri::from_static("http://h/b"), "");
            let _ = done.send(());
        });
        is_done.recv_timeout(Duration::from_secs(20)).expect("a deadlock");
    }

    #[test]
    fn what_belongs_to_one_url_is_nothing_to_another() {
        let (a, b) = (Uri::from_static("http://h/a"), Uri::from_static("http://h/b"));
        let memory = Memory::default();
        assert_eq!(memory.begin(&a, "first"), "first");
        memory.keep(&a, "7", Some(Duration::from_secs(1)));
        memory.keep(&a, "8", None);
        assert_eq!((memory.begin(&a, "first"), memory.retry()), ("8".to_owned(), Some(Duration::from_secs(1))));
        assert_eq!((memory.begin(&b, ""), memory.retry()), (String::new(), None));
        memory.keep(&a, "9", None);
        assert_eq!(memory.last_event_id(), "", "a stream that another one has replaced");
    }
}
