use std::task::{Context, Poll};

use tower_service::Service;

use super::{ResponseFuture, ResumeHandle, ResumedTransport, layer::Config};
use crate::{Error, Message, Transport};

/// A connector whose connections belong to one session: what [`ResumeLayer`](super::ResumeLayer) makes.
///
/// The response's extensions hold the [`Verdict`](super::Verdict). A clone is a connector of the same session.
#[derive(Clone, Debug)]
pub struct Resume<S> {
    connector: S,
    config: Config,
    handle: ResumeHandle,
}

impl<S> Resume<S> {
    pub(super) const fn new(connector: S, config: Config, handle: ResumeHandle) -> Self {
        Self { connector, config, handle }
    }

    /// The session, to be looked at from elsewhere.
    #[must_use]
    pub fn handle(&self) -> ResumeHandle {
        self.handle.clone()
    }

    /// The inner connector.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.connector
    }

    /// The inner connector. Transports that it makes here know of no session.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.connector
    }

    /// The inner connector; the session is given up.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.connector
    }
}

impl<S, R, T> Service<R> for Resume<S>
where
    S: Service<R, Response = http::Response<T>>,
    S::Error: Into<Error>,
    T: Transport<Message, In = Message> + Unpin,
{
    type Response = http::Response<ResumedTransport<T>>;
    type Error = Error;
    type Future = ResponseFuture<S::Future, T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        ResponseFuture::new(self.connector.call(request), self.config, self.handle.home.clone())
    }
}
