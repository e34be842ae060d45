use std::{
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use super::{
    BatchPolicy,
    wire::{Pack, refused},
};
use crate::{
    Error, Message, Transport,
    layer::own::KeepingSink,
    message::trailer::{self, Layer},
    rt::Timer,
    transport::wakers::WakerSlot,
};

/// The sending side: the waiting batch, and the conditions under which it is sent.
///
/// A batch is an own message of the [`KeepingSink`], which remembers the room below and the promise to the user. The
/// rest:
///
/// | messages are | in | they leave with |
/// |---|---|---|
/// | waiting | `pack` | the next flush, the full batch, or the delay |
/// | handed over and not flushed (`is_dirty`) | the transport below | the next flush, or the delay |
/// | pushed | `sink` | the next poll of either half |
///
/// The delay runs while messages wait or are not flushed: the timer is set, or `is_due` if it has run out at once.
/// Until the reader waits (`is_parked`) nothing is set, because the reader polls before it waits and sends what is due.
#[derive(Debug)]
pub(super) struct BatchSink {
    pack: Pack,
    sink: KeepingSink<Message>,
    is_dirty: bool,
    /// Set at most once per `delay`. It fires when a message has waited for the delay or slightly less, and a flush
    /// does not touch it.
    timer: Timer,
    is_due: bool,
    /// The waker that the timer wakes: the reader's, because a writer that feeds and leaves cannot be woken.
    reader: WakerSlot,
    is_parked: bool,
    /// Whether a close message was accepted: nothing may follow it.
    is_closing: bool,
    /// Whether the reader was told that its own sending failed; the sink reports the rest.
    is_told: bool,
    /// The refusal of messages that were accepted before, which arose while another message was sent. The next poll
    /// returns it, so that it is not taken for the error of that other message.
    late: Option<Error>,
}

impl BatchSink {
    pub(super) fn new(pack: Pack) -> Self {
        Self {
            pack,
            sink: KeepingSink::new(),
            is_dirty: false,
            timer: Timer::new(),
            is_due: false,
            reader: WakerSlot::default(),
            is_parked: false,
            is_closing: false,
            is_told: false,
            late: None,
        }
    }

    pub(super) const fn policy(&self) -> &BatchPolicy {
        self.pack.policy()
    }

    pub(super) const fn waiting(&self) -> usize {
        self.pack.len()
    }

    /// Marks the reader as active.
    #[inline]
    pub(super) const fn unpark(&mut self) {
        self.is_parked = false;
    }

    /// Marks the reader as waiting. Otherwise like [`poll_due`](Self::poll_due).
    #[inline]
    pub(super) fn park<T>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Result<(), Error>
    where
        T: Transport<Message>,
    {
        self.is_parked = true;
        self.reader.register(cx);
        self.poll_due(inner, cx)
    }

    /// Called when the stream has ended or failed: the sink must be asked again, and may fail.
    pub(super) fn reconsider(&mut self) {
        self.sink.forget_room();
    }

    fn is_unflushed(&self) -> bool {
        self.is_dirty || !self.pack.is_empty()
    }

    #[inline]
    pub(super) fn poll_ready<T>(&mut self, mut inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Transport<Message>,
    {
        if self.late.is_none()
            && !self.is_unflushed()
            && let Some(polled) = self.sink.get_mut().forward_ready(inner.as_mut(), cx)
        {
            return polled;
        }
        self.poll_ready_behind(inner, cx)
    }

    /// The rest of `poll_ready`, unless nothing waits and the transport below has room.
    #[inline(never)]
    fn poll_ready_behind<T>(&mut self, mut inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Transport<Message>,
    {
        self.tell_late()?;
        if self.is_unflushed() && self.pack.policy().delay().is_some() && !self.timer.is_running() {
            self.poll_rung(inner.as_mut(), cx)?;
        }
        loop {
            ready!(self.sink.poll_room(inner.as_mut(), cx))?;
            if !self.pack.is_full() || !self.sink.has_room() {
                self.sink.promise_room();
                return Poll::Ready(Ok(()));
            }
            // It became full while its room was taken, and goes before the next message.
            self.hand_over(inner.as_mut())?;
        }
    }

    #[inline]
    pub(super) fn start_send<T>(&mut self, inner: Pin<&mut T>, message: Message) -> Result<(), Error>
    where
        T: Transport<Message>,
    {
        let len = message.len();
        // The first message of a batch while the reader is active: it is only kept. Nothing is sent, no timer is set,
        // and the room below stays for the batch.
        if self.sink.has_room()
            && !self.is_parked
            && !self.is_closing
            && message.is_data()
            && self.pack.is_open_for_first(len)
            && self.sink.take_promise()
        {
            self.pack.set_first(message, len);
            return Ok(());
        }
        self.send(inner, message)
    }

    #[inline(never)]
    fn send<T>(&mut self, mut inner: Pin<&mut T>, message: Message) -> Result<(), Error>
    where
        T: Transport<Message>,
    {
        if self.is_closing {
            return Err(Error::closed("a close message was already sent"));
        }
        // A transport may be closed while it is full; the close message then waits.
        if !self.sink.take_promise() && !message.is_close() {
            return Err(Error::full("a message was sent to a batch before it was ready; wait for `poll_ready` first"));
        }
        let len = message.len();
        match message {
            // Three ways, from the most urgent. Ahead of the batch: a pong that waits for a delay would be measured as
            // a slow line, or as a dead one.
            Message::Ping(_) | Message::Pong(_) => self.give(inner, message)?,
            Message::Text(_) | Message::Binary(_) if !self.pack.policy().goes_alone(len) => {
                // There is one room below and at most two batches to send: the one that this message does not fit into
                // goes now, and the one that it fills goes now only if the room is still there.
                if !self.pack.has_room(len) {
                    self.hand_over_before(inner.as_mut());
                }
                self.pack.add(message, len);
                if self.pack.is_full() && self.sink.has_room() {
                    match self.pack.len() {
                        // The batch is this message alone, so a refusal is its own error.
                        1 => self.hand_over(inner)?,
                        _ => self.hand_over_before(inner),
                    }
                }
            }
            message => {
                self.is_closing = message.is_close();
                // The room is for the messages that wait, if there are any; this message follows them.
                self.hand_over_before(inner.as_mut());
                self.give(inner, trailer::close(Layer::Batch, message))?;
            }
        }
        if self.is_parked {
            self.arm();
        }
        Ok(())
    }

    #[inline]
    pub(super) fn poll_flush<T>(&mut self, mut inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Transport<Message>,
    {
        // Usually a lone message.
        if self.late.is_none()
            && self.sink.holds_room()
            && let Some(alone) = self.pack.take_alone()
        {
            self.is_dirty = true;
            self.sink.get_mut().passes();
            inner.as_mut().start_send(alone).map_err(Into::into)?;
        } else {
            self.tell_late()?;
            self.hand_over(inner.as_mut())?;
        }
        let flushed = self.sink.get_mut().poll_flush(inner, cx);
        self.flushed(&flushed);
        flushed
    }

    pub(super) fn poll_close<T>(&mut self, mut inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Transport<Message>,
    {
        self.tell_late()?;
        self.hand_over(inner.as_mut())?;
        // No message follows, so the promised room is free for what waits in the sink.
        self.sink.forget_room();
        let closed = self.sink.get_mut().poll_close(inner, cx);
        self.flushed(&closed);
        closed
    }

    /// Sends waiting messages, at once if there is room.
    fn hand_over<T>(&mut self, inner: Pin<&mut T>) -> Result<(), Error>
    where
        T: Transport<Message>,
    {
        let count = self.pack.len();
        let Some(batch) = self.pack.take() else { return Ok(()) };
        self.give(inner, batch).map_err(|error| refused(error, count))
    }

    /// As [`hand_over`](Self::hand_over), for messages that were accepted before: the next poll returns their refusal.
    fn hand_over_before<T>(&mut self, inner: Pin<&mut T>)
    where
        T: Transport<Message>,
    {
        if let Err(error) = self.hand_over(inner) {
            self.late = Some(error);
        }
    }

    #[inline]
    fn tell_late(&mut self) -> Result<(), Error> {
        self.late.take().map_or(Ok(()), Err)
    }

    #[inline]
    fn give<T>(&mut self, inner: Pin<&mut T>, message: Message) -> Result<(), Error>
    where
        T: Transport<Message>,
    {
        self.is_dirty = true;
        self.sink.start_own(inner, message)
    }

    const fn flushed(&mut self, result: &Poll<Result<(), Error>>) {
        if let Poll::Ready(Ok(())) = result {
            self.is_dirty = false;
            self.is_told = false;
        }
    }
}

/// Messages that wait for others to join them, without a flush.
impl BatchSink {
    /// On the writer's task: sends messages that have waited too long, if no reader does.
    fn poll_rung<T>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Result<(), Error>
    where
        T: Transport<Message>,
    {
        if !self.timer.has_rung() && !self.is_due {
            self.arm();
            return Ok(());
        }
        self.timer.clear();
        self.is_due = false;
        self.push_due();
        // If it lacks room, it continues with the next poll of either half.
        if let Poll::Ready(flushed) = self.sink.get_mut().poll_flush(inner, cx) {
            flushed?;
            self.is_dirty = false;
        }
        Ok(())
    }

    /// Returns whether messages wait without a running timer: it has fired, or is yet to be set. Cheap enough for each
    /// incoming message.
    #[inline]
    pub(super) fn may_be_due(&self) -> bool {
        self.is_unflushed() && !self.timer.is_running() && self.pack.policy().delay().is_some()
    }

    /// On the reader's task: sends messages that have waited too long. Returns an error that the sink would not report
    /// any more.
    pub(super) fn poll_due<T>(&mut self, mut inner: Pin<&mut T>, cx: &mut Context<'_>) -> Result<(), Error>
    where
        T: Transport<Message>,
    {
        if self.late.as_ref().is_some_and(Error::is_rejection) && self.pack.policy().delay().is_some() {
            // The writer may have gone away, and leave the rest to the timer.
            return self.late.take().map_or(Ok(()), |error| Err(error.into_unsent()));
        }
        if !self.is_unflushed() && !self.timer.is_set() && self.sink.get_ref().is_idle() {
            return Ok(());
        }
        loop {
            let rang = self.timer.poll(cx).is_ready();
            if (std::mem::take(&mut self.is_due) || rang) && self.is_unflushed() {
                self.push_due();
            }
            // The sink below has failed for good. To poll it again would give the same error for each item of the
            // stream.
            if self.is_told {
                return Ok(());
            }
            let had_own = !self.sink.get_ref().is_idle();
            match self.sink.get_mut().poll_send(inner.as_mut(), cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) if error.is_rejection() && error.is_closed() => return Err(error),
                Poll::Ready(Err(error)) if error.is_rejection() => return Err(error.into_unsent()),
                Poll::Ready(Err(error)) => {
                    self.is_told = true;
                    // The stream itself reports that the transport is closed.
                    return if error.is_closed() { Ok(()) } else { Err(error) };
                }
                Poll::Ready(Ok(())) => {
                    self.is_dirty &= !had_own;
                    self.arm();
                    if !self.is_due {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Arms the timer for the waiting messages, unless it is armed.
    #[inline]
    fn arm(&mut self) {
        if let Some(delay) = self.pack.policy().delay()
            && !self.timer.is_set()
            && !self.is_due
            && self.is_unflushed()
        {
            self.set(delay);
        }
    }

    fn set(&mut self, delay: Duration) {
        self.timer.set(delay);
        // The reader's waker, for the writer may be gone. Without a reader yet, its first poll finds what is due.
        let reader = self.reader.get().unwrap_or(Waker::noop());
        if self.timer.start(&mut Context::from_waker(reader)).is_ready() {
            // There is no delay: the reader's next poll sends the messages.
            self.is_due = true;
            reader.wake_by_ref();
        }
    }

    /// Marks the waiting batch to be sent and flushed by the half that polls first. Until the last such batch has left,
    /// the next one waits here: at most one is put aside.
    fn push_due(&mut self) {
        if self.sink.get_ref().is_empty()
            && let Some(batch) = self.pack.take()
        {
            self.is_dirty = true;
            self.sink.get_mut().push_for_user(batch);
        }
        self.sink.get_mut().request_flush();
    }
}
