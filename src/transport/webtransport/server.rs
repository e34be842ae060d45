use std::{
    fmt,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use futures_util::{
    StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
};
use http::request;
use quinn::{Endpoint, crypto::rustls::QuicServerConfig};
use web_transport_quinn as wtq;

use super::{Certificate, Incoming, SessionLimits, WebTransportStream, incoming::AcceptConfig, session::Registry};
use crate::{
    CloseCode, CloseFrame, Error, log, rt,
    transport::drain::{Attended, Drain},
};

/// The maximum number of clients that one poll rejects before it lets other tasks run.
const AT_ONCE: usize = 64;

/// A server of WebTransport sessions on its own UDP port.
///
/// [`serve`](Self::serve) runs a handler for each session, with its first bidirectional stream and the request's parts.
/// [`accept`](Self::accept) returns each request, to be answered by hand. A page of another origin is rejected (403),
/// unless [allowed](Self::allow_origin), and so is a request for a path other than the [configured one](Self::path)
/// (404).
///
/// ```no_run
/// # async fn serve() -> Result<(), tower_transport::BoxError> {
/// use tower_transport::{TransportExt, transport::webtransport::{Certificate, WebTransportServer}};
///
/// let certificate = Certificate::from_pem(&std::fs::read("chain.pem")?, &std::fs::read("key.pem")?)?;
/// let mut server = WebTransportServer::bind("0.0.0.0:4433".parse()?, certificate)?.subprotocol("chat.v1")?;
/// server
///     .serve(|mut stream, parts| async move {
///         println!("{} from {:?}", parts.uri.path(), stream.session().remote_address());
///         while let Some(Ok(message)) = stream.receive_message().await {
///             if message.is_data() && stream.send_message(message).await.is_err() {
///                 return;
///             }
///         }
///     })
///     .await;
/// # Ok(()) }
/// ```
///
/// # Backpressure
///
/// Handshakes run concurrently, each for at most [`Limits::handshake`](crate::Limits::handshake),
/// [1024](Self::max_handshakes) at once; a slow one delays no other. They make progress while `accept` or `serve` is
/// polled.
///
/// # Logs
///
/// This crate logs a rejected request without its query and its headers, except `Origin`. web-transport-quinn below
/// logs each whole request, including credentials in headers, at the level `debug` of its own target: leave that off
/// (`web_transport_quinn=info`).
///
/// # Dropping it
///
/// A dropped server accepts no more sessions; existing ones continue. [`close`](Self::close) ends them too.
pub struct WebTransportServer {
    endpoint: Endpoint,
    tls: Arc<QuicServerConfig>,
    quic: Arc<quinn::ServerConfig>,
    /// Whether the session limits were set by the user.
    #[cfg(feature = "adaptive")]
    has_session_limits: bool,
    accept: Arc<AcceptConfig>,
    max_handshakes: usize,
    max_sessions: usize,
    handshakes: FuturesUnordered<Handshake>,
    sessions: Arc<Registry>,
}

type Handshake = Pin<Box<dyn Future<Output = Option<Incoming>> + Send>>;

impl WebTransportServer {
    /// Binds a UDP socket, with the default [`Limits`](crate::Limits) and [`SessionLimits`], for pages of the same
    /// host, without a subprotocol. Port 0 selects any free port, see [`local_addr`](Self::local_addr).
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if the certificate and its key do not match.
    /// Returns the operating system's error if the address cannot be bound.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime with I/O and time.
    pub fn bind(address: SocketAddr, certificate: Certificate) -> Result<Self, Error> {
        let tls = certificate.into_tls()?;
        let quic = config(&tls, SessionLimits::default());
        let endpoint = Endpoint::server(quic.clone(), address)?;
        Ok(Self {
            endpoint,
            tls,
            quic: Arc::new(quic),
            #[cfg(feature = "adaptive")]
            has_session_limits: false,
            accept: Arc::default(),
            max_handshakes: 1024,
            max_sessions: 16_384,
            handshakes: FuturesUnordered::new(),
            sessions: Arc::default(),
        })
    }

    fn config(&mut self) -> &mut AcceptConfig {
        Arc::make_mut(&mut self.accept)
    }

    server_setters! {
        each: "stream and of the handshake",
        choice: "The handler finds it in [`WebTransportStream::subprotocol`].",
        origin: "",
        any_origin: ""
    }

    /// Accepts sessions only at this path (`/wt`), without its query. Defaults to every path; the handler then finds
    /// the path in the parts of the request. A request for another path is rejected with 404 before any guard or
    /// handler sees it.
    ///
    /// Set it if code in front of the handler makes decisions by path, since the client chooses the path.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        Arc::make_mut(&mut self.accept).path = Some(path.into());
        self
    }

    /// Sets the path, unless the user has set it.
    #[cfg(feature = "adaptive")]
    pub(crate) fn path_by_default(self, path: &str) -> Self {
        if self.accept.path.is_some() { self } else { self.path(path) }
    }

    /// Sets the limits of each session.
    #[must_use]
    pub fn session_limits(mut self, limits: SessionLimits) -> Self {
        self.quic = Arc::new(config(&self.tls, limits));
        #[cfg(feature = "adaptive")]
        {
            self.has_session_limits = true;
        }
        self
    }

    /// Sets the limits of each session, unless the user has set them.
    #[cfg(feature = "adaptive")]
    pub(crate) fn session_limits_by_default(self, limits: SessionLimits) -> Self {
        if self.has_session_limits { self } else { self.session_limits(limits) }
    }

    /// Sets the maximum number of concurrent handshakes. Defaults to 1024. From half of it on, a client has to validate
    /// its address (a retry, one more round trip). Above it, clients are rejected (QUIC's CONNECTION_REFUSED; at the
    /// client, an error for which [`is_rate_limited`](Error::is_rate_limited) is true).
    #[must_use]
    pub fn max_handshakes(mut self, count: usize) -> Self {
        self.max_handshakes = count;
        self
    }

    /// Sets the maximum number of concurrent sessions and handshakes. Defaults to 16,384. Above it, clients are
    /// rejected as for [`max_handshakes`](Self::max_handshakes).
    #[must_use]
    pub fn max_sessions(mut self, count: usize) -> Self {
        self.max_sessions = count;
        self
    }

    /// Adds the bidirectional streams of all sessions to `drain`, which then can end them: see [`Drain`]. Once it has
    /// started, new sessions are rejected with 503. Each stream counts as one connection, together with the handler of
    /// [`serve`](Self::serve). [`close`](Self::close) the server after the drain.
    #[must_use]
    pub fn drain(mut self, drain: &Drain) -> Self {
        self.config().drain = Some(drain.clone());
        self
    }

    /// Removes the drain, for a server whose sessions are drained by the code above.
    #[cfg(feature = "adaptive")]
    pub(crate) fn without_drain(mut self) -> Self {
        self.config().drain = None;
        self
    }

    /// Returns the local address of the socket.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        Ok(self.endpoint.local_addr()?)
    }

    /// Accepts no more sessions, closes existing ones with this code and reason, and waits until all are gone, at most
    /// [`Limits::close`](crate::Limits::close). Undelivered messages of their streams may be lost: a handler with a
    /// final message must send it before.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the sessions keep closing.
    pub async fn close(self, frame: CloseFrame) {
        self.endpoint.set_server_config(None);
        self.sessions.close(&frame);
        let _ = rt::timeout(self.accept.limits.close, self.endpoint.wait_idle()).await;
        let code = web_transport_quinn::proto::error_to_http3(frame.code().get().into());
        let code = quinn::VarInt::from_u64(code).unwrap_or(quinn::VarInt::MAX);
        self.endpoint.close(code, frame.reason().as_bytes());
    }
}

