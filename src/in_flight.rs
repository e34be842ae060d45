//! The futures of a service that are in flight: calls that a server answers, messages that a filter examines.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use crate::{
    sync::{
        atomic::{AtomicBool, Ordering::SeqCst},
        checked::Mutex,
    },
    transport::wakers::PreparedWaker,
};

/// A set of futures that reuses its memory and gives each future its own waker. Only woken futures are polled, and a
/// future that takes the slot of a finished one allocates nothing.
///
/// It replaces futures' `FuturesOrdered` and `FuturesUnordered`, which allocate for each future.
pub(crate) struct InFlight<F, Tag, Answer> {
    slots: Vec<Slot<F, Tag, Answer>>,
    free: Vec<usize>,
    /// All futures in arrival order (ordered mode), or the finished ones in completion order.
    order: VecDeque<usize>,
    /// How many of the finished ones were cancelled, so that their answers are gone. Only in completion order.
    #[cfg(feature = "peer")]
    discarded: usize,
    in_order: bool,
    woken: Arc<Woken>,
}

/// The number of discarded answers whose slots are kept without looking for them.
#[cfg(feature = "peer")]
const DISCARDED: usize = 32;

struct Slot<F, Tag, Answer> {
    future: Pin<Box<Option<F>>>,
    tag: Option<Tag>,
    answer: Option<Answer>,
    slot_waker: Arc<SlotWaker>,
    /// The same, as a waker.
    waker: Waker,
}

/// The set of futures that were woken.
#[derive(Default)]
struct Woken(Mutex<WokenSlots>);

#[derive(Default)]
struct WokenSlots {
    slots: VecDeque<usize>,
    task: Option<Waker>,
}

/// The waker of one slot. A late wake of a finished future polls its successor once without need.
struct SlotWaker {
    slot: usize,
    queued: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Only the first wake after a poll queues the slot, so the queue has at most one entry for each slot.
        if !self.queued.swap(true, SeqCst) {
            let mut queue = self.woken.0.lock();
            queue.slots.push_back(self.slot);
            // The task is woken without the lock. Its next `poll` registers again.
            let task = queue.task.take();
            drop(queue);
            if let Some(task) = task {
                task.wake();
            }
        }
    }
}

