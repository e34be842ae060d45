use super::*;
use tokio::time::{Instant, advance, sleep, timeout};
use tower_transport::{Error, test_util::script::Script};

/// When the stream ends with its error, and which.
async fn end(near: &mut Limited<Channel>) -> (Duration, Error) {
    let start = Instant::now();
    let error = near.next().await.unwrap().unwrap_err();
    assert!(near.next().now_or_never().unwrap().is_none());
    (start.elapsed(), error)
}

#[tokio::test(start_paused = true)]
async fn a_transport_without_messages_is_closed_after_its_idle_time() {
    let (mut near, mut far) = pair(LimitLayer::new().idle_timeout(seconds(8)), 8);
    let (after, error) = end(&mut near).await;
    assert!((seconds(8)..=seconds(9)).contains(&after), "{after:?}");
    assert!(error.is_timeout());
    assert_eq!(error.close_frame().unwrap().code(), CloseCode::AWAY);
    expect_close(&mut far, CloseCode::AWAY, "idle timeout");
    let error = near.send(bytes(1)).now_or_never().unwrap().unwrap_err();
    assert!(error.is_closed());
    assert_eq!(near.close_frame().unwrap().code(), CloseCode::AWAY);
}

#[tokio::test(start_paused = true)]
async fn messages_of_either_direction_keep_it_alive_and_pings_do_not() {
    let (mut near, mut far) = pair(LimitLayer::new().idle_timeout(seconds(8)), 64);
    for round in 0..20 {
        if round % 2 == 0 {
            put(&mut far, bytes(1));
            near.next().await.unwrap().unwrap();
        } else {
            near.send(bytes(1)).await.unwrap();
            far.next().await.unwrap().unwrap();
        }
        assert!(timeout(Duration::from_millis(7900), near.next()).await.is_err(), "closed in round {round}");
    }
    let start = Instant::now();
    for _ in 0..4 {
        put(&mut far, Message::Ping("are you there?".into()));
        near.send(Message::Pong("yes".into())).await.unwrap();
        assert!(near.next().await.unwrap().unwrap().is_control());
        if let Ok(item) = timeout(seconds(1), near.next()).await {
            // 7.9 s were over already.
            assert!(item.unwrap().unwrap_err().is_timeout());
            assert!(start.elapsed() <= Duration::from_millis(1100));
            return;
        }
    }
    panic!("pings kept it alive");
}

#[tokio::test(start_paused = true)]
async fn the_last_message_counts_from_when_it_passed_to_an_eighth() {
    // Whenever within a tick the message comes.
    for late in 0..10 {
        let (mut near, mut far) = pair(LimitLayer::new().idle_timeout(seconds(8)), 8);
        assert!(timeout(Duration::from_millis(3000 + 100 * late), near.next()).await.is_err());
        put(&mut far, bytes(1));
        near.next().await.unwrap().unwrap();
        let (after, _) = end(&mut near).await;
        let slack = Duration::from_millis(20);
        assert!((seconds(8)..=seconds(9) + slack).contains(&after), "{late}: {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_who_does_not_read_is_not_taken_for_an_idle_peer() {
    let (mut near, mut far) = pair(LimitLayer::new().idle_timeout(seconds(8)), 64);
    assert!(near.next().now_or_never().is_none());
    for _ in 0..5 {
        put(&mut far, bytes(1));
        sleep(seconds(100)).await;
        assert!(near.next().now_or_never().unwrap().unwrap().is_ok());
        assert!(near.next().now_or_never().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_ends_though_messages_never_stop_coming() {
    let (mut near, mut far) = pair(LimitLayer::new().lifetime(seconds(60)), 128);
    let start = Instant::now();
    let mut received = 0;
    let error = loop {
        // The stream is never pending.
        put(&mut far, bytes(1));
        match near.next().now_or_never().unwrap().unwrap() {
            Ok(_) => received += 1,
            Err(error) => break error,
        }
        advance(Duration::from_millis(10)).await;
    };
    assert!(error.is_timeout());
    assert!(start.elapsed() >= seconds(60) && start.elapsed() <= Duration::from_millis(60_000 + 65 * 11), "{received}");
    assert!(near.next().now_or_never().unwrap().is_none());
    let rest: Vec<_> = far.collect().now_or_never().unwrap();
    let [Ok(Message::Close(Some(frame)))] = &rest[..] else { panic!("{rest:?}") };
    assert_eq!((frame.code(), frame.reason()), (CloseCode::AWAY, "maximum lifetime"));
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_that_is_shorter_than_the_idle_time_comes_first_and_in_time() {
    let layer = LimitLayer::new().idle_timeout(seconds(80)).lifetime(seconds(15));
    let (mut near, _far) = pair(layer, 8);
    let (after, error) = end(&mut near).await;
    assert!((seconds(15)..=Duration::from_millis(15_010)).contains(&after), "{after:?}");
    assert!(error.to_string().contains("maximum lifetime"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn lifetimes_with_jitter_do_not_end_together() {
    let layer = LimitLayer::new().lifetime(seconds(100)).lifetime_jitter(seconds(50));
    let mut ends = Vec::new();
    for _ in 0..20 {
        let (mut near, _far) = pair(layer.clone(), 8);
        let (after, _) = end(&mut near).await;
        assert!((seconds(50)..=seconds(101)).contains(&after), "{after:?}");
        ends.push(after);
    }
    ends.sort();
    ends.dedup();
    assert!(ends.len() > 10);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_was_closed_by_the_user_ends_by_time_all_the_same() {
    let (mut near, far) = pair(LimitLayer::new().idle_timeout(seconds(8)), 8);
    near.close().await.unwrap();
    let (_, error) = end(&mut near).await;
    assert!(error.is_timeout());
    drop(far);
}

#[test]
fn without_times_no_clock_is_needed() {
    // No runtime here.
    let script = Script::<Message>::new().give(bytes(1)).fail_receive(Error::protocol("odd")).end();
    let mut near = script.build().0.layer(LimitLayer::new());
    assert!(near.next().now_or_never().unwrap().unwrap().is_ok());
    assert!(near.next().now_or_never().unwrap().unwrap().unwrap_err().is_protocol());
    assert!(near.next().now_or_never().unwrap().is_none());
    let (mut near, _far) = pair(LimitLayer::new(), 1);
    assert!(near.next().now_or_never().is_none());
}

#[test]
fn a_limited_transport_is_a_transport_that_is_send() {
    fn check<T: Send + Sync + tower_transport::Transport<Message, In = Message>>(_: &T) {}
    check(&pair(LimitLayer::new(), 1).0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_its_time_with_each_message_postpones_neither_limit() {
    for (layer, most) in
        [(LimitLayer::new().lifetime(seconds(80)), 81), (LimitLayer::new().idle_timeout(seconds(80)), 80 * 9 / 8 + 8)]
    {
        let (mut near, mut far) = pair(layer.clone(), 1000);
        let start = Instant::now();
        let error = loop {
            // Pings are no data, and a lifetime does not mind.
            while far.send(Message::Ping("".into())).now_or_never().is_some() {}
            match near.next().await.unwrap() {
                Ok(_) => sleep(seconds(1)).await,
                Err(error) => break error,
            }
        };
        assert!(error.is_timeout(), "{error:?}");
        assert!((seconds(80)..=seconds(most)).contains(&start.elapsed()), "{layer:?}: {:?}", start.elapsed());
    }
}
