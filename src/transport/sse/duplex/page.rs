use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use tower_service::Service;

use super::{
    client_end::{ClientEnd, Uplink},
    event, names,
    opening::{MAX_POST, MIN_POST, token},
    outbox::Outbox,
    poster::{Post, PostSize, Poster},
    transport::SseDuplex,
};
use crate::{
    Error, Limits,
    transport::{
        setters::in_time,
        sse::{
            Parser,
            downlink::Downlink,
            exchange,
            fetch::{self, Redirects},
        },
        subprotocol::{chosen, offered},
    },
};

/// A connector that opens sessions of SSE and POST, in a page. It is a `Service` that takes the request which opens a
/// session and returns the response with the [`SseDuplex`] as its body.
///
/// It has the name, the request and the response of the native connector, so the same source works on both targets. It
/// uses the browser's `fetch`: the events arrive as a stream, and each POST is a request of its own. The browser adds
/// cookies of the same origin. A request's headers are sent, an `Authorization` for example.
///
/// ```no_run
/// # async fn connect() -> Result<(), tower_transport::BoxError> {
/// use tower::ServiceExt;
/// use tower_transport::{Message, TransportExt, transport::sse::SseDuplexConnector};
///
/// let request = http::Request::get("https://example.com/chat").header("authorization", "Bearer 6f1c").body(())?;
/// let mut session = SseDuplexConnector::new().oneshot(request).await?.into_body();
/// session.send_message(Message::text("hello")).await?;
/// # Ok(()) }
/// ```
///
/// # Backpressure
///
/// The service is always ready. A call waits for the response and the event that opens the session, together at most
/// [`Limits::handshake`]. In the session, a page that does not read slows the server down: the browser stops reading
/// the response.
///
/// # Errors
///
/// Returns an error for which one of these is true:
///
/// - [`is_config`](Error::is_config) if the URL or a header cannot be used in a page.
/// - [`is_io`](Error::is_io) if there is no response. The browser tells a page neither the reason nor the status: the
///   server is unreachable, redirects, or does not allow pages of this origin.
/// - [`is_timeout`](Error::is_timeout) if it takes too long.
/// - [`is_status`](Error::is_status) or [`is_auth`](Error::is_auth) if the server answers with another status than 200.
///   See [`Error::status`] and [`Error::response_body`].
/// - [`is_protocol`](Error::is_protocol) if the response does not open a session.
///
/// # Cancel safety
///
/// Dropping the future aborts the attempt.
#[derive(Clone)]
pub struct SseDuplexConnector {
    limits: Limits,
    subprotocols: Vec<HeaderValue>,
    max_silence: Option<Duration>,
    max_post: usize,
}

impl Default for SseDuplexConnector {
    fn default() -> Self {
        Self { limits: Limits::default(), subprotocols: Vec::new(), max_silence: None, max_post: MAX_POST }
    }
}

impl SseDuplexConnector {
    /// Creates a connector with the default [`Limits`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    connector_setters! {
        limits: "Sets the limits of connecting and of each session.",
        choice: "The server's choice is in the response's header of that name and in [`SseDuplex::subprotocol`]. A page \
                 sends the offer as `Tower-Transport-Protocol`, since browsers reserve the other name."
    }

    /// Sets how long the session may be silent, comments included, before it ends with an error for which
    /// [`is_timeout`](Error::is_timeout) is true. Defaults to no limit.
    ///
    /// This detects a server that is gone without closing the connection. Use two or three times the interval of the
    /// server's comments (15 s by default). The heartbeat layer also detects this, on every transport, with pings.
    #[must_use]
    pub fn max_silence(mut self, time: Duration) -> Self {
        self.max_silence = Some(time);
        self
    }

    /// Sets the maximum size of the body of a `POST`, in bytes. Defaults to 960 KiB, which nginx accepts with its
    /// defaults (`client_max_body_size 1m`). Values below 1 KiB are raised to it. Larger messages are sent in parts.
    #[must_use]
    pub fn max_post(mut self, bytes: usize) -> Self {
        self.max_post = bytes.max(MIN_POST);
        self
    }

    connect_method!(SseDuplex);

    async fn open(self, request: Request<()>) -> Result<Response<SseDuplex>, Error> {
        let (parts, ()) = request.into_parts();
        let uri = parts.uri;
        let mut headers = exchange::headers(parts.headers, &self.subprotocols, "")?;
        let names = offered(&headers);
        exchange::for_a_page(&mut headers);
        if let Some(offered) = headers.remove(header::SEC_WEBSOCKET_PROTOCOL) {
            headers.insert(names::PROTOCOL, offered);
        }
        let answer = fetch::send(&Method::GET, &uri, &headers, None, Redirects::Refuse).await?;
        if answer.status() != StatusCode::OK {
            return Err(fetch::refusal(answer).await);
        }
        exchange::check_headers(answer.headers())?;
        let (mut parts, body) = answer.into_parts();
        let subprotocol = chosen(&mut parts.headers, &names)?;
        let parser = Parser::new().max_event(event::max_data(self.limits.message));
        let mut down = Downlink::new(body, parser).max_silence(self.max_silence);
        let token = token(&mut down).await?;
        headers.remove(&names::PROTOCOL);
        let headers = Poster::<Fetch>::headers(headers, token);
        let takes_parts = names::takes_parts(&parts.headers);
        let outbox = Outbox::new(self.limits.write_buffer, self.max_post, takes_parts);
        let limits = self.limits;
        let poster = Poster { client: Fetch { uri }, headers, limits, takes_parts, size: PostSize::default() };
        let transport = SseDuplex::client(ClientEnd::new(down, Uplink::new(outbox, poster), limits), subprotocol);
        Ok(Response::from_parts(parts, transport))
    }
}

/// The client of the POSTs. The browser keeps the connections.
struct Fetch {
    uri: Uri,
}

impl Post for Fetch {
    async fn post(&mut self, headers: HeaderMap, body: Bytes) -> Result<Response<Bytes>, (Error, bool)> {
        /// The answer to a POST is a head.
        const MOST: usize = 4096;

        let answer = fetch::send(&Method::POST, &self.uri, &headers, Some(&body), Redirects::Refuse).await;
        let (head, body) = answer.map_err(|error| (error.is_config(), error)).map_err(|(is, e)| (e, is))?.into_parts();
        Ok(Response::from_parts(head, body.read(MOST).await))
    }

    fn reset(&mut self) {}

    fn refusal(status: StatusCode, headers: HeaderMap, body: Bytes) -> Error {
        fetch::refusal_of(status, headers, body)
    }
}

impl Service<Request<()>> for SseDuplexConnector {
    type Response = Response<SseDuplex>;
    type Error = Error;
    type Future = SseDuplexConnecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> SseDuplexConnecting {
        let time = self.limits.handshake;
        let connect = self.clone().open(request);
        SseDuplexConnecting(Box::pin(in_time(time, "the session was not opened", connect)))
    }
}

connecting! {
    /// The future of a [`SseDuplexConnector`]: one connection attempt.
    SseDuplexConnecting, Response<SseDuplex>
}

impl fmt::Debug for SseDuplexConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseDuplexConnector")
            .field("limits", &self.limits)
            .field("subprotocols", &self.subprotocols)
            .field("max_silence", &self.max_silence)
            .field("max_post", &self.max_post)
            .finish()
    }
}
