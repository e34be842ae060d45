use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::line::{Line, State};
use crate::{Error, Transport};

/// How what waits moves on.
impl<Out> Line<Out> {
    /// On the reader's task, where this is not [steady](Self::is_steady): moves on what waits, and flushes it. An error is that
    /// of one message, which was refused.
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
            // It may wait for just that.
            self.halves.writer.wake();
        }
        match moved {
            // The stream knows better what has happened to the transport.
            Poll::Ready(Err(error)) if !matches!(self.state, State::Failed(_)) => Err(error),
            _ => Ok(()),
        }
    }

    /// What the inner stream gives, where that is no message. A reader that waits is woken too when what will wait here can
    /// be moved on.
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

    /// Gives the inner transport what waits, while it has room.
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

    /// The inner sink has failed: what waits is lost, and counted. A rejection concerns messages that are with the inner
    /// transport already: what waits is still to be sent.
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
