use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use super::Shared;
use crate::Error;

/// Waits until no more is taken, and gives the reason.
pub(super) async fn end<Out, In>(shared: &Shared<Out, In>) -> Error {
    let mut watch = Watch { shared, id: None };
    poll_fn(|cx| watch.poll(cx)).await
}

/// One who waits for the end; dropped, it is forgotten.
struct Watch<'a, Out, In> {
    shared: &'a Shared<Out, In>,
    id: Option<u64>,
}

impl<Out, In> Watch<'_, Out, In> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        self.shared.outbox().poll_end(&mut self.id, cx.waker()).map_or(Poll::Pending, Poll::Ready)
    }
}

impl<Out, In> Drop for Watch<'_, Out, In> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.outbox().forget_end(id);
        }
    }
}
