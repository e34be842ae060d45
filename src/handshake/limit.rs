//! Limits concurrent connections: in total, and per key, such as the peer's address or its principal.
//!
//! # Why
//!
//! A connection costs memory for as long as it lives, and a rate limit on requests does not count it once it is
//! upgraded.
//!
//! # Backpressure
//!
//! The layer never waits. A request over the limit is answered at once, with 503 for the total and 429 for the key,
//! with `Retry-After: 1`, and logged (feature `tracing`).
//!
//! # Position in the stack
//!
//! With a key that every request has (an address that your server puts into the extensions), the layer goes outermost,
//! so that a refused request costs nothing else. If the key is the principal of
//! [`AuthGuardLayer`](super::auth::AuthGuardLayer), it goes below that layer.
//!
//! # What counts as a connection
//!
//! | request | takes a permit |
//! |---|---|
//! | a POST of `application/vnd.tower-transport.messages` (SSE + POST) | if its response has a long body |
//! | OPTIONS, which browsers send before such a POST (CORS preflight) | if its response has a long body |
//! | any other request | yes |
//!
//! So a full server still serves its sessions: requests of the first two kinds pass the layer whatever the counts are.
//! None of this crate's servers opens a connection for them: sessions begin with GET or CONNECT, and a POST of an
//! unknown session is refused (404). But clients choose their method and headers, and a service of your own may answer
//! such a request with an event stream. The response therefore takes its permit then, or is replaced by the refusal,
//! unless its body is at its end ([`is_end_stream`](http_body::Body::is_end_stream)) or is known to have at most 4 KiB.
//!
//! # Lifetime of a permit
//!
//! The layer puts a [`ConnectionPermit`] into the extensions of the request, and a clone into the [`LimitedBody`] of
//! the response. The connection counts until all clones are dropped.
//!
//! | the request becomes | its permit is held until |
//! |---|---|
//! | a WebSocket, by [`WebSocketService`] or axum's `WebSocketHandshake` | the `WebSocket` is dropped |
//! | a session of `SseDuplexServer` | the handler has dropped its end, and the event stream has ended |
//! | a session of WebTransport, by `Incoming::accept` | the last handle of the session is dropped |
//! | a connection of `OptimizedAcceptor` or `SessionServer` | it is dropped; the session's next one takes its own |
//! | any other response, such as an `EventStream` or a download | its body is dropped: sent whole, or given up |
//!
//! Handlers need no code for it. Those of this crate's transports do not find the permit among their request's parts.
//!
//! [`WebSocketService`]: crate::transport::websocket::WebSocketService
//!
//! # Errors
//!
//! Returns the errors of the inner service. A refusal is a response, not an error.
//!
//! # Cancel safety
//!
//! A request that is dropped before it has become a connection frees its permit.
//!
//! # On the wire
//!
//! The layer sends the two responses above.
//!
//! # Example
//!
//! ```
//! # #[cfg(feature = "websocket")] {
//! use std::net::IpAddr;
//! use tower::ServiceBuilder;
//! use tower_transport::{
//!     TransportExt,
//!     handshake::limit::ConnectionLimitLayer,
//!     transport::websocket::WebSocketService,
//! };
//!
//! let service = ServiceBuilder::new()
//!     .layer(ConnectionLimitLayer::new(10_000).per_key(20, |parts| parts.extensions.get::<IpAddr>().copied()))
//!     .service(WebSocketService::new(|mut socket, _parts| async move {
//!         while let Some(Ok(message)) = socket.receive_message().await {
//!             println!("{message:?}");
//!         }
//!     }));
//! # }
//! ```
//!
//! # Compared with tower's `ConcurrencyLimit`
//!
//! `ConcurrencyLimit` counts calls, and a call ends with the 101 response. It waits where this layer refuses, and has
//! no keys.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

pub use crate::transport::permit::ConnectionPermit;
#[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
use crate::transport::sse::duplex::opens_nothing;
use crate::{
    fingerprint::{Fingerprint, Seeds},
    log,
    sync::Mutex,
};

/// A layer for services of HTTP requests that limits concurrent connections. See the [module](super) for the complete
/// documentation.
///
/// All services created by one layer or its clones share its counts.
#[derive(Clone)]
pub struct ConnectionLimitLayer<K = (), F = NoKey> {
    limits: Limits,
    key: F,
    keys: PhantomData<fn(K)>,
}

