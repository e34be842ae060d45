#[cfg(feature = "http2")]
use std::sync::Arc;
use std::{
    fmt,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

#[cfg(feature = "deflate")]
use super::PerMessageDeflate;
#[cfg(feature = "http2")]
use super::http2::{Http2, Pool, Route, Unopened};
use super::{
    Socket, WebSocket,
    handshake::{Offer, check_answer, refuse_extensions},
};
use crate::{
    Error, Limits,
    transport::{
        dial::{Dial, Dialer, Target, Tls, dial, exchange},
        setters::in_time,
    },
};

/// A connector for WebSockets: a `Service` that takes the handshake request and returns the handshake's response with
/// the [`WebSocket`] as its body.
///
/// The request's URI is the destination (`ws://`, `wss://`; `http://` and `https://` mean the same). Its headers are
/// sent to the server. tower-http's layers therefore apply to the handshake: an `Authorization`, a request id, any
/// header. The page [`layer::http`](crate::layer::http) lists them.
///
/// It dials over TCP ([`Dialer`]); [`proxy`](Self::proxy), [`unix`](Self::unix) and, for anything else,
/// [`dial_with`](Self::dial_with) change that.
///
/// The URL is parsed as in browsers ([URL Standard](https://url.spec.whatwg.org/)), and each part is used or rejected.
/// `user:password@` becomes `Authorization: Basic`, characters not allowed in a path or a query are percent-encoded,
/// and a port over 65535 is an error. `http::Uri` itself accepts host names in ASCII only (Punycode); the strings that
/// [`Target`](crate::layer::reconnect::Target) takes may have internationalized host names.
///
/// ```no_run
/// # async fn connect() -> Result<(), tower_transport::BoxError> {
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt, timeout::TimeoutLayer};
/// use tower_transport::{Message, TransportExt, transport::websocket::WebSocketConnector};
///
/// let connector = ServiceBuilder::new()
///     .layer(TimeoutLayer::new(Duration::from_secs(5)))
///     .service(WebSocketConnector::new().subprotocol("chat.v1")?);
/// let request = http::Request::get("ws://localhost:3000/chat").body(())?;
/// let response = connector.oneshot(request).await?;
/// println!("connected: {:?}", response.headers());
/// response.into_body().send_message(Message::text("hello")).await?;
/// # Ok(()) }
/// ```
///
/// # Backpressure
///
/// The service is always ready. A call waits for name resolution, TCP (all addresses race, 250 ms apart, RFC 8305), the
/// proxy, TLS and the handshake, together at most [`Limits::handshake`]. It needs a tokio runtime with I/O and time.
///
/// # Errors
///
/// Returns an error for which one of these is true:
///
/// - [`is_config`](Error::is_config) if the URL cannot work, or if it has a user and the request has an `Authorization`
///   header.
/// - [`is_dns`](Error::is_dns), [`is_refused`](Error::is_refused), [`is_tls`](Error::is_tls) or
///   [`is_timeout`](Error::is_timeout) if connecting fails.
/// - [`is_status`](Error::is_status) or [`is_auth`](Error::is_auth) if the server answers with another status. See
///   [`Error::status`], [`Error::response_headers`] and [`Error::response_body`].
/// - [`is_protocol`](Error::is_protocol) if the response is not a WebSocket handshake.
/// - [`is_too_large`](Error::is_too_large) if it exceeds [`Limits::header_bytes`], [`Limits::headers`] or
///   [`Limits::handshake_bytes`].
///
/// # Cancel safety
///
/// Dropping the future drops the connection attempt.
#[derive(Clone, Default)]
pub struct WebSocketConnector<D = Dialer> {
    limits: Limits,
    subprotocols: Vec<HeaderValue>,
    dialer: D,
    tls: Tls,
    #[cfg(feature = "deflate")]
    deflate: Option<PerMessageDeflate>,
    #[cfg(feature = "http2")]
    http2: Option<Arc<Pool>>,
}

impl WebSocketConnector {
    /// Creates a connector with the default [`Limits`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    default_dialer_setters!(forget_connections);

    /// Performs the client's handshake over a byte stream of your own, which is connected to the server, TLS included.
    /// The scheme of the request's URI has no effect. Bytes that arrive right after the handshake are not lost: they
    /// belong to the [`WebSocket`].
    ///
    /// A handshake that some other code has performed needs no connector: see [`WebSocket::client`].
    ///
    /// # Errors
    ///
    /// Returns the errors of the connector, except those of connecting.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream.
    pub async fn handshake<S>(&self, io: S, request: Request<()>) -> Result<Response<WebSocket<S>>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = async {
            let target = Target::parse(request.uri())?;
            let offer = self.offer(request, &target)?;
            open(io, offer, self.limits).await
        };
        in_time(self.limits.handshake, "the handshake was not completed", handshake).await
    }
}

