//! Messages that were fed and never flushed leave after their delay, on tokio's paused clock.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::time::{Instant, advance};
use tower::Layer;
use tower_transport::{
    Error, Message, TransportExt, channel,
    layer::batch::{BatchLayer, BatchPolicy},
    test_util::{WakeCount, script::Script},
};

use super::{batch, feed, flush, half, next, noop, put, text};

const DELAY: Duration = Duration::from_millis(10);

fn policy() -> BatchPolicy {
    BatchPolicy::new(64, DELAY)
}

#[tokio::test(start_paused = true)]
async fn what_waits_leaves_when_the_delay_of_the_oldest_message_is_over() {
    let (mut near, mut far) = half(policy(), 4);
    let (wakes, waker) = WakeCount::new();
    let mut cx = Context::from_waker(&waker);
    assert!(near.poll_next_unpin(&mut cx).is_pending());
    feed(&mut near, text("a"));
    advance(DELAY / 2).await;
    feed(&mut near, text("b"));
    advance(DELAY / 2 - Duration::from_millis(2)).await;
    assert_eq!((wakes.get(), next(&mut far)), (0, None));
    advance(Duration::from_millis(3)).await;
    assert_eq!(wakes.get(), 1);
    assert!(near.poll_next_unpin(&mut cx).is_pending());
    assert_eq!(next(&mut far), Some(batch(&[text("a"), text("b")])));
    assert_eq!(near.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_delay_also_sends_and_flushes_a_batch_that_was_full_and_never_flushed() {
    let (inner, script) = Script::<Message>::new().expect(batch(&[text("a"), text("b")])).flush().build();
    let mut near = BatchLayer::new(BatchPolicy::new(2, DELAY)).layer(inner);
    let (wakes, waker) = WakeCount::new();
    let mut cx = Context::from_waker(&waker);
    assert!(near.poll_next_unpin(&mut cx).is_pending());
    near.feed(text("a")).now_or_never().unwrap().unwrap();
    near.feed(text("b")).now_or_never().unwrap().unwrap();
    let before = wakes.get();
    advance(DELAY + Duration::from_millis(1)).await;
    assert!(wakes.get() > before && !script.is_done());
    assert!(near.poll_next_unpin(&mut cx).is_pending());
    assert!(script.is_done());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_came_after_the_messages_keeps_the_delay_as_well() {
    let (mut near, mut far) = half(policy(), 4);
    feed(&mut near, text("a"));
    feed(&mut near, text("b"));
    let start = Instant::now();
    let received = async {
        let message = far.receive_message().await.unwrap().unwrap();
        (message, start.elapsed())
    };
    let (message, waited) = tokio::select! {
        _ = near.receive_message() => unreachable!("nothing comes in"),
        received = received => received,
    };
    assert_eq!(message, batch(&[text("a"), text("b")]));
    assert!(waited <= DELAY + Duration::from_millis(1), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn the_delay_is_kept_between_the_tasks_of_two_halves() {
    let (near, mut far) = half(policy(), 4);
    let (mut sink, mut stream) = TransportExt::<Message>::into_split(near);
    let reader = tokio::spawn(async move { stream.next().await });
    tokio::task::yield_now().await;
    let start = Instant::now();
    sink.feed(text("a")).await.unwrap();
    sink.feed(text("b")).await.unwrap();
    // Nobody polls the sink from here on.
    let message = far.receive_message().await.unwrap().unwrap();
    assert_eq!(message, batch(&[text("a"), text("b")]));
    assert!(start.elapsed() <= DELAY + Duration::from_millis(1), "{:?}", start.elapsed());
    put(&mut far, text("c"));
    assert_eq!(reader.await.unwrap().unwrap().unwrap(), text("c"));
}

#[tokio::test(start_paused = true)]
async fn where_nobody_reads_the_next_poll_ready_after_the_delay_sends() {
    let (mut near, mut far) = half(policy(), 4);
    feed(&mut near, text("a"));
    feed(&mut near, text("b"));
    advance(DELAY + Duration::from_millis(1)).await;
    assert_eq!(next(&mut far), None);
    feed(&mut near, text("c"));
    assert_eq!(next(&mut far), Some(batch(&[text("a"), text("b")])));
    assert_eq!(near.waiting(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_went_away_does_not_keep_poll_ready_from_sending() {
    let (mut near, mut far) = half(policy(), 4);
    assert!(near.poll_next_unpin(&mut noop()).is_pending());
    feed(&mut near, text("a"));
    feed(&mut near, text("b"));
    advance(DELAY + Duration::from_millis(1)).await;
    feed(&mut near, text("c"));
    assert_eq!(next(&mut far), Some(batch(&[text("a"), text("b")])));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_incoming_messages_does_not_hold_back_what_waits() {
    let (mut near, mut far) = half(policy(), 100);
    feed(&mut near, text("a"));
    feed(&mut near, text("b"));
    advance(DELAY + Duration::from_millis(1)).await;
    for _ in 0..100 {
        put(&mut far, text("flood"));
    }
    for _ in 0..100 {
        // Never `Pending`.
        assert!(near.poll_next_unpin(&mut noop()).is_ready());
    }
    assert_eq!(next(&mut far), Some(batch(&[text("a"), text("b")])));
}

#[tokio::test(start_paused = true)]
async fn without_a_delay_the_readers_next_poll_sends() {
    let (mut near, mut far) = half(BatchPolicy::new(64, Duration::ZERO), 4);
    let (wakes, waker) = WakeCount::new();
    let mut cx = Context::from_waker(&waker);
    assert!(near.poll_next_unpin(&mut cx).is_pending());
    feed(&mut near, text("a"));
    advance(Duration::from_millis(1)).await;
    assert_eq!(wakes.get(), 1);
    assert!(near.poll_next_unpin(&mut cx).is_pending());
    assert_eq!(next(&mut far), Some(text("a")));
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_flushed_wake_the_reader_at_most_once_a_delay() {
    let (mut near, mut far) = half(policy(), 4);
    let (wakes, waker) = WakeCount::new();
    let mut cx = Context::from_waker(&waker);
    let mut polled = 0;
    for _ in 0..100 {
        if wakes.get() > polled || polled == 0 {
            polled = wakes.get();
            assert!(near.poll_next_unpin(&mut cx).is_pending());
        }
        feed(&mut near, text("a"));
        flush(&mut near);
        assert_eq!(next(&mut far), Some(text("a")));
        advance(Duration::from_millis(1)).await;
    }
    assert!((1..=10).contains(&wakes.get()), "{}", wakes.get());
}

#[tokio::test(start_paused = true)]
async fn with_on_flush_no_timer_ever_wakes_anyone() {
    let (mut near, mut far) = half(BatchPolicy::on_flush(64), 4);
    let (wakes, waker) = WakeCount::new();
    assert!(near.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
    feed(&mut near, text("a"));
    advance(Duration::from_secs(3600)).await;
    assert_eq!((wakes.get(), next(&mut far), near.waiting()), (0, None, 1));
}

#[tokio::test(start_paused = true)]
async fn when_the_delay_is_over_and_there_is_no_room_both_tasks_are_woken_once_there_is() {
    let (mut near, mut far) = half(policy(), 1);
    let ((reads, reader), (writes, writer)) = (WakeCount::new(), WakeCount::new());
    let (mut read, mut write) = (Context::from_waker(&reader), Context::from_waker(&writer));
    assert!(near.poll_next_unpin(&mut read).is_pending());
    feed(&mut near, text("a"));
    assert!(near.poll_ready_unpin(&mut write).is_ready());
    advance(DELAY + Duration::from_millis(1)).await;
    // The old batch takes the only place of the channel, and the next one has to wait.
    assert!(near.poll_next_unpin(&mut read).is_pending());
    near.start_send_unpin(text("b")).unwrap();
    assert!(near.poll_flush_unpin(&mut write).is_pending());
    assert!(near.poll_next_unpin(&mut read).is_pending());
    let before = (reads.get(), writes.get());
    assert_eq!(next(&mut far), Some(text("a")));
    assert_eq!((reads.get(), writes.get()), (before.0 + 1, before.1 + 1));
    assert!(near.poll_next_unpin(&mut read).is_pending());
    assert_eq!(next(&mut far), Some(text("b")));
    assert!(near.poll_flush_unpin(&mut write).is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_was_fed_and_never_flushed_is_flushed_when_the_delay_is_over() {
    let (inner, script) = Script::<Message>::new().expect(Message::Ping("p".into())).flush().build();
    let mut near = BatchLayer::new(policy()).layer(inner);
    assert!(near.poll_next_unpin(&mut noop()).is_pending());
    near.feed(Message::Ping("p".into())).now_or_never().unwrap().unwrap();
    advance(DELAY + Duration::from_millis(1)).await;
    assert!(!script.is_done());
    assert!(near.poll_next_unpin(&mut noop()).is_pending());
    assert!(script.is_done());
}

#[tokio::test(start_paused = true)]
async fn a_place_that_was_promised_is_kept_though_an_old_batch_took_it() {
    let (mut near, mut far) = half(policy(), 1);
    assert!(near.poll_next_unpin(&mut noop()).is_pending());
    feed(&mut near, text("a"));
    feed(&mut near, text("b"));
    assert!(near.poll_ready_unpin(&mut noop()).is_ready());
    advance(DELAY + Duration::from_millis(1)).await;
    assert!(near.poll_next_unpin(&mut noop()).is_pending());
    // The old batch has the only place of the channel.
    assert!(near.poll_ready_unpin(&mut noop()).is_ready());
    near.start_send_unpin(text("c")).unwrap();
    assert!(near.poll_flush_unpin(&mut noop()).is_pending());
    assert_eq!(next(&mut far), Some(batch(&[text("a"), text("b")])));
    flush(&mut near);
    assert_eq!(next(&mut far), Some(text("c")));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_makes_no_more_than_two_batches_wait_however_long() {
    let (mut near, _far) = half(BatchPolicy::new(4, DELAY), 1);
    let mut taken = 0;
    for _ in 0..200 {
        assert!(near.poll_next_unpin(&mut noop()).is_pending());
        if let Poll::Ready(ready) = near.poll_ready_unpin(&mut noop()) {
            ready.unwrap();
            near.start_send_unpin(text("x")).unwrap();
            taken += 1;
        }
        advance(DELAY + Duration::from_millis(1)).await;
    }
    assert!(taken <= 3 * 4, "{taken}");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_batch_that_nobody_flushed_is_told_to_the_reader_once() {
    let (inner, script) = Script::<Message>::new().build();
    let mut near = BatchLayer::new(policy()).layer(inner);
    assert!(near.poll_next_unpin(&mut noop()).is_pending());
    near.feed(text("a")).now_or_never().unwrap().unwrap();
    script.append(Script::new().fail_send(Error::io("the cable")));
    advance(DELAY + Duration::from_millis(1)).await;
    let Poll::Ready(Some(Err(error))) = near.poll_next_unpin(&mut noop()) else { panic!("an error is due") };
    assert!(error.is_io(), "{error:?}");
    assert!(near.poll_next_unpin(&mut noop()).is_pending());
}

#[test]
fn nothing_is_allocated_for_the_timer_before_something_waits() {
    // Without a runtime: a timer would panic.
    let (near, mut far) = channel(1);
    let mut near = BatchLayer::new(policy()).layer(near);
    assert!(near.poll_next_unpin(&mut noop()).is_pending());
    put(&mut far, text("a"));
    assert_eq!(next(&mut near), Some(text("a")));
}

#[tokio::test(start_paused = true)]
async fn what_waits_leaves_with_the_next_message_of_a_peer_that_always_has_one() {
    let (mut near, mut far) = half(policy(), 4);
    put(&mut far, text("1"));
    put(&mut far, text("2"));
    put(&mut far, text("3"));
    assert_eq!(next(&mut near), Some(text("1")));
    feed(&mut near, text("a"));
    feed(&mut near, text("b"));
    assert_eq!(next(&mut near), Some(text("2")));
    assert_eq!(next(&mut far), None);
    advance(DELAY + Duration::from_millis(1)).await;
    assert_eq!(next(&mut near), Some(text("3")));
    assert_eq!(next(&mut far), Some(batch(&[text("a"), text("b")])));
}
