mod contract;
mod cost;
mod kept;
mod refused;
mod round_trip;
mod secrets;

use flate2::{Compress, Compression, FlushCompress};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tower::{Layer, ServiceBuilder};
use tower_transport::{
    Channel, Error, Message, ServiceBuilderExt, TransportExt, channel,
    layer::compression::{Compressed, CompressionLayer, Deflate},
};

/// The kinds of mark, of `docs/wire.md`.
const BINARY: u8 = 1;
const TEXT: u8 = 2;
const KEPT_BINARY: u8 = 3;
const KEPT_TEXT: u8 = 4;

/// The layer over one end of a channel, and the bare other end.
fn over_bare(deflate: Deflate) -> (Compressed<Channel>, Channel) {
    let (near, far) = channel(8);
    (ServiceBuilder::new().compress(deflate).service(near), far)
}

/// The layer over both ends.
fn pair(near: Deflate, far: Deflate) -> (Compressed<Channel>, Compressed<Channel>) {
    let (here, there) = channel(8);
    (CompressionLayer::new(near).layer(here), CompressionLayer::new(far).layer(there))
}

fn put(transport: &mut (impl tower_transport::Transport<Message> + Unpin), message: Message) {
    transport.send_message(message).now_or_never().expect("there is room").unwrap();
}

fn next(transport: &mut (impl tower_transport::Transport<Message, In = Message> + Unpin)) -> Result<Message, Error> {
    transport.next().now_or_never().expect("it is there").expect("it is not the end").map_err(Into::into)
}

fn is_at_its_end(transport: &mut (impl tower_transport::Transport<Message> + Unpin)) -> bool {
    transport.next().now_or_never().is_some_and(|item| item.is_none())
}

/// `length` bytes that look like the JSON of a chat.
fn chat(seed: usize, length: usize) -> String {
    let words = ["price", "of", "order", "moves", "again", "server", "thanks", "tomorrow", "queue", "full", "Grüße"];
    let mut text = String::new();
    let mut i = seed;
    while text.len() < length {
        i = i.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (id, word, other) = (i >> 20, words[(i >> 33) % words.len()], words[(i >> 40) % words.len()]);
        text += &format!(r#"{{"id":{id},"room":"general","text":"{word} {other} {word}"}},"#);
    }
    let end = (0..=length).rev().find(|end| text.is_char_boundary(*end)).unwrap();
    text.truncate(end);
    text
}

/// Bytes that do not shrink.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    };
    std::iter::repeat_with(byte).take(length).collect()
}

/// The deflate data of a message, in full: with the four bytes that a sync flush ends in.
fn flushed(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(plain.len() + plain.len() / 8 + 64);
    Compress::new(Compression::new(6), false).compress_vec(plain, &mut out, FlushCompress::Sync).unwrap();
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out
}

/// The same as it goes into a message.
fn data(plain: &[u8]) -> Vec<u8> {
    let mut data = flushed(plain);
    data.truncate(data.len() - 4);
    data
}

/// A message as a peer may write it, by `docs/wire.md`.
fn marked(data: &[u8], length: usize, kind: u8) -> Message {
    let length = u32::try_from(length).unwrap().to_le_bytes();
    let mark = [kind, 1, 0xf8, b't', b't', b'x', 1, 0xff];
    Message::binary([data, &length, &mark].concat())
}