impl WebTransportServer {
    /// Waits for the next session request. Returns `None` once the server's socket is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no request.
    pub async fn accept(&mut self) -> Option<Incoming> {
        let mut passed_over = 0;
        loop {
            if passed_over == AT_ONCE {
                // Nothing below waits while clients arrive that are rejected immediately.
                passed_over = 0;
                give_way().await;
            }
            passed_over += 1;
            let done = {
                let handshakes = &mut self.handshakes;
                // An empty set of handshakes is not the end.
                let done = poll_fn(|cx| match handshakes.poll_next_unpin(cx) {
                    Poll::Ready(Some(done)) => Poll::Ready(done),
                    _ => Poll::Pending,
                });
                match select(done, pin!(self.endpoint.accept())).await {
                    Either::Left((done, _)) => Either::Left(done),
                    Either::Right((arrival, _)) => Either::Right(arrival?),
                }
            };
            match done {
                Either::Left(Some(incoming)) => return Some(incoming),
                Either::Left(None) => {}
                Either::Right(arrival) => self.admit(arrival),
            }
        }
    }

    fn admit(&mut self, arrival: quinn::Incoming) {
        let under_way = self.handshakes.len();
        if under_way >= self.max_handshakes || self.endpoint.open_connections() >= self.max_sessions {
            log::full(
                "webtransport",
                "WebTransportServer::max_handshakes or max_sessions is reached",
                arrival.remote_address(),
            );
            return arrival.refuse();
        }
        if under_way >= self.max_handshakes / 2 && !arrival.remote_address_validated() {
            // This fails for clients that have already validated their address.
            let _ = arrival.retry();
            return;
        }
        let (quic, accept, sessions) = (self.quic.clone(), self.accept.clone(), self.sessions.clone());
        self.handshakes.push(Box::pin(async move {
            let time = accept.limits.handshake;
            rt::timeout(time, handshake(arrival, quic, accept, sessions)).await.ok().flatten()
        }));
    }
}

