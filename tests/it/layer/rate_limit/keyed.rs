use super::*;
use std::num::NonZeroUsize;
use tower_transport::layer::rate_limit::KeyedRateLimiter;

fn limiter(burst: u32, keys: usize) -> KeyedRateLimiter<u32> {
    KeyedRateLimiter::new(ten(burst)).max_keys(NonZeroUsize::new(keys).unwrap()).runtime_clock()
}

fn send_two(layer: RateLimitLayer) -> [bool; 2] {
    let (near, _far) = messages(8);
    let mut near = near.layer(layer.reject());
    [try_send(&mut near, text(0)).is_ok(), try_send(&mut near, text(1)).is_ok()]
}

#[tokio::test(start_paused = true)]
async fn connections_of_one_key_share_and_those_of_others_do_not() {
    let limiter = limiter(2, 8);
    assert_eq!(send_two(limiter.for_key(1)), [true, true]);
    assert_eq!(send_two(limiter.for_key(1)), [false, false]);
    assert_eq!(send_two(RateLimitLayer::keyed(&limiter.clone(), 2)), [true, true]);
    advance(ms(100)).await;
    assert_eq!(send_two(limiter.for_key(1)), [true, false]);
    assert_eq!(limiter.keys(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_forgotten_when_its_buckets_are_full_and_no_connection_has_it() {
    let limiter = limiter(2, 8);
    assert_eq!(send_two(limiter.for_key(1)), [true, true]);
    let alive = messages(8).0.layer(limiter.for_key(2));
    advance(ms(199)).await;
    limiter.forget_idle();
    assert_eq!(limiter.keys(), 2, "key 1 is not full again");
    advance(ms(1)).await;
    limiter.forget_idle();
    assert_eq!(limiter.keys(), 1, "key 2 has a connection");
    drop(alive);
    limiter.forget_idle();
    assert_eq!(limiter.keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_room_for_a_key_all_new_ones_share_a_quota() {
    let limiter = limiter(2, 3);
    for key in 0..3 {
        assert_eq!(send_two(limiter.for_key(key)), [true, true]);
    }
    assert_eq!(send_two(limiter.for_key(3)), [true, true], "the shared quota");
    assert_eq!(send_two(limiter.for_key(4)), [false, false], "is used up");
    assert_eq!(limiter.keys(), 3);
    assert_eq!(limiter.overflowed(), 2);
    // Those that are known keep what is theirs, and a place that is idle goes to a new one.
    advance(Duration::from_secs(2)).await;
    assert_eq!(send_two(limiter.for_key(0)), [true, true]);
    assert_eq!(send_two(limiter.for_key(5)), [true, true]);
    assert_eq!(send_two(limiter.for_key(6)), [true, true]);
    assert_eq!(limiter.overflowed(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_limiter_can_be_asked_for_one_key_at_a_time() {
    let limiter = limiter(1, 8);
    limiter.check(1).unwrap();
    limiter.check(2).unwrap();
    advance(ms(40)).await;
    let error = limiter.check(1).unwrap_err();
    assert!(error.is_rate_limited());
    assert_eq!(error.retry_after(), Some(ms(60)));
    // The directions of a connection are counted apart; a check is inbound.
    assert_eq!(send_two(limiter.for_key(1)), [true, false]);
    advance(ms(60)).await;
    limiter.check(1).unwrap();
}
