use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use tokio::net::TcpStream;
#[cfg(feature = "tls")]
use tokio_rustls::rustls::{self, ClientConfig, pki_types::ServerName};
use tower_service::Service;

#[cfg(feature = "proxy")]
use super::proxy::Environment;
use super::{Socket, proxy::Proxy};
use crate::{
    Error,
    transport::{race, target::Target},
};

/// The dialer that connectors use by default: TCP, a proxy, or a Unix socket, without TLS.
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
/// - [`is_config`](Error::is_config) if the URI cannot work, or if the proxy does not support such a request.
/// - [`is_dns`](Error::is_dns) if the name does not resolve.
/// - [`is_refused`](Error::is_refused) if no address accepts the connection, or if a SOCKS proxy reports that.
/// - [`is_status`](Error::is_status) if an HTTP proxy refuses. [`Error::status`] returns its answer.
/// - [`is_auth`](Error::is_auth) if the proxy refuses for lack of permission, or requires other credentials.
/// - [`is_protocol`](Error::is_protocol) if the proxy does not speak its protocol.
///
/// The message of a proxy's error names the proxy without its user and password.
///
/// # Cancel safety
///
/// Dropping the future drops the connection attempt.
#[derive(Clone, Default)]
pub struct Dialer {
    route: Route,
    /// Whether the server is dialed for `https://` or `wss://`, which the URI does not tell.
    is_secure: Option<bool>,
}

/// The first hop of a connection.
#[derive(Clone, Default)]
enum Route {
    #[default]
    Direct,
    Proxy(Arc<Proxy>),
    #[cfg(feature = "proxy")]
    Environment(Arc<Environment>),
    #[cfg(unix)]
    Unix(std::path::PathBuf),
}

impl Dialer {
    /// Creates a dialer that connects directly, over TCP.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects through a proxy. Replaces a proxy or a Unix socket that was set before.
    ///
    /// | URL | protocol | resolves the server's name | default port |
    /// |---|---|---|---|
    /// | `http://host:port` | HTTP with CONNECT | the proxy | 80 |
    /// | `socks5://host:port` (feature `proxy`) | SOCKS 5 (RFC 1928) | this machine | 1080 |
    /// | `socks5h://host:port` (feature `proxy`) | SOCKS 5 | the proxy | 1080 |
    ///
    /// Write credentials as `user:password@` in front of the host, percent-encoded. They are in no error, log or
    /// `Debug` output, and travel to the proxy in plaintext.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if the URL has another form: another scheme,
    /// a path, or a port over 65535.
    pub fn proxy(mut self, proxy: &Uri) -> Result<Self, Error> {
        self.route = Route::Proxy(Arc::new(Proxy::parse(proxy)?));
        Ok(self)
    }

    /// Connects through the proxies that the environment names, as curl does. The variables are read now. Replaces a
    /// proxy or a Unix socket that was set before.
    ///
    /// | variable | proxy for |
    /// |---|---|
    /// | `HTTP_PROXY`, `http_proxy` | `http://` and `ws://` |
    /// | `HTTPS_PROXY`, `https_proxy` | `https://` and `wss://` |
    /// | `ALL_PROXY`, `all_proxy` | schemes without a variable of their own |
    /// | `NO_PROXY`, `no_proxy` | the servers that are dialed directly |
    ///
    /// The first of two names that is set counts. A proxy is a URL as in [`proxy`](Self::proxy); `host:port` alone
    /// means `http://`. `NO_PROXY` lists host names (`example.com` includes its subdomains), addresses and networks
    /// (`10.0.0.0/8`), separated by commas; `*` means all servers. No server is exempt by default, not even
    /// `localhost`. If `REQUEST_METHOD` is set, `HTTP_PROXY` is ignored: to a CGI program it comes from its client.
    ///
    /// The URI of a dialer does not tell whether TLS follows. Below a layer of your own, this dialer therefore takes
    /// `HTTPS_PROXY` for port 443 and `HTTP_PROXY` for every other port.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if a variable is not the URL of a supported
    /// proxy. The message names the variable.
    #[cfg(feature = "proxy")]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy")))]
    pub fn proxy_from_env(mut self) -> Result<Self, Error> {
        let environment = Environment::read(|name| std::env::var(name).ok())?;
        self.route = Route::Environment(Arc::new(environment));
        Ok(self)
    }