impl WebTransportServer {
    /// Accepts every session, and runs `handler` for each in its own task. The handler gets the session's first
    /// bidirectional stream (which [contains](WebTransportStream::session) the session) and the request's parts. A
    /// client that does not open a stream within [`Limits::handshake`](crate::Limits::handshake) is closed with 1002.
    ///
    /// It continues until the server's socket is gone. Race it against a shutdown condition, and then
    /// [`close`](Self::close) the server.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no session: handlers continue, and requests wait for the next `serve` or
    /// [`accept`](Self::accept).
    pub async fn serve<H, F>(&mut self, handler: H)
    where
        H: FnOnce(WebTransportStream, request::Parts) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        while let Some(incoming) = self.accept().await {
            let handler = handler.clone();
            rt::spawn(async move {
                if let Some((stream, mut parts)) = first_stream(incoming).await {
                    let seat = stream.seat();
                    if let Some(seat) = &seat {
                        seat.introduce(&mut parts);
                    }
                    Attended::new(handler(stream, parts), seat).await;
                }
            });
        }
    }
}

/// Lets other tasks run.
async fn give_way() {
    let mut has_given_way = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_given_way, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Performs QUIC with TLS, HTTP/3's settings, and the request. Returns `None` for a client that does not complete them.
async fn handshake(
    arrival: quinn::Incoming,
    quic: Arc<quinn::ServerConfig>,
    accept: Arc<AcceptConfig>,
    sessions: Arc<Registry>,
) -> Option<Incoming> {
    let connection = arrival.accept_with(quic).ok()?.await.ok()?;
    let request = wtq::Request::accept(connection).await.ok()?;
    Incoming::new(request, accept, sessions)
}

async fn first_stream(incoming: Incoming) -> Option<(WebTransportStream, request::Parts)> {
    // The seat is held until the stream has its own.
    let (session, parts, _seat) = incoming.accept_with_parts().await.ok()?;
    let time = session.limits().handshake;
    match rt::timeout(time, session.accept()).await {
        Ok(stream) => Some((stream.ok()?, parts)),
        Err(_) => {
            let error = Error::protocol(format!("the client opened no stream within {time:?} (Limits::handshake)"));
            log::closing("webtransport", CloseCode::PROTOCOL, &error, log::peer(&parts.extensions));
            session.close(CloseFrame::new(CloseCode::PROTOCOL, "no stream was opened in time"));
            None
        }
    }
}

/// The number of clients that may wait for `accept`, and the bytes kept for them until then.
const WAITING: (usize, u64, u64) = (1024, 16 << 10, 4 << 20);

fn config(tls: &Arc<QuicServerConfig>, limits: SessionLimits) -> quinn::ServerConfig {
    let mut config = quinn::ServerConfig::with_crypto(tls.clone());
    let (waiting, each, all) = WAITING;
    config
        .transport_config(limits.transport())
        .migration(true)
        .max_incoming(waiting)
        .incoming_buffer_size(each)
        .incoming_buffer_size_total(all);
    config
}

impl Drop for WebTransportServer {
    fn drop(&mut self) {
        self.endpoint.set_server_config(None);
    }
}

impl fmt::Debug for WebTransportServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebTransportServer")
            .field("address", &self.endpoint.local_addr().ok())
            .field("accept", &self.accept)
            .finish_non_exhaustive()
    }
}
