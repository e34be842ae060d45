use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Response, StatusCode, header};
use tower_service::Service;

use super::{
    redirect::{follow, forget_credentials, is_redirect},
    transport::{Memory, Sse},
};
use crate::{
    Error, Limits,
    transport::{
        dial::{Dial, Dialer, Target, Tls},
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

/// A connector that opens event streams, as a browser's `EventSource` does. It is a `Service` that takes the request
/// and returns the response with the stream of events, [`Sse`], as its body.
///
/// The request's URI is the destination (`http://`, `https://`). Its headers are sent to the server: an
/// `Authorization`, cookies, any header. The page [`layer::http`](crate::layer::http) lists tower-http's layers that
/// apply to it.
///
/// It dials over TCP ([`Dialer`]); [`proxy`](Self::proxy), [`unix`](Self::unix) and, for anything else,
/// [`dial_with`](Self::dial_with) change that.
///
/// A connector and its clones are **one event source**. They share the id of the last event received from this URI and
/// the reconnect delay that the server asked for. Each connection sends that id as `Last-Event-ID`, and each error
/// carries that delay ([`Error::retry_after`]). Put the [reconnect layer](crate::layer::reconnect) above it to get a
/// full `EventSource`. Create a new connector for each stream.
///
/// ```no_run
/// # #[cfg(feature = "reconnect")]
/// # async fn read() -> Result<(), tower_transport::Error> {
/// use futures_util::StreamExt;
/// use tower::ServiceBuilder;
/// use tower_transport::{ServiceBuilderExt, layer::reconnect::Backoff, transport::sse::SseConnector};
///
/// let events = ServiceBuilder::new()
///     .reconnect("https://example.com/prices", Backoff::exponential())
///     .service(SseConnector::new());
/// let mut events = Box::pin(events);
/// while let Some(event) = events.next().await {
///     let event = event?;
///     println!("{}: {}", event.event_type(), event.data());
/// }
/// # Ok(()) }
/// ```
///
/// | setting | default |
/// |---|---|
/// | [`limits`](Self::limits) | [`Limits::message`] for an event's data, 4 MiB; [`Limits::handshake`], 10 s |
/// | [`max_line`](Self::max_line) | 64 KiB for a line that is not data |
/// | [`max_redirects`](Self::max_redirects) | 5 |
/// | [`max_silence`](Self::max_silence) | none |
/// | [`proxy`](Self::proxy), [`unix`](Self::unix), [`tls`](Self::tls) | none; none; the operating system's roots |
///
/// # Response handling
///
/// | response | result | [`classify`](crate::layer::reconnect::classify()) |
/// |---|---|---|
/// | 200 and `text/event-stream` | the stream | |
/// | 200 and another content type or encoding | [`is_protocol`](Error::is_protocol), which names it | final |
/// | 204: there is nothing more | [`is_status`](Error::is_status) | final |
/// | 301, 302, 303, 307, 308 | followed; never from `https` to `http` | |
/// | 401, 403, 407 | [`is_auth`](Error::is_auth) | final |
/// | 408, 425, 429, 5xx | [`is_status`](Error::is_status), with the `Retry-After` of the server | retried |
/// | any other | [`is_status`](Error::is_status) | final |
///
/// Credentials stay with their origin when a redirect leads to another: `Authorization`, `Cookie`, headers marked as
/// sensitive, a `bearer.` subprotocol.
///
/// # Backpressure
///
/// The service is always ready. A call waits for name resolution, TCP, the proxy, TLS and the response head, redirects
/// included, together at most [`Limits::handshake`]. It needs a tokio runtime with I/O and time. No task is spawned.
///
/// # Errors
///
/// Returns the errors of the table above, and an error for which one of these is true:
///
/// - [`is_config`](Error::is_config) if the URL cannot work.
/// - [`is_dns`](Error::is_dns), [`is_refused`](Error::is_refused), [`is_tls`](Error::is_tls) or
///   [`is_timeout`](Error::is_timeout) if connecting fails.
/// - [`is_closed`](Error::is_closed) if the connection is lost before the response.
/// - [`is_too_large`](Error::is_too_large) if the response exceeds [`Limits::header_bytes`], [`Limits::headers`] or
///   [`Limits::handshake_bytes`].
/// - [`is_protocol`](Error::is_protocol) if there are too many redirects, or one that is not followed. See
///   [`Error::status`] and [`Error::response_headers`], with the `Location`.
///
/// An id with control characters or of more than 4 KiB cannot be sent. The next request then goes without
/// `Last-Event-ID`, and the server starts as it does for a new client.
///
/// # Cancel safety
///
/// Dropping the future drops the connection attempt.
#[derive(Clone)]
pub struct SseConnector<D = Dialer> {
    limits: Limits,
    max_line: usize,
    max_redirects: usize,
    max_silence: Option<Duration>,
    subprotocols: Vec<HeaderValue>,
    dialer: D,
    tls: Tls,
    memory: Memory,
}

impl SseConnector {
    /// Creates a connector with the defaults, which has seen no event yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            limits: Limits::default(),
            max_line: 64 << 10,
            max_redirects: 5,
            max_silence: None,
            subprotocols: Vec::new(),
            dialer: Dialer::new(),
            tls: Tls::default(),
            memory: Memory::default(),
        }
    }

    default_dialer_setters!();
}

