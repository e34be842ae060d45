use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::Sse;
use crate::{Error, Message};

/// The data of server-sent events as text messages; ids and types are left out. Made by [`Sse::into_messages`].
///
/// The layers of this crate are made for messages both ways, a codec and a limit among them: for their sake it has a sink of messages,
/// which refuses each one with an error that [`is_config`](Error::is_config), but for a close message, which closes the connection.
/// That nothing can be sent, the type of [`Sse`] alone says.
///
/// Between a connector and a codec:
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
/// Where it waits, its end and its cancel safety are those of [`Sse`].
#[derive(Debug)]
pub struct SseMessages(Sse);

impl SseMessages {
    pub(super) fn new(events: Sse) -> Self {
        Self(events)
    }

    /// The stream of events.
    #[must_use]
    pub fn get_ref(&self) -> &Sse {
        &self.0
    }

    /// The stream of events.
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
        Err(Error::config("an event stream only receives; messages go both ways over SseDuplexConnector"))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Nothing was ever accepted that waits.
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
