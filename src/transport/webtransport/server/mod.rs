mod accept;
mod incoming;
mod registry;
mod serve;

use std::{fmt, net::SocketAddr, pin::Pin, sync::Arc};

use futures_util::stream::FuturesUnordered;
use http::HeaderValue;
use quinn::{Endpoint, crypto::rustls::QuicServerConfig};

pub use self::incoming::Incoming;
pub(super) use self::registry::Registry;
use super::{Certificate, SessionLimits};
use crate::{
    CloseFrame, Error, Limits, rt,
    transport::{origin::Origins, subprotocol},
};

/// A server of WebTransport sessions on its own UDP port.
///
/// [`serve`](Self::serve) runs a handler for each session, with its first bidirectional stream and the request's parts.
/// [`accept`](Self::accept) returns each request, to be answered by hand. A page of another origin is rejected (403),
/// unless [allowed](Self::allow_origin), and so is a request for a path other than the [configured one](Self::path)
/// (404).
///
/// ```no_run
/// # async fn serve() -> Result<(), tower_transport::BoxError> {
/// use tower_transport::{TransportExt, transport::webtransport::{Certificate, WebTransportServer}};
///
/// let certificate = Certificate::from_pem(&std::fs::read("chain.pem")?, &std::fs::read("key.pem")?)?;
/// let mut server = WebTransportServer::bind("0.0.0.0:4433".parse()?, certificate)?.subprotocol("chat.v1")?;
/// server
///     .serve(|mut stream, parts| async move {
///         println!("{} from {:?}", parts.uri.path(), stream.session().remote_address());
///         while let Some(Ok(message)) = stream.receive_message().await {
///             if message.is_data() && stream.send_message(message).await.is_err() {
///                 return;
///             }
///         }
///     })
///     .await;
/// # Ok(()) }
/// ```
///
/// # Backpressure
///
/// Handshakes run concurrently, each for at most [`Limits::handshake`], [1024](Self::max_handshakes) at once; a slow
/// one delays no other. They make progress while `accept` or `serve` is polled.
///
/// # Logs
///
/// This crate logs a rejected request without its query and its headers, except `Origin`. web-transport-quinn below
/// logs each whole request, including credentials in headers, at the level `debug` of its own target: leave that off
/// (`web_transport_quinn=info`).
///
/// # Dropping it
///
/// A dropped server accepts no more sessions; existing ones continue. [`close`](Self::close) ends them too.
pub struct WebTransportServer {
    endpoint: Endpoint,
    tls: Arc<QuicServerConfig>,
    quic: Arc<quinn::ServerConfig>,
    /// Whether the session limits were set by the user.
    #[cfg(feature = "adaptive")]
    has_session_limits: bool,
    accept: Arc<Accept>,
    max_handshakes: usize,
    max_sessions: usize,
    handshakes: FuturesUnordered<Handshake>,
    sessions: Arc<Registry>,
}

type Handshake = Pin<Box<dyn Future<Output = Option<Incoming>> + Send>>;

/// The configuration of accepted sessions.
#[derive(Clone, Debug, Default)]
struct Accept {
    limits: Limits,
    /// The only accepted path, or `None` for every path.
    path: Option<Arc<str>>,
    subprotocols: Vec<HeaderValue>,
    origins: Origins,
}

impl WebTransportServer {
    /// Binds a UDP socket, with the default [`Limits`] and [`SessionLimits`], for pages of the same host, without a
    /// subprotocol. Port 0 selects any free port, see [`local_addr`](Self::local_addr).
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if the certificate and its key do not match.
    /// Returns the operating system's error if the address cannot be bound.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime with I/O and time.
    pub fn bind(address: SocketAddr, certificate: Certificate) -> Result<Self, Error> {
        let tls = certificate.into_tls()?;
        let quic = config(&tls, SessionLimits::default());
        let endpoint = Endpoint::server(quic.clone(), address)?;
        Ok(Self {
            endpoint,
            tls,
            quic: Arc::new(quic),
            #[cfg(feature = "adaptive")]
            has_session_limits: false,
            accept: Arc::default(),
            max_handshakes: 1024,
            max_sessions: 16_384,
            handshakes: FuturesUnordered::new(),
            sessions: Arc::default(),
        })
    }

