use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use serde::{Deserialize, Serialize};
use tower_layer::Layer;

use crate::{
    Error, Message, MessageStream, Transport,
    layer::{
        auth::{Getting, Secret, TokenSource, Tokens, verify::is_unauthorized},
        own::LayerSink,
    },
    transport::wakers::WakerPair,
};

/// A layer for a client's transport: sends a token as the first message, before all messages of the user. See the
/// [module](crate::layer::auth) for the complete documentation.
///
/// Each transport requests its own token from the source: put the layer under `per_connection(..)`.
pub struct FirstMessageLayer<S: TokenSource> {
    tokens: Tokens<S>,
    form: Form,
}

impl<S: TokenSource> FirstMessageLayer<S> {
    /// Creates a layer that sends a token of `tokens` as [`Form::Json`].
    #[must_use]
    pub const fn new(tokens: Tokens<S>) -> Self {
        Self { tokens, form: Form::Json }
    }

    /// Sets the form. Defaults to [`Form::Json`].
    #[must_use]
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }
}

impl<T, S> Layer<T> for FirstMessageLayer<S>
where
    T: MessageStream,
    S: TokenSource,
{
    type Service = FirstMessage<T, S>;

    fn layer(&self, inner: T) -> FirstMessage<T, S> {
        FirstMessage::new(inner, self.tokens.clone(), self.form)
    }
}

impl<S: TokenSource> Clone for FirstMessageLayer<S> {
    fn clone(&self) -> Self {
        Self { tokens: self.tokens.clone(), form: self.form }
    }
}

impl<S: TokenSource> fmt::Debug for FirstMessageLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstMessageLayer").field("tokens", &self.tokens).field("form", &self.form).finish()
    }
}

pin_project! {
    /// A transport that authenticates before anything else, created by [`FirstMessageLayer`](super::FirstMessageLayer).
    ///
    /// `poll_ready` and `poll_flush` wait until the token is there; the stream does not. If the source fails, both
    /// halves return its error, and nothing is sent. The same holds if a layer below rejects the token.
    pub struct FirstMessage<T, S: TokenSource> {
        #[pin]
        inner: T,
        tokens: Tokens<S>,
        form: Form,
        #[pin]
        step: Step<S>,
        generation: u64,
        sink: LayerSink<Message>,
        // The token is in `sink`, in front of all that the user sends.
        token_waits: bool,
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
    accessors! {
        inner: T, "transport",
        get_mut: "A message sent there may precede the token.",
        into_inner: ". A token that was not sent yet is dropped.",
    }
}

impl<T, S> FirstMessage<T, S>
where
    S: TokenSource,
{
    pub(super) fn new(inner: T, tokens: Tokens<S>, form: Form) -> Self {
        let (halves, both) = WakerPair::new();
        let step = Step::Token { getting: tokens.get() };
        Self { inner, tokens, form, step, generation: 0, sink: LayerSink::new(), token_waits: false, halves, both }
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
                    // Either half learns that it was rejected: without it, nothing else may be sent.
                    this.sink.push_for_user(this.form.write(lease.token.secret()));
                    *this.token_waits = true;
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

    /// The items of a stream without a token: the error once, then `None`.
    fn end(self: Pin<&mut Self>, error: Error) -> Poll<Option<Result<Message, Error>>> {
        let StepProj::Failed { is_told, .. } = self.project().step.project() else { return Poll::Ready(None) };
        Poll::Ready((!std::mem::replace(is_told, true)).then_some(Err(error)))
    }

    /// Notes what became of the token, after a poll of the sink. A server waits for the token before anything else, so
    /// its rejection ends the transport.
    fn look_at_token(self: Pin<&mut Self>, sent: Poll<Result<(), Error>>) -> Poll<Result<(), Error>> {
        let mut this = self.project();
        if !*this.token_waits || !this.sink.is_empty() {
            return sent;
        }
        *this.token_waits = false;
        let error = match sent {
            Poll::Ready(Err(error)) if error.is_rejection() => {
                error.context("the token of this connection was rejected before it was sent").into_fatal()
            }
            sent => return sent,
        };
        this.step.set(Step::Failed { error: error.clone(), is_told: false });
        this.both.wake_by_ref();
        Poll::Ready(Err(error))
    }

    /// Gets the token on the writer's task.
    fn poll_token_as_writer(self: Pin<&mut Self>, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        if matches!(self.step, Step::Open) {
            return Poll::Ready(Ok(()));
        }
        // Registered before the poll: the token may come to the other half in between.
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
                return self.end(error);
            }
        }
        let this = self.as_mut().project();
        let sent = this.sink.poll_send(this.inner, cx);
        match self.as_mut().look_at_token(sent) {
            Poll::Ready(Err(error)) if matches!(self.step, Step::Failed { .. }) => return self.end(error),
            Poll::Ready(Err(error)) if error.is_rejection() => return Poll::Ready(Some(Err(error))),
            // If the transport cannot be written, its stream ends too, so other errors are ignored here.
            Poll::Ready(_) | Poll::Pending => {}
        }
        let this = self.project();
        let item = ready!(this.inner.poll_next(cx));
        if let Some(Ok(Message::Close(Some(frame)))) = &item
            && is_unauthorized(frame)
        {
            this.tokens.refuse(*this.generation);
        }
        Poll::Ready(item.map(|item| item.map_err(Into::into)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // A token that is not there, and each message of the user, may add an error.
        (0, None)
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
        let this = self.as_mut().project();
        let ready = this.sink.poll_ready(this.inner, cx);
        self.look_at_token(ready)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.project();
        this.sink.start_send(this.inner, message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.as_mut().poll_token_as_writer(cx))?;
        let this = self.as_mut().project();
        let flushed = this.sink.poll_flush(this.inner, cx);
        self.look_at_token(flushed)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Nothing was accepted before the token was there.
        let this = self.project();
        this.sink.poll_close(this.inner, cx)
    }
}

debug_fields!([T: fmt::Debug, S: TokenSource] FirstMessage<T, S> { inner, form });

/// How a client writes its first message. A server reads both forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// `{"token":"..."}`, as text.
    #[default]
    Json,
    /// Only the token, as text.
    Plain,
}

#[derive(Serialize)]
struct Written<'a> {
    token: &'a str,
}

