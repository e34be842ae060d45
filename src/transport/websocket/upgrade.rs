use std::{
    convert::Infallible,
    fmt,
    future::{Future, Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header, request};
use hyper::upgrade::OnUpgrade;
use tower_service::Service;

#[cfg(feature = "deflate")]
use super::{PerMessageDeflate, deflate::PerMessage};
use super::{Socket, UpgradeBody, WebSocket, handshake::check_request};
use crate::{
    Limits,
    log::{self, Peer},
    rt,
    transport::{
        drain::{Attended, Drain, Seat},
        origin::Origins,
        permit::{Admission, ConnectionPermit},
        refusal::Refusal,
        shrink,
        subprotocol::choose,
    },
};

/// A server of WebSockets: a `Service` of HTTP requests for hyper (with upgrades enabled) and for axum's
/// `route_service`. It accepts the upgrade of HTTP/1.1 and, with the feature `http2`, the
/// [extended CONNECT](#http2) of HTTP/2.
///
/// Each upgraded connection runs `handler` in its own task, with the [`WebSocket`] and the request's parts. A request
/// that is not a valid handshake is rejected with a status and a reason. A page of another origin is rejected too
/// (403), unless [allowed](Self::allow_origin).
///
/// ```no_run
/// # async fn serve() -> Result<(), tower_transport::BoxError> {
/// use hyper_util::{rt::{TokioIo, TokioTimer}, service::TowerToHyperService};
/// use tower_transport::{TransportExt, transport::{accept, websocket::WebSocketService}};
///
/// let echo = WebSocketService::new(|mut socket, _parts| async move {
///     while let Some(Ok(message)) = socket.receive_message().await {
///         if message.is_data() && socket.send_message(message).await.is_err() {
///             return;
///         }
///     }
/// });
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
/// loop {
///     let (tcp, _) = accept(|| listener.accept()).await;
///     let connection = hyper::server::conn::http1::Builder::new()
///         .timer(TokioTimer::new()) // a client that never ends its request is cut
///         .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(echo.clone()))
///         .with_upgrades();
///     tokio::spawn(connection);
/// }
/// # }
/// ```
///
/// # HTTP/2
///
/// A browser opens a WebSocket within an HTTP/2 connection that it has to the host (RFC 8441), if the server allows it.
/// With the feature `http2`, the same service and handler accept both. Everything that is set here applies to both.
///
/// | | HTTP/1.1 | HTTP/2 |
/// |---|---|---|
/// | request | GET | CONNECT, an absolute URI, `hyper::ext::Protocol` in the extensions |
/// | response | 101 | 200 |
/// | [`Socket`] | TCP or TLS | a stream of the connection; [`Socket::tcp`] is `None` |
/// | a flush | the operating system has all bytes | hyper has them, and sends them as the peer permits |
///
/// The HTTP server has to announce it: in hyper, `enable_connect_protocol` of the HTTP/2 builder. `axum::serve` does if
/// axum's feature `http2` is on. The guide `deployment` has a server with the limits that an open port needs.
///
/// # Backpressure
///
/// The service is always ready and responds immediately. The handler starts when hyper has handed over the connection,
/// which takes at most [`Limits::handshake`]. It needs a tokio runtime.
#[derive(Clone)]
pub struct WebSocketService<H> {
    handler: H,
    accept: Arc<AcceptConfig>,
}

/// The configuration of accepted connections.
#[derive(Clone, Debug, Default)]
pub(super) struct AcceptConfig {
    pub(super) limits: Limits,
    pub(super) subprotocols: Vec<HeaderValue>,
    pub(super) origins: Origins,
    pub(super) drain: Option<Draining>,
    #[cfg(feature = "deflate")]
    pub(super) deflate: Option<PerMessageDeflate>,
}

/// The effect of a drain on an upgrade.
#[derive(Clone, Debug)]
pub(super) enum Draining {
    /// The drain rejects new connections, and closes existing ones.
    Whole(Drain),
    /// The drain rejects new connections; the code above the transport closes existing ones.
    #[cfg(feature = "optimized")]
    Door(Drain),
}

/// A request that is a valid handshake, with the parts that can be taken out of it once.
pub(super) struct UpgradeRequest {
    is_http2: bool,
    /// The answer to the client's key.
    accept: Option<HeaderValue>,
    on_upgrade: OnUpgrade,
    permit: Option<ConnectionPermit>,
    peer: Option<Peer>,
}

/// An accepted handshake: the response, and the resulting connection.
pub(super) struct PendingUpgrade {
    answer: Response<UpgradeBody>,
    on_upgrade: OnUpgrade,
    connection: Accepted,
    seat: Option<Arc<Seat>>,
}

/// The parameters of an accepted connection.
pub(super) struct Accepted {
    limits: Limits,
    subprotocol: Option<Box<str>>,
    admission: Option<Box<Admission>>,
    #[cfg(feature = "deflate")]
    deflate: Option<PerMessage>,
}

impl Accepted {
    /// Creates the connection over its stream, of which the bytes `early` were read with the request.
    pub(super) fn open<S>(self, io: S, early: Bytes) -> WebSocket<S> {
        let websocket = WebSocket::new(io, false, self.limits, early)
            .with_subprotocol(self.subprotocol)
            .with_admission(self.admission);
        #[cfg(feature = "deflate")]
        let websocket = websocket.with_deflate(self.deflate);
        websocket
    }
}

impl<H> WebSocketService<H> {
    /// Creates a server with the default [`Limits`], for pages of the same host, without a subprotocol.
    pub fn new<F>(handler: H) -> Self
    where
        H: FnOnce(WebSocket, request::Parts) -> F,
    {
        Self { handler, accept: Arc::default() }
    }

    fn config(&mut self) -> &mut AcceptConfig {
        Arc::make_mut(&mut self.accept)
    }

    server_setters! {
        each: "connection",
        choice: "The handler finds it in [`WebSocket::subprotocol`].",
        origin: "",
        any_origin: "Any page that a user visits can then use the user's cookies here: for endpoints that ignore them."
    }

    https_setter!();

    deflate_setter!();

    /// Adds the connections to `drain`, which then can end them: see [`Drain`]. A second call replaces the first.
    #[must_use]
    pub fn drain(mut self, drain: &Drain) -> Self {
        Arc::make_mut(&mut self.accept).drain = Some(Draining::Whole(drain.clone()));
        self
    }

    /// Rejects new connections once `drain` has started. The code above the transport ends existing ones.
    #[cfg(feature = "optimized")]
    pub(crate) fn refusing_with(mut self, drain: &Drain) -> Self {
        Arc::make_mut(&mut self.accept).drain = Some(Draining::Door(drain.clone()));
        self
    }
}

impl UpgradeRequest {
    /// Checks that a request is a handshake, and takes the connection out of it.
    pub(super) fn of(parts: &mut request::Parts) -> Result<Self, Refusal> {
        const NO_UPGRADE: Refusal = Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "this server does not upgrade connections: enable it (hyper: `with_upgrades`)",
        );

        let accept = check_request(parts)?;
        let on_upgrade = parts.extensions.remove::<OnUpgrade>().ok_or(NO_UPGRADE)?;
        let (permit, peer) = (ConnectionPermit::take(&mut parts.extensions), log::peer(&parts.extensions));
        Ok(Self { is_http2: parts.version == Version::HTTP_2, accept, on_upgrade, permit, peer })
    }
}

