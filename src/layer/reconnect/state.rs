//! Where a transport that reconnects stands. What happens goes in, what is to be done comes out; no I/O, no clock.
//!
//! ```text
//!             wanted             opened
//!     Idle ------------> Dialling ------------> Up -------> Closing
//!                         ^    |                |     close    |
//!       the wait is over, |    | ended,         | ended,       |
//!       or now            |    v to retry       | to retry     | closed,
//!                        Waiting <--------------+              | or ended
//!                              |                               v
//!                              +----------------------------> Over
//!                                     close
//! ```
//!
//! Not drawn: what ended and is not to be retried, or is one retry too many, leads from `Dialling` and `Up` to `Over`; so does
//! a close of what is not up. `now` leads from `Up` to `Dialling`, too: another connection takes the place of this one.

use std::time::Duration;

use super::backoff::{Backoff, Delays};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody has asked for a connection yet.
    Idle,
    Dialling,
    Up,
    Waiting,
    /// This end closes: what ends now, ends for good.
    Closing,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Somebody wants to read or write.
    Wanted,
    /// There is a connection.
    Opened,
    /// An attempt failed, or the connection is lost.
    Ended {
        /// Another attempt may help.
        retry: bool,
        /// The connection was up long enough for the attempts to count anew.
        healthy: bool,
        /// What the peer asked to wait, at least.
        asked: Option<Duration>,
    },
    WaitOver,
    /// The user wants a new connection at once.
    Now,
    /// The user wants no more connections.
    Close,
    /// The connection is closed.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    Dial,
    Wait(Duration),
    /// That was the last attempt.
    GiveUp,
    /// Nothing is left: drop what there is.
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

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// The number of the attempt that is made, waited for or was made last: from 1 in each row.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    pub(super) fn on(&mut self, event: Event) -> Action {
        use self::{Event as E, Phase as P};

        match (self.phase, event) {
            (P::Idle, E::Wanted | E::Now) | (P::Up, E::Now) => self.dial_next(),
            (P::Waiting, E::WaitOver | E::Now) => self.to(P::Dialling, Action::Dial),
            (P::Dialling, E::Opened) => self.to(P::Up, Action::Nothing),
            (P::Dialling | P::Up, E::Ended { retry, healthy, asked }) => {
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
            (P::Up, E::Close) => self.to(P::Closing, Action::Nothing),
            (P::Closing, E::Closed | E::Ended { .. }) => self.to(P::Over, Action::Drop),
            (P::Idle | P::Dialling | P::Waiting, E::Close) => self.to(P::Over, Action::Drop),
            // A `reconnect_now` while connecting asks for what is going on; all the others come too late to matter.
            _ => Action::Nothing,
        }
    }

    fn dial_next(&mut self) -> Action {
        self.attempt = self.attempt.saturating_add(1);
        self.to(Phase::Dialling, Action::Dial)
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
    const LOST: Event = Event::Ended { retry: true, healthy: false, asked: None };
    const LOST_HEALTHY: Event = Event::Ended { retry: true, healthy: true, asked: None };
    const REFUSED: Event = Event::Ended { retry: false, healthy: false, asked: None };

    fn machine(retries: usize) -> Machine {
        Machine::new(Backoff::exponential().jitter(false).base(SECOND).max_retries(retries))
    }

    fn run(machine: &mut Machine, events: &[Event]) -> Vec<Action> {
        events.iter().map(|event| machine.on(*event)).collect()
    }

    fn up(retries: usize) -> Machine {
        let mut machine = machine(retries);
        run(&mut machine, &[Event::Wanted, Event::Opened]);
        machine
    }

    #[test]
    fn nothing_is_dialled_until_somebody_wants_it_and_then_once() {
        let mut machine = machine(3);
        assert_eq!(machine.phase(), Phase::Idle);
        assert_eq!(run(&mut machine, &[Event::Wanted, Event::Wanted]), [Action::Dial, Action::Nothing]);
        assert_eq!((machine.phase(), machine.attempt()), (Phase::Dialling, 1));
    }

    #[test]
    fn attempts_wait_longer_and_longer_and_end() {
        let mut machine = machine(2);
        let actions =
            run(&mut machine, &[Event::Wanted, LOST, Event::WaitOver, LOST, Event::WaitOver, LOST, Event::WaitOver]);
        let due = [
            Action::Dial,
            Action::Wait(SECOND),
            Action::Dial,
            Action::Wait(2 * SECOND),
            Action::Dial,
            Action::GiveUp,
            Action::Nothing,
        ];
        assert_eq!(actions, due);
        assert_eq!((machine.phase(), machine.attempt()), (Phase::Over, 3));
    }

    #[test]
    fn an_open_alone_does_not_make_the_attempts_count_anew() {
        let mut machine = up(2);
        assert_eq!(machine.on(LOST), Action::Wait(SECOND));
        run(&mut machine, &[Event::WaitOver, Event::Opened]);
        assert_eq!(machine.on(LOST), Action::Wait(2 * SECOND));
        run(&mut machine, &[Event::WaitOver, Event::Opened]);
        assert_eq!(machine.on(LOST), Action::GiveUp);
    }

    #[test]
    fn a_healthy_connection_makes_the_attempts_count_anew() {
        let mut machine = up(1);
        for _ in 0..5 {
            assert_eq!(machine.on(LOST_HEALTHY), Action::Wait(SECOND));
            assert_eq!(machine.attempt(), 1);
            run(&mut machine, &[Event::WaitOver, Event::Opened]);
        }
    }

    #[test]
    fn what_is_not_to_be_retried_is_over_at_once() {
        let mut dialling = machine(9);
        assert_eq!(run(&mut dialling, &[Event::Wanted, REFUSED]), [Action::Dial, Action::GiveUp]);
        assert_eq!(up(9).on(REFUSED), Action::GiveUp);
    }

    #[test]
    fn now_ends_a_wait_and_replaces_a_connection_but_disturbs_no_attempt() {
        let mut machine = up(9);
        machine.on(LOST);
        assert_eq!(run(&mut machine, &[Event::Now, Event::Now]), [Action::Dial, Action::Nothing]);
        assert_eq!(run(&mut machine, &[Event::Opened, Event::Now]), [Action::Nothing, Action::Dial]);
        assert_eq!(machine.phase(), Phase::Dialling);
    }

    #[test]
    fn a_close_is_for_good_from_wherever_it_comes() {
        for before in [&[][..], &[Event::Wanted], &[Event::Wanted, LOST]] {
            let mut machine = machine(9);
            run(&mut machine, before);
            assert_eq!(machine.on(Event::Close), Action::Drop);
            for event in [Event::Wanted, Event::Now, Event::WaitOver, Event::Opened, LOST, Event::Closed] {
                assert_eq!(machine.on(event), Action::Nothing);
                assert_eq!(machine.phase(), Phase::Over);
            }
        }
        let mut machine = up(9);
        assert_eq!(
            run(&mut machine, &[Event::Close, Event::Now, LOST]),
            [Action::Nothing, Action::Nothing, Action::Drop]
        );
    }

    #[test]
    fn what_the_peer_asked_for_is_waited_for() {
        let mut machine = up(9);
        let asked = Event::Ended { retry: true, healthy: false, asked: Some(5 * SECOND) };
        assert_eq!(machine.on(asked), Action::Wait(6 * SECOND));
    }
}
