use std::{
    fmt, mem,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode};
use tower_service::Service;

use super::{AuthGuardLayer, ResponseFuture, future::Step};
use crate::{
    layer::auth::{Credentials, Oneshot, Verify, subprotocol},
    log,
};

/// A service that only gets requests with valid credentials, created by [`AuthGuardLayer`](super::AuthGuardLayer).
#[derive(Clone)]
pub struct AuthGuard<S, V> {
    service: S,
    guard: AuthGuardLayer<V>,
}

impl<S, V> AuthGuard<S, V> {
    pub(super) const fn new(service: S, guard: AuthGuardLayer<V>) -> Self {
        Self { service, guard }
    }

    /// Returns a reference to the inner service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.service
    }

    /// Returns a mutable reference to the inner service. Requests sent to it directly are not checked.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.service
    }

    /// Returns the inner service.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.service
    }
}

impl<S, V, B, R> Service<Request<B>> for AuthGuard<S, V>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    R: Default,
    V: Verify + Service<Credentials, Response: Clone + Send + Sync + 'static>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S, V, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let config = self.guard.config.clone();
        let (mut parts, body) = request.into_parts();
        let echo = subprotocol::alone(&parts.headers);
        let step = match config.places.take(&mut parts) {
            Ok(Some(credentials)) => {
                let clone = self.service.clone();
                Step::Verify {
                    verifying: Oneshot::new(self.guard.verifier.clone(), credentials),
                    // The instance that was ready must make the call.
                    service: mem::replace(&mut self.service, clone),
                    request: Some(Request::from_parts(parts, body)),
                }
            }
            Ok(None) if config.is_optional => {
                Step::Pass { future: self.service.call(Request::from_parts(parts, body)) }
            }
            Ok(None) => {
                const MISSING: &str = "the request has no credentials in any place that AuthGuardLayer looks at";

                log::refused("http", StatusCode::UNAUTHORIZED, MISSING, &parts);
                Step::Refuse { response: Some(config.challenges.missing()) }
            }
            Err(_) => {
                log::refused("http", StatusCode::BAD_REQUEST, "the credentials are malformed or given twice", &parts);
                Step::Refuse { response: Some(config.challenges.malformed()) }
            }
        };
        ResponseFuture::new(step, config, echo)
    }
}

impl<S: fmt::Debug, V> fmt::Debug for AuthGuard<S, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthGuard").field("service", &self.service).field("guard", &self.guard).finish()
    }
}
