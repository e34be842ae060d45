//! The only waker that a client's transport ever sees.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Wake, Waker},
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
