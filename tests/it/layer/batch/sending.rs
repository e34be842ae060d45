//! Which messages leave when, on a stopped clock.

use std::{task::Poll, time::Duration};

use futures_util::{FutureExt, SinkExt};
use tower::{Layer, ServiceBuilder};
use tower_transport::{
    CloseCode, CloseFrame, Error, Message, ServiceBuilderExt, TransportExt, channel,
    layer::batch::{BatchLayer, BatchPolicy},
    test_util::{WakeCount, script::Script},
};

use super::{batch, bytes, feed, flush, half, next, noop, put, text, written};

fn on_flush(count: u16) -> BatchPolicy {
    BatchPolicy::on_flush(count)
}

#[test]
fn a_lone_message_that_is_flushed_goes_out_at_once_as_it_is_and_uncopied() {
    let (mut near, mut far) = half(on_flush(64), 4);
    let message = Message::binary(vec![7; 40]);
    near.send_message(message.clone()).now_or_never().unwrap().unwrap();
    let arrived = next(&mut far).unwrap();
    assert_eq!(arrived, message);
    assert_eq!(bytes(&arrived).as_ptr(), bytes(&message).as_ptr());
}

#[test]
fn what_is_fed_waits_and_one_flush_sends_it_as_one_message() {
    let (mut near, mut far) = half(on_flush(64), 1);
    let messages = [text("one"), Message::binary(vec![2; 200]), Message::binary(vec![]), text("")];
    for message in &messages {
        feed(&mut near, message.clone());
    }
    assert_eq!(next(&mut far), None);
    assert_eq!(near.waiting(), 4);
    flush(&mut near);
    assert_eq!(next(&mut far), Some(batch(&messages)));
    assert_eq!(next(&mut far), None);
    assert_eq!(near.waiting(), 0);
}

#[test]
fn a_batch_is_on_the_wire_as_the_docs_say() {
    let (mut near, mut far) = half(on_flush(64), 1);
    feed(&mut near, text("ab"));
    feed(&mut near, Message::binary(vec![9; 64]));
    flush(&mut near);
    let example = b"ab\x09\x05\x02\x02\0\0\0\x01\x02\xf8ttx\x01\xff";
    assert_eq!(batch(&[text("ab"), Message::binary(vec![9])]), Message::binary(example.to_vec()));
    let payload = [&b"ab"[..], &[9; 64]].concat();
    assert_eq!(next(&mut far), Some(written(&payload, &[0x05, 0x80, 0x01])));
}

#[test]
fn a_batch_that_is_full_by_count_leaves_without_a_flush() {
    let (mut near, mut far) = half(on_flush(3), 4);
    for _ in 0..7 {
        feed(&mut near, text("x"));
    }
    let three = batch(&[text("x"), text("x"), text("x")]);
    assert_eq!([next(&mut far), next(&mut far), next(&mut far)], [Some(three.clone()), Some(three), None]);
    flush(&mut near);
    assert_eq!(next(&mut far), Some(text("x")));
}

#[test]
fn a_batch_that_is_full_by_bytes_leaves_without_a_flush() {
    let (mut near, mut far) = half(on_flush(64).max_bytes(10), 4);
    feed(&mut near, text("12345"));
    feed(&mut near, text("67890"));
    assert_eq!(next(&mut far), Some(batch(&[text("12345"), text("67890")])));
}

#[test]
fn a_batch_that_may_hold_no_bytes_still_takes_every_message() {
    let (mut near, mut far) = half(on_flush(64).max_bytes(0), 4);
    feed(&mut near, text("a"));
    feed(&mut near, text(""));
    feed(&mut near, text("b"));
    assert_eq!([next(&mut far), next(&mut far), next(&mut far)], ["a", "", "b"].map(|word| Some(text(word))));
    assert_eq!(near.waiting(), 0);
}

#[test]
fn a_message_without_room_sends_the_batch_and_begins_another() {
    let (mut near, mut far) = half(on_flush(64).max_bytes(10), 4);
    for word in ["1234", "5678", "abcd"] {
        feed(&mut near, text(word));
    }
    assert_eq!(next(&mut far), Some(batch(&[text("1234"), text("5678")])));
    assert_eq!((next(&mut far), near.waiting()), (None, 1));
    flush(&mut near);
    assert_eq!(next(&mut far), Some(text("abcd")));
}

#[test]
fn a_message_larger_than_a_batch_goes_alone_and_uncopied_after_what_waits() {
    let (mut near, mut far) = half(on_flush(64).max_bytes(10), 1);
    let large = Message::binary(vec![1; 11]);
    feed(&mut near, text("a"));
    feed(&mut near, text("b"));
    feed(&mut near, large.clone());
    assert_eq!(next(&mut far), Some(batch(&[text("a"), text("b")])));
    // Nothing may come behind it before it has left, and then there is no room.
    assert!(near.poll_ready_unpin(&mut noop()).is_pending());
    let arrived = next(&mut far).unwrap();
    assert_eq!(bytes(&arrived).as_ptr(), bytes(&large).as_ptr());
    feed(&mut near, large.clone());
    assert_eq!(next(&mut far), Some(large));
}

