//! A layer that notes what passes.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use futures_util::{Sink, Stream};
use pin_project_lite::pin_project;
use tower::Layer;
use tower_transport::Message;

/// The messages that were seen, and where. Shared by all layers of one end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Sight>>>);

#[derive(Clone, Debug)]
struct Sight {
    place: &'static str,
    outgoing: bool,
    message: Option<Message>,
}

impl Log {
    pub(crate) fn layer(&self, place: &'static str) -> SawLayer {
        SawLayer { place, log: self.clone() }
    }

    fn note(&self, place: &'static str, outgoing: bool, seen: &impl Seen) {
        if seen.counts() {
            self.0.lock().unwrap().push(Sight { place, outgoing, message: seen.message() });
        }
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// The places in the order in which something passed there.
    pub(crate) fn places(&self, outgoing: bool) -> Vec<&'static str> {
        self.0.lock().unwrap().iter().filter(|sight| sight.outgoing == outgoing).map(|sight| sight.place).collect()
    }

    /// The messages that passed one place.
    pub(crate) fn messages(&self, at: &str, outgoing: bool) -> Vec<Message> {
        let log = self.0.lock().unwrap();
        let here = log.iter().filter(|sight| sight.place == at && sight.outgoing == outgoing);
        here.filter_map(|sight| sight.message.clone()).collect()
    }
}

/// The messages that may pass.
pub(crate) trait Seen {
    /// Control messages do not count.
    fn counts(&self) -> bool {
        true
    }

    fn message(&self) -> Option<Message> {
        None
    }
}

impl Seen for String {}

impl Seen for Message {
    fn counts(&self) -> bool {
        self.is_data()
    }

    fn message(&self) -> Option<Message> {
        Some(self.clone())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct SawLayer {
    place: &'static str,
    log: Log,
}

impl<T> Layer<T> for SawLayer {
    type Service = Saw<T>;

    fn layer(&self, inner: T) -> Saw<T> {
        Saw { inner, place: self.place, log: self.log.clone() }
    }
}

pin_project! {
    #[derive(Debug)]
    pub(crate) struct Saw<T> {
        #[pin]
        inner: T,
        place: &'static str,
        log: Log,
    }
}

impl<T, M, E> Stream for Saw<T>
where
    T: Stream<Item = Result<M, E>>,
    M: Seen,
{
    type Item = T::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T::Item>> {
        let this = self.project();
        let item = ready!(this.inner.poll_next(cx));
        if let Some(Ok(message)) = &item {
            this.log.note(this.place, false, message);
        }
        Poll::Ready(item)
    }
}

impl<T, M> Sink<M> for Saw<T>
where
    T: Sink<M>,
    M: Seen,
{
    type Error = T::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.project().inner.poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: M) -> Result<(), T::Error> {
        let this = self.project();
        this.log.note(this.place, true, &message);
        this.inner.start_send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.project().inner.poll_close(cx)
    }
}
