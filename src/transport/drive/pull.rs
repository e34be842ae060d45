use std::{
    convert::Infallible,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
};

use super::{
    outbox::Next,
    queues::{Consumer, Queues},
    sender::Sender,
};
use crate::{Error, transport::QueueConfig};

/// The consuming end of [`Sender`]s without a driver, for a consumer that pulls messages, such as the body of an HTTP
/// response. Dropping it reports `gone` to every sender.
pub(crate) struct Pull<Out> {
    out: Consumer<Out, Infallible>,
    /// Whether a message was returned since the last poll that found nothing.
    is_dirty: bool,
    gone: &'static str,
    has_ended: bool,
}

/// Creates a queue: the sending end and the pulling end.
pub(crate) fn pull<Out>(
    queue: QueueConfig<Out, Infallible>,
    gone: &'static str,
) -> (Sender<Out, Infallible>, Pull<Out>) {
    let queues = Queues::new(&queue, true);
    let sender = Sender::new(queues.clone());
    (sender, Pull { out: Consumer::new(queues), is_dirty: false, gone, has_ended: false })
}

impl<Out> Pull<Out> {
    /// Returns the next message, an error if a full queue ended the stream or a close took too long, or `None` once the
    /// last sender is gone and every message was returned.
    ///
    /// A caller that receives `Pending` passes on its messages before it polls again, so the next poll counts as a
    /// flush.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Out, Error>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let is_watched = self.out.queues.close.is_watched.load(Relaxed);
        let given_up = if is_watched { self.out.queues.outbox.lock().given_up() } else { None };
        if let Some(error) = given_up {
            self.end(&error, false);
            return Poll::Ready(Some(Err(error)));
        }
        let mut next = Next::GoOn;
        let out = &mut self.out;
        if out.batch.is_empty() {
            out.queues.driver.register(cx.waker());
            next = out.refill(true);
        }
        if let Some(entry) = out.batch.pop_front() {
            out.fed.count(&entry);
            self.is_dirty = true;
            if is_watched {
                out.fed_while_closing();
            } else if out.batch.is_empty() {
                // The response may not ask again for long. Nothing that it has taken counts as waiting meanwhile.
                out.queues.outbox.lock().fed(std::mem::take(&mut out.fed));
            }
            return Poll::Ready(Some(Ok(entry.message)));
        }
        let is_over = matches!(next, Next::Close(_));
        // The caller has passed on everything before it polls again, so a poll that finds nothing is a flush.
        if !std::mem::take(&mut self.is_dirty) || is_over {
            out.flushed();
            // Two polls in a row found nothing: the stream is idle.
            out.trim();
        }
        if !is_over {
            return Poll::Pending;
        }
        let overflow = out.queues.outbox.lock().overflow();
        self.end(&overflow.clone().unwrap_or_else(|| Error::closed("the last sender was dropped")), true);
        Poll::Ready(overflow.map(Err))
    }

    fn end(&mut self, error: &Error, is_clean: bool) {
        self.has_ended = true;
        self.out.end(error, is_clean);
    }
}

impl<Out> Drop for Pull<Out> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end(&Error::closed(self.gone), false);
        }
    }
}

debug_fields!([Out] Pull<Out> { has_ended });
