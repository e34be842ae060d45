use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::future::{Shared, WeakShared};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::Error;

pin_project! {
    /// Waits until a service is ready, then calls it once.
    #[project = StepProj]
    pub(crate) enum Oneshot<S, R>
    where
        S: Service<R>,
    {
        Waiting { service: S, request: Option<R> },
        Called { #[pin] future: S::Future },
    }
}

impl<S: Service<R>, R> Oneshot<S, R> {
    pub(crate) const fn new(service: S, request: R) -> Self {
        Self::Waiting { service, request: Some(request) }
    }
}

impl<S, R> Future for Oneshot<S, R>
where
    S: Service<R>,
    S::Error: Into<Error>,
{
    type Output = Result<S::Response, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let future = match self.as_mut().project() {
                StepProj::Called { future } => return future.poll(cx).map_err(Into::into),
                StepProj::Waiting { service, request } => {
                    ready!(service.poll_ready(cx)).map_err(Into::into)?;
                    // Taken only when the service is ready, so a poll that is `Pending` keeps it.
                    let Some(request) = request.take() else { return Poll::Pending };
                    service.call(request)
                }
            };
            self.set(Self::Called { future });
        }
    }
}

debug_fields!([S: Service<R>, R] Oneshot<S, R> {});

/// At most one run of a future at a time, shared by all callers that want its output. If all of them are dropped, the
/// run is dropped too. The next caller starts a new run and never gets a stale output.
pub(super) struct Flight<F: Future>(Option<WeakShared<F>>);

impl<F> Flight<F>
where
    F: Future<Output: Clone>,
{
    pub(super) const fn new() -> Self {
        Self(None)
    }

    /// Returns the run in progress.
    pub(super) fn running(&self) -> Option<Shared<F>> {
        self.0.as_ref()?.upgrade()
    }

    pub(super) fn start(&mut self, future: F) -> Shared<F> {
        // Weak: the callers own the run, so that it ends with the last of them.
        let shared = futures_util::FutureExt::shared(future);
        self.0 = shared.downgrade();
        shared
    }

    /// Must be called by the run at its end, so that a later caller does not get its output.
    pub(super) fn land(&mut self) {
        self.0 = None;
    }
}