impl<F, Tag, Answer, E> InFlight<F, Tag, Answer>
where
    F: Future<Output = Result<Answer, E>>,
{
    pub(crate) fn new(in_order: bool) -> Self {
        let woken = Arc::new(Woken::default());
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            #[cfg(feature = "peer")]
            discarded: 0,
            in_order,
            woken,
        }
    }

    /// Returns the number of futures that are not finished or whose answers have not been taken.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Adds a future and polls it. Before it waits, the task calls [`poll`](Self::poll), which registers for later
    /// wakes.
    pub(crate) fn push(&mut self, tag: Tag, future: F) -> Result<(), E> {
        let index = self.insert(tag, future);
        self.poll_future(index)
    }

    /// Adds a future without polling it. Returns its slot, which it keeps until its answer is taken.
    pub(crate) fn insert(&mut self, tag: Tag, future: F) -> usize {
        let index = self.free.pop().unwrap_or_else(|| self.add_slot());
        if let Some(slot) = self.slots.get_mut(index) {
            slot.future.set(Some(future));
            slot.tag = Some(tag);
        }
        if self.in_order {
            self.order.push_back(index);
        }
        // A wake left over from the previous future stays queued. An index is therefore in the queue at most once, even
        // if immediately ready futures come and go between two calls of `poll`.
        index
    }

    /// Drops the future in a slot, or the answer of a finished one. Only for a set that is not in order.
    #[cfg(feature = "peer")]
    pub(crate) fn cancel(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.tag = None;
        if slot.future.is_some() {
            // Dropped before the slot is free: the drop of a future is the user's code, and may panic.
            slot.future.set(None);
            self.free.push(index);
        } else if let Some(answer) = slot.answer.take() {
            self.discarded += 1;
            self.sweep();
            drop(answer);
        }
    }

    /// Frees the slots of answers that were discarded: those at the front, and the others once they are the majority.
    #[cfg(feature = "peer")]
    fn sweep(&mut self) {
        let has_answer = |slots: &[Slot<F, Tag, Answer>], index: usize| {
            slots.get(index).is_some_and(|slot: &Slot<F, Tag, Answer>| slot.answer.is_some())
        };
        if self.discarded > DISCARDED + self.order.len() / 2 {
            self.order.retain(|index| {
                let keep = has_answer(&self.slots, *index);
                if !keep {
                    self.free.push(*index);
                }
                keep
            });
            self.discarded = 0;
        }
        while self.discarded > 0
            && let Some(index) = self.order.front().copied()
            && !has_answer(&self.slots, index)
        {
            self.order.pop_front();
            self.free.push(index);
            self.discarded -= 1;
        }
    }

    /// Like [`push`](Self::push), but returns the answer of an immediately ready future with nothing ahead of it,
    /// bypassing the queues.
    pub(crate) fn start(&mut self, tag: Tag, future: F) -> Result<Option<(Tag, Answer)>, E> {
        // In order, an answer that is given at once would overtake those in flight.
        if self.len() > 0 {
            return self.push(tag, future).map(|()| None);
        }
        let index = self.free.pop().unwrap_or_else(|| self.add_slot());
        let Some(slot) = self.slots.get_mut(index) else { return Ok(None) };
        slot.future.set(Some(future));
        if let Some(future) = slot.future.as_mut().as_pin_mut()
            && let Poll::Ready(answer) = future.poll(&mut Context::from_waker(&slot.waker))
        {
            // Dropped before the slot is free: the drop of a future is the user's code, and may panic.
            slot.future.set(None);
            self.free.push(index);
            return Ok(Some((tag, answer?)));
        }
        slot.tag = Some(tag);
        if self.in_order {
            self.order.push_back(index);
        }
        Ok(None)
    }

    fn add_slot(&mut self) -> usize {
        let slot = self.slots.len();
        let slot_waker = Arc::new(SlotWaker { slot, queued: AtomicBool::new(false), woken: self.woken.clone() });
        let waker = Waker::from(slot_waker.clone());
        self.slots.push(Slot { future: Box::pin(None), tag: None, answer: None, slot_waker, waker });
        slot
    }

    /// Polls each woken future at most once; later wakes go to the task of `cx`. Returns whether anything was polled.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Result<bool, E> {
        let mut prepared = PreparedWaker::new(cx.waker());
        let due = loop {
            let mut queue = self.woken.0.lock();
            prepared.keep_in(&mut queue.task);
            let due = queue.slots.len();
            drop(queue);
            if !prepared.is_missing() {
                break due;
            }
            prepared.prepare();
        };
        drop(prepared);
        // Only those that were woken before: a future that wakes itself is polled again with the next call, and does
        // not keep the task from its other work.
        for _ in 0..due {
            // One lock for each slot, so that none is held while a future of the user is polled.
            let next = self.woken.0.lock().slots.pop_front();
            if let Some(index) = next {
                self.poll_slot(index)?;
            }
        }
        Ok(due > 0)
    }

    fn poll_slot(&mut self, index: usize) -> Result<(), E> {
        let Some(slot) = self.slots.get_mut(index) else { return Ok(()) };
        // From here on a wake counts again: this poll sees its effect, or the wake is queued.
        slot.slot_waker.queued.swap(false, SeqCst);
        self.poll_future(index)
    }

    /// Polls the future in a slot, whether or not it was woken.
    pub(crate) fn poll_future(&mut self, index: usize) -> Result<(), E> {
        let Some(slot) = self.slots.get_mut(index) else { return Ok(()) };
        let Some(future) = slot.future.as_mut().as_pin_mut() else { return Ok(()) };
        if let Poll::Ready(answer) = future.poll(&mut Context::from_waker(&slot.waker)) {
            slot.future.set(None);
            slot.answer = Some(answer?);
            if !self.in_order {
                self.order.push_back(index);
            }
        }
        Ok(())
    }

    /// Drops the answer of the future in a slot, if the last poll has finished it. Only for a set that is not in order.
    #[cfg(feature = "peer")]
    pub(crate) fn discard_newest(&mut self, index: usize) -> bool {
        let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.answer.is_some()) else { return false };
        let answer = slot.answer.take();
        slot.tag = None;
        self.free.push(index);
        self.order.pop_back();
        drop(answer);
        true
    }

    /// Returns the next answer in order.
    pub(crate) fn front(&self) -> Option<&Answer> {
        self.slots.get(*self.order.front()?)?.answer.as_ref()
    }

    /// Returns the tags of all that are in the order.
    #[cfg(all(test, feature = "peer"))]
    pub(crate) fn tags(&self) -> impl Iterator<Item = &Tag> {
        self.order.iter().filter_map(|index| self.slots.get(*index)?.tag.as_ref())
    }

    /// Takes the next answer in order.
    pub(crate) fn pop(&mut self) -> Option<(Tag, Answer)> {
        let index = *self.order.front()?;
        let slot = self.slots.get_mut(index)?;
        let answer = slot.answer.take()?;
        let tag = slot.tag.take()?;
        self.order.pop_front();
        self.free.push(index);
        #[cfg(feature = "peer")]
        self.sweep();
        Some((tag, answer))
    }

    /// Drops every future and answer.
    pub(crate) fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.future.set(None);
        }
        self.slots.clear();
        self.free.clear();
        self.order.clear();
        #[cfg(feature = "peer")]
        {
            self.discarded = 0;
        }
        self.woken.0.lock().slots.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::poll_fn};

    use super::*;

    #[test]
    fn wakes_of_futures_that_are_ready_at_once_do_not_pile_up() {
        let mut in_flight = InFlight::new(true);
        let ready = || {
            poll_fn(|cx| {
                cx.waker().wake_by_ref();
                Poll::Ready(Ok::<_, Infallible>(1))
            })
        };
        for _ in 0..1000 {
            let Ok(answer) = in_flight.start((), ready());
            assert_eq!(answer, Some(((), 1)));
            let Ok(()) = in_flight.push((), ready());
            assert_eq!(in_flight.pop(), Some(((), 1)));
        }
        assert_eq!(in_flight.woken.0.lock().slots.len(), 1);
    }

    /// The set may be asked for its front at any time, so a discarded answer never stands there.
    #[cfg(feature = "peer")]
    #[test]
    fn answers_that_are_cancelled_free_their_slots_in_any_order() {
        let mut in_flight = InFlight::new(false);
        let mut slots = VecDeque::new();
        for number in 0..10_000_usize {
            slots.push_back((number, in_flight.insert(number, std::future::ready(Ok::<_, Infallible>(number)))));
            let Ok(()) = in_flight.poll_future(slots[slots.len() - 1].1);
            if slots.len() > 100 {
                // From the front, the back and the middle in turn.
                let (cancelled, slot) = match number % 3 {
                    0 => slots.pop_front().unwrap(),
                    1 => slots.pop_back().unwrap(),
                    _ => slots.remove(slots.len() / 2).unwrap(),
                };
                in_flight.cancel(slot);
                assert!(slots.iter().all(|(number, _)| *number != cancelled));
            }
            assert_eq!(in_flight.front(), slots.front().map(|(number, _)| number));
            assert!(in_flight.slots.len() < 100 + 100 + 3 * DISCARDED, "{}", in_flight.slots.len());
        }
        while let Some((number, _)) = slots.pop_front() {
            assert_eq!(in_flight.pop(), Some((number, number)));
        }
        assert!(in_flight.pop().is_none());
        assert_eq!((in_flight.len(), in_flight.discarded), (0, 0));
    }

    #[test]
    fn a_wake_that_is_left_from_the_future_before_hides_none_of_the_next() {
        let mut in_flight = InFlight::new(true);
        let mut polls = 0;
        for answer in [0, 3] {
            let polled = poll_fn(move |cx| {
                polls += 1;
                cx.waker().wake_by_ref();
                if polls > answer { Poll::Ready(Ok::<_, Infallible>(answer)) } else { Poll::Pending }
            });
            let Ok(()) = in_flight.push((), polled);
            while in_flight.front().is_none() {
                let Ok(polled) = in_flight.poll(&Context::from_waker(Waker::noop()));
                assert!(polled, "the wake was lost");
            }
            assert_eq!(in_flight.pop(), Some(((), answer)));
        }
    }
}

