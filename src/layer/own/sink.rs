use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_sink::Sink;

use super::{
    end::{CLOSED_HERE, Ending, Stage},
    outgoing::{Outgoing, Room},
};
use crate::{CloseFrame, Error, Message, log, transport::wakers::Half};

/// The sink half of a layer that sends messages of its own, or that ends its transport. See the [module](super).
///
/// | state | `poll_end` | `poll_ready`, `start_send` | `poll_flush` | `poll_close` |
/// |---|---|---|---|---|
/// | open | not to be called | the inner transport | own messages, then inner | own messages, then inner |
/// | closing | the error once, then `Pending` | closed error | the close message, then closed error | until closed |
/// | ended | the error once, then `None` | closed error | closed error | tries once, `Ok` |
/// | sink closed | not to be called | closed error | closed error | the inner transport |
pub struct LayerSink<M> {
    /// Own messages, and at most one of the user's.
    pub(super) out: Outgoing<M>,
    /// Open, and nothing of the layer's own in the way: a method of the sink has nothing to do but to call the
    /// transport below. Derived from the other fields, so that each message costs one branch. A method that may clear
    /// the way ends with `settle`, which alone sets it to true.
    pub(super) is_forwarding: bool,
    end: Ending,
}

impl<M> LayerSink<M> {
    /// Creates the sink half of a transport that is open.
    #[must_use]
    pub fn new() -> Self {
        Self { out: Outgoing::new(), is_forwarding: true, end: Ending::default() }
    }

    /// Queues a message of the layer's own, behind all that was accepted before.
    ///
    /// [`poll_send`](Self::poll_send) and the methods of the sink send it. It is dropped if the transport has ended.
    ///
    /// If the transport below [rejects](Error::is_rejection) the message, it is dropped, and `poll_send` returns the
    /// error. The methods of the sink do not: the user did not send the message.
    pub fn push(&mut self, message: M) {
        if self.is_open() {
            self.out.push(message);
            self.is_forwarding = false;
        }
    }

    /// Like [`push`](Self::push), for a message that is made of messages of the user. Whichever method sends it returns
    /// its rejection.
    pub fn push_for_user(&mut self, message: M) {
        if self.is_open() {
            self.out.push_users(message);
            self.is_forwarding = false;
        }
    }

    /// Makes the next [`poll_send`](Self::poll_send) flush the transport below though nothing was pushed.
    ///
    /// For transports that hold an answer of their own, such as the pong to a ping, until they are flushed.
    pub fn request_flush(&mut self) {
        self.out.request_flush();
        self.is_forwarding = false;
    }

