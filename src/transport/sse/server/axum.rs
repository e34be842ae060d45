use std::convert::Infallible;

use axum_core::{
    body::Body,
    extract::OptionalFromRequestParts,
    response::{IntoResponse, Response},
};
use futures_core::Stream;
use http::request;

use super::{super::Event, EventStream, LastEventId};
use crate::BoxError;

/// ```
/// use axum::{Router, routing::get};
/// use tower_transport::{Queue, transport::sse::{Event, EventReceiver, EventStream, LastEventId, event_channel}};
///
/// async fn clock(last: Option<LastEventId>) -> EventStream<EventReceiver> {
///     let mut next: u64 = last.and_then(|id| id.parse().ok()).map_or(0, |seen: u64| seen.saturating_add(1));
///     let (sender, events) = event_channel(Queue::events());
///     tokio::spawn(async move {
///         // Ends when the client is gone.
///         while let Ok(event) = Event::new(format!("tick {next}")).id(&next.to_string()) {
///             if sender.send(event).await.is_err() {
///                 return;
///             }
///             next = next.wrapping_add(1);
///             tokio::time::sleep(std::time::Duration::from_secs(1)).await;
///         }
///     });
///     events
/// }
///
/// let app: Router = Router::new().route("/clock", get(clock));
/// ```
impl<S, E> IntoResponse for EventStream<S>
where
    S: Stream<Item = Result<Event, E>> + Send + 'static,
    E: Into<BoxError>,
{
    fn into_response(self) -> Response {
        Self::into_response(self).map(Body::new)
    }
}

/// Extracts the id as [`LastEventId::of`] does.
impl<S: Sync> OptionalFromRequestParts<S> for LastEventId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}
