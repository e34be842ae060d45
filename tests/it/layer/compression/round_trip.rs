//! Messages arrive as they were sent, and their form on the wire.

use std::{pin::Pin, task::Poll};

use futures_util::{Sink, SinkExt, Stream};
use proptest::prelude::*;
use tower_transport::{CloseCode, CloseFrame, layer::compression::Level};

use super::*;

#[test]
fn a_text_goes_out_as_a_smaller_binary_message_and_comes_in_as_text() {
    let (mut near, mut far) = over_bare(Deflate::new());
    let text = chat(1, 2000);
    put(&mut near, Message::text(text.clone()));
    let wire = next(&mut far).unwrap();
    let Message::Binary(bytes) = &wire else { panic!("not binary") };
    assert!(bytes.len() < 1000, "{}", bytes.len());
    let (length, mark) = bytes[bytes.len() - 12..].split_at(4);
    assert_eq!(length, (text.len() as u32).to_le_bytes());
    assert_eq!(mark, [TEXT, 1, 0xf8, b't', b't', b'x', 1, 0xff]);
    put(&mut far, wire);
    assert_eq!(next(&mut near).unwrap(), Message::text(text));
}

#[test]
fn one_message_in_is_one_message_out_at_once() {
    let (mut near, mut far) = over_bare(Deflate::new());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    for i in 0..3 {
        assert!(near.poll_ready_unpin(&mut cx).is_ready());
        near.start_send_unpin(Message::binary(chat(i, 500).into_bytes())).unwrap();
        assert!(near.poll_flush_unpin(&mut cx).is_ready());
        let Poll::Ready(Some(Ok(wire))) = far.poll_next_unpin(&mut cx) else { panic!("it waits for more") };
        assert!(far.poll_next_unpin(&mut cx).is_pending());
        put(&mut far, wire);
        assert!(matches!(near.poll_next_unpin(&mut cx), Poll::Ready(Some(Ok(Message::Binary(_))))));
        assert!(near.poll_next_unpin(&mut cx).is_pending());
    }
}

#[test]
fn what_pythons_zlib_writes_is_understood() {
    // compressobj(9, DEFLATED, -15), flush(Z_SYNC_FLUSH)[:-4], the length, the mark.
    const WIRE: &str = "aa562acacfcf55b2524a4fcd4b2d4acc51d2512a49ad28010a64a4e6e4e42bd5ea54e35491989e9899875f455e8a02541500690000000201f874747801ff";
    let bytes: Vec<u8> = (0..WIRE.len()).step_by(2).map(|i| u8::from_str_radix(&WIRE[i..i + 2], 16).unwrap()).collect();
    let (mut near, mut far) = over_bare(Deflate::new());
    put(&mut far, Message::binary(bytes));
    let text =
        r#"{"room":"general","text":"hello"},{"room":"general","text":"again"},{"room":"general","text":"and again"}"#;
    assert_eq!(next(&mut near).unwrap(), Message::text(text));
}

#[test]
fn small_messages_and_those_that_do_not_shrink_go_out_as_they_are_without_a_copy() {
    let (mut near, mut far) = over_bare(Deflate::new());
    let stats = near.stats();
    for (payload, skipped) in [(chat(1, 255).into_bytes(), 0), (noise(1, 2000), 1), (noise(2, 200_000), 2)] {
        let message = Message::binary(payload);
        put(&mut near, message.clone());
        let arrived = next(&mut far).unwrap();
        assert_eq!(arrived, message);
        assert_eq!(arrived.as_bytes().as_ptr(), message.as_bytes().as_ptr());
        assert_eq!(stats.skipped(), skipped);
    }
    assert_eq!(stats.sent().messages, 0);
}

