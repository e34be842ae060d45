use super::*;
use tower_transport::layer::rate_limit::RateLimit;

type Limited = RateLimit<Channel, Message>;

/// Both ends of three connections with this layer.
fn three(layer: &RateLimitLayer) -> Vec<(Limited, Channel)> {
    let connection = || {
        let (near, far) = messages(64);
        (near.layer(layer.clone()), far)
    };
    std::iter::repeat_with(connection).take(3).collect()
}

/// Sends as many as there is room for.
fn flood(connection: &mut Limited) -> usize {
    (0..).take_while(|number| try_send(connection, text(*number)).unwrap_or(false)).count()
}

#[tokio::test(start_paused = true)]
async fn a_shared_quota_is_one_for_all_and_one_per_connection_is_each_ones_own() {
    let layer = RateLimitLayer::shared(ten(5)).runtime_clock();
    let counts = layer.counts();
    let sent: Vec<_> = three(&layer).iter_mut().map(|(near, _)| flood(near)).collect();
    assert_eq!(sent, [5, 0, 0]);
    assert_eq!(counts.admitted(), 5);
    let sent: Vec<_> = three(&per_connection(5)).iter_mut().map(|(near, _)| flood(near)).collect();
    assert_eq!(sent, [5, 5, 5]);
}

#[tokio::test(start_paused = true)]
async fn connections_that_wait_for_a_shared_quota_take_turns() {
    let layer = RateLimitLayer::shared(ten(1)).runtime_clock().outbound();
    let (mut tasks, mut ends) = (Vec::new(), Vec::new());
    for (mut near, far) in three(&layer) {
        ends.push(far);
        tasks.push(tokio::spawn(async move {
            let mut sent = 0;
            let ten_minutes = tokio::time::sleep(Duration::from_secs(600));
            tokio::pin!(ten_minutes);
            loop {
                tokio::select! {
                    biased;
                    () = &mut ten_minutes => break sent,
                    done = near.send(Message::Binary("x".into())) => { done.unwrap(); sent += 1; }
                }
            }
        }));
    }
    for mut far in ends {
        tokio::spawn(async move { while far.next().await.is_some() {} });
    }
    let mut shares = Vec::new();
    for task in tasks {
        shares.push(task.await.unwrap());
    }
    let all: usize = shares.iter().sum();
    assert!((5990..=6001).contains(&all), "{shares:?}");
    assert!(shares.iter().all(|share| (1990..=2010).contains(share)), "{shares:?}");
}

#[tokio::test(start_paused = true)]
async fn who_stands_in_line_and_never_asks_does_not_hold_up_the_others() {
    let layer = RateLimitLayer::shared(ten(1)).runtime_clock();
    let mut connections = three(&layer);
    let [(first, _a), (second, _b), (third, far)] = &mut connections[..] else { unreachable!() };
    assert_eq!(flood(first), 1);
    // It waits, and is not polled again.
    assert!(!try_send(second, text(0)).unwrap());
    let start = tokio::time::Instant::now();
    for number in 0..100 {
        third.send(text(number)).await.unwrap();
        assert!(next(far).is_some());
    }
    // One place was another's.
    assert!(start.elapsed() <= ms(100 * 101 + 200), "{:?}", start.elapsed());
}

/// The library that this one replaces forgot the fraction of a cell at every check: 1 of 141 polls passed.
#[tokio::test(start_paused = true)]
async fn a_busy_connection_gets_its_rate_though_it_asks_before_a_whole_cell_is_back() {
    let (near, _far) = messages(1024);
    let mut near = near.layer(per_connection(10).reject());
    let mut admitted = 0;
    for number in 0..=141 {
        admitted += usize::from(try_send(&mut near, text(number)).is_ok());
        advance(ms(21)).await;
    }
    // 10 at once, and 10 a second for 2961 ms.
    assert_eq!(admitted, 39);
}

#[tokio::test(start_paused = true)]
async fn the_processors_clock_is_the_default_and_runs_on_while_tokios_is_paused() {
    let (near, _far) = messages(8);
    let quota = Quota::per_hour(cells(1));
    let mut near = near.layer(RateLimitLayer::per_connection(quota).reject());
    assert!(try_send(&mut near, text(0)).unwrap());
    advance(Duration::from_secs(7200)).await;
    assert!(try_send(&mut near, text(1)).unwrap_err().is_rate_limited());
}
