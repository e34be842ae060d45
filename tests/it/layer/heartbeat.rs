//! The heartbeat, on a paused clock: each time here is exact.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tokio::time::{Instant, advance, sleep, timeout, timeout_at};
use tower::{Layer, ServiceBuilder};
use tower_transport::{
    Channel, Error, Message, QueueConfig, ServiceBuilderExt, Transport, TransportExt, channel, contract_tests,
    layer::heartbeat::{Heartbeat, HeartbeatLayer, Monitor},
    test_util::{
        fault::{Direction, Faults},
        script::Script,
    },
};

const INTERVAL: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_secs(5);

const LAYER: HeartbeatLayer = HeartbeatLayer::new(INTERVAL, TIMEOUT);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn nth(i: usize) -> Message {
    Message::text(i.to_string())
}

fn pair(layer: &HeartbeatLayer) -> (Heartbeat<Channel>, Heartbeat<Channel>) {
    let (here, there) = channel::<Message, Message>(1);
    (layer.layer(here), layer.layer(there))
}

fn bare(layer: &HeartbeatLayer) -> (Heartbeat<Channel>, Channel) {
    let (here, there) = channel::<Message, Message>(1);
    (layer.layer(here), there)
}

contract_tests!(mod mirrored, pair = pair(&LAYER), message = nth, on = paused_tokio);
contract_tests!(mod bare_peer, pair = bare(&LAYER), message = nth, on = paused_tokio);
contract_tests!(mod application_level, pair = pair(&LAYER.application_level()), message = nth, on = paused_tokio);
contract_tests!(mod answering, pair = pair(&LAYER.answer_pings()), message = nth, on = paused_tokio);
/// Pings all the time: they must take nobody's place, waker or order.
const BUSY: HeartbeatLayer = HeartbeatLayer::new(Duration::from_millis(1), seconds(1_000_000));
contract_tests!(mod busy, pair = pair(&BUSY.application_level()), message = nth, on = paused_tokio);

/// The ping of this number.
fn ping(number: u32) -> Message {
    Message::Ping(payload(number).into())
}

fn pong(number: u32) -> Message {
    Message::Pong(payload(number).into())
}

fn payload(number: u32) -> Vec<u8> {
    [*b"ttxh", number.to_be_bytes()].concat()
}

/// As `docs/wire.md` has it: 1 is a ping, 2 a pong.
fn marked(body: &[u8], kind: u8) -> Message {
    Message::binary([body, &[kind, 4], b"\xf8ttx\x01\xff"].concat())
}