impl AcceptConfig {
    /// Accepts a handshake, unless a page of a disallowed origin made it.
    pub(super) fn accept(&self, asked: UpgradeRequest, parts: &request::Parts) -> Result<PendingUpgrade, Refusal> {
        self.limits.check_headers(&parts.headers).map_err(Refusal::large_head)?;
        self.origins.check(&parts.uri, &parts.headers)?;
        #[cfg(feature = "deflate")]
        let deflate = match &self.deflate {
            Some(deflate) => deflate.accept(&parts.headers)?,
            None => None,
        };
        let seat = self.enter()?;
        let UpgradeRequest { is_http2, accept, on_upgrade, permit, peer } = asked;
        let admission = Admission::new(permit, seat.clone(), peer, self.limits.close);
        let mut answer = Response::new(UpgradeBody::default());
        if !is_http2 {
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        }
        let headers = answer.headers_mut();
        if !is_http2 {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        if let Some(accept) = accept {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        let chosen = choose(&self.subprotocols, &parts.headers);
        if let Some(chosen) = chosen {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, chosen.clone());
        }
        let subprotocol = chosen.and_then(|chosen| chosen.to_str().ok()).map(Into::into);
        #[cfg(feature = "deflate")]
        let deflate = deflate.map(|(answer, deflate)| {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, answer);
            deflate
        });
        let connection = Accepted {
            limits: self.limits,
            subprotocol,
            admission,
            #[cfg(feature = "deflate")]
            deflate,
        };
        Ok(PendingUpgrade { answer, on_upgrade, connection, seat })
    }

