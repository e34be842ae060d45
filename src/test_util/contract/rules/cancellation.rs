use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll, Waker},
};

use super::super::bench::Bench;
use crate::TransportExt;

pub(super) async fn check(mut bench: Bench<'_>) {
    receives_that_are_dropped(&mut bench).await;
    sends_that_are_dropped_once_accepted(&mut bench).await;
    sends_that_are_dropped_before_they_are_ready(&mut bench).await;
}

async fn receives_that_are_dropped(bench: &mut Bench<'_>) {
    for _ in 0..4 {
        for _ in 0..3 {
            // A dropped `receive_message` leaves behind a poll whose task is gone.
            if bench.poll_receive(&mut Context::from_waker(Waker::noop())).is_ready() {
                bench.fail("the receiving stream ended", "the stream ends when the peer closed, not before");
            }
        }
        bench.send_one().await;
        bench.drain().await;
    }
}

async fn sends_that_are_dropped_once_accepted(bench: &mut Bench<'_>) {
    for _ in 0..4 {
        bench.ready_to_send().await;
        send_and_drop(bench).await;
        // The next message pushes out whatever the dropped one left behind.
        bench.send_one().await;
        bench.drain().await;
    }
    bench.quiet().await;
}

async fn sends_that_are_dropped_before_they_are_ready(bench: &mut Bench<'_>) {
    bench.fill().await;
    for _ in 0..3 {
        // Should a socket have found room meanwhile, the message is accepted, and due.
        send_and_drop(bench).await;
    }
    bench.drain().await;
    bench.send_one().await;
    bench.drain().await;
    bench.quiet().await;
}

/// A `send_message` that is polled once, and dropped whatever it said.
async fn send_and_drop(bench: &mut Bench<'_>) {
    let number = bench.a.number();
    let mut send = pin!(bench.a.send_message(number));
    let polled = poll_fn(|cx| Poll::Ready(send.as_mut().poll(cx))).await;
    if let Poll::Ready(Err(error)) = polled {
        bench.fail(format_args!("send_message failed: {error}"), "keep the transport open until it is closed");
    }
}
