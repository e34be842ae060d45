//! The one waker that a client's transport ever sees.

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

/// Wakes the leader of a client when the transport can go on.
///
/// The transport is polled with this waker whoever polls it: so the lead can pass from call to call without polling the
/// transport again, and a transport that keeps one waker for both directions forgets nobody. Ringing takes no lock of the
/// client. While somebody works under that lock, a ring is only noted, so that no foreign code runs there.
#[derive(Default)]
pub(super) struct Bell {
    /// Something happened since the transport was last polled.
    rung: AtomicBool,
    /// Somebody is at work under the client's lock, and looks at `rung` after leaving this.
    hushed: AtomicBool,
    leader: Mutex<Option<Waker>>,
}

/// The bell while it is hushed. Dropped in a panic, it wakes the leader, if it was rung.
pub(super) struct Hushed<'a>(&'a Bell);

impl Bell {
    /// Under the client's lock only.
    pub(super) fn hush(&self) -> Hushed<'_> {
        // It is this thread that must see it; another one that does not may well wake the leader.
        self.hushed.store(true, Relaxed);
        Hushed(self)
    }

    /// Either this sees a ring, or the ring sees that the bell is open: whoever comes second looks at what the first wrote.
    fn open(&self) -> bool {
        self.hushed.store(false, SeqCst);
        self.rung.load(SeqCst)
    }

    fn swap(&self, leader: Option<Waker>) -> Option<Waker> {
        std::mem::replace(&mut *self.leader.lock().unwrap_or_else(PoisonError::into_inner), leader)
    }
}

impl Hushed<'_> {
    /// Whether it was rung, and nobody has looked since.
    pub(super) fn is_rung(&self) -> bool {
        self.0.rung.load(SeqCst)
    }

    /// Forgets that it was rung: the transport is going to be polled.
    pub(super) fn clear(&self) {
        self.0.rung.swap(false, SeqCst);
    }

    /// Whom to wake from now on. Returns a waker that must be dropped outside the lock.
    pub(super) fn arm(&self, leader: Option<&Waker>) -> Option<Waker> {
        let mut slot = self.0.leader.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*slot, leader) {
            (Some(old), Some(new)) if old.will_wake(new) => None,
            _ => std::mem::replace(&mut *slot, leader.cloned()),
        }
    }

    /// Lets it ring again. Returns whether it was rung meanwhile: then the leader must be woken, by the caller.
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
        // Rung already, its leader has been woken; hushed, whoever hushed it will see to it.
        if !self.rung.swap(true, SeqCst)
            && !self.hushed.load(SeqCst)
            && let Some(leader) = self.swap(None)
        {
            leader.wake();
        }
    }
}
