use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::Form;
use crate::{
    Error, Message, Transport,
    layer::{
        auth::{Getting, TokenSource, Tokens, credentials::is_unauthorized},
        control::Control,
    },
    transport::wakers::WakerPair,
};

pin_project! {
    /// A transport that authenticates before anything else, created by [`FirstMessageLayer`](super::FirstMessageLayer).
    ///
    /// `poll_ready` and `poll_flush` wait until the token is there; the stream does not. If the source fails, both
    /// halves return its error, and nothing is sent.
    pub struct FirstMessage<T, S: TokenSource> {
        #[pin]
        inner: T,
        tokens: Tokens<S>,
        form: Form,
        #[pin]
        step: Step<S>,
        generation: u64,
        control: Control<Message>,
        halves: Arc<WakerPair>,
        both: Waker,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S: TokenSource> {
        Token { #[pin] getting: Getting<S> },
        Failed { error: Error, is_told: bool },
        Open,
    }
}

impl<T, S: TokenSource> FirstMessage<T, S> {
    /// Returns a reference to the inner transport.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns a mutable reference to the inner transport. A message sent there may precede the token.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Returns the inner transport. A token that was not sent yet is dropped.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T, S> FirstMessage<T, S>
where
    S: TokenSource,
{
    pub(super) fn new(inner: T, tokens: Tokens<S>, form: Form) -> Self {
        let (halves, both) = WakerPair::new();
        let step = Step::Token { getting: tokens.get() };
        Self { inner, tokens, form, step, generation: 0, control: Control::new(), halves, both }
    }

    /// Gets the token on behalf of both halves. The caller registers its own waker first.
    fn poll_token(self: Pin<&mut Self>) -> Poll<Result<(), Error>> {
        let mut this = self.project();
        let (step, result) = match this.step.as_mut().project() {
            StepProj::Open => return Poll::Ready(Ok(())),
            StepProj::Failed { error, .. } => return Poll::Ready(Err(error.clone())),
            StepProj::Token { getting } => match ready!(getting.poll_lease(&mut Context::from_waker(this.both))) {
                Ok(lease) => {
                    *this.generation = lease.generation;
                    this.control.push(this.form.write(lease.token.secret()));
                    (Step::Open, Ok(()))
                }
                Err(error) => (Step::Failed { error: error.clone(), is_told: false }, Err(error)),
            },
        };
        this.step.set(step);
        // The other half may wait for the same token.
        this.both.wake_by_ref();
        Poll::Ready(result)
    }

    /// Gets the token on the writer's task.
    fn poll_token_as_writer(self: Pin<&mut Self>, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        if matches!(self.step, Step::Open) {
            return Poll::Ready(Ok(()));
        }
        self.halves.writer.register(cx.waker());
        self.poll_token()
    }
}

impl<T, S> Stream for FirstMessage<T, S>
where
    T: Transport<Message, In = Message>,
    S: TokenSource,
{
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !matches!(self.step, Step::Open) {
            self.halves.reader.register(cx.waker());
            if let Poll::Ready(Err(error)) = self.as_mut().poll_token() {
                let StepProj::Failed { is_told, .. } = self.project().step.project() else { return Poll::Ready(None) };
                return Poll::Ready((!std::mem::replace(is_told, true)).then_some(Err(error)));
            }
        }
        let mut this = self.project();
        // If the transport cannot be written, its stream ends too, so the error is ignored here.
        let _ = this.control.poll_send(this.inner.as_mut(), cx);
        let item = ready!(this.inner.poll_next(cx));
        if let Some(Ok(Message::Close(Some(frame)))) = &item
            && is_unauthorized(frame)
        {
            this.tokens.refuse(*this.generation);
        }
        Poll::Ready(item.map(|item| item.map_err(Into::into)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.inner.size_hint().1.and_then(|most| most.checked_add(1)))
    }
}

impl<T, S> Sink<Message> for FirstMessage<T, S>
where
    T: Transport<Message>,
    S: TokenSource,
{
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.as_mut().poll_token_as_writer(cx))?;
        let this = self.project();
        this.control.poll_ready(this.inner, cx).map_err(Into::into)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.project();
        this.control.start_send(this.inner, message).map_err(Into::into)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.as_mut().poll_token_as_writer(cx))?;
        let this = self.project();
        this.control.poll_flush(this.inner, cx).map_err(Into::into)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Nothing was accepted before the token was there.
        let this = self.project();
        this.control.poll_close(this.inner, cx).map_err(Into::into)
    }
}

impl<T: fmt::Debug, S: TokenSource> fmt::Debug for FirstMessage<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstMessage").field("inner", &self.inner).field("form", &self.form).finish_non_exhaustive()
    }
}
