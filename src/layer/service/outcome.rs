use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use crate::Error;

pin_project! {
    /// The outcome of one message: the service's future, or an error that waits for its turn.
    #[project = OutcomeProj]
    pub(super) enum Outcome<F> {
        Asked { #[pin] future: F },
        Failed { error: Option<Error> },
    }
}

impl<F> Outcome<F> {
    pub(super) const fn asked(future: F) -> Self {
        Self::Asked { future }
    }

    pub(super) const fn failed(error: Error) -> Self {
        Self::Failed { error: Some(error) }
    }
}

impl<F, M, E> Future for Outcome<F>
where
    F: Future<Output = Result<M, E>>,
    E: Into<crate::BoxError>,
{
    /// A failure only concerns its own message and never ends the set of futures in flight.
    type Output = Result<Result<M, Error>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            OutcomeProj::Asked { future } => {
                let answer = ready!(future.poll(cx));
                Poll::Ready(Ok(answer.map_err(|error| Error::from(error.into()))))
            }
            OutcomeProj::Failed { error } => match error.take() {
                Some(error) => Poll::Ready(Ok(Err(error))),
                None => Poll::Pending,
            },
        }
    }
}
