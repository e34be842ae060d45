use std::{fmt, sync::Arc};

use http::{Uri, uri::Authority};

use super::{TransportKind, plan::Candidate};
#[cfg(target_arch = "wasm32")]
use crate::transport::page;
#[cfg(target_arch = "wasm32")]
pub(super) use crate::transport::page::parse as parse_url;
#[cfg(not(target_arch = "wasm32"))]
pub(super) use crate::transport::target::uri as parse_url;
use crate::{Error, layer::reconnect::Target};

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
/// because the connection would not go where the request says.
///
/// The query of the request's URI replaces the one of the base, and its user and password replace those of the base.
/// Both are used for the URLs below the base. URLs that are set explicitly keep their own, so that credentials do not
/// go to another server.
#[derive(Clone, Default)]
pub struct Endpoints {
    base: Option<Base>,
    locations: [Location; 3],
}

#[derive(Clone, Default)]
enum Location {
    #[default]
    BelowBase,
    At(Endpoint),
    Off,
}

/// The location of one transport.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) uri: Uri,
    pub(super) candidate: Candidate,
}

impl Endpoints {
    /// Creates endpoints below a base URL, which begins with `https://` or `http://`, or with `wss://` or `ws://`,
    /// which mean the same.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if `base` is not such a URL.
    pub fn new(base: &str) -> Result<Self, Error> {
        let uri = parse_url(base).map_err(|error| error.context("the base URL of the endpoints is invalid"))?;
        Ok(Self { base: Some(Base::parse(&uri)?), locations: Default::default() })
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
        self.put(kind, Location::Off);
        self
    }

    /// Returns the URL of a transport if the base is known. Returns `None` if the transport is switched off, or if it
    /// requires TLS and the base has none.
    #[must_use]
    pub fn url(&self, kind: TransportKind) -> Option<Uri> {
        let endpoints = self.below(self.base.as_ref()?).ok()?;
        endpoints.into_iter().find(|endpoint| endpoint.candidate.kind == kind).map(|endpoint| endpoint.uri)
    }

    fn set(mut self, kind: TransportKind, url: &str) -> Result<Self, Error> {
        let uri = parse_url(url).map_err(|error| error.context(format!("the URL of {kind} is invalid")))?;
        let base = Base::parse(&uri)?;
        if kind == TransportKind::WebTransport && !base.is_secure {
            return Err(Error::config("WebTransport requires TLS: its URL must begin with https://"));
        }
        self.put(kind, Location::At(Endpoint { uri: base.itself(kind)?, candidate: base.candidate(kind) }));
        // Checked here, so that a less secure URL fails where it is set and not at the first connect.
        if let Some(base) = &self.base {
            self.below(base)?;
        }
        Ok(self)
    }

