use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{
    Sender, Shared,
    outbox::{Fed, Next},
    wake_all,
};
use crate::{
    Error,
    transport::{
        Queue,
        backlog::{Entry, KEPT},
    },
};

/// How many messages one lock of the queue moves.
const BATCH: usize = 64;

/// The other end of [`Sender`]s that have no driver, for what is asked for messages and does not push them: the body of an HTTP
/// response. Dropped, it tells every sender that it is `gone`.
pub(crate) struct Drain<Out> {
    shared: Arc<Shared<Out, Infallible>>,
    /// Taken from the queue, not yet given out.
    batch: VecDeque<Entry<Out>>,
    /// Given out, and not yet told to the queue.
    fed: Fed,
    /// Something was given out since it was last asked in vain.
    is_dirty: bool,
    wakers: Vec<Waker>,
    gone: &'static str,
    has_ended: bool,
}

/// A queue: the end that is written to, and the end that is asked.
pub(crate) fn drain<Out>(queue: Queue<Out, Infallible>, gone: &'static str) -> (Sender<Out, Infallible>, Drain<Out>) {
    let shared = Shared::new(&queue);
    let sender = Sender::new(shared.clone());
    let drain = Drain {
        shared,
        batch: VecDeque::new(),
        fed: Fed::default(),
        is_dirty: false,
        wakers: Vec::new(),
        gone,
        has_ended: false,
    };
    (sender, drain)
}

impl<Out> Drain<Out> {
    /// The next message; an error where a full queue ended it; `None` once the last sender is gone and all is given out.
    ///
    /// Whoever is told that there is no more hands on what it got, and then asks again: that counts as flushed.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Out, Error>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let mut next = Next::GoOn;
        if self.batch.is_empty() {
            next = self.refill(cx);
        }
        if let Some(entry) = self.batch.pop_front() {
            self.fed.count(&entry);
            self.is_dirty = true;
            return Poll::Ready(Some(Ok(entry.message)));
        }
        let is_over = matches!(next, Next::Close(_));
        let mut outbox = self.shared.outbox();
        let overflow = outbox.overflow();
        if !std::mem::take(&mut self.is_dirty) || is_over {
            self.wakers.extend(outbox.flushed());
            // Asked in vain twice in a row: the stream is idle.
            self.batch.shrink_to(KEPT);
            outbox.trim();
        }
        drop(outbox);
        wake_all(self.wakers.drain(..));
        if !is_over {
            return Poll::Pending;
        }
        self.end(overflow.clone().unwrap_or_else(|| Error::closed("the last sender was dropped")), true);
        Poll::Ready(overflow.map(Err))
    }

    /// Settles what was given out, takes more, and wakes whom that makes room for.
    fn refill(&mut self, cx: &mut Context<'_>) -> Next {
        self.shared.driver.register(cx.waker());
        let mut outbox = self.shared.outbox();
        outbox.waiters.end_turns();
        outbox.fed(std::mem::take(&mut self.fed));
        let next = outbox.take(&mut self.batch, BATCH);
        self.shared.pass_turns(outbox, &mut self.wakers);
        next
    }

    fn end(&mut self, error: Error, is_clean: bool) {
        self.has_ended = true;
        self.shared.end_writing(&mut self.fed, &mut self.batch, error, is_clean);
    }
}

impl<Out> Drop for Drain<Out> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end(Error::closed(self.gone), false);
        }
    }
}

impl<Out> fmt::Debug for Drain<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}
