use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Waker,
};

use atomic_waker::AtomicWaker;

use super::outbox::{Fed, Next, Outbox};
use crate::{
    Error,
    sync::{Mutex, MutexGuard},
    transport::{
        QueueConfig,
        backlog::{Entry, KEPT, Measure},
        payload::Payload,
    },
};

/// The two queues that sender, receiver and driver share.
///
/// No user code runs under any of the locks: no drop of a message, no function of the [`QueueConfig`], no waker
/// (neither its wake nor its clone nor its drop), no formatter. Messages are inspected before locking. Values to drop
/// or wake are handed out, and dropped or woken after unlocking. A message whose drop sends another message is
/// therefore safe.
pub(super) struct Queues<Out, In> {
    pub(super) outbox: Mutex<Outbox<Out>>,
    pub(super) inbox: Mutex<Inbox<In>>,
    pub(super) measure: Measure<Out>,
    pub(super) incoming: Payload<In>,
    pub(super) driver: AtomicWaker,
    pub(super) receiver: AtomicWaker,
    /// Whether somebody has polled the driver, or has it spawned. A queue that is pulled needs none.
    is_driven: AtomicBool,
    #[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
    pub(super) close: PulledClose,
}

/// The close of a queue that is pulled. Its consumer is polled only while the HTTP server has room, so it cannot limit
/// the close: the future of [`Sender::close`](super::Sender::close) does.
#[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
pub(super) struct PulledClose {
    pub(super) is_pulled: bool,
    /// Whether a sender waits for the close. The consumer then reports each message that it passes on.
    pub(super) is_watched: std::sync::atomic::AtomicBool,
    pub(super) limit: std::time::Duration,
}

impl<Out, In> Queues<Out, In> {
    /// Creates the queues. `is_pulled` says that they have no driver.
    pub(super) fn new(queue: &QueueConfig<Out, In>, is_pulled: bool) -> Arc<Self> {
        Arc::new(Self {
            outbox: Mutex::new(Outbox::new(queue)),
            inbox: Mutex::new(Inbox::new(queue.max_inbox, queue.max_bytes)),
            measure: Measure::new(queue),
            incoming: queue.incoming,
            driver: AtomicWaker::new(),
            receiver: AtomicWaker::new(),
            is_driven: AtomicBool::new(is_pulled),
            #[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
            close: PulledClose { is_pulled, is_watched: false.into(), limit: queue.close_within },
        })
    }

    /// Notes that the driver runs.
    pub(super) fn drive(&self) {
        // A load is cheaper than a store for the senders on other cores, and this runs in each poll of the driver.
        if !self.is_driven.load(Relaxed) {
            self.is_driven.store(true, Relaxed);
        }
    }

    #[cfg(all(feature = "rt", not(target_arch = "wasm32")))]
    pub(super) fn is_driven(&self) -> bool {
        self.is_driven.load(Relaxed)
    }

    /// Unlocks the queue and wakes the senders whose turn it is. `wakers` holds their wakers meanwhile, and is empty
    /// before and after.
    pub(super) fn pass_turns(&self, mut outbox: MutexGuard<'_, Outbox<Out>>, wakers: &mut Vec<Waker>) {
        wakers.extend(std::iter::from_fn(|| outbox.next_waiter()));
        let look_again = outbox.wait_for_a_turn();
        drop(outbox);
        wake_all(wakers.drain(..));
        if look_again {
            self.driver.wake();
        }
    }

    /// Unlocks the inbox, and wakes the receiver if it waits.
    pub(super) fn wake_receiver(&self, mut inbox: MutexGuard<'_, Inbox<In>>) {
        // Waking costs more than this flag, and a busy receiver takes many messages for each time it waits.
        let is_awaited = std::mem::take(&mut inbox.is_awaited);
        drop(inbox);
        if is_awaited {
            self.receiver.wake();
        }
    }
}

#[cfg(test)]
impl<Out, In> Queues<Out, In> {
    /// Returns the number of messages for which memory is allocated.
    pub(super) fn capacity(&self) -> usize {
        self.outbox.lock().capacity() + self.inbox.lock().capacity()
    }
}

/// The maximum number of messages moved under one lock of the queue.
pub(super) const BATCH: usize = 64;

/// The consuming end of the outgoing queue, which the driver or the body of a response has: the messages that it has
/// taken, until it reports what became of them.
pub(super) struct Consumer<Out, In> {
    pub(super) queues: Arc<Queues<Out, In>>,
    /// Messages taken from the queue and not yet passed on.
    pub(super) batch: VecDeque<Entry<Out>>,
    /// Messages passed on and not yet reported to the queue.
    pub(super) fed: Fed,
    wakers: Vec<Waker>,
}

impl<Out, In> Consumer<Out, In> {
    pub(super) const fn new(queues: Arc<Queues<Out, In>>) -> Self {
        Self { queues, batch: VecDeque::new(), fed: Fed::new(), wakers: Vec::new() }
    }

    /// Reports what was passed on, takes more, and wakes the senders that now have room. `is_new_poll` says that the
    /// executor has had a round in which woken senders could come.
    pub(super) fn refill(&mut self, is_new_poll: bool) -> Next {
        let mut outbox = self.queues.outbox.lock();
        if is_new_poll {
            // Here and not in a timer, which would have to be set for each wake-up.
            outbox.waiters.end_turns();
        }
        outbox.fed(std::mem::take(&mut self.fed));
        let next = outbox.take(&mut self.batch, BATCH);
        self.queues.pass_turns(outbox, &mut self.wakers);
        next
    }

