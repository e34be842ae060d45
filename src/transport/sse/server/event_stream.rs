use std::{
    fmt::{self, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::{HeaderValue, Response, header};
use http_body::{Body, Frame};
use pin_project_lite::pin_project;

use super::super::Event;
use crate::{
    BoxError, Message,
    rt::{Instant, Timer},
    transport::drain::{Drain, Seat},
};

pin_project! {
    /// Server-sent events as the body of an HTTP response: any `Stream` of [`Event`]s, for hyper and for axum.
    ///
    /// [`into_response`](Self::into_response) creates the whole response; with the feature `axum` a handler returns the
    /// stream as it is. [`event_channel`](super::event_channel) creates a stream that other tasks feed.
    ///
    /// ```
    /// use std::convert::Infallible;
    ///
    /// use futures_util::stream;
    /// use http_body_util::BodyExt;
    /// use tower_transport::transport::sse::{Event, EventStream};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_transport::BoxError> {
    /// let ticks = stream::iter([Event::new("1").id("7")?, Event::new("2").id("8")?]).map(Ok::<_, Infallible>);
    /// # use futures_util::StreamExt;
    /// let response = EventStream::new(ticks).into_response();
    /// assert_eq!(response.headers()["content-type"], "text/event-stream");
    ///
    /// let body = response.into_body().collect().await?.to_bytes();
    /// assert_eq!(body, "id: 7\ndata: 1\n\nid: 8\ndata: 2\n\n");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Reconnecting clients
    ///
    /// When the stream ends or a connection is cut, a browser's `EventSource` reconnects after a delay
    /// ([`retry`](Self::retry)) and reports the last event that it has received in [`LastEventId`](super::LastEventId).
    /// Give the events ids, and [`replay`](Self::replay) the later ones. A client that receives 204 (No Content) does
    /// not reconnect.
    ///
    /// # Backpressure
    ///
    /// The body is polled for the next frame only while the client reads, so events that were not polled stay in the
    /// stream. All ready events go into one frame, of about 16 KiB at most (one event may be larger); the body holds
    /// one such frame. The HTTP server detects a client that is gone and drops this body, and the stream with it. A
    /// client that stays connected and never reads holds its connection, with the HTTP server's buffers (hyper: about
    /// 0.5 MiB at most), until TCP gives up. TCP does so only if the client's machine is gone, so limit the connections
    /// per user.
    ///
    /// # Errors
    ///
    /// An error of the stream ends the body once the events before it are with the HTTP server. hyper then cuts the
    /// connection (and drops bytes that the socket did not accept), and the client reconnects as after any cut.
    ///
    /// # Compression
    ///
    /// The body is not compressed, because compression delays events. tower-http's `CompressionLayer` skips this
    /// content type by its `DefaultPredicate`; a custom predicate needs `.and(NotForContentType::SSE)`. `no-transform`
    /// (RFC 9111, section 5.2.2.6) tells proxies the same, and `x-accel-buffering: no` stops nginx from buffering.
    #[must_use = "it is the body of a response"]
    pub struct EventStream<S> {
        #[pin]
        events: S,
        frame: NextFrame,
        keep_alive: KeepAlive,
        retry: Option<Duration>,
        source: Source,
        seat: Option<Arc<Seat>>,
    }
}

/// The state of the stream of events.
///
/// ```text
/// Live ──None──────────────────────────────────────────────► Ended
///   └──Err──► Failing ──the events before it are written──► Failed ──the body's error──► Ended
/// ```
enum Source {
    Live,
    Failing(BoxError),
    Failed(BoxError),
    Ended,
}

impl<S> EventStream<S> {
    /// Creates a body from `events`: a `Stream` of `Result<Event, E>`, with `E: Into<BoxError>`.
    pub fn new(events: S) -> Self {
        Self {
            events,
            frame: NextFrame::default(),
            keep_alive: KeepAlive::default(),
            retry: None,
            source: Source::Live,
            seat: None,
        }
    }

    /// Adds the stream to `drain`, which then can end it: see [`Drain`]. Once the drain has started, the events that
    /// are ready are sent, then a `retry` with the client's [return hint](Drain#return-hints), and the response ends.
    /// Clients keep that `retry`, so set [your own](Self::retry) as well: it is sent first on the next stream. A text
    /// message of a [broadcast](Drain::broadcast) becomes an event.
    ///
    /// The stream exists already when the drain starts: reject new requests by [`Drain::layer`].
    pub fn drain(mut self, drain: &Drain) -> Self {
        self.seat = Some(drain.enter());
        self
    }

    /// Sets the interval after which an idle stream sends a comment, which clients skip. Defaults to 15 seconds; values
    /// below 1 second are raised to it. Comments keep proxies from cutting the connection, and detect clients that are
    /// gone without closing it.
    pub fn keep_alive(mut self, interval: Duration) -> Self {
        self.keep_alive = KeepAlive::every(Some(interval.max(Duration::from_secs(1))));
        self
    }

    /// Disables keep-alive comments. A client that is gone without closing its connection is then detected at the next
    /// event.
    pub fn without_keep_alive(mut self) -> Self {
        self.keep_alive = KeepAlive::every(None);
        self
    }

    /// Sets the client's reconnect delay, sent first, in whole milliseconds. Without it a client uses its own default,
    /// 3 to 5 s in browsers.
    pub fn retry(mut self, time: Duration) -> Self {
        self.retry = Some(time);
        self
    }

    /// Sends these events before all others: those that a reconnecting client has missed.
    ///
    /// Subscribe to new events before looking up the old ones, under one lock or by skipping duplicates; otherwise
    /// events in between are lost. If the missed events are a `Stream` rather than in memory, put it before the new one
    /// with `stored.chain(new)`, of futures.
    ///
    /// ```
    /// use http::HeaderMap;
    /// use tower_transport::{
    ///     QueueConfig,
    ///     transport::sse::{Event, EventReceiver, EventSender, EventStream, LastEventId, Replay, event_channel},
    /// };
    ///
    /// type Prices = EventStream<Replay<std::vec::IntoIter<Event>, EventReceiver>>;
    ///
    /// /// For who holds the lock on both.
    /// fn subscribe(headers: &HeaderMap, history: &[(u64, Event)], new: &mut Vec<EventSender>) -> Prices {
    ///     let (sender, events) = event_channel(QueueConfig::events());
    ///     new.push(sender);
    ///     let seen = LastEventId::of(headers).and_then(|id| id.parse().ok()).unwrap_or(0);
    ///     let missed: Vec<_> = history.iter().filter(|(id, _)| *id > seen).map(|(_, event)| event.clone()).collect();
    ///     events.replay(missed)
    /// }
    /// # let _ = subscribe(&HeaderMap::new(), &[], &mut Vec::new());
    /// ```
    pub fn replay<I: IntoIterator<Item = Event>>(self, missed: I) -> EventStream<Replay<I::IntoIter, S>> {
        let Self { events, frame, keep_alive, retry, source, seat } = self;
        let events = Replay::new(missed.into_iter(), events);
        EventStream { events, frame, keep_alive, retry, source, seat }
    }

    /// Creates the response: 200 with `content-type: text/event-stream`, `cache-control: no-cache, no-transform` and
    /// `x-accel-buffering: no`.
    pub fn into_response(self) -> Response<Self> {
        let mut response = Response::new(self);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }
}

impl<S, E> Body for EventStream<S>
where
    S: Stream<Item = Result<Event, E>>,
    E: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        if let Some(time) = this.retry.take() {
            this.frame.put_retry(time);
        }
        if let Some(seat) = this.seat {
            if seat.is_cut() {
                *this.source = Source::Ended;
                return Poll::Ready(None);
            }
            while let Some(message) = seat.take_notice() {
                if let Message::Text(text) = message {
                    Event::new(text).encode(this.frame.writer());
                }
            }
        }
        while matches!(this.source, Source::Live) && !this.frame.is_full() {
            match this.events.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(event))) => event.encode(this.frame.writer()),
                Poll::Ready(Some(Err(error))) => *this.source = Source::Failing(error.into()),
                Poll::Ready(None) => *this.source = Source::Ended,
                Poll::Pending => {
                    let Some(seat) = this.seat.as_ref().filter(|seat| seat.must_close(cx)) else { break };
                    if let Some(time) = seat.frame().and_then(|frame| frame.return_after()) {
                        this.frame.put_retry(time);
                    }
                    *this.source = Source::Ended;
                }
            }
        }
        // Events go first, so that what came before an error arrives.
        if let Some(bytes) = this.frame.take() {
            this.keep_alive.spoken();
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match std::mem::replace(this.source, Source::Ended) {
            Source::Live => *this.source = Source::Live,
            Source::Failing(error) => {
                // hyper drops unwritten bytes when a body fails, but writes them when a body is pending.
                *this.source = Source::Failed(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Source::Failed(error) => return Poll::Ready(Some(Err(error))),
            Source::Ended => return Poll::Ready(None),
        }
        this.frame.rest();
        this.keep_alive.poll(cx).map(|()| {
            this.keep_alive.spoken();
            Some(Ok(Frame::data(Bytes::from_static(b":\n\n"))))
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Ended) && self.frame.is_empty()
    }
}

impl<S> fmt::Debug for EventStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("keep_alive", &self.keep_alive)
            .field("is_live", &matches!(self.source, Source::Live))
            .finish_non_exhaustive()
    }
}

