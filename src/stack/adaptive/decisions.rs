use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;

use super::{Decided, Decision};
use crate::{sync::Mutex, transport::wakers::poll_prepared};

/// The number of decisions that are kept for each reader.
const ROOM: usize = 64;

/// The readers of the decisions.
#[derive(Default)]
pub(super) struct Watchers(Mutex<Vec<Weak<Mutex<Ring>>>>);

/// The decisions that one reader has not read. Bounded: the oldest are dropped first, and counted.
#[derive(Default)]
struct Ring {
    waiting: VecDeque<Decided>,
    missed: u64,
    waker: Option<Waker>,
    is_over: bool,
}

impl Watchers {
    pub(super) fn subscribe(&self) -> Decisions {
        let ring = Arc::default();
        let mut all = self.0.lock();
        all.retain(|ring| ring.strong_count() > 0);
        all.push(Arc::downgrade(&ring));
        Decisions { ring }
    }

    pub(super) fn publish(&self, decided: &Decided) {
        // Collected first: no reader's lock is taken under that of the list.
        let all: Vec<_> = self.0.lock().iter().filter_map(Weak::upgrade).collect();
        for ring in all {
            let decided = decided.clone();
            let mut ring = ring.lock();
            // A slow reader loses the oldest decisions. It holds up no connection.
            let oldest = if ring.waiting.len() == ROOM { ring.waiting.pop_front() } else { None };
            ring.missed += u64::from(oldest.is_some());
            ring.waiting.push_back(decided);
            let waker = ring.waker.take();
            drop(ring);
            // The error in it may be the user's, so it is dropped without the lock.
            drop(oldest);
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        for ring in self.0.lock().iter().filter_map(Weak::upgrade) {
            let mut ring = ring.lock();
            ring.is_over = true;
            let waker = ring.waker.take();
            drop(ring);
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

/// A stream of the decisions that an [`AdaptiveConnector`](super::AdaptiveConnector) and its clones make from now on.
/// See [`AdaptiveConnector::decisions`](super::AdaptiveConnector::decisions).
///
/// At most 64 decisions are kept. A reader that is too slow finds a [`Decision::Missed`] in place of the oldest ones.
/// The stream ends with the last clone of the connector and the last of its transports. Dropping a read loses nothing.
pub struct Decisions {
    ring: Arc<Mutex<Ring>>,
}

impl Stream for Decisions {
    type Item = Decided;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Decided>> {
        poll_prepared(cx, |prepared| {
            let mut ring = self.ring.lock();
            if ring.missed > 0
                && let Some(next) = ring.waiting.front()
            {
                let (origin, attempt) = (next.origin.clone(), next.attempt);
                let decisions = std::mem::take(&mut ring.missed);
                return Some(Some(Decided { origin, attempt, decision: Decision::Missed { decisions } }));
            }
            match ring.waiting.pop_front() {
                Some(decided) => return Some(Some(decided)),
                None if ring.is_over => return Some(None),
                None => prepared.keep_in(&mut ring.waker),
            }
            None
        })
    }
}

impl fmt::Debug for Decisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.ring.lock().waiting.len();
        f.debug_struct("Decisions").field("waiting", &waiting).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{FutureExt, StreamExt};

    use super::*;
    use crate::stack::adaptive::TransportKind;

    fn decided(attempt: u64) -> Decided {
        let decision = Decision::Started { kind: TransportKind::Sse, after: Duration::ZERO };
        Decided { origin: "http://a:80".into(), attempt, decision }
    }

    #[test]
    fn each_reader_has_its_own_place_and_who_is_late_is_told_so() {
        let watchers = Watchers::default();
        let (mut quick, mut slow) = (watchers.subscribe(), watchers.subscribe());
        for attempt in 0..ROOM as u64 + 5 {
            watchers.publish(&decided(attempt));
            let next = quick.next().now_or_never().flatten().unwrap();
            assert_eq!(next.attempt, attempt);
        }
        assert!(quick.next().now_or_never().is_none());
        let next = slow.next().now_or_never().flatten().unwrap();
        assert!(matches!(next.decision, Decision::Missed { decisions: 5 }), "{next:?}");
        for attempt in 5..ROOM as u64 + 5 {
            assert_eq!(slow.next().now_or_never().flatten().unwrap().attempt, attempt);
        }
        drop(watchers);
        assert!(slow.next().now_or_never().unwrap().is_none());
    }

    #[test]
    fn readers_that_are_gone_are_forgotten() {
        let watchers = Watchers::default();
        for _ in 0..100 {
            drop(watchers.subscribe());
        }
        let _reader = watchers.subscribe();
        assert_eq!(watchers.0.lock().len(), 1);
    }
}
