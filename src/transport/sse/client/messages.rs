use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::Sse;
use crate::{Error, Message};

/// The data of server-sent events as text messages, without ids and types. Created by [`Sse::into_messages`].
///
/// The layers of this crate, such as a codec or a limit, expect messages both ways. For their sake it has a sink of
/// messages, which rejects each one with an error for which [`is_config`](Error::is_config) is true. A close message is
/// the exception: it closes the connection. Only the type of [`Sse`] expresses that nothing can be sent.
///
/// Use it between a connector and a codec:
///
/// ```no_run
/// # #[cfg(all(feature = "json", feature = "reconnect"))]
/// # async fn read() -> Result<(), tower_transport::Error> {
/// use futures_util::StreamExt;
/// use tower::ServiceBuilder;
/// use tower_transport::{
///     ServiceBuilderExt, codec::JsonCodec, layer::reconnect::Backoff,
///     transport::sse::{Sse, SseConnector},
/// };
///
/// let prices = ServiceBuilder::new()
///     .codec(JsonCodec::<serde_json::Value>::new())
///     .reconnect("https://example.com/prices", Backoff::exponential())
///     .map_response(|response: http::Response<Sse>| response.map(Sse::into_messages))
///     .service(SseConnector::new());
/// let mut prices = Box::pin(prices);
/// while let Some(price) = prices.next().await {
///     println!("{}", price?);
/// }
/// # Ok(()) }
/// ```
///
/// Its backpressure, its end and its cancel safety are those of [`Sse`].
#[derive(Debug)]
pub struct SseMessages(Sse);

impl SseMessages {
    pub(super) fn new(events: Sse) -> Self {
        Self(events)
    }

    /// Returns the stream of events.
    #[must_use]
    pub fn get_ref(&self) -> &Sse {
        &self.0
    }

    /// Returns the stream of events.
    #[must_use]
    pub fn into_inner(self) -> Sse {
        self.0
    }
}

impl Stream for SseMessages {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx).map_ok(|event| Message::Text(event.into_data()))
    }
}

impl Sink<Message> for SseMessages {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        if message.is_close() {
            self.0.hang_up();
            return Ok(());
        }
        Err(Error::config("an event stream is receive-only; use SseDuplexConnector to send messages"))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // No accepted message ever waits.
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
