use super::*;
use tower_transport::layer::rate_limit::PerByte;
use tower_transport::test_util::WakeCount;

#[tokio::test(start_paused = true)]
async fn a_burst_passes_at_once_and_then_the_sink_waits_for_each_cell() {
    let (near, mut far) = messages(8);
    let mut near = near.layer(per_connection(2));
    let (wakes, waker) = WakeCount::new();
    let mut cx = Context::from_waker(&waker);
    assert!(try_send(&mut near, text(0)).unwrap());
    assert!(try_send(&mut near, text(1)).unwrap());
    assert!(near.poll_ready_unpin(&mut cx).is_pending());

    advance(ms(99)).await;
    assert!(near.poll_ready_unpin(&mut cx).is_pending());
    assert_eq!(wakes.get(), 0);
    advance(ms(1)).await;
    assert_eq!(wakes.get(), 1, "the cell came, and nobody was woken");
    assert!(near.poll_ready_unpin(&mut cx).is_ready());
    near.start_send_unpin(text(2)).unwrap();
    assert!(near.poll_ready_unpin(&mut cx).is_pending());
    for number in 0..3 {
        assert_eq!(next(&mut far).unwrap().unwrap(), text(number));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_was_taken_for_a_message_is_kept_until_it_comes() {
    let (near, _far) = messages(8);
    let mut near = near.layer(per_connection(1));
    for _ in 0..5 {
        assert!(near.poll_ready_unpin(&mut noop()).is_ready());
    }
    assert!(try_send(&mut near, text(0)).unwrap());
    assert!(!try_send(&mut near, text(1)).unwrap());
    // A send that is dropped while it waits takes nothing with it.
    assert!(near.send(text(2)).now_or_never().is_none());
    advance(ms(100)).await;
    assert!(try_send(&mut near, text(3)).unwrap());
}

#[tokio::test(start_paused = true)]
async fn no_cell_is_taken_while_the_transport_has_no_room() {
    let layer = RateLimitLayer::shared(ten(2)).runtime_clock();
    let ((blocked, _far), (free, _other)) = (messages(1), messages(8));
    let (mut blocked, mut free) = (blocked.layer(layer.clone()), free.layer(layer));
    assert!(try_send(&mut blocked, text(0)).unwrap());
    assert!(!try_send(&mut blocked, text(1)).unwrap(), "the channel is full");
    assert!(try_send(&mut free, text(2)).unwrap(), "the other cell is still there");
}

#[tokio::test(start_paused = true)]
async fn control_messages_leave_the_cell_to_the_next_message() {
    let (near, _far) = messages(8);
    let layer = per_connection(1);
    let counts = layer.counts();
    let mut near = near.layer(layer);
    assert!(try_send(&mut near, Message::Ping("a".into())).unwrap());
    assert!(try_send(&mut near, Message::Pong("b".into())).unwrap());
    assert!(try_send(&mut near, text(0)).unwrap());
    assert!(!try_send(&mut near, text(1)).unwrap());
    assert_eq!((counts.admitted(), counts.waited(), counts.rejected()), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_message_costs_beyond_one_cell_is_due_before_the_next() {
    let (near, _far) = messages(8);
    let mut near = near.layer(per_connection(10).cost(PerByte));
    assert!(try_send(&mut near, Message::text("8 bytes.")).unwrap());
    assert!(try_send(&mut near, Message::text("8 bytes.")).unwrap(), "paid: 1 ahead, then 7 and 1 ahead");
    // Nine of ten are gone, seven are due, and one is wanted ahead: seven to come.
    assert!(!try_send(&mut near, text(0)).unwrap());
    advance(ms(699)).await;
    assert!(!try_send(&mut near, text(0)).unwrap());
    advance(ms(1)).await;
    assert!(try_send(&mut near, text(0)).unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_can_never_pass_is_an_error_that_says_why_and_not_a_hang() {
    let (near, mut far) = messages(8);
    let mut near = near.layer(per_connection(10).cost(PerByte));
    let error = try_send(&mut near, Message::text("eleven byte")).unwrap_err();
    assert!(error.is_too_large() && error.retry_after().is_none());
    assert!(error.to_string().contains("burst of 10"), "{error}");
    assert!(try_send(&mut near, Message::text("ten bytes!")).unwrap(), "it cost nothing");
    assert_eq!(next(&mut far).unwrap().unwrap(), Message::text("ten bytes!"));
    // A cost that would overflow governor's arithmetic.
    let (near, _far) = messages(8);
    let mut near = near.layer(per_connection(u32::MAX).cost_by(|_: &Message| u32::MAX));
    assert!(try_send(&mut near, text(0)).unwrap());
    assert!(near.poll_ready_unpin(&mut noop()).is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_rejected_message_is_not_sent_and_the_error_says_when_to_try_again() {
    let (near, mut far) = messages(8);
    let layer = per_connection(1).reject();
    let counts = layer.counts();
    let mut near = near.layer(layer);
    assert!(try_send(&mut near, text(0)).unwrap());
    advance(ms(30)).await;
    let error = try_send(&mut near, text(1)).unwrap_err();
    assert!(error.is_rate_limited());
    assert_eq!(error.retry_after(), Some(ms(70)));
    assert!(error.to_string().contains("1 at once and one more each 100ms"), "{error}");

    advance(error.retry_after().unwrap()).await;
    near.send(text(2)).now_or_never().unwrap().unwrap();
    assert_eq!(next(&mut far).unwrap().unwrap(), text(0));
    assert_eq!(next(&mut far).unwrap().unwrap(), text(2));
    assert!(near.next().now_or_never().is_none());
    assert_eq!((counts.admitted(), counts.waited(), counts.rejected()), (2, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn flush_and_close_do_not_wait_for_the_limit() {
    let (near, mut far) = messages(8);
    let mut near = near.layer(per_connection(1));
    assert!(try_send(&mut near, text(0)).unwrap());
    assert!(!try_send(&mut near, text(1)).unwrap());
    near.flush().now_or_never().unwrap().unwrap();
    near.close().now_or_never().unwrap().unwrap();
    assert_eq!(next(&mut far).unwrap().unwrap(), text(0));
    assert!(far.next().now_or_never().unwrap().is_none());
    assert!(try_send(&mut near, text(2)).unwrap_err().is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_direction_that_was_not_chosen_is_free() {
    let ((near, _a), (near_too, mut far)) = (messages(8), messages(8));
    let mut incoming_only = near.layer(per_connection(1).inbound());
    let mut outgoing_only = near_too.layer(per_connection(1).outbound());
    for number in 0..5 {
        assert!(try_send(&mut incoming_only, text(number)).unwrap());
        put(&mut far, text(number));
        assert!(next(&mut outgoing_only).is_some());
    }
    assert!(try_send(&mut outgoing_only, text(0)).unwrap(), "the directions have buckets of their own");
    assert!(!try_send(&mut outgoing_only, text(1)).unwrap());
}

#[tokio::test(start_paused = true)]
async fn values_above_a_codec_cost_one_each_or_what_a_function_says() {
    let ((one, _far), (by_value, _away)) = (channel::<u64, u64>(8), channel::<u64, u64>(8));
    let mut one = one.layer(per_connection(2));
    assert!(try_send(&mut one, 1).unwrap() && try_send(&mut one, 2).unwrap());
    assert!(!try_send(&mut one, 3).unwrap());
    let mut by_value = by_value.layer(per_connection(2).cost_by(|value: &u64| *value as u32).reject());
    assert!(try_send(&mut by_value, 0).unwrap() && try_send(&mut by_value, 2).unwrap());
    assert!(try_send(&mut by_value, 1).unwrap_err().is_rate_limited());
}
