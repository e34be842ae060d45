//! The only waker that a client's transport ever sees.

use std::{
    sync::{Arc, PoisonError},
    task::{Wake, Waker},
};

use crate::sync::{
    Mutex,
    atomic::{
        AtomicBool,
        Ordering::{Relaxed, SeqCst},
    },
};

/// Wakes the leader of a client when the transport can make progress.
///
/// The transport is always polled with this waker, regardless of the polling task. The lead can therefore pass from
/// call to call without polling the transport again, and a transport that keeps one waker for both directions loses no
/// wake-up. Ringing takes no lock of the client. While a task works under that lock, a ring is only noted, so that no
/// foreign code runs there.
#[derive(Default)]
pub(super) struct Bell {
    /// Whether something happened since the transport was last polled.
    rung: AtomicBool,
    /// Whether a task is working under the client's lock. That task checks `rung` after it clears this flag.
    hushed: AtomicBool,
    leader: Mutex<Option<Waker>>,
}

/// The bell while it is hushed. If a panic drops it, it wakes the leader if the bell was rung.
pub(super) struct Hushed<'a>(&'a Bell);

impl Bell {
    /// Must be called under the client's lock.
    pub(super) fn hush(&self) -> Hushed<'_> {
        // Only this thread must see the store; another thread that does not see it may wake the leader.
        self.hushed.store(true, Relaxed);
        Hushed(self)
    }

    /// Either this load sees a ring, or the ring sees that the bell is open: the later of the two reads what the
    /// earlier one wrote.
    fn open(&self) -> bool {
        self.hushed.store(false, SeqCst);
        self.rung.load(SeqCst)
    }

    fn swap(&self, leader: Option<Waker>) -> Option<Waker> {
        std::mem::replace(&mut *self.leader.lock().unwrap_or_else(PoisonError::into_inner), leader)
    }
}

impl Hushed<'_> {
    /// Returns whether the bell was rung since it was last cleared.
    pub(super) fn is_rung(&self) -> bool {
        self.0.rung.load(SeqCst)
    }

    /// Clears the ring, because the transport is about to be polled.
    pub(super) fn clear(&self) {
        self.0.rung.swap(false, SeqCst);
    }

    /// Sets the waker that a ring wakes from now on. Returns a waker that must be dropped outside the lock.
    pub(super) fn arm(&self, leader: Option<&Waker>) -> Option<Waker> {
        let mut slot = self.0.leader.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*slot, leader) {
            (Some(old), Some(new)) if old.will_wake(new) => None,
            _ => std::mem::replace(&mut *slot, leader.cloned()),
        }
    }

    /// Lets the bell ring again. Returns whether it was rung in the meantime; the caller must then wake the leader.
    #[must_use]
    pub(super) fn open(self) -> bool {
        let bell = self.0;
        std::mem::forget(self);
        bell.open()
    }
}

impl Drop for Hushed<'_> {
    fn drop(&mut self) {
        if self.0.open()
            && let Some(leader) = self.0.swap(None)
        {
            leader.wake();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // If it was rung before, its leader has been woken. If it is hushed, the task that hushed it handles the ring.
        if !self.rung.swap(true, SeqCst)
            && !self.hushed.load(SeqCst)
            && let Some(leader) = self.swap(None)
        {
            leader.wake();
        }
    }
}

#[cfg(all(test, model))]
mod models {
    use loom::thread;

    use super::*;
    use crate::sync::atomic::AtomicUsize;

    /// A task that counts how often it was woken. Its counter is std's: it takes no part in the protocol.
    #[derive(Default)]
    struct Task(std::sync::atomic::AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    impl Task {
        fn is_woken(&self) -> bool {
            self.0.load(SeqCst) > 0
        }
    }

    /// A transport that makes progress once, and rings after it.
    #[derive(Clone)]
    struct Transport {
        progress: Arc<AtomicUsize>,
        bell: Arc<Bell>,
    }

    impl Transport {
        fn new() -> Self {
            Self { progress: Arc::new(AtomicUsize::new(0)), bell: Arc::default() }
        }

        fn advance(&self) {
            self.progress.store(1, SeqCst);
            self.bell.wake_by_ref();
        }

        /// A section under the client's lock, which makes `task` the leader. Returns whether it saw the progress.
        fn section(&self, task: &Arc<Task>, polls: bool) -> bool {
            let waker = Waker::from(task.clone());
            let hushed = self.bell.hush();
            let mut seen = false;
            if polls || hushed.is_rung() {
                hushed.clear();
                seen = self.progress.load(SeqCst) > 0;
            }
            let old = hushed.arm(Some(&waker));
            if hushed.open() {
                waker.wake_by_ref();
            }
            drop(old);
            seen
        }
    }

    #[test]
    fn progress_is_seen_by_the_poll_or_wakes_the_leader() {
        loom::model(|| {
            let transport = Transport::new();
            let task = Arc::<Task>::default();
            let other = transport.clone();
            let ring = thread::spawn(move || other.advance());
            let seen = transport.section(&task, true);
            ring.join().unwrap();
            assert!(seen || task.is_woken());
        });
    }

    #[test]
    fn a_lead_that_passes_on_during_a_ring_loses_nothing() {
        loom::model(|| {
            let transport = Transport::new();
            let tasks = [(); 2].map(|()| Arc::<Task>::default());
            assert!(!transport.section(&tasks[0], true));
            let other = transport.clone();
            let ring = thread::spawn(move || other.advance());
            // The new leader does not poll unless the bell was rung.
            let seen = transport.section(&tasks[1], false);
            ring.join().unwrap();
            assert!(seen || tasks.iter().any(|task| task.is_woken()));
            // The last leader at least, unless the first one was woken before the lead passed on: then the bell stays
            // rung, and whoever comes next polls.
            assert!(seen || tasks[1].is_woken() || transport.bell.hush().is_rung());
        });
    }
}
