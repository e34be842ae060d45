//! From a URL to a byte stream that carries HTTP: name resolution, TCP or Unix socket, proxy, TLS, and the first
//! exchange on it.

mod exchange;
#[cfg_attr(not(feature = "websocket"), allow(dead_code, unreachable_pub, reason = "only a WebSocket shows its socket"))]
mod socket;
#[cfg(feature = "tls")]
mod tls;

use std::net::SocketAddr;

use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use tokio::net::TcpStream;

pub(super) use self::exchange::exchange;
#[cfg(feature = "sse")]
pub(super) use self::exchange::{client, http_error, read_body, refusal};
#[cfg_attr(not(feature = "websocket"), allow(unreachable_pub, reason = "only a WebSocket shows its socket"))]
pub use self::socket::Socket;
pub(super) use super::target::Target;
use crate::{Error, transport::race};

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
    pub(super) fn route(&self) -> Option<String> {
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
            return unix(path).await;
        }
        tcp(target, self.proxy.as_ref()).await
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

/// Opens a TCP stream to `target`, through the proxy if there is one. All addresses of the name race (RFC 8305).
async fn tcp(target: &Target, proxy: Option<&Proxy>) -> Result<Socket, Error> {
    let dialled = proxy.map_or(target, |proxy| &proxy.target);
    let socket = Socket::dialled(race::connect(&dialled.dialled_host(), dialled.port, connect).await?);
    match proxy {
        None => Ok(socket),
        Some(proxy) => tunnel(socket, target, proxy).await,
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Error> {
    let fail = |error| Error::from(error).context(format!("connecting to {address} failed"));
    let stream = TcpStream::connect(address).await.map_err(fail)?;
    // Messages are small, and the layers above decide when to flush.
    stream.set_nodelay(true).map_err(fail)?;
    Ok(stream)
}

#[cfg(unix)]
async fn unix(path: &std::path::Path) -> Result<Socket, Error> {
    Ok(tokio::net::UnixStream::connect(path).await?.into())
}

/// Opens a tunnel with CONNECT (RFC 9110, section 9.3.6).
async fn tunnel(socket: Socket, target: &Target, proxy: &Proxy) -> Result<Socket, Error> {
    let authority = target.host_and_port();
    let mut request = Request::builder().method(Method::CONNECT).uri(&authority).header(header::HOST, &authority);
    if let Some(authorization) = &proxy.authorization {
        request = request.header(header::PROXY_AUTHORIZATION, authorization);
    }
    let request = request
        .body(())
        .map_err(|error| Error::config("the host is not valid in a CONNECT request").with_source(error))?;
    // hyper treats 204 as a response without a body before it considers the method, and provides no tunnel for it.
    let opens_tunnel = |answer: &Response<_>| answer.status().is_success() && answer.status() != StatusCode::NO_CONTENT;
    let (_, socket, early) = exchange(socket, request, opens_tunnel).await.map_err(|error| {
        let what = match error.status() {
            Some(StatusCode::NO_CONTENT) => "the proxy answered CONNECT with 204, which opens no tunnel",
            Some(_) => "the proxy refused to connect to the server",
            None => "the proxy failed",
        };
        error.context(what)
    })?;
    // In TLS and in HTTP/1.1 the client sends first.
    if !early.is_empty() {
        return Err(Error::protocol("the proxy sent data before the client did"));
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{net::TcpSocket, time::timeout};

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

    /// The silent address is a listener whose backlog is full: Linux drops further connection attempts.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn an_address_that_keeps_silent_does_not_keep_the_others_from_being_tried() {
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = silent.listen(1).unwrap();
        let address = silent.local_addr().unwrap();
        let mut kept = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            kept.push(connected.unwrap());
        }
        let good = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = vec![address, good.local_addr().unwrap()];
        let stream = race::race(addresses, connect).await.unwrap().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good.local_addr().unwrap());
    }
}