/// ```
/// use axum::{Router, routing::get};
/// use tower_transport::{QueueConfig, transport::sse::{Event, EventReceiver, EventStream, LastEventId, event_channel}};
///
/// async fn clock(last: Option<LastEventId>) -> EventStream<EventReceiver> {
///     let mut next: u64 = last.and_then(|id| id.parse().ok()).map_or(0, |seen: u64| seen.saturating_add(1));
///     let (sender, events) = event_channel(QueueConfig::events());
///     tokio::spawn(async move {
///         // Ends when the client is gone.
///         while let Ok(event) = Event::new(format!("tick {next}")).id(&next.to_string()) {
///             if sender.send(event).await.is_err() {
///                 return;
///             }
///             next = next.wrapping_add(1);
///             tokio::time::sleep(std::time::Duration::from_secs(1)).await;
///         }
///     });
///     events
/// }
///
/// let app: Router = Router::new().route("/clock", get(clock));
/// ```
#[cfg(feature = "axum")]
impl<S, E> axum_core::response::IntoResponse for EventStream<S>
where
    S: Stream<Item = Result<Event, E>> + Send + 'static,
    E: Into<BoxError>,
{
    fn into_response(self) -> axum_core::response::Response {
        Self::into_response(self).map(axum_core::body::Body::new)
    }
}

