//! `Sender::close`, and what an overflow closes.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, Stream};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower::{Layer, ServiceBuilder, service_fn};
use tower_transport::{
    Error, ServiceBuilderExt, Transport,
    codec::JsonCodec,
    layer::{
        queue::QueueLayer,
        reconnect::{Backoff, Keep, ReconnectLayer, WhenLost},
    },
    test_util::WakeCount,
    transport::signal,
};

const SECOND: Duration = Duration::from_secs(1);

use super::*;

fn restart() -> CloseFrame {
    CloseFrame::new(CloseCode::RESTART, "a new version")
}

#[tokio::test]
async fn close_sends_what_was_accepted_and_then_the_code_above_a_codec() {
    let (near, far) = tokio::io::duplex(1024);
    let socket = WebSocket::server(near, Limits::default());
    let (sender, mut receiver, driver) =
        ServiceBuilder::new().codec(JsonCodec::<u32>::new()).service(socket).drive(QueueConfig::values()).into_parts();
    let driver = tokio::spawn(driver);
    let mut far = WebSocket::client(far, Limits::default());
    let other = sender.clone();
    sender.send(7).await.unwrap();
    let closed = sender.close(restart());
    assert!(other.send(8).await.unwrap_err().is_closed(), "for all senders, at once");
    assert!(other.is_closed() && other.clone().is_closed());

    let ((), ()) = tokio::join!(async { closed.await.unwrap() }, async {
        assert_eq!(far.next().await.unwrap().unwrap(), Message::text("7"));
        assert_eq!(far.next().await.unwrap().unwrap(), Message::Close(Some(restart())));
        assert!(far.next().await.is_none());
    });
    driver.await.unwrap().unwrap();
    assert!(receiver.receive().await.is_none());
    let error = other.closed().await;
    assert!(error.is_closed() && error.to_string().contains("1012"), "{error}");
    sender.close(restart()).await.expect("it is closed already");
}

#[test]
fn the_first_close_frame_wins_and_those_who_wait_are_told() {
    let (sender, _receiver, mut driver, mut there) = driven(8, places(1));
    accept(&sender, 0..1);
    let mut waiting = pin!(sender.send(text(1)));
    assert!(waiting.as_mut().now_or_never().is_none());
    // Dropping the futures does not stop the close.
    drop(sender.close(restart()));
    drop(sender.close(CloseFrame::new(CloseCode::AWAY, "")));
    assert!(waiting.now_or_never().unwrap().unwrap_err().is_closed());
    assert!(turn(&mut driver).is_pending());
    let mut next = || there.receive_message().now_or_never().unwrap();
    assert_eq!(next().unwrap().unwrap(), text(0));
    assert_eq!(next().unwrap().unwrap(), Message::Close(Some(restart())));
    assert!(next().is_none());
    assert_eq!(there.close_frame(), Some(restart()));
    sender.close(restart()).now_or_never().expect("it is closed").unwrap();
}

#[test]
fn a_close_reaches_a_peer_whose_transport_has_no_room_for_a_message() {
    let (sender, _receiver, mut driver, mut there) = driven(1, places(8));
    accept(&sender, 0..1);
    assert!(turn(&mut driver).is_pending());
    drop(sender.close(restart()));
    assert!(turn(&mut driver).is_pending());
    assert_eq!(received(&mut there), ["0"]);
    assert_eq!(there.close_frame(), Some(restart()));
}

#[tokio::test]
async fn close_ends_with_the_error_of_a_transport_that_was_lost_first() {
    let (sender, _receiver, mut driver, there) = driven(1, places(8));
    accept(&sender, 0..1);
    assert!(turn(&mut driver).is_pending());
    drop(there);
    assert!(turn(&mut driver).is_ready());
    assert!(sender.close(restart()).await.unwrap_err().is_closed());
}

#[test]
fn a_clone_of_a_closed_sender_is_closed_and_does_not_keep_the_transport_open() {
    let (mut sender, _receiver, mut driver, _there) = driven(1, places(8));
    let other = sender.clone();
    let _ = sender.poll_close_unpin(&mut Context::from_waker(&noop_waker()));
    let clone = sender.clone();
    assert!(clone.is_closed() && clone.try_send(text(0)).is_err() && !other.is_closed());
    assert!(turn(&mut driver).is_pending());
    drop(other);
    assert!(turn(&mut driver).is_pending());
    assert!(clone.is_closed());
    assert!(clone.send(text(0)).now_or_never().unwrap().unwrap_err().is_closed());
    assert!(sender.send(text(0)).now_or_never().unwrap().unwrap_err().is_closed());
    assert!(turn(&mut driver).is_pending());
    assert_eq!(clone.dropped(), 0);
}

