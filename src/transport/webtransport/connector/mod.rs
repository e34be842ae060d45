mod request;
#[cfg(all(test, feature = "dev-certificate"))]
mod tests;
mod trust;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response};
use tower_service::Service;
use web_transport_quinn as wtq;

use self::{request::Offer, trust::Trust};
use super::{CertificateHash, Session, SessionLimits, WebTransportStream, endpoints::Endpoints, error};
use crate::{Error, Limits, sync::Mutex, transport::setters::in_time};

/// The failure of a connect that takes too long.
const LATE: &str = "UDP may be blocked: the session was not established";

/// A connector for WebTransport sessions: a `Service` that takes the handshake's request and returns its response with
/// the first bidirectional stream of the session as the body. [`connect_session`](Self::connect_session) returns the
/// session instead.
///
/// The request's URI is the destination (`https://`; `wss://` means the same). Its headers are sent to the server.
/// tower-http's layers therefore apply to the handshake: an `Authorization`, a request id, any header. The page
/// `layer::http` lists them.
///
/// ```no_run
/// # async fn connect() -> Result<(), tower_transport::BoxError> {
/// use tower::ServiceExt;
/// use tower_transport::{Message, TransportExt, transport::webtransport::WebTransportConnector};
///
/// let connector = WebTransportConnector::new().subprotocol("chat.v1")?;
/// let request = http::Request::get("https://localhost:4433/chat").body(())?;
/// let mut chat = connector.oneshot(request).await?.into_body();
/// chat.send_message(Message::text("hello")).await?;
///
/// let mut files = chat.session().open().await?; // beside it, and neither waits for the other
/// files.send_message(Message::binary(vec![0; 1_000_000])).await?;
/// # Ok(()) }
/// ```
///
/// # Trust
///
/// The connector trusts the operating system's roots by default. [`roots_pem`](Self::roots_pem), [`tls`](Self::tls) and
/// [`certificate_hashes`](Self::certificate_hashes) replace them; the last one set counts.
///
/// # Backpressure
///
/// The service is always ready. A call waits for name resolution, QUIC (all addresses race, 250 ms apart, RFC 8305)
/// with TLS 1.3, the HTTP/3 exchange and the stream, together at most [`Limits::handshake`]. It needs a tokio runtime
/// with I/O and time.
///
/// # Sockets
///
/// All connectors of a tokio runtime share its UDP sockets (one per address family), whatever their trust and limits.
/// The sockets close when the last connector that used them and the last session over them are gone. QUIC keeps a
/// receive buffer of about 3 MB for each. A connector may be used in several runtimes; each has its own sockets.
///
/// The sockets connect directly: HTTP proxies with CONNECT forward no UDP, and those of the environment are ignored.
///
/// # Errors
///
/// Returns an error for which one of these is true:
///
/// - [`is_config`](Error::is_config) if the URL or a header cannot work.
/// - [`is_dns`](Error::is_dns) if the name does not resolve.
/// - [`is_tls`](Error::is_tls) if the certificate is not trusted (or is another host's).
/// - [`is_refused`](Error::is_refused) if the host reports that the port is closed.
/// - [`is_rate_limited`](Error::is_rate_limited) if the server accepts no more connections (QUIC's CONNECTION_REFUSED).
/// - [`is_timeout`](Error::is_timeout) if there is no answer: UDP is blocked, or the host is gone.
/// - [`is_status`](Error::is_status) or [`is_auth`](Error::is_auth) if the server answers with a status other than 200.
///   See [`Error::status`]; there is no body.
/// - [`is_protocol`](Error::is_protocol) if the server does not support WebTransport.
///
/// # Cancel safety
///
/// Dropping the future drops the connection attempt.
///
/// # On the wire
///
/// The handshake is an extended CONNECT (`:protocol` = `webtransport`) with the headers of the request, except those
/// that belong to a connection (`Connection`, `Upgrade`, `Host` and the like). A header that occurs more than once is
/// sent as one, joined by commas. `Sec-WebSocket-Protocol` is sent as `wt-available-protocols`, and the server's
/// `wt-protocol` becomes `Sec-WebSocket-Protocol` in the response, so the names are the same on every transport. Other
/// headers of the response are not passed on. In addition to the handshake, one empty UDP datagram is sent; the
/// operating system's answer to it reveals a closed port.
#[derive(Clone, Default)]
pub struct WebTransportConnector {
    limits: Limits,
    session_limits: SessionLimits,
    subprotocols: Vec<HeaderValue>,
    trust: Trust,
    /// The sockets that were used last. Held so that they stay open between two sessions.
    endpoints: Arc<Mutex<Option<Arc<Endpoints>>>>,
    /// The QUIC configuration, created once, with its cache of TLS sessions. Clones with the same trust and limits
    /// share it.
    quic: Arc<OnceLock<quinn::ClientConfig>>,
}

