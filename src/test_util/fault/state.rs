//! The fate of the next message: no I/O and no waker in it.

use std::num::NonZeroU32;

/// One of the two directions of a transport, as seen from the end with the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The messages that are sent.
    Outgoing,
    /// The messages that are received.
    Incoming,
}

/// Both directions of one transport.
#[derive(Debug, Default)]
pub(super) struct State {
    outgoing: Flow,
    incoming: Flow,
    end: End,
}

#[derive(Debug, Default)]
struct Flow {
    stalled: bool,
    /// The number of messages that may still pass; `None` means any number.
    permits: Option<usize>,
    /// The number of messages that are lost next.
    losses: usize,
    chance: Option<Chance>,
}

#[derive(Debug)]
struct Chance {
    random: u64,
    one_in: NonZeroU32,
}

/// A permanent fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    #[default]
    Open,
    /// Nothing comes in any more, and outgoing messages are swallowed.
    HalfOpen,
    /// The stream has not returned its error yet.
    Cut,
    /// The stream has returned its error.
    Ended,
}

impl State {
    pub(super) fn end(&self) -> End {
        self.end
    }

    pub(super) fn half_open(&mut self) {
        if self.end == End::Open {
            self.end = End::HalfOpen;
        }
    }

    pub(super) fn cut(&mut self) {
        if self.end != End::Ended {
            self.end = End::Cut;
        }
    }

    /// Records that the stream returns its error now.
    pub(super) fn ended(&mut self) {
        self.end = End::Ended;
    }

    fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::Outgoing => &mut self.outgoing,
            Direction::Incoming => &mut self.incoming,
        }
    }

    pub(super) fn stall(&mut self, direction: Direction) {
        self.flow(direction).stalled = true;
    }

    /// Resets the direction; messages that are due to be lost are not.
    pub(super) fn resume(&mut self, direction: Direction) {
        *self.flow(direction) = Flow::default();
    }

    pub(super) fn lose(&mut self, direction: Direction, messages: usize) {
        self.flow(direction).losses += messages;
    }

    pub(super) fn lose_some(&mut self, direction: Direction, one_in: NonZeroU32, seed: u64) {
        self.flow(direction).chance = Some(Chance { random: seed, one_in });
    }

    pub(super) fn permit(&mut self, direction: Direction, messages: usize) {
        let permits = &mut self.flow(direction).permits;
        *permits = Some(permits.unwrap_or(0).saturating_add(messages));
    }

    pub(super) fn is_stalled(&mut self, direction: Direction) -> bool {
        self.flow(direction).stalled
    }

    /// Returns whether a message must wait.
    pub(super) fn waits(&mut self, direction: Direction) -> bool {
        let flow = self.flow(direction);
        flow.stalled || flow.permits == Some(0)
    }

    /// Takes a message's permit. Returns whether the message passes; otherwise it is lost.
    pub(super) fn pass(&mut self, direction: Direction) -> bool {
        let flow = self.flow(direction);
        if let Some(permits) = &mut flow.permits {
            *permits = permits.saturating_sub(1);
        }
        if flow.losses > 0 {
            flow.losses -= 1;
            return false;
        }
        !flow.chance.as_mut().is_some_and(Chance::strikes)
    }
}

impl Chance {
    /// `SplitMix64`: small, and deterministic for a seed on every platform.
    fn strikes(&mut self) -> bool {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).is_multiple_of(u64::from(self.one_in.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Direction::*, *};

    #[test]
    fn the_directions_do_not_know_each_other() {
        let mut state = State::default();
        state.stall(Outgoing);
        state.lose(Incoming, 1);
        assert!(state.waits(Outgoing) && !state.waits(Incoming));
        assert!(!state.pass(Incoming) && state.pass(Incoming) && state.pass(Outgoing));
    }

    #[test]
    fn each_permit_is_for_one_message() {
        let mut state = State::default();
        state.permit(Outgoing, 0);
        assert!(state.waits(Outgoing));
        state.permit(Outgoing, 2);
        assert!(state.pass(Outgoing) && !state.waits(Outgoing));
        assert!(state.pass(Outgoing) && state.waits(Outgoing));
        state.resume(Outgoing);
        assert!(!state.waits(Outgoing));
    }

    #[test]
    fn the_same_seed_loses_the_same_messages() {
        let losses = |seed| {
            let mut state = State::default();
            state.lose_some(Outgoing, NonZeroU32::new(10).unwrap(), seed);
            (0..1000).filter(|_| !state.pass(Outgoing)).collect::<Vec<_>>()
        };
        assert_eq!(losses(1), losses(1));
        assert_ne!(losses(1), losses(2));
        assert!((50..200).contains(&losses(1).len()), "{}", losses(1).len());
    }

    #[test]
    fn a_cut_is_for_good() {
        let mut state = State::default();
        state.half_open();
        state.cut();
        assert_eq!(state.end(), End::Cut);
        state.ended();
        state.cut();
        state.half_open();
        state.resume(Incoming);
        assert_eq!(state.end(), End::Ended);
    }
}
