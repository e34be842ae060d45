use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use futures_sink::Sink;
use http::Response;

use super::{
    backoff::Asked,
    class::{Class, is_normal_close, refuses_message},
    core::{Core, Outcome},
    handle::{Command, State},
    state::{Action, Closing, Event, Phase},
    transport::{Connection, ReconnectProj},
};
use crate::{
    CloseFrame, Connect, Error, Transport,
    rt::Instant,
    transport::{LostConnection, OutlivesConnection, Resumed, SessionLoss, payload::Payload, signal, wakers::Half},
};

/// How long the stream of a connection whose sink has failed may still tell the reason, for example by a close message.
const GRACE: Duration = Duration::from_secs(1);

/// The maximum number of accepted messages that a connection's sink may reject in one poll before it counts as failed.
const MAX_REJECTIONS: usize = 1024;

/// The maximum number of messages of a lost connection that are read in search of its close frame.
const LAST_MESSAGES: usize = 1024;

/// Makes connections, and moves the [machine](super::state). Either half may be the one that polls.
impl<C, Out> ReconnectProj<'_, C, Out>
where
    C: Connect<Transport: Transport<Out>>,
    Out: 'static,
{
    /// Makes progress until there is a connection (`true`) or the end (`false`). The connection is the user's own once
    /// the machine is steady.
    pub(super) fn poll_up(&mut self, half: Half, cx: &Context<'_>) -> Poll<bool> {
        self.core.shared.register(half, cx);
        // The other half may wait for the same connection, so everything below wakes both.
        let waker = self.core.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        loop {
            // Commands come first, so that a close is not held up by a connection that keeps this loop busy.
            match self.core.shared.take_command() {
                Some(Command::Reconnect) => self.reconnect(cx),
                #[cfg(target_arch = "wasm32")]
                Some(Command::Stop) => self.stop(),
                Some(Command::Close) => self.close(Event::HangUp),
                None => {}
            }
            match self.core.machine.phase() {
                Phase::Idle => self.connect(Event::Wanted),
                Phase::Waiting => {
                    ready!(self.core.poll_wait(cx));
                    // Not before the timer: a lost connection must not be replaced faster than the backoff says,
                    // however often a half is polled.
                    self.connect(Event::WaitOver);
                }
                Phase::Connecting => match ready!(self.poll_connecting(cx)) {
                    Ok(response) => self.opened(half, response),
                    Err(error) => self.lost(error, false),
                },
                Phase::Pumping => match self.poll_pump(cx) {
                    Poll::Ready(Ok(())) => {
                        self.core.machine.on(Event::Pumped);
                        self.core.shared.wake_both();
                    }
                    Poll::Ready(Err(error)) => self.sink_failed(error),
                    // The stream is read meanwhile.
                    Poll::Pending => return Poll::Ready(true),
                },
                Phase::Broken(error) => {
                    if self.core.timer.poll(cx).is_pending() {
                        return Poll::Ready(true);
                    }
                    let error = error.clone();
                    let error = self.last_words(error, cx);
                    self.lost(error, false);
                }
                Phase::Closing(Closing::HangUp) => {
                    // Nobody polls `poll_close`, because the close came from a handle.
                    if let Some(transport) = self.connection.transport()
                        && ready!(transport.poll_close(cx)).is_ok()
                    {
                        self.core.buffer.flushed();
                    }
                    self.finish();
                }
                Phase::Steady | Phase::Closing(_) => return Poll::Ready(true),
                Phase::Over => return Poll::Ready(false),
            }
        }
    }

    fn connect(&mut self, event: Event) {
        if self.core.machine.on(event) == Action::Connect {
            *self.connection = Connection::None;
            self.core.shared.set(State::Connecting { attempt: self.core.machine.attempt() });
        }
    }

    fn poll_connecting(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<C::Transport>, Error>> {
        loop {
            if let Connection::Connecting(future) = self.connection {
                return future.as_mut().poll(cx).map_err(Into::into);
            }
            let mut request = self.core.target.request()?;
            ready!(self.connector.poll_ready(cx)).map_err(Into::into)?;
            // Taken only now: a connector that was not ready must not consume it.
            if let Some(lost) = self.core.lost_connection.take() {
                request.extensions_mut().insert(lost);
            }
            *self.connection = Connection::Connecting(Box::pin(self.connector.call(request)));
        }
    }

    fn opened(&mut self, half: Half, response: Response<C::Transport>) {
        let (parts, transport) = response.into_parts();
        *self.connection = Connection::Open(Box::pin(transport));
        let core = &mut *self.core;
        core.since = Some(Instant::now());
        // A connection may end within the poll that opens it.
        core.is_read = half == Half::Reader;
        core.greeting = core.policy.greeting(&parts).into_iter();
        let outlives = parts.extensions.get::<OutlivesConnection>().is_some();
        let is_resumed = parts.extensions.get::<Resumed>().is_some();
        let mut lost = parts.extensions.get::<SessionLoss>().map_or(0, |loss| loss.0);
        let earlier = std::mem::replace(&mut core.held_below, parts.extensions.get().cloned());
        if let Some(session) = &core.held_below {
            session.was_reported(lost);
        }
        // The session of the previous connection has no place on this one, which has none or that of another layer.
        // Were it resumed on a later one, its messages would come after those that are sent here.
        if let Some(earlier) = earlier
            && !is_resumed
            && !core.held_below.as_ref().is_some_and(|session| session.is_same(&earlier))
        {
            lost += earlier.give_up();
        }
        core.settle_session(outlives, is_resumed, lost);
        // Settled before the machine moves: what the new connection says about the old session is told first.
        let has_greeting = !core.greeting.as_slice().is_empty();
        let has_unsent = has_greeting || core.buffer.has_unsent();
        if !has_greeting {
            core.release_held();
        }
        core.machine.on(Event::Opened { has_unsent });
        // The observers see the connection before its first message can be read.
        core.shared.connected(Arc::new(parts));
        core.shared.wake_both();
    }

    /// Sends the messages of the hook, then those that waited, and flushes them.
    fn poll_pump(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(mut transport) = self.connection.transport() else { return Poll::Ready(Ok(())) };
        let core = &mut *self.core;
        // A sink that rejects every message is of no use, and would be polled forever.
        let mut patience = MAX_REJECTIONS;
        loop {
            if core.greeting.as_slice().is_empty() {
                core.release_held();
            }
            if core.greeting.as_slice().is_empty() && (core.buffer.must_flush() || !core.buffer.has_unsent()) {
                while let Err(error) = ready!(transport.as_mut().poll_flush(cx)).map_err(Into::into) {
                    reject(core, error, &mut patience)?;
                }
                core.buffer.burst_flushed();
                if core.buffer.has_unsent() {
                    continue;
                }
                return Poll::Ready(Ok(()));
            }
            if let Err(error) = ready!(transport.as_mut().poll_ready(cx)).map_err(Into::into) {
                reject(core, error, &mut patience)?;
                continue;
            }
            let greeting = core.greeting.next();
            let is_kept = greeting.is_none();
            let Some(message) = greeting.or_else(|| core.buffer.next_unsent()) else { continue };
            let closes = Payload::of().is_close(&message);
            if let Err(error) = transport.as_mut().start_send(message) {
                let error = error.into();
                if !refuses_message(&error) && core.policy.class(&error) != Class::Message {
                    return Poll::Ready(Err(error));
                }
                // Sent again, it would be rejected again. It is dropped, and reported once.
                let is_unsent = !is_kept || core.buffer.not_held();
                core.shared.lose(u64::from(is_kept));
                core.reject(if is_unsent { error.into_unsent() } else { error });
                continue;
            }
            // As in the queue layer: a message that is passed on is progress of a close that waits for it.
            signal::moved(1);
            // From here on the layer below keeps it.
            if is_kept && core.outlives {
                core.buffer.not_held();
            }
            // A close message of the hook, or one that waited: a loss from here on is the end.
            if closes {
                core.machine.on(Event::Close);
            }
        }
    }

    /// Replaces the connection, ends the wait for the next attempt, or makes the first connection.
    fn reconnect(&mut self, cx: &mut Context<'_>) {
        if self.core.machine.is_up() {
            // Closed as far as possible without waiting. A session that outlives the connection would be closed with
            // it, so such a connection is dropped instead.
            if let Some(transport) = self.connection.transport()
                && !self.core.outlives
            {
                let _ = transport.poll_close(cx);
            }
            self.core.disconnected(None);
            self.core.report_loss();
        }
        self.connect(Event::Now);
        self.core.shared.wake_both();
    }
}

/// Reports a rejection to the reader. Any other error is the connection's.
fn reject<Out>(core: &mut Core<Out>, error: Error, patience: &mut usize) -> Result<(), Error> {
    if !error.is_rejection() || *patience == 0 {
        return Err(error);
    }
    *patience -= 1;
    core.reject(error);
    Ok(())
}

/// How a connection ends.
impl<C, Out> ReconnectProj<'_, C, Out>
where
    C: Connect<Transport: Transport<Out>>,
    Out: 'static,
{
    /// Handles a failure of the connection's sink. Its stream may tell the reason, and have more messages.
    pub(super) fn sink_failed(&mut self, error: Error) {
        // A close frame in the error is the reason, so there is nothing to wait for.
        let has_more = matches!(self.core.machine.phase(), Phase::Pumping | Phase::Steady);
        if !has_more || error.close_frame().is_some() {
            return self.lost(error, false);
        }
        self.core.machine.on(Event::SinkFailed(error));
        self.core.requeue();
        self.core.timer.set(GRACE);
        self.core.shared.wake_both();
    }

    /// Returns why a connection whose sink has failed ended, if nobody read its stream to the end in time.
    ///
    /// A peer that closes because of a message may close the socket while this end still writes. Its close frame is
    /// then behind messages that nobody reads. They are lost with the connection in any case, unless a layer below
    /// outlives it.
    fn last_words(&mut self, error: Error, cx: &mut Context<'_>) -> Error {
        let is_outlived = self.core.outlives;
        let Some(mut transport) = self.connection.transport() else { return error };
        for _ in 0..LAST_MESSAGES {
            if is_outlived || !matches!(transport.as_mut().poll_next(cx), Poll::Ready(Some(Ok(_)))) {
                break;
            }
        }
        match transport.poll_ready(cx).map_err(Into::into) {
            Poll::Ready(Err(reason)) if reason.close_frame().is_some() => reason,
            _ => error,
        }
    }

    /// Drops the connection, or the attempt, of a page that is left or frozen. Some browsers do not keep a page with an
    /// open connection. Others cut the connection without telling the server, and tell the page when it is back.
    #[cfg(target_arch = "wasm32")]
    fn stop(&mut self) {
        if self.core.machine.is_up() || matches!(self.core.machine.phase(), Phase::Connecting) {
            self.lost(Error::closed("the page was left or frozen"), false);
        }
    }

    /// Handles a failed attempt or a lost connection. `quietly`: the connection's stream ended without an error.
    fn lost(&mut self, error: Error, quietly: bool) {
        // A connection that ends with its page says nothing about the server.
        let is_stopped = self.core.is_stopped();
        let retry = is_stopped || self.core.policy.class(&error) != Class::Final;
        let was_up = self.core.since.is_some();
        let healthy =
            is_stopped || self.core.since.is_some_and(|since| since.elapsed() >= self.core.policy.healthy_after);
        // The connection is dropped before the next attempt, so that a server never sees two of this client.
        *self.connection = Connection::None;
        if was_up {
            let response = self.core.shared.response();
            self.core.lost_connection = response.map(|response| LostConnection { error: error.clone(), response });
        }
        self.core.disconnected(Some(&error));
        let asked = Asked::of(&error);
        let is_stuck = self.core.buffer.is_stuck();
        match self.core.machine.on(Event::Ended { retry: retry && !is_stuck, healthy, asked }) {
            Action::Wait(after) => {
                if was_up {
                    self.core.report_loss();
                }
                self.core.timer.set(after);
                let attempt = self.core.machine.attempt();
                self.core.shared.set(State::Reconnecting { attempt, cause: error, after });
            }
            Action::GiveUp => {
                if retry && is_stuck {
                    self.fail_last(error.context(
                        "no other attempt is made: connection after connection ended before the oldest kept message \
                         was sent",
                    ));
                } else if is_normal_close(&error) || !retry && quietly && error.close_frame().is_none() {
                    self.core.outcome = Outcome::ClosedByPeer(error);
                } else if retry {
                    let attempts = self.core.machine.attempt();
                    self.fail_last(
                        error.context(format!("no other attempt is made after {attempts}, as the backoff says")),
                    );
                } else {
                    self.fail_last(error);
                }
                self.core.over();
            }
            // This end was closing.
            _ => self.core.over(),
        }
        self.core.shared.wake_both();
    }

    /// [Fails](Self::fail), with the error as the last item of the stream.
    fn fail_last(&mut self, cause: Error) {
        self.core.errors.push_back(cause.clone());
        self.fail(cause);
    }

    fn fail(&mut self, cause: Error) {
        self.core.outcome = Outcome::Failed(cause.clone());
        self.core.shared.set(State::Failed { cause });
    }

    /// Handles a close message of the peer. Returns `true` if it is final, and the user should see it.
    pub(super) fn closed_by_peer(&mut self, frame: Option<CloseFrame>, cx: &mut Context<'_>) -> bool {
        if self.core.machine.is_closing() {
            return true;
        }
        if let Some(transport) = self.connection.transport() {
            // Lets the transport send its answer before it is dropped.
            let _ = transport.poll_next(cx);
        }
        let error = Error::closed("the peer closed the connection").with_close_frame(frame);
        if self.core.policy.class(&error) != Class::Final {
            self.lost(error, false);
            // A normal close after which no attempt is left is not a failure.
            return matches!(self.core.machine.phase(), Phase::Over) && !self.core.outcome.is_failure();
        }
        // The user sees the close message, so no error follows it.
        if is_normal_close(&error) {
            self.core.outcome = Outcome::ClosedByPeer(error);
        } else {
            self.fail(error);
        }
        self.close(Event::Close);
        true
    }

    /// Handles an error in the connection's stream. Returns it if the user should see it.
    pub(super) fn failed_to_read(&mut self, error: Error) -> Option<Error> {
        if self.core.machine.is_closing() || self.core.policy.class(&error) == Class::Message {
            return Some(error);
        }
        self.lost(error, false);
        None
    }

    /// Handles the end of the connection's stream.
    pub(super) fn stream_ended(&mut self) {
        if self.core.machine.is_closing() {
            self.core.show_end();
            return self.half_ended(Event::StreamEnded);
        }
        let mut cause = match self.core.machine.phase() {
            Phase::Broken(error) => Some(error.clone()),
            _ => None,
        };
        // The sink of a transport that has ended knows best why. One that has failed before has told it already, and
        // would only answer that it is closed.
        let quietly = cause.is_none();
        if quietly
            && let Some(transport) = self.connection.transport()
            && let Poll::Ready(Err(error)) = transport.poll_ready(&mut Context::from_waker(&self.core.waker))
        {
            cause = Some(error.into());
        }
        let cause = cause.unwrap_or_else(|| Error::closed("the connection ended without a close message"));
        self.lost(cause, quietly);
    }

    /// Handles the end of one half while this end closes. A connection that the peer has closed is over with its
    /// stream.
    pub(super) fn half_ended(&mut self, event: Event) {
        let action = self.core.machine.on(event);
        let is_read = matches!(self.core.machine.phase(), Phase::Closing(Closing::StreamEnded));
        if action == Action::Drop || is_read && self.core.outcome.cause().is_some() {
            self.finish();
        }
    }

    /// Ends the transport, for this end has closed the connection.
    pub(super) fn finish(&mut self) {
        // Dropped before the messages are counted: the layer below lets go of those that it has delivered.
        *self.connection = Connection::None;
        self.core.disconnected(None);
        self.core.machine.on(Event::Closed);
        self.core.over();
    }

    /// Begins to close the connection ([`Event::Close`] or [`Event::HangUp`]). Without one, the transport is over.
    pub(super) fn close(&mut self, event: Event) {
        if self.core.machine.on(event) == Action::Drop {
            *self.connection = Connection::None;
            self.core.timer.clear();
            self.core.over();
        } else {
            self.core.shared.wake_both();
        }
    }
}
