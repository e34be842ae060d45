//! One message: the lowest two bits of the first byte choose its kind, the rest is the payload. Sent by a raw peer, it
//! is passed on unchanged, answered, or an error, and the next message arrives. Sent through the layer, it arrives
//! unchanged.
#![no_main]

use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use libfuzzer_sys::fuzz_target;
use tower_transport::{Message, TransportExt, channel, layer::heartbeat::HeartbeatLayer};

fuzz_target!(|input: &[u8]| {
    let Some((kind, payload)) = input.split_first() else { return };
    let message = match kind & 3 {
        0 | 1 => Message::binary(payload.to_vec()),
        2 => Message::Ping(payload.to_vec().into()),
        _ => Message::Pong(payload.to_vec().into()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    let _guard = runtime.enter();
    let layer = HeartbeatLayer::new(Duration::from_secs(3600), Duration::from_secs(3600)).answer_application_level();
    let end = Message::text("the end");

    let (here, mut peer) = channel::<Message, Message>(8);
    let mut here = here.layer(layer.clone());
    for sent in [message.clone(), end.clone()] {
        peer.send(sent).now_or_never().expect("there is room").expect("it is open");
    }
    let mut passed = 0;
    while let Some(received) = here.next().now_or_never() {
        match received.expect("it is open") {
            Ok(received) if received == end => passed += 1,
            // A mark of kind 0 is taken off.
            Ok(received) => assert!(payload.starts_with(received.as_bytes())),
            Err(error) => assert!(error.is_protocol()),
        }
    }
    assert_eq!(passed, 1);
    if let Some(answer) = peer.next().now_or_never() {
        let answer = answer.expect("it is open").expect("a channel has no errors");
        assert_eq!(answer.as_bytes()[..8], payload[..8]);
    }

    let (here, peer) = channel::<Message, Message>(8);
    let (mut here, mut peer) = (here.layer(layer.clone()), peer.layer(layer));
    here.send(message.clone()).now_or_never().expect("there is room").expect("it is open");
    // A pong that looks like one of the layer's own is taken for it.
    let is_own = matches!(&message, Message::Pong(payload) if payload.len() == 8 && payload.starts_with(b"ttxh"));
    let received = peer.next().now_or_never().map(|received| received.expect("it is open").expect("it is plain"));
    assert_eq!(received, (!is_own).then_some(message));
});