#[tokio::test]
async fn the_code_of_a_full_queue_reaches_the_peer_of_values() {
    let (near, far) = tokio::io::duplex(64);
    let socket = WebSocket::server(near, Limits::default());
    let stack = ServiceBuilder::new().codec(JsonCodec::<u32>::new()).service(socket);
    let queue = QueueConfig::values().max_messages(NonZeroUsize::MIN).when_full(WhenFull::Close(CloseCode::TRY_AGAIN));
    let (sender, _receiver, driver) = stack.drive(queue).into_parts();
    sender.send(1).await.unwrap();
    assert!(sender.send(2).await.unwrap_err().is_full());
    let driver = tokio::spawn(driver);
    let mut far = WebSocket::client(far, Limits::default());
    while far.next().await.is_some() {}
    assert_eq!(far.close_frame().unwrap().code(), CloseCode::TRY_AGAIN);
    driver.await.unwrap().unwrap();
    let error = sender.send(3).await.unwrap_err();
    assert!(error.is_closed() && error.to_string().contains("1013"), "{error}");
}

/// A transport whose first `poll_ready` finds no room, and another thread that fills the queue just then.
struct Overflowing {
    sender: Arc<Mutex<Option<Sender<Message>>>>,
    got: Arc<Mutex<Vec<String>>>,
}

impl Stream for Overflowing {
    type Item = Result<Message, tower_transport::Error>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

impl Sink<Message> for Overflowing {
    type Error = tower_transport::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let Some(sender) = self.sender.lock().unwrap().take() else { return Poll::Ready(Ok(())) };
        let overflow = sender.send(text(9)).now_or_never().unwrap();
        assert!(overflow.unwrap_err().is_full());
        Poll::Pending
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Self::Error> {
        self.got.lock().unwrap().push(format!("{message:?}").chars().take(5).collect());
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let code = signal::close_frame().map(|frame| frame.code());
        self.got.lock().unwrap().push(format!("closed with {code:?}"));
        Poll::Ready(Ok(()))
    }
}

#[test]
fn after_an_overflow_the_close_is_sent_once_and_nothing_behind_it() {
    let (hook, got) = (Arc::default(), Arc::default());
    let transport = Overflowing { sender: Arc::clone(&hook), got: Arc::clone(&got) };
    let queue = places(4).when_full(WhenFull::Close(CloseCode::TRY_AGAIN));
    let (sender, _receiver, mut driver) = transport.drive(queue).into_parts();
    accept(&sender, 0..4);
    *hook.lock().unwrap() = Some(sender.clone());
    for _ in 0..3 {
        assert!(turn(&mut driver).is_pending());
    }
    assert_eq!(*got.lock().unwrap(), ["Close", "closed with Some(1013)"]);
    assert_eq!((sender.queued(), sender.queued_bytes(), sender.dropped()), (0, 0, 5));
}

/// A transport that is ready for one message each `pace`, and never if that is `None`. It takes a close, but never
/// finishes it.
struct Slow {
    pace: Option<Duration>,
    turn: Pin<Box<Sleep>>,
    got: Arc<AtomicUsize>,
}

impl Slow {
    fn new(pace: Option<Duration>) -> (Self, Arc<AtomicUsize>) {
        let got = Arc::<AtomicUsize>::default();
        (Self { pace, turn: Box::pin(sleep(pace.unwrap_or(Duration::MAX))), got: got.clone() }, got)
    }
}

impl Stream for Slow {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

impl Sink<Message> for Slow {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.turn.as_mut().poll(cx).map(Ok)
    }

