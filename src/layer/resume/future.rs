use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::{ResumedTransport, home::Home, layer::Config, opening::Opening};
use crate::{Error, Message, Transport};

pin_project! {
    /// The future of [`Resume`](super::Resume): connects, and opens the session.
    ///
    /// Dropped, the connection is; the session stays with the connector.
    #[must_use = "futures do nothing unless awaited"]
    pub struct ResponseFuture<F, T> {
        #[pin]
        connect: F,
        // The head of the inner connector's response, until the session is open.
        head: http::Response<()>,
        opening: Option<Opening<T>>,
        config: Config,
        home: Arc<Home>,
    }
}

impl<F, T> ResponseFuture<F, T> {
    pub(super) fn new(connect: F, config: Config, home: Arc<Home>) -> Self {
        Self { connect, head: http::Response::default(), opening: None, config, home }
    }
}

impl<F, T, E> Future for ResponseFuture<F, T>
where
    F: Future<Output = Result<http::Response<T>, E>>,
    E: Into<Error>,
    T: Transport<Message, In = Message> + Unpin,
{
    type Output = Result<http::Response<ResumedTransport<T>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let opening = match this.opening {
            Some(opening) => opening,
            None => {
                let (head, transport) = ready!(this.connect.poll(cx)).map_err(Into::into)?.into_parts();
                *this.head = http::Response::from_parts(head, ());
                this.opening.insert(Opening::new(transport, *this.config, this.home.clone()))
            }
        };
        let (transport, verdict) = ready!(opening.poll(cx))?;
        let mut response = std::mem::take(this.head).map(|()| transport);
        verdict.insert_into(response.extensions_mut());
        Poll::Ready(Ok(response))
    }
}

impl<F, T> fmt::Debug for ResponseFuture<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("is_connected", &self.opening.is_some()).finish_non_exhaustive()
    }
}
