#[cfg(target_arch = "wasm32")]
use std::task::ready;
use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
    vec,
};

#[cfg(target_arch = "wasm32")]
use super::presence::{self, Presence};
use super::{
    Target,
    buffer::Buffer,
    handle::{Shared, State},
    layer::{Policy, ReconnectLayer},
    state::Machine,
};
#[cfg(target_arch = "wasm32")]
use crate::rt;
use crate::{
    Error,
    layer::stall::Blame,
    rt::{Instant, Timer},
    transport::{LostConnection, Unacknowledged, signal},
};

/// The maximum number of rejections that wait for the reader. Further ones are only counted.
const MAX_REJECTIONS: usize = 64;

/// Everything of a transport that reconnects except its connector and its connection.
///
/// The [`machine`](Self::machine) is the state. The other fields are the data that go with it:
///
/// | field | set |
/// |---|---|
/// | `since` | while there is a connection |
/// | `is_read` | by each poll of the stream; cleared by an item of it, and when the writer opens a connection |
/// | `greeting` | from the opening until it is sent, while `Pumping` |
/// | `room` | `Direct` only while `Steady` |
/// | `timer` | in `Waiting` for the delay, in `Broken` for the time in which the stream may tell the reason |
/// | `lost_connection` | from a loss until the next attempt has begun |
/// | `outcome` | for good from the end on; may be known while `Closing` |
pub(super) struct Core<Out> {
    pub(super) machine: Machine,
    pub(super) target: Target,
    pub(super) policy: Policy<Out>,
    pub(super) buffer: Buffer<Out>,
    pub(super) shared: Arc<Shared>,
    /// Wakes the tasks of both halves.
    pub(super) waker: Waker,
    pub(super) timer: Timer,
    #[cfg(target_arch = "wasm32")]
    presence: Presence,
    /// The delay before the next attempt is that of a hidden page.
    #[cfg(target_arch = "wasm32")]
    waits_hidden: bool,
    pub(super) since: Option<Instant>,
    /// The user waits for a message of this connection, or for its end: it reads. False while it is busy with a
    /// message, and before it has looked at this connection.
    pub(super) is_read: bool,
    /// The session of this connection, or of the last one, outlives the connection: a layer of the connector keeps
    /// messages until the peer has them.
    pub(super) outlives: bool,
    /// How many messages that layer holds.
    pub(super) held_below: Option<Unacknowledged>,
    /// The messages of the on-connect hook.
    pub(super) greeting: vec::IntoIter<Out>,
    pub(super) room: Room,
    pub(super) lost_connection: Option<LostConnection>,
    /// For the reader: rejections of messages that were accepted before, and then the failure that ended the transport.
    pub(super) errors: VecDeque<Error>,
    pub(super) outcome: Outcome,
    /// The number of messages that were lost with a session and that the user has yet to be told of. The poll that
    /// opens the new session's connection reports it, so it is 0 while `Steady`.
    pub(super) lost_with_session: u64,
    /// The number of messages that were lost at the end.
    pub(super) lost_at_end: u64,
}

/// The room for one message that `poll_ready` promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    None,
    /// In the connection.
    Direct,
    /// In the queue for a connection.
    Queue,
}

/// Why the transport ends.
#[derive(Debug)]
pub(super) enum Outcome {
    /// This end closes it.
    ClosedHere,
    /// The peer ended it, and that is not a failure.
    ClosedByPeer(Error),
    /// The observers have seen [`State::Failed`].
    Failed(Error),
}

impl Outcome {
    pub(super) fn cause(&self) -> Option<&Error> {
        match self {
            Self::ClosedHere => None,
            Self::ClosedByPeer(cause) | Self::Failed(cause) => Some(cause),
        }
    }

    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl<Out> Core<Out> {
    pub(super) fn new(layer: ReconnectLayer<Out>, shared: Arc<Shared>) -> Self {
        Self {
            machine: Machine::new(layer.backoff),
            target: layer.target,
            policy: layer.policy,
            buffer: Buffer::new(layer.when_lost),
            waker: shared.waker(),
            #[cfg(target_arch = "wasm32")]
            presence: Presence::new(shared.clone()),
            #[cfg(target_arch = "wasm32")]
            waits_hidden: false,
            shared,
            timer: Timer::new(),
            since: None,
            is_read: false,
            outlives: false,
            held_below: None,
            greeting: Vec::new().into_iter(),
            room: Room::None,
            lost_connection: None,
            errors: VecDeque::new(),
            outcome: Outcome::ClosedHere,
            lost_with_session: 0,
            lost_at_end: 0,
        }
    }

    /// Waits for the end of the delay before the next attempt.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.poll(cx)
    }