    /// Sets the limits of the handshake and of each stream.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        Arc::make_mut(&mut self.accept).limits = limits;
        self
    }

    /// Accepts sessions only at this path (`/wt`), without its query. Defaults to every path; the handler then finds
    /// the path in the parts of the request. A request for another path is rejected with 404 before any guard or
    /// handler sees it.
    ///
    /// Set it if code in front of the handler makes decisions by path, since the client chooses the path.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        Arc::make_mut(&mut self.accept).path = Some(path.into());
        self
    }

    /// Sets the path, unless the user has set it.
    #[cfg(feature = "adaptive")]
    pub(crate) fn path_by_default(self, path: &str) -> Self {
        if self.accept.path.is_some() { self } else { self.path(path) }
    }

    /// Sets the limits of each session.
    #[must_use]
    pub fn session_limits(mut self, limits: SessionLimits) -> Self {
        self.quic = Arc::new(config(&self.tls, limits));
        #[cfg(feature = "adaptive")]
        {
            self.has_session_limits = true;
        }
        self
    }

    /// Sets the limits of each session, unless the user has set them.
    #[cfg(feature = "adaptive")]
    pub(crate) fn session_limits_by_default(self, limits: SessionLimits) -> Self {
        if self.has_session_limits { self } else { self.session_limits(limits) }
    }

    /// Sets the maximum number of concurrent handshakes. Defaults to 1024. From half of it on, a client has to validate
    /// its address (a retry, one more round trip). Above it, clients are rejected (QUIC's CONNECTION_REFUSED; at the
    /// client, an error for which [`is_rate_limited`](Error::is_rate_limited) is true).
    #[must_use]
    pub fn max_handshakes(mut self, count: usize) -> Self {
        self.max_handshakes = count;
        self
    }

    /// Sets the maximum number of concurrent sessions and handshakes. Defaults to 16,384. Above it, clients are
    /// rejected as for [`max_handshakes`](Self::max_handshakes).
    #[must_use]
    pub fn max_sessions(mut self, count: usize) -> Self {
        self.max_sessions = count;
        self
    }

    /// Supports a subprotocol. Of those that the client offers, the first one added here is chosen; the handler finds
    /// it in [`WebTransportStream::subprotocol`](super::WebTransportStream::subprotocol). A client that offers none of
    /// them is accepted without a subprotocol.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if the name is not a token of visible ASCII
    /// characters.
    pub fn subprotocol(mut self, name: &str) -> Result<Self, Error> {
        Arc::make_mut(&mut self.accept).subprotocols.push(subprotocol::parse(name)?);
        Ok(self)
    }

    /// Supports a subprotocol whose name is known to be valid.
    #[cfg(feature = "adaptive")]
    pub(crate) fn with_subprotocol(mut self, name: HeaderValue) -> Self {
        Arc::make_mut(&mut self.accept).subprotocols.push(name);
        self
    }

    /// Also accepts pages of this origin (`https://app.example.com`).
    #[must_use]
    pub fn allow_origin(mut self, origin: HeaderValue) -> Self {
        Arc::make_mut(&mut self.accept).origins.allow(origin);
        self
    }

    /// Accepts pages of every origin.
    #[must_use]
    pub fn allow_any_origin(mut self) -> Self {
        Arc::make_mut(&mut self.accept).origins.allow_any();
        self
    }

    /// Returns the local address of the socket.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        Ok(self.endpoint.local_addr()?)
    }

    /// Accepts no more sessions, closes existing ones with this code and reason, and waits until all are gone, at most
    /// [`Limits::close`]. Undelivered messages of their streams may be lost: a handler with a final message must send
    /// it before.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the sessions keep closing.
    pub async fn close(self, frame: CloseFrame) {
        self.endpoint.set_server_config(None);
        self.sessions.close(&frame);
        let _ = rt::timeout(self.accept.limits.close, self.endpoint.wait_idle()).await;
        let code = web_transport_quinn::proto::error_to_http3(frame.code().get().into());
        let code = quinn::VarInt::from_u64(code).unwrap_or(quinn::VarInt::MAX);
        self.endpoint.close(code, frame.reason().as_bytes());
    }
}

/// The number of clients that may wait for `accept`, and the bytes kept for them until then.
const WAITING: (usize, u64, u64) = (1024, 16 << 10, 4 << 20);

fn config(tls: &Arc<QuicServerConfig>, limits: SessionLimits) -> quinn::ServerConfig {
    let mut config = quinn::ServerConfig::with_crypto(tls.clone());
    let (waiting, each, all) = WAITING;
    config
        .transport_config(limits.transport())
        .migration(true)
        .max_incoming(waiting)
        .incoming_buffer_size(each)
        .incoming_buffer_size_total(all);
    config
}

impl Drop for WebTransportServer {
    fn drop(&mut self) {
        self.endpoint.set_server_config(None);
    }
}

impl fmt::Debug for WebTransportServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebTransportServer")
            .field("address", &self.endpoint.local_addr().ok())
            .field("accept", &self.accept)
            .finish_non_exhaustive()
    }
}