/// The size in bytes from which a frame is passed on and the next one begins.
const FULL: usize = 16 * 1024;

/// The buffer size that a mostly idle stream keeps, in bytes.
const SMALL: usize = 1024;

/// The bytes of the next frame: events until no more are ready, or the frame is full. No I/O, no clock.
///
/// The memory is reused once its content is sent; an idle stream keeps a small buffer.
#[derive(Debug, Default)]
struct NextFrame {
    buffer: BytesMut,
    /// The size of the previous frame.
    expected: usize,
    /// Whether the buffer is larger than an idle stream should keep.
    is_large: bool,
}

impl NextFrame {
    fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    fn is_full(&self) -> bool {
        self.buffer.len() >= FULL
    }

    /// Returns the buffer for the next event.
    #[inline]
    fn writer(&mut self) -> &mut BytesMut {
        if self.buffer.is_empty() {
            self.buffer.reserve(self.expected.clamp(SMALL, FULL));
            self.is_large |= self.expected > SMALL;
        }
        &mut self.buffer
    }

    /// Writes a `retry` without an event (WHATWG HTML, section 9.2.6): the client stores it, and the page does not see
    /// it.
    fn put_retry(&mut self, time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        // A `BytesMut` grows, so this does not fail.
        let _ = write!(self.writer(), "retry: {milliseconds}\n\n");
    }

