use super::*;
use tower_transport::{
    layer::rate_limit::PerByte,
    test_util::{WakeCount, script::Script},
};

#[tokio::test(start_paused = true)]
async fn a_message_over_the_limit_waits_and_the_peer_feels_it() {
    let (near, mut far) = messages(1);
    let mut near = near.layer(per_connection(1).inbound());
    let (wakes, waker) = WakeCount::new();
    let mut cx = Context::from_waker(&waker);
    put(&mut far, text(0));
    assert_eq!(next(&mut near).unwrap().unwrap(), text(0));
    put(&mut far, text(1));
    assert!(near.poll_next_unpin(&mut cx).is_pending());
    // One is held by the layer, one fills the channel, and no more is read.
    put(&mut far, text(2));
    assert!(near.poll_next_unpin(&mut cx).is_pending());
    assert!(far.poll_ready_unpin(&mut noop()).is_pending());
    assert_eq!(near.size_hint().0, 1);

    advance(ms(100)).await;
    assert_eq!(wakes.get(), 1);
    assert_eq!(next(&mut near).unwrap().unwrap(), text(1));
    assert!(near.poll_next_unpin(&mut cx).is_pending());
    advance(ms(100)).await;
    assert_eq!(next(&mut near).unwrap().unwrap(), text(2));
}

#[tokio::test(start_paused = true)]
async fn a_receive_that_is_dropped_while_a_message_waits_loses_nothing() {
    let (near, mut far) = messages(4);
    let mut near = near.layer(per_connection(1));
    put(&mut far, text(0));
    put(&mut far, text(1));
    assert!(next(&mut near).is_some());
    for _ in 0..3 {
        assert!(near.next().now_or_never().is_none());
    }
    advance(ms(100)).await;
    assert_eq!(next(&mut near).unwrap().unwrap(), text(1));
}

#[tokio::test(start_paused = true)]
async fn pings_and_pongs_come_in_without_a_cell() {
    let (near, mut far) = messages(8);
    let mut near = near.layer(per_connection(1));
    put(&mut far, text(0));
    assert!(next(&mut near).is_some());
    for message in [Message::Ping("a".into()), Message::Pong("b".into()), Message::Close(None)] {
        put(&mut far, message.clone());
        assert_eq!(next(&mut near).unwrap().unwrap(), message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_waits_for_all_that_it_costs() {
    let (near, mut far) = messages(4);
    let mut near = near.layer(per_connection(10).cost(PerByte));
    put(&mut far, Message::text("ten bytes!"));
    put(&mut far, Message::text("ten more.."));
    assert!(next(&mut near).is_some());
    assert!(next(&mut near).is_none());
    advance(ms(999)).await;
    assert!(next(&mut near).is_none());
    advance(ms(1)).await;
    assert!(next(&mut near).is_some());
}

#[tokio::test(start_paused = true)]
async fn rejected_messages_are_errors_in_their_place_and_the_stream_goes_on() {
    let (near, mut far) = messages(8);
    let layer = per_connection(1).reject();
    let counts = layer.counts();
    let mut near = near.layer(layer);
    for number in 0..3 {
        put(&mut far, text(number));
    }
    assert_eq!(next(&mut near).unwrap().unwrap(), text(0));
    for _ in 0..2 {
        let error = next(&mut near).unwrap().unwrap_err();
        assert!(error.is_rate_limited());
        assert_eq!(error.retry_after(), Some(ms(100)));
    }
    advance(ms(100)).await;
    put(&mut far, text(3));
    assert_eq!(next(&mut near).unwrap().unwrap(), text(3));
    assert!(next(&mut near).is_none());
    assert_eq!((counts.admitted(), counts.waited(), counts.rejected()), (2, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn what_can_never_come_in_is_an_error_and_not_a_hang() {
    let (near, mut far) = messages(4);
    let mut near = near.layer(per_connection(10).cost(PerByte));
    put(&mut far, Message::text("eleven byte"));
    put(&mut far, Message::text("ten bytes!"));
    let error = next(&mut near).unwrap().unwrap_err();
    assert!(error.is_too_large() && error.to_string().contains("burst of 10"), "{error}");
    assert!(next(&mut near).unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn errors_and_the_end_of_the_inner_stream_pass_as_they_are() {
    let script = Script::<Message>::new().give(text(0)).fail_receive(Error::protocol("odd")).end();
    let mut near = script.build().0.layer(per_connection(1));
    assert!(next(&mut near).unwrap().is_ok());
    assert!(next(&mut near).unwrap().unwrap_err().is_protocol());
    assert!(near.next().now_or_never().unwrap().is_none());
    assert!(near.next().now_or_never().unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_transport_whose_parts_are_send_is_send() {
    fn check<T: Send + Sync + tower_transport::Transport<Message, In = Message>>(_: &T) {}
    check(&messages(1).0.layer(per_connection(1)));
    check(&messages(1).0.layer(per_connection(1).close()));
}

#[tokio::test(start_paused = true)]
async fn the_log_tells_of_the_first_rejected_message_and_warns_of_the_hundredth() {
    let log = support::log::logged(tracing::Level::DEBUG, async {
        let (near, mut far) = channel::<Message, Message>(128);
        let mut near = near.layer(per_connection(1).inbound().reject());
        for number in 0..=120 {
            far.send_message(text(number)).await.unwrap();
        }
        let rejected = near.by_ref().take(121).filter(|message| std::future::ready(message.is_err())).count().await;
        assert_eq!(rejected, 120);
    })
    .await;
    let count = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(count("DEBUG tower_transport::layer::rate_limit: rate limit: a message was rejected"), 1, "{log}");
    assert_eq!(
        count("WARN tower_transport::layer::rate_limit: rate limit: one connection or service keeps"),
        1,
        "{log}"
    );
    assert!(log.contains("rejected=100") && log.lines().count() == 2, "{log}");
}
