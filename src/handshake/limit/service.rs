use std::{
    fmt,
    hash::Hash,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, StatusCode, header};
use tower_service::Service;

use super::{
    ConnectionLimitLayer, Place, ResponseFuture,
    counts::{Entry, Full},
    future::Step,
};
use crate::log;

/// A service with a limited number of concurrent connections, created by [`ConnectionLimitLayer`].
#[derive(Clone)]
pub struct ConnectionLimit<S, K, F> {
    service: S,
    limit: ConnectionLimitLayer<K, F>,
}

impl<S, K, F> ConnectionLimit<S, K, F> {
    pub(super) const fn new(service: S, limit: ConnectionLimitLayer<K, F>) -> Self {
        Self { service, limit }
    }

    /// Returns a reference to the inner service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.service
    }

    /// Returns a mutable reference to the inner service. Requests sent to it directly are not counted.
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

impl<S, K, F, B, R> Service<Request<B>> for ConnectionLimit<S, K, F>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    F: Fn(&http::request::Parts) -> Option<K>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, Response<R>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let ConnectionLimitLayer { counts, total, per_key, key } = &self.limit;
        let key = key(&parts);
        ResponseFuture::new(match counts.enter(key.as_ref(), *total, *per_key) {
            Ok(()) => {
                Place::new(Entry::new(counts.clone(), key)).put(&mut parts.extensions);
                Step::Pass { future: self.service.call(Request::from_parts(parts, body)) }
            }
            Err(full) => {
                let response = refuse(full);
                let reason = match full {
                    Full::Total => "the total limit of ConnectionLimitLayer::new is reached",
                    Full::Key => "the limit per key of ConnectionLimitLayer::per_key is reached",
                };
                log::refused("http", response.status(), reason, &parts);
                Step::Refuse { response: Some(response) }
            }
        })
    }
}

fn refuse<R: Default>(full: Full) -> Response<R> {
    let mut response = Response::new(R::default());
    *response.status_mut() = match full {
        Full::Total => StatusCode::SERVICE_UNAVAILABLE,
        Full::Key => StatusCode::TOO_MANY_REQUESTS,
    };
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

impl<S: fmt::Debug, K, F> fmt::Debug for ConnectionLimit<S, K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionLimit").field("service", &self.service).field("limit", &self.limit).finish()
    }
}
