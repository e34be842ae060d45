use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
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
        dial::{self, Dial, Dialer, Target, Tls, read_body},
        setters::in_time,
        sse::{
            Parser,
            connection::{Body, HttpConnection},
            downlink::Downlink,
            exchange,
        },
        subprotocol::{chosen, offered},
    },
};

/// A connector that opens sessions of SSE and POST. It is a `Service` that takes the request which opens a session and
/// returns the response with the [`SseDuplex`] as its body.
///
/// The request's URI is the destination (`http://`, `https://`). Its headers are sent with the `GET` that opens the
/// session and with each `POST`. tower-http's layers therefore apply: an `Authorization`, a request id, any header. The
/// page [`layer::http`](crate::layer::http) lists them.
///
/// It dials over TCP ([`Dialer`]); [`proxy`](Self::proxy), [`unix`](Self::unix) and, for anything else,
/// [`dial_with`](Self::dial_with) change that.
///
/// ```no_run
/// # async fn connect() -> Result<(), tower_transport::BoxError> {
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt, timeout::TimeoutLayer};
/// use tower_transport::{Message, TransportExt, transport::sse::SseDuplexConnector};
///
/// let connector = ServiceBuilder::new()
///     .layer(TimeoutLayer::new(Duration::from_secs(5)))
///     .service(SseDuplexConnector::new().subprotocol("chat.v1")?);
/// let request = http::Request::get("http://localhost:3000/chat").body(())?;
/// let response = connector.oneshot(request).await?;
/// println!("connected: {:?}", response.headers());
/// response.into_body().send_message(Message::text("hello")).await?;
/// # Ok(()) }
/// ```
///
/// # Backpressure
///
/// The service is always ready. A call waits for name resolution, TCP, the proxy, TLS, the response head and the event
/// that opens the session, together at most [`Limits::handshake`]. The second connection, for the POSTs, is opened when
/// there is something to send. It needs a tokio runtime with I/O and time. No task is spawned.
///
/// # Errors
///
/// Returns an error for which one of these is true:
///
/// - [`is_config`](Error::is_config) if the URL cannot work, or if the server redirects. A redirect is not followed,
///   because the request may carry credentials.
/// - [`is_dns`](Error::is_dns), [`is_refused`](Error::is_refused), [`is_tls`](Error::is_tls) or
///   [`is_timeout`](Error::is_timeout) if connecting fails.
/// - [`is_status`](Error::is_status) or [`is_auth`](Error::is_auth) if the server answers with another status. See
///   [`Error::status`] and [`Error::response_body`].
/// - [`is_protocol`](Error::is_protocol) if the response does not open a session.
/// - [`is_too_large`](Error::is_too_large) if it exceeds [`Limits::header_bytes`], [`Limits::headers`] or
///   [`Limits::handshake_bytes`].
///
/// # Cancel safety
///
/// Dropping the future drops the connection attempt.
#[derive(Clone)]
pub struct SseDuplexConnector<D = Dialer> {
    limits: Limits,
    subprotocols: Vec<HeaderValue>,
    max_silence: Option<Duration>,
    max_post: usize,
    dialer: D,
    tls: Tls,
}

impl Default for SseDuplexConnector {
    fn default() -> Self {
        let (limits, dialer, tls) = Default::default();
        Self { limits, subprotocols: Vec::new(), max_silence: None, max_post: MAX_POST, dialer, tls }
    }
}

impl SseDuplexConnector {
    /// Creates a connector with the default [`Limits`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    default_dialer_setters!();
}

impl<D> SseDuplexConnector<D> {
    connector_setters! {
        limits: "Sets the limits of connecting and of each session.",
        choice: "The server's choice is in the response's header of that name and in [`SseDuplex::subprotocol`]."
    }

    dialer_setters!("https");