/// Reads until the end: at which second of the clock the error came.
async fn given_up<T: Stream<Item = Result<Message, Error>> + Unpin>(stream: &mut T, start: Instant) -> Duration {
    loop {
        match stream.next().await.expect("an error comes before the end") {
            Ok(_) => {}
            Err(error) => {
                assert!(error.is_timeout() && error.to_string().contains("5s"), "{error}");
                let after = start.elapsed();
                assert!(stream.next().await.is_none());
                assert!(stream.next().await.is_none());
                return after;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_says_anything_is_given_up_after_interval_and_timeout_exactly() {
    let start = Instant::now();
    let (mut here, _there) = bare(&LAYER);
    assert_eq!(given_up(&mut here, start).await, INTERVAL + TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_becomes_half_open_is_found_within_interval_and_timeout_of_its_last_message() {
    // Its last message at each half second of two intervals.
    for half_seconds in 0..80 {
        let start = Instant::now();
        let last = Duration::from_millis(500) * half_seconds;
        let faults = Faults::new();
        let (here, mut there) = channel::<Message, Message>(8);
        let mut here = LAYER.layer(faults.layer().layer(here));
        let peer = tokio::spawn(async move {
            while let Ok(message) = timeout_at(start + last, there.next()).await {
                let Message::Ping(payload) = message.unwrap().unwrap() else { panic!("not a ping") };
                there.send(Message::Pong(payload)).await.unwrap();
            }
            there.send(nth(0)).await.unwrap();
            // It arrives, and the rest does not.
            tokio::task::yield_now().await;
            faults.half_open();
            there
        });
        let after = given_up(&mut here, start).await;
        assert!(after <= last + INTERVAL + TIMEOUT, "last message at {last:?}, given up after {after:?}");
        assert!(after >= last + INTERVAL / 2 + TIMEOUT, "last message at {last:?}, given up after {after:?}");
        drop(peer.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_idle_is_asked_once_an_interval_and_lives() {
    let (mut here, mut there) = bare(&LAYER);
    let start = Instant::now();
    let mut pings = Vec::new();
    let peer = async {
        for number in 1..=5 {
            assert_eq!(there.next().await.unwrap().unwrap(), ping(number));
            pings.push(start.elapsed());
            sleep(seconds(1)).await;
            there.send(pong(number)).await.unwrap();
        }
        there.close().await.unwrap();
    };
    let (end, ()) = tokio::join!(here.next(), peer);
    assert!(end.is_none(), "pongs to the own pings are not passed on");
    assert_eq!(pings, [20, 41, 62, 83, 104].map(seconds));
}

#[tokio::test(start_paused = true)]
async fn any_message_is_a_sign_of_life_and_keeps_the_pings_away() {
    let (mut here, mut there) = bare(&LAYER);
    let peer = async {
        for i in 0..50 {
            sleep(seconds(9)).await;
            there.send(nth(i)).await.unwrap();
            assert!(there.next().now_or_never().is_none(), "it was asked");
        }
        there
    };
    let reader = async {
        for i in 0..50 {
            assert_eq!(here.next().await.unwrap().unwrap(), nth(i));
        }
    };
    let (mut there, ()) = tokio::join!(peer, reader);
    // Then it falls silent, is asked, and says something else than a pong, just in time.
    let peer = async {
        assert_eq!(there.next().await.unwrap().unwrap(), ping(1));
        sleep(TIMEOUT - Duration::from_millis(1)).await;
        there.send(nth(50)).await.unwrap();
        assert_eq!(there.next().await.unwrap().unwrap(), ping(2));
        there
    };
    let start = Instant::now();
    let reader = async {
        assert_eq!(here.next().await.unwrap().unwrap(), nth(50));
        given_up(&mut here, start).await
    };
    let (_there, after) = tokio::join!(peer, reader);
    // The last message was an answer, whose time is known.
    assert!(after <= INTERVAL + TIMEOUT + INTERVAL + TIMEOUT, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_was_given_up_fails_the_sink_for_that_cause_and_can_be_closed() {
    let (mut here, _there) = bare(&LAYER);
    given_up(&mut here, Instant::now()).await;
    for error in [here.send(nth(0)).await.unwrap_err(), here.flush().await.unwrap_err()] {
        assert!(error.is_closed(), "{error}");
        let cause = std::error::Error::source(&error).unwrap().downcast_ref::<Error>().unwrap();
        assert!(cause.is_timeout());
    }
    here.close().now_or_never().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_waits_for_room_is_woken_when_the_peer_is_given_up() {
    let (here, _there) = bare(&LAYER);
    let (mut sink, mut stream) = TransportExt::<Message>::into_split(here);
    sink.send(nth(0)).await.unwrap();
    let writer = tokio::spawn(async move { sink.send(nth(1)).await });
    let start = Instant::now();
    assert_eq!(given_up(&mut stream, start).await, INTERVAL + TIMEOUT, "though the ping found no room either");
    assert!(writer.await.unwrap().unwrap_err().is_closed());
}

#[tokio::test(start_paused = true)]
async fn whose_ping_cannot_be_written_is_given_up_in_time_and_the_error_says_why() {
    let (transport, _script) = Script::<Message>::new().fail_send(Error::closed("broken pipe")).build();
    let mut here = LAYER.layer(transport);
    let start = Instant::now();
    let error = here.next().await.unwrap().unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(start.elapsed(), INTERVAL + TIMEOUT);
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "broken pipe");
}

#[tokio::test(start_paused = true)]
async fn what_has_come_is_read_before_the_peer_is_judged() {
    let (mut here, mut there) = bare(&LAYER);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(here.poll_next_unpin(&mut cx).is_pending());
    for _ in 0..2 {
        advance(INTERVAL / 2).await;
        assert!(here.poll_next_unpin(&mut cx).is_pending());
    }
    assert_eq!(there.next().await.unwrap().unwrap(), ping(1));
    there.send(pong(1)).await.unwrap();
    // Nobody reads for an hour. Then all is well.
    advance(seconds(3600)).await;
    assert!(here.poll_next_unpin(&mut cx).is_pending());
    assert_eq!(here.rtt().unwrap().last, seconds(3600), "the pong waited to be read");
}

#[tokio::test(start_paused = true)]
async fn if_nobody_looked_for_long_the_peer_gets_its_time_once_more() {
    let (mut here, mut there) = bare(&LAYER);
    let mut cx = Context::from_waker(Waker::noop());
    // No room for the ping.
    here.send(nth(0)).await.unwrap();
    assert!(here.poll_next_unpin(&mut cx).is_pending());
    for _ in 0..2 {
        advance(INTERVAL / 2).await;
        assert!(here.poll_next_unpin(&mut cx).is_pending());
    }
    assert_eq!(there.next().await.unwrap().unwrap(), nth(0));
    advance(seconds(3600)).await;
    assert!(here.poll_next_unpin(&mut cx).is_pending());
    assert_eq!(there.next().await.unwrap().unwrap(), ping(1), "it goes out only now");
    let start = Instant::now();
    assert_eq!(given_up(&mut here, start).await, TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_slow_user_of_a_driven_transport_is_not_taken_for_a_dead_peer() {
    let (here, mut there) = channel::<Message, Message>(1);
    let queue = QueueConfig::messages().max_inbox(1.try_into().unwrap());
    let (_sender, mut receiver, driver) = LAYER.layer(here).drive(queue).into_parts();
    let driver = tokio::spawn(driver);
    let peer = tokio::spawn(async move {
        for i in 0..3 {
            there.send(nth(i)).await.unwrap();
        }
        // It answers as WebSockets do.
        while let Some(Ok(message)) = there.next().await {
            if let Message::Ping(payload) = message {
                there.send(Message::Pong(payload)).await.unwrap();
            }
        }
    });
    // The inbox is full, and the driver does not read.
    for i in 0..3 {
        sleep(seconds(3600)).await;
        assert_eq!(receiver.next().await.unwrap().unwrap(), nth(i));
    }
    assert!(timeout(seconds(3600), receiver.next()).await.is_err(), "the connection lives on");
    assert!(!driver.is_finished());
    peer.abort();
}

#[tokio::test(start_paused = true)]
async fn a_driven_connection_is_watched_though_nobody_reads_or_writes() {
    let faults = Faults::new();
    let monitor = Monitor::new();
    let stack = ServiceBuilder::new().layer(LAYER.answer_pings().monitor(monitor.clone())).layer(faults.layer());
    let (here, there) = channel::<Message, Message>(8);
    let (_sender, receiver, driver) = stack.service(here).drive(QueueConfig::messages()).into_parts();
    let (_peer, inbox, peer) = LAYER.answer_pings().layer(there).drive(QueueConfig::messages()).into_parts();
    drop((receiver, inbox));
    let driver = tokio::spawn(driver);
    tokio::spawn(peer);
    sleep(seconds(3600)).await;
    assert!(monitor.rtt().is_some());
    assert!(!driver.is_finished());

    let start = Instant::now();
    faults.half_open();
    let error = driver.await.unwrap().unwrap_err();
    assert!(error.is_timeout());
    assert!(start.elapsed() <= INTERVAL + TIMEOUT, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_round_trip_is_measured_from_the_ping_to_its_own_pong() {
    let (here, mut there) = bare(&LAYER);
    let monitor = here.monitor();
    let (_sender, _receiver, driver) = here.drive(QueueConfig::messages()).into_parts();
    tokio::spawn(driver);
    let mut answer = async |number: u32, wait: Duration, of: u32| {
        assert_eq!(there.next().await.unwrap().unwrap(), ping(number));
        sleep(wait).await;
        there.send(pong(of)).await.unwrap();
        tokio::task::yield_now().await;
    };
    answer(1, Duration::from_millis(80), 1).await;
    assert_eq!(monitor.rtt().unwrap().last, Duration::from_millis(80));
    // An old pong is a sign of life, but tells no time.
    answer(2, Duration::from_millis(1), 1).await;
    assert_eq!(monitor.rtt().unwrap().last, Duration::from_millis(80));
    answer(3, Duration::from_millis(160), 3).await;
    let rtt = monitor.rtt().unwrap();
    assert_eq!((rtt.last, rtt.smoothed), (Duration::from_millis(160), Duration::from_millis(90)));
}

#[tokio::test(start_paused = true)]
async fn pings_of_the_application_are_answered_where_that_is_set_and_seen_by_nobody() {
    for layer in [LAYER.answer_application_level(), LAYER.application_level()] {
        let (mut here, mut there) = bare(&layer);
        there.send(marked(b"12345678", 1)).await.unwrap();
        assert!(here.next().now_or_never().is_none());
        assert_eq!(there.next().await.unwrap().unwrap(), marked(b"12345678", 2));
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_only_answers_sends_no_ping_and_keeps_a_peer_that_pings() {
    let (here, there) = channel::<Message, Message>(1);
    let mut here = LAYER.application_level().layer(here);
    let mut there = HeartbeatLayer::answer_only().answer_application_level().layer(there);
    let (ours, theirs) =
        tokio::join!(timeout(seconds(1000), here.receive_message()), timeout(seconds(1000), there.receive_message()));
    assert!(ours.is_err() && theirs.is_err());
    assert!(here.rtt().is_some() && there.rtt().is_none());

    let (mut bare, there) = channel::<Message, Message>(1);
    let mut there = HeartbeatLayer::answer_only().layer(there);
    assert!(timeout(seconds(1_000_000_000), there.receive_message()).await.is_err());
    assert!(bare.receive_message().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_binary_message_that_ends_like_a_heartbeat_passes_unchanged_where_marks_are_not_set() {
    let (mut here, mut there) = bare(&LAYER.answer_pings());
    for message in [marked(b"12345678", 0), marked(b"12345678", 1), marked(b"12345678", 2), marked(b"x", 7)] {
        there.send(message.clone()).await.unwrap();
        assert_eq!(here.next().await.unwrap().unwrap(), message);
        assert!(there.next().now_or_never().is_none(), "nothing answers it");
        here.send(message.clone()).await.unwrap();
        assert_eq!(there.next().await.unwrap().unwrap(), message, "no byte is added");
    }
}

#[tokio::test(start_paused = true)]
async fn both_ends_in_application_mode_live_on_a_transport_without_control_messages() {
    let (here, there) = pair(&LAYER.application_level());
    let monitors = [here.monitor(), there.monitor()];
    let (_a, mut inbox, driver) = here.drive(QueueConfig::messages()).into_parts();
    let (_b, _inbox, other) = there.drive(QueueConfig::messages()).into_parts();
    tokio::spawn(driver);
    tokio::spawn(other);
    assert!(timeout(seconds(36_000), inbox.next()).await.is_err(), "nothing is passed on, and nothing ends");
    // The end that is asked hears the ping, and need not ask itself.
    assert!(monitors.iter().any(|monitor| monitor.rtt().is_some()));
}

#[tokio::test(start_paused = true)]
async fn the_newest_ping_is_answered_while_answers_find_no_room() {
    let (here, mut there) = channel::<Message, Message>(1);
    let mut here = LAYER.answer_application_level().layer(here);
    here.send(nth(0)).await.unwrap();
    for number in 0..100u64 {
        there.send(marked(&number.to_be_bytes(), 1)).await.unwrap();
        assert!(here.next().now_or_never().is_none());
    }
    assert_eq!(there.next().await.unwrap().unwrap(), nth(0));
    let mut answers = Vec::new();
    while here.next().now_or_never().is_none()
        && let Some(answer) = there.next().now_or_never()
    {
        answers.push(answer.unwrap().unwrap());
    }
    // The first had its turn in line already.
    assert_eq!(answers, [marked(&0u64.to_be_bytes(), 2), marked(&99u64.to_be_bytes(), 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_lets_other_tasks_run() {
    struct Flood(u32);
    impl Stream for Flood {
        type Item = Result<Message, Error>;
        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.0 += 1;
            Poll::Ready(Some(Ok(marked(b"12345678", 1))))
        }
    }
    impl Sink<Message> for Flood {
        type Error = Error;
        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Pending
        }
        fn start_send(self: Pin<&mut Self>, _: Message) -> Result<(), Error> {
            unreachable!()
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Pending
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Pending
        }
    }
    let mut here = LAYER.answer_application_level().layer(Flood(0));
    assert!(here.next().now_or_never().is_none());
    assert!(here.get_ref().0 < 100, "{}", here.get_ref().0);
}

/// A transport that has to be flushed for its answers, as tungstenite has.
struct Lazy {
    pings: u32,
    flushed: bool,
}

impl Stream for Lazy {
    type Item = Result<Message, Error>;
    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.pings == 0 {
            return Poll::Pending;
        }
        self.pings -= 1;
        self.flushed = false;
        Poll::Ready(Some(Ok(Message::Ping("are you there?".into()))))
    }
}

impl Sink<Message> for Lazy {
    type Error = Error;
    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        panic!("it sends a message of its own: {message:?}")
    }
    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.flushed = true;
        Poll::Ready(Ok(()))
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn pongs_of_the_transport_are_flushed_though_nobody_writes() {
    let mut here = LAYER.layer(Lazy { pings: 2, flushed: true });
    for _ in 0..2 {
        assert_eq!(here.next().await.unwrap().unwrap(), Message::Ping("are you there?".into()));
    }
    assert!(here.next().now_or_never().is_none());
    assert!(here.get_ref().flushed);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_layers_own_passes_as_it_is() {
    let (mut here, mut there) = bare(&LAYER);
    for message in [Message::Ping("x".into()), Message::Pong("x".into()), nth(1), Message::binary("8 bytes!")] {
        there.send(message.clone()).await.unwrap();
        assert_eq!(here.next().await.unwrap().unwrap(), message);
        here.send(message.clone()).await.unwrap();
        assert_eq!(there.next().await.unwrap().unwrap(), message);
    }
    // A message that only looks like a heartbeat is the user's.
    let (mut here, mut there) = pair(&LAYER.answer_application_level());
    for kind in 0..4 {
        here.send(marked(b"12345678", kind)).await.unwrap();
        assert_eq!(there.next().await.unwrap().unwrap(), marked(b"12345678", kind));
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_of_no_known_form_is_an_error_and_the_stream_goes_on() {
    let (mut here, mut there) = bare(&LAYER.answer_application_level());
    for strange in [marked(b"12345678", 3), marked(b"", 1), marked(b"123456789", 2)] {
        there.send(strange).await.unwrap();
        assert!(here.next().await.unwrap().unwrap_err().is_protocol());
    }
    there.send(nth(1)).await.unwrap();
    assert_eq!(here.next().await.unwrap().unwrap(), nth(1));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_once_either_end_closes() {
    let (mut here, mut there) = bare(&LAYER);
    here.close().await.unwrap();
    assert!(timeout(seconds(3600), here.next()).await.is_err());
    assert!(there.next().await.is_none());

    let (here, mut there) = channel::<Message, Message>(8);
    let mut here = LAYER.layer(here);
    there.send(Message::Close(None)).await.unwrap();
    assert!(here.next().await.unwrap().unwrap().is_close());
    assert!(timeout(seconds(3600), here.next()).await.is_err());
    assert!(there.next().now_or_never().is_none(), "it was asked");

    let (here, mut there) = channel::<Message, Message>(8);
    let mut here = LAYER.layer(here);
    here.send(Message::Close(None)).await.unwrap();
    assert!(timeout(seconds(3600), here.next()).await.is_err());
    assert!(there.next().await.unwrap().unwrap().is_close());
    assert!(there.next().now_or_never().is_none(), "it was asked");
}

#[tokio::test(start_paused = true)]
async fn the_builder_makes_the_layer() {
    let (here, _there) = channel::<Message, Message>(1);
    let mut here = ServiceBuilder::new().heartbeat(INTERVAL, TIMEOUT).service(here);
    assert_eq!(given_up(&mut here, Instant::now()).await, INTERVAL + TIMEOUT);
}

#[test]
fn a_watched_transport_is_send_and_sync_when_its_parts_are() {
    fn check<T: Send + Sync + Transport<In = Message>>(_: &T) {}
    check(&pair(&LAYER).0);
}

/// A real WebSocket at both ends, over bytes that stop without a word.
#[tokio::test(start_paused = true)]
async fn a_websocket_whose_peer_vanishes_is_given_up_in_time_however_full_it_is() {
    use tower_transport::{Limits, test_util::fault::FaultIo, transport::websocket::WebSocket};

    for is_full in [false, true] {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (near, faults) = FaultIo::new(near);
        let here = LAYER.layer(WebSocket::client(near, Limits::default()));
        let monitor = here.monitor();
        let (sender, _receiver, driver) = here.drive(QueueConfig::messages()).into_parts();
        let (_peer, mut inbox, peer) =
            WebSocket::server(far, Limits::default()).drive(QueueConfig::messages()).into_parts();
        let driver = tokio::spawn(driver);
        tokio::spawn(peer);
        tokio::spawn(async move { while inbox.next().await.is_some() {} });
        sleep(seconds(3600)).await;
        assert!(monitor.rtt().is_some() && !driver.is_finished());

        let start = Instant::now();
        if is_full {
            // Not swallowed, but stuck.
            faults.stall(Direction::Outgoing);
            faults.stall(Direction::Incoming);
            while let Ok(sent) = timeout(Duration::from_millis(1), sender.send(Message::binary(vec![0; 65_536]))).await
            {
                sent.unwrap();
            }
        } else {
            faults.half_open();
        }
        assert!(driver.await.unwrap().unwrap_err().is_timeout());
        assert!(start.elapsed() <= INTERVAL + TIMEOUT, "{:?}", start.elapsed());
        assert!(sender.send(nth(0)).await.is_err());
    }
}
