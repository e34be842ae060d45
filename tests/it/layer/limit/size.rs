use std::{num::NonZeroUsize, task::Poll};

use super::*;
use tower_transport::test_util::WakeCount;
use tower_transport::test_util::script::Script;

#[test]
fn by_default_four_mebibytes_pass_both_ways_and_a_byte_more_does_not() {
    let (mut near, mut far) = pair(LimitLayer::new(), 8);
    near.send(bytes(4 << 20)).now_or_never().unwrap().unwrap();
    let error = near.send(bytes((4 << 20) + 1)).now_or_never().unwrap().unwrap_err();
    assert!(error.is_too_large() && error.to_string().contains("4194305 bytes"), "{error}");
    put(&mut far, bytes(4 << 20));
    put(&mut far, bytes((4 << 20) + 1));
    assert!(near.next().now_or_never().unwrap().unwrap().is_ok());
    assert!(near.next().now_or_never().unwrap().unwrap().unwrap_err().is_too_large());
}

#[test]
fn an_outgoing_message_that_is_too_large_is_not_sent_and_the_sink_goes_on() {
    let (mut near, mut far) = pair(LimitLayer::new().max_outgoing(4), 1);
    assert!(near.send(bytes(5)).now_or_never().unwrap().unwrap_err().is_too_large());
    near.send(bytes(4)).now_or_never().unwrap().unwrap();
    assert_eq!(far.next().now_or_never().unwrap().unwrap().unwrap(), bytes(4));
    put(&mut far, bytes(5));
    assert!(near.next().now_or_never().unwrap().unwrap().is_ok(), "the other direction has its own limit");
}

#[test]
fn a_ping_a_pong_and_a_close_are_not_measured() {
    let (mut near, mut far) = pair(LimitLayer::new().max_message(4), 8);
    let close = Message::Close(Some(CloseFrame::new(CloseCode::NORMAL, "that is all")));
    for message in [Message::Ping(vec![0; 125].into()), Message::Pong(vec![0; 125].into()), close] {
        put(&mut far, message.clone());
        assert_eq!(near.next().now_or_never().unwrap().unwrap().unwrap(), message);
        near.send(message.clone()).now_or_never().unwrap().unwrap();
        assert_eq!(far.next().now_or_never().unwrap().unwrap().unwrap(), message);
    }
    assert_eq!(near.close_frame(), None);
}

#[test]
fn a_message_that_concerns_itself_alone_is_a_rejection() {
    let (mut near, mut far) = pair(LimitLayer::new().max_message(4).skip_large(), 8);
    assert!(near.send(bytes(5)).now_or_never().unwrap().unwrap_err().is_rejection());
    put(&mut far, bytes(5));
    assert!(near.next().now_or_never().unwrap().unwrap().unwrap_err().is_rejection());
    let (mut near, mut far) = pair(LimitLayer::new().max_message(4), 8);
    put(&mut far, bytes(5));
    assert!(!near.next().now_or_never().unwrap().unwrap().unwrap_err().is_rejection());
}

#[test]
fn an_incoming_message_that_is_too_large_closes_with_1009() {
    let (mut near, mut far) = pair(LimitLayer::new().max_message(4), 8);
    put(&mut far, bytes(5));
    put(&mut far, bytes(1));
    let error = near.next().now_or_never().unwrap().unwrap().unwrap_err();
    assert!(error.is_too_large());
    assert_eq!(error.close_frame().unwrap().code(), CloseCode::TOO_BIG);
    // It is out with the error, though nobody polled again.
    expect_close(&mut far, CloseCode::TOO_BIG, "message too large");
    assert!(near.next().now_or_never().unwrap().is_none());
    assert_eq!(near.close_frame().unwrap().code(), CloseCode::TOO_BIG);
    assert_eq!(near.size_hint(), (0, Some(0)));
    let error = near.send(bytes(1)).now_or_never().unwrap().unwrap_err();
    assert!(error.is_closed());
    assert_eq!(error.close_frame().unwrap().code(), CloseCode::TOO_BIG);
    near.close().now_or_never().unwrap().unwrap();
}

#[test]
fn where_large_messages_are_skipped_each_costs_itself_alone() {
    let (mut near, mut far) = pair(LimitLayer::new().max_incoming(4).skip_large(), 8);
    for size in [5, 4, 6, 0] {
        put(&mut far, bytes(size));
    }
    for is_fine in [false, true, false, true] {
        assert_eq!(near.next().now_or_never().unwrap().unwrap().is_ok(), is_fine);
    }
    near.send(bytes(5)).now_or_never().unwrap().unwrap();
    assert_eq!(near.close_frame(), None);
}

#[test]
fn what_was_accepted_goes_out_before_the_close_message_and_reader_and_writer_are_woken() {
    let (mut near, mut far) = pair(LimitLayer::new().max_incoming(4), 1);
    let ((reads, reader), (writes, writer)) = (WakeCount::new(), WakeCount::new());
    near.send(bytes(1)).now_or_never().unwrap().unwrap();
    assert!(near.poll_ready_unpin(&mut Context::from_waker(&writer)).is_pending());
    put(&mut far, bytes(5));
    let mut cx = Context::from_waker(&reader);
    assert!(matches!(near.poll_next_unpin(&mut cx), Poll::Ready(Some(Err(_)))));
    assert!(near.poll_next_unpin(&mut cx).is_pending(), "there is no room for the close message");

    assert_eq!(far.next().now_or_never().unwrap().unwrap().unwrap(), bytes(1));
    assert_eq!((reads.get(), writes.get()), (1, 1));
    assert!(matches!(near.poll_next_unpin(&mut cx), Poll::Ready(None)));
    expect_close(&mut far, CloseCode::TOO_BIG, "message too large");
    assert!(matches!(near.poll_ready_unpin(&mut noop()), Poll::Ready(Err(_))));
}

#[test]
fn the_sink_waits_for_a_flush_once_so_many_are_in_flight() {
    let (transport, script) = Script::new().expect(bytes(1)).expect(bytes(2)).stall().flush().expect(bytes(3)).build();
    let mut near = transport.layer(LimitLayer::new().max_in_flight(NonZeroUsize::new(2).unwrap()));
    let (wakes, waker) = WakeCount::new();
    let mut cx = Context::from_waker(&waker);
    for size in [1, 2] {
        assert!(near.poll_ready_unpin(&mut cx).is_ready());
        near.start_send_unpin(bytes(size)).unwrap();
    }
    assert!(near.poll_ready_unpin(&mut cx).is_pending(), "two are in flight");
    script.release();
    assert!(wakes.get() > 0);
    assert!(near.poll_ready_unpin(&mut cx).is_ready());
    near.start_send_unpin(bytes(3)).unwrap();
    assert!(script.is_done());
}

#[test]
fn a_flush_of_the_user_makes_room_as_well() {
    let (transport, script) = Script::new().expect(bytes(1)).flush().expect(bytes(2)).flush().build();
    let mut near = transport.layer(LimitLayer::new().max_in_flight(NonZeroUsize::MIN));
    near.send(bytes(1)).now_or_never().unwrap().unwrap();
    near.send(bytes(2)).now_or_never().unwrap().unwrap();
    assert!(script.is_done());
}