#[cfg(all(test, model))]
mod models {
    use std::{convert::Infallible, future::poll_fn};

    use loom::{
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        thread,
    };

    use super::*;

    /// Counts the wakes of the set's task.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// A future that is ready once the thread that received its waker sets `ready`.
    fn wait_for(
        ready: Arc<AtomicBool>,
        wakers: Arc<Mutex<Vec<Waker>>>,
    ) -> impl Future<Output = Result<usize, Infallible>> {
        poll_fn(move |cx| {
            if ready.load(SeqCst) {
                return Poll::Ready(Ok(7));
            }
            wakers.lock().push(cx.waker().clone());
            if ready.load(SeqCst) { Poll::Ready(Ok(7)) } else { Poll::Pending }
        })
    }

    #[test]
    fn a_wake_from_another_thread_is_polled_or_wakes_the_task() {
        loom::model(|| {
            let (ready, wakers) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
            let mut set = InFlight::new(true);
            let Ok(()) = set.push((), wait_for(ready.clone(), wakers.clone()));
            let other = thread::spawn(move || {
                ready.store(true, SeqCst);
                let woken = std::mem::take(&mut *wakers.lock());
                woken.into_iter().for_each(Waker::wake);
            });
            let task = Arc::new(Task::default());
            let waker = Waker::from(task.clone());
            let Ok(_) = set.poll(&Context::from_waker(&waker));
            let is_done = set.front().is_some();
            let Ok(()) = other.join().map_err(|_| ()) else { return };
            if !is_done {
                // Nothing was seen before the task went to sleep, so it must have been woken and then find the answer.
                assert_eq!(task.0.load(Relaxed), 1, "the wake was lost");
                let Ok(polled) = set.poll(&Context::from_waker(&waker));
                assert!(polled && set.front().is_some());
            }
        });
    }

    #[test]
    fn a_late_wake_of_a_future_that_is_done_hides_no_wake_of_the_next() {
        loom::model(|| {
            let mut set = InFlight::new(true);
            let (first, second) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
            let kept = Arc::new(Mutex::new(Vec::new()));
            let keeping = kept.clone();
            let Ok(()) = set.push(
                (),
                poll_fn(move |cx: &mut Context<'_>| {
                    if first.swap(false, SeqCst) {
                        keeping.lock().push(cx.waker().clone());
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    if second.load(SeqCst) { Poll::Ready(Ok::<_, Infallible>(1)) } else { Poll::Pending }
                }),
            );
            let late = std::mem::take(&mut *kept.lock());
            let other = thread::spawn(move || late.into_iter().for_each(Waker::wake));
            let task = Arc::new(Task::default());
            let waker = Waker::from(task.clone());
            let Ok(polled) = set.poll(&Context::from_waker(&waker));
            assert!(polled, "the first wake came before");
            let Ok(()) = other.join().map_err(|_| ()) else { return };
            let queued = set.woken.0.lock().slots.len();
            assert!(queued <= 1, "an index is queued at most once");
            assert_eq!(queued, task.0.load(Relaxed).min(1), "what is queued has woken the task");
        });
    }
}
