//! One task owns the stack, any number of writers: see [`Driver`].

#[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
mod drain;
mod driver;
mod flushes;
mod inbox;
mod outbox;
mod receiver;
mod sender;
mod waiters;
mod watch;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use futures_util::task::AtomicWaker;

#[cfg(all(feature = "sse", not(target_arch = "wasm32")))]
pub(crate) use self::drain::{Drain, drain};
pub use self::{
    driver::Driver,
    receiver::Receiver,
    sender::{Send, Sender},
};
use self::{
    inbox::Inbox,
    outbox::{Fed, Outbox},
};
use super::Queue;
use crate::Error;

/// What sender, receiver and driver share.
struct Shared<Out, In> {
    outbox: Mutex<Outbox<Out>>,
    inbox: Mutex<Inbox<In>>,
    driver: AtomicWaker,
}

impl<Out, In> Shared<Out, In> {
    fn outbox(&self) -> MutexGuard<'_, Outbox<Out>> {
        // A user's size or key function may have panicked; counts are then off by that message, no more.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox<In>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is written any more: what was `fed` counts, what is in `batch` is dropped, and everyone who waits is told `error`.
    fn end_writing(&self, fed: &mut Fed, batch: &mut VecDeque<(Out, bool)>, error: Error) {
        let mut outbox = self.outbox();
        outbox.fed(std::mem::take(fed));
        outbox.discard(batch);
        let wakers = outbox.end(error);
        drop(outbox);
        wake_all(wakers);
    }
}

fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

#[allow(clippy::type_complexity, reason = "three things, each named")]
pub(super) fn drive<T, Out, In>(
    transport: T,
    queue: Queue<Out, In>,
) -> (Sender<Out, In>, Receiver<Out, In>, Driver<T, Out, In>) {
    let size_out = queue.size_out;
    let inbox = Inbox::new(queue.max_inbox, queue.max_bytes, queue.size_in);
    let shared = Arc::new(Shared {
        outbox: Mutex::new(Outbox::new(&queue)),
        inbox: Mutex::new(inbox),
        driver: AtomicWaker::new(),
    });
    let sender = Sender::new(shared.clone());
    let receiver = Receiver::new(shared.clone());
    (sender, receiver, Driver::new(transport, shared, size_out))
}
