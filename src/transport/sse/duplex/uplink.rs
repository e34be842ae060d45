use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use super::{
    outbox::{Batch, Outbox},
    poster::{Lost, Poster},
};
use crate::Error;

/// The sending direction of a client: accepted messages, and the future that brings them to the server, one POST at a
/// time. The half that waits for it drives it.
pub(super) struct Uplink {
    outbox: Arc<Mutex<Outbox>>,
    /// The delivery, which resolves only to a failure; `None` once it has ended.
    delivery: Option<Pin<Box<dyn Future<Output = Lost> + Send>>>,
    failed: Option<Lost>,
}

impl Uplink {
    pub(super) fn new(outbox: Outbox, poster: Poster) -> Self {
        let outbox = Arc::new(Mutex::new(outbox));
        let delivery = Box::pin(deliver(outbox.clone(), poster));
        Self { outbox, delivery: Some(delivery), failed: None }
    }

    pub(super) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        lock(&self.outbox)
    }

    pub(super) fn failed(&self) -> Option<&Error> {
        self.failed.as_ref().map(|lost| &lost.error)
    }

    /// Returns whether the server may have more to say about the failure.
    pub(super) fn has_last_words(&self) -> bool {
        self.failed.as_ref().is_some_and(|lost| lost.has_last_words)
    }

    /// Makes progress. Returns `true` if the delivery failed just now. `cx` wakes both halves.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(delivery) = &mut self.delivery else { return false };
        let Poll::Ready(lost) = delivery.as_mut().poll(cx) else { return false };
        self.delivery = None;
        self.failed = Some(lost);
        true
    }

    /// Drops the connection and a POST in flight.
    pub(super) fn end(&mut self) {
        self.delivery = None;
    }
}

fn lock(outbox: &Mutex<Outbox>) -> MutexGuard<'_, Outbox> {
    outbox.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn deliver(outbox: Arc<Mutex<Outbox>>, mut poster: Poster) -> Lost {
    loop {
        if let Err(lost) = poster.deliver(next_batch(&outbox).await).await {
            return lost;
        }
        lock(&outbox).acknowledged();
    }
}

/// Waits without a waker: the code that pushes to the outbox polls this.
async fn next_batch(outbox: &Mutex<Outbox>) -> Batch {
    poll_fn(|_| match lock(outbox).next_batch() {
        Some(batch) => Poll::Ready(batch),
        None => Poll::Pending,
    })
    .await
}

impl fmt::Debug for Uplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uplink").field("failed", &self.failed).finish_non_exhaustive()
    }
}