    /// Returns whether the page was left or is frozen.
    #[allow(clippy::unused_self, reason = "only a page stops")]
    pub(super) fn is_stopped(&self) -> bool {
        #[cfg(target_arch = "wasm32")]
        return self.presence.is_stopped();
        #[cfg(not(target_arch = "wasm32"))]
        false
    }

    /// Waits for the end of the delay before the next attempt. A page that has just come back does not wait, one that
    /// was left or frozen waits for its return, one without a network waits for it, and a hidden one makes few attempts.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // An event of the page wakes this task.
        if self.is_stopped() {
            return Poll::Pending;
        }
        if !self.presence.take_return() {
            if self.timer.is_set() {
                ready!(self.timer.poll(cx));
            }
            // An event of the page wakes this task.
            if rt::is_offline() {
                return Poll::Pending;
            }
            if presence::is_hidden() && !std::mem::replace(&mut self.waits_hidden, true) {
                self.timer.set(presence::HIDDEN);
                ready!(self.timer.poll(cx));
            }
        }
        self.timer.clear();
        self.waits_hidden = false;
        Poll::Ready(())
    }

    /// Returns whether the user's polls may go straight to the connection.
    #[inline]
    pub(super) fn is_steady(&self) -> bool {
        self.machine.is_steady() && !self.shared.has_command()
    }

    /// Returns whether polls of the sink may go straight to the connection.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.is_steady() && !self.buffer.has_report()
    }

    /// Reports once to the writer how many messages were lost with a session, or, with
    /// [`WhenLost::Fail`](super::WhenLost::Fail), with a connection.
    pub(super) fn check_report(&mut self) -> Result<(), Error> {
        if let Some(error) = self.take_session_loss() {
            return Err(error);
        }
        match self.buffer.take_report() {
            None => Ok(()),
            Some(lost) => Err(Error::closed(format!(
                "a connection was lost, and with it {} of which no flush is known to have succeeded; \
                 the transport goes on with the next connection",
                count(lost)
            ))
            // The error concerns those messages. A writer that stops here would stop although the next connection
            // works.
            .into_rejection()),
        }
    }

    /// Returns whether there is an error for the reader.
    pub(super) fn has_errors(&self) -> bool {
        self.lost_with_session > 0 || !self.errors.is_empty()
    }

    /// Returns the next error for the reader.
    pub(super) fn next_error(&mut self) -> Option<Error> {
        self.take_session_loss().or_else(|| self.errors.pop_front())
    }

    /// Returns the error that reports the messages lost with a session, to the half that comes first.
    fn take_session_loss(&mut self) -> Option<Error> {
        let lost = std::mem::take(&mut self.lost_with_session);
        (lost > 0).then(|| {
            Error::closed(format!(
                "a session was lost, and with it {} that the peer had not acknowledged; the transport goes on \
                 without it; send again what has to arrive, although the peer may have received it",
                count(lost)
            ))
            .into_rejection()
        })
    }

    /// Returns whether an accepted message needs another connection: it was not sent, or the peer of a session below
    /// has not acknowledged it.
    pub(super) fn owes(&self) -> bool {
        self.buffer.has_unsent() || self.held_below.as_ref().is_some_and(|session| session.count() > 0)
    }

    /// Creates the error of the sink after the end.
    pub(super) fn ended(&self) -> Error {
        let what = match (self.outcome.cause(), self.lost_at_end) {
            (None, 0) => "this end closed the transport".into(),
            (None, lost) => format!("this end closed the transport; lost: {}", count(lost)),
            (Some(_), 0) => "the connection has ended, and there will be no other".into(),
            (Some(_), lost) => {
                format!("the connection has ended, and there will be no other; lost: {}", count(lost))
            }
        };
        let error = Error::closed(what);
        match self.outcome.cause() {
            None => error,
            Some(cause) => error.with_close_frame(cause.close_frame().cloned()).with_source(cause.clone()),
        }
    }

    /// Clears the data of a connection that has gone, and counts the messages that were lost with it.
    pub(super) fn disconnected(&mut self, cause: Option<&Error>) {
        // The peer may have refused a kept message, which must not be sent to it forever.
        let lost = self.buffer.connection_lost(cause.and_then(Blame::of), self.is_read, Instant::now());
        // Counted before the state changes: an observer that sees the loss of the connection can read its size.
        self.shared.lose(lost);
        self.greeting = Vec::new().into_iter();
        self.since = None;
        self.timer.clear();
        self.requeue();
    }

    /// The room in the connection has gone: the message that it was promised to waits for the next connection.
    pub(super) fn requeue(&mut self) {
        if self.room == Room::Direct {
            self.room = Room::Queue;
        }
    }

    /// Reports to the reader that a message which was accepted before is not sent.
    pub(super) fn reject(&mut self, error: Error) {
        if self.errors.len() < MAX_REJECTIONS {
            self.errors.push_back(error.into_rejection());
            self.shared.wake_both();
        }
    }

    /// Lets the session below send what it has from an earlier one: the messages of the hook have gone before.
    pub(super) fn release_held(&self) {
        if let Some(session) = &self.held_below {
            session.release();
        }
    }

    /// Reports the loss of a connection to the layers above, unless its session may go on. Then the report
    /// [waits](Self::settle_session) for the next connection.
    pub(super) fn report_loss(&self) {
        if !self.outlives {
            signal::connection_lost();
        }
    }

    /// Reports the loss of the previous connection if its session was to go on and did not. `lost`: the number of
    /// messages that were lost with that session.
    pub(super) fn settle_session(&mut self, outlives: bool, is_resumed: bool, lost: u64) {
        if std::mem::replace(&mut self.outlives, outlives) && !is_resumed {
            signal::connection_lost();
        }
        self.shared.lose(lost);
        if self.buffer.reports_losses() {
            self.lost_with_session += lost;
        }
    }

    /// Ends the transport: nothing more is sent or received.
    pub(super) fn over(&mut self) {
        let lost = self.abandon();
        // With `Fail`, earlier losses that nobody was told of are told with the end.
        self.lost_at_end += lost + self.buffer.take_report().unwrap_or(0);
        // The counts first, then the state, then the wakers: a task that is woken finds everything.
        self.show_end();
        self.shared.wake_both();
    }

    /// Returns the error of a close with which messages were lost, once.
    pub(super) fn take_loss_at_end(&mut self) -> Result<(), Error> {
        if self.lost_at_end == 0 {
            return Ok(());
        }
        let error = self.ended();
        self.lost_at_end = 0;
        Err(error)
    }

    /// Drops all messages that wait here, and counts them as lost, with those that a layer below holds for a connection
    /// that will not come. Call it after the connection is dropped: a session that was closed in order holds none then.
    fn abandon(&mut self) -> u64 {
        // Taken, so that the end and the drop of a transport count them once.
        let held_below = self.held_below.take().map_or(0, |held| held.count());
        let lost = self.buffer.abandon() + held_below;
        self.shared.lose(lost);
        lost
    }

    /// Shows the end to the observers, unless they have seen a failure.
    pub(super) fn show_end(&self) {
        if !self.outcome.is_failure() {
            self.shared.set(State::Disconnected);
        }
    }
}

impl<Out> Drop for Core<Out> {
    fn drop(&mut self) {
        self.abandon();
        self.shared.end();
    }
}

debug_fields!([Out] Core<Out>, |this| { phase: this.machine.phase(), attempt: this.machine.attempt(), buffer });

fn count(messages: u64) -> String {
    if messages == 1 { "1 message".to_owned() } else { format!("{messages} messages") }
}