/// The counts, and what they are compared with.
#[derive(Clone, Debug)]
struct Limits {
    counts: Arc<Counts>,
    total: usize,
    per_key: usize,
}

/// The key type of a [`ConnectionLimitLayer`] without keys.
pub type NoKey = fn(&Parts) -> Option<()>;

impl ConnectionLimitLayer {
    /// Creates a layer that admits at most `total` connections.
    #[must_use]
    pub fn new(total: usize) -> Self {
        let limits = Limits { counts: Arc::default(), total, per_key: usize::MAX };
        Self { limits, key: |_| None, keys: PhantomData }
    }

    /// Also limits each key to `most` connections. `key` returns the key of a request, usually from its extensions.
    /// Requests without a key count only towards the total.
    #[must_use]
    pub fn per_key<K, F>(self, most: usize, key: F) -> ConnectionLimitLayer<K, F>
    where
        K: Hash + Eq + Clone,
        F: Fn(&Parts) -> Option<K>,
    {
        let limits = Limits { counts: Arc::default(), total: self.limits.total, per_key: most };
        ConnectionLimitLayer { limits, key, keys: PhantomData }
    }
}

impl<K: Hash + Eq + Clone, F> ConnectionLimitLayer<K, F> {
    /// Returns the number of connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.limits.counts.total()
    }
}

impl<S, K: Clone, F: Clone> Layer<S> for ConnectionLimitLayer<K, F> {
    type Service = ConnectionLimit<S, K, F>;

    fn layer(&self, service: S) -> ConnectionLimit<S, K, F> {
        ConnectionLimit::new(service, self.clone())
    }
}

debug_fields!([K, F] ConnectionLimitLayer<K, F>, |this| { total: this.limits.total, per_key: this.limits.per_key });

/// A service with a limited number of concurrent connections, created by [`ConnectionLimitLayer`].
#[derive(Clone)]
pub struct ConnectionLimit<S, K, F> {
    service: S,
    limit: ConnectionLimitLayer<K, F>,
}

impl<S, K, F> ConnectionLimit<S, K, F> {
    const fn new(service: S, limit: ConnectionLimitLayer<K, F>) -> Self {
        Self { service, limit }
    }

    accessors! {
        service: S, "service",
        get_mut: "Requests sent to it directly are not counted.",
        into_inner: ".",
    }
}

impl<S, K, F, B, R> Service<Request<B>> for ConnectionLimit<S, K, F>
where
    S: Service<Request<B>, Response = Response<R>>,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    F: Fn(&http::request::Parts) -> Option<K>,
    R: Body,
{
    type Response = Response<LimitedBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let limits = &self.limit.limits;
        let key = (self.limit.key)(&parts).map(|key| limits.counts.seeds.of(&key));
        if opens_nothing(&parts) {
            let future = self.service.call(Request::from_parts(parts, body));
            return ResponseFuture { step: Step::Uncounted { future, limits: limits.clone(), key } };
        }
        let step = match limits.enter(key) {
            Ok(permit) => {
                permit.clone().put(&mut parts.extensions);
                Step::Pass { future: self.service.call(Request::from_parts(parts, body)), permit: Some(permit) }
            }
            Err(full) => {
                let response = refuse(full);
                log::refused("http", response.status(), full.reason(), &parts);
                Step::Refuse { response: Some(response) }
            }
        };
        ResponseFuture { step }
    }
}

impl Limits {
    fn enter(&self, key: Option<Fingerprint>) -> Result<ConnectionPermit, Full> {
        self.counts.enter(key, self.total, self.per_key)?;
        Ok(ConnectionPermit::new(Entry { counts: self.counts.clone(), key }))
    }

    /// Counts the response to a request that was not counted, if it holds its connection.
    fn count<R: Body>(&self, key: Option<Fingerprint>, response: Response<R>) -> Response<LimitedBody<R>> {
        let is_short = response.body().size_hint().exact().is_some_and(|size| size <= SHORT);
        let permit = if is_short || response.body().is_end_stream() {
            None
        } else {
            match self.enter(key) {
                Ok(permit) => Some(permit),
                Err(full) => {
                    let refusal = refuse(full);
                    log::refused("http", refusal.status(), full.reason(), &Request::new(()));
                    return refusal;
                }
            }
        };
        response.map(|body| LimitedBody { body: Some(body), permit })
    }
}

/// The size in bytes of a body that holds no connection: an HTTP server takes all of it at once, as it does with a
/// refusal that has a reason.
const SHORT: u64 = 4 << 10;

