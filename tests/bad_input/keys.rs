//! An attacker who makes up keys for a rate limit. Each test is alone on its thread, which is what is measured.

use std::num::NonZeroU32;

use tower_transport::{
    Message, TransportExt, channel,
    layer::rate_limit::{KeyedRateLimiter, Quota},
};

use crate::allocator::Growth;

const MIB: usize = 1024 * 1024;
const BURST: NonZeroU32 = NonZeroU32::new(5).unwrap();

/// So slow that no key is ever idle again.
fn limiter() -> KeyedRateLimiter<u128> {
    KeyedRateLimiter::new(Quota::per_hour(BURST))
}

#[test]
fn a_million_keys_cost_what_65_536_do_and_get_one_quota_beyond() {
    let limiter = limiter();
    limiter.check(u128::MAX).unwrap();
    let growth = Growth::start();
    let mut admitted = 0;
    for key in 0..1_000_000 {
        admitted += usize::from(limiter.check(key).is_ok());
    }
    println!("1,000,000 keys: {} KiB at most, {} kept", growth.peak() / 1024, limiter.keys());
    assert!(growth.peak() < 16 * MIB, "{}", growth.peak());
    assert!(limiter.keys() <= 65_536);
    // A call each of those that are kept, and one quota for all the others.
    assert_eq!(admitted, limiter.keys() - 1 + BURST.get() as usize);
    assert_eq!(limiter.overflowed() as usize, 1_000_000 - (limiter.keys() - 1));
    // A client that was known before keeps the rest of its quota.
    for _ in 1..BURST.get() {
        limiter.check(u128::MAX).unwrap();
    }
    assert!(limiter.check(u128::MAX).unwrap_err().is_rate_limited());
}

#[test]
fn a_million_connections_with_keys_of_their_own_cost_no_more() {
    let limiter = limiter();
    let growth = Growth::start();
    for key in 0..1_000_000 {
        let (near, far) = channel::<Message, Message>(1);
        drop((near.layer(limiter.for_key(key)), far));
    }
    // Nothing was sent: all keys are idle, and forgotten as others come.
    assert!(growth.peak() < 16 * MIB, "{}", growth.peak());
    assert_eq!(limiter.overflowed(), 0);
    limiter.forget_idle();
    assert_eq!(limiter.keys(), 0);
}
