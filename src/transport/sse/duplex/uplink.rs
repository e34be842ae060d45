use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use super::{
    courier::Courier,
    outbox::{Batch, Outbox},
};
use crate::Error;

/// A client's way up: what is accepted, and the future that brings it to the server, one POST at a time. It is moved by the half
/// that wants something of it.
pub(super) struct Uplink {
    outbox: Arc<Mutex<Outbox>>,
    /// Never ends well; `None` when it has ended.
    delivery: Option<Pin<Box<dyn Future<Output = Error> + Send>>>,
    failed: Option<Error>,
}

impl Uplink {
    pub(super) fn new(outbox: Outbox, courier: Courier) -> Self {
        let outbox = Arc::new(Mutex::new(outbox));
        let delivery = Box::pin(deliver(outbox.clone(), courier));
        Self { outbox, delivery: Some(delivery), failed: None }
    }

    pub(super) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        lock(&self.outbox)
    }

    pub(super) fn failed(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    /// Moves what can be moved; `true` where it failed just now. `cx` wakes both halves.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(delivery) = &mut self.delivery else { return false };
        let Poll::Ready(error) = delivery.as_mut().poll(cx) else { return false };
        self.delivery = None;
        self.failed = Some(error);
        true
    }

    /// Lets go of the connection, and of a POST that is on its way.
    pub(super) fn end(&mut self) {
        self.delivery = None;
    }
}

fn lock(outbox: &Mutex<Outbox>) -> MutexGuard<'_, Outbox> {
    outbox.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn deliver(outbox: Arc<Mutex<Outbox>>, mut courier: Courier) -> Error {
    loop {
        if let Err(error) = courier.deliver(next_batch(&outbox).await).await {
            return error;
        }
        lock(&outbox).acknowledged();
    }
}

/// Waits without a waker: whoever pushes the outbox polls this.
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
