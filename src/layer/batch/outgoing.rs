use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::{
    BatchPolicy,
    pack::{self, Pack},
};
use crate::{
    Error, Message, Transport,
    layer::own::LayerSink,
    message::trailer::{self, Layer},
    rt::Timer,
    transport::wakers::WakerSlot,
};

/// The sending side: the waiting batch, and the conditions under which it is sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) pack: Pack,
    /// Messages that leave even if no writer sends them: a batch whose delay is over, or a message behind a batch.
    pub(super) control: LayerSink<Message>,
    /// Whether the transport below has promised room for one message.
    pub(super) is_ready: bool,
    /// Whether this layer has promised room that no message has used. The promise stays valid even if a flush uses the
    /// room below for waiting messages.
    pub(super) is_promised: bool,
    /// Whether the transport below holds messages that were not flushed.
    pub(super) is_dirty: bool,
    /// Set at most once per `delay`. It fires when a message has waited for the delay or slightly less, and a flush
    /// does not touch it.
    pub(super) timer: Timer,
    pub(super) is_due: bool,
    /// The waker that the timer wakes: the reader's, because a writer that feeds and leaves cannot be woken.
    pub(super) reader: WakerSlot,
    /// Whether the reader waits. If it does not, it will poll before it waits, and send what is due. A message that is
    /// flushed at once therefore needs no timer.
    pub(super) is_parked: bool,
    /// Whether a close message was accepted: nothing may follow it.
    pub(super) is_closing: bool,
    /// Whether the reader was told that its own sending failed; the sink reports the rest.
    pub(super) is_told: bool,
    /// The refusal of messages that were accepted before, which arose while another message was sent. The next poll
    /// returns it, so that it is not taken for the error of that other message.
    pub(super) late: Option<Error>,
}

impl Outgoing {
    pub(super) fn new(pack: Pack) -> Self {
        Self {
            pack,
            control: LayerSink::new(),
            is_ready: false,
            is_promised: false,
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

    /// Called when the stream has ended or failed: promised room must be requested again.
    pub(super) const fn reconsider(&mut self) {
        self.is_ready = false;
    }

    pub(super) fn is_unflushed(&self) -> bool {
        self.is_dirty || !self.pack.is_empty()
    }

    #[inline]
    pub(super) fn poll_ready<T>(&mut self, mut inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Transport<Message>,
    {
        self.tell_late()?;
        if self.is_unflushed() && self.pack.policy().delay().is_some() && !self.timer.is_running() {
            self.poll_rung(inner.as_mut(), cx)?;
        }
        while !self.is_ready {
            match self.control.poll_ready(inner.as_mut(), cx) {
                Poll::Pending if self.is_promised => return Poll::Ready(Ok(())),
                room => ready!(room)?,
            }
            self.is_ready = true;
            if self.pack.is_full() {
                self.hand_over(inner.as_mut())?;
            }
        }
        self.is_promised = true;
        Poll::Ready(Ok(()))
    }

    #[inline]
    pub(super) fn start_send<T>(&mut self, inner: Pin<&mut T>, message: Message) -> Result<(), Error>
    where
        T: Transport<Message>,
    {
        let len = message.len();
        if self.is_ready
            && self.is_promised
            && !self.is_parked
            && !self.is_closing
            && message.is_data()
            && self.pack.is_open_for_first(len)
        {
            self.is_promised = false;
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
        // A transport may be closed while it is full; the close message then waits.
        if self.is_closing {
            return Err(Error::closed("a close message was already sent"));
        }
        if !std::mem::take(&mut self.is_promised) && !message.is_close() {
            return Err(Error::full("a message was sent to a batch before it was ready; wait for `poll_ready` first"));
        }
        let len = message.len();
        match message {
            Message::Ping(_) | Message::Pong(_) if self.is_ready => self.give(inner, message)?,
            Message::Ping(_) | Message::Pong(_) => self.control.push(message),
            Message::Text(_) | Message::Binary(_) if !self.pack.policy().goes_alone(len) => {
                if !self.pack.has_room(len) {
                    self.hand_over_before(inner.as_mut());
                }
                self.pack.add(message, len);
                if self.pack.is_full() && self.is_ready {
                    match self.pack.len() {
                        1 => self.hand_over(inner)?,
                        _ => self.hand_over_before(inner),
                    }
                }
            }
            message => {
                self.is_closing = message.is_close();
                let message = trailer::close(Layer::Batch, message);
                // The promised room is for waiting messages, otherwise for this message.
                if self.is_ready && self.pack.is_empty() {
                    self.give(inner, message)?;
                } else {
                    self.hand_over_before(inner);
                    self.control.push(message);
                }
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
        self.tell_late()?;
        // Usually a lone message.
        if self.is_ready
            && let Some(alone) = self.pack.take_alone()
        {
            self.is_ready = false;
            self.is_dirty = true;
            if self.control.passes() {
                inner.as_mut().start_send(alone).map_err(Into::into)?;
            } else {
                self.control.start_send(inner.as_mut(), alone)?;
            }
        } else {
            self.hand_over(inner.as_mut())?;
        }
        let flushed = self.control.poll_flush(inner, cx);
        self.flushed(&flushed);
        flushed
    }

    pub(super) fn poll_close<T>(&mut self, mut inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Transport<Message>,
    {
        self.tell_late()?;
        self.hand_over(inner.as_mut())?;
        self.is_ready = false;
        let closed = self.control.poll_close(inner, cx);
        self.flushed(&closed);
        closed
    }

    /// Sends waiting messages, at once if there is room.
    #[inline(never)]
    fn hand_over<T>(&mut self, inner: Pin<&mut T>) -> Result<(), Error>
    where
        T: Transport<Message>,
    {
        let count = self.pack.len();
        let Some(batch) = self.pack.take() else { return Ok(()) };
        if !self.is_ready {
            self.is_dirty = true;
            self.control.push(batch);
            return Ok(());
        }
        self.give(inner, batch).map_err(|error| pack::refused(error, count))
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

    /// Uses the promised room.
    #[inline]
    fn give<T>(&mut self, inner: Pin<&mut T>, message: Message) -> Result<(), Error>
    where
        T: Transport<Message>,
    {
        self.is_ready = false;
        self.is_dirty = true;
        self.control.start_send(inner, message)
    }

    const fn flushed(&mut self, result: &Poll<Result<(), Error>>) {
        if let Poll::Ready(Ok(())) = result {
            self.is_dirty = false;
            self.is_told = false;
        }
    }
}
