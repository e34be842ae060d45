use std::{
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use super::{
    BatchPolicy,
    pack::{self, Pack},
};
use crate::{
    Error, Message, Transport,
    layer::control::Control,
    message::trailer::{self, Layer},
    rt::Timer,
};

/// The sending side: the batch that waits, and what makes it leave.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) pack: Pack,
    /// What leaves though no writer is there to send it: a batch whose time has come, a message behind a batch.
    pub(super) control: Control<Message>,
    /// The transport below has promised room for one message.
    pub(super) is_ready: bool,
    /// This one did, and no message has used it: it stays good though a flush gives the room below to what waits.
    pub(super) is_promised: bool,
    /// The transport below holds what was not flushed.
    pub(super) is_dirty: bool,
    /// Set at most once a `delay`: it rings when something has waited as long or a little less, and is not touched by a flush.
    pub(super) timer: Timer,
    pub(super) is_due: bool,
    /// Whom the timer wakes: who reads, because a writer that feeds and goes away is not there to be woken.
    pub(super) reader: Option<Waker>,
    /// The reader waits. If it does not, it will poll before it does, and see for itself what is to be sent: so that a message
    /// which is flushed at once needs no timer.
    pub(super) is_parked: bool,
    /// A close message was accepted: nothing may follow.
    pub(super) is_closing: bool,
    /// The reader was told that its own sending failed; the sink tells the rest.
    pub(super) is_told: bool,
}

impl Outgoing {
    pub(super) fn new(pack: Pack) -> Self {
        Self {
            pack,
            control: Control::new(),
            is_ready: false,
            is_promised: false,
            is_dirty: false,
            timer: Timer::new(),
            is_due: false,
            reader: None,
            is_parked: false,
            is_closing: false,
            is_told: false,
        }
    }

    pub(super) const fn policy(&self) -> &BatchPolicy {
        self.pack.policy()
    }

    pub(super) const fn waiting(&self) -> usize {
        self.pack.len()
    }

    /// The reader is here.
    #[inline]
    pub(super) const fn unpark(&mut self) {
        self.is_parked = false;
    }

    /// The reader waits from here on. As [`poll_due`](Self::poll_due).
    #[inline]
    pub(super) fn park<T>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Result<(), Error>
    where
        T: Transport<Message>,
    {
        self.is_parked = true;
        match &mut self.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            None => self.reader = Some(cx.waker().clone()),
        }
        self.poll_due(inner, cx)
    }

    /// The stream has ended or failed: what was promised has to be asked for again.
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
        if self.is_unflushed() && self.pack.policy().delay().is_some() && !self.timer.is_running() {
            self.poll_rung(inner.as_mut(), cx)?;
        }
        while !self.is_ready {
            match self.control.poll_ready(inner.as_mut(), cx) {
                Poll::Pending if self.is_promised => return Poll::Ready(Ok(())),
                room => ready!(room).map_err(Into::into)?,
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
        // A transport may be closed while it is full: the close message waits its turn.
        if self.is_closing {
            return Err(Error::closed("a close message was sent before"));
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
                    self.hand_over(inner.as_mut())?;
                }
                self.pack.add(message, len);
                if self.pack.is_full() && self.is_ready {
                    self.hand_over(inner)?;
                }
            }
            message => {
                self.is_closing = message.is_close();
                let message = trailer::close(Layer::Batch, message);
                // The room that was promised is for what waits, else for this message.
                if self.is_ready && self.pack.is_empty() {
                    self.give(inner, message)?;
                } else {
                    self.hand_over(inner)?;
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
        // A lone message, mostly.
        if self.is_ready
            && let Some(alone) = self.pack.take_alone()
        {
            self.is_ready = false;
            self.is_dirty = true;
            if self.control.passes() {
                inner.as_mut().start_send(alone).map_err(Into::into)?;
            } else {
                self.control.start_send(inner.as_mut(), alone).map_err(Into::into)?;
            }
        } else {
            self.hand_over(inner.as_mut())?;
        }
        let flushed = self.control.poll_flush(inner, cx).map_err(Into::into);
        self.flushed(&flushed);
        flushed
    }

    pub(super) fn poll_close<T>(&mut self, mut inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Transport<Message>,
    {
        self.hand_over(inner.as_mut())?;
        self.is_ready = false;
        let closed = self.control.poll_close(inner, cx).map_err(Into::into);
        self.flushed(&closed);
        closed
    }

    /// Lets what waits leave: at once where there is room for it.
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

    /// Uses the room that was promised.
    #[inline]
    fn give<T>(&mut self, inner: Pin<&mut T>, message: Message) -> Result<(), Error>
    where
        T: Transport<Message>,
    {
        self.is_ready = false;
        self.is_dirty = true;
        self.control.start_send(inner, message).map_err(Into::into)
    }

    const fn flushed(&mut self, result: &Poll<Result<(), Error>>) {
        if let Poll::Ready(Ok(())) = result {
            self.is_dirty = false;
            self.is_told = false;
        }
    }
}