#[derive(Deserialize)]
struct Read {
    token: String,
}

impl Form {
    fn write(self, token: &Secret) -> Message {
        let token = token.expose();
        match self {
            // Every string can be represented in JSON, so this does not fail.
            Self::Json => Message::text(serde_json::to_string(&Written { token }).unwrap_or_default()),
            Self::Plain => Message::text(token),
        }
    }
}

/// Returns the token of a first message, in either form.
#[cfg_attr(target_arch = "wasm32", allow(dead_code))]
pub(super) fn read(message: &Message) -> Option<Secret> {
    let text = message.as_text()?.trim();
    let token = match text.starts_with('{') {
        true => serde_json::from_str::<Read>(text).ok()?.token,
        false => text.to_owned(),
    };
    (!token.is_empty()).then(|| token.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_one_end_writes_the_other_reads(token in ".{1,40}") {
            let written = Form::Json.write(&token.clone().into());
            prop_assert_eq!(read(&written).map(|read| read.expose().to_owned()), Some(token));
        }

        #[test]
        fn a_plain_token_is_read_as_it_is(token in "[A-Za-z0-9._~+/-]{1,40}=?") {
            let read = read(&Form::Plain.write(&token.clone().into()));
            prop_assert_eq!(read.map(|read| read.expose().to_owned()), Some(token));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = read(&Message::text(text));
        }
    }

    #[test]
    fn what_is_no_token_is_none() {
        for text in ["", "  ", "{}", r#"{"token":7}"#, r#"{"token":""}"#, "{\"token\":\"a\"", "{not json"] {
            assert!(read(&Message::text(text)).is_none(), "{text}");
        }
        assert!(read(&Message::binary(b"token".to_vec())).is_none());
    }
}