#[test]
fn the_smallest_size_is_a_setting_and_no_message_grows() {
    let (mut near, mut far) = over_bare(Deflate::new().min_size(0));
    for length in [0, 1, 11, 12, 13, 20, 40, 80] {
        let message = Message::text("z".repeat(length));
        put(&mut near, message.clone());
        let arrived = next(&mut far).unwrap();
        assert!(arrived.len() <= length);
        assert!(length > 12 || arrived == message, "{length}");
    }
}

#[test]
fn plain_messages_of_a_peer_and_control_messages_pass_both_ways() {
    let (mut near, mut far) = over_bare(Deflate::new());
    let close = Message::Close(Some(CloseFrame::new(CloseCode::AWAY, "bye")));
    let all = [Message::text(chat(1, 100)), Message::Ping("a".into()), Message::Pong("b".into()), close];
    for message in all {
        put(&mut near, message.clone());
        assert_eq!(next(&mut far).unwrap(), message);
        put(&mut far, message.clone());
        assert_eq!(next(&mut near).unwrap(), message);
    }
    put(&mut far, Message::text(chat(1, 5000)));
    assert_eq!(next(&mut near).unwrap(), Message::text(chat(1, 5000)));
}

#[test]
fn a_message_that_looks_compressed_comes_in_as_it_went_out() {
    for kind in 0..=255 {
        for deflate in [Deflate::new(), Deflate::new().min_size(0), Deflate::new().receive_only()] {
            let (mut near, mut far) = pair(deflate, Deflate::new());
            for payload in [Vec::new(), noise(1, 20), chat(1, 1000).into_bytes()] {
                let message = marked(&payload, 100, kind);
                put(&mut near, message.clone());
                assert_eq!(next(&mut far).unwrap(), message);
            }
        }
    }
}

#[test]
fn a_layer_that_only_receives_or_has_level_0_sends_plain_and_understands_both() {
    for deflate in [Deflate::new().receive_only(), Deflate::new().level(Level::NONE)] {
        let (mut near, mut far) = over_bare(deflate);
        let message = Message::text(chat(1, 5000));
        put(&mut near, message.clone());
        assert_eq!(next(&mut far).unwrap(), message);
        put(&mut far, marked(&data(message.as_bytes()), message.len(), TEXT));
        put(&mut far, message.clone());
        assert_eq!(next(&mut near).unwrap(), message);
        assert_eq!(next(&mut near).unwrap(), message);
    }
}

#[test]
fn what_a_peer_with_the_same_limits_would_refuse_is_sent_plain() {
    let (mut near, mut far) = pair(Deflate::new().max_inflated(5000), Deflate::new().max_inflated(5000));
    for length in [4999, 5000, 5001, 100_000] {
        put(&mut near, Message::text(chat(1, length)));
        assert_eq!(next(&mut far).unwrap().len(), chat(1, length).len());
    }
    assert_eq!(near.stats().sent().messages, 2);

    let (mut near, mut far) = pair(Deflate::new().level(Level::BALANCED), Deflate::new());
    for length in [64 << 10, (64 << 10) + 1, 4 << 20] {
        put(&mut near, Message::binary(vec![0; length]));
        assert_eq!(next(&mut far).unwrap(), Message::binary(vec![0; length]));
    }
    assert_eq!((near.stats().sent().messages, near.stats().skipped()), (1, 2));
}

#[test]
fn a_message_with_a_last_block_is_understood() {
    let text = chat(1, 1000);
    let mut data = Vec::with_capacity(2000);
    Compress::new(Compression::new(6), false).compress_vec(text.as_bytes(), &mut data, FlushCompress::Finish).unwrap();
    let (mut near, mut far) = over_bare(Deflate::new());
    for _ in 0..2 {
        put(&mut far, marked(&data, text.len(), TEXT));
        assert_eq!(next(&mut near).unwrap(), Message::text(text.clone()));
    }
}

#[test]
fn an_empty_message_may_come_compressed() {
    let (mut near, mut far) = over_bare(Deflate::new());
    for data in [Vec::new(), vec![0], vec![2, 0]] {
        put(&mut far, marked(&data, 0, BINARY));
        assert_eq!(next(&mut near).unwrap(), Message::binary(""));
    }
}

