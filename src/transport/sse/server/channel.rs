use std::{
    convert::Infallible,
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{super::Event, EventStream};
use crate::{
    Error, Queue, Sender,
    transport::drive::{Drain, drain},
};

/// The end of an [`event_channel`] that events are sent into: clone it for every task that has some.
///
/// All of [`Sender`]: [`send`](Sender::send) waits for room, and fails with [`is_closed`](Error::is_closed) once the client is gone;
/// [`closed`](Sender::closed) waits for just that; it is a `Sink` and a `Service` too. [`flush`](Sender::flush) waits until what was
/// sent is with the HTTP server.
pub type EventSender = Sender<Event, Infallible>;

/// A stream of events that is fed from elsewhere: what [`EventSender`]s send, the [`EventStream`] writes.
///
/// Between them is a `queue`, in the bounds of which events wait for a client that reads slowly. By default ([`Queue::events`]) a full
/// one makes the senders wait. Where one sender serves many clients, which must not wait for the slowest, let it
/// [close](crate::WhenFull::Close): that client is cut, comes back with its [`LastEventId`](super::LastEventId), and gets what it
/// missed. (A queue that drops events instead leaves a gap that no client can see.)
///
/// ```
/// use http_body_util::BodyExt;
/// use tower_transport::{Queue, transport::sse::{Event, event_channel}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_transport::BoxError> {
/// let (sender, events) = event_channel(Queue::events());
/// let mut body = events.into_response().into_body(); // to hyper or axum
///
/// sender.send(Event::new("one").event("note")?).await?;
/// sender.send(Event::new("two")).await?;
/// let frame = body.frame().await.unwrap()?.into_data().unwrap();
/// assert_eq!(frame, "event: note\ndata: one\n\ndata: two\n\n");
///
/// drop(body); // the client is gone
/// assert!(sender.closed().await.is_closed());
/// assert!(sender.send(Event::new("three")).await.is_err_and(|error| error.is_closed()));
/// # Ok(())
/// # }
/// ```
///
/// When the last sender is dropped, what was sent goes out and the response ends. When the client is gone, what waits is dropped, and
/// every sender learns it at once.
pub fn event_channel(queue: Queue<Event, Infallible>) -> (EventSender, EventStream<EventReceiver>) {
    let queue = queue.max_inbox(NonZeroUsize::MIN); // nothing comes in
    let (sender, drain) = drain(queue, "the client is gone: its event stream was dropped");
    (sender, EventStream::new(EventReceiver(drain)))
}

impl Queue<Event, Infallible> {
    /// A queue of server-sent events, for [`event_channel`]: measured by their data, types and ids, plus what an [`Event`] takes itself.
    #[must_use]
    pub fn events() -> Self {
        Self::values().size_by(size, |never| match *never {})
    }
}

fn size(event: &Event) -> usize {
    size_of::<Event>() + event.data().len() + event.event_type().len() + event.last_event_id().len()
}

/// What is sent into an [`event_channel`], as a `Stream`. It gives an error ([`is_closed`](Error::is_closed)) where a full queue
/// [closed](crate::WhenFull::Close) it, and ends with that, or when the last sender is dropped.
#[derive(Debug)]
pub struct EventReceiver(Drain<Event>);

impl Stream for EventReceiver {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(cx)
    }
}
