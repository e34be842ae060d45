//! The live sessions of a server, and the handshakes that may become sessions.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use crate::{
    rt,
    sync::Mutex,
    transport::drain::{self, Attended, Drain},
};

pub(super) struct LiveSessions {
    counts: Mutex<Counts>,
    /// The acceptor's drain, which waits for all live sessions and cuts them.
    drain: Drain,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    handshakes: usize,
    sessions: usize,
}

impl LiveSessions {
    pub(super) fn new(drain: Drain) -> Self {
        Self { counts: Mutex::default(), drain }
    }

    /// Returns a seat for a handshake, unless `most` are taken.
    pub(super) fn enter(self: &Arc<Self>, most: usize) -> Option<SessionSeat> {
        let mut counts = self.counts.lock();
        if counts.handshakes >= most {
            return None;
        }
        counts.handshakes += 1;
        drop(counts);
        Some(SessionSeat { live: self.clone(), is_session: false, held: self.drain.enter() })
    }

    pub(super) fn sessions(&self) -> usize {
        self.counts.lock().sessions
    }

    /// Completes once no session or handshake is left.
    pub(super) async fn emptied(&self) {
        self.drain.emptied().await;
    }

    /// Waits until all have left. When the time is over, the remaining ones are cut, and the number of cut sessions is
    /// returned as the error.
    pub(super) async fn drain(&self, within: Duration) -> Result<(), usize> {
        if rt::timeout(within, self.emptied()).await.is_ok() {
            return Ok(());
        }
        let left = self.sessions();
        self.drain.cut();
        // Handshakes that were cut have lost nothing.
        if left == 0 { Ok(()) } else { Err(left) }
    }
}

impl fmt::Debug for LiveSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = *self.counts.lock();
        f.debug_struct("LiveSessions").field("counts", &counts).finish_non_exhaustive()
    }
}

/// A seat among the live sessions and handshakes, which is freed on drop.
#[derive(Debug)]
pub(super) struct SessionSeat {
    live: Arc<LiveSessions>,
    is_session: bool,
    held: Arc<drain::Seat>,
}

impl SessionSeat {
    /// Turns the handshake into a session. Returns `false` if there are already `most` sessions.
    pub(super) fn begin(&mut self, most: usize) -> bool {
        let mut counts = self.live.counts.lock();
        if counts.sessions >= most {
            return false;
        }
        // In one step under the lock, so that a connection is never counted twice or not at all.
        counts.sessions += 1;
        counts.handshakes -= 1;
        self.is_session = true;
        true
    }

    /// Puts the connection's name into the extensions of its request.
    pub(super) fn introduce(&self, parts: &mut http::request::Parts) {
        self.held.introduce(parts);
    }

    /// Returns the same seat, for the session's transport.
    pub(super) fn held(&self) -> Arc<drain::Seat> {
        self.held.clone()
    }

    /// Runs `work`, which owns this seat, until it ends or all sessions are cut.
    pub(super) fn attend<F: Future<Output = ()>>(self, work: impl FnOnce(Self) -> F) -> Attended<F> {
        let held = self.held();
        Attended::new(work(self), Some(held))
    }
}

impl Drop for SessionSeat {
    fn drop(&mut self) {
        let mut counts = self.live.counts.lock();
        if self.is_session {
            counts.sessions -= 1;
        } else {
            counts.handshakes -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_seats_and_each_is_free_again() {
        let live = Arc::new(LiveSessions::new(Drain::new()));
        let (first, _second) = (live.enter(2).unwrap(), live.enter(2).unwrap());
        assert!(live.enter(2).is_none());
        drop(first);
        assert!(live.enter(2).is_some());
        assert_eq!(live.sessions(), 0);
    }

    #[test]
    fn a_session_makes_room_for_another_handshake() {
        let live = Arc::new(LiveSessions::new(Drain::new()));
        let mut first = live.enter(1).unwrap();
        assert!(first.begin(1));
        let mut second = live.enter(1).unwrap();
        assert!(!second.begin(1));
        drop(first);
        assert!(second.begin(1));
        assert_eq!(live.sessions(), 1);
        drop(second);
        assert_eq!(*live.counts.lock(), Counts::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_the_last_and_not_for_ever() {
        let second = Duration::from_secs(1);
        let live = Arc::new(LiveSessions::new(Drain::new()));
        live.drain(second).await.unwrap();

        let run = |live: &Arc<LiveSessions>, time: Duration| {
            let mut seat = live.enter(9).unwrap();
            assert!(seat.begin(9));
            tokio::spawn(async move {
                let session = async |seat: SessionSeat| {
                    tokio::time::sleep(time).await;
                    drop(seat);
                };
                seat.attend(session).await;
            });
        };
        run(&live, second);
        live.drain(2 * second).await.unwrap();

        run(&live, 1000 * second);
        run(&live, 1000 * second);
        assert_eq!(live.drain(second).await, Err(2));
        live.emptied().await;
    }
}
