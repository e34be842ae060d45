//! The base URL below which a server's transports are found. Pure.

use std::sync::Arc;

use http::{Uri, uri::Authority};

use super::{TransportKind, plan::Place};
use crate::{Error, transport::target::Target};

#[derive(Clone)]
pub(super) struct Base {
    pub(super) is_secure: bool,
    authority: Authority,
    host: Arc<str>,
    port: u16,
    /// Has no trailing slash.
    path: String,
    query: Option<String>,
}

impl Base {
    pub(super) fn parse(uri: &Uri) -> Result<Self, Error> {
        let target = Target::parse(uri)?;
        // The authority as written, including user information and zone. The connectors parse it again.
        let authority = uri.authority().cloned().ok_or_else(|| Error::config("the base URL has no host"))?;
        let path = target.path.path().trim_end_matches('/').to_owned();
        let query = target.path.query().map(str::to_owned);
        Ok(Self { is_secure: target.secure, authority, host: target.host.into(), port: target.port, path, query })
    }

    /// Returns the base to use for a request. The request's URI must be this base or `/`.
    pub(super) fn for_request(&self, uri: &Uri) -> Result<Self, Error> {
        let is_nothing = uri.scheme().is_none() && uri.authority().is_none() && uri.path().trim_matches('/').is_empty();
        let is_same = || {
            Self::parse(uri).is_ok_and(|other| {
                (self.is_secure, &self.host, self.port, &self.path)
                    == (other.is_secure, &other.host, other.port, &other.path)
            })
        };
        if !is_nothing && !is_same() {
            return Err(Error::config(
                "the request's URL differs from the base of the connector's endpoints; use the base, `/` or Endpoints::of_request()",
            ));
        }
        let query = uri.query().map(str::to_owned).or_else(|| self.query.clone());
        Ok(Self { query, ..self.clone() })
    }

    /// Returns the key under which the memory stores this server.
    pub(super) fn origin(&self) -> Arc<str> {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.host, self.port).into()
    }

    pub(super) fn place(&self, kind: TransportKind) -> Place {
        Place { kind, is_secure: self.is_secure, host: self.host.clone(), port: self.port, way: None }
    }

    pub(super) fn uri(&self) -> Uri {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let uri =
            Uri::builder().scheme(if self.is_secure { "https" } else { "http" }).authority(self.authority.clone());
        uri.path_and_query(format!("{path}{query}")).build().unwrap_or_default()
    }

    pub(super) fn below(&self, kind: TransportKind) -> Result<Uri, Error> {
        let name = match kind {
            TransportKind::WebTransport => "/wt",
            TransportKind::WebSocket => "/ws",
            TransportKind::Sse => "/sse",
        };
        self.with_path(kind, name)
    }

    /// Returns this URL with the scheme of `kind`.
    pub(super) fn itself(&self, kind: TransportKind) -> Result<Uri, Error> {
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
    use super::super::Endpoints;
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