    fn put(&mut self, kind: TransportKind, location: Location) {
        if let Some(own) = self.locations.get_mut(kind.index()) {
            *own = location;
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
        for (kind, location) in TransportKind::ALL.into_iter().zip(&self.locations) {
            match location {
                Location::Off => {}
                // A plain base still has two transports, so this one is left out without an error.
                Location::BelowBase if kind == TransportKind::WebTransport && !base.is_secure => {}
                Location::BelowBase => {
                    endpoints.push(Endpoint { uri: base.below(kind)?, candidate: base.candidate(kind) })
                }
                // An attacker who blocks the other transports could otherwise make the client fall back to plain
                // text.
                Location::At(endpoint) if base.is_secure && !endpoint.candidate.is_secure => {
                    return Err(Error::config(format!(
                        "{kind} without TLS is less secure than the https:// base URL; use wss:// or https://"
                    )));
                }
                Location::At(endpoint) => endpoints.push(endpoint.clone()),
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
            .zip(&self.locations)
            .filter(|(_, location)| matches!(location, Location::Off))
            .map(|(kind, _)| kind)
            .collect();
        f.debug_struct("Endpoints").field("base", &base).field("off", &off).finish_non_exhaustive()
    }
}

/// The base URL below which a server's transports are found.
#[derive(Clone)]
struct Base {
    is_secure: bool,
    authority: Authority,
    host: Arc<str>,
    /// The host with the zone of a link-local IPv6 address.
    dialled_host: String,
    has_credentials: bool,
    port: u16,
    /// Has no trailing slash.
    path: String,
    query: Option<String>,
}

impl Base {
    #[cfg(not(target_arch = "wasm32"))]
    fn parse(uri: &Uri) -> Result<Self, Error> {
        let target = crate::transport::target::Target::parse(uri)?;
        // The authority as written, including user information and zone. The connectors parse it again.
        let authority = uri.authority().cloned().ok_or_else(|| Error::config("the base URL has no host"))?;
        let path = target.path.path().trim_end_matches('/').to_owned();
        let query = target.path.query().map(str::to_owned);
        Ok(Self {
            is_secure: target.secure,
            authority,
            dialled_host: target.dialled_host(),
            has_credentials: target.authorization().is_some(),
            host: target.host.into(),
            port: target.port,
            path,
            query,
        })
    }

    /// The browser parses the URLs again. One with a user is an error.
    #[cfg(target_arch = "wasm32")]
    fn parse(uri: &Uri) -> Result<Self, Error> {
        let (is_secure, _) = page::parts(uri)?;
        let authority = uri.authority().cloned().ok_or_else(|| Error::config("the base URL has no host"))?;
        let host = authority.host().to_ascii_lowercase();
        Ok(Self {
            is_secure,
            dialled_host: host.clone(),
            has_credentials: false,
            host: host.into(),
            port: authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 }),
            authority,
            path: uri.path().trim_end_matches('/').to_owned(),
            query: uri.query().map(str::to_owned),
        })
    }

    /// Returns the base to use for a request. The request's URI must be this base or `/`.
    fn for_request(&self, uri: &Uri) -> Result<Self, Error> {
        let differs = || {
            Error::config(
                "the request's URL differs from the base of the connector's endpoints; \
                 use the base, `/` or Endpoints::of_request()",
            )
        };
        let query = uri.query().map(str::to_owned).or_else(|| self.query.clone());
        if uri.scheme().is_none() {
            // A reconnecting layer may have no URL to name; `/` stands for the base.
            let is_nothing = uri.authority().is_none() && uri.path().trim_matches('/').is_empty();
            return if is_nothing { Ok(Self { query, ..self.clone() }) } else { Err(differs()) };
        }
        let request = Self::parse(uri)?;
        if self.place() != request.place() {
            return Err(differs());
        }
        // The origin is the same for both, so credentials of the request may replace those of the base.
        let authority = if request.has_credentials { request.authority } else { self.authority.clone() };
        Ok(Self { query, authority, ..self.clone() })
    }

    /// Returns the parts of the base that a request must have in common with it.
    fn place(&self) -> (bool, &str, u16, &str) {
        (self.is_secure, &self.dialled_host, self.port, &self.path)
    }

    /// Returns the key under which the memory stores this server.
    fn origin(&self) -> Arc<str> {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.host, self.port).into()
    }

    fn candidate(&self, kind: TransportKind) -> Candidate {
        Candidate { kind, is_secure: self.is_secure, host: self.host.clone(), port: self.port, via: None }
    }

    fn uri(&self) -> Uri {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let uri =
            Uri::builder().scheme(if self.is_secure { "https" } else { "http" }).authority(self.authority.clone());
        uri.path_and_query(format!("{path}{query}")).build().unwrap_or_default()
    }

    fn below(&self, kind: TransportKind) -> Result<Uri, Error> {
        let name = match kind {
            TransportKind::WebTransport => "/wt",
            TransportKind::WebSocket => "/ws",
            TransportKind::Sse => "/sse",
        };
        self.with_path(kind, name)
    }

    /// Returns this URL with the scheme of `kind`.
    fn itself(&self, kind: TransportKind) -> Result<Uri, Error> {
        self.with_path(kind, if self.path.is_empty() { "/" } else { "" })
    }

