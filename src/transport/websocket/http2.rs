//! The client's end of WebSockets over HTTP/2 (RFC 8441): connections that many WebSockets share.
//!
//! ```text
//!  attempts ──► Pool ──► Origin ──► [Connection, ..] ──asks──► Driver (a task each), which knows
//!                          │                                     │       SETTINGS and GOAWAY
//!                          │ none has room: one attempt dials,   │
//!                          ▼ the others wait for it              ▼
//!                    no ALPN, no setting:               Grant: the sender, and a Lease
//!                    HTTP/1.1, remembered               that the WebSocket's socket holds
//! ```

use std::{
    collections::HashMap,
    error::Error as StdError,
    fmt,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use atomic_waker::AtomicWaker;
use http::{Request, Response, StatusCode};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Error, Limits,
    rt::{self, Instant, Timer},
    transport::dial::{Dial, Socket, Target, Tls, check_head, dial_http2, http_error, read_body, refusal},
};

/// How long a server is asked over HTTP/1.1 after it turned out not to accept WebSockets over HTTP/2.
const REMEMBERED: Duration = Duration::from_secs(600);

/// How long a connection without a WebSocket is kept for the next one.
const IDLE: Duration = Duration::from_secs(30);

/// The silence after which a connection with WebSockets is checked with a PING, and the time for its answer.
const PING: Duration = Duration::from_secs(20);

/// A connection gets no more WebSockets if an attempt over it was given up after this time without an answer. It may be
/// dead, and the next attempt would wait for it again.
const SUSPICIOUS: Duration = Duration::from_secs(2);

/// The number of servers whose answers are remembered.
const ORIGINS: usize = 1024;

/// The attempts that may wait for the answer of one connection's driver. Further ones wait in line.
const ASKING: usize = 16;

/// The bytes of one stream that wait in h2 below a full window.
const SEND_BUFFER: usize = 64 * 1024;

/// The window of a connection permits at least as much as this number of streams. h2 also limits what small frames cost
/// beyond their bytes: 256 bytes each, half of the window for the whole connection, which it closes otherwise. A server
/// that fills one window with frames of 3 bytes, the smallest ones with data, must not close the other WebSockets.
const STREAMS: usize = 170;

/// The limit of streams until the server has sent its own. No server can send this value.
const UNKNOWN: usize = usize::MAX - 1;

/// How a [`WebSocketConnector`](super::WebSocketConnector) shares HTTP/2 connections. See its method
/// [`http2`](super::WebSocketConnector::http2).
#[derive(Clone, Copy, Debug)]
pub struct Http2 {
    per_connection: usize,
    window: u32,
    prior_knowledge: bool,
}

impl Http2 {
    /// Creates the default settings.
    #[must_use]
    pub const fn new() -> Self {
        Self { per_connection: 100, window: 256 * 1024, prior_knowledge: false }
    }

    /// Sets the maximum number of WebSockets of one connection. A server may allow fewer. Defaults to 100; zero counts
    /// as one.
    #[must_use]
    pub const fn per_connection(mut self, websockets: usize) -> Self {
        self.per_connection = if websockets == 0 { 1 } else { websockets };
        self
    }

    /// Sets the number of bytes that a server may send to one WebSocket before they are read. Defaults to 256 KiB.
    ///
    /// A connection permits this amount for each of its WebSockets, so one that is not read does not stop the others.
    /// It holds at most [`per_connection`](Self::per_connection) times this amount. A WebSocket receives at most this
    /// amount per round trip. Values below 16 KiB count as 16 KiB, and values over 16 MiB as 16 MiB.
    #[must_use]
    pub const fn window(mut self, bytes: u32) -> Self {
        self.window = match bytes {
            ..0x4000 => 0x4000,
            0x100_0001.. => 0x100_0000,
            _ => bytes,
        };
        self
    }

    /// Uses HTTP/2 for `ws://` URLs, too. Without TLS there is no ALPN, so the server must be known to speak it: a
    /// server that speaks HTTP/1.1 only fails the connect. Off by default.
    #[must_use]
    pub const fn prior_knowledge(mut self) -> Self {
        self.prior_knowledge = true;
        self
    }
}

