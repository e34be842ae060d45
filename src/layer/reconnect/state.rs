//! The state machine of a transport that reconnects. Pure: no I/O and no clock.
//!
//! ```text
//!           wanted, now              opened                        queued
//!     Idle ------------> Connecting -----------------> Pumping <------------ Steady
//!                          ^    |   \                   |  |   ------------>   |
//!               wait over, |    |    \                  |  |      pumped       |
//!               now        |    |     `-----------------|--|------------------>|
//!                          |    |  opened, nothing      |  | sink failed       | sink failed
//!                          |    |  to send              |  `-----> Broken <----+
//!                          |    | ended                 | ended     | ended    | ended
//!                        Waiting <----------------------+-----------+----------+
//! ```
//!
//! `Pumping`, `Steady` and `Broken` are "up": there is a connection. In addition:
//!
//! | in | event | leads to |
//! |---|---|---|
//! | up | `Now` | `Connecting`: another connection replaces this one |
//! | up | `Close`, `HangUp` | `Closing` |
//! | `Connecting`, up | `Ended` without a retry, or one retry too many | `Over` |
//! | `Idle`, `Connecting`, `Waiting` | `Close`, `HangUp` | `Over` |
//! | `Closing` | `Ended`, `Closed`, or the end of both halves | `Over` |
//!
//! Every other event comes too late to matter, or asks for what already happens, and changes nothing.

use std::time::Duration;

use super::backoff::{Asked, Backoff, Delays};
use crate::Error;

#[derive(Debug)]
pub(super) enum Phase {
    /// No half has been polled yet.
    Idle,
    Connecting,
    /// There is a connection. The layer sends the messages of the hook and those that waited; messages are read.
    Pumping,
    /// There is a connection, and both halves are the user's: its polls go straight to the connection.
    Steady,
    /// The connection's sink has failed with this error. Its stream is still read for a while, for it may tell the
    /// reason.
    Broken(Error),
    /// The delay before the next attempt runs.
    Waiting,
    /// This end closes. A connection that is lost now is not replaced.
    Closing(Closing),
    Over,
}

/// The halves of a connection that this end closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// The user closes the sink and reads the stream. Neither has ended.
    Both,
    /// The stream has ended, and the sink is still being closed.
    StreamEnded,
    /// The sink is closed, and the stream is still read.
    SinkClosed,
    /// The transport was closed through its handle: the layer closes the sink, and nobody reads.
    HangUp,
}

#[derive(Debug)]
pub(super) enum Event {
    /// A half was polled.
    Wanted,
    Opened {
        /// Messages must be sent before those of the user.
        has_unsent: bool,
    },
    /// A message was queued behind which the user's next one has to go.
    Queued,
    /// Everything queued is sent and flushed.
    Pumped,
    SinkFailed(Error),
    /// An attempt failed, or the connection is lost.
    Ended {
        /// Another attempt may help.
        retry: bool,
        /// The connection lasted long enough to reset the backoff.
        healthy: bool,
        /// The delay that the peer asked for.
        asked: Asked,
    },
    WaitOver,
    /// The user wants a new connection immediately.
    Now,
    /// The user closes the sink, or the peer has closed for good.
    Close,
    /// The user closes the transport through its handle.
    HangUp,
    StreamEnded,
    SinkClosed,
    /// Nothing is left of the connection.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    Connect,
    Wait(Duration),
    /// That was the last attempt.
    GiveUp,
    /// Drop the connection, if there is one: it is over.
    Drop,
}

#[derive(Debug)]
pub(super) struct Machine {
    phase: Phase,
    attempt: u32,
    backoff: Backoff,
    delays: Delays,
}