#[test]
fn the_counts_are_those_of_all_transports_of_a_layer_both_ways() {
    let layer = CompressionLayer::new(Deflate::new());
    let stats = layer.stats();
    assert_eq!(stats.sent().ratio(), None);
    for _ in 0..2 {
        let (here, there) = channel(8);
        let (mut near, mut far) = (layer.layer(here), layer.clone().layer(there));
        put(&mut near, Message::text("ha".repeat(1000)));
        next(&mut far).unwrap();
    }
    assert_eq!((stats.sent().messages, stats.sent().plain_bytes), (2, 4000));
    assert_eq!(stats.sent(), stats.received());
    assert!(stats.sent().ratio().unwrap() > 50.0, "{:?}", stats.sent());
    assert_eq!((stats.skipped(), stats.refused()), (0, 0));
}

#[test]
fn levels_are_0_to_9() {
    for level in 0..=9 {
        assert_eq!(Level::try_from(level).unwrap().get(), level);
    }
    assert!(Level::try_from(10).unwrap_err().is_config());
    assert_eq!(Level::default(), Level::FASTEST);
}

#[test]
fn a_compressed_transport_is_a_transport_that_is_send_and_sync_when_its_inner_one_is() {
    fn check<T: Send + Sync + tower_transport::Transport<Message, In = Message>>(_: &T) {}
    check(&over_bare(Deflate::new()).0);
}

/// A transport of a foreign error type, with one message.
struct Foreign(Option<Message>);

impl Sink<Message> for Foreign {
    type Error = std::io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, _: Message) -> std::io::Result<()> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Stream for Foreign {
    type Item = std::io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}

#[test]
fn any_transport_whose_error_becomes_ours_may_be_below() {
    let wire = marked(&data(b"hello hello"), 11, TEXT);
    let mut near = CompressionLayer::new(Deflate::new()).layer(Foreign(Some(wire)));
    assert_eq!(next(&mut near).unwrap(), Message::text("hello hello"));
    assert!(near.send(Message::text(chat(1, 1000))).now_or_never().unwrap().unwrap_err().is_closed());
    assert!(is_at_its_end(&mut near));
}

/// Text or binary, more or less compressible, of 0 to 200 KiB.
fn message() -> impl Strategy<Value = Message> {
    let length = prop_oneof![4 => 0..3000_usize, 1 => 0..204_800_usize];
    (any::<usize>(), length, 0..5).prop_map(|(seed, length, kind)| match kind {
        0 => Message::binary(noise(seed as u64 >> 1, length)),
        1 => Message::binary(vec![seed as u8; length]),
        2 => Message::binary(chat(seed, length).into_bytes()),
        3 => Message::binary([noise(seed as u64 >> 1, length / 2), chat(seed, length / 2).into_bytes()].concat()),
        _ => Message::text(chat(seed, length)),
    })
}

fn deflate() -> impl Strategy<Value = Deflate> {
    let sizes = prop_oneof![Just(0), Just(256), 0..4000_usize];
    (0..=9_u8, sizes).prop_map(|(level, size)| Deflate::new().level(Level::try_from(level).unwrap()).min_size(size))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_message_comes_in_as_it_went_out(
        messages in prop::collection::vec((message(), any::<bool>()), 1..12),
        near in deflate(),
        far in deflate(),
        keep in any::<bool>(),
    ) {
        let (near, far) = if keep { (near.keep_context(), far.keep_context()) } else { (near, far) };
        let (mut near, mut far) = pair(near, far);
        for (message, is_out) in messages {
            let (from, to) = if is_out { (&mut near, &mut far) } else { (&mut far, &mut near) };
            put(from, message.clone());
            prop_assert!(next(to).unwrap() == message);
        }
    }
}