impl Default for Http2 {
    fn default() -> Self {
        Self::new()
    }
}

/// The connections of a connector and its clones.
pub(super) struct Pool {
    settings: Http2,
    origins: Mutex<HashMap<Key, Arc<Origin>>>,
}

/// The key by which connections are shared: the scheme, and the host with the port and the zone.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    is_secure: bool,
    place: String,
}

/// The connections to one server.
#[derive(Default)]
struct Origin {
    /// Held by the attempt that dials. The others wait for its connection.
    dialing: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    connections: Vec<Connection>,
    http1_until: Option<Instant>,
}

/// The way on which a WebSocket is opened.
pub(super) enum Route {
    Http2(Grant),
    /// The server does not accept WebSockets over HTTP/2. The stream is one whose TLS handshake has just shown this.
    Http1(Option<Socket>),
}

/// The reason why a request did not open a WebSocket.
pub(super) enum Unopened {
    /// The server has not processed the request (RFC 9113, section 8.7). Another connection may accept it.
    Unprocessed(Error),
    /// The server asks for HTTP/1.1.
    Http1,
    Failed(Error),
}

impl Pool {
    pub(super) fn new(settings: Http2) -> Self {
        Self { settings, origins: Mutex::default() }
    }

    pub(super) fn settings(&self) -> Http2 {
        self.settings
    }

    /// Returns whether the server of `target` is asked over HTTP/2.
    pub(super) fn applies_to(&self, target: &Target) -> bool {
        target.secure || self.settings.prior_knowledge
    }

    /// Finds a connection with room, or makes one.
    pub(super) async fn route<D: Dial>(
        &self,
        dialer: D,
        tls: &Tls,
        target: &Target,
        limits: &Limits,
    ) -> Result<Route, Error> {
        let origin = self.origin(target)?;
        if let Some(route) = origin.route().await {
            return Ok(route);
        }
        let _dialing = origin.dialing.lock().await;
        // The attempt before this one may have made a connection.
        if let Some(route) = origin.route().await {
            return Ok(route);
        }
        let socket = dial_http2(dialer, tls, target).await?;
        if target.secure && !socket.speaks_http2() {
            origin.remember_http1();
            return Ok(Route::Http1(Some(socket)));
        }
        socket.set_options();
        let connection = Connection::start(socket, self.settings, limits).await?;
        match connection.ask().await {
            Some(Answer::Granted(grant)) => {
                origin.known().connections.push(connection);
                Ok(Route::Http2(grant))
            }
            // A new connection that is full allows no stream at all.
            Some(Answer::NotAccepted | Answer::Full) => {
                origin.remember_http1();
                Ok(Route::Http1(None))
            }
            None if target.secure => Err(Error::closed("the server closed the HTTP/2 connection before its settings")),
            None => Err(Error::closed(
                "the server closed the HTTP/2 connection before its settings: does it speak HTTP/2 without TLS \
                 (Http2::prior_knowledge)?",
            )),
        }
    }

    /// Records that the server of `target` asks for HTTP/1.1.
    pub(super) fn remember_http1(&self, target: &Target) -> Result<(), Error> {
        self.origin(target)?.remember_http1();
        Ok(())
    }

