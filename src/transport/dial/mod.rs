//! From a URL to a byte stream: the dialer that connectors use, and dialers of your own.
//!
//! [`WebSocketConnector`](crate::transport::websocket::WebSocketConnector),
//! [`SseConnector`](crate::transport::sse::SseConnector) and
//! [`SseDuplexConnector`](crate::transport::sse::SseDuplexConnector) open their byte streams by a [`Dial`]: any
//! `Service<http::Uri>` whose response is a tokio `AsyncRead + AsyncWrite`. The default is [`Dialer`]: TCP, a proxy
//! (HTTP, SOCKS 5, those of the environment), a Unix socket. Their method `dial_with` sets another one: a vsock, a
//! simulated network, or an in-memory pipe for tests.
//!
//! ```
//! # #[cfg(feature = "websocket")]
//! # async fn test() -> Result<(), tower_transport::Error> {
//! use http::Uri;
//! use tower_transport::transport::websocket::{WebSocketAcceptor, WebSocketConnector};
//!
//! let (client, server) = tokio::io::duplex(64 * 1024);
//! tokio::spawn(async move { WebSocketAcceptor::new().accept(server).await });
//! let client = std::sync::Arc::new(std::sync::Mutex::new(Some(client)));
//! let dialer = tower::service_fn(move |_: Uri| {
//!     let client = client.lock().unwrap().take();
//!     async { client.ok_or("dialed twice") }
//! });
//! let socket = WebSocketConnector::new().dial_with(dialer).connect("ws://example.com/chat").await?;
//! # drop(socket);
//! # Ok(()) }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test()).unwrap();
//! ```
//!
//! - **URI**: `http://host:port/`, always with a port: 80 or 443 unless the URL names one. The host is that of the URL,
//!   a name or an address. There is no path, query or user.
//! - **TLS**: the connector does it above the dialer for `wss://` and `https://`; the dialer returns the plain stream.
//!   A dialer that does TLS itself needs `ws://` or `http://` URLs.
//! - **Readiness**: each attempt uses a clone of the dialer and waits until it is ready, within
//!   [`Limits::handshake`](crate::Limits::handshake).
//! - **Calls**: one per connection. `SseDuplexConnector` calls it again for its POSTs, `SseConnector` for each
//!   redirect.
//! - **Errors**: an [`Error`] comes out as it went in. An `io::Error`, also as a source, gives its kind (refused,
//!   timeout, closed). Any other error is [`is_other`](Error::is_other), with the dialer's error as its source.
//! - **Cancel safety**: dropping the connector's future drops the dialer's future.
//!
//! hyper-util's connectors return `TokioIo<S>` and fit with `.map_response(TokioIo::into_inner)`. With
//! `HttpConnector::enforce_http(true)`, its default, they accept every URI passed here.
//!
//! The stream of a custom dialer is boxed once per connection, unless it is a `TcpStream`, a `UnixStream` or a
//! [`Socket`].

mod dialer;
mod exchange;
mod proxy;
mod socket;

use std::future::poll_fn;

use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

#[cfg(feature = "sse")]
pub(super) use self::exchange::client;
#[cfg(any(feature = "http2", feature = "sse"))]
pub(super) use self::exchange::{check_head, http_error, read_body, refusal};
#[cfg(feature = "websocket")]
pub(super) use self::exchange::{head_buffer, head_too_large, max_headers, own_cause};
#[cfg(all(feature = "adaptive", feature = "proxy"))]
pub(crate) use self::proxy::is_of_socks_proxy;
pub(super) use self::{
    dialer::Tls,
    exchange::{Allowance, Metered, exchange},
};
pub use self::{
    dialer::{Dialer, Dialing},
    socket::Socket,
};
pub(super) use super::target::Target;
use crate::{BoxError, Error};

/// A service that opens byte streams: it takes a [`Uri`] and returns a stream to its host and port.
///
/// This trait is an alias. It is implemented for every `Service<http::Uri>` that fits, and needs no implementation by
/// hand. See the [module](self) for what it is called with.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a dialer",
    label = "not a `Service<http::Uri>` that answers with an `AsyncRead + AsyncWrite`",
    note = "a dialer is `Clone + Send + 'static`; its response is tokio's `AsyncRead + AsyncWrite + Unpin + Send + \
            'static`; its error is `Into<BoxError>`; its future is `Send`",
    note = "for a connector of hyper-util, add `.map_response(TokioIo::into_inner)`"
)]
pub trait Dial: Clone + Send + 'static + sealed::Dial {}

impl<D: Clone + Send + 'static + sealed::Dial> Dial for D {}

mod sealed {
    use super::{Error, Socket, Uri};

    #[allow(unnameable_types, reason = "sealed: only dialers implement it")]
    pub trait Dial {
        fn dial(self, to: Uri) -> impl Future<Output = Result<Socket, Error>> + Send;
    }
}

impl<D> sealed::Dial for D
where
    D: Service<Uri> + Send,
    D::Response: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D::Error: Into<BoxError>,
    D::Future: Send,
{
    async fn dial(mut self, to: Uri) -> Result<Socket, Error> {
        let failed = |error: D::Error| exchange::by_cause(error, "the dialer failed");
        poll_fn(|cx| self.poll_ready(cx)).await.map_err(failed)?;
        let stream = self.call(to).await.map_err(failed)?;
        Socket::from_stream(stream).ok_or_else(|| Error::other("the dialer's stream is gone"))
    }
}

/// Connects to `target`, with TLS if its scheme requires it.
pub(super) async fn dial<D: Dial>(dialer: D, tls: &Tls, target: &Target) -> Result<Socket, Error> {
    let socket = dial_plain(dialer, target).await?;
    if target.secure { tls.secure(socket, target).await } else { Ok(socket) }
}

/// Connects to `target`, and offers HTTP/2 next to HTTP/1.1 in TLS.
#[cfg(feature = "http2")]
pub(super) async fn dial_http2<D: Dial>(dialer: D, tls: &Tls, target: &Target) -> Result<Socket, Error> {
    let socket = dial_plain(dialer, target).await?;
    if target.secure { tls.secure_http2(socket, target).await } else { Ok(socket) }
}

async fn dial_plain<D: Dial>(mut dialer: D, target: &Target) -> Result<Socket, Error> {
    // The URI does not tell the scheme: a dialer that does TLS for `https://` would do it twice.
    if let Some(dialer) = (&mut dialer as &mut dyn std::any::Any).downcast_mut::<Dialer>() {
        dialer.set_secure(target.secure);
    }
    sealed::Dial::dial(dialer, target.dialed()?).await
}
