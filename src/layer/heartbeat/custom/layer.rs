use std::{fmt, time::Duration};

use tower_layer::Layer;

use super::{CustomHeartbeat, NoReplies};
use crate::layer::heartbeat::Monitor;

/// Detects a dead peer by messages of your own: what [`HeartbeatLayer::custom`](crate::layer::heartbeat::HeartbeatLayer::custom) makes.
///
/// It does what the [heartbeat](crate::layer::heartbeat) does, with these differences:
///
/// - Pings and answers are messages of any type, so the layer may also go above a codec. The predicate says which messages are answers.
/// - A ping is sent each interval, even to a peer that talks, since many such protocols want one in time. The interval counts from
///   the first message after the last ping. With [`when_silent`](Self::when_silent) a ping is sent only after a silence.
/// - Answers are taken out of the stream, unless [`pass_on`](Self::pass_on) says otherwise.
/// - Pings of the peer are answered by [`reply`](Self::reply).
///
/// The peer is given up if nothing at all comes within the timeout of a ping: neither an answer nor another message, nor enough bytes of
/// one. Then the stream gives an error that [`is_timeout`](crate::Error::is_timeout), and ends.
///
/// At most one ping and one answer wait for room in the transport below; a newer one replaces an older.
///
/// The [`Monitor`] tells the round-trip time. An answer does not say which ping it is for, so a round trip is measured only if no
/// older ping is unanswered.
///
/// # Where it belongs in the stack
///
/// Below reconnect, as every heartbeat: in [`per_connection`](crate::ServiceBuilderExt::per_connection), and above the codec if the
/// messages are values. Then it is silent while there is no connection, and each connection starts with an interval of its own. Above
/// reconnect it would take an outage for a dead peer, and end the transport for good.
///
/// After the sink's `poll_close` nothing more is asked. A close message is a message like any other here, so after a close that you
/// send as a message a ping may still be due, and fails: close with `poll_close`.
///
/// # Errors, cancel safety and cost
///
/// Those of the [heartbeat](crate::layer::heartbeat), and for each incoming message a call of the predicate and of `reply`.
///
/// # Example
///
/// An exchange that wants `{"op":"ping"}` every 15 s, answers `{"op":"pong"}`, and asks the same of its clients:
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// use std::time::Duration;
/// use tower::Layer;
/// use tower_transport::{Message, TransportExt, channel, layer::heartbeat::HeartbeatLayer};
///
/// const PING: &str = r#"{"op":"ping"}"#;
/// const PONG: &str = r#"{"op":"pong"}"#;
///
/// let layer = HeartbeatLayer::new(Duration::from_secs(15), Duration::from_secs(10))
///     .custom(|_number| Message::text(PING), |message: &Message| message.as_text() == Some(PONG))
///     .reply(|message: &Message| (message.as_text() == Some(PING)).then(|| Message::text(PONG)));
///
/// let (client, mut exchange) = channel::<Message, Message>(8);
/// let mut client = layer.layer(client);
/// let reader = tokio::spawn(async move {
///     // Neither the pings nor the pongs are seen here.
///     let price = client.receive_message().await.unwrap().unwrap();
///     assert_eq!(price, Message::text(r#"{"price":7}"#));
///     // Then the exchange says nothing more.
///     client.receive_message().await.unwrap().unwrap_err()
/// });
///
/// assert_eq!(exchange.receive_message().await.unwrap()?, Message::text(PING));
/// exchange.send_message(Message::text(PONG)).await?;
/// exchange.send_message(Message::text(PING)).await?;
/// assert_eq!(exchange.receive_message().await.unwrap()?, Message::text(PONG));
/// exchange.send_message(Message::text(r#"{"price":7}"#)).await?;
/// assert!(reader.await.unwrap().is_timeout());
/// # Ok::<(), tower_transport::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct CustomHeartbeatLayer<P, A, R = NoReplies> {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) monitor: Option<Monitor>,
    pub(super) ping: P,
    pub(super) is_answer: A,
    pub(super) replies: R,
    pub(super) is_steady: bool,
    pub(super) passes_on: bool,
}

impl<P, A> CustomHeartbeatLayer<P, A> {
    pub(crate) fn new(interval: Duration, timeout: Duration, monitor: Option<Monitor>, ping: P, is_answer: A) -> Self {
        Self { interval, timeout, monitor, ping, is_answer, replies: NoReplies, is_steady: true, passes_on: false }
    }
}

impl<P, A, R> CustomHeartbeatLayer<P, A, R> {
    /// Answers pings of the peer: `reply` returns the answer if a message is such a ping. That message is taken out of the stream, unless
    /// [`pass_on`](Self::pass_on) says otherwise. While an answer cannot be written it waits, and only that to the newest ping.
    #[must_use]
    pub fn reply<In, Out, F>(self, reply: F) -> CustomHeartbeatLayer<P, A, F>
    where
        F: FnMut(&In) -> Option<Out>,
    {
        let Self { interval, timeout, monitor, ping, is_answer, replies: _, is_steady, passes_on } = self;
        CustomHeartbeatLayer { interval, timeout, monitor, ping, is_answer, replies: reply, is_steady, passes_on }
    }

    /// Passes answers, and pings that were answered, on to the user. By default they are taken out of the stream.
    #[must_use]
    pub fn pass_on(mut self) -> Self {
        self.passes_on = true;
        self
    }

    /// Sends a ping only when nothing came for the interval. By default a ping is sent each interval.
    #[must_use]
    pub fn when_silent(mut self) -> Self {
        self.is_steady = false;
        self
    }
}

impl<T, Out, P, A, R> Layer<T> for CustomHeartbeatLayer<P, A, R>
where
    P: FnMut(u32) -> Out + Clone,
    A: Clone,
    R: Clone,
{
    type Service = CustomHeartbeat<T, Out, P, A, R>;

    fn layer(&self, inner: T) -> Self::Service {
        CustomHeartbeat::new(inner, self.clone())
    }
}

impl<P, A, R> fmt::Debug for CustomHeartbeatLayer<P, A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomHeartbeatLayer")
            .field("interval", &self.interval)
            .field("timeout", &self.timeout)
            .field("is_steady", &self.is_steady)
            .field("passes_on", &self.passes_on)
            .finish_non_exhaustive()
    }
}