impl<D> WebSocketConnector<D> {
    connector_setters! {
        limits: "Sets the limits of the handshake and of each connection.",
        choice: "The server's choice is in the response's header of that name and in [`WebSocket::subprotocol`]."
    }

    dialer_setters!("wss", forget_connections);

    /// Opens byte streams with `dialer`, in place of the default [`Dialer`]: see [`dial`](crate::transport::dial). TLS
    /// is done above it. Settings made before, except a proxy and a Unix socket, are kept.
    #[must_use]
    pub fn dial_with<E: Dial>(self, dialer: E) -> WebSocketConnector<E> {
        WebSocketConnector {
            limits: self.limits,
            subprotocols: self.subprotocols,
            dialer,
            tls: self.tls,
            #[cfg(feature = "deflate")]
            deflate: self.deflate,
            #[cfg(feature = "http2")]
            http2: self.http2.map(|pool| Arc::new(Pool::new(pool.settings()))),
        }
    }

    /// Opens WebSockets within HTTP/2 connections (RFC 8441), if the server accepts that: those of this connector and
    /// its clones to one server share a connection, with one TCP and one TLS handshake. Off by default.
    ///
    /// Use it for many WebSockets to one server. For a few, HTTP/1.1 is faster: a round trip over a shared connection
    /// takes several times as long ([`docs/benchmarks.md`](crate::guide::benchmarks)), and a lost packet stops all of its
    /// WebSockets.
    ///
    /// - **First connection**: attempts that start while a connection is being made wait for it and share it.
    /// - **Room**: a connection takes as many WebSockets as the server allows, and at most
    ///   [`Http2::per_connection`]. Then another one is made.
    /// - **Fallback**: a server that does not choose `h2` in TLS, does not announce extended CONNECT, or demands
    ///   HTTP/1.1 is asked over HTTP/1.1. That is remembered for 10 minutes. `ws://` URLs use HTTP/1.1 unless
    ///   [`Http2::prior_knowledge`] is set.
    /// - **A server that shuts down** (GOAWAY): open WebSockets continue, new ones use a new connection. A request that
    ///   the server has not processed is sent again on it.
    /// - **A dead connection**: it is checked with a PING after 20 s of silence, and given up 20 s later. It gets no
    ///   more WebSockets once an attempt was given up after 2 s without an answer.
    /// - **Idle**: a connection without WebSockets is closed after 30 s. If the connector and its clones are dropped,
    ///   open WebSockets continue.
    ///
    /// Over HTTP/2 the response's status is 200, [`Socket::tcp`] is `None`, and a flush waits until hyper has the
    /// bytes. A setting of the dialer or of TLS that is changed afterwards starts with no connections.
    #[cfg(feature = "http2")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http2")))]
    #[must_use]
    pub fn http2(mut self, settings: Http2) -> Self {
        self.http2 = Some(Arc::new(Pool::new(settings)));
        self
    }

    /// Called when connections are made in another way from now on. Clones keep those that they share.
    fn forget_connections(&mut self) {
        #[cfg(feature = "http2")]
        if let Some(pool) = &mut self.http2 {
            *pool = Arc::new(Pool::new(pool.settings()));
        }
    }

    /// Offers permessage-deflate: messages are compressed if the server supports it. Off by default. Read
    /// [about secrets](PerMessageDeflate#secrets) before.
    #[cfg(feature = "deflate")]
    #[cfg_attr(docsrs, doc(cfg(feature = "deflate")))]
    #[must_use]
    pub fn per_message_deflate(mut self, deflate: PerMessageDeflate) -> Self {
        self.deflate = Some(deflate);
        self
    }

    fn offer(&self, request: Request<()>, target: &Target) -> Result<Offer, Error> {
        Ok(self.with_extensions(Offer::new(request, target, &self.subprotocols)?))
    }

    #[cfg_attr(not(feature = "deflate"), allow(clippy::unused_self, reason = "there are no extensions"))]
    fn with_extensions(&self, offer: Offer) -> Offer {
        #[cfg(feature = "deflate")]
        let offer = offer.with_deflate(self.deflate.clone());
        offer
    }
}