    fn enter(&self) -> Result<Option<Arc<Seat>>, Refusal> {
        match &self.drain {
            None => Ok(None),
            Some(Draining::Whole(drain)) => drain.admit().map(Some),
            #[cfg(feature = "optimized")]
            Some(Draining::Door(drain)) => drain.admit().map(|_| None),
        }
    }
}

impl PendingUpgrade {
    /// Returns the response, and the connection for a stream that no HTTP server hands over.
    pub(super) fn into_parts(self) -> (Response<UpgradeBody>, Accepted) {
        (self.answer, self.connection)
    }

    /// Returns the response, and runs `handler` once the connection is upgraded.
    pub(super) fn spawn<F>(self, handler: impl FnOnce(WebSocket) -> F + Send + 'static) -> Response<UpgradeBody>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Self { answer, on_upgrade, connection, seat } = self;
        let status = answer.status();
        let peer = connection.admission.as_ref().and_then(|admission| admission.peer);
        let since = rt::Instant::now();
        rt::spawn(async move {
            // A client that leaves before the upgrade is not an error: there is no session yet.
            let Ok(Ok(upgraded)) = rt::timeout(connection.limits.handshake, on_upgrade).await else {
                return log::upgrade_failed("websocket", peer);
            };
            log::accepted("websocket", status, since.elapsed(), peer);
            let (socket, early) = match status {
                StatusCode::SWITCHING_PROTOCOLS => Socket::from_upgraded(upgraded),
                _ => (Socket::over_http2(upgraded, None), Bytes::new()),
            };
            Attended::new(handler(connection.open(socket, early)), seat).await;
        });
        answer
    }
}

/// Returns the response to a request that is not an acceptable handshake.
pub(super) fn refuse(refusal: Refusal) -> Response<UpgradeBody> {
    let mut response = refusal.into_response("GET");
    if response.status() == StatusCode::UPGRADE_REQUIRED {
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    response.map(UpgradeBody::from)
}

impl<H, F, B> Service<Request<B>> for WebSocketService<H>
where
    H: FnOnce(WebSocket, request::Parts) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    type Response = Response<UpgradeBody>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, _) = request.into_parts();
        let accepted = UpgradeRequest::of(&mut parts).and_then(|asked| self.accept.accept(asked, &parts));
        ready(Ok(match accepted {
            Ok(accepted) => {
                let handler = self.handler.clone();
                if let Some(seat) = &accepted.seat {
                    seat.introduce(&mut parts);
                }
                shrink::request(&mut parts);
                accepted.spawn(move |websocket| handler(websocket, parts))
            }
            Err(refusal) => refuse(refusal.logged("websocket", &parts)),
        }))
    }
}

impl<H> fmt::Debug for WebSocketService<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketService").field("accept", &self.accept).finish_non_exhaustive()
    }
}
