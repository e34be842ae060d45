use std::time::Duration;

use tower_layer::Layer;

use super::{Heartbeat, Monitor, pings::Pings, watchdog::Watchdog};
use crate::Error;

/// Detects a dead peer by messages of your own. Created by [`HeartbeatLayer::custom`](super::HeartbeatLayer::custom).
///
/// It works like the [heartbeat](super), with these differences:
///
/// - Pings and answers are messages of any type, so the layer may also go above a codec. The predicate says which
///   messages are answers.
/// - A ping is sent each interval, even to a peer that talks, because many such protocols require that. The interval
///   counts from the first message after the last ping. It is sent while the stream is polled: a reader that takes its
///   time with a message sends it with the next poll. With [`when_silent`](Self::when_silent) a ping is sent only
///   after a silence.
/// - Answers are taken out of the stream, unless [`pass_on`](Self::pass_on) is set.
/// - Pings of the peer are answered by [`reply`](Self::reply).
///
/// The peer is dead if nothing at all arrives within the timeout of a ping: neither an answer nor another message, nor
/// enough bytes of one. Then the stream returns an error for which [`is_timeout`](crate::Error::is_timeout) is true,
/// and ends.
///
/// At most one ping and one answer wait for room in the transport below; a newer one replaces an older.
///
/// The [`Monitor`] has the round-trip time. An answer does not say which ping it is for, so a round trip is measured
/// only if no older ping is unanswered.
///
/// # Position in the stack
///
/// Below reconnect, as every heartbeat: in [`per_connection`](crate::ServiceBuilderExt::per_connection), and above the
/// codec if the messages are values. It is then silent while there is no connection, and each connection starts with an
/// interval of its own. Above reconnect it would treat an outage as a dead peer, and end the transport for good.
///
/// After the sink's `poll_close` no more pings are sent. A close message is a message like any other here: a ping may
/// still be due after it, and fails. Close with `poll_close` instead.
///
/// # Errors, cancel safety and cost
///
/// Those of the [heartbeat](super), and a call of the predicate and of `reply` for each incoming message.
///
/// # Example
///
/// An exchange that requires `{"op":"ping"}` every 15 s, answers `{"op":"pong"}`, and pings its clients in the same
/// form:
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
    interval: Duration,
    timeout: Duration,
    monitor: Option<Monitor>,
    ping: P,
    is_answer: A,
    replies: R,
    is_steady: bool,
    passes_on: bool,
}

impl<P, A> CustomHeartbeatLayer<P, A> {
    pub(super) fn new(interval: Duration, timeout: Duration, monitor: Option<Monitor>, ping: P, is_answer: A) -> Self {
        Self { interval, timeout, monitor, ping, is_answer, replies: NoReplies, is_steady: true, passes_on: false }
    }
}

impl<P, A, R> CustomHeartbeatLayer<P, A, R> {
    /// Answers pings of the peer: `reply` returns the answer if a message is such a ping. That message is taken out of
    /// the stream, unless [`pass_on`](Self::pass_on) is set. An answer that cannot be written waits, and is replaced by
    /// the answer to a newer ping.
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
        let Self { interval, timeout, monitor, ping, is_answer, replies, is_steady, passes_on } = self.clone();
        let watchdog = Watchdog::new(interval, timeout, is_steady, monitor.unwrap_or_default());
        let pings = CustomPings { ping, is_answer, replies, passes_on, unanswered: Unanswered::None };
        Heartbeat::new(inner, pings, watchdog)
    }
}

/// A transport that detects a dead peer by messages of your own, created by [`CustomHeartbeatLayer`].
pub type CustomHeartbeat<T, Out, P, A, R> = Heartbeat<T, Out, CustomPings<P, A, R>>;

/// The pings and answers of a [`CustomHeartbeatLayer`].
#[derive(Debug)]
pub struct CustomPings<P, A, R> {
    ping: P,
    is_answer: A,
    replies: R,
    passes_on: bool,
    unanswered: Unanswered,
}

/// The pings without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unanswered {
    None,
    Newest,
    /// An answer may be for any of them.
    Several,
}

impl<In, Out, P, A, R> Pings<In, Out> for CustomPings<P, A, R>
where
    P: FnMut(u32) -> Out,
    A: FnMut(&In) -> bool,
    R: Replies<In, Out>,
{
    fn ping(&mut self, number: u32) -> Out {
        self.unanswered = match self.unanswered {
            Unanswered::None => Unanswered::Newest,
            Unanswered::Newest | Unanswered::Several => Unanswered::Several,
        };
        (self.ping)(number)
    }

    // Only the user's functions know, and they may not be called twice for one message.
    fn concerns_incoming(&self, _: &In) -> bool {
        true
    }

    fn receive(&mut self, message: In, watchdog: &mut Watchdog<Out>) -> Option<Result<In, Error>> {
        if (self.is_answer)(&message) {
            // With several pings in flight, nothing tells which of them this answers, so the time would be a guess.
            if std::mem::replace(&mut self.unanswered, Unanswered::None) == Unanswered::Newest {
                watchdog.measure_round_trip();
            }
        } else if let Some(reply) = self.replies.reply(&message) {
            watchdog.answer(reply);
        } else {
            return Some(Ok(message));
        }
        self.passes_on.then_some(Ok(message))
    }

    fn concerns_outgoing(&self, _: &Out) -> bool {
        false
    }

    fn send(&self, message: Out, _: &mut Watchdog<Out>) -> Out {
        message
    }
}

/// No answers to the peer's pings: the default of [`CustomHeartbeatLayer`].
#[derive(Clone, Copy, Debug, Default)]
pub struct NoReplies;

/// The answers to the peer's pings: a function, or [`NoReplies`].
pub trait Replies<In, Out> {
    /// Returns the answer, if `message` is a ping.
    fn reply(&mut self, message: &In) -> Option<Out>;
}

impl<In, Out> Replies<In, Out> for NoReplies {
    #[inline]
    fn reply(&mut self, _: &In) -> Option<Out> {
        None
    }
}

impl<In, Out, F: FnMut(&In) -> Option<Out>> Replies<In, Out> for F {
    #[inline]
    fn reply(&mut self, message: &In) -> Option<Out> {
        self(message)
    }
}

debug_fields!([P, A, R] CustomHeartbeatLayer<P, A, R> { interval, timeout, is_steady, passes_on });