#[test]
fn with_a_count_of_one_or_none_every_message_goes_by_itself() {
    for count in [0, 1] {
        let (mut near, mut far) = half(on_flush(count), 4);
        feed(&mut near, text("a"));
        feed(&mut near, text("b"));
        assert_eq!([next(&mut far), next(&mut far), next(&mut far)], [Some(text("a")), Some(text("b")), None]);
    }
}

#[test]
fn pings_and_pongs_pass_what_waits() {
    let (mut near, mut far) = half(on_flush(64), 4);
    feed(&mut near, text("a"));
    feed(&mut near, Message::Ping("p".into()));
    feed(&mut near, text("b"));
    feed(&mut near, Message::Pong("q".into()));
    assert_eq!([next(&mut far), next(&mut far)], [Some(Message::Ping("p".into())), Some(Message::Pong("q".into()))]);
    flush(&mut near);
    assert_eq!(next(&mut far), Some(batch(&[text("a"), text("b")])));
}

#[test]
fn a_close_message_follows_what_waits_and_nothing_follows_it() {
    let (mut near, mut far) = half(on_flush(64), 1);
    let close = Message::Close(Some(CloseFrame::new(CloseCode::NORMAL, "bye")));
    feed(&mut near, text("a"));
    feed(&mut near, text("b"));
    feed(&mut near, close.clone());
    assert!(near.flush().now_or_never().is_none(), "the channel has room for one");
    assert_eq!(next(&mut far), Some(batch(&[text("a"), text("b")])));
    flush(&mut near);
    assert_eq!(next(&mut far), Some(close));
    let late = near.feed(text("c")).now_or_never().unwrap().unwrap_err();
    assert!(late.is_closed(), "{late:?}");
}

#[test]
fn a_close_sends_what_waits_first() {
    let (mut near, mut far) = half(on_flush(64), 1);
    feed(&mut near, text("a"));
    feed(&mut near, text("b"));
    near.close().now_or_never().unwrap().unwrap();
    assert_eq!(next(&mut far), Some(batch(&[text("a"), text("b")])));
    assert!(futures_util::StreamExt::next(&mut far).now_or_never().unwrap().is_none());
}

#[test]
fn while_the_inner_transport_has_no_room_it_takes_one_batch_and_is_then_pending() {
    let (mut near, mut far) = half(on_flush(2), 1);
    let (wakes, waker) = WakeCount::new();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut taken = 0;
    while near.poll_ready_unpin(&mut cx).is_ready() {
        near.start_send_unpin(text("x")).unwrap();
        taken += 1;
    }
    assert_eq!(taken, 2);
    assert_eq!(next(&mut far), Some(batch(&[text("x"), text("x")])));
    assert_eq!(wakes.get(), 1);
    assert!(near.poll_ready_unpin(&mut cx).is_ready());
}

#[test]
fn a_message_that_was_not_announced_is_refused_but_a_close_message_is_taken() {
    let (mut near, mut far) = half(on_flush(2), 1);
    assert!(near.start_send_unpin(text("a")).unwrap_err().is_full());
    feed(&mut near, text("a"));
    feed(&mut near, text("b"));
    near.start_send_unpin(Message::Close(None)).unwrap();
    assert!(near.start_send_unpin(Message::Close(None)).unwrap_err().is_closed());
    assert!(near.poll_close_unpin(&mut noop()).is_pending());
    assert_eq!(next(&mut far), Some(batch(&[text("a"), text("b")])));
    assert!(matches!(near.poll_close_unpin(&mut noop()), Poll::Ready(Ok(()))));
    assert_eq!(next(&mut far), Some(Message::Close(None)));
}

#[test]
fn a_flush_waits_for_that_of_the_inner_transport() {
    let (inner, script) = Script::<Message>::new().expect(batch(&[text("a"), text("b")])).stall().flush().build();
    let mut near = BatchLayer::new(on_flush(64)).layer(inner);
    near.feed(text("a")).now_or_never().unwrap().unwrap();
    near.feed(text("b")).now_or_never().unwrap().unwrap();
    assert!(near.poll_flush_unpin(&mut noop()).is_pending());
    script.release();
    assert!(near.poll_flush_unpin(&mut noop()).is_ready());
}

/// Takes nothing.
struct Small;