    /// Returns the number of messages that wait here: the layer's own, and at most one of the user's.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Returns true if no message waits here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.len() == 0
    }

    /// Returns true if nothing of the layer's own waits to be sent or flushed, and no rejection waits to be returned by
    /// [`poll_send`](Self::poll_send).
    #[inline]
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.out.is_idle() && !self.out.has_rejection()
    }

    /// Returns true if each method of the sink only calls the inner transport: the transport is open and nothing of the
    /// layer's own waits.
    ///
    /// A layer whose own checks are only needed otherwise can skip them with this one branch.
    #[inline]
    #[must_use]
    pub fn is_forwarding(&self) -> bool {
        self.is_forwarding
    }

    /// Returns true until the transport is closed by this end or the sink is closed.
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.end.is_open()
    }

    /// Returns true once the layer has ended the transport: the stream's items are those of
    /// [`poll_end`](Self::poll_end).
    #[inline]
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.end.stage(), Some(Stage::Closing | Stage::Ended))
    }

    /// Returns true while the close message, or the close of the transport below, is on its way.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.end.stage() == Some(Stage::Closing)
    }

    /// Checks that a message can be sent.
    ///
    /// # Errors
    ///
    /// Returns the closed error of the sink if the transport has ended or the sink was closed.
    #[inline]
    pub fn check_open(&self) -> Result<(), Error> {
        self.end.check_open()
    }

    /// Returns the close frame with which the transport was closed, if it was closed with one.
    #[must_use]
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.end.close_frame()
    }

    /// Closes the transport: sends what was accepted before, then `message`, and closes the transport below.
    ///
    /// The stream returns `error` once. The sink fails with `closed` from now on. Has no effect if the transport has
    /// ended.
    pub fn close_with(&mut self, message: M, error: Error, closed: Error) {
        if self.is_open() {
            self.out.push(message);
            self.enter(Stage::Closing, Some(error), closed);
        }
    }

    /// As [`close_with`](Self::close_with), without a message: the transport below closes in its own way, with the
    /// frame of [`signal::close_frame`](crate::transport::signal::close_frame).
    #[cfg_attr(not(feature = "topic"), allow(dead_code, reason = "for the layer of topics"))]
    pub(crate) fn close_below(&mut self, error: Error, closed: Error) {
        if self.is_open() {
            self.enter(Stage::Closing, Some(error), closed);
        }
    }

    /// Ends the transport without a close message, for a peer that is out of reach.
    ///
    /// The stream returns `error` once. The sink fails with `closed` from now on; closing it succeeds, and waits for
    /// nobody. Messages that wait here are dropped. Has no effect if the transport has ended.
    pub fn abort(&mut self, error: Error, closed: Error) {
        if self.is_open() {
            self.out.clear();
            self.enter(Stage::Ended, Some(error), closed);
        }
    }

    /// Closes the sink alone, for a transport that the peer has closed: nothing can be sent any more.
    ///
    /// The sink fails with `closed` from now on, and closing it closes the transport below. The stream goes on as the
    /// layer likes. Has no effect if the transport has ended.
    pub fn close_sink(&mut self, closed: Error) {
        if self.is_open() {
            self.enter(Stage::SinkClosed, None, closed);
        }
    }

    /// Ends a close that takes too long. Messages that were not sent until now are dropped.
    pub fn give_up(&mut self) {
        self.end.give_up();
    }

    /// Takes the error that the stream has not returned yet, for a layer that returns it in another place.
    pub fn take_error(&mut self) -> Option<Error> {
        self.end.take_error()
    }

    fn enter(&mut self, stage: Stage, error: Option<Error>, closed: Error) {
        self.end.enter(stage, error, closed);
        *self.out.room() = Room::Unknown;
        self.settle();
        // A writer that waits for room learns that there will be none.
        self.out.halves.writer.wake();
    }

    pub(super) fn settle(&mut self) {
        self.is_forwarding = self.is_open() && self.out.is_forwarding();
    }
}

impl LayerSink<Message> {
    /// Closes the transport with a close frame: sends what was accepted before, then the frame, and closes the
    /// transport below.
    ///
    /// The stream returns `error` once. From now on the sink fails with an error that [`is_closed`](Error::is_closed)
    /// and has the frame. Has no effect if the transport has ended.
    pub fn close(&mut self, frame: CloseFrame, error: Error) {
        self.close_as(frame, error, Error::closed(CLOSED_HERE));
    }

    /// [`close`](Self::close), with the text of the sink's error.
    pub(crate) fn close_as(&mut self, frame: CloseFrame, error: Error, closed: Error) {
        if self.is_open() {
            log::closed_by_layer(&frame, &error);
            let closed = closed.with_close_frame(Some(frame.clone()));
            self.close_with(Message::Close(Some(frame)), error, closed);
        }
    }
}