    fn start_send(mut self: Pin<&mut Self>, _: Message) -> Result<(), Error> {
        let next = Instant::now() + self.pace.unwrap();
        self.turn.as_mut().reset(next);
        self.got.fetch_add(1, Relaxed);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_behind_messages_that_a_transport_never_takes_is_cut_in_time_and_its_loss_is_told() {
    let (sender, mut receiver, driver) = Slow::new(None).0.drive(places(8)).into_parts();
    let driver = tokio::spawn(driver);
    accept(&sender, 0..3);
    sleep(60 * SECOND).await;
    assert!(!driver.is_finished(), "the time begins with the close");
    let start = Instant::now();
    let error = sender.close(restart()).await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("3 queued messages"), "{error}");
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!((sender.dropped(), sender.queued()), (3, 0));
    assert!(sender.closed().await.is_timeout());
    assert!(receiver.receive().await.unwrap().unwrap_err().is_timeout());
    assert!(receiver.receive().await.is_none());
    assert!(driver.await.unwrap().unwrap_err().is_timeout());
}

#[tokio::test(start_paused = true)]
async fn a_driver_whose_halves_are_gone_ends_though_its_transport_takes_nothing() {
    let (sender, receiver, driver) = Slow::new(None).0.drive(places(8).close_within(3 * SECOND)).into_parts();
    accept(&sender, 0..1);
    drop((sender, receiver));
    let start = Instant::now();
    assert!(driver.await.unwrap_err().is_timeout());
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_close_that_the_transport_does_not_finish_is_cut_too() {
    let (sender, _receiver, driver) = Slow::new(None).0.drive(places(8)).into_parts();
    let start = Instant::now();
    drop(sender);
    assert!(driver.await.unwrap_err().is_timeout());
    // A transport with the same limit would have ended first, with its own error.
    assert_eq!(start.elapsed().as_secs(), 11);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_close_counts_from_the_last_message_taken_and_sixteen_limits_are_the_end() {
    let (slow, got) = Slow::new(Some(6 * SECOND));
    let (sender, _receiver, driver) = slow.drive(places(8)).into_parts();
    accept(&sender, 0..8);
    drop(sender);
    let start = Instant::now();
    assert!(driver.await.unwrap_err().is_timeout());
    assert_eq!(got.load(Relaxed), 8);
    assert_eq!(start.elapsed().as_secs(), 8 * 6 + 11, "only the close was not finished");

    let (slow, got) = Slow::new(Some(9 * SECOND));
    let (sender, _receiver, driver) = slow.drive(places(100)).into_parts();
    accept(&sender, 0..100);
    drop(sender);
    let start = Instant::now();
    assert!(driver.await.unwrap_err().is_timeout());
    assert_eq!((start.elapsed().as_secs(), got.load(Relaxed)), (160, 17));
}

#[tokio::test(start_paused = true)]
async fn a_close_behind_a_layer_that_buffers_goes_on_while_its_peer_takes_messages() {
    async fn close<T>(buffering: T, mut there: Channel)
    where
        T: Transport<Message, In = Message> + Send + Unpin + 'static,
    {
        let (sender, receiver, driver) = buffering.drive(places(64)).into_parts();
        let driver = tokio::spawn(driver);
        for i in 0..8 {
            sender.send(text(i)).await.unwrap();
        }
        sleep(SECOND).await;
        assert_eq!(sender.queued(), 0, "the layer has them all");
        drop((sender, receiver));
        for i in 0..8 {
            sleep(6 * SECOND).await;
            assert_eq!(there.receive_message().await.expect("it was cut").unwrap(), text(i));
        }
        drop(there);
        driver.await.unwrap().unwrap();
    }

    let (here, there) = channel::<Message, Message>(1);
    close(QueueLayer::new(places(64)).layer(here), there).await;

    let (here, there) = channel::<Message, Message>(1);
    let mut here = Some(here);
    let mut attempts = 0;
    let connector = service_fn(move |_: http::Request<()>| {
        attempts += 1;
        let connected = here.take_if(|_| attempts > 1).map(http::Response::new);
        std::future::ready(connected.ok_or_else(|| Error::closed("the server is down")))
    });
    // The kept messages wait for the second attempt.
    let layer =
        ReconnectLayer::new("ws://example.com/", Backoff::fixed(SECOND)).when_lost(WhenLost::Keep(Keep::messages()));
    close(layer.layer(connector), there).await;
}

#[tokio::test(start_paused = true)]
async fn a_websocket_whose_peer_never_reads_is_closed_in_time() {
    let (near, _far) = tokio::io::duplex(1024);
    let limits = Limits::default().write_buffer(4096);
    let (sender, receiver, driver) = WebSocket::server(near, limits).drive(places(64)).into_parts();
    let driver = tokio::spawn(driver);
    for _ in 0..64 {
        sender.send(Message::binary(vec![0; 8192])).await.unwrap();
    }
    let start = Instant::now();
    let error = sender.close(restart()).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(start.elapsed() < 12 * SECOND);
    assert!(driver.await.unwrap().unwrap_err().is_timeout());
    assert!(sender.dropped() > 50);
    drop(receiver);
}

#[tokio::test(start_paused = true)]
async fn a_reconnecting_transport_that_keeps_a_message_dials_no_longer_than_a_close_may_take() {
    let dials = Arc::new(AtomicUsize::new(0));
    let counted = dials.clone();
    let connector = service_fn(move |_: http::Request<()>| {
        counted.fetch_add(1, Relaxed);
        std::future::ready(Err::<http::Response<Channel>, _>(Error::closed("the server is down")))
    });
    for when_lost in [WhenLost::Keep(Keep::messages()), WhenLost::Drop, WhenLost::Fail] {
        let reconnecting = ReconnectLayer::new("ws://example.com/", Backoff::fixed(SECOND))
            .when_lost(when_lost)
            .layer(connector.clone());
        let (sender, receiver, driver) = reconnecting.drive(places(8)).into_parts();
        let driver = tokio::spawn(driver);
        sender.send(text(1)).await.unwrap();
        sleep(60 * SECOND).await;
        drop((sender, receiver));
        let start = Instant::now();
        let _ = driver.await.unwrap();
        assert!(start.elapsed() < 12 * SECOND);
        let before = dials.load(Relaxed);
        sleep(60 * SECOND).await;
        assert_eq!(dials.load(Relaxed), before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_closes_is_given_up_in_time_once_this_end_has_closed() {
    let (here, _there) = channel::<Message, Message>(8);
    let (sender, mut receiver, driver) = here.drive(places(8)).into_parts();
    let driver = tokio::spawn(driver);
    sleep(60 * SECOND).await;
    let start = Instant::now();
    sender.close(restart()).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 0, "the close is out");
    let error = receiver.receive().await.unwrap().unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("10s (QueueConfig::close_within)"), "{error}");
    assert_eq!(start.elapsed().as_secs(), 11);
    assert!(receiver.receive().await.is_none());
    assert!(driver.await.unwrap().unwrap_err().is_timeout());
    assert!(sender.closed().await.to_string().contains("1012"));
}

#[tokio::test(start_paused = true)]
async fn a_driver_whose_halves_are_gone_does_not_wait_forever_for_the_close_of_its_peer() {
    let (here, there) = channel::<Message, Message>(8);
    let (sender, receiver, driver) = here.drive(places(8).close_within(3 * SECOND)).into_parts();
    drop((sender, receiver));
    let start = Instant::now();
    assert!(driver.await.unwrap_err().is_timeout());
    assert_eq!(start.elapsed().as_secs(), 4);
    drop(there);
}

#[tokio::test(start_paused = true)]
async fn messages_of_the_peer_after_our_close_are_progress_and_a_full_inbox_stops_the_clock() {
    let (here, mut there) = channel::<Message, Message>(8);
    let (sender, mut receiver, driver) = here.drive(places(8).max_inbox(NonZeroUsize::MIN)).into_parts();
    let driver = tokio::spawn(driver);
    drop(sender);
    for i in 0..5 {
        sleep(6 * SECOND).await;
        there.send_message(text(i)).await.unwrap();
        assert_eq!(receiver.receive().await.unwrap().unwrap(), text(i));
    }
    for i in 5..8 {
        there.send_message(text(i)).await.unwrap();
    }
    sleep(600 * SECOND).await;
    assert!(!driver.is_finished(), "a slow user is not a dead peer");
    for i in 5..8 {
        assert_eq!(receiver.receive().await.unwrap().unwrap(), text(i));
    }
    sleep(5 * SECOND).await;
    drop(there);
    assert!(receiver.receive().await.is_none());
    driver.await.unwrap().unwrap();
}

#[test]
fn without_timers_a_close_has_no_limit_and_does_not_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (here, there) = channel::<Message, Message>(1);
        let (sender, receiver, driver) = here.drive(places(8)).into_parts();
        let driver = tokio::spawn(driver);
        accept(&sender, 0..3);
        drop((sender, receiver));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!driver.is_finished());
        drop(there);
        let _ = driver.await.expect("no panic");
    });
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_nobody_polls_is_an_error_after_a_while_and_one_that_runs_never_is() {
    let (here, _there) = channel::<Message, Message>(8);
    let (mut sender, mut receiver, driver) = here.drive(places(1)).into_parts();
    sender.send(text(0)).await.unwrap();
    let start = Instant::now();
    let errors = [
        sender.send(text(1)).await.unwrap_err(),
        sender.flush().await.unwrap_err(),
        receiver.receive().await.unwrap().unwrap_err(),
    ];
    for error in errors {
        assert!(error.is_config() && error.to_string().contains("Driven::spawn"), "{error}");
    }
    assert_eq!(start.elapsed().as_secs(), 30);

    tokio::spawn(driver);
    sender.flush().await.unwrap();
    assert!(timeout(3600 * SECOND, receiver.receive()).await.is_err());
    let (here, _there) = channel::<Message, Message>(8);
    let (_sender, mut receiver) = here.drive(places(1)).spawn();
    assert!(timeout(3600 * SECOND, receiver.receive()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_call_wakes_its_task_once_while_nobody_polls_the_driver() {
    let (here, _there) = channel::<Message, Message>(1);
    let (_sender, mut receiver, _driver) = here.drive(QueueConfig::messages()).into_parts();
    let mut received = pin!(receiver.receive());
    let (wakes, waker) = WakeCount::new();
    for _ in 0..3 {
        assert!(received.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(wakes.get(), 1);
    }
}
