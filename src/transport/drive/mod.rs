//! A task that owns the stack, with any number of writers: see [`Driver`].

mod driven;
mod driver;
mod flushes;
mod outbox;
#[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
mod pull;
mod receiver;
mod sender;
mod try_send_error;
mod waiters;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use futures_util::task::AtomicWaker;

#[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
pub(crate) use self::pull::{Pull, pull};
pub use self::{
    driven::Driven,
    driver::Driver,
    receiver::Receiver,
    sender::{Send, Sender},
    try_send_error::TrySendError,
};
use self::{
    outbox::{Fed, Outbox},
    receiver::Inbox,
};
use super::{
    Queue,
    backlog::{Entry, Measure},
    payload::Payload,
};
use crate::Error;

/// The state that sender, receiver and driver share.
///
/// No user code runs under any of the locks: no drop of a message, no function of the [`Queue`], no waker (neither its
/// wake nor its clone nor its drop), no formatter. Messages are inspected before locking. Values to drop or wake are
/// handed out, and dropped or woken after unlocking. A message whose drop sends another message is therefore safe.
struct Queues<Out, In> {
    outbox: Mutex<Outbox<Out>>,
    inbox: Mutex<Inbox<In>>,
    measure: Measure<Out>,
    incoming: Payload<In>,
    driver: AtomicWaker,
    receiver: AtomicWaker,
}

impl<Out, In> Queues<Out, In> {
    fn new(queue: &Queue<Out, In>) -> Arc<Self> {
        Arc::new(Self {
            outbox: Mutex::new(Outbox::new(queue)),
            inbox: Mutex::new(Inbox::new(queue.max_inbox, queue.max_bytes)),
            measure: Measure::new(queue),
            incoming: queue.incoming,
            driver: AtomicWaker::new(),
            receiver: AtomicWaker::new(),
        })
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox<Out>> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox<In>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unlocks the queue and wakes the senders whose turn it is. `wakers` holds their wakers meanwhile, and is empty
    /// before and after.
    fn pass_turns(&self, mut outbox: MutexGuard<'_, Outbox<Out>>, wakers: &mut Vec<Waker>) {
        wakers.extend(std::iter::from_fn(|| outbox.next_waiter()));
        let look_again = outbox.wait_for_a_turn();
        drop(outbox);
        wake_all(wakers.drain(..));
        if look_again {
            self.driver.wake();
        }
    }

    /// Unlocks the inbox, and wakes the receiver if it waits.
    fn wake_receiver(&self, mut inbox: MutexGuard<'_, Inbox<In>>) {
        let is_awaited = std::mem::take(&mut inbox.is_awaited);
        drop(inbox);
        if is_awaited {
            self.receiver.wake();
        }
    }

    /// Ends the writing: `fed` messages are counted, `batch` is dropped, and every waiting task gets `error`, or learns
    /// that this end has closed.
    fn end_writing(&self, fed: &mut Fed, batch: &mut VecDeque<Entry<Out>>, error: Error, is_clean: bool) {
        let mut outbox = self.outbox();
        outbox.fed(std::mem::take(fed));
        outbox.count_discarded(batch);
        let (gone, wakers) = outbox.end(error, is_clean);
        drop(outbox);
        drop((gone, std::mem::take(batch)));
        wake_all(wakers);
    }
}

#[cfg(test)]
impl<Out, In> Queues<Out, In> {
    /// Returns the number of messages for which memory is allocated.
    fn capacity(&self) -> usize {
        self.outbox().capacity() + self.inbox().capacity()
    }
}

fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

pub(super) fn drive<T, Out, In>(transport: T, queue: Queue<Out, In>) -> Driven<T, Out, In> {
    let queues = Queues::new(&queue);
    let sender = Sender::new(queues.clone());
    let receiver = Receiver::new(queues.clone());
    Driven::new(sender, receiver, Driver::new(transport, queues, queue.outgoing))
}

#[cfg(test)]
mod tests;