/// Returns whether a request cannot become a connection. Without the SSE servers, any request may.
#[cfg(not(all(feature = "sse", not(target_arch = "wasm32"))))]
const fn opens_nothing(_: &Parts) -> bool {
    false
}

fn refuse<R>(full: Full) -> Response<LimitedBody<R>> {
    let mut response = Response::new(LimitedBody::default());
    *response.status_mut() = match full {
        Full::Total => StatusCode::SERVICE_UNAVAILABLE,
        Full::Key => StatusCode::TOO_MANY_REQUESTS,
    };
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

impl<S: fmt::Debug, K, F> fmt::Debug for ConnectionLimit<S, K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionLimit").field("service", &self.service).field("limit", &self.limit).finish()
    }
}

pin_project! {
    /// The future of [`ConnectionLimit`]: the service's future, or a refusal.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct ResponseFuture<F, R> {
        #[pin]
        step: Step<F, R>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StepProj]
    enum Step<F, R> {
        Pass { #[pin] future: F, permit: Option<ConnectionPermit> },
        Uncounted { #[pin] future: F, limits: Limits, key: Option<Fingerprint> },
        Refuse { response: Option<Response<LimitedBody<R>>> },
    }
}

impl<F, R, E> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<LimitedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().step.project() {
            StepProj::Pass { future, permit } => {
                let response = ready!(future.poll(cx))?;
                let permit = permit.take();
                Poll::Ready(Ok(response.map(|body| LimitedBody { body: Some(body), permit })))
            }
            StepProj::Uncounted { future, limits, key } => {
                let response = ready!(future.poll(cx))?;
                Poll::Ready(Ok(limits.count(*key, response)))
            }
            StepProj::Refuse { response } => {
                response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)))
            }
        }
    }
}

pin_project! {
    /// The body of a response of [`ConnectionLimit`]: the inner service's, or an empty one of a refusal. It holds the
    /// permit of its request until it is dropped.
    #[derive(Debug)]
    pub struct LimitedBody<B> {
        #[pin]
        body: Option<B>,
        permit: Option<ConnectionPermit>,
    }
}

impl<B> LimitedBody<B> {
    /// Returns the body of the inner service, and frees its permit. `None` if the request was refused.
    #[must_use]
    pub fn into_inner(self) -> Option<B> {
        self.body
    }
}

/// Returns an empty body.
impl<B> Default for LimitedBody<B> {
    fn default() -> Self {
        Self { body: None, permit: None }
    }
}

impl<B: Body> Body for LimitedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.as_pin_mut().map_or(Poll::Ready(None), |body| body.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

/// The counts of connections. Their memory is bounded by the total: the map contains only keys that have a connection.
#[derive(Debug, Default)]
struct Counts {
    connections: Mutex<Connections>,
    seeds: Seeds,
}

#[derive(Debug, Default)]
struct Connections {
    total: usize,
    by_key: HashMap<Fingerprint, usize>,
}

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    Total,
    Key,
}

impl Full {
    const fn reason(self) -> &'static str {
        match self {
            Self::Total => "the total limit of ConnectionLimitLayer::new is reached",
            Self::Key => "the limit per key of ConnectionLimitLayer::per_key is reached",
        }
    }
}

impl Counts {
    fn enter(&self, key: Option<Fingerprint>, total: usize, per_key: usize) -> Result<(), Full> {
        let mut open = self.connections.lock();
        // The total first: a full server does not look at keys, which a peer may choose.
        if open.total >= total {
            return Err(Full::Total);
        }
        if let Some(key) = key {
            let taken = open.by_key.get(&key).copied().unwrap_or(0);
            if taken >= per_key {
                return Err(Full::Key);
            }
            open.by_key.insert(key, taken + 1);
        }
        open.total += 1;
        Ok(())
    }

    fn leave(&self, key: Option<Fingerprint>) {
        let mut open = self.connections.lock();
        // The key goes with its last connection, so the map never holds more keys than there are connections.
        open.total = open.total.saturating_sub(1);
        let Some(key) = key else { return };
        match open.by_key.get_mut(&key) {
            Some(taken) if *taken > 1 => *taken -= 1,
            _ => drop(open.by_key.remove(&key)),
        }
    }

    fn total(&self) -> usize {
        self.connections.lock().total
    }
}

/// A counted connection, until it is dropped.
struct Entry {
    counts: Arc<Counts>,
    key: Option<Fingerprint>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.counts.leave(self.key);
    }
}
