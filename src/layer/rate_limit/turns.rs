use std::time::Duration;

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Decides when the callers that wait for the same bucket ask again: one after the other, in the order in which they
/// came.
///
/// Otherwise all of them would ask as soon as there is a cell, and one might win each time. A turn is a time to ask,
/// not a cell, so nothing is handed over: a caller that never asks again only costs the others that moment. With a
/// semaphore, the permit of such a caller would block them for as long as it lives.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The time of the last turn, in nanoseconds of the limiter's clock.
    last: AtomicU64,
}

/// The time at which a waiting caller asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    at: u64,
    cells: u64,
}

impl Turns {
    /// Takes a turn behind all others, to ask for cells that come back within `cells`; they are not available before
    /// `earliest` has passed.
    pub(super) fn take(&self, now: u64, earliest: Duration, cells: Duration) -> Turn {
        let (earliest, cells) = (now.saturating_add(nanos(earliest)), nanos(cells));
        // A last turn that has passed leaves nobody to wait behind.
        let at = |last: u64| if last > now { last.saturating_add(cells).max(earliest) } else { earliest };
        let mut last = self.last.load(Relaxed);
        while let Err(other) = self.last.compare_exchange_weak(last, at(last), Relaxed, Relaxed) {
            last = other;
        }
        Turn { at: at(last), cells }
    }

    /// Gives up a turn whose time has not come, in favor of callers that come later.
    pub(super) fn give_up(&self, turn: Turn, now: u64) {
        if turn.at > now {
            let mut last = self.last.load(Relaxed);
            let earlier = |last: u64| last.saturating_sub(turn.cells);
            while let Err(other) = self.last.compare_exchange_weak(last, earlier(last), Relaxed, Relaxed) {
                last = other;
            }
        }
    }
}

impl Turn {
    /// Returns the time until this turn.
    pub(super) fn after(&self, now: u64) -> Duration {
        Duration::from_nanos(self.at.saturating_sub(now))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: Duration = Duration::from_nanos(100);

    #[test]
    fn turns_follow_each_other_by_the_cells_of_each() {
        let turns = Turns::default();
        let soon = Duration::from_nanos(30);
        assert_eq!(turns.take(1000, soon, CELL).after(1000), soon);
        assert_eq!(turns.take(1000, soon, 3 * CELL).after(1000), soon + 3 * CELL);
        assert_eq!(turns.take(1010, soon, CELL).at, 1000 + 30 + 400);
        // Nobody waits any more.
        assert_eq!(turns.take(1500, soon, CELL).at, 1530);
    }

    #[test]
    fn a_turn_that_is_given_up_goes_to_the_next_unless_its_time_has_come() {
        let turns = Turns::default();
        let taken = [(); 3].map(|()| turns.take(0, CELL, CELL));
        assert_eq!(taken.map(|turn| turn.at), [100, 200, 300]);
        turns.give_up(taken[0], 150);
        assert_eq!(turns.take(150, CELL, CELL).at, 400);
        turns.give_up(taken[2], 150);
        assert_eq!(turns.take(150, CELL, CELL).at, 400);
    }
}

#[cfg(all(test, model))]
mod models {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    const CELL: Duration = Duration::from_nanos(100);

    #[test]
    fn two_callers_at_the_same_time_get_two_turns() {
        loom::model(|| {
            let turns = Arc::new(Turns::default());
            let other = thread::spawn({
                let turns = turns.clone();
                move || turns.take(0, CELL, CELL)
            });
            let mine = turns.take(0, CELL, CELL);
            let Ok(theirs) = other.join() else { return };
            let mut times = [mine.at, theirs.at];
            times.sort_unstable();
            assert_eq!(times, [100, 200]);
        });
    }

    #[test]
    fn a_caller_that_gives_up_while_another_comes_frees_exactly_one_turn() {
        loom::model(|| {
            let turns = Arc::new(Turns::default());
            let first = turns.take(0, CELL, CELL);
            let other = thread::spawn({
                let turns = turns.clone();
                move || turns.take(0, CELL, CELL)
            });
            turns.give_up(first, 0);
            let Ok(theirs) = other.join() else { return };
            assert!([100, 200].contains(&theirs.at));
            assert_eq!(turns.take(0, CELL, CELL).at - 100, 100);
        });
    }
}
