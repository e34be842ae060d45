use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response, Uri};
use tower::ServiceExt;
use tower_service::Service;

use super::{
    AdaptiveTransport, Decision, Decisions, Endpoints, TransportCapabilities, TransportKind,
    attempt::{Attempt, Observations, Route},
    endpoints,
    policy::is_dead_path,
    race::{Dial, Dialing, Race},
};
use crate::{
    Connect, Error, Limits, MaybeSend,
    stack::unusable::Unusable,
    transport::{
        LostConnection, sse::SseDuplexConnector, websocket::WebSocketConnector, webtransport::WebTransportConnector,
    },
};

/// Connects by WebTransport, WebSocket or SSE with POST, whichever succeeds first. It is a `Service` that takes the
/// handshake request and returns the response of the transport that connected, with its [`AdaptiveTransport`] as the
/// body.
///
/// The request's URI is the base of the [`Endpoints`]. Its headers and extensions go to every transport that is tried,
/// so layers of tower and tower-http work on this connector as on any other. The response's extensions contain the
/// [`TransportKind`](super::TransportKind). The [module](super) describes the order of the attempts and the fallback
/// rules.
///
/// A connector and its clones share their memory and their [`Decisions`](super::Decisions) streams. Create one
/// connector for a program, not one for each connection.
///
/// # Backpressure
///
/// The connector is always ready. A call waits for the first transport to connect. The wait is bounded by the
/// [`Limits::handshake`] of each transport, and the attempts start one after the other: with the defaults, a call takes
/// at most 10.5 s on a network that swallows everything. Add tower's `TimeoutLayer` on top for another bound.
///
/// # Errors
///
/// Returns one error if no transport connected. It names the failure of each transport. Its source, kind and status are
/// those of the most informative failure, which is named first: one that stopped the attempt, or a handshake that the
/// server objects to (400, say). [`classify`](crate::layer::reconnect::classify) still returns
/// [`Class::Retry`](crate::layer::reconnect::Class::Retry) if another transport may connect later (502, say).
///
/// # Cancel safety
///
/// Dropping the future cancels all attempts in progress.
#[derive(Clone)]
pub struct AdaptiveConnector {
    endpoints: Endpoints,
    connectors: Connectors,
    head_start: Duration,
    name: Arc<str>,
    observations: Arc<Observations>,
}

impl AdaptiveConnector {
    /// The default head start: the *connection attempt delay* of RFC 8305.
    pub const HEAD_START: Duration = Duration::from_millis(250);

    /// The default time for which outcomes are remembered.
    pub const MEMORY_TTL: Duration = Duration::from_secs(600);

    /// The number of origins that are remembered.
    pub const MAX_ORIGINS: usize = 1024;

    /// Creates a connector to these endpoints, with the defaults of the three underlying connectors.
    #[must_use]
    pub fn new(endpoints: Endpoints) -> Self {
        Self {
            endpoints,
            connectors: Connectors::default(),
            head_start: Self::HEAD_START,
            name: "adaptive".into(),
            observations: Observations::new(Self::MEMORY_TTL, Self::MAX_ORIGINS),
        }
    }

    /// Connects to `url`, without headers of your own, and returns the transport. The URL is the base of the
    /// [`Endpoints`], or, with [`AdaptiveConnector::default`], any URL below which the server has its default paths.
    /// [`AdaptiveTransport::kind`] tells which transport it is. For headers, or for the server's response, use the
    /// connector as a `Service` of [`http::Request`].
    ///
    /// # Errors
    ///
    /// Returns the errors of the connector. An invalid `url`, or one that is not the endpoints' base, is one for which
    /// [`is_config`](Error::is_config) is true.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels all attempts in progress.
    pub fn connect(&self, url: &str) -> impl Future<Output = Result<AdaptiveTransport, Error>> + MaybeSend + use<> {
        let uri = endpoints::parse_url(url);
        let mut connector = self.clone();
        async move {
            let mut request = Request::new(());
            *request.uri_mut() = uri?;
            Ok(connector.call(request).await?.into_body())
        }
    }

