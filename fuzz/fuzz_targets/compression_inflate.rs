//! The lowest bit of the first byte chooses whether the context is kept; then come messages, each behind its length in
//! two bytes: the peer's payloads, as the compression layer gets them. Whatever they are: messages within the limits,
//! or errors, and a good message after them comes through, unless the connection was closed for a context that is lost.
#![no_main]

use bytes::Bytes;
use futures_util::FutureExt;
use libfuzzer_sys::fuzz_target;
use tower_transport::{
    Message, TransportExt, channel,
    layer::compression::{CompressionLayer, Deflate},
};
use tower_layer::Layer;

const LIMIT: usize = 100_000;

fuzz_target!(|input: &[u8]| {
    let Some((flags, mut input)) = input.split_first() else { return };
    let deflate = Deflate::new().max_inflated(LIMIT);
    let deflate = if flags & 1 == 0 { deflate } else { deflate.keep_context() };
    let layer = CompressionLayer::new(deflate);
    let (here, mut there) = channel::<Message, Message>(1);
    let mut here = layer.layer(here);
    let mut put = |message: Message| there.send_message(message).now_or_never().expect("there is room").is_ok();
    while let Some((length, rest)) = input.split_first_chunk() {
        let (payload, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
        input = rest;
        if !put(Bytes::copy_from_slice(payload).into()) {
            return;
        }
        match here.receive_message().now_or_never().expect("it is there") {
            Some(Ok(message)) => assert!(message.len() <= LIMIT.max(payload.len())),
            Some(Err(error)) => assert!(error.is_codec() || error.is_too_large() || error.is_protocol()),
            None => return assert!(layer.stats().refused() > 0, "it ended for no reason"),
        }
    }
    let good = Message::text("so it goes, ".repeat(30));
    let (sender, mut wire) = channel::<Message, Message>(1);
    let mut sender = CompressionLayer::new(Deflate::new()).layer(sender);
    assert!(sender.send_message(good.clone()).now_or_never().is_some_and(|sent| sent.is_ok()));
    let Some(Some(Ok(wire))) = wire.receive_message().now_or_never() else { panic!("it is there") };
    if put(wire) {
        match here.receive_message().now_or_never().expect("it is there") {
            Some(received) => assert_eq!(received.expect("it is good"), good),
            None => assert!(layer.stats().refused() > 0, "it ended for no reason"),
        }
    }
});
