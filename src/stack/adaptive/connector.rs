use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Uri};
use tower_service::Service;

use super::{
    AdaptiveConnecting, AdaptiveTransport, Decision, Decisions, Endpoints, TransportCapabilities,
    dial::Connectors,
    policy::is_dead_path,
    race::Race,
    shared::{Attempt, Session, Shared},
};
use crate::{
    Error, Limits,
    transport::{
        LostConnection, sse::SseDuplexConnector, websocket::WebSocketConnector, webtransport::WebTransportConnector,
    },
};

/// Connects by WebTransport, WebSocket or SSE with POST, whichever comes first: a `Service` that takes the handshake's request and
/// answers with the response of the one that was made, its [`AdaptiveTransport`] as the body.
///
/// The request's URI is the base of the [`Endpoints`]; its headers and extensions go to whichever is tried. So the layers of tower and
/// tower-http stand on it as on any connector. The response's extensions have the [`TransportKind`](super::TransportKind).
/// See the [module](super) for what is tried when, and what falls back on what.
///
/// A connector and its clones share what they remember and whom they tell: make one for a program, not one for a connection.
///
/// # Where it waits
///
/// Always ready. A call waits for the first transport that is made. It is bounded by the [`Limits::handshake`] of each, which begin one
/// after the other: with the defaults at most 10.5 s where everything is swallowed; tower's `TimeoutLayer` on top bounds it as you like.
///
/// # Errors
///
/// Where none was made, one error that names the failure of each; its kind, and so
/// [`classify`](crate::layer::reconnect::classify)'s answer, is that of the one which tells most, which is its source.
///
/// # Cancel safety
///
/// Dropping the future drops all that is under way.
#[derive(Clone)]
pub struct AdaptiveConnector {
    endpoints: Endpoints,
    connectors: Connectors,
    head_start: Duration,
    name: Arc<str>,
    shared: Arc<Shared>,
}

impl AdaptiveConnector {
    /// The default head start, RFC 8305's *connection attempt delay*.
    pub const HEAD_START: Duration = Duration::from_millis(250);

    /// How long things are remembered by default.
    pub const MEMORY_TTL: Duration = Duration::from_secs(600);

    /// How many origins are remembered.
    pub const MAX_ORIGINS: usize = 1024;

    /// A connector to these endpoints, with the defaults of the three connectors below.
    #[must_use]
    pub fn new(endpoints: Endpoints) -> Self {
        Self {
            endpoints,
            connectors: Connectors::default(),
            head_start: Self::HEAD_START,
            name: "adaptive".into(),
            shared: Shared::new(Self::MEMORY_TTL, Self::MAX_ORIGINS),
        }
    }

    /// How long a transport is tried before the next one is, too. Default 250 ms. Zero tries all at once, `Duration::MAX` one after the
    /// other.
    #[must_use]
    pub fn head_start(mut self, time: Duration) -> Self {
        self.head_start = time;
        self
    }

    /// How long is remembered what worked and what went dead. Default 10 minutes; zero for not at all. Clones share it.
    #[must_use]
    pub fn memory_ttl(self, time: Duration) -> Self {
        self.shared.memory().set_ttl(time);
        self
    }

    /// Sets the limits of the handshake and of each connection, for all three.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.connectors.web_transport = self.connectors.web_transport.limits(limits);
        self.connectors.web_socket = self.connectors.web_socket.limits(limits);
        self.connectors.sse = self.connectors.sse.limits(limits);
        self
    }

    /// Uses this TLS configuration for all three: own roots, client certificates. WebTransport needs TLS 1.3 in it.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[must_use]
    pub fn tls(mut self, config: Arc<tokio_rustls::rustls::ClientConfig>) -> Self {
        self.connectors.web_transport = self.connectors.web_transport.tls(config.clone());
        self.connectors.web_socket = self.connectors.web_socket.tls(config.clone());
        self.connectors.sse = self.connectors.sse.tls(config);
        self
    }

    /// Makes WebTransport by this connector: its own trust, limits, subprotocols.
    #[must_use]
    pub fn web_transport(mut self, connector: WebTransportConnector) -> Self {
        self.connectors.web_transport = connector;
        self
    }

    /// Makes WebSockets by this connector: its own TLS, proxy, limits, subprotocols.
    #[must_use]
    pub fn web_socket(mut self, connector: WebSocketConnector) -> Self {
        self.connectors.web_socket = connector;
        self
    }

    /// Makes SSE with POST by this connector: its own TLS, proxy, limits, subprotocols.
    #[must_use]
    pub fn sse(mut self, connector: SseDuplexConnector) -> Self {
        self.connectors.sse = connector;
        self
    }

    /// The name in metrics and logs, of your own choosing. Default `adaptive`.
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// What this connector and its clones decide from now on.
    #[must_use]
    pub fn decisions(&self) -> Decisions {
        self.shared.subscribe()
    }

    /// What this build can do, and what was seen of the server at `uri` (what a request's URI would be).
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) for a URI that a request could not have.
    pub fn capabilities(&self, uri: &Uri) -> Result<TransportCapabilities, Error> {
        let (origin, endpoints) = self.endpoints.resolve(uri)?;
        let now = self.shared.now();
        Ok(TransportCapabilities::of_peer(&self.shared.memory(), &origin, &endpoints, now))
    }

    /// Forgets what worked and what went dead: the next attempt begins from the top. For a program that is told that its network has
    /// changed.
    pub fn forget(&self) {
        self.shared.memory().forget();
    }

    fn race(&self, mut request: Request<()>) -> Result<Race<Connectors>, Error> {
        if let Some(lost) = request.extensions_mut().remove::<LostConnection>()
            && is_dead_path(&lost.error)
            && let Some(session) = lost.response.extensions.get::<Arc<Session>>()
        {
            session.died(&lost.error);
        }
        let (origin, mut endpoints) = self.endpoints.resolve(request.uri())?;
        for endpoint in &mut endpoints {
            endpoint.place.way = self.connectors.way(endpoint.place.kind).map(Into::into);
        }
        let kinds: Vec<_> = endpoints.iter().map(|endpoint| endpoint.place.kind).collect();
        let order = self.shared.memory().order(&origin, &kinds, self.shared.now());
        endpoints.sort_by_key(|endpoint| order.kinds.iter().position(|kind| *kind == endpoint.place.kind));
        let attempt = Attempt::new(self.shared.clone(), origin, self.name.clone());
        if let (true, Some(&kind)) = (order.is_remembered, order.kinds.first()) {
            attempt.tell(Decision::Remembered { kind });
        }
        Ok(Race::new(self.connectors.clone(), attempt, endpoints, &request, self.head_start))
    }
}

/// Below the URI of each request.
impl Default for AdaptiveConnector {
    fn default() -> Self {
        Self::new(Endpoints::of_request())
    }
}

impl Service<Request<()>> for AdaptiveConnector {
    type Response = Response<AdaptiveTransport>;
    type Error = Error;
    type Future = AdaptiveConnecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> AdaptiveConnecting {
        AdaptiveConnecting::new(self.race(request))
    }
}

impl fmt::Debug for AdaptiveConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveConnector")
            .field("endpoints", &self.endpoints)
            .field("head_start", &self.head_start)
            .finish_non_exhaustive()
    }
}