    /// Sets how long one transport is tried before the next one is started as well. Defaults to 250 ms. Zero starts all
    /// transports at once; `Duration::MAX` tries one after the other.
    #[must_use]
    pub fn head_start(mut self, time: Duration) -> Self {
        self.head_start = time;
        self
    }

    /// Sets how long outcomes are cached per origin. Defaults to 10 minutes; zero disables the cache. Clones share this
    /// setting.
    #[must_use]
    pub fn memory_ttl(self, time: Duration) -> Self {
        self.observations.memory.lock().set_ttl(time);
        self
    }

    /// Sets the limits of the handshake and of each connection, for all three transports.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.connectors.web_transport = self.connectors.web_transport.limits(limits);
        self.connectors.web_socket = self.connectors.web_socket.limits(limits);
        self.connectors.sse = self.connectors.sse.limits(limits);
        self
    }

    /// Sets the TLS configuration for all three transports, such as custom roots or client certificates. WebTransport
    /// requires TLS 1.3 in it.
    #[cfg(all(feature = "tls", not(target_arch = "wasm32")))]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[must_use]
    pub fn tls(mut self, config: Arc<tokio_rustls::rustls::ClientConfig>) -> Self {
        self.connectors.web_transport = self.connectors.web_transport.tls(config.clone());
        self.connectors.web_socket = self.connectors.web_socket.tls(config.clone());
        self.connectors.sse = self.connectors.sse.tls(config);
        self
    }

    /// Sets the connector for WebTransport, with its own trust, limits and subprotocols.
    #[must_use]
    pub fn web_transport(mut self, connector: WebTransportConnector) -> Self {
        self.connectors.web_transport = connector;
        self
    }

    /// Sets the connector for WebSocket, with its own TLS, proxy, limits and subprotocols.
    #[must_use]
    pub fn web_socket(mut self, connector: WebSocketConnector) -> Self {
        self.connectors.web_socket = connector;
        self
    }

    /// Sets the connector for SSE with POST, with its own TLS, proxy, limits and subprotocols.
    #[must_use]
    pub fn sse(mut self, connector: SseDuplexConnector) -> Self {
        self.connectors.sse = connector;
        self
    }

    /// Sets the name used in metrics and logs. Defaults to `adaptive`.
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Returns a stream of the decisions that this connector and its clones make from now on.
    #[must_use]
    pub fn decisions(&self) -> Decisions {
        self.observations.subscribe()
    }

    /// Returns what this build supports and what has been observed of the server at `uri` (the URI that a request would
    /// have).
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if a request could not have this URI.
    pub fn capabilities(&self, uri: &Uri) -> Result<TransportCapabilities, Error> {
        let (origin, endpoints) = self.endpoints.resolve(uri)?;
        let now = self.observations.now();
        Ok(TransportCapabilities::of_peer(&self.observations.memory.lock(), &origin, &endpoints, now))
    }

    /// Clears the cached outcomes, so that the next attempt starts with the preferred transport. Call it when the
    /// program learns that its network has changed.
    pub fn forget(&self) {
        self.observations.memory.lock().forget();
    }

    fn race(&self, mut request: Request<()>) -> Result<Race<Connectors>, Error> {
        if let Some(lost) = request.extensions_mut().remove::<LostConnection>()
            && is_dead_path(&lost.error)
            && let Some(route) = lost.response.extensions.get::<Arc<Route>>()
        {
            route.died(&lost.error);
        }
        let (origin, mut endpoints) = self.endpoints.resolve(request.uri())?;
        for endpoint in &mut endpoints {
            endpoint.candidate.via = self.connectors.via(endpoint).map(Into::into);
        }
        // A proxy of one connector is no proxy of the others, so each endpoint has its own route.
        let kinds: Vec<_> = endpoints.iter().map(|endpoint| endpoint.candidate.kind).collect();
        let order = self.observations.memory.lock().order(&origin, &kinds, self.observations.now());
        // The sort is stable: endpoints without a place in the order keep that of the preference.
        endpoints.sort_by_key(|endpoint| order.kinds.iter().position(|kind| *kind == endpoint.candidate.kind));
        let attempt = Attempt::new(self.observations.clone(), origin, self.name.clone());
        if let (true, Some(&kind)) = (order.is_remembered, order.kinds.first()) {
            attempt.report(Decision::Remembered { kind });
        }
        Ok(Race::new(self.connectors.clone(), attempt, endpoints, &request, self.head_start))
    }
}

