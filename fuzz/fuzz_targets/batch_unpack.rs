//! One binary message of a peer: an error, or messages that are all within it, and come out the same when they are
//! packed and unpacked again. Where the input has no mark of a batch, it gets one, so that no run is spent on finding
//! it.
#![no_main]

use futures_util::{FutureExt, SinkExt, StreamExt};
use libfuzzer_sys::fuzz_target;
use tower_layer::Layer;
use tower_transport::{
    Message, channel,
    layer::batch::{BatchLayer, BatchPolicy},
};

const MARK: [u8; 8] = [1, 2, 0xf8, b't', b't', b'x', 1, 0xff];

fn unpacked(message: Message) -> Option<Vec<Message>> {
    let (mut far, near) = channel::<Message, Message>(1);
    far.send(message).now_or_never().expect("there is room").expect("it is open");
    drop(far);
    let items = BatchLayer::default().layer(near).collect::<Vec<_>>().now_or_never().expect("the peer is gone");
    let is_bad = items.iter().any(Result::is_err);
    assert!(!is_bad || items.len() == 1, "nothing of a bad batch is given");
    items.into_iter().collect::<Result<_, _>>().ok()
}

fuzz_target!(|input: &[u8]| {
    let mut bytes = input.to_vec();
    if !input.ends_with(&MARK[1..]) {
        bytes.extend_from_slice(&MARK);
    }
    let length = bytes.len();
    let Some(messages) = unpacked(Message::binary(bytes)) else { return };
    assert!(messages.iter().map(Message::len).sum::<usize>() < length);

    let (near, mut far) = channel::<Message, Message>(1);
    let policy = BatchPolicy::on_flush(u16::MAX).max_bytes(1 << 30);
    let mut near = BatchLayer::new(policy).layer(near);
    if messages.len() > usize::from(u16::MAX) {
        return;
    }
    for message in &messages {
        near.feed(message.clone()).now_or_never().expect("there is room").expect("it is open");
    }
    SinkExt::<Message>::flush(&mut near).now_or_never().expect("there is room").expect("it is open");
    let again = far.next().now_or_never().expect("it was flushed").expect("it is open").expect("a channel");
    assert_eq!(unpacked(again), Some(messages));
});
