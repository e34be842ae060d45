use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use super::Seat;
use crate::{CloseFrame, Error, rt};

/// A transport's part in a drain: says when the transport is to begin its close, and wakes its halves for it.
///
/// The close waits until the writing half has nothing more to write, so that what a queue above has accepted goes out first. It waits for the
/// time of a close at most: a peer that does not read, or a writer that never ends, must not put it off.
#[derive(Debug)]
pub(crate) struct Member {
    seat: Arc<Seat>,
    /// For how long the writing half may put off the close.
    patience: Duration,
    /// There is a reading half: the close is its business.
    has_reader: bool,
    /// Something was written since the reading half last looked.
    has_written: bool,
    /// The writing half waits for room.
    is_waiting: bool,
    /// The reading half has seen that the drain has started.
    has_seen: bool,
    timer: Option<Pin<Box<rt::Sleep>>>,
}

impl Member {
    pub(crate) fn new(seat: Arc<Seat>, patience: Duration) -> Self {
        Self { seat, patience, has_reader: false, has_written: false, is_waiting: false, has_seen: false, timer: None }
    }

    /// Returns the cause, once the drain has cut the connection.
    #[inline]
    pub(crate) fn cut(&self) -> Option<Error> {
        self.seat.is_cut().then(|| {
            Error::closed("the connection did not end in the time that the server's drain gave it, and was cut")
                .with_close_frame(self.frame())
        })
    }

    /// What the transport closes with.
    pub(crate) fn frame(&self) -> Option<CloseFrame> {
        self.seat.drain.0.start.get().map(|start| start.frame.clone())
    }

    /// Asks before the open transport reads: returns the frame that the close is to begin with, once it is time.
    #[inline]
    pub(crate) fn poll_reader(&mut self, cx: &mut Context<'_>) -> Option<CloseFrame> {
        self.has_reader = true;
        if self.seat.is_started() { self.poll_close(cx) } else { None }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Option<CloseFrame> {
        self.has_seen = true;
        let patience = self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(rt::sleep(patience)));
        if timer.as_mut().poll(cx).is_pending() {
            if self.is_waiting {
                return None;
            }
            if std::mem::take(&mut self.has_written) {
                // Whoever writes in the same task has its turn before the next look.
                cx.waker().wake_by_ref();
                return None;
            }
        }
        self.timer = None;
        self.frame()
    }

    /// Registers the reading half, which has nothing to read. Returns whether it is to look again at once.
    #[inline]
    pub(crate) fn reader_waits(&mut self, cx: &Context<'_>) -> bool {
        self.seat.wakers.reader.register(cx.waker());
        // Once: a transport that is closing already does not ask.
        let has_started = self.seat.is_started();
        (has_started && !std::mem::replace(&mut self.has_seen, has_started)) || self.seat.is_cut()
    }

    /// Asks before the open transport gives room for a message: returns the frame that the close is to begin with, where no reading half
    /// sees to it.
    #[inline]
    pub(crate) fn poll_writer(&self) -> Option<CloseFrame> {
        if !self.seat.is_started() {
            return None;
        }
        let start = self.seat.drain.0.start.get()?;
        (!self.has_reader || start.at.elapsed() >= self.patience).then(|| start.frame.clone())
    }

    /// Notes how the writing half stands after it has asked for room or flushed. Returns whether it is to look again at once.
    #[inline]
    pub(crate) fn writer_waits<T>(&mut self, polled: &Poll<T>, cx: &Context<'_>) -> bool {
        let was_waiting = std::mem::replace(&mut self.is_waiting, polled.is_pending());
        if self.is_waiting {
            self.seat.wakers.writer.register(cx.waker());
            return self.seat.is_cut() || (self.seat.is_started() && !self.has_reader);
        }
        if was_waiting && self.seat.is_started() {
            self.seat.wakers.reader.wake();
        }
        false
    }

    /// Notes that a message was written.
    #[inline]
    pub(crate) fn wrote(&mut self) {
        self.has_written = true;
    }
}
