use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, StatusCode};
use pin_project_lite::pin_project;

use super::{Getting, TokenSource, Tokens, layer::Carrier};
use crate::{Connect, Error};

pin_project! {
    /// The future of [`Auth`](super::Auth): a token, the connect, and both once more after a 401.
    #[must_use = "futures do nothing unless awaited"]
    pub struct ResponseFuture<C: Connect, S: TokenSource> {
        connector: C,
        tokens: Tokens<S>,
        carrier: Carrier,
        request: Request<()>,
        // The generation of the token that the connect presents.
        generation: u64,
        is_second: bool,
        #[pin]
        step: Step<C, S>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<C: Connect, S: TokenSource> {
        Token { #[pin] getting: Getting<S> },
        Ready { request: Option<Request<()>> },
        Connect { #[pin] connect: C::Future },
    }
}

impl<C, S> ResponseFuture<C, S>
where
    C: Connect,
    S: TokenSource,
{
    pub(super) fn new(connector: C, tokens: Tokens<S>, carrier: Carrier, request: Request<()>) -> Self {
        let step = Step::Token { getting: tokens.get() };
        Self { connector, tokens, carrier, request, generation: 0, is_second: false, step }
    }
}

impl<C, S> Future for ResponseFuture<C, S>
where
    C: Connect,
    S: TokenSource,
{
    type Output = Result<http::Response<C::Transport>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.step.as_mut().project() {
                StepProj::Token { getting } => {
                    let lease = ready!(getting.poll_lease(cx))?;
                    *this.generation = lease.generation;
                    let mut request = this.request.clone();
                    this.carrier.put(lease.token.secret(), &mut request)?;
                    Step::Ready { request: Some(request) }
                }
                StepProj::Ready { request } => {
                    ready!(this.connector.poll_ready(cx)).map_err(Into::into)?;
                    let Some(request) = request.take() else { return Poll::Pending };
                    Step::Connect { connect: this.connector.call(request) }
                }
                StepProj::Connect { connect } => {
                    let error = match ready!(connect.poll(cx)) {
                        Ok(response) => return Poll::Ready(Ok(response)),
                        Err(error) => error.into(),
                    };
                    if error.status() != Some(StatusCode::UNAUTHORIZED) {
                        return Poll::Ready(Err(error));
                    }
                    this.tokens.refuse(*this.generation);
                    if std::mem::replace(this.is_second, true) {
                        return Poll::Ready(Err(error));
                    }
                    Step::Token { getting: this.tokens.get() }
                }
            };
            this.step.set(next);
        }
    }
}

impl<C: Connect, S: TokenSource> fmt::Debug for ResponseFuture<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("is_second", &self.is_second).finish_non_exhaustive()
    }
}
