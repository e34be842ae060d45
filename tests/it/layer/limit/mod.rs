//! Times on tokio's paused clock.

mod contract;
mod size;
mod time;

use std::{
    task::{Context, Waker},
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, Stream, StreamExt};
use tower_transport::{
    Channel, CloseCode, CloseFrame, Message, TransportExt, channel,
    layer::limit::{LimitLayer, Limited},
};

fn pair(layer: LimitLayer, capacity: usize) -> (Limited<Channel>, Channel) {
    let (near, far) = channel(capacity);
    (near.layer(layer), far)
}

fn bytes(number: usize) -> Message {
    Message::binary(vec![7; number])
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn put(channel: &mut Channel, message: Message) {
    channel.send_message(message).now_or_never().unwrap().unwrap();
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// A close message of this code is the last thing that `far` gets.
fn expect_close(far: &mut Channel, code: CloseCode, reason: &str) {
    let Some(Some(Ok(Message::Close(Some(frame))))) = far.next().now_or_never() else { panic!("no close message") };
    assert_eq!((frame.code(), frame.reason()), (code, reason));
    assert!(far.next().now_or_never().unwrap().is_none(), "the transport was not closed");
}
