use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{
    outbox::{Fed, Next},
    queues::{Queues, wake_all},
    sender::Sender,
};
use crate::{
    Error,
    transport::{
        Queue,
        backlog::{Entry, KEPT},
    },
};

/// The maximum number of messages moved under one lock of the queue.
const BATCH: usize = 64;

/// The consuming end of [`Sender`]s without a driver, for a consumer that pulls messages, such as the body of an HTTP
/// response. Dropping it reports `gone` to every sender.
pub(crate) struct Pull<Out> {
    queues: Arc<Queues<Out, Infallible>>,
    /// Messages taken from the queue and not yet returned.
    batch: VecDeque<Entry<Out>>,
    /// Messages returned and not yet reported to the queue.
    fed: Fed,
    /// Whether a message was returned since the last poll that found nothing.
    is_dirty: bool,
    wakers: Vec<Waker>,
    gone: &'static str,
    has_ended: bool,
}

/// Creates a queue: the sending end and the pulling end.
pub(crate) fn pull<Out>(queue: Queue<Out, Infallible>, gone: &'static str) -> (Sender<Out, Infallible>, Pull<Out>) {
    let queues = Queues::new(&queue);
    let sender = Sender::new(queues.clone());
    let pull = Pull {
        queues,
        batch: VecDeque::new(),
        fed: Fed::default(),
        is_dirty: false,
        wakers: Vec::new(),
        gone,
        has_ended: false,
    };
    (sender, pull)
}

impl<Out> Pull<Out> {
    /// Returns the next message, an error if a full queue ended the stream, or `None` once the last sender is gone and
    /// every message was returned.
    ///
    /// A caller that receives `Pending` passes on its messages before it polls again, so the next poll counts as a
    /// flush.
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
            if self.batch.is_empty() {
                // The response may not ask again for long. Nothing that it has taken counts as waiting meanwhile.
                self.queues.outbox().fed(std::mem::take(&mut self.fed));
            }
            return Poll::Ready(Some(Ok(entry.message)));
        }
        let is_over = matches!(next, Next::Close(_));
        let mut outbox = self.queues.outbox();
        let overflow = outbox.overflow();
        // The caller has passed on everything before it polls again, so a poll that finds nothing is a flush.
        if !std::mem::take(&mut self.is_dirty) || is_over {
            self.wakers.extend(outbox.flushed());
            // Two polls in a row found nothing: the stream is idle.
            self.batch.shrink_to(KEPT);
            outbox.trim();
        }
        drop(outbox);
        wake_all(self.wakers.drain(..));
        if !is_over {
            return Poll::Pending;
        }
        self.end(&overflow.clone().unwrap_or_else(|| Error::closed("the last sender was dropped")), true);
        Poll::Ready(overflow.map(Err))
    }

    /// Reports the returned messages, takes more, and wakes the senders that now have room.
    fn refill(&mut self, cx: &mut Context<'_>) -> Next {
        self.queues.driver.register(cx.waker());
        let mut outbox = self.queues.outbox();
        outbox.waiters.end_turns();
        outbox.fed(std::mem::take(&mut self.fed));
        let next = outbox.take(&mut self.batch, BATCH);
        self.queues.pass_turns(outbox, &mut self.wakers);
        next
    }

    fn end(&mut self, error: &Error, is_clean: bool) {
        self.has_ended = true;
        self.queues.end_writing(&mut self.fed, &mut self.batch, error, is_clean);
    }
}

impl<Out> Drop for Pull<Out> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end(&Error::closed(self.gone), false);
        }
    }
}

impl<Out> fmt::Debug for Pull<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pull").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}
