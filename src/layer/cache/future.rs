use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use crate::Error;

/// The future of [`Cache`](super::Cache). A hit is ready at once and allocates nothing; a miss is boxed.
#[must_use = "futures do nothing unless awaited"]
pub struct ResponseFuture<V>(State<V>);

enum State<V> {
    Hit(Option<V>),
    Asked(Pin<Box<dyn Future<Output = Result<V, Error>> + Send>>),
}

// An answer is moved out, never pinned.
impl<V> Unpin for ResponseFuture<V> {}

impl<V> ResponseFuture<V> {
    pub(super) const fn hit(value: V) -> Self {
        Self(State::Hit(Some(value)))
    }

    pub(super) fn asked(future: impl Future<Output = Result<V, Error>> + Send + 'static) -> Self {
        Self(State::Asked(Box::pin(future)))
    }
}

impl<V> Future for ResponseFuture<V> {
    type Output = Result<V, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Hit(value) => match value.take() {
                Some(value) => Poll::Ready(Ok(value)),
                None => Poll::Pending,
            },
            State::Asked(future) => future.as_mut().poll(cx),
        }
    }
}

impl<V> fmt::Debug for ResponseFuture<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.0 {
            State::Hit(_) => "hit",
            State::Asked(_) => "asked",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
