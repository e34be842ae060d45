//! The guards of a server's sessions: HTTP layers for the requests of all three transports.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, request};
use http_body::{Body, Frame, SizeHint};
use tower::{
    ServiceExt,
    util::{BoxCloneSyncService, Oneshot},
};
use tower_layer::Layer;
use tower_service::Service;

use crate::{BoxError, log};

/// The service that a [guard](super::SessionServer::guard) wraps. It admits every request.
///
/// It is a `Service` of `http::Request<()>`, the head that a session begins with. Its response is 200 with an
/// [`Admission`] as its body.
#[derive(Clone, Copy, Debug)]
pub struct Admit(());

/// Permission for a request to begin a session. Only [`Admit`] creates it. The default value denies permission, and a
/// layer that answers without calling [`Admit`] returns that value.
#[derive(Default)]
pub struct Admission(Option<Box<request::Parts>>);

/// The place is held by the request's head from now on.
impl<B: Into<Self>> From<crate::handshake::limit::LimitedBody<B>> for Admission {
    fn from(body: crate::handshake::limit::LimitedBody<B>) -> Self {
        body.into_inner().map(Into::into).unwrap_or_default()
    }
}

/// An empty body, for layers that look at the body of a response.
impl Body for Admission {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}

impl Service<Request<()>> for Admit {
    type Response = Response<Admission>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Admission>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let (parts, ()) = request.into_parts();
        ready(Ok(Response::new(Admission(Some(Box::new(parts))))))
    }
}

type Boxed = BoxCloneSyncService<Request<()>, Response<Admission>, BoxError>;

/// A boxed guard: one box for each session, not for each message.
#[derive(Clone)]
pub(super) struct Guard(Boxed);

pub(super) type Admitting = Oneshot<Boxed, Request<()>>;

/// The answer of a guard.
pub(super) enum Verdict {
    /// The request is admitted. Contains the head as the guard's layers have left it, and the headers that they add to
    /// the response.
    Admitted(Box<request::Parts>, HeaderMap),
    Refused(StatusCode, HeaderMap),
}

impl Guard {
    pub(super) fn new<L, B>(layer: &L) -> Self
    where
        L: Layer<Admit>,
        L::Service: Service<Request<()>, Response = Response<B>, Error: Into<BoxError>, Future: Send + 'static>
            + Clone
            + Send
            + Sync
            + 'static,
        B: Into<Admission> + 'static,
    {
        // Boxed, so that the type of the guard is not a parameter of the server.
        let service = layer.layer(Admit(())).map_err(Into::into).map_response(|response| response.map(Into::into));
        Self(BoxCloneSyncService::new(service))
    }

    pub(super) fn check(&self, parts: request::Parts) -> Admitting {
        Oneshot::new(self.0.clone(), Request::from_parts(parts, ()))
    }
}

impl Verdict {
    pub(super) fn of(answer: Result<Response<Admission>, BoxError>) -> Self {
        match answer {
            Ok(response) => {
                let (head, admission) = response.into_parts();
                match admission.0 {
                    Some(parts) if head.status.is_success() => Self::Admitted(parts, head.headers),
                    // A layer has answered 200 in place of the inner service, which alone makes an admission.
                    _ if head.status.is_success() => Self::Refused(StatusCode::FORBIDDEN, head.headers),
                    _ => Self::Refused(head.status, head.headers),
                }
            }
            Err(error) => {
                tracing::warn!(target: log::ADAPTIVE, %error, "a guard failed: the session is refused with 503");
                // A guard that fails has not looked at the client, so the client is refused. 503 lets the client try
                // again.
                Self::Refused(StatusCode::SERVICE_UNAVAILABLE, HeaderMap::new())
            }
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The request head is omitted: its URL and its headers may contain a token.
        f.debug_struct("Admission").field("is_admitted", &self.0.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_admission_does_not_print_the_request() {
        let request = Request::get("/taint?token=taint").header("x-token", "taint").body(()).unwrap();
        let Ok(response) = Admit(()).call(request).await;
        let text = format!("{:?} {:#?}", response.body(), response.body());
        assert!(text.contains("true") && !text.contains("taint"), "{text}");
    }
}
