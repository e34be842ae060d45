//! How a connection ends: by the peer, by its stream, by the user.

use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_sink::Sink;

use super::{
    Class,
    class::is_normal_close,
    state::{Action, Event, Phase},
    transport::{Link, LinkParts, Parts},
};
use crate::{CloseFrame, Connect, Error, Transport};

impl<C, Out> Parts<'_, C, Out>
where
    C: Connect<Transport: Transport<Out>>,
    Out: 'static,
{
    /// The peer said goodbye. True: for good, and the user is to see it.
    pub(super) fn closed_by_peer(&mut self, frame: Option<CloseFrame>, cx: &mut Context<'_>) -> bool {
        if self.core.is_closing() {
            return true;
        }
        if let LinkParts::Up { transport } = self.link.as_mut().project() {
            // Here the transport may get its answer out, before it is dropped.
            let _ = transport.poll_next(cx);
        }
        let error = Error::closed("the peer closed the connection").with_close_frame(frame);
        if self.core.policy.class(&error) != Class::Final {
            self.lost(error, false);
            // A plain goodbye after which no attempt is left is a good end.
            return self.core.machine.phase() == Phase::Over && !self.core.end.is_failure;
        }
        // The close message is the news; no error follows it.
        if is_normal_close(&error) {
            self.core.end.cause = Some(error);
        } else {
            self.fail(error);
            self.core.parting = None;
        }
        self.start_closing();
        true
    }

    pub(super) fn start_closing(&mut self) {
        self.core.machine.on(Event::Close);
        (self.core.steady, self.core.pumping) = (false, false);
        self.core.shared.wake_both();
    }

    /// An error in the connection's stream; gives back what the user is to see.
    pub(super) fn failed_to_read(&mut self, error: Error) -> Option<Error> {
        if self.core.is_closing() || self.core.policy.class(&error) == Class::Message {
            return Some(error);
        }
        self.lost(error, false);
        None
    }

    /// The connection's stream has ended.
    pub(super) fn read_to_the_end(&mut self) {
        if self.core.is_closing() {
            self.core.end.read = true;
            self.core.show_end();
            return self.finish_if_done();
        }
        let mut cause = self.core.broken.take();
        // The sink of a transport that has ended knows best why. Where it has failed before, it has said so already: asked again it
        // only says that it is closed.
        let quietly = cause.is_none();
        if quietly
            && let LinkParts::Up { transport } = self.link.as_mut().project()
            && let Poll::Ready(Err(error)) = transport.poll_ready(&mut Context::from_waker(&self.core.waker))
        {
            cause = Some(error.into());
        }
        let cause = cause.unwrap_or_else(|| Error::closed("the connection ended without a close message"));
        self.lost(cause, quietly);
    }

    pub(super) fn finish_if_done(&mut self) {
        if self.core.end.read && (self.core.end.wrote || self.core.end.cause.is_some()) {
            self.finish();
        }
    }

    pub(super) fn finish(&mut self) {
        self.link.set(Link::Down);
        self.core.disconnected(None);
        self.core.machine.on(Event::Closed);
        self.core.over();
    }

    /// The user wants no connection any more.
    pub(super) fn close(&mut self) {
        if self.core.machine.phase() == Phase::Up {
            self.core.end.hang_up = true;
            return self.start_closing();
        }
        if self.core.machine.on(Event::Close) == Action::Drop {
            self.link.set(Link::Down);
            self.core.timer.clear();
            self.core.over();
        }
    }

    pub(super) fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let LinkParts::Up { transport } = self.link.as_mut().project()
            && ready!(transport.poll_close(cx)).is_ok()
        {
            self.core.buffer.flushed();
        }
        self.finish();
        Poll::Ready(())
    }
}
