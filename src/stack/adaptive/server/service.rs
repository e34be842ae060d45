use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    guard::{Admitting, Verdict},
    live::SessionSeat,
    sessions::{Opening, Sessions},
};
use crate::{
    log,
    stack::adaptive::TransportKind,
    transport::{
        sse::{SseDuplexAnswer, SseDuplexBody},
        websocket::UpgradeBody,
    },
};

/// The HTTP transports of a [`SessionServer`](super::SessionServer), or one of them: a `Service` of HTTP requests for
/// hyper, and for axum's `route_service` and `fallback_service`. Clones share the server.
///
/// # Backpressure
///
/// The service is always ready. Its future waits for the guard, and for everything that the POSTs of SSE wait for.
#[derive(Clone)]
pub struct SessionService {
    sessions: Arc<Sessions>,
    serves: Serves,
    address: Option<SocketAddr>,
}

/// The transports that a service serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serves {
    ByPath,
    WebSocket,
    Sse,
}

impl SessionService {
    pub(super) fn new(sessions: Arc<Sessions>, serves: Serves) -> Self {
        Self { sessions, serves, address: None }
    }

    /// Sets the address of the client whose requests are served. The address is put into the extensions of each
    /// request, for guards, limits and the handler. Call it on a clone for each connection. (In axum, a layer that
    /// copies the address out of `ConnectInfo` does the same.)
    #[must_use]
    pub const fn from_address(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    fn kind(&self, path: &str) -> Option<TransportKind> {
        match self.serves {
            Serves::WebSocket => Some(TransportKind::WebSocket),
            Serves::Sse => Some(TransportKind::Sse),
            Serves::ByPath if path == &*self.sessions.web_socket_at => Some(TransportKind::WebSocket),
            Serves::ByPath if path == &*self.sessions.sse_at => Some(TransportKind::Sse),
            Serves::ByPath => None,
        }
    }
}

fn refuse(reason: &'static str) -> Response<SessionBody> {
    let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, reason);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

fn answer(status: StatusCode, reason: &'static str) -> Response<SessionBody> {
    let mut response = Response::new(SessionBody::sentence(reason));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

impl<B: Body> Service<Request<B>> for SessionService {
    type Response = Response<SessionBody>;
    type Error = Infallible;
    type Future = SessionFuture<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        if let Some(address) = self.address {
            parts.extensions.insert(address);
        }
        let Some(kind) = self.kind(parts.uri.path()) else {
            return SessionFuture::ready(answer(StatusCode::NOT_FOUND, "no session is served at this path"));
        };
        // All other SSE requests belong to a session that has begun, or to no session.
        // A POST or a preflight must not take a seat: a session would then need several.
        let begins = kind == TransportKind::WebSocket || parts.method == Method::GET;
        let seat = match begins.then(|| self.sessions.enter(&parts)).transpose() {
            Ok(seat) => seat,
            Err(reason) => {
                log::refused(kind.as_str(), StatusCode::SERVICE_UNAVAILABLE, reason, &parts);
                return SessionFuture::ready(refuse(reason));
            }
        };
        let request = SeatedRequest { sessions: self.sessions.clone(), kind, seat, body };
        match &self.sessions.guard {
            Some(guard) if begins => {
                SessionFuture::new(Step::Guard { admitting: guard.check(parts), request: Some(request) })
            }
            _ => SessionFuture::new(request.begin(parts, HeaderMap::new())),
        }
    }
}

debug_fields!(SessionService { serves });

pin_project! {
    /// The future of a [`SessionService`](super::SessionService): the guard, then the transport's answer.
    #[must_use = "futures do nothing unless awaited"]
    pub struct SessionFuture<B> {
        #[pin]
        step: Step<B>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<B> {
        Ready { response: Option<Response<SessionBody>> },
        Guard { #[pin] admitting: Admitting, request: Option<SeatedRequest<B>> },
        Sse { #[pin] answer: SseDuplexAnswer<B>, headers: HeaderMap },
    }
}

/// The remaining steps for a request that the guard admits.
struct SeatedRequest<B> {
    sessions: Arc<Sessions>,
    kind: TransportKind,
    /// The seat of a request that may begin a session. A guard does not get it, because a guard may drop the request.
    seat: Option<SessionSeat>,
    body: B,
}

impl<B> SessionFuture<B> {
    const fn new(step: Step<B>) -> Self {
        Self { step }
    }

    const fn ready(response: Response<SessionBody>) -> Self {
        Self::new(Step::Ready { response: Some(response) })
    }
}

impl<B: Body> SeatedRequest<B> {
    /// Lets the transport answer, and adds `headers` to the response.
    fn begin(self, mut parts: request::Parts, headers: HeaderMap) -> Step<B> {
        if let Some(seat) = self.seat {
            // The upgrade and the SSE server hand the request's extensions to their handlers, which are plain
            // functions.
            parts.extensions.insert(Opening::new(self.sessions.clone(), seat));
        }
        match self.kind {
            TransportKind::Sse => {
                let answer = self.sessions.sse.clone().call(Request::from_parts(parts, self.body));
                Step::Sse { answer, headers }
            }
            _ => {
                // The upgrade takes no body, and answers at once: its session runs in a task of its own.
                let upgrade = self.sessions.web_socket.clone().call(Request::from_parts(parts, ())).into_inner();
                let Ok(mut response) = upgrade;
                response.headers_mut().extend(headers);
                Step::Ready { response: Some(response.map(SessionBody::from)) }
            }
        }
    }
}

impl<B: Body> Future for SessionFuture<B> {
    type Output = Result<Response<SessionBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let step = match this.step.as_mut().project() {
                StepProj::Ready { response } => {
                    return response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)));
                }
                StepProj::Sse { answer, headers } => {
                    let Ok(mut response) = ready!(answer.poll(cx));
                    response.headers_mut().extend(std::mem::take(headers));
                    return Poll::Ready(Ok(response.map(SessionBody::from)));
                }
                StepProj::Guard { admitting, request } => {
                    let verdict = Verdict::of(ready!(admitting.poll(cx)));
                    let Some(request) = request.take() else { return Poll::Pending };
                    match verdict {
                        Verdict::Admitted(parts, headers) => request.begin(*parts, headers),
                        Verdict::Refused(status, headers) => {
                            log::not_admitted(status);
                            let mut response = Response::new(SessionBody::default());
                            *response.status_mut() = status;
                            *response.headers_mut() = headers;
                            Step::Ready { response: Some(response) }
                        }
                    }
                }
            };
            this.step.set(step);
        }
    }
}

debug_fields!([B] SessionFuture<B> {});

/// The body of a [`SessionService`](super::SessionService)'s responses: empty, a sentence, or the event stream of a
/// session.
#[derive(Debug, Default)]
pub struct SessionBody(Kind);

#[derive(Debug)]
enum Kind {
    Sentence(UpgradeBody),
    Events(SseDuplexBody),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Sentence(UpgradeBody::default())
    }
}

impl SessionBody {
    fn sentence(text: &'static str) -> Self {
        UpgradeBody::from(text).into()
    }
}

impl From<UpgradeBody> for SessionBody {
    fn from(body: UpgradeBody) -> Self {
        Self(Kind::Sentence(body))
    }
}

impl From<SseDuplexBody> for SessionBody {
    fn from(body: SseDuplexBody) -> Self {
        Self(Kind::Events(body))
    }
}

impl Body for SessionBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Kind::Sentence(body) => Pin::new(body).poll_frame(cx),
            Kind::Events(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Sentence(body) => body.is_end_stream(),
            Kind::Events(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Sentence(body) => body.size_hint(),
            Kind::Events(body) => body.size_hint(),
        }
    }
}
