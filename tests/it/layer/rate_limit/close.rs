use super::*;
use tower_transport::CloseCode;
use tower_transport::test_util::WakeCount;

fn closing(
    capacity: usize,
) -> (impl tower_transport::Transport<Message, In = Message, TransportError = Error> + Unpin, Channel) {
    let (near, far) = messages(capacity);
    (near.layer(per_connection(1).close()), far)
}

fn expect_1008(far: &mut Channel) {
    let Message::Close(Some(frame)) = next(far).unwrap().unwrap() else { panic!("not a close message") };
    assert_eq!((frame.code(), frame.reason()), (CloseCode::POLICY, "rate limit"));
    assert!(far.next().now_or_never().unwrap().is_none(), "the transport was not closed");
}

#[tokio::test(start_paused = true)]
async fn one_incoming_message_too_many_closes_with_1008_and_ends() {
    let (mut near, mut far) = closing(8);
    put(&mut far, text(0));
    put(&mut far, text(1));
    assert!(next(&mut near).unwrap().is_ok());
    let error = next(&mut near).unwrap().unwrap_err();
    assert!(error.is_rate_limited() && error.retry_after() == Some(ms(100)));
    // It is out with the error, though nobody polled again.
    expect_1008(&mut far);
    assert!(near.next().now_or_never().unwrap().is_none());
    assert_eq!(near.size_hint(), (0, Some(0)));
    let error = try_send(&mut near, text(2)).unwrap_err();
    assert!(error.is_closed());
    assert_eq!(error.close_frame().unwrap().code(), CloseCode::POLICY);
    near.close().now_or_never().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_outgoing_message_too_many_is_refused_and_closes_with_1008() {
    let (mut near, mut far) = closing(8);
    assert!(try_send(&mut near, text(0)).unwrap());
    assert!(try_send(&mut near, text(1)).unwrap_err().is_rate_limited());
    assert!(near.flush().now_or_never().unwrap().unwrap_err().is_closed());
    assert_eq!(next(&mut far).unwrap().unwrap(), text(0), "what was accepted goes first");
    assert!(near.next().now_or_never().unwrap().is_none());
    expect_1008(&mut far);
}

#[tokio::test(start_paused = true)]
async fn the_close_message_waits_for_room_and_wakes_reader_and_writer() {
    let (mut near, mut far) = closing(1);
    let ((reads, reader), (writes, writer)) = (WakeCount::new(), WakeCount::new());
    assert!(try_send(&mut near, text(0)).unwrap());
    assert!(near.poll_ready_unpin(&mut Context::from_waker(&writer)).is_pending());
    put(&mut far, text(0));
    assert!(next(&mut near).unwrap().is_ok());
    put(&mut far, text(1));
    let mut cx = Context::from_waker(&reader);
    assert!(matches!(near.poll_next_unpin(&mut cx), Poll::Ready(Some(Err(_)))));
    assert!(near.poll_next_unpin(&mut cx).is_pending());

    assert!(next(&mut far).is_some());
    assert_eq!((reads.get(), writes.get()), (1, 1));
    assert!(matches!(near.poll_next_unpin(&mut cx), Poll::Ready(None)));
    expect_1008(&mut far);
    assert!(matches!(near.poll_ready_unpin(&mut noop()), Poll::Ready(Err(_))));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_gone_gets_no_goodbye_and_the_stream_ends() {
    let (mut near, mut far) = closing(8);
    put(&mut far, text(0));
    put(&mut far, text(1));
    drop(far);
    assert!(next(&mut near).unwrap().is_ok());
    assert!(next(&mut near).unwrap().unwrap_err().is_rate_limited());
    assert!(near.next().now_or_never().unwrap().is_none());
}
