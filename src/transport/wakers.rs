//! Where transports keep the wakers of their tasks.
//!
//! | type | holds | protected by |
//! |---|---|---|
//! | [`WakerPair`] | the reader's and the writer's waker | atomics |
//! | [`WakerSlot`] | one waker | the `&mut` of its owner |
//! | [`PreparedWaker`] | a clone on its way into a locked slot | nothing: it lives on the stack, outside the lock |

use std::{
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use crate::sync::AtomicWaker;

/// The half of a transport whose task waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Reader,
    Writer,
}

/// The wakers of a transport's two halves, as one waker that wakes both.
///
/// A transport keeps one waker per direction, the newest. When one half makes the transport do the other's work
/// (reading has to write a pong, writing has to read a close), its own waker would replace the other half's. It passes
/// this waker instead.
#[derive(Debug, Default)]
pub(crate) struct WakerPair {
    pub(crate) reader: AtomicWaker,
    pub(crate) writer: AtomicWaker,
}

impl WakerPair {
    /// Creates a pair, and the waker that wakes both halves.
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let pair = Arc::new(Self::default());
        let waker = Waker::from(pair.clone());
        (pair, waker)
    }

    pub(crate) fn register(&self, half: Half, cx: &Context<'_>) {
        match half {
            Half::Reader => self.reader.register(cx.waker()),
            Half::Writer => self.writer.register(cx.waker()),
        }
    }

    pub(crate) fn wake_both(&self) {
        let (reader, writer) = (self.reader.take(), self.writer.take());
        // One task that polls both halves is woken once.
        if let Some(reader) = reader
            && !writer.as_ref().is_some_and(|writer| writer.will_wake(&reader))
        {
            reader.wake();
        }
        writer.into_iter().for_each(Waker::wake);
    }
}

impl Wake for WakerPair {
    fn wake(self: Arc<Self>) {
        self.wake_both();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_both();
    }
}

/// The waker of one task that waits, or none.
#[derive(Debug, Default)]
pub(crate) struct WakerSlot(Option<Waker>);

impl WakerSlot {
    /// Stores the task's waker, replacing any other. Clones it only if it wakes another task than the stored one.
    #[inline]
    pub(crate) fn register(&mut self, cx: &Context<'_>) {
        match &mut self.0 {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.0 = Some(cx.waker().clone()),
        }
    }

    /// Wakes the task, if one waits, and empties the slot.
    #[inline]
    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }

    /// Returns the stored waker and leaves it in place.
    pub(crate) fn get(&self) -> Option<&Waker> {
        self.0.as_ref()
    }
}

/// A waker on its way into a locked queue, and the replaced waker on its way out.
///
/// Cloning and dropping a waker runs executor code, which may do anything, including accessing this queue. Neither
/// happens under a lock: the clone is [prepared](Self::prepare) before locking, and a replaced waker is dropped with
/// this value after unlocking.
pub(crate) struct PreparedWaker<'a> {
    waker: &'a Waker,
    /// The clone to keep, or the replaced waker.
    spare: Option<Waker>,
    is_missing: bool,
    is_used: bool,
}

impl<'a> PreparedWaker<'a> {
    pub(crate) fn new(waker: &'a Waker) -> Self {
        Self { waker, spare: None, is_missing: false, is_used: false }
    }

    /// Clones the waker. Call it without a lock.
    pub(crate) fn prepare(&mut self) {
        self.spare = Some(self.waker.clone());
        (self.is_missing, self.is_used) = (false, false);
    }

    /// Returns whether a waker was needed and no clone was prepared. If so, unlock, [`prepare`](Self::prepare) and
    /// check again.
    pub(crate) fn is_missing(&self) -> bool {
        self.is_missing
    }

    /// Takes the prepared clone.
    pub(crate) fn take(&mut self) -> Option<Waker> {
        let waker = if self.is_used { None } else { self.spare.take() };
        self.is_missing = waker.is_none();
        self.is_used |= waker.is_some();
        waker
    }

    /// Stores the clone in `slot`, unless the waker there wakes the same task.
    pub(crate) fn keep_in(&mut self, slot: &mut Option<Waker>) {
        if slot.as_ref().is_some_and(|kept| kept.will_wake(self.waker)) {
            return;
        }
        if let Some(waker) = self.take() {
            self.spare = slot.replace(waker);
        }
    }
}