    /// Connects over the Unix socket at `path`, whatever the URI. Replaces a proxy that was set before.
    #[cfg(unix)]
    #[must_use]
    pub fn unix(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.route = Route::Unix(path.into());
        self
    }

    /// Tells whether the server is dialed for a URL with TLS.
    pub(super) fn set_secure(&mut self, is_secure: bool) {
        self.is_secure = Some(is_secure);
    }

    /// Returns the proxy to `target`, if there is one.
    #[cfg_attr(not(feature = "proxy"), allow(unused_variables, reason = "only the environment depends on the target"))]
    fn proxy_to(&self, target: &Target, is_secure: bool) -> Option<&Proxy> {
        match &self.route {
            Route::Proxy(proxy) => Some(proxy),
            #[cfg(feature = "proxy")]
            Route::Environment(environment) => environment.proxy(target, is_secure),
            _ => None,
        }
    }

    /// Returns the proxy or Unix socket between this end and the server of `uri`, if any. Connections that share it
    /// also share its failures.
    #[cfg(feature = "adaptive")]
    pub(crate) fn route(&self, uri: &Uri) -> Option<String> {
        #[cfg(unix)]
        if let Route::Unix(path) = &self.route {
            return Some(format!("unix:{}", path.display()));
        }
        let target = Target::parse(uri).ok()?;
        self.proxy_to(&target, target.secure).map(Proxy::name)
    }

    async fn dial(self, uri: Uri) -> Result<Socket, Error> {
        #[cfg(unix)]
        if let Route::Unix(path) = &self.route {
            return Ok(tokio::net::UnixStream::connect(path).await?.into());
        }
        let target = Target::parse(&uri)?;
        match self.proxy_to(&target, self.is_secure.unwrap_or(target.port == 443)) {
            Some(proxy) => proxy.connect(&target).await,
            // All addresses of the name race (RFC 8305).
            None => Ok(Socket::dialled(race::connect(&target.dialled_host(), target.port, connect).await?)),
        }
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
        match &self.route {
            Route::Direct => &mut debug,
            Route::Proxy(proxy) => debug.field("proxy", &proxy.name()),
            #[cfg(feature = "proxy")]
            Route::Environment(_) => debug.field("proxy", &"from the environment"),
            #[cfg(unix)]
            Route::Unix(path) => debug.field("unix", path),
        };
        debug.finish()
    }
}

pub(super) async fn connect(address: SocketAddr) -> Result<TcpStream, Error> {
    let fail = |error| Error::from(error).context(format!("connecting to {address} failed"));
    let stream = TcpStream::connect(address).await.map_err(fail)?;
    // Messages are small, and the layers above decide when to flush.
    stream.set_nodelay(true).map_err(fail)?;
    Ok(stream)
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
    fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        match &self.config {
            Some(config) => Ok(config.clone()),
            None => platform(),
        }
    }

    #[cfg(feature = "tls")]
    pub(super) async fn secure(&self, socket: Socket, target: &Target) -> Result<Socket, Error> {
        handshake(socket, &target.host, self.config()?).await
    }

    /// Also offers HTTP/2. The server's choice is in [`Socket::speaks_http2`].
    #[cfg(all(feature = "http2", feature = "tls"))]
    pub(super) async fn secure_http2(&self, socket: Socket, target: &Target) -> Result<Socket, Error> {
        let mut config = ClientConfig::clone(&*self.config()?);
        config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1_1.to_vec()];
        handshake(socket, &target.host, Arc::new(config)).await
    }

    #[cfg(all(feature = "http2", not(feature = "tls")))]
    pub(super) async fn secure_http2(&self, socket: Socket, target: &Target) -> Result<Socket, Error> {
        self.secure(socket, target).await
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

/// The names of the protocols in ALPN.
#[cfg(feature = "tls")]
const HTTP_1_1: &[u8] = b"http/1.1";
#[cfg(all(feature = "http2", feature = "tls"))]
pub(super) const HTTP_2: &[u8] = b"h2";

/// Returns the caller's configuration for connections that speak HTTP/1.1. A configuration shared with an HTTP/2 client
/// offers `h2`, which a server may choose and which only `secure_http2` expects. The TLS session store stays shared with
/// the original.
#[cfg(feature = "tls")]
fn with_own_alpn(config: Arc<ClientConfig>) -> Arc<ClientConfig> {
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
