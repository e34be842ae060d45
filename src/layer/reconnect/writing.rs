//! What the sink's methods come to where they are not the connection's alone.

use std::task::{Context, Poll, ready};

use futures_sink::Sink;

use super::{
    Class,
    class::refuses_message,
    core::Granted,
    state::Phase,
    transport::{LinkParts, Parts},
};
use crate::{
    Connect, Error, Transport,
    transport::{payload::Payload, wakers::Half},
};

impl<C, Out> Parts<'_, C, Out>
where
    C: Connect<Transport: Transport<Out>>,
    Out: 'static,
{
    /// What became of a poll of the connection's sink. `None`: look again, something has changed.
    pub(super) fn settle(
        &mut self,
        polled: Poll<Result<(), Error>>,
        cx: &Context<'_>,
    ) -> Option<Poll<Result<(), Error>>> {
        match polled {
            Poll::Ready(Ok(())) => Some(Poll::Ready(Ok(()))),
            // Of a message that was accepted before. Nothing else but a rejection leaves the connection's sink of use, whatever
            // the user's classifier says.
            Poll::Ready(Err(error)) if error.is_rejection() => Some(Poll::Ready(Err(error))),
            Poll::Ready(Err(error)) => {
                self.sink_failed(error);
                None
            }
            Poll::Pending => {
                // The connection wakes this task when it can go on; the reader does, when it finds the connection lost.
                self.core.shared.register(Half::Writer, cx);
                if self.core.shared.has_command() { None } else { Some(Poll::Pending) }
            }
        }
    }

    /// Whether the user's own polls may go straight to the connection's sink.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.core.is_steady() && !self.core.buffer.has_report()
    }

    /// `poll_ready` where it is not the connection's alone. `polled` is what that said, if it was asked.
    pub(super) fn poll_place(
        &mut self,
        polled: Option<Poll<Result<(), Error>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if let Some(settled) = polled.and_then(|polled| self.settle(polled, cx)) {
            return settled;
        }
        loop {
            if self.is_open() {
                if self.core.granted != Granted::Nothing {
                    return Poll::Ready(Ok(()));
                }
                let ready = self.ready_directly(cx);
                if let Some(settled) = self.settle(ready, cx) {
                    return settled;
                }
                continue;
            }
            let up = self.poll_up(Half::Writer, cx);
            if up == Poll::Ready(false) || self.core.is_closing() {
                return Poll::Ready(Err(self.core.ended()));
            }
            self.core.check_report()?;
            if self.core.is_steady() {
                continue;
            }
            if self.core.granted == Granted::Nothing {
                if self.core.buffer.waits_for_connection() {
                    return Poll::Pending;
                }
                self.core.granted = Granted::Queued;
            }
            return Poll::Ready(Ok(()));
        }
    }

    pub(super) fn ready_directly(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let LinkParts::Up { mut transport } = self.link.as_mut().project() else { return Poll::Pending };
        if self.core.buffer.is_full() {
            ready!(transport.as_mut().poll_flush(cx)).map_err(Into::into)?;
            self.core.buffer.flushed();
        }
        ready!(transport.poll_ready(cx)).map_err(Into::into)?;
        self.core.granted = Granted::Direct;
        Poll::Ready(Ok(()))
    }

    /// `poll_flush` where it is not the connection's alone. `polled` is what that said, if it was asked.
    pub(super) fn poll_out(
        &mut self,
        polled: Option<Poll<Result<(), Error>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if let Some(settled) = polled.and_then(|polled| self.settle(polled, cx)) {
            return settled;
        }
        loop {
            if self.is_open() || self.core.is_closing() && !self.core.end.hang_up {
                let flushed = self.flush_directly(cx);
                match self.settle(flushed, cx) {
                    Some(settled) => return settled,
                    None => continue,
                }
            }
            match self.poll_up(Half::Writer, cx) {
                Poll::Ready(false) => return Poll::Ready(Err(self.core.ended())),
                // Hanging up.
                Poll::Pending if self.core.is_closing() => return Poll::Pending,
                _ => self.core.check_report()?,
            }
            if self.core.is_steady() || self.core.is_closing() {
                continue;
            }
            return if self.core.buffer.is_clear() { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
    }

    pub(super) fn flush_directly(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let LinkParts::Up { transport } = self.link.as_mut().project() else { return Poll::Pending };
        ready!(transport.poll_flush(cx)).map_err(Into::into)?;
        self.core.buffer.flushed();
        Poll::Ready(Ok(()))
    }

    pub(super) fn close_directly(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.core.end.wrote {
            return Poll::Ready(Ok(()));
        }
        let LinkParts::Up { transport } = self.link.as_mut().project() else { return Poll::Ready(Ok(())) };
        let closed = ready!(transport.poll_close(cx)).map_err(Into::into);
        if closed.as_ref().is_err_and(Error::is_rejection) {
            // Of one message; the close goes on with the next call.
            return Poll::Ready(closed);
        }
        if closed.is_ok() {
            self.core.buffer.flushed();
        }
        let was_clear = self.core.buffer.is_clear();
        self.core.end.wrote = true;
        match closed {
            Ok(()) => {
                self.core.show_end();
                self.finish_if_done();
            }
            Err(_) => self.finish(),
        }
        // A connection that was gone before the close had got to it is closed all the same.
        Poll::Ready(closed.or_else(|error| if was_clear { Ok(()) } else { Err(error) }))
    }

    pub(super) fn send_directly(&mut self, message: Out) -> Result<(), Error> {
        let LinkParts::Up { transport } = self.link.as_mut().project() else { return Err(unready()) };
        let closes = Payload::of().close_message(&message).is_some();
        if !self.core.outlives {
            self.core.buffer.sending(&message);
        }
        if let Err(error) = transport.start_send(message) {
            return self.failed_to_send(error.into());
        }
        if closes {
            self.start_closing();
        }
        Ok(())
    }

    #[cold]
    pub(super) fn failed_to_send(&mut self, error: Error) -> Result<(), Error> {
        if refuses_message(&error) || self.core.policy.class(&error) == Class::Message {
            if !self.core.outlives {
                self.core.buffer.not_held();
            }
            return Err(error.into_rejection());
        }
        if self.core.outlives {
            // The layer below did not take the message and there is no copy here, so the caller has to know. The transport
            // goes on with the next connection.
            self.sink_failed(error.clone());
            return Err(error.into_unsent().into_rejection());
        }
        // There was a place for the message: what becomes of it is what becomes of all that the connection took.
        self.sink_failed(error);
        Ok(())
    }

    /// `start_send` where the place is not one in the connection.
    #[cold]
    pub(super) fn send_later(&mut self, message: Out) -> Result<(), Error> {
        let granted = std::mem::replace(&mut self.core.granted, Granted::Nothing);
        match self.core.machine.phase() {
            Phase::Over | Phase::Closing => return Err(self.core.ended()),
            // Without a place: the connection may say what it thinks of that.
            Phase::Up if self.core.steady && granted == Granted::Nothing => return self.send_directly(message),
            _ if granted == Granted::Nothing => return Err(unready()),
            Phase::Up if self.core.broken.is_none() => (self.core.steady, self.core.pumping) = (false, true),
            _ => {}
        }
        self.core.buffer.push(message);
        Ok(())
    }
}

fn unready() -> Error {
    Error::full("start_send without a connection; wait for poll_ready first")
}
