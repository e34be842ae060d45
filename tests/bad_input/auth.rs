//! The memory that strangers can make a server hold before they authenticate. A connection is a channel, so that little
//! else is measured.

use std::{task::Context, time::Duration};

use futures_util::{FutureExt, SinkExt};
use tower_transport::{
    Message, channel,
    layer::auth::{FirstMessageGuard, StaticTokens},
};

use crate::allocator::Growth;

const KIB: usize = 1024;

fn guard() -> FirstMessageGuard<StaticTokens<&'static str>> {
    FirstMessageGuard::new(StaticTokens::new().token("secret", "ada")).deadline(Duration::from_secs(5))
}

#[tokio::test(start_paused = true)]
async fn a_thousand_who_never_say_who_they_are_are_let_go_in_time_and_hold_little() {
    let guard = guard();
    let mut silent = Vec::with_capacity(1000);
    let growth = Growth::start();
    for _ in 0..1000 {
        let (near, far) = channel::<Message, Message>(1);
        let guard = guard.clone();
        let mut accepting = Box::pin(async move { guard.accept(far).await.map(drop) });
        assert!(accepting.poll_unpin(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
        silent.push((near, accepting));
    }
    let each = growth.peak() / 1000;
    println!("a silent stranger: {each} bytes at most");
    assert!(each < 4 * KIB, "{each}");
    tokio::time::advance(Duration::from_secs(5)).await;
    for (_near, accepting) in silent {
        let error = accepting.await.unwrap_err();
        assert!(error.is_timeout() || error.is_auth(), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_message_over_the_limit_is_refused_without_a_copy() {
    let large = Message::text("x".repeat(1024 * KIB));
    let (mut near, far) = channel::<Message, Message>(1);
    near.send(large).await.unwrap();
    let growth = Growth::start();
    let error = guard().accept(far).await.map(drop).unwrap_err();
    assert!(error.is_too_large() || error.is_auth(), "{error}");
    println!("a first message of 1 MiB: {} bytes beside it", growth.peak());
    assert!(growth.peak() < 16 * KIB, "{}", growth.peak());
}
