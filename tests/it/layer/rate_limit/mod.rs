//! All on tokio's paused clock.

mod close;
mod contract;
mod incoming;
mod keyed;
mod model;
mod outgoing;
mod service;
mod shared;

use std::{
    num::NonZeroU32,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tokio::time::advance;
use tower_transport::{
    Channel, Error, Message, TransportExt, channel,
    layer::rate_limit::{Quota, RateLimitLayer},
};

fn cells(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

/// Ten a second, one each 100 ms, and `burst` at once.
fn ten(burst: u32) -> Quota {
    Quota::per_second(cells(10)).allow_burst(cells(burst))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn per_connection(burst: u32) -> RateLimitLayer {
    RateLimitLayer::per_connection(ten(burst)).runtime_clock()
}

fn text(number: usize) -> Message {
    Message::text(number.to_string())
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Sends as many messages as possible now, or returns the error.
fn try_send<M, S: Sink<M, Error = Error> + Unpin>(sink: &mut S, message: M) -> Result<bool, Error> {
    match sink.poll_ready_unpin(&mut noop()) {
        Poll::Ready(ready) => ready?,
        Poll::Pending => return Ok(false),
    }
    sink.start_send_unpin(message)?;
    Ok(true)
}

/// The messages that have arrived.
fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    stream.next().now_or_never().map(|item| item.expect("the stream ended"))
}

fn put<M>(channel: &mut Channel<M>, message: M) {
    channel.send_message(message).now_or_never().unwrap().unwrap();
}

fn messages(capacity: usize) -> (Channel, Channel) {
    channel(capacity)
}
