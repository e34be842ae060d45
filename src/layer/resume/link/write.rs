use std::task::{Context, Poll, ready};

use super::Link;
use crate::{
    Error, Message, Transport,
    layer::resume::{
        state::{Acknowledgement, Core},
        wire::Own,
    },
    transport::signal,
};

/// Whether an error of `start_send` concerns the message that was sent, and not the connection.
fn concerns_one_message(error: &Error) -> bool {
    error.is_rejection() || error.is_too_large() || error.is_codec() || error.is_rate_limited() || error.is_full()
}

impl<T: Transport<Message, In = Message> + Unpin> Link<T> {
    /// Room for one more message: in the core, and on the connection.
    pub(in crate::layer::resume) fn poll_ready(
        &mut self,
        core: &mut Core,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if let Some(error) = &self.write_failed {
            return Poll::Ready(Err(error.clone()));
        }
        ready!(self.poll_unless_parting(cx))?;
        if self.is_promised {
            return Poll::Ready(Ok(()));
        }
        if !core.out.has_room() {
            ready!(self.poll_room(core, cx))?;
        }
        let room = if self.is_quiet(core) && self.acknowledgement == Acknowledgement::Later {
            self.inner().poll_ready(cx)
        } else {
            // The user is about to write, and the acknowledgement goes along.
            if self.acknowledgement == Acknowledgement::WithNextWrite {
                self.acknowledgement = Acknowledgement::Now;
            }
            self.halves.writer.register(cx.waker());
            ready!(self.poll_pump(core))?;
            let both = self.both.clone();
            self.inner().poll_ready(&mut Context::from_waker(&both))
        };
        match room {
            Poll::Ready(Ok(())) => {
                self.has_place = true;
                self.is_promised = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => self.fail(error),
            Poll::Pending => {
                self.halves.writer.register(cx.waker());
                Poll::Pending
            }
        }
    }

    /// Where the connection ends, the sink waits for that with the stream.
    fn poll_unless_parting(&mut self, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        if !self.is_parting() {
            return Poll::Ready(Ok(()));
        }
        self.halves.writer.register(cx.waker());
        self.ended = Some(ready!(self.poll_parted()));
        self.halves.reader.wake();
        let error = self.with_peer_close(Error::closed("resume: the connection has ended"));
        self.fail(error)
    }

    /// Waits for acknowledgements: reads, since else nobody might.
    fn poll_room(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_acknowledged(core, cx, |core| core.out.has_room())
    }

    /// Waits until acknowledgements have come that are enough, and reads them, since else nobody might.
    fn poll_acknowledged(
        &mut self,
        core: &mut Core,
        cx: &Context<'_>,
        is_enough: impl Fn(&mut Core) -> bool,
    ) -> Poll<Result<(), Error>> {
        self.halves.writer.register(cx.waker());
        loop {
            // The peer must get all that it is to acknowledge, and who waits here does not flush.
            self.is_dirty = true;
            if let Poll::Ready(Err(error)) = self.poll_write(core) {
                return Poll::Ready(Err(error));
            }
            let _ = self.read_ahead(core);
            if is_enough(core) {
                self.sink_reads = false;
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_unless_parting(cx))?;
            if self.ended.is_some() {
                return Poll::Ready(Err(self.with_peer_close(Error::closed("resume: the connection has ended"))));
            }
            // An acknowledgement may let more messages go.
            if !core.out.has_next() || self.poll_pump(core)?.is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Writes all that was accepted, which may have to wait for acknowledgements.
    fn poll_written(&mut self, core: &mut Core, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_pump(core))?;
        while core.out.is_blocked() {
            ready!(self.poll_acknowledged(core, cx, |core| !core.out.is_blocked()))?;
            ready!(self.poll_pump(core))?;
        }
        Poll::Ready(Ok(()))
    }

    pub(in crate::layer::resume) fn start_send(&mut self, core: &mut Core, message: Message) -> Result<(), Error> {
        let is_promised = std::mem::take(&mut self.is_promised);
        match message {
            Message::Text(_) | Message::Binary(_) => {
                if !is_promised && !core.out.has_room() {
                    return Err(Error::full("resume: start_send without room; wait for poll_ready first"));
                }
                core.out.push(message);
                // From here on the message is the session's: what fails on the connection is told by the next poll.
                if std::mem::take(&mut self.has_place) && core.out.next_is_newest() {
                    return self.write_next(core);
                }
            }
            Message::Close(frame) => core.closing = Some(frame),
            control => {
                if std::mem::take(&mut self.has_place) {
                    return match self.inner().start_send(control).map_err(Into::into) {
                        Err(error) if concerns_one_message(&error) => Err(error.into_rejection()),
                        Err(error) => {
                            self.write_failed = Some(error);
                            Ok(())
                        }
                        Ok(()) => Ok(()),
                    };
                } else {
                    self.control = Some(control);
                }
            }
        }
        Ok(())
    }

    /// Writes the next message. An error is of this message alone, which has left the session; it was never on the wire.
    fn write_next(&mut self, core: &mut Core) -> Result<(), Error> {
        let Some(message) = core.out.next() else { return Ok(()) };
        match self.inner().start_send(message.clone()).map_err(Into::into) {
            Err(error) if concerns_one_message(&error) => {
                core.out.refuse_next();
                return Err(error.into_rejection());
            }
            Err(error) => self.write_failed = Some(error),
            Ok(()) => {}
        }
        core.out.wrote();
        Ok(())
    }

    /// Writes what waits: all but what the user sends next.
    fn poll_pump(&mut self, core: &mut Core) -> Poll<Result<(), Error>> {
        let both = self.both.clone();
        let mut cx = Context::from_waker(&both);
        loop {
            if let Some(error) = &self.write_failed {
                return Poll::Ready(Err(error.clone()));
            }
            // Nothing of the end comes before all that was accepted.
            let ends = core.closing.is_some() && !core.out.is_blocked();
            let bye_waits = ends && !self.said_bye;
            // The close that the user asked for with a frame goes out behind the farewell.
            let close_waits = ends && matches!(core.closing, Some(Some(_)));
            let waits =
                self.greeting.is_some() || core.out.has_next() || self.control.is_some() || bye_waits || close_waits;
            let acknowledges = match self.acknowledgement {
                Acknowledgement::Later => false,
                Acknowledgement::WithNextWrite => waits,
                Acknowledgement::Now => true,
            };
            if !(waits || acknowledges) {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.inner().poll_ready(&mut cx)) {
                Ok(()) => self.has_place = false,
                Err(error) => return self.fail(error),
            }
            self.is_dirty = true;
            let message = if let Some(greeting) = self.greeting.take() {
                greeting
            } else if acknowledges {
                self.acknowledgement = Acknowledgement::Later;
                if !self.heard_bye && !self.is_parting() {
                    // It counts from the next message that is not acknowledged.
                    self.timer.clear();
                }
                Own::Ack(core.ack()).write_to(&mut self.ack_memory)
            } else if core.out.has_next() {
                if let Err(error) = self.write_next(core) {
                    core.refused(error);
                    self.halves.reader.wake();
                }
                continue;
            } else if let Some(control) = self.control.take() {
                match self.inner().start_send(control).map_err(Into::into) {
                    Ok(()) => {}
                    Err(error) if concerns_one_message(&error) => {
                        core.refused(error);
                        self.halves.reader.wake();
                    }
                    Err(error) => return self.fail(error),
                }
                continue;
            } else if bye_waits {
                self.said_bye = true;
                core.is_over = true;
                Own::Bye(core.ack()).into_message()
            } else {
                let Some(Some(frame)) = core.closing.replace(None) else { return Poll::Ready(Ok(())) };
                Message::Close(Some(frame))
            };
            if let Err(error) = self.inner().start_send(message) {
                return self.fail(error);
            }
        }
    }

    /// Writes and flushes what waits, for whichever half: the wakers of both stand in [`WakerPair`].
    pub(super) fn poll_write(&mut self, core: &mut Core) -> Poll<Result<(), Error>> {
        ready!(self.poll_pump(core))?;
        if !self.is_dirty {
            return Poll::Ready(Ok(()));
        }
        let both = self.both.clone();
        match ready!(self.inner().poll_flush(&mut Context::from_waker(&both))) {
            Ok(()) => {
                self.is_dirty = false;
                Poll::Ready(Ok(()))
            }
            Err(error) => self.fail(error),
        }
    }

    pub(in crate::layer::resume) fn poll_flush(
        &mut self,
        core: &mut Core,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if let Some(error) = &self.write_failed {
            return Poll::Ready(Err(error.clone()));
        }
        ready!(self.poll_unless_parting(cx))?;
        let flushed = if self.is_quiet(core) && !self.is_dirty && !core.out.is_blocked() {
            self.inner().poll_flush(cx)
        } else {
            self.halves.writer.register(cx.waker());
            ready!(self.poll_written(core, cx))?;
            let both = self.both.clone();
            self.inner().poll_flush(&mut Context::from_waker(&both))
        };
        match flushed {
            Poll::Ready(Ok(())) => {
                self.is_dirty = false;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => self.fail(error),
            Poll::Pending => {
                self.halves.writer.register(cx.waker());
                Poll::Pending
            }
        }
    }

    /// Ends the session: what was accepted, the word that it is over, and the transport's own close.
    pub(in crate::layer::resume) fn poll_close(
        &mut self,
        core: &mut Core,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        core.closing.get_or_insert_with(signal::close_frame);
        self.halves.writer.register(cx.waker());
        if self.write_failed.is_none() && !self.is_parting() && !self.heard_bye {
            ready!(self.poll_written(core, cx))?;
        }
        let both = self.both.clone();
        match ready!(self.inner().poll_close(&mut Context::from_waker(&both))) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => self.fail(error),
        }
    }

    /// Closes the transport below, of a session that is not here any more.
    pub(in crate::layer::resume) fn poll_close_only(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner().poll_close(cx).map_err(Into::into)
    }
}
