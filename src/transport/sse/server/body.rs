use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderValue, Response, header};
use http_body::{Body, Frame};
use pin_project_lite::pin_project;

use super::{super::Event, frame, keep_alive::KeepAlive, replay::Replay};
use crate::BoxError;

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
        frame: frame::Frame,
        keep_alive: KeepAlive,
        retry: Option<Duration>,
        failure: Option<BoxError>,
        has_ended: bool,
        has_yielded: bool,
    }
}

impl<S> EventStream<S> {
    /// Creates a body from `events`: a `Stream` of `Result<Event, E>`, with `E: Into<BoxError>`.
    pub fn new(events: S) -> Self {
        Self {
            events,
            frame: frame::Frame::default(),
            keep_alive: KeepAlive::default(),
            retry: None,
            failure: None,
            has_ended: false,
            has_yielded: false,
        }
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
    ///     Queue,
    ///     transport::sse::{Event, EventReceiver, EventSender, EventStream, LastEventId, Replay, event_channel},
    /// };
    ///
    /// type Prices = EventStream<Replay<std::vec::IntoIter<Event>, EventReceiver>>;
    ///
    /// /// For who holds the lock on both.
    /// fn subscribe(headers: &HeaderMap, history: &[(u64, Event)], new: &mut Vec<EventSender>) -> Prices {
    ///     let (sender, events) = event_channel(Queue::events());
    ///     new.push(sender);
    ///     let seen = LastEventId::of(headers).and_then(|id| id.parse().ok()).unwrap_or(0);
    ///     let missed: Vec<_> = history.iter().filter(|(id, _)| *id > seen).map(|(_, event)| event.clone()).collect();
    ///     events.replay(missed)
    /// }
    /// # let _ = subscribe(&HeaderMap::new(), &[], &mut Vec::new());
    /// ```
    pub fn replay<I: IntoIterator<Item = Event>>(self, missed: I) -> EventStream<Replay<I::IntoIter, S>> {
        let Self { events, frame, keep_alive, retry, failure, has_ended, has_yielded } = self;
        let events = Replay::new(missed.into_iter(), events);
        EventStream { events, frame, keep_alive, retry, failure, has_ended, has_yielded }
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
        while !*this.has_ended && !this.frame.is_full() {
            match this.events.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(event))) => event.encode(this.frame.writer()),
                Poll::Ready(Some(Err(error))) => {
                    *this.failure = Some(error.into());
                    *this.has_ended = true;
                }
                Poll::Ready(None) => *this.has_ended = true,
                Poll::Pending => break,
            }
        }
        if let Some(bytes) = this.frame.take() {
            this.keep_alive.spoken();
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if this.failure.is_some() && !std::mem::replace(this.has_yielded, true) {
            // hyper drops unwritten bytes when a body fails, but writes them when a body is pending.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if *this.has_ended {
            return Poll::Ready(this.failure.take().map(Err));
        }
        this.frame.rest();
        this.keep_alive.poll(cx).map(|()| {
            this.keep_alive.spoken();
            Some(Ok(Frame::data(Bytes::from_static(b":\n\n"))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended && self.failure.is_none() && self.frame.is_empty()
    }
}

impl<S> fmt::Debug for EventStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("keep_alive", &self.keep_alive)
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}
