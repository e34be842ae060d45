use std::{collections::VecDeque, fmt, sync::Arc, task::Waker, vec};

use super::{
    ReconnectLayer, State, Target,
    buffer::Buffer,
    class::blames_message,
    layer::Policy,
    state::{Machine, Phase},
    watch::Shared,
};
use crate::{
    Error,
    rt::{Instant, Timer},
    transport::{LostConnection, signal},
};

/// How many notices wait for the reader at most. Whatever they are about is counted in any case.
const NOTICES: usize = 64;

/// All of a transport that reconnects but its connector and its connection.
pub(super) struct Core<Out> {
    /// What the connection takes outlives it.
    pub(super) outlives: bool,
    pub(super) machine: Machine,
    pub(super) target: Target,
    pub(super) policy: Policy<Out>,
    pub(super) buffer: Buffer<Out>,
    pub(super) shared: Arc<Shared>,
    /// Wakes both halves.
    pub(super) waker: Waker,
    /// Of the wait before an attempt, and of the grace of a connection whose sink has failed.
    pub(super) timer: Timer,
    /// Since when there is a connection.
    pub(super) since: Option<Instant>,
    /// What the hook has to say on this connection.
    pub(super) greeting: vec::IntoIter<Out>,
    /// There is a connection whose sink and stream are the user's own: nothing else is to be done for now.
    pub(super) steady: bool,
    /// What the hook says, and what was kept, is being sent and flushed.
    pub(super) pumping: bool,
    pub(super) granted: Granted,
    /// For the next attempt: what became of the connection before.
    pub(super) lost: Option<LostConnection>,
    /// Why the connection's sink has failed, while its stream may still tell more.
    pub(super) broken: Option<Error>,
    /// Each concerns one message that was accepted before; for the reader.
    pub(super) notices: VecDeque<Error>,
    /// The session of the connection before may go on: then nothing is lost.
    pub(super) in_doubt: bool,
    /// The last item of the stream.
    pub(super) parting: Option<Error>,
    pub(super) end: End,
}

/// The place for a message that `poll_ready` promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Granted {
    Nothing,
    /// In the connection.
    Direct,
    /// In the queue for a connection.
    Queued,
}

/// What is known about the end.
#[derive(Debug, Default)]
pub(super) struct End {
    /// Why it came, where this end did not just close.
    pub(super) cause: Option<Error>,
    /// It is a failure, of which the observers know.
    pub(super) is_failure: bool,
    /// The connection's stream has ended, while the sink still closes.
    pub(super) read: bool,
    /// The connection's sink is closed, while the stream is still read.
    pub(super) wrote: bool,
    /// Nobody closes the sink but this layer itself.
    pub(super) hang_up: bool,
    /// How many messages were lost at the end.
    pub(super) lost: u64,
}

impl<Out> Core<Out> {
    pub(super) fn new(layer: ReconnectLayer<Out>, shared: Arc<Shared>) -> Self {
        Self {
            outlives: false,
            machine: Machine::new(layer.backoff),
            target: layer.target,
            policy: layer.policy,
            buffer: Buffer::new(layer.when_lost),
            waker: Waker::from(shared.clone()),
            shared,
            timer: Timer::new(),
            since: None,
            greeting: Vec::new().into_iter(),
            steady: false,
            pumping: false,
            granted: Granted::Nothing,
            lost: None,
            broken: None,
            notices: VecDeque::new(),
            in_doubt: false,
            parting: None,
            end: End::default(),
        }
    }

    /// Whether the user's own polls may go straight to the connection.
    #[inline]
    pub(super) fn is_steady(&self) -> bool {
        self.steady && !self.shared.has_command()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.machine.phase() == Phase::Closing
    }

    /// Under `WhenLost::Fail`: tells the writer once what was lost.
    pub(super) fn check_report(&mut self) -> Result<(), Error> {
        match self.buffer.take_report() {
            None => Ok(()),
            Some(lost) => Err(Error::closed(format!(
                "a connection was lost, and with it {} of which no flush is known to have succeeded; the transport goes on \
                 with the next connection",
                count(lost)
            ))
            // It concerns those messages: a writer that stops here would stop for good though the next connection works.
            .into_rejection()),
        }
    }

    /// What the sink says from the end on.
    pub(super) fn ended(&self) -> Error {
        let what = match (&self.end.cause, self.end.lost) {
            (None, 0) => "this end closed the transport".into(),
            (None, lost) => format!("this end closed the transport; not sent: {}", count(lost)),
            (Some(_), 0) => "the connection has ended, and there will be no other".into(),
            (Some(_), lost) => {
                format!("the connection has ended, and there will be no other; lost: {}", count(lost))
            }
        };
        let error = Error::closed(what);
        match &self.end.cause {
            None => error,
            Some(cause) => error.with_close_frame(cause.close_frame().cloned()).with_source(cause.clone()),
        }
    }

    /// Counts what is lost with the connection that is no more.
    pub(super) fn disconnected(&mut self, cause: Option<&Error>) {
        let lost = self.buffer.connection_lost(cause.is_some_and(blames_message));
        self.shared.lose(lost);
        (self.steady, self.pumping) = (false, false);
        self.greeting = Vec::new().into_iter();
        self.broken = None;
        self.since = None;
        self.timer.clear();
        self.requeue();
    }

    /// A place in the connection is good no more: the message will wait for the next one.
    pub(super) fn requeue(&mut self) {
        if self.granted == Granted::Direct {
            self.granted = Granted::Queued;
        }
    }

    /// What the stream has to say in place of a message: an error that was put by for it, or that it has ended.
    pub(super) fn last_word(&mut self) -> Option<Error> {
        self.notices.pop_front().or_else(|| self.parting.take())
    }

    /// Tells the reader that a message which was accepted before is not sent.
    pub(super) fn notify(&mut self, error: Error) {
        if self.notices.len() < NOTICES {
            self.notices.push_back(error.into_rejection());
            self.shared.wake_both();
        }
    }

    /// Reports to the layers above that the connection was lost, where it is known that nothing of it goes on.
    pub(super) fn report_loss(&mut self) {
        self.in_doubt = self.outlives;
        if !self.in_doubt {
            signal::connection_lost();
        }
    }

    /// Reports a loss that was in doubt until this connection was opened.
    pub(super) fn settle_doubt(&mut self, is_resumed: bool) {
        if std::mem::take(&mut self.in_doubt) && !is_resumed {
            signal::connection_lost();
        }
    }

    /// There is nothing more to come.
    pub(super) fn over(&mut self) {
        let lost = self.buffer.abandon();
        self.shared.lose(lost);
        self.end.lost += lost + self.buffer.take_report().unwrap_or(0);
        self.show_end();
        self.shared.wake_both();
    }

    /// Lets the observers see the end, where they have not seen a failure.
    pub(super) fn show_end(&self) {
        if !self.end.is_failure {
            self.shared.set(State::Disconnected);
        }
    }
}

impl<Out> Drop for Core<Out> {
    fn drop(&mut self) {
        let lost = self.buffer.abandon();
        self.shared.lose(lost);
        self.shared.end();
    }
}

impl<Out> fmt::Debug for Core<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("phase", &self.machine.phase())
            .field("attempt", &self.machine.attempt())
            .field("buffer", &self.buffer)
            .field("steady", &self.steady)
            .finish_non_exhaustive()
    }
}

fn count(messages: u64) -> String {
    if messages == 1 { "1 message".to_owned() } else { format!("{messages} messages") }
}
