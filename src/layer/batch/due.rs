use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::outgoing::Outgoing;
use crate::{Error, Message, Transport};

/// What becomes of messages that wait for others to join them, and for nobody who flushes.
impl Outgoing {
    /// On the writer's task: sends what has waited too long, where nobody reads who would.
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
        // What it lacks is room: then it goes on with the next poll of either half.
        if let Poll::Ready(flushed) = self.control.poll_flush(inner, cx) {
            flushed.map_err(Into::into)?;
            self.is_dirty = false;
        }
        Ok(())
    }

    /// On the reader's task: sends what has waited too long. Gives an error that the sink would not tell any more.
    pub(super) fn poll_due<T>(&mut self, mut inner: Pin<&mut T>, cx: &mut Context<'_>) -> Result<(), Error>
    where
        T: Transport<Message>,
    {
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
                    // That the transport is closed, its stream says itself.
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

    /// Lets the timer ring for what waits, unless it will.
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
        let reader = self.reader.as_ref().unwrap_or(Waker::noop());
        if self.timer.start(&mut Context::from_waker(reader)).is_ready() {
            // No delay at all: the reader's next poll sends it.
            self.is_due = true;
            reader.wake_by_ref();
        }
    }

    /// What waits is to be sent and flushed by whoever polls first. While the last such batch has not left, the next waits
    /// here: more than one is never put aside.
    fn push_due(&mut self) {
        if self.control.len() == 0
            && let Some(batch) = self.pack.take()
        {
            self.is_dirty = true;
            self.control.push(batch);
        }
        self.control.flush_soon();
    }
}
