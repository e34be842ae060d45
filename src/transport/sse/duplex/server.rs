use std::{
    convert::Infallible,
    fmt,
    future::Future,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Response, StatusCode, request};
use http_body::Body;
use tower_service::Service;

use super::{
    body::SseDuplexBody,
    head::{self, Ask, Cors},
    receive::SseDuplexAnswer,
    server_end::ServerEnd,
    session::Sessions,
    transport::SseDuplex,
};
use crate::{
    Limits, log, rt,
    transport::{
        drain::{Attended, Drain},
        origin::Origins,
        permit::{Admission, ConnectionPermit},
        refusal::Refusal,
        subprotocol::choose,
    },
};

/// A server of SSE and POST sessions: a `Service` of HTTP requests for hyper (HTTP/1.1 and HTTP/2) and for axum's
/// `route_service`.
///
/// A `GET` opens a session. Its `handler` runs in its own task with the [`SseDuplex`] and the request's parts. A `POST`
/// brings messages of a session. Both use the same path, and clones of the server share the sessions. A page of another
/// origin is rejected (403), unless [allowed](Self::allow_origin).
///
/// ```no_run
/// # async fn serve() -> Result<(), tower_transport::BoxError> {
/// use hyper_util::{rt::{TokioIo, TokioTimer}, service::TowerToHyperService};
/// use tower_transport::{TransportExt, transport::{accept, sse::SseDuplexServer}};
///
/// let echo = SseDuplexServer::new(|mut session, _parts| async move {
///     while let Some(Ok(message)) = session.receive_message().await {
///         if message.is_data() && session.send_message(message).await.is_err() {
///             return;
///         }
///     }
/// });
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
/// loop {
///     let (tcp, _) = accept(|| listener.accept()).await;
///     let connection = hyper::server::conn::http1::Builder::new()
///         .timer(TokioTimer::new()) // a client that never ends its request is cut
///         .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(echo.clone()));
///     tokio::spawn(connection);
/// }
/// # }
/// ```
///
/// | setting | default | when exceeded |
/// |---|---|---|
/// | [`sessions`](Self::sessions) | 1024 | a new client is rejected (503, `Retry-After: 5`) |
/// | [`keep_alive`](Self::keep_alive) | 15 s | a comment is sent on an idle stream |
/// | [`Limits::message`] | 4 MiB | 413, and the session ends (1009) |
/// | [`Limits::write_buffer`] | 64 KiB | down: `poll_ready` is `Pending`; up: reading the POST pauses |
/// | [`Limits::handshake`] | 10 s | a POST whose body stalls is rejected (408) |
///
/// # Backpressure
///
/// The service is always ready. A `GET` is answered immediately. A `POST` is answered when all of its messages are with
/// the handler or wait for it within bounds, or after 10 s with its progress. It needs a tokio runtime.
///
/// # Cancel safety
///
/// Dropping the future of a `POST`, as an HTTP server does when the client is gone, keeps the messages that arrived
/// whole. The client resends the rest.
#[derive(Clone)]
pub struct SseDuplexServer<H> {
    handler: H,
    accept: Arc<Accept>,
    sessions: Arc<Sessions>,
}

#[derive(Clone, Debug)]
struct Accept {
    limits: Limits,
    subprotocols: Vec<HeaderValue>,
    origins: Origins,
    keep_alive: Duration,
    drain: Option<Drain>,
}

impl<H> SseDuplexServer<H> {
    /// Creates a server with the default [`Limits`], for pages of the same host, without a subprotocol.
    pub fn new<F>(handler: H) -> Self
    where
        H: FnOnce(SseDuplex, request::Parts) -> F,
    {
        let accept = Accept {
            limits: Limits::default(),
            subprotocols: Vec::new(),
            origins: Origins::default(),
            keep_alive: Duration::from_secs(15),
            drain: None,
        };
        Self { handler, accept: Arc::new(accept), sessions: Arc::new(Sessions::new(1024)) }
    }

    fn config(&mut self) -> &mut Accept {
        Arc::make_mut(&mut self.accept)
    }

    server_setters! {
        each: "session",
        choice: "The handler finds it in [`SseDuplex::subprotocol`].",
        origin: "Their requests get CORS responses, cookies included.",
        any_origin: "The user's cookies stay out: browsers withhold them."
    }

