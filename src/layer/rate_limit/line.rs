use std::time::Duration;

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Decides when the callers that wait for the same bucket ask again: one after the other, in the order in which they
/// came.
///
/// Otherwise all of them would ask as soon as there is a cell, and one might win each time. A place is a time to ask,
/// not a cell: a caller that is in line and never asks only costs the others that moment.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// The time when the last in line asks, in nanoseconds of the limiter's clock.
    end: AtomicU64,
}

/// A place in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    at: u64,
    cells: u64,
}

impl Line {
    /// Joins the end of the line, to ask for cells that come back within `cells`; they are not available before
    /// `earliest` has passed.
    pub(super) fn join(&self, now: u64, earliest: Duration, cells: Duration) -> Place {
        let (earliest, cells) = (now.saturating_add(nanos(earliest)), nanos(cells));
        let place = |end: u64| if end > now { end.saturating_add(cells).max(earliest) } else { earliest };
        let mut end = self.end.load(Relaxed);
        while let Err(other) = self.end.compare_exchange_weak(end, place(end), Relaxed, Relaxed) {
            end = other;
        }
        Place { at: place(end), cells }
    }

    /// Gives up a place whose time has not come, for those who join later.
    pub(super) fn leave(&self, place: Place, now: u64) {
        if place.at > now {
            let _ = self.end.fetch_update(Relaxed, Relaxed, |end| Some(end.saturating_sub(place.cells)));
        }
    }
}

impl Place {
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
    fn places_follow_each_other_by_what_each_wants() {
        let line = Line::default();
        let soon = Duration::from_nanos(30);
        assert_eq!(line.join(1000, soon, CELL).after(1000), soon);
        assert_eq!(line.join(1000, soon, 3 * CELL).after(1000), soon + 3 * CELL);
        assert_eq!(line.join(1010, soon, CELL).at, 1000 + 30 + 400);
        // Nobody is left.
        assert_eq!(line.join(1500, soon, CELL).at, 1530);
    }

    #[test]
    fn a_place_that_is_given_up_goes_to_the_next_and_one_whose_time_came_does_not() {
        let line = Line::default();
        let places = [(); 3].map(|()| line.join(0, CELL, CELL));
        assert_eq!(places.map(|place| place.at), [100, 200, 300]);
        line.leave(places[0], 150);
        assert_eq!(line.join(150, CELL, CELL).at, 400);
        line.leave(places[2], 150);
        assert_eq!(line.join(150, CELL, CELL).at, 400);
    }
}

#[cfg(all(test, model))]
mod models {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    const CELL: Duration = Duration::from_nanos(100);

    #[test]
    fn two_who_join_at_once_get_two_places() {
        loom::model(|| {
            let line = Arc::new(Line::default());
            let other = thread::spawn({
                let line = line.clone();
                move || line.join(0, CELL, CELL)
            });
            let mine = line.join(0, CELL, CELL);
            let Ok(theirs) = other.join() else { return };
            let mut places = [mine.at, theirs.at];
            places.sort_unstable();
            assert_eq!(places, [100, 200]);
        });
    }

    #[test]
    fn who_leaves_while_another_joins_frees_one_place_and_no_more() {
        loom::model(|| {
            let line = Arc::new(Line::default());
            let first = line.join(0, CELL, CELL);
            let other = thread::spawn({
                let line = line.clone();
                move || line.join(0, CELL, CELL)
            });
            line.leave(first, 0);
            let Ok(theirs) = other.join() else { return };
            assert!([100, 200].contains(&theirs.at));
            assert_eq!(line.join(0, CELL, CELL).at - 100, 100);
        });
    }
}
