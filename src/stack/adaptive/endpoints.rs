use std::{fmt, sync::Arc};

use http::Uri;

use super::{TransportKind, base::Base, plan::Place};
use crate::{Error, layer::reconnect::Target, transport::target};

/// The URLs of a server's three transports.
///
/// By default they are below one base URL, on the same host and port (the UDP port for QUIC equals the TCP port):
///
/// | transport | `https://example.com/chat` | `http://localhost:3000` |
/// |---|---|---|
/// | WebTransport | `https://example.com/chat/wt` | not available: requires TLS |
/// | WebSocket | `wss://example.com/chat/ws` | `ws://localhost:3000/ws` |
/// | SSE + POST | `https://example.com/chat/sse` | `http://localhost:3000/sse` |
///
/// `wss` and `ws` are accepted in a base and mean `https` and `http`. Each URL can be [set](Self::web_transport) or
/// [switched off](Self::without). **No transport is less secure than the base.** With an `https://` base, a transport
/// URL without TLS is an error for which [`is_config`](Error::is_config) is true. An attacker who blocks one transport
/// therefore cannot make a client fall back to plaintext.
///
/// ```
/// use tower_transport::stack::adaptive::{Endpoints, TransportKind};
///
/// let endpoints = Endpoints::new("https://example.com/chat")?;
/// assert_eq!(endpoints.url(TransportKind::WebSocket).unwrap(), "wss://example.com/chat/ws");
/// let endpoints = endpoints.web_transport("https://quic.example.com:4433/chat")?.without(TransportKind::Sse);
/// assert_eq!(endpoints.url(TransportKind::Sse), None);
/// assert!(Endpoints::new("https://example.com")?.web_socket("ws://example.com/ws").is_err());
/// # Ok::<(), tower_transport::Error>(())
/// ```
///
/// # How the request's URI is used
///
/// A connector is called with a request. With [`Endpoints::of_request`], the request's URI is the base, so one
/// connector serves many servers. With [`Endpoints::new`], the base is known, and the request's URI must be that base
/// or `/` (the URI of `Request::new(())`). Any other URI is an error for which [`is_config`](Error::is_config) is true,
/// because the connection would not go where the request says. The query of the request's URI is added to URLs below
/// the base; URLs that are set explicitly keep their own.
#[derive(Clone, Default)]
pub struct Endpoints {
    base: Option<Base>,
    ways: [Way; 3],
}

#[derive(Clone, Default)]
enum Way {
    #[default]
    BelowBase,
    At(Endpoint),
    Off,
}

/// The location of one transport.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) uri: Uri,
    pub(super) place: Place,
}

impl Endpoints {
    /// Creates endpoints below a base URL, which begins with `https://` or `http://`, or with `wss://` or `ws://`,
    /// which mean the same.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if `base` is not such a URL.
    pub fn new(base: &str) -> Result<Self, Error> {
        let uri = target::uri(base).map_err(|error| error.context("the base URL of the endpoints is invalid"))?;
        Ok(Self { base: Some(Base::parse(&uri)?), ways: Default::default() })
    }

    /// Creates endpoints below the URI of each request.
    #[must_use]
    pub fn of_request() -> Self {
        Self::default()
    }

    /// Sets the URL of WebTransport, which must begin with `https://`.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true for any other URL.
    pub fn web_transport(self, url: &str) -> Result<Self, Error> {
        self.set(TransportKind::WebTransport, url)
    }

    /// Sets the URL of the WebSocket transport: `wss://`, or `ws://` if the base has no TLS either.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true for any other URL.
    pub fn web_socket(self, url: &str) -> Result<Self, Error> {
        self.set(TransportKind::WebSocket, url)
    }

    /// Sets the URL of SSE with POST: `https://`, or `http://` if the base has no TLS either.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true for any other URL.
    pub fn sse(self, url: &str) -> Result<Self, Error> {
        self.set(TransportKind::Sse, url)
    }

    /// Switches a transport off.
    #[must_use]
    pub fn without(mut self, kind: TransportKind) -> Self {
        self.put(kind, Way::Off);
        self
    }

    /// Returns the URL of a transport if the base is known. Returns `None` if the transport is switched off, or if it
    /// requires TLS and the base has none.
    #[must_use]
    pub fn url(&self, kind: TransportKind) -> Option<Uri> {
        let endpoints = self.below(self.base.as_ref()?).ok()?;
        endpoints.into_iter().find(|endpoint| endpoint.place.kind == kind).map(|endpoint| endpoint.uri)
    }

    fn set(mut self, kind: TransportKind, url: &str) -> Result<Self, Error> {
        let uri = target::uri(url).map_err(|error| error.context(format!("the URL of {kind} is invalid")))?;
        let base = Base::parse(&uri)?;
        if kind == TransportKind::WebTransport && !base.is_secure {
            return Err(Error::config("WebTransport requires TLS: its URL must begin with https://"));
        }
        self.put(kind, Way::At(Endpoint { uri: base.itself(kind)?, place: base.place(kind) }));
        if let Some(base) = &self.base {
            self.below(base)?;
        }
        Ok(self)
    }

    fn put(&mut self, kind: TransportKind, way: Way) {
        if let Some(place) = self.ways.get_mut(kind.index()) {
            *place = way;
        }
    }

    /// Returns the name of the origin and the endpoints for a request.
    pub(super) fn resolve(&self, uri: &Uri) -> Result<(Arc<str>, Vec<Endpoint>), Error> {
        let base = match &self.base {
            None => Base::parse(uri)?,
            Some(base) => base.for_request(uri)?,
        };
        Ok((base.origin(), self.below(&base)?))
    }

    fn below(&self, base: &Base) -> Result<Vec<Endpoint>, Error> {
        let mut endpoints = Vec::new();
        for (kind, way) in TransportKind::ALL.into_iter().zip(&self.ways) {
            match way {
                Way::Off => {}
                Way::BelowBase if kind == TransportKind::WebTransport && !base.is_secure => {}
                Way::BelowBase => endpoints.push(Endpoint { uri: base.below(kind)?, place: base.place(kind) }),
                Way::At(endpoint) if base.is_secure && !endpoint.place.is_secure => {
                    return Err(Error::config(format!(
                        "{kind} without TLS is less secure than the https:// base URL; use wss:// or https://"
                    )));
                }
                Way::At(endpoint) => endpoints.push(endpoint.clone()),
            }
        }
        Ok(endpoints)
    }
}

/// Converts the base of [`Endpoints`] into the target of a connecting layer. The target is `/` if each request brings
/// its own base.
impl From<&Endpoints> for Target {
    fn from(endpoints: &Endpoints) -> Self {
        endpoints.base.as_ref().map_or_else(Uri::default, Base::uri).into()
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may contain a secret; the origin is enough.
        let base = self.base.as_ref().map(Base::origin);
        let off: Vec<_> = TransportKind::ALL
            .into_iter()
            .zip(&self.ways)
            .filter(|(_, way)| matches!(way, Way::Off))
            .map(|(kind, _)| kind)
            .collect();
        f.debug_struct("Endpoints").field("base", &base).field("off", &off).finish_non_exhaustive()
    }
}
