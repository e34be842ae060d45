use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::super::Event;

pin_project! {
    /// Events that a client has missed, followed by those of the stream. Created by
    /// [`EventStream::replay`](super::EventStream::replay).
    pub struct Replay<I, S> {
        missed: Option<I>,
        #[pin]
        events: S,
    }
}

impl<I, S> Replay<I, S> {
    pub(super) fn new(missed: I, events: S) -> Self {
        Self { missed: Some(missed), events }
    }
}

impl<I, S, E> Stream for Replay<I, S>
where
    I: Iterator<Item = Event>,
    S: Stream<Item = Result<Event, E>>,
{
    type Item = Result<Event, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        if let Some(missed) = this.missed {
            if let Some(event) = missed.next() {
                return Poll::Ready(Some(Ok(event)));
            }
            *this.missed = None;
        }
        this.events.poll_next(cx)
    }
}

impl<I, S> fmt::Debug for Replay<I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("is_replaying", &self.missed.is_some()).finish_non_exhaustive()
    }
}
