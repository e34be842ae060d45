use std::{
    convert::Infallible,
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{super::Event, EventStream};
use crate::{
    Error, QueueConfig, Sender,
    transport::drive::{Pull, pull},
};

/// The sending end of an [`event_channel`]. Clone it for every task that has events.
///
/// It has all methods of [`Sender`]. [`send`](Sender::send) waits for room, and returns an error for which
/// [`is_closed`](Error::is_closed) is true once the client is gone. [`closed`](Sender::closed) waits for that moment.
/// It is a `Sink` and a `Service` too. [`flush`](Sender::flush) waits until sent events are with the HTTP server.
pub type EventSender = Sender<Event, Infallible>;

/// Creates a stream of events that other tasks feed: [`EventSender`]s send events, and the [`EventStream`] writes them.
///
/// Events wait for a slow client within the bounds of `queue`. By default ([`QueueConfig::events`]) a full queue makes
/// the senders wait. If one sender serves many clients and must not wait for the slowest, let the queue
/// [close](crate::WhenFull::Close). That client is cut, reconnects with its [`LastEventId`](super::LastEventId), and
/// gets the missed events. (A queue that drops events instead leaves a gap that no client can see.)
///
/// ```
/// use http_body_util::BodyExt;
/// use tower_transport::{QueueConfig, transport::sse::{Event, event_channel}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_transport::BoxError> {
/// let (sender, events) = event_channel(QueueConfig::events());
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
/// When the last sender is dropped, sent events go out and the response ends. When the client is gone, waiting events
/// are dropped, and every sender is told immediately.
pub fn event_channel(queue: QueueConfig<Event, Infallible>) -> (EventSender, EventStream<EventReceiver>) {
    let queue = queue.max_inbox(NonZeroUsize::MIN); // nothing comes in
    let (sender, drain) = pull(queue, "the client is gone: its event stream was dropped");
    (sender, EventStream::new(EventReceiver(drain)))
}

impl QueueConfig<Event, Infallible> {
    /// Creates a queue of server-sent events for [`event_channel`]. It measures their data, types and ids, plus the
    /// size of an [`Event`] itself.
    #[must_use]
    pub fn events() -> Self {
        Self::values_sized_by(size, |never| match *never {})
    }
}

fn size(event: &Event) -> usize {
    size_of::<Event>() + event.data().len() + event.event_type().len() + event.last_event_id().len()
}

/// The events sent into an [`event_channel`], as a `Stream`. It ends when the last sender is dropped. If a full queue
/// [closed](crate::WhenFull::Close) it, it yields an error for which [`is_closed`](Error::is_closed) is true, and then
/// ends.
#[derive(Debug)]
pub struct EventReceiver(Pull<Event>);

impl Stream for EventReceiver {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(cx)
    }
}
