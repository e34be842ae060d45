use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tower_service::Service;

use super::transport::{Memory, Sse};
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
    },
};

/// A connector that opens event streams in a page, over the browser's `fetch`. It is a `Service` that takes the request
/// and returns the response with the stream of events, [`Sse`], as its body.
///
/// It has the name, the request and the response of the native connector, so the same source works on both targets. It
/// can do more than the browser's own `EventSource`: send headers (an `Authorization`), see the status of a refusal,
/// and bound what arrives. The browser adds cookies of the same origin, and follows redirects.
///
/// A connector and its clones are **one event source**. They share the id of the last event received from this URI and
/// the reconnect delay that the server asked for. Each connection sends that id as `Last-Event-ID`, and each error
/// carries that delay ([`Error::retry_after`]). Put the [reconnect layer](crate::layer::reconnect) above it to get a
/// full `EventSource`. Create a new connector for each stream.
///
/// # Backpressure
///
/// The service is always ready. A call waits for the response, at most [`Limits::handshake`]. A page that takes no
/// events slows the server down: the browser stops reading.
///
/// # Errors
///
/// Returns an error for which one of these is true:
///
/// - [`is_config`](Error::is_config) if the URL or a header cannot be used in a page.
/// - [`is_io`](Error::is_io) if there is no response. The browser tells a page neither the reason nor the status.
/// - [`is_timeout`](Error::is_timeout) if it takes too long.
/// - [`is_status`](Error::is_status) or [`is_auth`](Error::is_auth) if the status is not 200. 204 means that there is
///   nothing more, and is final for the reconnect layer.
/// - [`is_protocol`](Error::is_protocol) if the response is not an event stream.
///
/// A page of another origin needs the server's permission (CORS) for `Last-Event-ID` and for headers of its own.
///
/// # Cancel safety
///
/// Dropping the future aborts the attempt.
#[derive(Clone)]
pub struct SseConnector {
    limits: Limits,
    max_line: usize,
    max_silence: Option<Duration>,
    memory: Memory,
}

impl SseConnector {
    /// Creates a connector with the defaults, which has seen no event yet.
    #[must_use]
    pub fn new() -> Self {
        Self { limits: Limits::default(), max_line: 64 << 10, max_silence: None, memory: Memory::default() }
    }

    /// Sets the limits: [`message`](Limits::message) for the data of an event, [`handshake`](Limits::handshake) for
    /// connecting, and [`idle`](Limits::idle). The other limits have no effect here.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    event_source_methods!("page");

    connect_method!(Sse);

    async fn open(self, request: Request<()>) -> Result<Response<Sse>, Error> {
        let (parts, ()) = request.into_parts();
        if parts.headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
            return Err(Error::config("a page cannot offer subprotocols to a server of plain events"));
        }
        let id = self.memory.begin(&parts.uri, exchange::first_id(&parts.headers)?);
        let mut headers = exchange::headers(parts.headers, &[] as &[HeaderValue], &id)?;
        exchange::for_a_page(&mut headers);
        let answer = fetch::send(&Method::GET, &parts.uri, &headers, None, Redirects::Follow).await?;
        if answer.status() != StatusCode::OK {
            return Err(fetch::refusal(answer).await);
        }
        exchange::check_headers(answer.headers())?;
        let (head, body) = answer.into_parts();
        let parser = Parser::new().max_line(self.max_line).max_event(self.limits.message).resume_from(&id);
        let down = Downlink::new(body, parser).max_silence(self.max_silence);
        Ok(Response::from_parts(head, Sse::new(down, parts.uri, self.memory, &self.limits)))
    }
}

impl Default for SseConnector {
    fn default() -> Self {
        Self::new()
    }
}

impl Service<Request<()>> for SseConnector {
    type Response = Response<Sse>;
    type Error = Error;
    type Future = SseConnecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> SseConnecting {
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

impl fmt::Debug for SseConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseConnector")
            .field("limits", &self.limits)
            .field("max_line", &self.max_line)
            .field("max_silence", &self.max_silence)
            .field("retry", &self.retry())
            .finish_non_exhaustive()
    }
}
