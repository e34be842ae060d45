//! Decides when the peer is pinged and when it is given up. Pure: no I/O, no clock.

use std::time::Duration;

/// The number of ticks in an interval. A message in the middle of a tick counts as one at the tick's beginning, so a
/// ping is sent after a silence of the interval at most, and of the interval less one tick at least.
const TICKS: u32 = 2;

/// The shortest time: the resolution of the timers.
const LEAST: Duration = Duration::from_millis(1);

/// The number of bytes per second that are a sign of life without a whole message. Without it, a peer that sends a byte
/// now and then, and never a message or a pong, would live forever. Any line that is of use is far faster.
const LEAST_RATE: u128 = 100;

/// Watches for silence.
///
/// ```text
///           the first poll                nothing came for the interval
///   New ------------------> Listening ------------------------------> Pinged
///                             ^  ^ |                                  |   |
///                             |  +-+ tick             something came  |   | nothing did
///                             +---------------------------------------+   v   for the timeout
///                                                                       Over
///
///   Ignoring: silence means nothing. Pings of the peer are answered, unlike in Over.
/// ```
#[derive(Debug)]
pub(super) struct Silence {
    tick: Duration,
    timeout: Duration,
    /// Whether a ping is due each interval, even if messages arrive.
    is_steady: bool,
    phase: Phase,
    /// Whether something arrived since the last look.
    heard: bool,
    /// The number of bytes that moved since the ping, without a message.
    moved: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    /// The number of ticks in which nothing arrived, at most.
    Listening(u32),
    Pinged {
        /// Whether the timer fired late once, and the peer got its time again.
        again: bool,
    },
    /// No pings are sent, and the peer is never given up.
    Ignoring,
    /// Nothing is watched any more, and nothing is answered.
    Over,
}

/// The action to take when the timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Set the timer to this duration.
    Wait(Duration),
    /// Send a ping, and set the timer to this duration.
    Ping(Duration),
    /// Give the peer up.
    GiveUp,
}

impl Silence {
    pub(super) fn new(interval: Duration, timeout: Duration) -> Self {
        Self {
            tick: (interval / TICKS).max(LEAST),
            timeout: timeout.max(LEAST),
            is_steady: false,
            phase: Phase::New,
            heard: false,
            moved: 0,
        }
    }

    /// Pings each interval, even a peer that talks.
    pub(super) fn steady(mut self, is_steady: bool) -> Self {
        self.is_steady = is_steady;
        self
    }

    /// Neither pings nor gives up, from the beginning.
    pub(super) fn ignore(&mut self) {
        self.phase = Phase::Ignoring;
    }

    pub(super) fn is_steady(&self) -> bool {
        self.is_steady
    }

    /// Notes that a message came.
    #[inline]
    pub(super) fn heard(&mut self) {
        self.heard = true;
    }

    /// Notes bytes that moved without completing a message. They answer a ping, but postpone none: a peer that has
    /// handed a long message to its operating system sees nothing move, and relies on this end's ping as a sign of
    /// life.
    pub(super) fn moved(&mut self, bytes: u64) {
        if bytes == 0 || !matches!(self.phase, Phase::Pinged { .. }) {
            return;
        }
        self.moved = self.moved.saturating_add(bytes);
        if u128::from(self.moved) >= self.timeout.as_millis() * LEAST_RATE / 1000 {
            self.heard = true;
        }
    }

