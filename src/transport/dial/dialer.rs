#[cfg(feature = "tls")]
use std::sync::Arc;
use std::{
    fmt,
    net::SocketAddr,
    task::{Context, Poll},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use tokio::net::TcpStream;
#[cfg(feature = "tls")]
use tokio_rustls::rustls::{self, ClientConfig, pki_types::ServerName};
use tower_service::Service;

use super::{Socket, exchange};
use crate::{
    Error,
    transport::{race, target::Target},
};

/// The dialer that connectors use by default: TCP, an HTTP proxy, or a Unix socket, without TLS.
///
/// It is a `Service<http::Uri>` that connects to the URI's host and port. Use it below a dialer of your own that adds
/// to it, for example tower's `TimeoutLayer` or a limit on concurrent attempts:
///
/// ```no_run
/// # #[cfg(feature = "websocket")]
/// # async fn connect() -> Result<(), tower_transport::Error> {
/// use std::time::Duration;
/// use tower::{ServiceBuilder, timeout::TimeoutLayer};
/// use tower_transport::transport::{dial::Dialer, websocket::WebSocketConnector};
///
/// let dialer = ServiceBuilder::new().layer(TimeoutLayer::new(Duration::from_secs(2))).service(Dialer::new());
/// let socket = WebSocketConnector::new().dial_with(dialer).connect("ws://localhost:3000/chat").await?;
/// # drop(socket);
/// # Ok(()) }
/// ```
///
/// # Backpressure
///
/// The service is always ready. A call waits for name resolution, TCP (all addresses race, 250 ms apart, RFC 8305) and
/// the proxy, without a time limit of its own. A connector limits it by
/// [`Limits::handshake`](crate::Limits::handshake).
///
/// # Errors
///
/// Returns an error for which one of these is true:
///
/// - [`is_config`](Error::is_config) if the URI cannot work.
/// - [`is_dns`](Error::is_dns) if the name does not resolve.
/// - [`is_refused`](Error::is_refused) if no address accepts the connection.
/// - [`is_status`](Error::is_status) or [`is_auth`](Error::is_auth) if the proxy refuses.
///
/// # Cancel safety
///
/// Dropping the future drops the connection attempt.
#[derive(Clone, Default)]
pub struct Dialer {
    proxy: Option<Proxy>,
    #[cfg(unix)]
    unix: Option<std::path::PathBuf>,
}

/// An HTTP proxy that supports CONNECT.
#[derive(Clone)]
struct Proxy {
    target: Target,
    authorization: Option<HeaderValue>,
}

impl Dialer {
    /// Creates a dialer that connects directly, over TCP.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects through an HTTP proxy by CONNECT. The URL is `http://host:port`, with `user:password@` if the proxy
    /// requires credentials.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if the URL has another form: another scheme,
    /// a path, or a port over 65535.
    pub fn proxy(mut self, proxy: &Uri) -> Result<Self, Error> {
        let target = Target::parse(proxy)?;
        if target.secure {
            return Err(Error::config("https:// to a proxy is not supported; use http://"));
        }
        if target.path != "/" {
            return Err(Error::config("the URL of a proxy must not have a path or a query; use http://host:port"));
        }
        let authorization = target.authorization().cloned();
        self.proxy = Some(Proxy { target, authorization });
        Ok(self)
    }

    /// Connects over the Unix socket at `path`, whatever the URI.
    #[cfg(unix)]
    #[must_use]
    pub fn unix(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.unix = Some(path.into());
        self
    }

    /// Returns the proxy or Unix socket between this end and its targets, if any. Connections that share it also share
    /// its failures.
    #[cfg(feature = "adaptive")]
    pub(crate) fn route(&self) -> Option<String> {
        #[cfg(unix)]
        if let Some(path) = &self.unix {
            return Some(format!("unix:{}", path.display()));
        }
        self.proxy.as_ref().map(|proxy| proxy.target.host_and_port())
    }

    async fn dial(self, uri: Uri) -> Result<Socket, Error> {
        #[cfg(unix)]
        if let Some(path) = &self.unix {
            return Ok(tokio::net::UnixStream::connect(path).await?.into());
        }
        tcp(&Target::parse(&uri)?, self.proxy.as_ref()).await
    }
}

impl Service<Uri> for Dialer {
    type Response = Socket;
    type Error = Error;
    type Future = Dialing;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Dialing {
        Dialing(Box::pin(self.clone().dial(uri)))
    }
}

connecting! {
    /// The future of a [`Dialer`]: one connection attempt.
    Dialing, Socket
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Dialer");
        debug.field("proxy", &self.proxy.as_ref().map(|proxy| &proxy.target.authority));
        #[cfg(unix)]
        debug.field("unix", &self.unix);
        debug.finish()
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

/// The TLS configuration of a connector.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    #[cfg(feature = "tls")]
    config: Option<Arc<ClientConfig>>,
}

impl Tls {
    #[cfg(feature = "tls")]
    pub(crate) fn set(&mut self, config: Arc<ClientConfig>) {
        self.config = Some(with_own_alpn(config));
    }

    #[cfg(feature = "tls")]
    pub(super) async fn secure(&self, socket: Socket, target: &Target) -> Result<Socket, Error> {
        let config = match &self.config {
            Some(config) => config.clone(),
            None => platform()?,
        };
        handshake(socket, &target.host, config).await
    }

    #[cfg(not(feature = "tls"))]
    pub(super) async fn secure(&self, _: Socket, _: &Target) -> Result<Socket, Error> {
        Err(Error::config(
            "wss:// and https:// need the feature `tls` (own roots) or `tls-platform-roots` of tower-transport",
        ))
    }
}

/// Returns the configuration that trusts the operating system's roots. It is created once, because reading the roots
/// takes milliseconds.
#[cfg(feature = "tls-platform-roots")]
fn platform() -> Result<Arc<ClientConfig>, Error> {
    use std::sync::OnceLock;

    use rustls_platform_verifier::BuilderVerifierExt;

    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    // The default provider of the process is the application's choice, so it is not used.
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(|error| Error::tls("the operating system's roots could not be used").with_source(error))?
        .with_no_client_auth();
    Ok(CONFIG.get_or_init(|| Arc::new(config)).clone())
}

#[cfg(all(feature = "tls", not(feature = "tls-platform-roots")))]
fn platform() -> Result<Arc<ClientConfig>, Error> {
    Err(Error::config(
        "TLS needs roots: give the connector a configuration with its method `tls`, or enable the feature \
         `tls-platform-roots`",
    ))
}

/// Returns the caller's configuration for connections that speak HTTP/1.1. A configuration shared with an HTTP/2 client
/// offers `h2`, which a server may choose and which is not supported here. The TLS session store stays shared with the
/// original.
#[cfg(feature = "tls")]
fn with_own_alpn(config: Arc<ClientConfig>) -> Arc<ClientConfig> {
    const HTTP_1_1: &[u8] = b"http/1.1";

    match &*config.alpn_protocols {
        [] => config,
        [one] if one == HTTP_1_1 => config,
        _ => {
            let mut own = ClientConfig::clone(&config);
            own.alpn_protocols = vec![HTTP_1_1.to_vec()];
            Arc::new(own)
        }
    }
}

#[cfg(feature = "tls")]
async fn handshake(socket: Socket, host: &str, config: Arc<ClientConfig>) -> Result<Socket, Error> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| {
        Error::config(format!("`{host}` is not a valid name for a TLS certificate")).with_source(error)
    })?;
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, Box::new(socket)).await.map_err(|error| {
        let by_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        match by_tls {
            true => Error::tls(format!("the TLS handshake with {host} failed")).with_source(error),
            false => Error::from(error),
        }
    })?;
    Ok(Socket::over_tls(stream))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{net::TcpSocket, time::timeout};

    use super::*;

    #[test]
    fn the_user_and_the_password_of_a_proxy_are_those_that_the_url_means() {
        use base64::{Engine as _, prelude::BASE64_STANDARD};

        let dialer = Dialer::new().proxy(&Uri::from_static("http://bob:p%40ss%3A%2F@proxy:3128")).unwrap();
        let expected = format!("Basic {}", BASE64_STANDARD.encode("bob:p@ss:/"));
        assert_eq!(dialer.proxy.unwrap().authorization.unwrap(), expected);
    }

    #[test]
    fn a_part_of_a_proxys_url_that_means_nothing_is_refused() {
        for url in
            ["http://proxy:99999", "https://proxy:3128", "http://proxy:3128/path", "http://proxy/?query", "proxy:3128"]
        {
            let error = Dialer::new().proxy(&url.parse().unwrap()).unwrap_err();
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
