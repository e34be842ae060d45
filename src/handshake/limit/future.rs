use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

pin_project! {
    /// The future of [`ConnectionLimit`](super::ConnectionLimit): the service's future, or a refusal.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct ResponseFuture<F, R> {
        #[pin]
        step: Step<F, R>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StepProj]
    pub(super) enum Step<F, R> {
        Pass { #[pin] future: F },
        Refuse { response: Option<R> },
    }
}

impl<F, R> ResponseFuture<F, R> {
    pub(super) const fn new(step: Step<F, R>) -> Self {
        Self { step }
    }
}

impl<F, R, E> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<R, E>>,
{
    type Output = Result<R, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().step.project() {
            StepProj::Pass { future } => future.poll(cx),
            StepProj::Refuse { response } => {
                response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)))
            }
        }
    }
}
