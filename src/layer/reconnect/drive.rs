//! What makes connections and ends them, whichever half polls.

use std::{
    future::Future,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_sink::Sink;
use http::Response;

use super::{
    Class, State,
    class::{is_normal_close, refuses_message},
    core::Core,
    state::{Action, Event, Phase},
    transport::{Link, LinkParts, Parts},
    watch::Command,
};
use crate::{
    Connect, Error, Transport,
    rt::Instant,
    transport::{LostConnection, OutlivesConnection, Resumed, payload::Payload, wakers::Half},
};

/// How long the stream of a connection may still tell why its sink has failed (by a close message, say) before the
/// connection counts as lost.
const GRACE: Duration = Duration::from_secs(1);

/// How many messages a connection's sink may reject in one poll after it had accepted them.
const REJECTIONS: usize = 1024;

/// Tells the reader of a rejection, and goes on; any other error is the connection's.
fn reject<Out>(core: &mut Core<Out>, error: Error, patience: &mut usize) -> Result<(), Error> {
    if !error.is_rejection() || *patience == 0 {
        return Err(error);
    }
    *patience -= 1;
    core.notify(error);
    Ok(())
}

impl<C, Out> Parts<'_, C, Out>
where
    C: Connect<Transport: Transport<Out>>,
    Out: 'static,
{
    /// Goes on with whatever there is to do until there is a connection (true) or the end (false). The connection is the
    /// user's own once the core is steady.
    pub(super) fn poll_up(&mut self, half: Half, cx: &Context<'_>) -> Poll<bool> {
        self.core.shared.register(half, cx);
        let waker = self.core.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        loop {
            match self.core.shared.take_command() {
                Some(Command::Reconnect) => self.reconnect(cx),
                Some(Command::Close) => self.close(),
                None => {}
            }
            match self.core.machine.phase() {
                Phase::Idle => self.dial(Event::Wanted),
                Phase::Waiting => {
                    ready!(self.core.timer.poll(cx));
                    self.dial(Event::WaitOver);
                }
                Phase::Dialling => match ready!(self.poll_dial(cx)) {
                    Ok(response) => self.opened(response),
                    Err(error) => self.lost(error, false),
                },
                Phase::Up if self.core.pumping => match self.poll_pump(cx) {
                    Poll::Ready(Err(error)) => self.sink_failed(error),
                    Poll::Ready(Ok(())) => self.pumped(),
                    Poll::Pending => return Poll::Ready(true),
                },
                Phase::Up => match self.core.broken.take_if(|_| self.core.timer.poll(cx).is_ready()) {
                    Some(error) => self.lost(error, false),
                    None => return Poll::Ready(true),
                },
                Phase::Closing if self.core.end.hang_up => ready!(self.poll_hang_up(cx)),
                Phase::Closing => return Poll::Ready(true),
                Phase::Over => return Poll::Ready(false),
            }
        }
    }

    fn dial(&mut self, event: Event) {
        if self.core.machine.on(event) == Action::Dial {
            self.link.set(Link::Down);
            self.core.shared.set(State::Connecting { attempt: self.core.machine.attempt() });
        }
    }

    fn poll_dial(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<C::Transport>, Error>> {
        loop {
            match self.link.as_mut().project() {
                LinkParts::Dialling { future } => return future.poll(cx).map_err(Into::into),
                LinkParts::Up { .. } => self.link.set(Link::Down),
                LinkParts::Down => {
                    let mut request = self.core.target.request()?;
                    ready!(self.connector.poll_ready(cx)).map_err(Into::into)?;
                    if let Some(lost) = self.core.lost.take() {
                        request.extensions_mut().insert(lost);
                    }
                    self.link.set(Link::Dialling { future: self.connector.call(request) });
                }
            }
        }
    }

    fn opened(&mut self, response: Response<C::Transport>) {
        let (parts, transport) = response.into_parts();
        self.link.set(Link::Up { transport });
        self.core.machine.on(Event::Opened);
        self.core.since = Some(Instant::now());
        self.core.greeting = self.core.policy.greeting(&parts).into_iter();
        self.core.outlives = parts.extensions.get::<OutlivesConnection>().is_some();
        self.core.settle_doubt(parts.extensions.get::<Resumed>().is_some());
        self.core.pumping = !self.core.greeting.as_slice().is_empty() || self.core.buffer.has_unsent();
        self.core.steady = !self.core.pumping;
        self.core.shared.connected(Arc::new(parts));
        self.core.shared.wake_both();
    }

    /// Sends what the hook says, then what was kept, and flushes it.
    fn poll_pump(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let LinkParts::Up { mut transport } = self.link.as_mut().project() else { return Poll::Ready(Ok(())) };
        let core = &mut *self.core;
        // A sink that does nothing but reject is none.
        let mut patience = REJECTIONS;
        while !core.greeting.as_slice().is_empty() || core.buffer.has_unsent() {
            if let Err(error) = ready!(transport.as_mut().poll_ready(cx)).map_err(Into::into) {
                reject(core, error, &mut patience)?;
                continue;
            }
            let greeting = core.greeting.next();
            let is_kept = greeting.is_none();
            let Some(message) = greeting.or_else(|| core.buffer.next_unsent()) else { break };
            let closes = Payload::of().close_message(&message).is_some();
            if let Err(error) = transport.as_mut().start_send(message) {
                let error = error.into();
                if !refuses_message(&error) && core.policy.class(&error) != Class::Message {
                    return Poll::Ready(Err(error));
                }
                // Sent again, it would be refused again: it is dropped, and told once.
                let is_unsent = !is_kept || core.buffer.not_held();
                core.shared.lose(u64::from(is_kept));
                core.notify(if is_unsent { error.into_unsent() } else { error });
                continue;
            }
            if is_kept && core.outlives {
                core.buffer.not_held();
            }
            if closes {
                core.machine.on(Event::Close);
            }
        }
        while let Err(error) = ready!(transport.as_mut().poll_flush(cx)).map_err(Into::into) {
            reject(core, error, &mut patience)?;
        }
        core.buffer.flushed();
        Poll::Ready(Ok(()))
    }

    fn pumped(&mut self) {
        self.core.pumping = false;
        self.core.steady = self.core.machine.phase() == Phase::Up;
        self.core.shared.wake_both();
    }

    /// The connection's sink has failed. Its stream may know why, and have more to give.
    pub(super) fn sink_failed(&mut self, error: Error) {
        if self.core.machine.phase() != Phase::Up || error.close_frame().is_some() {
            return self.lost(error, false);
        }
        (self.core.steady, self.core.pumping) = (false, false);
        self.core.requeue();
        self.core.timer.set(GRACE);
        self.core.broken = Some(error);
        self.core.shared.wake_both();
    }

    /// The attempt failed, or the connection is no more. `quietly`, where nothing tells of a failure.
    pub(super) fn lost(&mut self, error: Error, quietly: bool) {
        let retry = self.core.policy.class(&error) != Class::Final;
        let healthy = self.core.since.is_some_and(|since| since.elapsed() >= self.core.policy.healthy_after);
        let was_up = self.core.since.is_some();
        self.link.set(Link::Down);
        if was_up {
            let response = self.core.shared.lock().response.clone();
            self.core.lost = response.map(|response| LostConnection { error: error.clone(), response });
        }
        self.core.disconnected(Some(&error));
        let asked = error.retry_after();
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
            Action::GiveUp if retry && is_stuck => {
                self.fail(error.context(
                    "no other attempt is made: connection after connection ended before the oldest kept message was sent",
                ));
                self.core.over();
            }
            Action::GiveUp if retry && !is_normal_close(&error) => {
                let attempts = self.core.machine.attempt();
                self.fail(error.context(format!("no other attempt is made after {attempts}, as the backoff says")));
                self.core.over();
            }
            Action::GiveUp => {
                if is_normal_close(&error) || quietly && error.close_frame().is_none() {
                    self.core.end.cause = Some(error);
                } else {
                    self.fail(error);
                }
                self.core.over();
            }
            _ => self.core.over(),
        }
        self.core.shared.wake_both();
    }

    pub(super) fn fail(&mut self, cause: Error) {
        self.core.parting = Some(cause.clone());
        self.core.end.is_failure = true;
        self.core.end.cause = Some(cause.clone());
        self.core.shared.set(State::Failed { cause });
    }

    /// The user wants another connection, now.
    fn reconnect(&mut self, cx: &mut Context<'_>) {
        if self.core.machine.phase() == Phase::Up {
            // As far as it goes without waiting. A session that outlives the connection would be closed with it: to that, this
            // is a cut.
            if let LinkParts::Up { transport } = self.link.as_mut().project()
                && !self.core.outlives
            {
                let _ = transport.poll_close(cx);
            }
            self.core.disconnected(None);
            self.core.report_loss();
        }
        self.dial(Event::Now);
        self.core.shared.wake_both();
    }
}
