//! Who is in: the sessions of a server and the handshakes that may become some.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::select;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::rt;

#[derive(Debug, Default)]
pub(super) struct Live {
    count: AtomicUsize,
    /// The last one has left.
    empty: Notify,
    cut: CancellationToken,
}

impl Live {
    /// A seat among at most `most`.
    pub(super) fn enter(self: &Arc<Self>, most: usize) -> Option<Seat> {
        let more = |count: usize| (count < most).then_some(count + 1);
        self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Seat { live: self.clone() })
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Ready once nobody is in.
    pub(super) async fn emptied(&self) {
        loop {
            let mut empty = pin!(self.empty.notified());
            empty.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            empty.await;
        }
    }

    /// Waits until all have left. Those who have not when the time is over are cut, and their number is the error.
    pub(super) async fn drain(&self, within: Duration) -> Result<(), usize> {
        if rt::timeout(within, self.emptied()).await.is_ok() {
            return Ok(());
        }
        let left = self.count();
        self.cut.cancel();
        if left == 0 { Ok(()) } else { Err(left) }
    }
}

/// A place among the live, free when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    live: Arc<Live>,
}

impl Seat {
    /// Runs `session` until it ends or all are cut.
    pub(super) async fn hold(self, session: impl Future<Output = ()>) {
        let cut = self.live.cut.cancelled();
        select(pin!(session), pin!(cut)).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.live.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.live.empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_seats_and_each_is_free_again() {
        let live = Arc::new(Live::default());
        let seats = (live.enter(2).unwrap(), live.enter(2).unwrap());
        assert!(live.enter(2).is_none());
        drop(seats.0);
        assert!(live.enter(2).is_some());
        assert_eq!(live.count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_the_last_and_not_for_ever() {
        let second = Duration::from_secs(1);
        let live = Arc::new(Live::default());
        live.drain(second).await.unwrap();

        let seat = live.enter(9).unwrap();
        tokio::spawn(seat.hold(tokio::time::sleep(second)));
        live.drain(2 * second).await.unwrap();

        for _ in 0..2 {
            tokio::spawn(live.enter(9).unwrap().hold(std::future::pending()));
        }
        assert_eq!(live.drain(second).await, Err(2));
        live.emptied().await;
    }
}
