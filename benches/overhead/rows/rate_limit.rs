use std::{hint::black_box, num::NonZeroU32, sync::OnceLock};

use governor::{DefaultKeyedRateLimiter, RateLimiter};
use tower_transport::layer::rate_limit::{KeyedRateLimiter, PerByte, Quota, RateLimitLayer};

use super::{Row, message, through};

pub(crate) const GOVERNOR: &str = "(governor alone)";
pub(crate) const GOVERNOR_KEYED: &str = "(governor alone, keyed)";
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