    /// Opens byte streams with `dialer`, in place of the default [`Dialer`]: see [`dial`](crate::transport::dial). TLS
    /// is done above it. Settings made before, except a proxy and a Unix socket, are kept.
    #[must_use]
    pub fn dial_with<E: Dial>(self, dialer: E) -> SseDuplexConnector<E> {
        let Self { limits, subprotocols, max_silence, max_post, dialer: _, tls } = self;
        SseDuplexConnector { limits, subprotocols, max_silence, max_post, dialer, tls }
    }

    /// Sets how long the session may be silent, comments included, before it ends with an error for which
    /// [`is_timeout`](Error::is_timeout) is true. Defaults to no limit.
    ///
    /// This detects a server that is gone without closing the connection. Use two or three times the interval of the
    /// server's comments (15 s, unless [`keep_alive`](super::SseDuplexServer::keep_alive) sets another). The heartbeat
    /// layer also detects this, on every transport, with pings.
    #[must_use]
    pub fn max_silence(mut self, time: Duration) -> Self {
        self.max_silence = Some(time);
        self
    }

    /// Sets the maximum size of the body of a `POST`, in bytes. Defaults to 960 KiB, which nginx accepts with its
    /// defaults (`client_max_body_size 1m`). Values below 1 KiB are raised to it.
    ///
    /// Waiting messages are spread over as many POSTs as needed. A message over 64 KiB, or over this size if that is
    /// less, is sent in parts. If the server does not announce support for parts (`Tower-Transport-Parts`), such a
    /// message is sent whole, in one POST.
    ///
    /// A POST begins with 64 KiB. It doubles while the server answers within a second, and becomes smaller on a slow
    /// line. A POST is given 20 s ([`Limits::handshake`] and 10 s for a server without room), and a second for each
    /// 16 KiB, so messages pass on any line of at least 3 KB a second.
    #[must_use]
    pub fn max_post(mut self, bytes: usize) -> Self {
        self.max_post = bytes.max(MIN_POST);
        self
    }
}

impl<D: Dial> SseDuplexConnector<D> {
    connect_method!(SseDuplex, D);

    async fn open(self, request: Request<()>) -> Result<Response<SseDuplex>, Error> {
        let target = Target::parse(request.uri())?;
        let mut headers = exchange::headers(request.into_parts().0.headers, &self.subprotocols, "")?;
        headers.entry(header::HOST).or_insert_with(|| target.authority.clone());
        target.authorize(&mut headers)?;
        let mut connection = HttpConnection::open(self.dialer.clone(), &self.tls, &target, self.limits).await?;
        let response = connection.request(open_request(&headers, &target)).await?;
        let (mut parts, body) = check(response, &mut connection).await?.into_parts();
        let subprotocol = chosen(&mut parts.headers, &offered(&headers))?;
        let parser = Parser::new().max_event(event::max_data(self.limits.message));
        let mut down = Downlink::new(Body::new(connection, body), parser).max_silence(self.max_silence);
        let token = token(&mut down).await?;
        down.accept();
        // The session begins with the token: a POST without it would be one of a stranger.
        let headers = Poster::<HttpClient<D>>::headers(headers, token);
        let takes_parts = names::takes_parts(&parts.headers);
        let outbox = Outbox::new(self.limits.write_buffer, self.max_post, takes_parts);
        let (dialer, tls, limits) = (self.dialer, self.tls, self.limits);
        let client = HttpClient { dialer, tls, target, limits, connection: None };
        let poster = Poster { client, headers, limits, takes_parts, size: PostSize::default() };
        let up = Uplink::new(outbox, poster);
        let transport = SseDuplex::client(ClientEnd::new(down, up, limits), subprotocol);
        Ok(Response::from_parts(parts, transport))
    }
}

/// The client of the POSTs, with the connection that it keeps between them.
struct HttpClient<D> {
    dialer: D,
    tls: Tls,
    target: Target,
    limits: Limits,
    connection: Option<HttpConnection>,
}