impl WebTransportConnector {
    /// Creates a connector with the default [`Limits`] and [`SessionLimits`], which trusts the operating system's
    /// roots.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    connector_setters! {
        limits: "Sets the limits of the handshake and of each stream.",
        choice: "The server's choice is in the response's header of that name and in \
                 [`WebTransportStream::subprotocol`]."
    }

    /// Sets the limits of each session.
    #[must_use]
    pub fn session_limits(mut self, limits: SessionLimits) -> Self {
        self.session_limits = limits;
        self.quic = Arc::default();
        self
    }

    /// Trusts the roots of the operating system, which is the default. This needs the feature `tls-platform-roots`;
    /// without it a call returns an error for which [`is_config`](Error::is_config) is true.
    #[must_use]
    pub fn platform_roots(self) -> Self {
        self.trusting(Trust::Platform)
    }

    /// Trusts only these roots: the certificates in a PEM text.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if the text is not PEM, or has no usable
    /// certificate.
    pub fn roots_pem(self, roots: &[u8]) -> Result<Self, Error> {
        let roots = trust::roots(roots)?;
        Ok(self.trusting(Trust::Roots(Arc::new(roots))))
    }

    /// Uses this TLS configuration: custom roots, client certificates. It must support TLS 1.3. ALPN is set here, and
    /// early data is turned off.
    #[must_use]
    pub fn tls(self, config: Arc<rustls::ClientConfig>) -> Self {
        self.trusting(Trust::Tls(config))
    }

    /// Trusts only the certificates with these hashes, whatever their signer, names and dates. It corresponds to a
    /// browser's `serverCertificateHashes`, for servers without a certificate of an authority.
    #[must_use]
    pub fn certificate_hashes(self, hashes: impl IntoIterator<Item = CertificateHash>) -> Self {
        self.trusting(Trust::Hashes(hashes.into_iter().collect()))
    }

    fn trusting(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self.quic = Arc::default();
        self
    }

    connect_method!(WebTransportStream);

    /// Connects a session without opening a stream in it.
    ///
    /// # Errors
    ///
    /// Returns the errors of the connector.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection attempt.
    pub async fn connect_session(&self, request: Request<()>) -> Result<Response<Session>, Error> {
        in_time(self.limits.handshake, LATE, self.session(request)).await
    }

    async fn session(&self, request: Request<()>) -> Result<Response<Session>, Error> {
        let Offer { target, connect } = Offer::new(request, &self.subprotocols)?;
        let config = self.quic()?;
        let endpoints = self.endpoints()?;
        let connection = endpoints.dial(&config, &target).await?;
        let session = wtq::Session::connect(connection, connect).await.map_err(error::exchange)?;
        let subprotocol = session.protocol().map(Box::from);
        request::answer(Session::connected(session, self.limits, subprotocol, endpoints))
    }

    fn endpoints(&self) -> Result<Arc<Endpoints>, Error> {
        let current = Endpoints::current()?;
        let before = self.endpoints.lock().replace(current.clone());
        // Not under the lock: this may close the sockets of another runtime.
        drop(before);
        Ok(current)
    }

    async fn stream(self, request: Request<()>) -> Result<Response<WebTransportStream>, Error> {
        let (head, session) = self.session(request).await?.into_parts();
        let stream = session.open().await?;
        Ok(Response::from_parts(head, stream))
    }

    fn quic(&self) -> Result<quinn::ClientConfig, Error> {
        if let Some(config) = self.quic.get() {
            return Ok(config.clone());
        }
        let mut config = quinn::ClientConfig::new(self.trust.config()?);
        config.transport_config(self.session_limits.transport());
        Ok(self.quic.get_or_init(|| config).clone())
    }
}

impl Service<Request<()>> for WebTransportConnector {
    type Response = Response<WebTransportStream>;
    type Error = Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Connecting {
        let time = self.limits.handshake;
        Connecting(Box::pin(in_time(time, LATE, self.clone().stream(request))))
    }
}

connecting! {
    /// The future of a [`WebTransportConnector`]: one connection attempt.
    Connecting, Response<WebTransportStream>
}

impl fmt::Debug for WebTransportConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebTransportConnector")
            .field("limits", &self.limits)
            .field("session_limits", &self.session_limits)
            .field("subprotocols", &self.subprotocols)
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}