impl Machine {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { phase: Phase::Idle, attempt: 0, delays: backoff.delays(), backoff }
    }

    #[inline]
    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    #[inline]
    pub(super) fn is_steady(&self) -> bool {
        matches!(self.phase, Phase::Steady)
    }

    /// Returns whether there is a connection that this end does not close.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Pumping | Phase::Steady | Phase::Broken(_))
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing(_))
    }

    /// Returns the number of the current, next or last attempt: 1 for the first after the backoff was reset.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    pub(super) fn on(&mut self, event: Event) -> Action {
        use self::{Closing as C, Event as E, Phase as P};

        match (&self.phase, event) {
            (P::Idle | P::Pumping | P::Steady | P::Broken(_), E::Now) | (P::Idle, E::Wanted) => {
                self.attempt = self.attempt.saturating_add(1);
                self.to(P::Connecting, Action::Connect)
            }
            (P::Waiting, E::WaitOver | E::Now) => self.to(P::Connecting, Action::Connect),
            (P::Connecting, E::Opened { has_unsent: true }) | (P::Steady, E::Queued) => {
                self.to(P::Pumping, Action::Nothing)
            }
            (P::Connecting, E::Opened { has_unsent: false }) | (P::Pumping, E::Pumped) => {
                self.to(P::Steady, Action::Nothing)
            }
            (P::Pumping | P::Steady, E::SinkFailed(error)) => self.to(P::Broken(error), Action::Nothing),
            (P::Connecting | P::Pumping | P::Steady | P::Broken(_), E::Ended { retry, healthy, asked }) => {
                // Before the delay is drawn: the first delay after a healthy connection is the shortest.
                if healthy {
                    self.attempt = 0;
                    self.delays = self.backoff.delays();
                }
                match self.delays.next_after(asked).filter(|_| retry) {
                    Some(delay) => {
                        self.attempt = self.attempt.saturating_add(1);
                        self.to(P::Waiting, Action::Wait(delay))
                    }
                    None => self.to(P::Over, Action::GiveUp),
                }
            }
            (P::Pumping | P::Steady | P::Broken(_), E::Close) => self.to(P::Closing(C::Both), Action::Nothing),
            (P::Pumping | P::Steady | P::Broken(_), E::HangUp) => self.to(P::Closing(C::HangUp), Action::Nothing),
            (P::Closing(C::Both), E::StreamEnded) => self.to(P::Closing(C::StreamEnded), Action::Nothing),
            (P::Closing(C::Both), E::SinkClosed) => self.to(P::Closing(C::SinkClosed), Action::Nothing),
            (P::Closing(C::SinkClosed), E::StreamEnded)
            | (P::Closing(C::StreamEnded), E::SinkClosed)
            | (P::Closing(_), E::Closed | E::Ended { .. })
            | (P::Idle | P::Connecting | P::Waiting, E::Close | E::HangUp) => self.to(P::Over, Action::Drop),
            _ => Action::Nothing,
        }
    }

    fn to(&mut self, phase: Phase, action: Action) -> Action {
        self.phase = phase;
        action
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LOST: Event = Event::Ended { retry: true, healthy: false, asked: Asked::Nothing };
    const LOST_HEALTHY: Event = Event::Ended { retry: true, healthy: true, asked: Asked::Nothing };
    const REFUSED: Event = Event::Ended { retry: false, healthy: false, asked: Asked::Nothing };

    fn machine(retries: usize) -> Machine {
        Machine::new(Backoff::exponential().jitter(false).base(SECOND).max_retries(retries))
    }

    const OPENED: Event = Event::Opened { has_unsent: false };

    fn run<const N: usize>(machine: &mut Machine, events: [Event; N]) -> [Action; N] {
        events.map(|event| machine.on(event))
    }

    fn up(retries: usize) -> Machine {
        let mut machine = machine(retries);
        run(&mut machine, [Event::Wanted, OPENED]);
        machine
    }

    #[test]
    fn nothing_connects_until_a_half_is_polled_and_then_once() {
        let mut machine = machine(3);
        assert!(matches!(machine.phase(), Phase::Idle));
        assert_eq!(run(&mut machine, [Event::Wanted, Event::Wanted]), [Action::Connect, Action::Nothing]);
        assert!(matches!(machine.phase(), Phase::Connecting) && machine.attempt() == 1);
    }

    #[test]
    fn attempts_wait_longer_and_longer_and_end() {
        let mut machine = machine(2);
        let actions =
            run(&mut machine, [Event::Wanted, LOST, Event::WaitOver, LOST, Event::WaitOver, LOST, Event::WaitOver]);
        let due = [
            Action::Connect,
            Action::Wait(SECOND),
            Action::Connect,
            Action::Wait(2 * SECOND),
            Action::Connect,
            Action::GiveUp,
            Action::Nothing,
        ];
        assert_eq!(actions, due);
        assert!(matches!(machine.phase(), Phase::Over) && machine.attempt() == 3);
    }

    #[test]
    fn an_open_alone_does_not_reset_the_attempts() {
        let mut machine = up(2);
        assert_eq!(machine.on(LOST), Action::Wait(SECOND));
        run(&mut machine, [Event::WaitOver, OPENED]);
        assert_eq!(machine.on(LOST), Action::Wait(2 * SECOND));
        run(&mut machine, [Event::WaitOver, OPENED]);
        assert_eq!(machine.on(LOST), Action::GiveUp);
    }

    #[test]
    fn a_healthy_connection_resets_the_attempts() {
        let mut machine = up(1);
        for _ in 0..5 {
            assert_eq!(machine.on(LOST_HEALTHY), Action::Wait(SECOND));
            assert_eq!(machine.attempt(), 1);
            run(&mut machine, [Event::WaitOver, OPENED]);
        }
    }

    #[test]
    fn an_end_without_a_retry_is_over_immediately() {
        let mut connecting = machine(9);
        assert_eq!(run(&mut connecting, [Event::Wanted, REFUSED]), [Action::Connect, Action::GiveUp]);
        assert_eq!(up(9).on(REFUSED), Action::GiveUp);
    }

    #[test]
    fn now_ends_a_wait_and_replaces_a_connection_but_disturbs_no_attempt() {
        let mut machine = up(9);
        machine.on(LOST);
        assert_eq!(run(&mut machine, [Event::Now, Event::Now]), [Action::Connect, Action::Nothing]);
        assert_eq!(run(&mut machine, [OPENED, Event::Now]), [Action::Nothing, Action::Connect]);
        assert!(matches!(machine.phase(), Phase::Connecting));
    }

    #[test]
    fn a_close_in_any_phase_is_final() {
        for before in [vec![], vec![Event::Wanted], vec![Event::Wanted, LOST]] {
            let mut machine = machine(9);
            for event in before {
                machine.on(event);
            }
            assert_eq!(machine.on(Event::Close), Action::Drop);
            for event in [Event::Wanted, Event::Now, Event::WaitOver, OPENED, LOST, Event::Closed] {
                assert_eq!(machine.on(event), Action::Nothing);
                assert!(matches!(machine.phase(), Phase::Over));
            }
        }
        let mut machine = up(9);
        assert_eq!(
            run(&mut machine, [Event::Close, Event::Now, LOST]),
            [Action::Nothing, Action::Nothing, Action::Drop]
        );
    }

    #[test]
    fn a_delay_that_the_peer_asked_for_is_added() {
        let mut machine = up(9);
        let asked = Event::Ended { retry: true, healthy: false, asked: Asked::Everybody(5 * SECOND) };
        assert_eq!(machine.on(asked), Action::Wait(6 * SECOND));
    }

    #[test]
    fn a_connection_is_steady_once_everything_queued_is_sent() {
        let mut machine = machine(9);
        run(&mut machine, [Event::Wanted, Event::Opened { has_unsent: true }]);
        assert!(matches!(machine.phase(), Phase::Pumping));
        run(&mut machine, [Event::Pumped]);
        assert!(machine.is_steady());
        run(&mut machine, [Event::Queued]);
        assert!(matches!(machine.phase(), Phase::Pumping));
    }

    #[test]
    fn a_broken_connection_is_not_pumped_and_can_still_be_closed() {
        let mut machine = up(9);
        run(&mut machine, [Event::SinkFailed(Error::io("reset")), Event::Queued, Event::Pumped]);
        assert!(matches!(machine.phase(), Phase::Broken(_)) && machine.is_up());
        run(&mut machine, [Event::Close]);
        assert!(machine.is_closing());
    }

    #[test]
    fn a_close_is_over_once_both_halves_have_ended_in_either_order() {
        for halves in [[Event::StreamEnded, Event::SinkClosed], [Event::SinkClosed, Event::StreamEnded]] {
            let mut machine = up(9);
            machine.on(Event::Close);
            assert_eq!(run(&mut machine, halves), [Action::Nothing, Action::Drop]);
        }
        let mut machine = up(9);
        assert_eq!(
            run(&mut machine, [Event::HangUp, Event::StreamEnded, Event::Closed]),
            [Action::Nothing, Action::Nothing, Action::Drop]
        );
    }
}
