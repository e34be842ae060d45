use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use super::{Shared, outbox::End};
use crate::transport::wakers::PreparedWaker;

/// Waits until the transport has ended, and returns the reason.
pub(super) async fn end<Out, In>(shared: &Shared<Out, In>) -> End {
    let mut watch = Watch { shared, id: None };
    poll_fn(|cx| watch.poll(cx)).await
}

/// A task that waits for the end. Dropping it removes its registration.
struct Watch<'a, Out, In> {
    shared: &'a Shared<Out, In>,
    id: Option<u64>,
}

impl<Out, In> Watch<'_, Out, In> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut prepared = PreparedWaker::new(cx.waker());
        loop {
            let end = self.shared.outbox().poll_end(&mut self.id, &mut prepared);
            if let Some(end) = end {
                return Poll::Ready(end);
            }
            if !prepared.is_missing() {
                return Poll::Pending;
            }
            prepared.prepare();
        }
    }
}

impl<Out, In> Drop for Watch<'_, Out, In> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let waker = self.shared.outbox().forget_end(id);
            drop(waker);
        }
    }
}
