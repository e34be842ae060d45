use std::{fmt, sync::Arc};

use http::Uri;

use super::{TransportKind, base::Base, plan::Place};
use crate::{Error, layer::reconnect::Target, transport::target};

/// Where the three transports of a server are.
///
/// Without more words they are below one base URL, on the same host and port (QUIC's UDP port is TCP's):
///
/// | transport | `https://example.com/chat` | `http://localhost:3000` |
/// |---|---|---|
/// | WebTransport | `https://example.com/chat/wt` | none: it needs TLS |
/// | WebSocket | `wss://example.com/chat/ws` | `ws://localhost:3000/ws` |
/// | SSE + POST | `https://example.com/chat/sse` | `http://localhost:3000/sse` |
///
/// `wss` and `ws` mean `https` and `http` in a base. Each place can be [set](Self::web_transport) or
/// [switched off](Self::without). **No transport is less secure than the base**: beside an `https://` base, a place without TLS is an error
/// that [`is_config`](Error::is_config), so that whoever blocks one transport cannot make a client speak in the clear.
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
/// # How the request's URI fits
///
/// A connector is called with a request. Of [`Endpoints::of_request`] its URI is the base: one connector for many servers. Of
/// [`Endpoints::new`], where the base is known, it is the base again or `/` (what a `Request::new(())` has); another one is
/// [`is_config`](Error::is_config), for it would lead elsewhere than it says. The query of the request's URI goes to the places below the
/// base; those that are set have their own.
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

/// Where one of them is.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) uri: Uri,
    pub(super) place: Place,
}

impl Endpoints {
    /// Those below a base URL: `https://`, `http://`, or `wss://`, `ws://`, which mean the same.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) for what is no such URL.
    pub fn new(base: &str) -> Result<Self, Error> {
        let uri = target::uri(base).map_err(|error| error.context("the base URL of the endpoints is not a URL"))?;
        Ok(Self { base: Some(Base::parse(&uri)?), ways: Default::default() })
    }

    /// Those below the URI of each request.
    #[must_use]
    pub fn of_request() -> Self {
        Self::default()
    }

    /// Sets where WebTransport is: an `https://` URL.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) for any other.
    pub fn web_transport(self, url: &str) -> Result<Self, Error> {
        self.set(TransportKind::WebTransport, url)
    }

    /// Sets where WebSocket is: `wss://`, or `ws://` where the base has no TLS either.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) for any other.
    pub fn web_socket(self, url: &str) -> Result<Self, Error> {
        self.set(TransportKind::WebSocket, url)
    }

    /// Sets where SSE + POST is: `https://`, or `http://` where the base has no TLS either.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) for any other.
    pub fn sse(self, url: &str) -> Result<Self, Error> {
        self.set(TransportKind::Sse, url)
    }

    /// Switches one off.
    #[must_use]
    pub fn without(mut self, kind: TransportKind) -> Self {
        self.put(kind, Way::Off);
        self
    }

    /// Where one is, where the base is known; `None` where it is off, or needs TLS and the base has none.
    #[must_use]
    pub fn url(&self, kind: TransportKind) -> Option<Uri> {
        let endpoints = self.below(self.base.as_ref()?).ok()?;
        endpoints.into_iter().find(|endpoint| endpoint.place.kind == kind).map(|endpoint| endpoint.uri)
    }

    fn set(mut self, kind: TransportKind, url: &str) -> Result<Self, Error> {
        let uri = target::uri(url).map_err(|error| error.context(format!("the URL of {kind} is not a URL")))?;
        let base = Base::parse(&uri)?;
        if kind == TransportKind::WebTransport && !base.is_secure {
            return Err(Error::config("WebTransport needs TLS: its URL begins with https://"));
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

    /// The places for a request, and the name of their origin.
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
                        "{kind} without TLS beside an https:// base: whoever blocks the others could read along; use wss:// or https://"
                    )));
                }
                Way::At(endpoint) => endpoints.push(endpoint.clone()),
            }
        }
        Ok(endpoints)
    }
}

/// The base of [`Endpoints`], as the target of a layer that connects; `/` where it is each request's.
impl From<&Endpoints> for Target {
    fn from(endpoints: &Endpoints) -> Self {
        endpoints.base.as_ref().map_or_else(Uri::default, Base::uri).into()
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may hold a secret: the origin tells enough.
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