    fn origin(&self, target: &Target) -> Result<Arc<Origin>, Error> {
        let key = Key { is_secure: target.secure, place: target.dialed()?.to_string() };
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(origin) = origins.get(&key) {
            return Ok(origin.clone());
        }
        // Only what was remembered is forgotten: an attempt and a connection each hold their origin.
        if origins.len() >= ORIGINS {
            origins.retain(|_, origin| Arc::strong_count(origin) > 1 || origin.has_connections());
        }
        Ok(origins.entry(key).or_default().clone())
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Origin {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the way that is known, without a new connection.
    async fn route(&self) -> Option<Route> {
        let connections = {
            let mut known = self.known();
            if known.http1_until.is_some_and(|until| Instant::now() < until) {
                return Some(Route::Http1(None));
            }
            known.connections.retain(|connection| !connection.driver.is_closed());
            // They are asked without the lock, since an answer may take a round trip.
            known.connections.clone()
        };
        for connection in connections {
            if let Some(Answer::Granted(grant)) = connection.ask().await {
                return Some(Route::Http2(grant));
            }
        }
        None
    }

    fn remember_http1(&self) {
        self.known().http1_until = Instant::now().checked_add(REMEMBERED);
    }

    fn has_connections(&self) -> bool {
        self.known().connections.iter().any(|connection| !connection.driver.is_closed())
    }
}

/// The pool's end of a connection. Once all are dropped, no WebSocket is opened over it any more.
#[derive(Clone)]
struct Connection {
    driver: mpsc::Sender<oneshot::Sender<Answer>>,
}

/// A driver's answer to the question whether a connection has room.
enum Answer {
    Granted(Grant),
    Full,
    /// The server has no extended CONNECT.
    NotAccepted,
}

/// The right to open one WebSocket.
pub(super) struct Grant {
    sender: http2::SendRequest<String>,
    lease: Lease,
}

/// One WebSocket of a connection. It counts until it is dropped.
struct Lease(Arc<Shared>);

/// The state that a driver shares with the WebSockets of its connection.
#[derive(Default)]
struct Shared {
    websockets: AtomicUsize,
    is_suspicious: AtomicBool,
    /// Whether the first task of hyper, which reads the frames, was spawned.
    is_reading: AtomicBool,
    /// Whether the server's settings are known. Nothing in hyper wakes for them, so until then each poll of the reading
    /// task wakes the driver.
    is_settled: AtomicBool,
    driver: AtomicWaker,
}

impl Connection {
    /// Starts HTTP/2 over a connected stream.
    async fn start(socket: Socket, settings: Http2, limits: &Limits) -> Result<Self, Error> {
        let shared = Arc::new(Shared::default());
        let streams = u32::try_from(settings.per_connection.max(STREAMS)).unwrap_or(u32::MAX);
        let (sender, http) = http2::Builder::new(Executor(shared.clone()))
            .timer(TokioTimer::new())
            .initial_max_send_streams(UNKNOWN)
            .initial_stream_window_size(settings.window)
            .initial_connection_window_size(settings.window.saturating_mul(streams).min((1 << 31) - 1))
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(|error| http_error(error, limits))?;
        let (driver, questions) = mpsc::channel(ASKING);
        let per_connection = settings.per_connection;
        let idle = Timer::new();
        rt::detach(Driver { http, sender, questions, asked: None, per_connection, shared, idle });
        Ok(Self { driver })
    }

    /// Asks for the right to open a WebSocket. Waits for the server's settings. Returns `None` if the connection takes
    /// no more.
    async fn ask(&self) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        self.driver.send(answer).await.ok()?;
        answered.await.ok()
    }
}

/// The task of a connection that decides which WebSockets it takes. It ends with hyper's dispatcher (GOAWAY, or the end
/// of the connection), when the pool is gone, or when the connection was idle for long. WebSockets that are open then
/// continue, because hyper reads and writes them in tasks of its own.
struct Driver {
    http: http2::Connection<TokioIo<Socket>, String, Executor>,
    sender: http2::SendRequest<String>,
    questions: mpsc::Receiver<oneshot::Sender<Answer>>,
    asked: Option<oneshot::Sender<Answer>>,
    per_connection: usize,
    shared: Arc<Shared>,
    idle: Timer,
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.shared.driver.register(cx.waker());
        // This notices a GOAWAY, too: hyper has no other sign of it.
        if Pin::new(&mut this.http).poll(cx).is_ready() || this.shared.is_suspicious.load(Relaxed) {
            return Poll::Ready(());
        }
        let limit = this.http.current_max_send_streams();
        let is_settled = limit != UNKNOWN;
        this.shared.is_settled.store(is_settled, Relaxed);
        loop {
            let mut asked = match this.asked.take() {
                Some(asked) => asked,
                None => match this.questions.poll_recv(cx) {
                    Poll::Ready(Some(asked)) => asked,
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => break,
                },
            };
            // An attempt that was given up must not take the place of one that waits.
            if asked.poll_closed(cx).is_ready() {
                continue;
            }
            if !is_settled {
                this.asked = Some(asked);
                return Poll::Pending;
            }
            // If the asker is gone, the lease is dropped with the answer.
            drop(asked.send(this.answer(limit)));
        }
        if this.shared.websockets.load(Relaxed) > 0 {
            this.idle.clear();
            return Poll::Pending;
        }
        if !this.idle.is_set() {
            this.idle.set(IDLE);
        }
        ready!(this.idle.poll(cx));
        Poll::Ready(())
    }
}

