//! The arguments and the results of a peer's service.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::requests::Requests;

/// A call of the peer, as a handler gets it.
#[derive(Debug)]
#[non_exhaustive]
pub struct IncomingCall<Req> {
    /// The first request, or the only one.
    pub request: Req,
    /// The requests that follow.
    pub requests: Requests<Req>,
    /// The time that the caller waits, counted from the arrival of the call. The handler's future is dropped when it
    /// is over.
    pub timeout: Option<Duration>,
    /// The trace that the call is part of: the value of a `traceparent` header (W3C Trace Context, section 3.2).
    pub traceparent: Option<String>,
    /// Whether nobody waits for an answer. The answer of the handler, or its error, is then dropped.
    pub is_notification: bool,
}

/// The answer of a handler: one value, or a stream of them.
#[derive(Debug)]
pub enum Reply<Res, St> {
    /// A single answer.
    One(Res),
    /// Any number of answers. An error ends the call.
    Stream(St),
}

/// The type of a stream of answers that never is.
///
/// It stands in `Reply<Res, NoStream<..>>` for handlers whose answers are single values.
pub enum NoStream<Res, F> {
    #[doc(hidden)]
    Never(Infallible, fn() -> (Res, F)),
}

impl<Res, F> Stream for NoStream<Res, F> {
    type Item = Result<Res, F>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match *self {
            Self::Never(never, _) => match never {},
        }
    }
}

impl<Res, F> fmt::Debug for NoStream<Res, F> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Never(never, _) => match never {},
        }
    }
}

/// A service of plain requests as the handler of a [`Peer`](super::Peer): see [`unary`].
#[derive(Clone, Copy, Debug)]
pub struct Unary<S> {
    service: S,
}

/// Makes a handler of a service of plain requests, as [`Server`](crate::service::Server) takes them. Further requests
/// of a call are not read.
pub const fn unary<S>(service: S) -> Unary<S> {
    Unary { service }
}

impl<S, Req> Service<IncomingCall<Req>> for Unary<S>
where
    S: Service<Req>,
{
    type Response = Reply<S::Response, NoStream<S::Response, S::Error>>;
    type Error = S::Error;
    type Future = UnaryFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, call: IncomingCall<Req>) -> Self::Future {
        UnaryFuture { future: self.service.call(call.request) }
    }
}

pin_project! {
    /// The future of [`Unary`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct UnaryFuture<F> {
        #[pin]
        future: F,
    }
}

impl<F, Res, E> Future for UnaryFuture<F>
where
    F: Future<Output = Result<Res, E>>,
{
    type Output = Result<Reply<Res, NoStream<Res, E>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(Reply::One(ready!(self.project().future.poll(cx))?)))
    }
}

pin_project! {
    /// A step of a call that is being handled: its future, or the next answer of its stream.
    #[project = TaskProjection]
    pub(super) enum Task<Fut, St> {
        Future { #[pin] future: Fut },
        Next { stream: Option<Pin<Box<St>>> },
        Panicked,
    }
}

impl<Fut, St> Task<Fut, St> {
    /// Calls the service.
    pub(super) fn call<S, Req>(service: &mut S, call: IncomingCall<Req>) -> Self
    where
        S: Service<IncomingCall<Req>, Future = Fut>,
    {
        match catch_unwind(AssertUnwindSafe(|| service.call(call))) {
            Ok(future) => Self::Future { future },
            Err(_) => Self::Panicked,
        }
    }
}

/// The result of a [`Task`].
pub(super) enum Event<Res, F, St> {
    Replied(Result<Reply<Res, St>, F>),
    Next(Option<Result<Res, F>>, Pin<Box<St>>),
    Panicked,
}

impl<Fut, St, Res, F> Future for Task<Fut, St>
where
    Fut: Future<Output = Result<Reply<Res, St>, F>>,
    St: Stream<Item = Result<Res, F>>,
{
    type Output = Result<Event<Res, F, St>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A handler that panicked is dropped and never polled again, so nothing sees a state that it left broken.
        let polled = catch_unwind(AssertUnwindSafe(|| match self.project() {
            TaskProjection::Panicked => Poll::Ready(Event::Panicked),
            TaskProjection::Future { future } => future.poll(cx).map(Event::Replied),
            TaskProjection::Next { stream } => match stream {
                Some(some) => {
                    let item = ready!(some.as_mut().poll_next(cx));
                    match stream.take() {
                        Some(stream) => Poll::Ready(Event::Next(item, stream)),
                        None => Poll::Pending,
                    }
                }
                None => Poll::Pending,
            },
        }));
        polled.unwrap_or(Poll::Ready(Event::Panicked)).map(Ok)
    }
}
