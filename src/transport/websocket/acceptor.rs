use std::{convert::Infallible, future::ready, sync::Arc};

use http::{Request, StatusCode, request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    WebSocket,
    upgrade::{AcceptConfig, Draining, UpgradeRequest, refuse},
};
use crate::{
    Error, log, rt,
    sync::Mutex,
    transport::{
        dial::{Allowance, Metered, head_buffer, head_too_large, max_headers, own_cause},
        drain::Drain,
        setters::in_time,
    },
};

/// A server's handshake over a byte stream of your own: a TCP or TLS stream that no HTTP server handles, a Unix socket,
/// an in-memory pipe.
///
/// It reads one HTTP/1.1 request and answers it. Behind an HTTP server, use
/// [`WebSocketService`](super::WebSocketService) instead. A handshake that some other code has performed needs neither:
/// see [`WebSocket::server`].
///
/// ```
/// # async fn serve() -> Result<(), tower_transport::Error> {
/// use tower_transport::{Message, TransportExt, transport::websocket::{WebSocketAcceptor, WebSocketConnector}};
///
/// let (client, server) = tokio::io::duplex(64 * 1024);
/// let acceptor = WebSocketAcceptor::new().subprotocol("chat.v1")?;
/// let connector = WebSocketConnector::new().subprotocol("chat.v1")?;
/// let request = http::Request::get("ws://example.com/chat").body(()).unwrap();
/// let (accepted, response) = tokio::join!(acceptor.accept(server), connector.handshake(client, request));
/// let ((parts, mut server), mut client) = (accepted?, response?.into_body());
/// assert_eq!((parts.uri.path(), server.subprotocol()), ("/chat", Some("chat.v1")));
/// client.send_message(Message::text("hello")).await?;
/// assert_eq!(server.receive_message().await.unwrap()?, Message::text("hello"));
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serve()).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct WebSocketAcceptor {
    accept: Arc<AcceptConfig>,
}

impl WebSocketAcceptor {
    /// Creates an acceptor with the default [`Limits`](crate::Limits), for pages of the same host, without a
    /// subprotocol.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn config(&mut self) -> &mut AcceptConfig {
        Arc::make_mut(&mut self.accept)
    }

    server_setters! {
        each: "handshake and of the connection",
        choice: "It is returned by [`WebSocket::subprotocol`].",
        origin: "",
        any_origin: "Any page that a user visits can then use the user's cookies here: for endpoints that ignore them."
    }

    https_setter!();

    deflate_setter!();

    /// Adds the connections to `drain`, which then can end them: see [`Drain`]. A second call replaces the first.
    #[must_use]
    pub fn drain(mut self, drain: &Drain) -> Self {
        self.config().drain = Some(Draining::Whole(drain.clone()));
        self
    }

    /// Performs the server's handshake. Returns the head of the client's request and the connection. Bytes that the
    /// client sends right after its request are not lost: they belong to the [`WebSocket`].
    ///
    /// It waits for the request and for the stream to take the response, together at most
    /// [`Limits::handshake`](crate::Limits::handshake).
    ///
    /// # Errors
    ///
    /// A request that is not a valid handshake, or that comes from a page of another origin, is answered with a status
    /// and a reason. The error then has both: see [`Error::status`] and [`Error::response_body`].
    ///
    /// Otherwise returns an error for which one of these is true:
    ///
    /// - [`is_closed`](Error::is_closed) if the client left before the handshake was complete.
    /// - [`is_too_large`](Error::is_too_large) if its request exceeds [`Limits::header_bytes`](crate::Limits::header_bytes),
    ///   [`Limits::headers`](crate::Limits::headers) or
    ///   [`Limits::handshake_bytes`](crate::Limits::handshake_bytes).
    /// - [`is_protocol`](Error::is_protocol) if the client's bytes are not an HTTP/1.1 request.
    /// - [`is_timeout`](Error::is_timeout) if the handshake took longer than
    ///   [`Limits::handshake`](crate::Limits::handshake).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream.
    pub async fn accept<S>(&self, io: S) -> Result<(request::Parts, WebSocket<S>), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        in_time(self.accept.limits.handshake, "the handshake was not completed", self.handshake(io)).await
    }

    async fn handshake<S>(&self, io: S) -> Result<(request::Parts, WebSocket<S>), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let since = rt::Instant::now();
        let outcome = Mutex::new(None);
        let answer = service_fn(|request: Request<Incoming>| {
            let (mut parts, _) = request.into_parts();
            let accepted = UpgradeRequest::of(&mut parts).and_then(|asked| self.accept.accept(asked, &parts));
            let (answer, result) = match accepted {
                Ok(pending) => {
                    let (answer, connection) = pending.into_parts();
                    (answer, Ok((parts, connection)))
                }
                Err(refusal) => {
                    let refusal = refusal.logged("websocket", &parts);
                    let error = Error::from_refusal(refusal.status, refusal.reason.to_string().into())
                        .context(refusal.reason.clone());
                    (refuse(refusal), Err(error))
                }
            };
            *outcome.lock() = Some(result);
            ready(Ok::<_, Infallible>(answer))
        });
        let limits = &self.accept.limits;
        let allowance = Allowance::none();
        allowance.renew(limits);
        let mut http = http1::Builder::new();
        http.keep_alive(false).max_buf_size(head_buffer(limits)).max_headers(max_headers(limits));
        let served = http.serve_connection(TokioIo::new(Metered::new(io, allowance)), answer).without_shutdown().await;
        let served = served.map(|parts| (parts.io.into_inner().into_inner(), parts.read_buf));
        let left = || Error::closed("the client left before the handshake was complete");
        let (parts, connection) = match (outcome.into_inner(), &served) {
            (Some(accepted), _) => accepted?,
            (None, Ok(_)) => return Err(left()),
            (None, Err(error)) if error.is_parse_too_large() => {
                return Err(head_too_large("client's request", limits));
            }
            (None, Err(error)) if error.is_parse() => {
                return Err(Error::protocol("the client's bytes are not an HTTP/1.1 request"));
            }
            (None, Err(error)) => return Err(own_cause(error).unwrap_or_else(left)),
        };
        let (io, early) = served.map_err(|error| left().with_source(error))?;
        let peer = log::peer(&parts.extensions);
        log::accepted("websocket", StatusCode::SWITCHING_PROTOCOLS, since.elapsed(), peer);
        Ok((parts, connection.open(io, early)))
    }
}
