use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::line::{Line, State};
use crate::{Error, Transport};

/// Moves waiting messages on.
impl<Out> Line<Out> {
    /// On the reader's task, if the line is not [steady](Self::is_steady): hands on waiting messages and flushes them.
    /// An error concerns one rejected message.
    #[cold]
    #[inline(never)]
    pub(super) fn move_on<T: Transport<Out>>(&mut self, inner: Pin<&mut T>, cx: &Context<'_>) -> Result<(), Error> {
        let moved = self.move_any(inner, cx);
        self.settle();
        moved
    }

    fn move_any<T: Transport<Out>>(&mut self, mut inner: Pin<&mut T>, cx: &Context<'_>) -> Result<(), Error> {
        if let State::Overflowed(code, false) = self.state {
            self.halves.reader.register(cx.waker());
            let is_closed = self.poll_close_inner(inner).is_ready();
            self.state = State::Overflowed(code, is_closed);
            return Ok(());
        }
        if self.is_idle() {
            return Ok(());
        }
        self.halves.reader.register(cx.waker());
        let before = self.backlog.len();
        let moved = self.poll_flush_all(inner.as_mut());
        if moved.is_ready() || self.backlog.len() < before {
            // The writer may wait for exactly this.
            self.halves.writer.wake();
        }
        match moved {
            // The stream reports the reason more precisely.
            Poll::Ready(Err(error)) if !matches!(self.state, State::Failed(_)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Handles an item of the inner stream that is not a message. A waiting reader is also woken when messages that
    /// will wait here can be handed on.
    #[cold]
    #[inline(never)]
    pub(super) fn no_message<In, E: Into<Error>>(
        &self,
        polled: Poll<Option<Result<In, E>>>,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<In, Error>>> {
        if polled.is_pending() {
            self.halves.reader.register(cx.waker());
        }
        polled.map_err(Into::into)
    }

    pub(super) fn poll_flush_all<T: Transport<Out>>(&mut self, mut inner: Pin<&mut T>) -> Poll<Result<(), Error>> {
        ready!(self.poll_hand_on(inner.as_mut()))?;
        match ready!(inner.poll_flush(&mut Context::from_waker(&self.both))) {
            Ok(()) => {
                self.is_dirty = false;
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(self.fail(error))),
        }
    }

    /// Hands waiting messages to the inner transport, while it has room.
    pub(super) fn poll_hand_on<T: Transport<Out>>(&mut self, mut inner: Pin<&mut T>) -> Poll<Result<(), Error>> {
        if self.backlog.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut cx = Context::from_waker(&self.both);
        let result = loop {
            match inner.as_mut().poll_ready(&mut cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.fail(error))),
                Poll::Pending => break Poll::Pending,
            }
            let Some(entry) = self.backlog.pop() else { break Poll::Ready(Ok(())) };
            self.backlog.release(entry.size());
            self.is_dirty = true;
            if let Err(error) = inner.as_mut().start_send(entry.message) {
                let error = error.into();
                self.backlog.count_dropped(1);
                if error.is_closed() && !error.is_rejection() {
                    return Poll::Ready(Err(self.fail(error)));
                }
                break Poll::Ready(Err(error.into_rejection().into_unsent()));
            }
            if self.backlog.is_empty() {
                break Poll::Ready(Ok(()));
            }
        };
        self.stats.set(&self.backlog);
        result
    }

    /// Handles an error of the inner sink: waiting messages are lost, and counted. A rejection only concerns messages
    /// that the inner transport already has; waiting messages are still sent.
    #[cold]
    #[inline(never)]
    pub(super) fn fail(&mut self, error: impl Into<Error>) -> Error {
        let error = error.into();
        if error.is_rejection() {
            return error;
        }
        let closed = match error.is_closed() {
            true => error.clone(),
            false => Error::closed("the transport has failed").with_source(error.clone()),
        };
        self.state = State::Failed(closed);
        drop(self.backlog.discard());
        self.stats.set(&self.backlog);
        (self.is_dirty, self.is_steady) = (false, false);
        self.halves.writer.wake();
        error
    }
}
