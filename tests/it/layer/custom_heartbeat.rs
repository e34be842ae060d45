//! The heartbeat of the user's own messages, on a paused clock: each time here is exact.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, Stream, StreamExt};
use tokio::time::{Instant, advance, sleep, timeout};
use tower::Layer;
use tower_transport::{
    Channel, Error, Message, QueueConfig, TransportExt, channel, contract_tests,
    layer::heartbeat::{CustomHeartbeat, CustomHeartbeatLayer, HeartbeatLayer, Monitor, NoReplies},
};

use super::rejecting::rejecting;

const INTERVAL: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_secs(5);

type Ping = fn(u32) -> Message;
type IsAnswer = fn(&Message) -> bool;
type Reply = fn(&Message) -> Option<Message>;
type Custom<R> = CustomHeartbeat<Channel, Message, Ping, IsAnswer, R>;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn nth(i: usize) -> Message {
    Message::text(i.to_string())
}

fn ping(number: u32) -> Message {
    Message::text(format!(r#"{{"op":"ping","n":{number}}}"#))
}

fn pong() -> Message {
    Message::text(r#"{"op":"pong"}"#)
}

fn reply(message: &Message) -> Option<Message> {
    message.as_text()?.contains("ping").then(pong)
}

fn layer(interval: Duration, timeout: Duration) -> CustomHeartbeatLayer<Ping, IsAnswer> {
    HeartbeatLayer::new(interval, timeout).custom(ping as Ping, (|message| *message == pong()) as IsAnswer)
}

fn bare() -> (Custom<NoReplies>, Channel) {
    let (here, there) = channel::<Message, Message>(1);
    (layer(INTERVAL, TIMEOUT).layer(here), there)
}

fn pair(interval: Duration) -> (Custom<Reply>, Custom<Reply>) {
    let layer = layer(interval, seconds(1_000_000)).reply(reply as Reply);
    let (here, there) = channel::<Message, Message>(1);
    (layer.layer(here), layer.layer(there))
}

contract_tests!(mod mirrored, pair = pair(INTERVAL), message = nth, on = paused_tokio);
contract_tests!(mod bare_peer, pair = bare(), message = nth, on = paused_tokio);
// Pings all the time: they must take nobody's place, waker or order.
contract_tests!(mod busy, pair = pair(Duration::from_millis(1)), message = nth, on = paused_tokio);

async fn given_up<T: Stream<Item = Result<Message, Error>> + Unpin>(stream: &mut T) -> Duration {
    let start = Instant::now();
    loop {
        if let Err(error) = stream.next().await.expect("an error comes before the end") {
            assert!(error.is_timeout(), "{error:?}");
            assert!(stream.next().await.is_none());
            return start.elapsed();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_is_given_up_in_time() {
    let (mut here, mut there) = bare();
    assert_eq!(given_up(&mut here).await, INTERVAL + TIMEOUT);
    assert_eq!(there.next().await.unwrap().unwrap(), ping(1));
    let error = here.send(nth(0)).await.unwrap_err();
    assert!(error.is_closed(), "{error:?}");
    here.close().now_or_never().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn answers_are_taken_out_of_the_stream_and_tell_the_round_trip() {
    let monitor = Monitor::new();
    let layer = HeartbeatLayer::new(INTERVAL, TIMEOUT).monitor(monitor.clone());
    let (here, mut there) = channel::<Message, Message>(1);
    let mut here = layer.custom(ping, |message: &Message| *message == pong()).layer(here);
    let peer = async {
        for number in 1..=3 {
            assert_eq!(there.next().await.unwrap().unwrap(), ping(number));
            sleep(Duration::from_millis(80)).await;
            there.send(pong()).await.unwrap();
        }
        there.send(nth(7)).await.unwrap();
    };
    let (message, ()) = tokio::join!(here.next(), peer);
    assert_eq!(message.unwrap().unwrap(), nth(7), "no pong is passed on");
    assert_eq!(monitor.rtt().unwrap().last, Duration::from_millis(80));
}

#[tokio::test(start_paused = true)]
async fn answers_and_pings_of_the_peer_are_passed_on_where_that_is_asked_for() {
    let (here, mut there) = channel::<Message, Message>(4);
    let mut here = layer(INTERVAL, TIMEOUT).reply(reply).pass_on().layer(here);
    for message in [pong(), ping(1)] {
        there.send(message.clone()).await.unwrap();
        assert_eq!(here.next().await.unwrap().unwrap(), message);
    }
    assert_eq!(there.next().await.unwrap().unwrap(), pong(), "answered all the same");
}

#[tokio::test(start_paused = true)]
async fn a_ping_of_the_peer_is_answered_though_nobody_writes_and_is_not_passed_on() {
    let (here, mut there) = channel::<Message, Message>(4);
    let mut here = layer(INTERVAL, TIMEOUT).reply(reply).layer(here);
    there.send(ping(1)).await.unwrap();
    there.send(nth(0)).await.unwrap();
    assert_eq!(here.next().await.unwrap().unwrap(), nth(0));
    assert_eq!(there.next().await.unwrap().unwrap(), pong());
}

/// How many pings a peer gets in 101 s that sends a message each 5 s and answers at once.
async fn pings(layer: CustomHeartbeatLayer<Ping, IsAnswer>) -> u32 {
    let (here, there) = channel::<Message, Message>(64);
    let (_sender, mut receiver, driver) = layer.layer(here).drive(QueueConfig::messages()).into_parts();
    tokio::spawn(driver);
    tokio::spawn(async move { while let Some(Ok(_)) = receiver.receive().await {} });
    let (mut sink, mut stream) = StreamExt::split(there);
    let talk = async {
        let mut pings = 0;
        let mut ticks = tokio::time::interval(seconds(5));
        loop {
            tokio::select! {
                _ = ticks.tick() => sink.send(nth(0)).await.unwrap(),
                message = stream.next() => {
                    assert!(reply(&message.unwrap().unwrap()).is_some());
                    pings += 1;
                    sink.send(pong()).await.unwrap();
                }
                () = sleep(seconds(4)) => {}
            }
            if pings == 5 {
                return;
            }
        }
    };
    let start = Instant::now();
    match timeout(seconds(101), talk).await {
        Ok(()) => {
            assert_eq!(start.elapsed(), seconds(100));
            5
        }
        Err(_) => 0,
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_talks_is_pinged_each_interval_unless_pings_are_for_silence() {
    assert_eq!(pings(layer(INTERVAL, TIMEOUT)).await, 5);
    assert_eq!(pings(layer(INTERVAL, TIMEOUT).when_silent()).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_ping_leaves_though_the_stream_never_waits() {
    let (here, mut there) = channel::<Message, Message>(2);
    let mut here = layer(INTERVAL, TIMEOUT).layer(here);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(here.poll_next_unpin(&mut cx).is_pending());
    for _ in 0..2 * 64 {
        there.send(nth(0)).await.unwrap();
        advance(INTERVAL / 64).await;
        assert!(matches!(here.poll_next_unpin(&mut cx), Poll::Ready(Some(Ok(_)))));
    }
    assert_eq!(there.next().now_or_never().unwrap().unwrap().unwrap(), ping(1));
}

#[tokio::test(start_paused = true)]
async fn a_round_trip_is_measured_only_where_the_answer_can_be_to_no_older_ping() {
    let (here, mut there) = channel::<Message, Message>(8);
    let here = layer(INTERVAL, TIMEOUT).layer(here);
    let monitor = here.monitor();
    let (_sender, _receiver, driver) = here.drive(QueueConfig::messages()).into_parts();
    tokio::spawn(driver);
    // The first ping is not answered, but the peer talks.
    assert_eq!(there.next().await.unwrap().unwrap(), ping(1));
    there.send(nth(0)).await.unwrap();
    assert_eq!(there.next().await.unwrap().unwrap(), ping(2));
    there.send(pong()).await.unwrap();
    assert_eq!(there.next().await.unwrap().unwrap(), ping(3));
    assert_eq!(monitor.rtt(), None);
    sleep(seconds(1)).await;
    there.send(pong()).await.unwrap();
    assert_eq!(there.next().await.unwrap().unwrap(), ping(4));
    assert_eq!(monitor.rtt().unwrap().last, seconds(1));
}
#[tokio::test(start_paused = true)]
async fn it_goes_above_a_codec_as_well() {
    use serde_json::{Value, json};
    use tower::ServiceBuilder;
    use tower_transport::{ServiceBuilderExt, codec::JsonCodec};

    let heartbeat = HeartbeatLayer::new(INTERVAL, TIMEOUT)
        .custom(|number| json!({"op": "ping", "n": number}), |message: &Value| message["op"] == "pong")
        .reply(|message: &Value| (message["op"] == "ping").then(|| json!({"op": "pong"})));
    let stack = ServiceBuilder::new().layer(heartbeat).codec(JsonCodec::<Value>::new());
    let (here, mut there) = channel::<Message, Message>(8);
    let mut here = stack.service(here);
    there.send(Message::text(r#"{"op":"ping"}"#)).await.unwrap();
    there.send(Message::text(r#"{"price":7}"#)).await.unwrap();
    assert_eq!(here.next().await.unwrap().unwrap(), json!({"price": 7}));
    assert_eq!(there.next().await.unwrap().unwrap(), Message::text(r#"{"op":"pong"}"#));
    let error = here.next().await.unwrap().unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    let asked = there.next().await.unwrap().unwrap();
    assert_eq!(serde_json::from_str::<Value>(asked.as_text().unwrap()).unwrap(), json!({"op": "ping", "n": 1}));
}
#[tokio::test(start_paused = true)]
async fn it_is_silent_while_there_is_no_connection_and_starts_with_each() {
    use tower_transport::layer::reconnect::{Backoff, Keep, ReconnectLayer, WhenLost};

    let (ends, mut servers) = tokio::sync::mpsc::unbounded_channel();
    let attempts = Arc::new(AtomicU32::new(0));
    let connector = tower::service_fn(move |_: http::Request<()>| {
        // An outage of ten attempts after the first connection.
        let attempt = attempts.fetch_add(1, Ordering::Relaxed);
        let result = if (1..=10).contains(&attempt) {
            Err(Error::refused("an outage"))
        } else {
            let (near, far) = channel::<Message, Message>(64);
            ends.send(far).unwrap();
            Ok(http::Response::new(layer(INTERVAL, TIMEOUT).layer(near)))
        };
        std::future::ready(result)
    });
    let backoff = Backoff::exponential();
    let layer = ReconnectLayer::new("ws://example.com", backoff).when_lost(WhenLost::Keep(Keep::messages()));
    let (sender, _receiver, driver) = layer.layer(connector).drive(QueueConfig::messages()).into_parts();
    tokio::spawn(driver);
    let mut first = servers.recv().await.unwrap();
    assert_eq!(first.next().await.unwrap().unwrap(), ping(1));
    drop(first);
    let outage = Instant::now();
    let mut second = servers.recv().await.unwrap();
    assert!(outage.elapsed() > INTERVAL, "{:?}", outage.elapsed());
    let connected = Instant::now();
    sender.send(nth(0)).await.unwrap();
    assert_eq!(second.next().await.unwrap().unwrap(), nth(0), "no ping was kept for it");
    assert_eq!(second.next().await.unwrap().unwrap(), ping(1));
    assert_eq!(connected.elapsed(), INTERVAL);
}

#[tokio::test(start_paused = true)]
async fn one_ping_and_one_answer_wait_for_room_and_no_more() {
    let (here, mut there) = channel::<Message, Message>(1);
    let mut here = layer(seconds(1), seconds(1_000_000)).reply(reply).layer(here);
    here.send(nth(0)).await.unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    for i in 0..100 {
        there.send(ping(i)).await.unwrap();
        assert!(here.poll_next_unpin(&mut cx).is_pending());
        advance(seconds(1)).await;
    }
    assert_eq!(there.next().await.unwrap().unwrap(), nth(0));
    let mut rest = Vec::new();
    while let Some(message) = {
        assert!(here.poll_next_unpin(&mut cx).is_pending());
        there.next().now_or_never()
    } {
        rest.push(message.unwrap().unwrap());
    }
    assert!(rest.len() <= 4, "{rest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_steady_ping_comes_each_interval_though_the_reader_takes_a_second_for_each_message() {
    for capacity in [1, 16, 1000] {
        let (here, mut there) = channel::<Message, Message>(capacity);
        let mut here = layer(seconds(15), seconds(10)).layer(here);
        let (mut pings, start) = (Vec::new(), Instant::now());
        for number in 0..600 {
            // A message always waits.
            while there.send(nth(number)).now_or_never().is_some() {}
            here.next().await.unwrap().unwrap();
            sleep(seconds(1)).await;
            while let Some(Some(Ok(_))) = there.next().now_or_never() {
                pings.push(start.elapsed().as_secs());
            }
        }
        assert!(pings.len() >= 600 / 18, "capacity {capacity}: {pings:?}");
        assert!(pings.windows(2).all(|pair| (15..=18).contains(&(pair[1] - pair[0]))), "{pings:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_or_an_answer_that_is_rejected_is_told_once_and_the_next_is_sent() {
    for error in [
        || Error::rate_limited("one a minute"),
        || Error::too_large("over").into_rejection(),
        || Error::codec("no form"),
    ] {
        let (here, mut there) = channel::<Message, Message>(64);
        let mut sent = 0;
        let here = rejecting(here, move |_| {
            sent += 1;
            [1, 3].contains(&sent).then(error)
        });
        let mut here = layer(INTERVAL, TIMEOUT).reply(reply as Reply).layer(here);
        // The first ping is rejected, and so is the second answer.
        let item = timeout(INTERVAL + seconds(1), here.next()).await.expect("the ping is due");
        assert!(item.unwrap().unwrap_err().is_rejection());
        there.send(ping(7)).await.unwrap();
        assert!(here.next().now_or_never().is_none());
        assert_eq!(there.next().await.unwrap().unwrap(), pong());
        there.send(ping(8)).await.unwrap();
        assert!(here.next().now_or_never().unwrap().unwrap().unwrap_err().is_rejection());
        there.send(ping(9)).await.unwrap();
        assert!(here.next().now_or_never().is_none());
        assert_eq!(there.next().await.unwrap().unwrap(), pong());
        assert!(timeout(INTERVAL + seconds(1), here.next()).await.is_err());
        assert_eq!(there.next().await.unwrap().unwrap(), ping(2));
        here.send(nth(0)).await.unwrap();
        assert_eq!(there.next().await.unwrap().unwrap(), nth(0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_of_the_user_that_is_rejected_behind_a_ping_is_told_to_the_user() {
    let (here, mut there) = channel::<Message, Message>(1);
    let here = rejecting(here, |message: &Message| (*message == nth(0)).then(|| Error::codec("no form")));
    let mut here = layer(INTERVAL, TIMEOUT).layer(here);
    here.feed(nth(1)).await.unwrap();
    assert_eq!(there.next().await.unwrap().unwrap(), nth(1));
    // The ping takes the room that the user was promised.
    assert!(here.next().now_or_never().is_none());
    assert!(here.poll_ready_unpin(&mut Context::from_waker(Waker::noop())).is_ready());
    for _ in 0..2 {
        advance(INTERVAL / 2 + seconds(1)).await;
        assert!(here.next().now_or_never().is_none());
    }
    here.start_send_unpin(nth(0)).unwrap();
    assert_eq!(there.next().await.unwrap().unwrap(), ping(1));
    let error = here.next().now_or_never().unwrap().unwrap().unwrap_err();
    assert!(error.is_codec(), "{error:?}");
}
