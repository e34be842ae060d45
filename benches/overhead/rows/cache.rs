use std::num::NonZeroU64;

use tower::{Layer, service_fn};
use tower_transport::{
    Message,
    layer::{
        cache::CacheLayer,
        latest::{Latest, LatestLayer},
    },
};

use super::{Row, call, echo, message, through};

/// A subscriber without news, and one to which each message is published; then calls that never repeat, and calls that
/// always do.
pub(super) fn rows() -> Vec<Row> {
    vec![
        Row { name: "+ latest, no news", run: |messages| through(LatestLayer::shared(latest()), message(), messages) },
        Row { name: "latest, publish and send", run: published },
        Row {
            name: "+ cache, a hit (per call)",
            run: |calls| call(CacheLayer::shared(|_: &Message| Some(0u64)).layer(service_fn(echo)), calls),
        },
        Row {
            name: "+ cache, a miss (per call)",
            run: |calls| {
                let number = std::cell::Cell::new(0u64);
                let next = move |_: &Message| {
                    number.set(number.get() + 1);
                    NonZeroU64::new(number.get())
                };
                call(CacheLayer::shared(next).layer(service_fn(echo)), calls);
            },
        },
    ]
}

fn latest() -> Latest<u64, Message> {
    Latest::new(|message: &Message| message.len() as u64)
}

/// Publishes to one transport: what the store, the wake-up and the way out cost.
fn published(messages: usize) {
    use std::{
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use futures_util::StreamExt;

    let latest = latest();
    let (here, mut there) = tower_transport::channel::<Message, Message>(8);
    let mut here = LatestLayer::shared(latest.clone()).layer(here);
    let mut cx = Context::from_waker(Waker::noop());
    let message = message();
    for _ in 0..messages {
        latest.publish(message.clone());
        assert!(here.poll_next_unpin(&mut cx).is_pending());
        let Poll::Ready(Some(received)) = Pin::new(&mut there).poll_next_unpin(&mut cx) else {
            panic!("the message is there")
        };
        std::hint::black_box(received).is_ok().then_some(()).expect("a message");
    }
}
