//! Whether the rate limit may close the transport: it may not ([`Stays`]), or it may ([`Closes`]).

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use crate::{CloseCode, CloseFrame, Error, Message, Transport, layer::own::LayerSink};

/// The policy for a message over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenExceeded {
    Wait,
    Reject,
    Close,
}

/// The rate limit makes messages wait, or rejects them; the transport stays open. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stays;

/// The rate limit [closes](super::RateLimitLayer::close) a transport of [`Message`]s that exceeds it.
#[derive(Debug, Default)]
pub struct Closes(LayerSink<Message>);

#[expect(unnameable_types, reason = "that is what seals")]
mod sealed {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use crate::Error;

    /// The end of a transport, as its reader sees it.
    pub trait End<T> {
        fn check_open(&self) -> Result<(), Error>;
        fn close(&mut self, error: Error);
        fn take_error(&mut self) -> Option<Error>;
        fn poll_end<In>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Option<Result<In, Error>>>;
    }

    /// The sink's methods; `start_send` is the inner transport's.
    pub trait Outgoing<T, Out>: End<T> {
        fn poll_ready(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
        fn poll_flush(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
        fn poll_close(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
    }
}

pub(super) use sealed::{End, Outgoing};

impl<T> End<T> for Stays {
    fn check_open(&self) -> Result<(), Error> {
        Ok(())
    }

    fn close(&mut self, _: Error) {}

    fn take_error(&mut self) -> Option<Error> {
        None
    }

    fn poll_end<In>(&mut self, _: Pin<&mut T>, _: &mut Context<'_>) -> Poll<Option<Result<In, Error>>> {
        Poll::Ready(None)
    }
}

impl<T: Transport<Out>, Out> Outgoing<T, Out> for Stays {
    fn poll_ready(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        inner.poll_ready(cx).map_err(Into::into)
    }

    fn poll_flush(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        inner.poll_flush(cx).map_err(Into::into)
    }

    fn poll_close(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        inner.poll_close(cx).map_err(Into::into)
    }
}

impl<T: Transport<Message>> End<T> for Closes {
    fn check_open(&self) -> Result<(), Error> {
        self.0.check_open()
    }

    fn close(&mut self, error: Error) {
        // The peer is told the rule that it broke, not the numbers: they are this end's business.
        self.0.close(CloseFrame::new(CloseCode::POLICY, "rate limit"), error);
    }

    fn take_error(&mut self) -> Option<Error> {
        self.0.take_error()
    }

    fn poll_end<In>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Option<Result<In, Error>>> {
        self.0.poll_end(inner, cx)
    }
}

impl<T: Transport<Message>> Outgoing<T, Message> for Closes {
    fn poll_ready(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(inner, cx)
    }

    fn poll_flush(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_flush(inner, cx)
    }

    fn poll_close(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_close(inner, cx)
    }
}