impl Driver {
    fn answer(&self, limit: usize) -> Answer {
        if !self.http.is_extended_connect_protocol_enabled() {
            return Answer::NotAccepted;
        }
        if self.shared.websockets.load(Relaxed) >= self.per_connection.min(limit) {
            return Answer::Full;
        }
        self.shared.websockets.fetch_add(1, Relaxed);
        Answer::Granted(Grant { sender: self.sender.clone(), lease: Lease(self.shared.clone()) })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The driver has no timer while there are WebSockets. After the last one, its idle time begins.
        if self.0.websockets.fetch_sub(1, Relaxed) == 1 {
            self.0.driver.wake();
        }
    }
}

/// Spawns hyper's tasks. The first one reads the frames.
#[derive(Clone)]
struct Executor(Arc<Shared>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, task: F) {
        if self.0.is_reading.swap(true, Relaxed) {
            return rt::detach(task);
        }
        let shared = self.0.clone();
        rt::detach(async move {
            let mut task = pin!(task);
            std::future::poll_fn(|cx| {
                let polled = task.as_mut().poll(cx);
                if !shared.is_settled.load(Relaxed) {
                    shared.driver.wake();
                }
                polled
            })
            .await;
        });
    }
}

/// Watches an attempt that may be given up while it waits for the server's answer.
struct Attempt {
    shared: Arc<Shared>,
    since: Instant,
    is_answered: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_answered && self.since.elapsed() >= SUSPICIOUS {
            self.shared.is_suspicious.store(true, Relaxed);
            self.shared.driver.wake();
        }
    }
}

impl Grant {
    /// Sends an extended CONNECT. Returns the response and the stream.
    pub(super) async fn connect(
        self,
        request: Request<()>,
        limits: &Limits,
    ) -> Result<(Response<()>, Socket), Unopened> {
        let unopened = |error| unopened(error, limits);
        let Self { mut sender, lease } = self;
        let mut attempt = Attempt { shared: lease.0.clone(), since: Instant::now(), is_answered: false };
        let response = sender.send_request(request.map(|()| String::new())).await;
        attempt.is_answered = true;
        let mut response = response.map_err(unopened)?;
        check_head(&response, limits).map_err(Unopened::Failed)?;
        // hyper gives the stream of no other response.
        if response.status() != StatusCode::OK {
            let (head, body) = response.into_parts();
            return Err(Unopened::Failed(refusal(head.status, head.headers, read_body(body).await)));
        }
        let upgraded = hyper::upgrade::on(&mut response).await.map_err(unopened)?;
        Ok((response.map(drop), Socket::over_http2(upgraded, Some(Box::new(lease)))))
    }
}

fn unopened(error: hyper::Error, limits: &Limits) -> Unopened {
    let h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    let is_unprocessed = h2.is_some_and(|h2| h2.is_go_away() || h2.reason() == Some(h2::Reason::REFUSED_STREAM));
    if h2.is_some_and(|h2| h2.reason() == Some(h2::Reason::HTTP_1_1_REQUIRED)) {
        return Unopened::Http1;
    }
    if error.is_canceled() || is_unprocessed {
        return Unopened::Unprocessed(
            Error::closed("the server closed the HTTP/2 connection before it accepted the WebSocket")
                .with_source(error),
        );
    }
    let is_stream = h2.is_some_and(|h2| h2.is_reset());
    Unopened::Failed(match is_stream {
        true => Error::closed("the server reset the stream during the handshake").with_source(error),
        false => http_error(error, limits),
    })
}
