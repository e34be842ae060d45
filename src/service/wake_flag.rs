//! The only waker that a client's transport ever sees.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use crate::sync::{
    atomic::{
        AtomicBool,
        Ordering::{Relaxed, SeqCst},
    },
    checked::Mutex,
};
use crate::transport::wakers::PreparedWaker;

/// Wakes the leader of a client when the transport can make progress.
///
/// The transport is always polled with this waker, regardless of the polling task. The lead can therefore pass from
/// call to call without polling the transport again, and a transport that keeps one waker for both directions loses no
/// wake-up. The waker of a client's transport must be `Send` and `'static`, which the client need not be, so the flag
/// is a value of its own with a lock of its own. While a task polls the transport, wakes are deferred: that task looks
/// again anyway, and a leader on another thread would come in vain.
///
/// | `is_set` | `is_deferred` | a wake of the transport | the leader's waker |
/// |---|---|---|---|
/// | no | no | sets the flag and wakes the leader | is taken by the wake |
/// | no | yes | sets the flag; the task with the transport wakes the leader when it [resumes](Self::resume) | stays |
/// | yes | any | does nothing: the leader has been woken, or will be when the wakes resume | stays |
///
/// The flag is cleared directly before the transport is polled. A task that passes the lead on looks at the flag after
/// that, because the wake may have reached the previous leader.
///
/// The wakers of the handles that wait for a place are here, too. While the leader is one of them, a wake reaches all:
/// the future that polled a handle may have been dropped, and nobody could tell which of the handles still comes.
#[derive(Default)]
pub(super) struct WakeFlag {
    /// Whether something happened since the transport was last polled.
    is_set: AtomicBool,
    /// Whether a task is polling the transport. That task checks `is_set` after it clears this flag.
    is_deferred: AtomicBool,
    wakers: Mutex<Wakers>,
}

#[derive(Default)]
struct Wakers {
    leader: Option<Waker>,
    /// The wakers of the handles in line, each at the index that is its key in the line.
    line: Vec<Option<Waker>>,
    /// Whether the line leads.
    line_leads: bool,
}

impl Wakers {
    /// Takes the wakers of those who lead.
    fn take(&mut self) -> impl Iterator<Item = Waker> + use<> {
        let line = if self.line_leads { std::mem::take(&mut self.line) } else { Vec::new() };
        self.leader.take().into_iter().chain(line.into_iter().flatten())
    }
}

impl WakeFlag {
    /// Defers wakes until [`resume`](Self::resume). Called by the only task that polls the transport.
    pub(super) fn defer(&self) {
        // Only this thread must see the store; another thread that does not see it may wake the leader.
        self.is_deferred.store(true, Relaxed);
    }

    /// Wakes are no longer deferred. Returns whether there was one; the caller must then wake the leader.
    #[must_use = "the leader may have to be woken"]
    pub(super) fn resume(&self) -> bool {
        // Sequentially consistent on both sides: either this load sees the wake, or the wake sees that it is not
        // deferred. With weaker orderings, both could miss the other and the leader would sleep on.
        self.is_deferred.store(false, SeqCst);
        fence_for_loom();
        self.is_set.load(SeqCst)
    }

    /// Returns whether the transport woke the flag since it was last cleared.
    pub(super) fn is_set(&self) -> bool {
        self.is_set.load(SeqCst)
    }

    /// Clears the flag, because the transport is about to be polled.
    pub(super) fn clear(&self) {
        // A swap, because it also reads: the poll must see everything that the transport did before its last wake.
        self.is_set.swap(false, SeqCst);
    }

    /// Replaces the waker of the leader. If `line_leads`, the leader is the line, and the waker is `None`.
    pub(super) fn swap(&self, leader: Option<Waker>, line_leads: bool) -> Option<Waker> {
        let mut wakers = self.wakers.lock();
        wakers.line_leads = line_leads;
        std::mem::replace(&mut wakers.leader, leader)
    }

    /// Keeps the waker of the task that is the leader already.
    pub(super) fn keep(&self, prepared: &mut PreparedWaker<'_>) {
        prepared.keep_in(&mut self.wakers.lock().leader);
    }