    fn with_path(&self, kind: TransportKind, below: &str) -> Result<Uri, Error> {
        let scheme = match (kind, self.is_secure) {
            (TransportKind::WebSocket, true) => "wss",
            (TransportKind::WebSocket, false) => "ws",
            (_, true) => "https",
            (_, false) => "http",
        };
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let uri = Uri::builder().scheme(scheme).authority(self.authority.clone());
        uri.path_and_query(format!("{}{below}{query}", self.path))
            .build()
            .map_err(|error| Error::config(format!("failed to build the URL of {kind}")).with_source(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(endpoints: &Endpoints, request: &'static str) -> Vec<String> {
        let (_, found) = endpoints.resolve(&Uri::from_static(request)).unwrap();
        found.iter().map(|endpoint| endpoint.uri.to_string()).collect()
    }

    #[test]
    fn the_transports_are_below_the_uri_of_the_request() {
        let endpoints = Endpoints::of_request();
        assert_eq!(
            urls(&endpoints, "https://example.com"),
            ["https://example.com/wt", "wss://example.com/ws", "https://example.com/sse"]
        );
        assert_eq!(
            urls(&endpoints, "wss://[::1]:9000/a/?room=7"),
            ["https://[::1]:9000/a/wt?room=7", "wss://[::1]:9000/a/ws?room=7", "https://[::1]:9000/a/sse?room=7"]
        );
        assert_eq!(urls(&endpoints, "http://localhost:3000/"), ["ws://localhost:3000/ws", "http://localhost:3000/sse"]);
        assert!(endpoints.resolve(&Uri::from_static("/chat")).is_err_and(|error| error.is_config()));
        assert!(endpoints.resolve(&Uri::from_static("ftp://example.com")).is_err_and(|error| error.is_config()));
    }

    #[test]
    fn a_request_names_the_known_base_or_nothing() {
        let endpoints = Endpoints::new("https://Example.com/chat").unwrap();
        for same in ["/", "https://example.com/chat", "wss://example.com:443/chat/"] {
            assert_eq!(urls(&endpoints, same).len(), 3, "{same}");
        }
        assert_eq!(urls(&endpoints, "/?token=1")[1], "wss://Example.com/chat/ws?token=1");
        for other in ["https://example.com/", "http://example.com/chat", "https://example.com:444/chat", "/chat"] {
            assert!(endpoints.resolve(&Uri::from_static(other)).is_err(), "{other}");
        }
    }

    #[test]
    fn a_request_may_name_another_user_and_no_other_zone() {
        for (base, request, used) in [
            ("http://h", "http://ada:pw@h", "ws://ada:pw@h/ws"),
            ("http://ada:pw@h", "http://h", "ws://ada:pw@h/ws"),
            ("http://bob:x@h", "ws://ada:pw@h:80/", "ws://ada:pw@h:80/ws"),
            ("http://bob:x@h", "/?token=1", "ws://bob:x@h/ws?token=1"),
            ("http://[fe80::1%25eth0]", "http://ada:pw@[fe80::1%25eth0]", "ws://ada:pw@[fe80::1%25eth0]/ws"),
        ] {
            let endpoints = Endpoints::new(base).unwrap().without(TransportKind::Sse);
            assert_eq!(urls(&endpoints, request), [used], "{base} {request}");
        }
        let own = Endpoints::new("http://h").unwrap().web_socket("ws://other/").unwrap();
        assert_eq!(urls(&own, "http://ada:pw@h"), ["ws://other/", "http://ada:pw@h/sse"]);
        let zone = Endpoints::new("http://[fe80::1%25eth0]").unwrap();
        for other in ["http://[fe80::1%25eth1]", "http://[fe80::1]", "http://a%3Ab:c@[fe80::1%25eth0]"] {
            assert!(zone.resolve(&Uri::from_static(other)).is_err_and(|error| error.is_config()), "{other}");
        }
    }

    #[test]
    fn places_are_set_or_switched_off_and_none_is_less_secure_than_the_base() {
        let endpoints =
            Endpoints::new("http://localhost:3000").unwrap().web_transport("https://localhost:4433/x?y").unwrap();
        assert_eq!(
            urls(&endpoints, "/?a"),
            ["https://localhost:4433/x?y", "ws://localhost:3000/ws?a", "http://localhost:3000/sse?a"]
        );
        let without = endpoints.without(TransportKind::WebTransport).without(TransportKind::Sse);
        assert_eq!(urls(&without, "/"), ["ws://localhost:3000/ws"]);
        let plain = Endpoints::of_request().sse("http://example.com/").unwrap();
        let error = plain.resolve(&Uri::from_static("https://example.com")).err().unwrap();
        assert!(error.is_config() && error.to_string().contains("SSE + POST"), "{error}");
        assert!(Endpoints::new("https://example.com").unwrap().web_socket("ws://example.com/ws").is_err());
        assert!(Endpoints::of_request().web_transport("http://example.com/").is_err());
    }

    #[test]
    fn the_base_is_the_target_of_a_layer_that_connects() {
        let endpoints = Endpoints::new("https://user:secret@example.com/chat?t=1").unwrap();
        assert_eq!(Base::parse(&"https://example.com/chat?t=1".parse().unwrap()).unwrap().uri().path(), "/chat");
        assert!(!format!("{endpoints:?}").contains("secret"));
        let target: crate::layer::reconnect::Target = (&endpoints).into();
        assert!(format!("{target:?}").contains("example.com"));
    }
}