    /// Takes the written bytes, or returns `None` if nothing was written.
    fn take(&mut self) -> Option<Bytes> {
        if self.buffer.is_empty() {
            return None;
        }
        self.expected = self.buffer.len();
        self.is_large |= self.expected > SMALL;
        Some(self.buffer.split().freeze())
    }

    /// Releases memory, because nothing will be written for a while.
    fn rest(&mut self) {
        if std::mem::take(&mut self.is_large) {
            self.buffer = BytesMut::new();
            self.expected = 0;
        }
    }
}

/// The interval of comments on an idle stream: proxies cut streams that are silent for 30 to 60 s.
const INTERVAL: Duration = Duration::from_secs(15);

/// The schedule of keep-alive comments.
#[derive(Debug)]
struct KeepAlive {
    interval: Option<Duration>,
    timer: Timer,
    /// The time since which nothing was sent, or `None` if bytes have just been sent.
    silent_since: Option<Instant>,
}

impl KeepAlive {
    fn every(interval: Option<Duration>) -> Self {
        Self { interval, timer: Timer::new(), silent_since: None }
    }

    /// Records that something was sent.
    #[inline]
    fn spoken(&mut self) {
        self.silent_since = None;
    }

    /// Returns `Ready` when a comment is due. It is polled only if there is nothing to send, so a busy stream neither
    /// reads the clock nor sets the timer. The timer keeps running across sent events, and is set again if it fires too
    /// early.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(interval) = self.interval else { return Poll::Pending };
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        let Some(due) = since.checked_add(interval) else { return Poll::Pending };
        if !self.timer.is_set() {
            self.timer.set_at(due);
        }
        loop {
            ready!(self.timer.poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            self.timer.set_at(due);
        }
    }
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self::every(Some(INTERVAL))
    }
}

pin_project! {
    /// Events that a client has missed, followed by those of the stream. Created by
    /// [`EventStream::replay`](super::EventStream::replay).
    pub struct Replay<I, S> {
        missed: Option<I>,
        #[pin]
        events: S,
    }
}

impl<I, S> Replay<I, S> {
    fn new(missed: I, events: S) -> Self {
        Self { missed: Some(missed), events }
    }
}

impl<I, S, E> Stream for Replay<I, S>
where
    I: Iterator<Item = Event>,
    S: Stream<Item = Result<Event, E>>,
{
    type Item = Result<Event, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        if let Some(missed) = this.missed {
            if let Some(event) = missed.next() {
                return Poll::Ready(Some(Ok(event)));
            }
            *this.missed = None;
        }
        this.events.poll_next(cx)
    }
}

impl<I, S> fmt::Debug for Replay<I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("is_replaying", &self.missed.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(frame: &mut NextFrame, bytes: usize) -> *const u8 {
        frame.writer().extend_from_slice(&vec![7; bytes]);
        let taken = frame.take().unwrap();
        assert_eq!(taken.len(), bytes);
        taken.as_ptr()
    }

    #[test]
    fn the_memory_of_small_frames_is_used_again_once_they_are_sent() {
        let mut frame = NextFrame::default();
        let first = round(&mut frame, 300);
        let again = (0..100).filter(|_| {
            frame.rest();
            round(&mut frame, 300) == first
        });
        assert!(again.count() >= 30, "a new buffer for each frame");
    }

    #[test]
    fn a_stream_that_rests_after_large_frames_keeps_nothing() {
        let mut frame = NextFrame::default();
        for size in [FULL, 40_000, SMALL + 1] {
            round(&mut frame, 100);
            round(&mut frame, size);
            frame.rest();
            assert_eq!(frame.buffer.capacity(), 0, "{size}");
        }
    }

    #[test]
    fn there_is_no_frame_without_bytes() {
        let mut frame = NextFrame::default();
        assert!(frame.take().is_none());
        frame.put_retry(Duration::from_micros(2500));
        assert_eq!(frame.take().unwrap(), "retry: 2\n\n");
        assert!(frame.take().is_none() && frame.is_empty());
    }
}
