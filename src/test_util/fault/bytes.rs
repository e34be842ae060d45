//! The permissions of the next read or write: no I/O and no waker in it.

use super::state::Direction;

/// How a byte stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// Reading returns the end of the stream (as after a FIN); writing fails with `BrokenPipe`.
    Eof,
    /// Both fail with `ConnectionReset` (as after an RST).
    Reset,
}

#[derive(Debug, Default)]
pub(super) struct Flows {
    pub(super) outgoing: Flow,
    pub(super) incoming: Flow,
    pub(super) half_open: bool,
}

#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) stalled: bool,
    pub(super) trickles: bool,
    /// The number of bytes that still pass, and the cut that follows.
    pub(super) cut: Option<(usize, Cut)>,
}

/// The permission for the next read or write.
pub(super) enum Turn {
    Wait,
    Swallow,
    Fail(Cut),
    /// Move at most this many bytes.
    Move(usize),
}

impl Flows {
    pub(super) fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::Outgoing => &mut self.outgoing,
            Direction::Incoming => &mut self.incoming,
        }
    }

    pub(super) fn turn(&mut self, direction: Direction) -> Turn {
        let half_open = self.half_open;
        let flow = self.flow(direction);
        match flow.cut {
            Some((0, cut)) => Turn::Fail(cut),
            _ if half_open => match direction {
                Direction::Outgoing => Turn::Swallow,
                Direction::Incoming => Turn::Wait,
            },
            _ if flow.stalled => Turn::Wait,
            cut => Turn::Move(cut.map_or(usize::MAX, |(left, _)| left).min(if flow.trickles { 1 } else { usize::MAX })),
        }
    }

    pub(super) fn moved(&mut self, direction: Direction, bytes: usize) {
        if let Some((left, _)) = &mut self.flow(direction).cut {
            *left = left.saturating_sub(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Direction::*, *};

    #[test]
    fn a_cut_counts_the_bytes_of_its_direction_and_wins_over_all_else() {
        let mut flows = Flows::default();
        flows.flow(Outgoing).cut = Some((5, Cut::Reset));
        assert!(matches!(flows.turn(Outgoing), Turn::Move(5)));
        assert!(matches!(flows.turn(Incoming), Turn::Move(usize::MAX)));
        flows.moved(Outgoing, 4);
        flows.moved(Incoming, 4);
        assert!(matches!(flows.turn(Outgoing), Turn::Move(1)));
        flows.moved(Outgoing, 1);
        flows.flow(Outgoing).stalled = true;
        flows.half_open = true;
        assert!(matches!(flows.turn(Outgoing), Turn::Fail(Cut::Reset)));
    }
}