impl<D: Dial> WebSocketConnector<D> {
    connect_method!(WebSocket, D);

    async fn open(self, request: Request<()>) -> Result<Response<WebSocket>, Error> {
        let target = Target::parse(request.uri())?;
        #[cfg(feature = "http2")]
        let socket = match &self.http2 {
            Some(pool) if pool.applies_to(&target) => {
                let offer = self.with_extensions(Offer::over_http2(request.clone(), &target, &self.subprotocols)?);
                let dialing = (self.dialer.clone(), &self.tls, &target);
                match open_http2(pool, dialing, offer, self.limits).await? {
                    Opened::Http2(response) => return Ok(*response),
                    Opened::Http1(socket) => socket,
                }
            }
            _ => None,
        };
        #[cfg(not(feature = "http2"))]
        let socket: Option<Socket> = None;
        let offer = self.offer(request, &target)?;
        let socket = match socket {
            Some(socket) => socket,
            None => dial(self.dialer, &self.tls, &target).await?,
        };
        let response = open(socket, offer, self.limits).await?;
        response.body().get_ref().set_options();
        Ok(response)
    }
}

#[cfg(feature = "http2")]
enum Opened {
    Http2(Box<Response<WebSocket>>),
    /// The server is asked over HTTP/1.1, over this stream if there is one.
    Http1(Option<Socket>),
}

/// Opens a WebSocket within a shared connection.
#[cfg(feature = "http2")]
async fn open_http2<D: Dial>(
    pool: &Pool,
    (dialer, tls, target): (D, &Tls, &Target),
    offer: Offer,
    limits: Limits,
) -> Result<Opened, Error> {
    /// The number of times that servers may leave the request unprocessed.
    const ATTEMPTS: usize = 3;

    let mut attempts = 0;
    loop {
        let grant = match pool.route(dialer.clone(), tls, target, &limits).await? {
            Route::Http2(grant) => grant,
            Route::Http1(socket) => return Ok(Opened::Http1(socket)),
        };
        attempts += 1;
        match grant.connect(offer.request.clone(), &limits).await {
            Ok((answer, socket)) => {
                let response = accept(answer, socket, Bytes::new(), offer, limits)?;
                return Ok(Opened::Http2(Box::new(response)));
            }
            Err(Unopened::Unprocessed(_)) if attempts < ATTEMPTS => {}
            Err(Unopened::Unprocessed(error) | Unopened::Failed(error)) => return Err(error),
            Err(Unopened::Http1) => {
                pool.remember_http1(target)?;
                return Ok(Opened::Http1(None));
            }
        }
    }
}

/// Performs the handshake over a connected stream.
async fn open<S>(io: S, mut offer: Offer, limits: Limits) -> Result<Response<WebSocket<S>>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let switches = |answer: &Response<_>| answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    let (answer, io, early) = exchange(io, std::mem::take(&mut offer.request), &limits, switches).await?;
    accept(answer, io, early, offer, limits)
}

/// Checks the server's response, and creates the WebSocket.
fn accept<S>(
    mut answer: Response<()>,
    io: S,
    early: Bytes,
    offer: Offer,
    limits: Limits,
) -> Result<Response<WebSocket<S>>, Error> {
    let subprotocol = check_answer(&mut answer, &offer.key, &offer.subprotocols)?;
    let websocket = WebSocket::new(io, true, limits, early).with_subprotocol(subprotocol);
    #[cfg(feature = "deflate")]
    let websocket = match offer.deflate {
        Some(deflate) => websocket.with_deflate(deflate.agree(answer.headers())?),
        None => {
            refuse_extensions(answer.headers())?;
            websocket
        }
    };
    #[cfg(not(feature = "deflate"))]
    refuse_extensions(answer.headers())?;
    Ok(answer.map(|()| websocket))
}

impl<D: Dial> Service<Request<()>> for WebSocketConnector<D> {
    type Response = Response<WebSocket>;
    type Error = Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Connecting {
        let time = self.limits.handshake;
        let connect = self.clone().open(request);
        Connecting(Box::pin(in_time(time, "the connection was not made", connect)))
    }
}

connecting! {
    /// The future of a [`WebSocketConnector`]: one connection attempt.
    Connecting, Response<WebSocket>
}

impl<D: fmt::Debug> fmt::Debug for WebSocketConnector<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketConnector")
            .field("limits", &self.limits)
            .field("subprotocols", &self.subprotocols)
            .field("dialer", &self.dialer)
            .finish_non_exhaustive()
    }
}
