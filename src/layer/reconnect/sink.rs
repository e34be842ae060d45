use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_sink::Sink;

use super::{
    Class, Reconnect,
    core::{Granted, close_message},
    state::Phase,
    transport::{LinkParts, Parts},
    watch::Half,
};
use crate::{Connect, Error, Transport};

impl<C, Out> Parts<'_, C, Out>
where
    C: Connect<Transport: Transport<Out>>,
    Out: 'static,
{
    /// What became of a poll of the connection's sink. `None`: look again, something has changed.
    fn settle(&mut self, polled: Poll<Result<(), Error>>, cx: &Context<'_>) -> Option<Poll<Result<(), Error>>> {
        match polled {
            Poll::Ready(Ok(())) => Some(Poll::Ready(Ok(()))),
            Poll::Ready(Err(error)) if self.core.policy.class(&error) == Class::Message => {
                Some(Poll::Ready(Err(error)))
            }
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
    fn is_open(&self) -> bool {
        self.core.is_steady() && !self.core.buffer.has_report()
    }

    fn ready_directly(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let LinkParts::Up { mut transport } = self.link.as_mut().project() else { return Poll::Pending };
        if self.core.buffer.is_full() {
            ready!(transport.as_mut().poll_flush(cx)).map_err(Into::into)?;
            self.core.buffer.flushed();
        }
        ready!(transport.poll_ready(cx)).map_err(Into::into)?;
        self.core.granted = Granted::Direct;
        Poll::Ready(Ok(()))
    }

    fn flush_directly(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let LinkParts::Up { transport } = self.link.as_mut().project() else { return Poll::Pending };
        ready!(transport.poll_flush(cx)).map_err(Into::into)?;
        self.core.buffer.flushed();
        Poll::Ready(Ok(()))
    }

    fn close_directly(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.core.end.wrote {
            return Poll::Ready(Ok(()));
        }
        let LinkParts::Up { transport } = self.link.as_mut().project() else { return Poll::Ready(Ok(())) };
        let closed = ready!(transport.poll_close(cx)).map_err(Into::into);
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

    fn send_directly(&mut self, message: Out) -> Result<(), Error> {
        let LinkParts::Up { transport } = self.link.as_mut().project() else { return Err(unready()) };
        let closes = close_message(&message).is_some();
        self.core.buffer.sending(&message);
        match transport.start_send(message).map_err(Into::into) {
            Ok(()) if closes => self.start_closing(),
            Ok(()) => {}
            Err(error) if self.core.policy.class(&error) == Class::Message => {
                self.core.buffer.not_sent();
                return Err(error);
            }
            // There was a place for the message: what becomes of it is what becomes of all that the connection took.
            Err(error) => self.sink_failed(error),
        }
        Ok(())
    }
}

fn unready() -> Error {
    Error::full("start_send without a connection; wait for poll_ready first")
}

impl<C, Out> Sink<Out> for Reconnect<C, Out>
where
    C: Connect<Transport: Transport<Out>>,
    Out: 'static,
{
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut this = self.project();
        loop {
            if this.is_open() {
                if this.core.granted != Granted::Nothing {
                    return Poll::Ready(Ok(()));
                }
                let ready = this.ready_directly(cx);
                if let Some(settled) = this.settle(ready, cx) {
                    return settled;
                }
                continue;
            }
            let up = this.poll_up(Half::Writer, cx);
            if up == Poll::Ready(false) || this.core.is_closing() {
                return Poll::Ready(Err(this.core.ended()));
            }
            this.core.check_report()?;
            if this.core.is_steady() {
                continue;
            }
            if this.core.granted == Granted::Nothing {
                if this.core.buffer.waits_for_connection() {
                    return Poll::Pending;
                }
                this.core.granted = Granted::Queued;
            }
            return Poll::Ready(Ok(()));
        }
    }

    fn start_send(self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let mut this = self.project();
        let granted = std::mem::replace(&mut this.core.granted, Granted::Nothing);
        match this.core.machine.phase() {
            Phase::Over | Phase::Closing => return Err(this.core.ended()),
            Phase::Up if this.core.steady && granted != Granted::Queued => return this.send_directly(message),
            _ if granted == Granted::Nothing => return Err(unready()),
            Phase::Up if this.core.broken.is_none() => (this.core.steady, this.core.pumping) = (false, true),
            _ => {}
        }
        this.core.buffer.push(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut this = self.project();
        loop {
            if this.is_open() || this.core.is_closing() && !this.core.end.hang_up {
                let flushed = this.flush_directly(cx);
                match this.settle(flushed, cx) {
                    Some(settled) => return settled,
                    None => continue,
                }
            }
            match this.poll_up(Half::Writer, cx) {
                Poll::Ready(false) => return Poll::Ready(Err(this.core.ended())),
                // Hanging up.
                Poll::Pending if this.core.is_closing() => return Poll::Pending,
                _ => this.core.check_report()?,
            }
            if this.core.is_steady() || this.core.is_closing() {
                continue;
            }
            return if this.core.buffer.is_clear() { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut this = self.project();
        loop {
            if this.core.is_closing() && !this.core.end.hang_up {
                let closed = this.close_directly(cx);
                if closed.is_pending() {
                    this.core.shared.register(Half::Writer, cx);
                }
                ready!(closed)?;
                return Poll::Ready(this.core.check_report());
            }
            let is_down = matches!(this.core.machine.phase(), Phase::Idle | Phase::Waiting | Phase::Dialling);
            if is_down && !this.core.buffer.has_unsent() {
                this.close();
            }
            match this.poll_up(Half::Writer, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(false) if this.core.end.lost > 0 => {
                    let error = this.core.ended();
                    this.core.end.lost = 0;
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(false) => return Poll::Ready(Ok(())),
                Poll::Ready(true) if this.core.is_closing() => {}
                Poll::Ready(true) if this.core.steady => this.start_closing(),
                Poll::Ready(true) => return Poll::Pending,
            }
        }
    }
}
