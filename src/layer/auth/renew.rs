use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_layer::Layer;

use crate::{
    Error, Message, MessageStream, Transport,
    layer::{
        auth::{Getting, TokenSource, Tokens},
        own::LayerSink,
    },
    message::trailer::{self, Opened},
};

/// The server requests a new token. The body is empty.
pub(super) const ASK: u8 = 1;

/// The client sends a token. The body is the token.
pub(super) const TOKEN: u8 = 2;

/// The maximum number of marks that one poll takes before other tasks run.
const BUDGET: usize = 64;

/// A layer for a client's transport: answers a server that requests a new token in the middle of a session
/// ([`ExpiryLayer::renewal`](crate::layer::auth::ExpiryLayer::renewal)). Put it under `per_connection(..)`.
pub struct RenewLayer<S: TokenSource> {
    tokens: Tokens<S>,
}

impl<S: TokenSource> RenewLayer<S> {
    /// Creates a layer that answers with a token newer than the one that the source had returned when the connection
    /// was made.
    #[must_use]
    pub const fn new(tokens: Tokens<S>) -> Self {
        Self { tokens }
    }
}

impl<T: MessageStream, S: TokenSource> Layer<T> for RenewLayer<S> {
    type Service = Renew<T, S>;

    fn layer(&self, inner: T) -> Renew<T, S> {
        let generation = self.tokens.generation();
        let tokens = self.tokens.clone();
        Renew {
            inner,
            tokens,
            generation,
            getting: None,
            last_error: None,
            sink: LayerSink::new(),
            user_is_last: false,
        }
    }
}

pin_project! {
    /// A transport whose session can be renewed, created by [`RenewLayer`].
    ///
    /// If the source fails, the request stays unanswered, and the session continues until the server closes it.
    /// [`last_error`](Self::last_error) returns the reason.
    ///
    /// At most one renewal is in progress and at most one token waits for room, whatever the server requests: requests
    /// that come meanwhile are answered by that token. All connections that share the [`Tokens`] make at most 8
    /// renewals at once, and one per second after that; later ones wait.
    pub struct Renew<T, S: TokenSource> {
        #[pin]
        inner: T,
        tokens: Tokens<S>,
        generation: u64,
        #[pin]
        getting: Option<Getting<S>>,
        last_error: Option<Error>,
        sink: LayerSink<Message>,
        // Whether the last message in `sink`, if there is one, is the user's.
        user_is_last: bool,
    }
}

impl<T, S: TokenSource> Renew<T, S> {
    /// Returns why the server's last request was not answered, if it was not.
    pub fn last_error(&self) -> Option<&Error> {
        self.last_error.as_ref()
    }

    accessors! {
        inner: T, "transport",
        get_mut: "The layer does not see what is sent or received there.",
        into_inner: ". An answer that was not sent yet is dropped.",
    }
}

impl<T, S> Renew<T, S>
where
    S: TokenSource,
{
    fn poll_token(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let mut this = self.project();
        let Some(getting) = this.getting.as_mut().as_pin_mut() else { return };
        let Poll::Ready(lease) = getting.poll_lease(cx) else { return };
        this.getting.set(None);
        match lease {
            Ok(lease) => {
                *this.generation = lease.generation;
                *this.last_error = None;
                let token = lease.token.secret().expose().as_bytes();
                this.sink.push(Message::Binary(trailer::append(token, trailer::Layer::Auth, TOKEN)));
                *this.user_is_last = false;
            }
            Err(error) => *this.last_error = Some(error),
        }
    }
}

impl<T, S> Stream for Renew<T, S>
where
    T: Transport<Message, In = Message>,
    S: TokenSource,
{
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        for _ in 0..BUDGET {
            // On the reader's task, which is polled for as long as the session is used.
            if self.getting.is_some() {
                self.as_mut().poll_token(cx);
            }
            let mut this = self.as_mut().project();
            // If the transport cannot be written, its stream ends too, so other errors are ignored here.
            let token_waits = this.sink.len() > usize::from(*this.user_is_last);
            if let Some(rejected) = this.sink.poll_send_rejected(this.inner.as_mut(), cx) {
                if token_waits {
                    *this.last_error = Some(rejected.clone());
                }
                return Poll::Ready(Some(Err(rejected)));
            }
            let message = match std::task::ready!(this.inner.poll_next(cx)) {
                Some(Ok(message)) => message,
                end => return Poll::Ready(end.map(|item| item.map_err(Into::into))),
            };
            match trailer::open(trailer::Layer::Auth, message) {
                Opened::Plain(message) => return Poll::Ready(Some(Ok(message))),
                Opened::Marked(ASK, _) => {
                    // A server that asks again before the answer is sent gets that answer. A message of the user that
                    // waits alone is no answer: a request that is ignored because of it ends the session.
                    let token_waits = this.sink.len() > usize::from(*this.user_is_last);
                    if this.getting.is_none() && !token_waits {
                        let getting = this.tokens.renew(*this.generation);
                        this.getting.set(Some(getting));
                    }
                }
                // A later version may send other marks.
                Opened::Marked(..) => {}
            }
        }
        // A flood of marks: other tasks run first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // Each answer may add a rejection.
        (0, None)
    }
}

impl<T, S> Sink<Message> for Renew<T, S>
where
    T: Transport<Message>,
    S: TokenSource,
{
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.sink.poll_ready(this.inner, cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.project();
        let message = trailer::close(trailer::Layer::Auth, message);
        let waiting = this.sink.len();
        let sent = this.sink.start_send(this.inner, message);
        *this.user_is_last |= this.sink.len() > waiting;
        sent
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.sink.poll_flush(this.inner, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.sink.poll_close(this.inner, cx)
    }
}

impl<S: TokenSource> Clone for RenewLayer<S> {
    fn clone(&self) -> Self {
        Self { tokens: self.tokens.clone() }
    }
}

impl<S: TokenSource> fmt::Debug for RenewLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenewLayer").field("tokens", &self.tokens).finish()
    }
}

debug_fields!([T: fmt::Debug, S: TokenSource] Renew<T, S> { inner, last_error });