impl futures_util::Sink<Message> for Small {
    type Error = Error;
    fn poll_ready(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
    fn start_send(self: std::pin::Pin<&mut Self>, _: Message) -> Result<(), Error> {
        Err(Error::too_large("at most 10 bytes").into_rejection())
    }
    fn poll_flush(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
    fn poll_close(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

impl futures_util::Stream for Small {
    type Item = Result<Message, Error>;
    fn poll_next(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

#[test]
fn a_batch_that_the_transport_refuses_says_how_many_messages_are_lost() {
    let mut near = BatchLayer::new(on_flush(64)).layer(Small);
    for _ in 0..3 {
        near.feed(text("x")).now_or_never().unwrap().unwrap();
    }
    let error = near.flush().now_or_never().unwrap().unwrap_err();
    assert!(error.is_too_large() && error.to_string().contains("3 messages"), "{error:?}");
    // The sink goes on.
    near.feed(text("x")).now_or_never().unwrap().unwrap();
}

#[test]
fn a_refused_batch_is_not_the_error_of_a_message_that_is_not_in_it_nor_of_its_last_one_alone() {
    let mut near = BatchLayer::new(on_flush(2)).layer(Small);
    // The second makes the batch full; a close message sends what waits before it.
    for message in [text("b"), Message::Close(None)] {
        near.feed(text("a")).now_or_never().unwrap().unwrap();
        near.feed(message).now_or_never().unwrap().expect("accepted");
        let error = near.flush().now_or_never().unwrap().unwrap_err();
        assert!(error.is_too_large() && error.is_rejection(), "{error:?}");
    }
    let mut near = BatchLayer::new(on_flush(2)).layer(Small);
    near.feed(text("a")).now_or_never().unwrap().unwrap();
    near.feed(text("b")).now_or_never().unwrap().unwrap();
    assert!(near.feed(text("c")).now_or_never().unwrap().unwrap_err().to_string().contains("2 messages"));
    near.feed(text("c")).now_or_never().unwrap().expect("the sink goes on");
}

#[test]
fn batches_use_the_memory_of_the_one_before_once_that_is_gone() {
    let (mut near, mut far) = half(on_flush(8), 1);
    let mut places = Vec::new();
    for _ in 0..6 {
        for _ in 0..8 {
            feed(&mut near, Message::binary(vec![1; 32]));
        }
        places.push(bytes(&next(&mut far).unwrap()).as_ptr() as usize);
    }
    places.dedup();
    assert!(places.len() <= 2, "{places:x?}");
}

#[test]
fn a_batch_that_is_not_read_yet_keeps_its_bytes() {
    let (mut near, mut far) = half(on_flush(2), 3);
    let pairs: Vec<_> = (0..3u8).map(|i| [Message::binary(vec![i; 32]), Message::binary(vec![i + 10; 32])]).collect();
    for message in pairs.iter().flatten() {
        feed(&mut near, message.clone());
    }
    for pair in pairs {
        assert_eq!(next(&mut far), Some(batch(&pair)));
    }
}

#[test]
fn over_a_peer_that_does_not_unpack_messages_go_as_they_are_whatever_they_end_in() {
    let (near, mut far) = channel(4);
    let mut near = BatchLayer::receive_only().layer(near);
    let odd = batch(&[text("a"), text("b")]);
    feed(&mut near, odd.clone());
    assert_eq!(next(&mut far), Some(odd.clone()));
    put(&mut far, odd);
    assert_eq!([next(&mut near), next(&mut near)], [Some(text("a")), Some(text("b"))]);
    assert_eq!((near.policy(), near.waiting()), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn a_driver_packs_what_waits_for_it() {
    let (near, mut far) = channel(4);
    let policy = BatchPolicy::new(64, Duration::from_millis(2));
    let near = ServiceBuilder::new().batch(policy).service(near);
    let (sender, receiver, driver) = near.drive(tower_transport::QueueConfig::messages()).into_parts();
    let messages: Vec<_> = (0..10).map(|i| text(&i.to_string())).collect();
    for message in &messages {
        sender.send(message.clone()).await.unwrap();
    }
    let driver = tokio::spawn(driver);
    assert_eq!(far.receive_message().await.unwrap().unwrap(), batch(&messages));
    sender.send(text("alone")).await.unwrap();
    assert_eq!(far.receive_message().await.unwrap().unwrap(), text("alone"));
    drop((sender, receiver, far));
    driver.await.unwrap().unwrap();
}

#[test]
fn a_place_that_was_promised_is_kept_though_a_flush_fills_the_transport_below() {
    for message in [text("small"), Message::binary(vec![7; 5000]), Message::Ping(b"ping".to_vec().into())] {
        let (mut near, mut far) = half(on_flush(64).max_bytes(1000), 1);
        feed(&mut near, text("first"));
        assert!(near.poll_ready_unpin(&mut noop()).is_ready());
        flush(&mut near);
        // The only place below is taken; a place was promised all the same.
        assert!(near.poll_ready_unpin(&mut noop()).is_ready());
        near.start_send_unpin(message.clone()).unwrap();
        assert!(near.poll_ready_unpin(&mut noop()).is_pending() || message == text("small"));
        assert_eq!(next(&mut far), Some(text("first")));
        flush(&mut near);
        assert_eq!(next(&mut far), Some(message));
    }
}

#[test]
fn a_lone_message_uses_up_the_place_that_it_was_promised() {
    let (mut near, mut far) = half(BatchPolicy::on_flush(64), 1);
    feed(&mut near, text("a"));
    assert!(near.flush().now_or_never().is_some(), "it is in the only place");
    assert!(near.feed(text("b")).now_or_never().is_none(), "there is no room");
    assert_eq!(next(&mut far), Some(text("a")));
    feed(&mut near, text("b"));
}
