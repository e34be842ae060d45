//! Many small messages in one, poll by poll.

mod contract;
mod round_trip;
mod sending;
mod time;
mod unpacking;

use std::task::{Context, Waker};

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, Stream, StreamExt};
use tower::Layer;
use tower_transport::{
    Channel, Error, Message, channel,
    layer::batch::{BatchLayer, BatchPolicy, Batched},
};

const MARK: [u8; 8] = [1, 2, 0xf8, b't', b't', b'x', 1, 0xff];

/// A batch as the docs say it is written: the payloads, then the entries, their length and the mark.
fn written(payload: &[u8], index: &[u8]) -> Message {
    let length = (index.len() as u32).to_le_bytes();
    Message::binary([payload, index, &length, &MARK].concat())
}

/// The batch of these messages.
fn batch(messages: &[Message]) -> Message {
    let (mut payload, mut index) = (Vec::new(), Vec::new());
    for message in messages {
        payload.extend_from_slice(message.as_bytes());
        let mut entry = message.len() << 1 | usize::from(message.as_text().is_some());
        while entry >= 128 {
            index.push(entry as u8 | 128);
            entry >>= 7;
        }
        index.push(entry as u8);
    }
    written(&payload, &index)
}

fn text(text: &str) -> Message {
    Message::text(text)
}

/// `near` packs by `policy`, `far` is bare.
fn half(policy: BatchPolicy, capacity: usize) -> (Batched<Channel>, Channel) {
    let (near, far) = channel(capacity);
    (BatchLayer::new(policy).layer(near), far)
}

fn feed(near: &mut Batched<Channel>, message: Message) {
    near.feed(message).now_or_never().expect("there is room").unwrap();
}

fn flush(near: &mut Batched<Channel>) {
    near.flush().now_or_never().expect("there is room").unwrap();
}

/// The messages that can be received now.
fn next<S: Stream<Item = Result<Message, Error>> + Unpin>(stream: &mut S) -> Option<Message> {
    stream.next().now_or_never().map(|item| item.expect("it is open").unwrap())
}

fn failure<S: Stream<Item = Result<Message, Error>> + Unpin>(stream: &mut S) -> Error {
    stream.next().now_or_never().expect("it is there").expect("it is open").unwrap_err()
}

fn put(far: &mut Channel, message: Message) {
    far.send(message).now_or_never().expect("there is room").unwrap();
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn bytes(message: &Message) -> Bytes {
    message.clone().into_bytes()
}