/// On the task that polls the stream.
impl<M> LayerSink<M> {
    /// Sends and flushes the layer's own messages. Ready when none waits.
    ///
    /// # Errors
    ///
    /// - A [rejection](Error::is_rejection) of one message: of an own message, whichever half sent it, or of a message
    ///   of the user that was accepted before. The layer's stream returns it as an item, and goes on; the next call
    ///   sends what still waits. An own message that was too large is a rejection, too.
    /// - Any other error of the transport below: nothing more can be sent. Most layers ignore it, because the stream
    ///   below tells better what has happened.
    pub fn poll_send<T>(&mut self, inner: Pin<&mut T>, cx: &Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Sink<M, Error: Into<Error>>,
    {
        if let Some(rejected) = self.out.take_rejection() {
            return Poll::Ready(Err(rejected));
        }
        if self.is_idle() {
            return Poll::Ready(Ok(()));
        }
        // Before the poll: the writer may be the half that finishes this, and wakes the registered task.
        self.out.halves.reader.register(cx.waker());
        self.poll_all(inner, Half::Reader, Sink::poll_flush)
    }

    /// As [`poll_send`](Self::poll_send), for layers that ignore all errors but rejections: returns a rejection.
    #[cfg_attr(not(feature = "auth"), allow(dead_code, reason = "for the layers of auth"))]
    pub(crate) fn poll_send_rejected<T>(&mut self, inner: Pin<&mut T>, cx: &Context<'_>) -> Option<Error>
    where
        T: Sink<M, Error: Into<Error>>,
    {
        match self.poll_send(inner, cx) {
            Poll::Ready(Err(error)) if error.is_rejection() => Some(error),
            Poll::Ready(_) | Poll::Pending => None,
        }
    }

    /// The stream's items once the transport [has ended](Self::has_ended): the error, then `Pending` until the
    /// transport below is closed, then `None`.
    ///
    /// The close begins with the first call, as many users do not poll again after an error.
    pub fn poll_end<T, I>(&mut self, inner: Pin<&mut T>, cx: &Context<'_>) -> Poll<Option<Result<I, Error>>>
    where
        T: Sink<M, Error: Into<Error>>,
    {
        let closed = self.poll_closed(inner, cx);
        match self.take_error() {
            Some(error) => Poll::Ready(Some(Err(error))),
            None => closed.map(|()| None),
        }
    }

    /// Sends what was accepted and the close message, and closes the transport below. Ready when there is nothing left
    /// to do; the error of [`poll_end`](Self::poll_end) stays there.
    pub fn poll_closed<T>(&mut self, inner: Pin<&mut T>, cx: &Context<'_>) -> Poll<()>
    where
        T: Sink<M, Error: Into<Error>>,
    {
        if self.is_closing() {
            self.out.halves.reader.register(cx.waker());
            // A peer that is out of reach needs no close message, and the error has been returned already.
            let _ = ready!(self.poll_shutdown(inner, Half::Reader));
            self.give_up();
        }
        Poll::Ready(())
    }
}

/// The layer's sink.
impl<M> LayerSink<M> {
    /// The layer's `poll_ready`.
    ///
    /// # Errors
    ///
    /// Returns the error of the transport below, or the closed error once the transport has ended.
    #[inline]
    pub fn poll_ready<T>(&mut self, mut inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Sink<M, Error: Into<Error>>,
    {
        match self.forward_ready(inner.as_mut(), cx) {
            Some(polled) => polled,
            None => self.poll_ready_behind(inner, cx),
        }
    }

    /// The part of `poll_ready` that a layer inlines. Returns `None` if the transport below cannot be asked at once:
    /// then call [`poll_ready`](Self::poll_ready).
    #[inline]
    pub(crate) fn forward_ready<T>(
        &mut self,
        inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Option<Poll<Result<(), Error>>>
    where
        T: Sink<M, Error: Into<Error>>,
    {
        if !self.is_forwarding {
            return None;
        }
        // With the writer's own waker. That of both halves would wake the reader for each message below.
        match inner.poll_ready(cx) {
            Poll::Ready(Ok(())) => {
                *self.out.room() = Room::Promised;
                Some(Poll::Ready(Ok(())))
            }
            polled => Some(self.out.forwarded(polled, cx)),
        }
    }

    #[inline(never)]
    fn poll_ready_behind<T>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Sink<M, Error: Into<Error>>,
    {
        ready!(self.poll_room_behind(inner, cx))?;
        self.out.room().promise();
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_room_behind<T>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Sink<M, Error: Into<Error>>,
    {
        self.check_open()?;
        self.out.halves.writer.register(cx.waker());
        let room = self.out.poll_room(inner);
        self.settle();
        room
    }

    /// Returns true if a message of the user goes straight to the transport below: then call its `start_send` in place
    /// of [`start_send`](Self::start_send), which saves a move of the message.
    #[inline]
    pub fn passes(&mut self) -> bool {
        if self.is_forwarding {
            *self.out.room() = Room::Unknown;
        }
        self.is_forwarding
    }

    /// The layer's `start_send`.
    ///
    /// # Errors
    ///
    /// Returns the error of the transport below, or the closed error once the transport has ended.
    #[inline]
    pub fn start_send<T>(&mut self, inner: Pin<&mut T>, message: M) -> Result<(), Error>
    where
        T: Sink<M, Error: Into<Error>>,
    {
        if self.passes() {
            return inner.start_send(message).map_err(Into::into);
        }
        self.send_behind(inner, message)
    }

    #[inline(never)]
    fn send_behind<T>(&mut self, inner: Pin<&mut T>, message: M) -> Result<(), Error>
    where
        T: Sink<M, Error: Into<Error>>,
    {
        self.check_open()?;
        let waits = self.out.take_place();
        self.settle();
        if waits {
            // The promise was given before the own message took the room, so it cannot be refused any more.
            self.push_for_user(message);
            return Ok(());
        }
        inner.start_send(message).map_err(Into::into)
    }

    /// The layer's `poll_flush`.
    ///
    /// # Errors
    ///
    /// Returns the error of the transport below. Once the transport has ended, returns the closed error after the close
    /// message was flushed.
    #[inline]
    pub fn poll_flush<T>(&mut self, mut inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Sink<M, Error: Into<Error>>,
    {
        match self.forward_flush(inner.as_mut(), cx) {
            Some(polled) => polled,
            None => self.poll_flush_behind(inner, cx),
        }
    }

    /// As [`forward_ready`](Self::forward_ready).
    #[inline]
    pub(crate) fn forward_flush<T>(&self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Option<Poll<Result<(), Error>>>
    where
        T: Sink<M, Error: Into<Error>>,
    {
        if !self.is_forwarding {
            return None;
        }
        match inner.poll_flush(cx) {
            Poll::Ready(Ok(())) => Some(Poll::Ready(Ok(()))),
            polled => Some(self.out.forwarded(polled, cx)),
        }
    }

    #[inline(never)]
    fn poll_flush_behind<T>(&mut self, mut inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Sink<M, Error: Into<Error>>,
    {
        self.out.halves.writer.register(cx.waker());
        if self.is_closing() {
            // Messages that were accepted are sent ahead of the close message. An error here adds nothing to the closed
            // error, which follows in any case.
            let _ = ready!(self.poll_all(inner.as_mut(), Half::Writer, Sink::poll_flush));
        }
        self.check_open()?;
        if self.out.is_idle() {
            return inner.poll_flush(cx).map_err(Into::into);
        }
        self.poll_all(inner, Half::Writer, Sink::poll_flush)
    }

    /// The layer's `poll_close`.
    ///
    /// # Errors
    ///
    /// Returns the error of the transport below. Succeeds if the layer has ended the transport already.
    pub fn poll_close<T>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Sink<M, Error: Into<Error>>,
    {
        if self.end.stage() == Some(Stage::Ended) {
            // A last try. There is nobody to wait for.
            let _ = inner.poll_close(cx);
            return Poll::Ready(Ok(()));
        }
        self.out.halves.writer.register(cx.waker());
        let closed = match self.is_closing() {
            true => self.poll_shutdown(inner, Half::Writer),
            false if self.out.is_idle() => inner.poll_close(cx).map_err(Into::into),
            false => self.poll_all(inner, Half::Writer, Sink::poll_close),
        };
        if closed.is_ready() {
            // Even after an error. The stream waits for this close, and would otherwise wait forever.
            self.give_up();
        }
        closed
    }
}

impl<M> LayerSink<M> {
    /// Gives all that waits to the transport below, then polls it to be flushed or closed.
    fn poll_all<T: Sink<M, Error: Into<Error>>>(
        &mut self,
        inner: Pin<&mut T>,
        half: Half,
        poll: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<Result<(), T::Error>>,
    ) -> Poll<Result<(), Error>> {
        let done = self.out.poll_all(inner, half, poll);
        self.settle();
        done
    }

    /// Flushes the close message, then closes the transport below: not every transport flushes when it is closed.
    fn poll_shutdown<T: Sink<M, Error: Into<Error>>>(
        &mut self,
        mut inner: Pin<&mut T>,
        half: Half,
    ) -> Poll<Result<(), Error>> {
        if !self.out.is_idle() {
            ready!(self.poll_all(inner.as_mut(), half, Sink::poll_flush))?;
        }
        inner.poll_close(&mut Context::from_waker(self.out.both())).map_err(Into::into)
    }
}

impl<M> Default for LayerSink<M> {
    fn default() -> Self {
        Self::new()
    }
}

debug_fields!([M] LayerSink<M>, |this| {
    stage: this.end.stage(),
    waiting: this.out.len(),
    close_frame: this.close_frame(),
});