impl<D> SseConnector<D> {
    connector_setters! {
        limits: "Sets the limits: [`message`](Limits::message) for the data of an event, those of a handshake for \
                 each request, and [`idle`](Limits::idle). The other limits have no effect here.",
        choice: "Servers that do not use this crate ignore it. The server's choice is in [`Sse::subprotocol`]."
    }

    dialer_setters!("https");

    /// Opens byte streams with `dialer`, in place of the default [`Dialer`]: see [`dial`](crate::transport::dial). TLS
    /// is done above it. Settings made before, except a proxy and a Unix socket, are kept.
    #[must_use]
    pub fn dial_with<E: Dial>(self, dialer: E) -> SseConnector<E> {
        let Self { limits, max_line, max_redirects, max_silence, subprotocols, memory, dialer: _, tls } = self;
        SseConnector { limits, max_line, max_redirects, max_silence, subprotocols, memory, dialer, tls }
    }

    /// Sets the maximum number of redirects per call. Defaults to 5; with 0, a redirect is an error.
    #[must_use]
    pub fn max_redirects(mut self, redirects: usize) -> Self {
        self.max_redirects = redirects;
        self
    }

    event_source_methods!("process");
}

impl<D: Dial> SseConnector<D> {
    connect_method!(Sse, D);

    async fn open(self, request: Request<()>) -> Result<Response<Sse>, Error> {
        let (parts, ()) = request.into_parts();
        let id = self.memory.begin(&parts.uri, exchange::first_id(&parts.headers)?);
        let mut headers = exchange::headers(parts.headers, &self.subprotocols, &id)?;
        let mut target = Target::parse(&parts.uri)?;
        target.authorize(&mut headers)?;
        let mut redirects = 0;
        loop {
            let mut connection = HttpConnection::open(self.dialer.clone(), &self.tls, &target, self.limits).await?;
            let answer = connection.request(exchange::request(&headers, &target)).await?;
            if is_redirect(answer.status()) {
                let followed = match redirects < self.max_redirects {
                    true => follow(&target, answer.headers().get(header::LOCATION)),
                    false => Err(Error::protocol(format!(
                        "the server redirected more than {redirects} times (SseConnector::max_redirects)"
                    ))),
                };
                let to = match followed {
                    Ok(to) => to,
                    Err(error) => return Err(error.with_answer_of(&connection.refusal(answer).await)),
                };
                redirects += 1;
                forget_credentials(&mut headers, &target, &to);
                // The server has named these credentials, in place of those of the original request.
                if let Some(authorization) = to.authorization() {
                    headers.insert(header::AUTHORIZATION, authorization.clone());
                }
                target = to;
                continue;
            }
            if answer.status() != StatusCode::OK {
                return Err(connection.refusal(answer).await);
            }
            exchange::check_headers(answer.headers())?;
            connection.accept();
            let (mut head, body) = answer.into_parts();
            let subprotocol = chosen(&mut head.headers, &offered(&headers))?;
            let parser = Parser::new().max_line(self.max_line).max_event(self.limits.message).resume_from(&id);
            let down = Downlink::new(Body::new(connection, body), parser).max_silence(self.max_silence);
            let events = Sse::new(down, parts.uri, self.memory, &self.limits).with_subprotocol(subprotocol);
            return Ok(Response::from_parts(head, events));
        }
    }
}

impl Default for SseConnector {
    fn default() -> Self {
        Self::new()
    }
}

impl<D: Dial> Service<Request<()>> for SseConnector<D> {
    type Response = Response<Sse>;
    type Error = Error;
    type Future = SseConnecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> SseConnecting {
        // One limit for all redirects together.
        let time = self.limits.handshake;
        let memory = self.memory.clone();
        let connect = self.clone().open(request);
        SseConnecting(Box::pin(async move {
            let connected = in_time(time, "the event stream did not begin", connect).await;
            connected.map_err(|error| match (error.retry_after(), memory.retry()) {
                (None, Some(retry)) => error.with_retry_after(retry),
                _ => error,
            })
        }))
    }
}

connecting! {
    /// The future of an [`SseConnector`]: one connection attempt.
    SseConnecting, Response<Sse>
}

impl<D: fmt::Debug> fmt::Debug for SseConnector<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseConnector")
            .field("limits", &self.limits)
            .field("max_line", &self.max_line)
            .field("max_redirects", &self.max_redirects)
            .field("max_silence", &self.max_silence)
            .field("subprotocols", &self.subprotocols)
            .field("dialer", &self.dialer)
            .field("retry", &self.retry())
            .finish_non_exhaustive()
    }
}