/// Connects to the endpoints below the URI of each request.
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

debug_fields!(AdaptiveConnector { endpoints, head_start });

/// The future of an [`AdaptiveConnector`](super::AdaptiveConnector): one attempt, including every connect in progress.
///
/// Dropping this future cancels all of them.
#[must_use = "futures do nothing unless awaited"]
pub struct AdaptiveConnecting(Connecting);

enum Connecting {
    Race(Box<Race<Connectors>>),
    /// The attempt could not begin, or the future is done.
    Failed(Error),
}

impl AdaptiveConnecting {
    fn new(race: Result<Race<Connectors>, Error>) -> Self {
        Self(race.map_or_else(Connecting::Failed, |race| Connecting::Race(Box::new(race))))
    }
}

impl Future for AdaptiveConnecting {
    type Output = Result<Response<AdaptiveTransport>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let race = match &mut self.0 {
            Connecting::Race(race) => race,
            Connecting::Failed(error) => return Poll::Ready(Err(error.clone())),
        };
        let outcome = ready!(Pin::new(&mut **race).poll(cx));
        let attempt = race.attempt().clone();
        // The race and its sockets are gone from here on, however long the caller keeps the future.
        self.0 = Connecting::Failed(Error::closed("polled after the connection was made"));
        let (kind, response) = outcome?;
        let route = Route::new(attempt, kind);
        let mut response = response.map(|transport| transport.watched_by(route.clone()));
        response.extensions_mut().insert(kind);
        // A connection can be made and still carry nothing, for example behind a proxy that buffers. Only the layer
        // that greets the server can tell.
        let (unusable, disowned) = (route.clone(), route.clone());
        let unusable = Unusable::new(move |error| unusable.died(error), move || disowned.disown());
        response.extensions_mut().insert(unusable);
        response.extensions_mut().insert(route);
        Poll::Ready(Ok(response))
    }
}

debug_fields!(AdaptiveConnecting {});

/// The real connectors.
#[derive(Clone, Debug, Default)]
struct Connectors {
    web_transport: WebTransportConnector,
    web_socket: WebSocketConnector,
    sse: SseDuplexConnector,
}

impl Connectors {
    /// Returns the proxy or the Unix socket through which the connector of `endpoint` connects.
    #[cfg(not(target_arch = "wasm32"))]
    fn via(&self, endpoint: &endpoints::Endpoint) -> Option<String> {
        match endpoint.candidate.kind {
            TransportKind::WebTransport => None,
            TransportKind::WebSocket => self.web_socket.route(&endpoint.uri),
            TransportKind::Sse => self.sse.route(&endpoint.uri),
        }
    }

    /// Returns nothing: a page does not see the browser's proxy.
    #[cfg(target_arch = "wasm32")]
    #[allow(clippy::unused_self, reason = "natively, the connectors know")]
    fn via(&self, _: &endpoints::Endpoint) -> Option<String> {
        None
    }
}

impl Dial for Connectors {
    type Transport = AdaptiveTransport;

    fn dial(&self, kind: TransportKind, request: Request<()>) -> Dialing<AdaptiveTransport> {
        match kind {
            TransportKind::WebTransport => dial(self.web_transport.clone(), request),
            TransportKind::WebSocket => dial(self.web_socket.clone(), request),
            TransportKind::Sse => dial(self.sse.clone(), request),
        }
    }
}

fn dial<C>(connector: C, request: Request<()>) -> Dialing<AdaptiveTransport>
where
    C: Connect<ConnectError = Error, Transport: Into<AdaptiveTransport>, Future: MaybeSend> + MaybeSend + 'static,
{
    Box::pin(async move { Ok(Response::map(connector.oneshot(request).await?, Into::into)) })
}
