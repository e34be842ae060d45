use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::outgoing::Outgoing;
use crate::{Error, Message, Transport};

/// Handles messages that wait for others to join them without a flush.
impl Outgoing {
    /// On the writer's task: sends messages that have waited too long, if no reader does.
    #[inline(never)]
    pub(super) fn poll_rung<T>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Result<(), Error>
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
        if let Poll::Ready(flushed) = self.control.poll_flush(inner, cx) {
            flushed?;
            self.is_dirty = false;
        }
        Ok(())
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
        if !self.is_unflushed() && !self.timer.is_set() && self.control.is_idle() {
            return Ok(());
        }
        loop {
            let rang = self.timer.poll(cx).is_ready();
            if (std::mem::take(&mut self.is_due) || rang) && self.is_unflushed() {
                self.push_due();
            }
            if self.is_told {
                return Ok(());
            }
            let had_own = !self.control.is_idle();
            match self.control.poll_send(inner.as_mut(), cx).map_err(Into::into) {
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
    pub(super) fn arm(&mut self) {
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
        if self.control.len() == 0
            && let Some(batch) = self.pack.take()
        {
            self.is_dirty = true;
            self.control.push(batch);
        }
        self.control.request_flush();
    }
}