    /// Reports what was passed on, puts the rest of the batch back, and wakes the senders that now have room.
    pub(super) fn settle(&mut self) {
        let mut outbox = self.queues.outbox.lock();
        outbox.fed(std::mem::take(&mut self.fed));
        let gone = outbox.put_back(&mut self.batch);
        self.queues.pass_turns(outbox, &mut self.wakers);
        drop(gone);
    }

    /// Reports what was passed on to the senders that wait for the close: it is progress.
    #[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
    pub(super) fn fed_while_closing(&mut self) {
        let mut outbox = self.queues.outbox.lock();
        outbox.fed(std::mem::take(&mut self.fed));
        self.wakers.extend(outbox.watchers());
        drop(outbox);
        wake_all(self.wakers.drain(..));
    }

    /// Records that everything that was passed on is flushed.
    pub(super) fn flushed(&mut self) {
        self.wakers.extend(self.queues.outbox.lock().flushed());
        wake_all(self.wakers.drain(..));
    }

    /// Stops accepting messages, because the transport's server drains.
    pub(super) fn drain(&mut self) {
        self.wakers.extend(self.queues.outbox.lock().drain());
        wake_all(self.wakers.drain(..));
    }

    /// Reports the loss of messages that the transport had accepted to the flushes that wait for them.
    pub(super) fn lose(&mut self, error: Error) {
        let mut outbox = self.queues.outbox.lock();
        let (wakers, before) = outbox.lose(error);
        self.wakers.extend(wakers);
        drop(outbox);
        drop(before);
        wake_all(self.wakers.drain(..));
    }

    /// Ends the writing: the batch is dropped, and every waiting task gets `error`, or learns that this end has closed.
    pub(super) fn end(&mut self, error: &Error, is_clean: bool) {
        let mut outbox = self.queues.outbox.lock();
        outbox.fed(std::mem::take(&mut self.fed));
        outbox.count_discarded(&self.batch);
        let (gone, wakers) = outbox.end(error, is_clean);
        drop(outbox);
        drop((gone, std::mem::take(&mut self.batch)));
        wake_all(wakers);
    }

    /// Returns whether memory is held that an idle connection does not need.
    pub(super) fn has_spare(&self) -> bool {
        self.batch.capacity().max(self.wakers.capacity()) > 2 * KEPT || self.queues.outbox.lock().has_spare()
    }

    /// Releases memory that an idle connection does not need.
    pub(super) fn trim(&mut self) {
        self.batch.shrink_to(KEPT);
        self.wakers.shrink_to(KEPT);
        self.queues.outbox.lock().trim();
    }
}

pub(super) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

/// The incoming queue: items from the transport that the receiver has not taken.
pub(super) struct Inbox<In> {
    queue: VecDeque<Arrival<In>>,
    /// The number of messages and errors in the queue.
    messages: usize,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
    /// Whether no more items will arrive.
    pub(super) ended: bool,
    /// Whether the receiver is gone.
    pub(super) abandoned: bool,
    /// Whether the receiver found nothing and has registered its waker.
    pub(super) is_awaited: bool,
}

/// An entry of the inbox.
pub(super) enum Arrival<In> {
    /// An item from the transport, and its size.
    Item(Result<In, Error>, usize),
    /// A lost connection: later items come from another one. There are never two in a row, so the queue stays bounded.
    Loss,
}

/// An entry taken by the receiver.
pub(super) enum Taken<In> {
    /// An item from the transport, and whether taking it made room in a full inbox.
    Item(Result<In, Error>, bool),
    Loss,
}

impl<In> Inbox<In> {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            messages: 0,
            bytes: 0,
            max_messages,
            max_bytes,
            ended: false,
            abandoned: false,
            is_awaited: false,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.abandoned || (self.messages < self.max_messages && self.bytes < self.max_bytes)
    }

    /// Adds a message of this size, or returns it if the receiver is gone.
    #[must_use = "drop it once the queue is unlocked"]
    pub(super) fn push(&mut self, message: Result<In, Error>, size: usize) -> Option<Result<In, Error>> {
        if self.abandoned {
            return Some(message);
        }
        self.bytes = self.bytes.saturating_add(size);
        self.messages += 1;
        self.queue.push_back(Arrival::Item(message, size));
        None
    }

    /// Records that the connection was lost, after the items that arrived before.
    pub(super) fn push_loss(&mut self) {
        if !self.abandoned && !matches!(self.queue.back(), Some(Arrival::Loss)) {
            self.queue.push_back(Arrival::Loss);
        }
    }

    /// Takes the oldest entry.
    pub(super) fn pop(&mut self) -> Option<Taken<In>> {
        // Before the entry is taken: only the step from full to not full has to wake the driver.
        let was_full = !self.has_room();
        let (message, size) = match self.queue.pop_front()? {
            Arrival::Item(message, size) => (message, size),
            Arrival::Loss => return Some(Taken::Loss),
        };
        self.messages -= 1;
        // Sizes come from the user and may add up to any number. An empty queue holds zero bytes.
        self.bytes = if self.queue.is_empty() { 0 } else { self.bytes.saturating_sub(size) };
        Some(Taken::Item(message, was_full))
    }

    /// Marks the receiver as gone. Returns the entries, to be dropped.
    #[must_use = "drop it once the queue is unlocked"]
    pub(super) fn abandon(&mut self) -> VecDeque<Arrival<In>> {
        self.abandoned = true;
        (self.messages, self.bytes) = (0, 0);
        std::mem::take(&mut self.queue)
    }

    pub(super) fn len(&self) -> usize {
        self.messages
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    pub(super) fn has_spare(&self) -> bool {
        self.queue.is_empty() && self.queue.capacity() > 2 * KEPT
    }

    /// Releases memory that an idle inbox does not need.
    pub(super) fn trim(&mut self) {
        if self.has_spare() {
            self.queue.shrink_to(KEPT);
        }
    }
}
