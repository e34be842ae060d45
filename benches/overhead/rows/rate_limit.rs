use std::{
    hint::black_box,
    num::NonZeroU32,
    sync::OnceLock,
    task::{Context, Poll, Waker},
};

use futures_util::{SinkExt, StreamExt};
use governor::{DefaultKeyedRateLimiter, RateLimiter};
use tower_transport::{
    Message, channel,
    layer::rate_limit::{KeyedRateLimiter, PerByte, Quota, RateLimitLayer},
};

use super::{Row, message, through};

const GOVERNOR: &str = "(governor alone)";
pub(crate) const GOVERNOR_KEYED: &str = "(governor alone, keyed)";
pub(crate) const BY_HAND: &str = "+ governor by hand";
pub(crate) const BY_HAND_KEYED: &str = "+ governor by hand, keyed";
pub(crate) const PER_CONNECTION: &str = "+ rate_limit";
pub(crate) const KEYED: &str = "+ rate_limit, keyed";
pub(crate) const CHECK: &str = "(rate_limit, a key each time)";

/// So many that nothing ever waits, and so slow that no key is idle.
const QUOTA: Quota = Quota::per_second(NonZeroU32::new(1000).expect("it is not zero")).allow_burst(NonZeroU32::MAX);
const GOVERNORS: governor::Quota =
    governor::Quota::per_second(NonZeroU32::new(1000).expect("it is not zero")).allow_burst(NonZeroU32::MAX);
const KEYS: u64 = 1000;

/// Each layer at the sending end only, so that one message is one check.
pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: GOVERNOR,
            run: |messages| {
                let limiter = RateLimiter::direct(GOVERNORS);
                for _ in 0..messages {
                    assert!(black_box(&limiter).check().is_ok());
                }
            },
        },
        Row {
            name: GOVERNOR_KEYED,
            run: |messages| {
                let limiter = governor_keyed();
                for number in 0..messages as u64 {
                    assert!(limiter.check_key(black_box(&(number % KEYS))).is_ok());
                }
            },
        },
        Row {
            name: BY_HAND,
            run: |messages| {
                let limiter = RateLimiter::direct(GOVERNORS);
                by_hand(messages, |_| limiter.check().is_ok());
            },
        },
        Row {
            name: BY_HAND_KEYED,
            run: |messages| {
                let limiter = governor_keyed();
                by_hand(messages, |number| limiter.check_key(&(number % KEYS)).is_ok());
            },
        },
        Row {
            name: PER_CONNECTION,
            run: |messages| through(RateLimitLayer::per_connection(QUOTA).outbound(), message(), messages),
        },
        Row {
            name: "+ rate_limit, rejecting",
            run: |messages| through(RateLimitLayer::per_connection(QUOTA).outbound().reject(), message(), messages),
        },
        Row {
            name: "+ rate_limit, closing",
            run: |messages| through(RateLimitLayer::per_connection(QUOTA).outbound().close(), message(), messages),
        },
        Row {
            name: "+ rate_limit, incoming",
            run: |messages| through(RateLimitLayer::per_connection(QUOTA).inbound(), message(), messages),
        },
        Row {
            name: "+ rate_limit, by bytes",
            run: |messages| {
                through(RateLimitLayer::per_connection(QUOTA).outbound().cost(PerByte), message(), messages)
            },
        },
        Row {
            name: "+ rate_limit, shared",
            run: |messages| through(RateLimitLayer::shared(QUOTA).outbound(), message(), messages),
        },
        Row { name: KEYED, run: |messages| through(keyed().for_key(4).outbound(), message(), messages) },
        Row {
            name: CHECK,
            run: |messages| {
                let limiter = keyed();
                for number in 0..messages as u64 {
                    assert!(limiter.check(black_box(number % KEYS)).is_ok());
                }
            },
        },
    ]
}

/// The equivalent without the layer: the same messages through the same channel, each after a check of the limiter.
fn by_hand(messages: usize, check: impl Fn(u64) -> bool) {
    let (mut here, mut there) = channel::<Message, Message>(8);
    let mut cx = Context::from_waker(Waker::noop());
    let value = message();
    for number in 0..messages as u64 {
        assert!(matches!(here.poll_ready_unpin(&mut cx), Poll::Ready(Ok(()))));
        assert!(check(black_box(number)));
        assert!(here.start_send_unpin(black_box(&value).clone()).is_ok());
        assert!(matches!(here.poll_flush_unpin(&mut cx), Poll::Ready(Ok(()))));
        let Poll::Ready(Some(received)) = there.poll_next_unpin(&mut cx) else { panic!("the message is there") };
        let _ = black_box(received);
    }
}

// The keys are there before anything is measured.

fn keyed() -> &'static KeyedRateLimiter<u64> {
    static LIMITER: OnceLock<KeyedRateLimiter<u64>> = OnceLock::new();
    LIMITER.get_or_init(|| {
        let limiter = KeyedRateLimiter::new(QUOTA);
        assert!((0..KEYS).all(|key| limiter.check(key).is_ok()));
        limiter
    })
}

fn governor_keyed() -> &'static DefaultKeyedRateLimiter<u64> {
    static LIMITER: OnceLock<DefaultKeyedRateLimiter<u64>> = OnceLock::new();
    LIMITER.get_or_init(|| {
        let limiter = RateLimiter::keyed(GOVERNORS);
        assert!((0..KEYS).all(|key| limiter.check_key(&key).is_ok()));
        limiter
    })
}