impl<D: Dial> HttpClient<D> {
    async fn connection(&mut self) -> Result<&mut HttpConnection, (Error, bool)> {
        let mut kept = self.connection.take();
        if let Some(connection) = &mut kept
            && !connection.is_usable().await
        {
            kept = None;
        }
        let connection = match kept {
            Some(connection) => connection,
            None => {
                let opened = HttpConnection::open(self.dialer.clone(), &self.tls, &self.target, self.limits).await;
                opened.map_err(|error| {
                    let is_final = error.is_config() || error.is_tls() || error.is_auth();
                    (error, is_final)
                })?
            }
        };
        Ok(self.connection.insert(connection))
    }
}

impl<D: Dial> Post for HttpClient<D> {
    async fn post(&mut self, headers: HeaderMap, body: Bytes) -> Result<Response<Bytes>, (Error, bool)> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from(self.target.path.clone());
        *request.headers_mut() = headers;
        let connection = self.connection().await?;
        let response = connection.request(request).await.map_err(|error| (error, false))?;
        let (head, body) = response.into_parts();
        let body = connection.drive(read_body(body)).await;
        Ok(Response::from_parts(head, body))
    }

    fn reset(&mut self) {
        self.connection = None;
    }

    fn refusal(status: StatusCode, headers: HeaderMap, body: Bytes) -> Error {
        dial::refusal(status, headers, body)
    }
}

fn open_request(headers: &HeaderMap, target: &Target) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = Uri::from(target.path.clone());
    request.headers_mut().clone_from(headers);
    request
}

impl<D: Dial> Service<Request<()>> for SseDuplexConnector<D> {
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

impl<D: fmt::Debug> fmt::Debug for SseDuplexConnector<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseDuplexConnector")
            .field("limits", &self.limits)
            .field("subprotocols", &self.subprotocols)
            .field("max_silence", &self.max_silence)
            .field("max_post", &self.max_post)
            .field("dialer", &self.dialer)
            .finish_non_exhaustive()
    }
}

/// Checks that the response is an event stream.
async fn check(response: Response<Incoming>, connection: &mut HttpConnection) -> Result<Response<Incoming>, Error> {
    let status = response.status();
    if status == StatusCode::OK {
        exchange::check_headers(response.headers())?;
        return Ok(response);
    }
    if let (true, Some(location)) = (status.is_redirection(), response.headers().get(header::LOCATION)) {
        let place = place(location);
        let refusal = connection.refusal(response).await;
        return Err(Error::config(format!(
            "the server redirects ({status}) to {place}, which is not followed: connect to that URL instead"
        ))
        .with_answer_of(&refusal));
    }
    Err(connection.refusal(response).await)
}

/// Formats the destination of a redirect without the parts that may be secret: its path, its query, its user.
fn place(location: &HeaderValue) -> String {
    let uri = location.to_str().ok().and_then(|location| location.parse::<Uri>().ok());
    let place = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.host()?, uri.port_u16())));
    match place {
        // A host name is never longer (RFC 1035, section 2.3.4).
        Some((scheme, host, port)) if scheme.len() + host.len() <= 255 => match port {
            Some(port) => format!("`{scheme}://{host}:{port}`"),
            None => format!("`{scheme}://{host}`"),
        },
        _ => "another place".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_redirect_no_more_is_told_than_scheme_and_host() {
        for (location, told) in [
            ("https://a.example/login?token=secret#x", "`https://a.example`"),
            ("http://user:secret@a.example:8080/", "`http://a.example:8080`"),
            ("/login?token=secret", "another place"),
            ("//a.example/secret", "another place"),
            ("secret", "another place"),
            ("", "another place"),
        ] {
            assert_eq!(place(&HeaderValue::from_static(location)), told, "{location}");
        }
        let long = format!("https://{}/", "a".repeat(60_000));
        assert_eq!(place(&HeaderValue::from_str(&long).unwrap()), "another place");
    }
}