    https_setter!();

    /// Sets the maximum number of sessions. Defaults to 1024. Sessions whose client is gone and whose handler is still
    /// running count too. A session whose handler has finished keeps its place for at most [`Limits::close`]. Call this
    /// before the server is cloned: this server gets a new set of sessions.
    #[must_use]
    pub fn sessions(mut self, sessions: usize) -> Self {
        self.sessions = Arc::new(Sessions::new(sessions));
        self
    }

    /// Sets the time without an event after which a comment is sent, so that proxies do not consider the stream dead.
    /// Defaults to 15 seconds; zero disables comments.
    #[must_use]
    pub fn keep_alive(mut self, time: Duration) -> Self {
        self.config().keep_alive = time;
        self
    }

    /// Adds the sessions to `drain`, which then can end them: see [`Drain`]. Once it has started, new sessions are
    /// rejected (503). POSTs of existing sessions are accepted until those have ended.
    #[must_use]
    pub fn drain(mut self, drain: &Drain) -> Self {
        self.config().drain = Some(drain.clone());
        self
    }

    /// Returns the current number of sessions.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Opens a session and runs the handler.
    fn open<F>(&self, mut parts: request::Parts) -> Result<Response<SseDuplexBody>, Refusal>
    where
        H: FnOnce(SseDuplex, request::Parts) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        head::offer_of_a_page(&mut parts.headers);
        let (accept, since) = (&*self.accept, rt::Instant::now());
        let seat = match accept.drain.as_ref().map(Drain::admit).transpose() {
            Ok(seat) => seat,
            Err(refusal) => return Err(refusal.logged("sse", &parts)),
        };
        let Some(session) = self.sessions.open(accept.limits, ConnectionPermit::take(&mut parts.extensions)) else {
            const FULL: Refusal = Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "there are too many sessions (SseDuplexServer::sessions)",
            );
            return Err(FULL.logged("sse", &parts));
        };
        let chosen = choose(&accept.subprotocols, &parts.headers);
        let response = head::stream(chosen, SseDuplexBody::events(session.clone(), accept.keep_alive));
        let subprotocol = chosen.and_then(|chosen| chosen.to_str().ok()).map(Into::into);
        let handler = self.handler.clone();
        let admission = Admission::new(None, seat.clone(), log::peer(&parts.extensions), accept.limits.close);
        if let Some(seat) = &seat {
            seat.introduce(&mut parts);
        }
        log::accepted("sse", StatusCode::OK, since.elapsed(), log::peer(&parts.extensions));
        let transport = SseDuplex::server(ServerEnd::new(session, admission), subprotocol);
        rt::spawn(async move { Attended::new(handler(transport, parts), seat).await });
        Ok(response)
    }
}

impl<H, F, B> Service<Request<B>> for SseDuplexServer<H>
where
    H: FnOnce(SseDuplex, request::Parts) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
    B: Body,
{
    type Response = Response<SseDuplexBody>;
    type Error = Infallible;
    type Future = SseDuplexAnswer<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let ask = match head::ask(&parts, &self.accept.limits, &self.accept.origins, &self.sessions) {
            Ok(ask) => ask,
            // The reason is safe to send: a page of a foreign origin cannot read it.
            Err(refusal) => {
                let refusal = refusal.logged("sse", &parts);
                let cors = match refusal.status {
                    StatusCode::FORBIDDEN => Cors::none(),
                    _ => Cors::of(&parts.headers, &self.accept.origins),
                };
                return SseDuplexAnswer::ready(head::refusal(refusal), cors);
            }
        };
        let cors = Cors::of(&parts.headers, &self.accept.origins);
        match ask {
            Ask::Preflight => SseDuplexAnswer::ready(cors.preflight(), cors),
            Ask::Open => SseDuplexAnswer::ready(self.open(parts).unwrap_or_else(head::refusal), cors),
            Ask::Send(session, number) => match session.begin(number) {
                Ok(turn) => SseDuplexAnswer::receive(session, turn, body, cors),
                Err(due) => SseDuplexAnswer::ready(head::progress(StatusCode::CONFLICT, due), cors),
            },
        }
    }
}

impl<H> fmt::Debug for SseDuplexServer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseDuplexServer").field("accept", &self.accept).finish_non_exhaustive()
    }
}