    /// Returns whether the leader's waker is here.
    pub(super) fn has_waker(&self) -> bool {
        self.wakers.lock().leader.is_some()
    }

    /// Returns whether the waker of any handle in line is here.
    pub(super) fn has_waker_in_line(&self) -> bool {
        self.wakers.lock().line.iter().any(Option::is_some)
    }

    /// Keeps the waker of a handle in line.
    pub(super) fn keep_in_line(&self, key: usize, prepared: &mut PreparedWaker<'_>) {
        let line = &mut self.wakers.lock().line;
        if line.len() <= key {
            line.resize_with(key + 1, || None);
        }
        if let Some(slot) = line.get_mut(key) {
            prepared.keep_in(slot);
        }
    }

    /// Takes the waker of a handle in line.
    pub(super) fn take_from_line(&self, key: usize) -> Option<Waker> {
        self.wakers.lock().line.get_mut(key)?.take()
    }

    /// Takes the wakers of those who lead.
    pub(super) fn take(&self) -> impl Iterator<Item = Waker> + use<> {
        self.wakers.lock().take()
    }
}

/// loom treats sequentially consistent accesses as acquires and releases. This fence gives it back the total order of a
/// store and the load that follows, which they have without it outside of loom.
#[inline]
fn fence_for_loom() {
    #[cfg(model)]
    crate::sync::atomic::fence(SeqCst);
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_set.swap(true, SeqCst) {
            return;
        }
        fence_for_loom();
        if !self.is_deferred.load(SeqCst) {
            let leaders = self.take();
            leaders.for_each(Waker::wake);
        }
    }
}

#[cfg(all(test, model))]
mod models {
    use std::{
        sync::Arc,
        task::{Wake, Waker},
    };

    use loom::thread;

    use crate::{
        service::wake_flag::WakeFlag,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
    };

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

    /// A transport that makes progress once, and wakes the flag after it.
    #[derive(Clone)]
    struct Transport {
        progress: Arc<AtomicUsize>,
        flag: Arc<WakeFlag>,
    }

    impl Transport {
        fn new() -> Self {
            Self { progress: Arc::new(AtomicUsize::new(0)), flag: Arc::default() }
        }

        fn advance(&self) {
            self.progress.store(1, SeqCst);
            self.flag.wake_by_ref();
        }

        /// A poll of a call, which makes `task` the leader. Returns whether it saw the progress.
        fn section(&self, task: &Arc<Task>, polls: bool) -> bool {
            let waker = Waker::from(task.clone());
            let mut seen = false;
            if !polls && !self.flag.is_set() {
                // The lead passes on without a poll: the flag is looked at after its waker is replaced.
                drop(self.flag.swap(Some(waker.clone()), false));
                if self.flag.is_set() {
                    waker.wake();
                }
                return seen;
            }
            self.flag.defer();
            self.flag.clear();
            seen |= self.progress.load(SeqCst) > 0;
            drop(self.flag.swap(Some(waker.clone()), false));
            if self.flag.resume() {
                waker.wake();
            }
            seen
        }
    }

    #[test]
    fn progress_is_seen_by_the_poll_or_wakes_the_leader() {
        loom::model(|| {
            let transport = Transport::new();
            let task = Arc::<Task>::default();
            let other = transport.clone();
            let advance = thread::spawn(move || other.advance());
            let seen = transport.section(&task, true);
            advance.join().unwrap();
            assert!(seen || task.is_woken());
        });
    }

    #[test]
    fn a_lead_that_passes_on_during_a_wake_loses_nothing() {
        loom::model(|| {
            let transport = Transport::new();
            let tasks = [(); 2].map(|()| Arc::<Task>::default());
            assert!(!transport.section(&tasks[0], true));
            let other = transport.clone();
            let advance = thread::spawn(move || other.advance());
            // The new leader does not poll unless the flag is set.
            let seen = transport.section(&tasks[1], false);
            advance.join().unwrap();
            assert!(seen || tasks.iter().any(|task| task.is_woken()));
            // The last leader at least, unless the first one was woken before the lead passed on: then the flag stays
            // set, and the next task that comes polls.
            assert!(seen || tasks[1].is_woken() || transport.flag.is_set());
        });
    }
}
