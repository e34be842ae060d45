//! The one waker that a client's transport ever sees.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering::SeqCst},
    },
    task::{Wake, Waker},
};

/// Something happened since the transport was last polled.
const RUNG: u8 = 1;
/// Somebody is at work under the client's lock, and looks at the bell before leaving.
const HUSHED: u8 = 2;

/// Wakes the leader of a client when the transport can go on.
///
/// The transport is polled with this waker whoever polls it: so the lead can pass from call to call without polling the
/// transport again, and a transport that keeps one waker for both directions forgets nobody. Ringing takes no lock of the
/// client. While somebody works under that lock, a ring is only noted, so that no foreign code runs there.
#[derive(Default)]
pub(super) struct Bell {
    state: AtomicU8,
    leader: Mutex<Option<Waker>>,
}

/// The bell while it is hushed. Dropped in a panic, it wakes the leader, if it was rung.
pub(super) struct Hushed<'a>(&'a Bell);

impl Bell {
    pub(super) fn hush(&self) -> Hushed<'_> {
        self.state.fetch_or(HUSHED, SeqCst);
        Hushed(self)
    }

    fn swap(&self, leader: Option<Waker>) -> Option<Waker> {
        std::mem::replace(&mut *self.leader.lock().unwrap_or_else(PoisonError::into_inner), leader)
    }
}

impl Hushed<'_> {
    /// Whether it was rung, and nobody has looked since.
    pub(super) fn is_rung(&self) -> bool {
        self.0.state.load(SeqCst) & RUNG != 0
    }

    /// Forgets that it was rung: the transport is going to be polled.
    pub(super) fn clear(&self) {
        self.0.state.fetch_and(!RUNG, SeqCst);
    }

    /// Rings: somebody must poll the transport.
    pub(super) fn ring(&self) {
        self.0.state.fetch_or(RUNG, SeqCst);
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
        let rung = self.0.state.fetch_and(!HUSHED, SeqCst) & RUNG != 0;
        std::mem::forget(self);
        rung
    }
}

impl Drop for Hushed<'_> {
    fn drop(&mut self) {
        if self.0.state.fetch_and(!HUSHED, SeqCst) & RUNG != 0 {
            if let Some(leader) = self.0.swap(None) {
                leader.wake();
            }
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Rung already, its leader has been woken; hushed, whoever hushed it will see to it.
        if self.state.fetch_or(RUNG, SeqCst) == 0 {
            if let Some(leader) = self.swap(None) {
                leader.wake();
            }
        }
    }
}