    /// Stops: no more pings are sent, and the peer is not given up.
    pub(super) fn stop(&mut self) {
        self.phase = Phase::Over;
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Called when everything that arrived was read. Returns the duration for the timer, unless it stays as it is.
    pub(super) fn quiet(&mut self) -> Option<Duration> {
        match self.phase {
            Phase::Pinged { .. } if !self.heard => None,
            Phase::New | Phase::Pinged { .. } => {
                self.heard = false;
                self.moved = 0;
                self.phase = Phase::Listening(0);
                Some(self.tick)
            }
            Phase::Listening(_) | Phase::Ignoring | Phase::Over => None,
        }
    }

    /// Called when the timer fired and everything that arrived was read. `since` is the time since the last ping.
    pub(super) fn rang(&mut self, since: Duration) -> Step {
        self.moved = 0;
        match &mut self.phase {
            Phase::Pinged { again } => {
                // It is that late because nobody read: the ping may not even have left. Everything that arrived by then
                // is read before the next look, so once more is enough.
                let is_late = since > self.timeout.saturating_add(self.timeout / 4);
                if is_late && !std::mem::replace(again, true) {
                    return Step::Wait(self.timeout);
                }
                self.phase = Phase::Over;
                Step::GiveUp
            }
            Phase::Listening(quiet) => {
                let is_heard = std::mem::take(&mut self.heard);
                *quiet = if is_heard && !self.is_steady { 1 } else { *quiet + 1 };
                if *quiet < TICKS {
                    return Step::Wait(self.tick);
                }
                self.phase = Phase::Pinged { again: false };
                Step::Ping(self.timeout)
            }
            // Its timer is not set.
            Phase::New | Phase::Ignoring | Phase::Over => Step::Wait(self.tick),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Step::*, *};

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn listening() -> Silence {
        let mut silence = Silence::new(seconds(20), seconds(5));
        assert_eq!(silence.quiet(), Some(seconds(10)));
        silence
    }

    #[test]
    fn a_peer_that_says_nothing_is_asked_after_the_interval_and_given_up_after_the_timeout() {
        let mut silence = listening();
        assert_eq!(silence.rang(seconds(0)), Wait(seconds(10)));
        assert_eq!(silence.rang(seconds(0)), Ping(seconds(5)));
        assert_eq!(silence.quiet(), None);
        assert_eq!(silence.rang(seconds(5)), GiveUp);
        assert!(silence.is_over());
    }

    #[test]
    fn a_peer_that_talks_is_not_asked() {
        let mut silence = listening();
        for _ in 0..100 {
            silence.heard();
            assert_eq!(silence.quiet(), None);
            assert_eq!(silence.rang(seconds(0)), Wait(seconds(10)));
        }
    }

    #[test]
    fn bytes_that_move_are_an_answer_if_there_are_a_hundred_a_second() {
        let mut silence = listening();
        silence.rang(seconds(0));
        assert_eq!(silence.rang(seconds(0)), Ping(seconds(5)));
        silence.moved(499);
        assert_eq!(silence.quiet(), None, "fewer than 500 in a timeout of 5 s");
        silence.moved(1);
        assert_eq!(silence.quiet(), Some(seconds(10)));
        silence.rang(seconds(0));
        silence.rang(seconds(0));
        silence.moved(499);
        silence.moved(0);
        assert_eq!(silence.quiet(), None, "each ping has its own");
        assert_eq!(silence.rang(seconds(5)), GiveUp);
    }

    #[test]
    fn bytes_that_move_put_no_ping_off() {
        let mut silence = listening();
        silence.moved(1 << 20);
        assert_eq!(silence.rang(seconds(0)), Wait(seconds(10)));
        silence.moved(1 << 20);
        assert_eq!(silence.rang(seconds(0)), Ping(seconds(5)));
        assert_eq!(silence.quiet(), None, "what moved before the ping is no answer to it");
    }

    #[test]
    fn whatever_comes_after_a_ping_is_an_answer() {
        let mut silence = listening();
        silence.rang(seconds(0));
        assert_eq!(silence.rang(seconds(0)), Ping(seconds(5)));
        silence.heard();
        assert_eq!(silence.quiet(), Some(seconds(10)), "the interval starts again");
        assert_eq!(silence.rang(seconds(10)), Wait(seconds(10)));
        assert_eq!(silence.rang(seconds(20)), Ping(seconds(5)));
    }

    #[test]
    fn at_a_steady_pace_a_peer_that_talks_is_asked_as_well() {
        let mut silence = listening().steady(true);
        for _ in 0..3 {
            silence.heard();
            assert_eq!(silence.rang(seconds(0)), Wait(seconds(10)));
            silence.heard();
            assert_eq!(silence.rang(seconds(0)), Ping(seconds(5)));
            silence.heard();
            assert_eq!(silence.quiet(), Some(seconds(10)));
        }
        silence.rang(seconds(0));
        silence.rang(seconds(0));
        assert_eq!(silence.rang(seconds(5)), GiveUp);
    }

    #[test]
    fn a_timer_that_rang_late_gives_the_peer_its_time_once_more_and_no_more() {
        let mut silence = listening();
        silence.rang(seconds(0));
        assert_eq!(silence.rang(seconds(0)), Ping(seconds(5)));
        assert_eq!(silence.rang(seconds(100)), Wait(seconds(5)));
        assert_eq!(silence.rang(seconds(200)), GiveUp);
    }

    #[test]
    fn times_that_are_nothing_or_for_ever_are_no_problem() {
        let mut silence = Silence::new(Duration::ZERO, Duration::ZERO);
        assert_eq!(silence.quiet(), Some(LEAST));
        assert_eq!(silence.rang(LEAST), Wait(LEAST));
        assert_eq!(silence.rang(LEAST), Ping(LEAST));
        let mut silence = Silence::new(Duration::MAX, Duration::MAX);
        silence.quiet();
        silence.rang(Duration::ZERO);
        assert_eq!(silence.rang(Duration::ZERO), Ping(Duration::MAX));
        assert_eq!(silence.rang(Duration::MAX), GiveUp);
    }

    proptest! {
        /// Runs a clock of milliseconds against the watch; the peer talks at these times, and then never again.
        #[test]
        fn a_peer_that_falls_silent_is_given_up_within_interval_and_timeout(
            interval in 2..200u64, timeout in 1..200u64, gaps in prop::collection::vec(0..300u64, 0..20),
        ) {
            let mut silence = Silence::new(Duration::from_millis(interval), Duration::from_millis(timeout));
            let mut talks: Vec<u64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            talks.reverse();
            let (mut last, mut asked) = (0, None);
            let mut rings = silence.quiet().map(|tick| tick.as_micros() as u64).unwrap_or(0);
            for now in 0..10_000_000u64 {
                while talks.last().is_some_and(|at| at * 1000 == now) {
                    talks.pop();
                    last = now;
                    silence.heard();
                    if let Some(tick) = silence.quiet() {
                        rings = now + tick.as_micros() as u64;
                    }
                }
                if now != rings {
                    continue;
                }
                match silence.rang(Duration::from_micros(now - asked.unwrap_or(now))) {
                    Wait(time) => rings = now + time.as_micros() as u64,
                    Ping(time) => {
                        prop_assert!(now - last <= interval * 1000, "asked {} us after the last message", now - last);
                        prop_assert!(now - last >= interval * 500 - 1, "asked too early: {} us", now - last);
                        asked = Some(now);
                        rings = now + time.as_micros() as u64;
                    }
                    GiveUp => {
                        prop_assert!(now - last <= (interval + timeout) * 1000);
                        prop_assert!(now - asked.unwrap_or(0) == timeout * 1000);
                        return Ok(());
                    }
                }
            }
            prop_assert!(false, "never given up");
        }
    }
}
