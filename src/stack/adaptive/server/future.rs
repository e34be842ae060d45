use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Request, Response, request};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    SessionBody,
    guard::{Admitting, Verdict},
    live::Seat,
    run::Opening,
    session_server::Inner,
};
use crate::{log, stack::adaptive::TransportKind, transport::sse::SseDuplexAnswer};

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
    pub(super) enum Step<B> {
        Ready { response: Option<Response<SessionBody>> },
        Guard { #[pin] admitting: Admitting, rest: Option<Rest<B>> },
        Sse { #[pin] answer: SseDuplexAnswer<B>, headers: HeaderMap },
    }
}

/// The remaining steps for a request that the guard admits.
pub(super) struct Rest<B> {
    pub(super) inner: Arc<Inner>,
    pub(super) kind: TransportKind,
    /// The seat of a request that may begin a session. A guard does not get it, because a guard may drop the request.
    pub(super) seat: Option<Seat>,
    pub(super) body: B,
}

impl<B> SessionFuture<B> {
    pub(super) const fn new(step: Step<B>) -> Self {
        Self { step }
    }

    pub(super) const fn ready(response: Response<SessionBody>) -> Self {
        Self::new(Step::Ready { response: Some(response) })
    }
}

impl<B: Body> Rest<B> {
    /// Lets the transport answer, and adds `headers` to the response.
    pub(super) fn begin(self, mut parts: request::Parts, headers: HeaderMap) -> Step<B> {
        if let Some(seat) = self.seat {
            parts.extensions.insert(Opening::new(self.inner.clone(), seat));
        }
        match self.kind {
            TransportKind::Sse => {
                let answer = self.inner.sse.clone().call(Request::from_parts(parts, self.body));
                Step::Sse { answer, headers }
            }
            _ => {
                let upgrade = self.inner.web_socket.clone().call(Request::from_parts(parts, ())).into_inner();
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
                StepProj::Guard { admitting, rest } => {
                    let verdict = Verdict::of(ready!(admitting.poll(cx)));
                    let Some(rest) = rest.take() else { return Poll::Pending };
                    match verdict {
                        Verdict::Admitted(parts, headers) => rest.begin(*parts, headers),
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

impl<B> fmt::Debug for SessionFuture<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionFuture").finish_non_exhaustive()
    }
}
