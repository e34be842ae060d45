use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response, StatusCode, header};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::layer::Config;
use crate::{
    layer::auth::{Credentials, Oneshot, Verify},
    log,
};

pin_project! {
    /// The future of [`AuthGuard`](super::AuthGuard): the verifier, then the service.
    #[must_use = "futures do nothing unless awaited"]
    pub struct ResponseFuture<S: Service<Request<B>>, V: Verify, B> {
        #[pin]
        step: Step<S, V, B>,
        config: Arc<Config>,
        // The subprotocol to answer with, for a client that offers its token as the only subprotocol.
        echo: Option<HeaderValue>,
    }
}

pin_project! {
    #[project = StepProj]
    pub(super) enum Step<S: Service<Request<B>>, V: Verify, B> {
        Refuse { response: Option<S::Response> },
        Verify { #[pin] verifying: Oneshot<V, Credentials>, service: S, request: Option<Request<B>> },
        Pass { #[pin] future: S::Future },
    }
}

impl<S: Service<Request<B>>, V: Verify, B> ResponseFuture<S, V, B> {
    pub(super) const fn new(step: Step<S, V, B>, config: Arc<Config>, echo: Option<HeaderValue>) -> Self {
        Self { step, config, echo }
    }
}

impl<S, V, B, R> Future for ResponseFuture<S, V, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
    V: Verify + Service<Credentials, Response: Clone + Send + Sync + 'static>,
{
    type Output = Result<Response<R>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let future = match this.step.as_mut().project() {
                StepProj::Refuse { response } => {
                    return response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)));
                }
                StepProj::Pass { future } => {
                    let mut response = ready!(future.poll(cx))?;
                    choose_token(&mut response, this.echo.take());
                    return Poll::Ready(Ok(response));
                }
                StepProj::Verify { verifying, service, request } => match ready!(verifying.poll(cx)) {
                    Ok(principal) => {
                        let Some(mut request) = request.take() else { return Poll::Pending };
                        request.extensions_mut().insert(principal);
                        service.call(request)
                    }
                    Err(error) => {
                        let response: Response<R> = this.config.challenges.of(&error);
                        if let Some(request) = request {
                            let reason = format!("the verifier says: {error}");
                            log::refused("http", response.status(), &reason, &*request);
                        }
                        return Poll::Ready(Ok(response));
                    }
                },
            };
            this.step.set(Step::Pass { future });
        }
    }
}

/// A browser that offers subprotocols fails the connection if none is chosen, and the inner service has not seen the
/// token. If the token was the only offer, it is the only one to choose.
fn choose_token<R>(response: &mut Response<R>, token: Option<HeaderValue>) {
    let is_accepted = response.status() == StatusCode::SWITCHING_PROTOCOLS || response.status().is_success();
    if let (true, Some(token)) = (is_accepted, token) {
        response.headers_mut().entry(header::SEC_WEBSOCKET_PROTOCOL).or_insert(token);
    }
}

impl<S: Service<Request<B>>, V: Verify, B> fmt::Debug for ResponseFuture<S, V, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
