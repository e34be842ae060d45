//! From a URL to a byte stream that carries HTTP: name resolution, TCP or Unix socket, proxy, TLS, and the first
//! exchange on it.

mod cause;
mod exchange;
mod methods;
#[cfg_attr(not(feature = "websocket"), allow(dead_code, unreachable_pub, reason = "only a WebSocket shows its socket"))]
mod socket;
mod tcp;
#[cfg(feature = "tls")]
mod tls;

use http::{HeaderValue, Uri};

#[cfg(feature = "websocket")]
pub(super) use self::exchange::exchange;
#[cfg(feature = "sse")]
pub(super) use self::exchange::{client, http_error, read_body, refusal};
#[cfg_attr(not(feature = "websocket"), allow(unreachable_pub, reason = "only a WebSocket shows its socket"))]
pub use self::socket::Socket;
pub(super) use self::{cause::by_cause, methods::dialer_methods};
pub(super) use super::target::Target;
use crate::Error;

/// The configuration with which a connector opens a byte stream.
#[derive(Clone, Default)]
pub(super) struct Dialer {
    proxy: Option<Proxy>,
    #[cfg(unix)]
    unix: Option<std::path::PathBuf>,
    #[cfg(feature = "tls")]
    tls: Option<std::sync::Arc<tokio_rustls::rustls::ClientConfig>>,
}

/// An HTTP proxy that supports CONNECT.
#[derive(Clone)]
struct Proxy {
    target: Target,
    authorization: Option<HeaderValue>,
}

impl Dialer {
    pub(super) fn proxy(&mut self, proxy: &Uri) -> Result<(), Error> {
        let target = Target::parse(proxy)?;
        if target.secure {
            return Err(Error::config("https:// to a proxy is not supported; use http://"));
        }
        if target.path != "/" {
            return Err(Error::config("the URL of a proxy must not have a path or a query; use http://host:port"));
        }
        let authorization = target.authorization().cloned();
        self.proxy = Some(Proxy { target, authorization });
        Ok(())
    }

    #[cfg(unix)]
    pub(super) fn unix(&mut self, path: std::path::PathBuf) {
        self.unix = Some(path);
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls(&mut self, config: std::sync::Arc<tokio_rustls::rustls::ClientConfig>) {
        self.tls = Some(tls::with_own_alpn(config));
    }

    /// Returns the proxy's name, for `Debug` output of a connector.
    pub(super) fn proxy_name(&self) -> Option<&HeaderValue> {
        self.proxy.as_ref().map(|proxy| &proxy.target.authority)
    }

    /// Returns the proxy or Unix socket between this end and its targets, if any. Connections that share it also share
    /// its failures.
    #[cfg(feature = "adaptive")]
    pub(super) fn way(&self) -> Option<String> {
        #[cfg(unix)]
        if let Some(path) = &self.unix {
            return Some(format!("unix:{}", path.display()));
        }
        self.proxy.as_ref().map(|proxy| proxy.target.host_and_port())
    }

    /// Connects to `target`, with TLS if its scheme requires it.
    pub(super) async fn dial(&self, target: &Target) -> Result<Socket, Error> {
        let socket = self.plain(target).await?;
        if target.secure { self.secure(socket, target).await } else { Ok(socket) }
    }

    async fn plain(&self, target: &Target) -> Result<Socket, Error> {
        #[cfg(unix)]
        if let Some(path) = &self.unix {
            return tcp::unix(path).await;
        }
        tcp::tcp(target, self.proxy.as_ref()).await
    }

    #[cfg(feature = "tls")]
    async fn secure(&self, socket: Socket, target: &Target) -> Result<Socket, Error> {
        let config = match &self.tls {
            Some(config) => config.clone(),
            None => tls::platform()?,
        };
        tls::handshake(socket, &target.host, config).await
    }

    #[cfg(not(feature = "tls"))]
    async fn secure(&self, _: Socket, _: &Target) -> Result<Socket, Error> {
        Err(Error::config(
            "wss:// and https:// need the feature `tls` (own roots) or `tls-platform-roots` of tower-transport",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_and_the_password_of_a_proxy_are_those_that_the_url_means() {
        use base64::{Engine as _, prelude::BASE64_STANDARD};

        let mut dialer = Dialer::default();
        dialer.proxy(&Uri::from_static("http://bob:p%40ss%3A%2F@proxy:3128")).unwrap();
        let expected = format!("Basic {}", BASE64_STANDARD.encode("bob:p@ss:/"));
        assert_eq!(dialer.proxy.unwrap().authorization.unwrap(), expected);
    }

    #[test]
    fn a_part_of_a_proxys_url_that_means_nothing_is_refused() {
        for url in
            ["http://proxy:99999", "https://proxy:3128", "http://proxy:3128/path", "http://proxy/?query", "proxy:3128"]
        {
            let error = Dialer::default().proxy(&url.parse().unwrap()).unwrap_err();
            assert!(error.is_config(), "{url}: {error:?}");
        }
    }
}