/// Polls `check`, which locks a queue and, if it has no result, keeps the waker there. Calls it again with a clone of
/// the waker if one was needed.
pub(crate) fn poll_prepared<R>(
    cx: &Context<'_>,
    mut check: impl FnMut(&mut PreparedWaker<'_>) -> Option<R>,
) -> Poll<R> {
    let mut prepared = PreparedWaker::new(cx.waker());
    loop {
        if let Some(result) = check(&mut prepared) {
            return Poll::Ready(result);
        }
        if !prepared.is_missing() {
            return Poll::Pending;
        }
        prepared.prepare();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn task() -> (Arc<Task>, Waker) {
        let task = Arc::new(Task::default());
        let waker = Waker::from(task.clone());
        (task, waker)
    }

    #[test]
    fn a_pair_wakes_each_half_once_per_registration() {
        let (pair, both) = WakerPair::new();
        let ((reader, reading), (writer, writing)) = (task(), task());
        pair.register(Half::Reader, &Context::from_waker(&reading));
        pair.register(Half::Writer, &Context::from_waker(&writing));
        both.wake_by_ref();
        both.wake_by_ref();
        assert_eq!((reader.0.load(Relaxed), writer.0.load(Relaxed)), (1, 1));
        pair.register(Half::Writer, &Context::from_waker(&writing));
        both.wake();
        assert_eq!((reader.0.load(Relaxed), writer.0.load(Relaxed)), (1, 2));
    }

    #[test]
    fn a_pair_wakes_one_task_that_polls_both_halves_once() {
        let (pair, both) = WakerPair::new();
        let (both_halves, polling) = task();
        for half in [Half::Reader, Half::Writer] {
            pair.register(half, &Context::from_waker(&polling));
        }
        both.wake();
        assert_eq!(both_halves.0.load(Relaxed), 1);
    }

    #[test]
    fn a_slot_wakes_the_newest_task_once_and_clones_the_same_waker_once() {
        let ((first, first_waker), (second, second_waker)) = (task(), task());
        let mut slot = WakerSlot::default();
        slot.wake();
        slot.register(&Context::from_waker(&first_waker));
        slot.register(&Context::from_waker(&first_waker));
        assert_eq!(Arc::strong_count(&first), 3);
        slot.register(&Context::from_waker(&second_waker));
        assert_eq!(Arc::strong_count(&first), 2);
        slot.wake();
        slot.wake();
        assert_eq!((first.0.load(Relaxed), second.0.load(Relaxed)), (0, 1));
    }

    #[test]
    fn a_prepared_waker_replaces_only_another_tasks_waker() {
        let ((first, first_waker), (_second, second_waker)) = (task(), task());
        let mut slot = None;
        let mut prepared = PreparedWaker::new(&first_waker);
        prepared.keep_in(&mut slot);
        assert!(prepared.is_missing() && slot.is_none());
        prepared.prepare();
        prepared.keep_in(&mut slot);
        assert!(!prepared.is_missing() && slot.as_ref().is_some_and(|waker| waker.will_wake(&first_waker)));
        drop(prepared);

        let mut prepared = PreparedWaker::new(&second_waker);
        prepared.prepare();
        prepared.keep_in(&mut slot);
        assert!(slot.as_ref().is_some_and(|waker| waker.will_wake(&second_waker)));
        // The replaced waker lives until the lock would be released.
        assert_eq!(Arc::strong_count(&first), 3);
        drop(prepared);
        assert_eq!(Arc::strong_count(&first), 2);
    }
}

#[cfg(all(test, model))]
mod models {
    use loom::{
        sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
        thread,
    };

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// The rule for every user of a pair: a wake-up follows each change, and a task looks again after it has
    /// registered. The flag itself needs no ordering.
    #[test]
    fn a_half_that_registers_and_then_looks_sees_the_change_or_is_woken() {
        loom::model(|| {
            let (pair, waker_of_both) = WakerPair::new();
            let has_changed = Arc::new(AtomicBool::new(false));
            let changing = thread::spawn({
                let has_changed = has_changed.clone();
                move || {
                    has_changed.store(true, Relaxed);
                    waker_of_both.wake();
                }
            });
            let tasks = [(); 2].map(|()| Arc::new(Task::default()));
            let saw = [Half::Reader, Half::Writer].map(|half| {
                let task = if half == Half::Reader { &tasks[0] } else { &tasks[1] };
                pair.register(half, &Context::from_waker(&Waker::from(task.clone())));
                has_changed.load(Relaxed)
            });
            let Ok(()) = changing.join() else { return };
            for (task, saw) in tasks.iter().zip(saw) {
                assert!(saw || task.0.load(Relaxed) > 0, "the wake-up was lost");
            }
        });
    }

    /// Two tasks that take turns with one half: the newest is woken.
    #[test]
    fn a_change_during_a_handover_reaches_the_task_that_registered_last() {
        loom::model(|| {
            let (pair, waker_of_both) = WakerPair::new();
            let has_changed = Arc::new(AtomicBool::new(false));
            let tasks = [(); 2].map(|()| Arc::new(Task::default()));
            pair.register(Half::Reader, &Context::from_waker(&Waker::from(tasks[0].clone())));
            let changing = thread::spawn({
                let has_changed = has_changed.clone();
                move || {
                    has_changed.store(true, Relaxed);
                    waker_of_both.wake();
                }
            });
            pair.register(Half::Reader, &Context::from_waker(&Waker::from(tasks[1].clone())));
            let saw = has_changed.load(Relaxed);
            let Ok(()) = changing.join() else { return };
            assert!(saw || tasks[1].0.load(Relaxed) > 0, "the wake-up was lost");
        });
    }
}
