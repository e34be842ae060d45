//! `TransportExt::drive`: one driver, many senders.

mod closing;
mod locks;
mod turns;

use std::{
    future::poll_fn,
    num::NonZeroUsize,
    pin::pin,
    task::{Context, Poll},
};

use futures_util::{FutureExt, Sink, SinkExt, StreamExt, task::noop_waker};
use tower_transport::{
    Channel, CloseCode, CloseFrame, Driver, Limits, Message, QueueConfig, Receiver, Sender, ServiceBuilderExt,
    TransportExt, WhenFull, channel, codec::JsonCodec, transport::websocket::WebSocket,
};

type Parts = (Sender<Message>, Receiver<Message>, Driver<Channel, Message>, Channel);

fn driven(capacity: usize, queue: QueueConfig) -> Parts {
    let (here, there) = channel(capacity);
    let (sender, receiver, driver) = here.drive(queue).into_parts();
    (sender, receiver, driver, there)
}

fn places(places: usize) -> QueueConfig {
    QueueConfig::messages().max_messages(NonZeroUsize::new(places).unwrap())
}

fn text(i: usize) -> Message {
    Message::text(i.to_string())
}

/// Polls once, for what it does.
fn turn(driver: &mut (impl Future<Output = Result<(), tower_transport::Error>> + Unpin)) -> Poll<()> {
    driver.poll_unpin(&mut Context::from_waker(&noop_waker())).map(|_| ())
}

fn received(there: &mut Channel) -> Vec<String> {
    let take = || there.receive_message().now_or_never().flatten();
    std::iter::from_fn(take).map(|message| message.unwrap().as_text().unwrap().to_owned()).collect()
}

fn accept(sender: &Sender<Message>, messages: std::ops::Range<usize>) {
    for i in messages {
        sender.send(text(i)).now_or_never().expect("there is a place").unwrap();
    }
}

#[test]
fn a_full_queue_makes_senders_wait_and_room_lets_them_in_in_their_order() {
    let (sender, _receiver, mut driver, mut there) = driven(1, places(2));
    accept(&sender, 0..2);
    let mut third = pin!(sender.send(text(2)));
    let mut fourth = pin!(sender.send(text(3)));
    assert!(third.as_mut().now_or_never().is_none());
    assert!(fourth.as_mut().now_or_never().is_none());

    // One message goes to the transport: one place for the first in line, none for the second.
    assert!(turn(&mut driver).is_pending());
    assert!(fourth.as_mut().now_or_never().is_none());
    third.as_mut().now_or_never().unwrap().unwrap();
    assert!(fourth.as_mut().now_or_never().is_none());

    assert_eq!(received(&mut there), ["0"]);
    assert!(turn(&mut driver).is_pending());
    fourth.as_mut().now_or_never().unwrap().unwrap();
}

#[test]
fn a_sender_that_stops_waiting_leaves_its_turn_to_the_next_and_no_message() {
    let (sender, _receiver, mut driver, mut there) = driven(1, places(1));
    accept(&sender, 0..1);
    let first = sender.send(text(1));
    let second = sender.send(text(2));
    let (mut first, mut second) = (Box::pin(first), Box::pin(second));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());
    assert!(turn(&mut driver).is_pending());
    drop(first);
    second.as_mut().now_or_never().unwrap().unwrap();
    drop(second);
    assert_eq!(received(&mut there), ["0"]);
    assert!(turn(&mut driver).is_pending());
    assert_eq!(received(&mut there), ["2"]);
}

#[test]
fn being_ready_reserves_a_place_which_a_dropped_sender_gives_back_and_a_clone_does_not_have() {
    let (mut sender, _receiver, _driver, _there) = driven(1, places(1));
    poll_fn(|cx| sender.poll_ready_unpin(cx)).now_or_never().unwrap().unwrap();
    let mut clone = sender.clone();
    assert!(clone.start_send_unpin(text(0)).unwrap_err().is_full(), "a clone is not ready");
    assert!(clone.send(text(0)).now_or_never().is_none(), "the place is taken");
    drop(sender);
    accept(&clone, 0..1);
}

#[test]
fn pings_overtake_the_data_that_waits() {
    let (sender, _receiver, mut driver, mut there) = driven(4, places(8));
    accept(&sender, 0..2);
    sender.send(Message::Ping("!".into())).now_or_never().unwrap().unwrap();
    assert!(turn(&mut driver).is_pending());
    assert_eq!(there.receive_message().now_or_never().unwrap().unwrap().unwrap(), Message::Ping("!".into()));
    assert_eq!(received(&mut there), ["0", "1"]);
}

#[test]
fn drop_oldest_keeps_the_newest_and_counts() {
    let (sender, _receiver, mut driver, mut there) = driven(8, places(3).when_full(WhenFull::DropOldest));
    accept(&sender, 0..10);
    assert_eq!((sender.queued(), sender.dropped()), (3, 7));
    assert!(turn(&mut driver).is_pending());
    assert_eq!(received(&mut there), ["7", "8", "9"]);
}

#[test]
fn drop_newest_keeps_the_oldest_and_counts() {
    let (sender, _receiver, mut driver, mut there) = driven(8, places(3).when_full(WhenFull::DropNewest));
    accept(&sender, 0..10);
    assert_eq!((sender.queued(), sender.dropped()), (3, 7));
    assert!(turn(&mut driver).is_pending());
    assert_eq!(received(&mut there), ["0", "1", "2"]);
}

#[test]
fn coalesce_keeps_the_newest_of_each_key_at_the_place_of_the_oldest() {
    let by_first_letter = WhenFull::coalesce_by(|message: &Message| message.as_text()?.chars().next());
    let (sender, _receiver, mut driver, mut there) = driven(8, places(3).when_full(by_first_letter));
    for quote in ["a1", "b1", "a2", "c1", "b2", "a3"] {
        sender.send(Message::text(quote)).now_or_never().unwrap().unwrap();
    }
    assert!(sender.send(Message::text("d1")).now_or_never().is_none(), "a fourth key has to wait");
    assert_eq!((sender.queued(), sender.dropped()), (3, 3));
    assert!(turn(&mut driver).is_pending());
    assert_eq!(received(&mut there), ["a3", "b2", "c1"]);
    // A key that has left the queue starts again.
    sender.send(Message::text("a4")).now_or_never().unwrap().unwrap();
    assert!(turn(&mut driver).is_pending());
    assert_eq!(received(&mut there), ["a4"]);
}

#[test]
fn coalesced_values_that_the_transport_had_no_room_for_are_still_replaced() {
    let by_first_letter = WhenFull::coalesce_by(|message: &Message| message.as_text()?.chars().next());
    let (sender, _receiver, mut driver, mut there) = driven(1, places(4).when_full(by_first_letter));
    for quote in ["a1", "b1", "c1"] {
        sender.send(Message::text(quote)).now_or_never().unwrap().unwrap();
    }
    assert!(turn(&mut driver).is_pending());
    sender.send(Message::text("c2")).now_or_never().unwrap().unwrap();
    sender.send(Message::text("b2")).now_or_never().unwrap().unwrap();
    for quote in ["a1", "b2", "c2"] {
        assert_eq!(received(&mut there), [quote]);
        assert!(turn(&mut driver).is_pending());
    }
}

#[test]
fn a_queue_over_its_bytes_is_full_too() {
    let queue = QueueConfig::messages().max_bytes(NonZeroUsize::new(100).unwrap()).when_full(WhenFull::DropNewest);
    let (sender, _receiver, _driver, _there) = driven(1, queue);
    for _ in 0..3 {
        sender.send(Message::binary(vec![0; 60])).now_or_never().unwrap().unwrap();
    }
    assert_eq!((sender.queued(), sender.queued_bytes(), sender.dropped()), (2, 120, 1));
}

#[tokio::test]
async fn close_1013_tells_a_peer_that_is_too_slow_and_drops_what_waits() {
    let (near, far) = tokio::io::duplex(64);
    let queue = places(2).when_full(WhenFull::Close(CloseCode::TRY_AGAIN));
    let (sender, _receiver, driver) = WebSocket::server(near, Limits::default()).drive(queue).into_parts();
    let mut far = WebSocket::client(far, Limits::default());
    accept(&sender, 0..2);
    let error = sender.send(text(2)).await.unwrap_err();
    assert!(error.is_full() && error.to_string().contains("1013"), "{error}");
    assert!(sender.send(text(3)).await.unwrap_err().is_closed());
    assert_eq!(sender.dropped(), 3);
    let driver = tokio::spawn(driver);
    while let Some(message) = far.next().await {
        assert!(message.unwrap().is_close());
    }
    assert_eq!(far.close_frame().unwrap().code(), CloseCode::TRY_AGAIN);
    driver.await.unwrap().unwrap();
}

#[test]
fn all_that_waits_is_flushed_once() {
    #[derive(Default)]
    struct Counting {
        fed: usize,
        flushes: usize,
    }
    impl futures_util::Stream for Counting {
        type Item = Result<Message, tower_transport::Error>;
        fn poll_next(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            match self.flushes {
                0 => Poll::Pending,
                n => panic!("{} messages, {n} flushes", self.fed),
            }
        }
    }
    impl Sink<Message> for Counting {
        type Error = tower_transport::Error;
        fn poll_ready(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
        fn start_send(mut self: std::pin::Pin<&mut Self>, _: Message) -> Result<(), Self::Error> {
            self.fed += 1;
            Ok(())
        }
        fn poll_flush(mut self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }
        fn poll_close(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
    }
    let (sender, _receiver, mut driver) = Counting::default().drive(QueueConfig::messages()).into_parts();
    accept(&sender, 0..500);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| turn(&mut driver))).unwrap_err();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "500 messages, 1 flushes");
}

#[test]
fn flush_waits_for_what_was_accepted_before_it_and_for_no_more() {
    let (sender, _receiver, mut driver, mut there) = driven(1, places(8));
    accept(&sender, 0..2);
    let mut flusher = sender.clone();
    let mut flush = pin!(flusher.flush());
    assert!(flush.as_mut().now_or_never().is_none());
    accept(&sender, 2..4);
    assert!(turn(&mut driver).is_pending());
    assert!(flush.as_mut().now_or_never().is_none(), "one of two is out");
    received(&mut there);
    assert!(turn(&mut driver).is_pending());
    flush.as_mut().now_or_never().expect("both are out, though others wait").unwrap();
    assert_eq!(sender.queued(), 2);
}

#[test]
fn dropping_the_last_sender_sends_what_was_accepted_and_closes() {
    let (sender, mut receiver, mut driver, mut there) = driven(1, places(8));
    accept(&sender, 0..2);
    drop(sender);
    assert!(turn(&mut driver).is_pending());
    assert_eq!(received(&mut there), ["0"]);
    assert!(turn(&mut driver).is_pending());
    assert_eq!(there.receive_message().now_or_never().unwrap().unwrap().unwrap(), text(1));
    assert!(there.receive_message().now_or_never().unwrap().is_none(), "closed");
    // The other direction goes on until the peer closes too.
    there.send_message(text(9)).now_or_never().unwrap().unwrap();
    drop(there);
    assert!(turn(&mut driver).is_ready());
    assert_eq!(receiver.receive().now_or_never().unwrap().unwrap().unwrap(), text(9));
    assert!(receiver.receive().now_or_never().unwrap().is_none());
}

#[test]
fn dropping_the_receiver_does_not_stop_the_writing() {
    let (sender, receiver, mut driver, mut there) = driven(1, places(8));
    drop(receiver);
    for i in 0..100 {
        there.send_message(text(i)).now_or_never().unwrap().unwrap();
        accept(&sender, i..i + 1);
        assert!(turn(&mut driver).is_pending());
        assert_eq!(received(&mut there), [i.to_string()]);
    }
}

#[test]
fn a_full_inbox_stops_the_reading_alone_and_a_full_transport_the_writing_alone() {
    let (sender, mut receiver, mut driver, mut there) = driven(1, places(8).max_inbox(NonZeroUsize::new(2).unwrap()));
    for i in 0..3 {
        there.send_message(text(i)).now_or_never().unwrap().unwrap();
        assert!(turn(&mut driver).is_pending());
    }
    assert!(there.send_message(text(3)).now_or_never().is_none(), "the inbox is full: the peer feels it");
    accept(&sender, 10..11);
    assert!(turn(&mut driver).is_pending());
    assert_eq!(received(&mut there), ["10"]);

    accept(&sender, 11..14);
    assert!(turn(&mut driver).is_pending());
    assert_eq!(receiver.receive().now_or_never().unwrap().unwrap().unwrap(), text(0));
    assert!(turn(&mut driver).is_pending());
    assert!(there.send_message(text(3)).now_or_never().is_some(), "there is room again, though writing is stuck");
}

#[test]
fn when_the_transport_ends_every_sender_and_the_receiver_learn_it() {
    let (sender, mut receiver, mut driver, there) = driven(1, places(1));
    accept(&sender, 0..1);
    assert!(turn(&mut driver).is_pending());
    accept(&sender, 1..2);
    let mut waiting = pin!(sender.send(text(2)));
    assert!(waiting.as_mut().now_or_never().is_none());
    let mut flusher = sender.clone();
    let mut flush = pin!(flusher.flush());
    assert!(flush.as_mut().now_or_never().is_none());
    drop(there);
    assert!(turn(&mut driver).is_ready());
    assert!(waiting.now_or_never().unwrap().unwrap_err().is_closed());
    assert!(flush.now_or_never().unwrap().unwrap_err().is_closed());
    assert!(sender.send(text(3)).now_or_never().unwrap().unwrap_err().is_closed());
    assert!(receiver.receive().now_or_never().unwrap().is_none());
    assert_eq!(sender.dropped(), 1);
}

#[test]
fn when_the_driver_is_dropped_both_ends_learn_it() {
    let (sender, mut receiver, driver, _there) = driven(1, places(1));
    drop(driver);
    assert!(sender.send(text(0)).now_or_never().unwrap().unwrap_err().is_closed());
    assert!(receiver.receive().now_or_never().unwrap().is_none());
}

#[tokio::test]
async fn who_waits_for_the_end_learns_why_though_it_sends_nothing() {
    let (sender, _receiver, mut driver, there) = driven(1, QueueConfig::messages());
    let mut closed = pin!(sender.closed());
    assert!(turn(&mut driver).is_pending() && closed.as_mut().now_or_never().is_none());
    drop(there);
    assert!(turn(&mut driver).is_ready());
    let error = closed.now_or_never().unwrap();
    assert_eq!(error.to_string(), sender.send(text(0)).await.unwrap_err().to_string());
    assert!(error.is_closed() && sender.closed().await.is_closed());
}

#[tokio::test]
async fn a_message_that_the_transport_refuses_costs_that_message_alone_and_is_told() {
    let (near, far) = tokio::io::duplex(1024);
    let (sender, mut receiver, driver) =
        WebSocket::client(near, Limits::new().message(10)).drive(QueueConfig::messages()).into_parts();
    let mut far = WebSocket::server(far, Limits::default());
    tokio::spawn(driver);
    sender.send(Message::binary(vec![0; 11])).await.unwrap();
    sender.send(text(1)).await.unwrap();
    assert_eq!(far.next().await.unwrap().unwrap(), text(1));
    assert!(receiver.receive().await.unwrap().unwrap_err().is_too_large());
    assert_eq!(sender.dropped(), 1);
}

#[tokio::test]
async fn pings_are_answered_while_nobody_reads_or_writes() {
    let (near, far) = tokio::io::duplex(1024);
    let (_sender, _receiver, driver) =
        WebSocket::server(near, Limits::default()).drive(QueueConfig::messages()).into_parts();
    tokio::spawn(driver);
    let mut far = WebSocket::client(far, Limits::default());
    for i in 0..3u8 {
        far.send(Message::Ping(vec![i].into())).await.unwrap();
        assert_eq!(far.next().await.unwrap().unwrap(), Message::Pong(vec![i].into()));
    }
}

#[tokio::test]
async fn the_peers_close_frame_reaches_senders() {
    let (near, far) = tokio::io::duplex(1024);
    let (sender, mut receiver, driver) =
        WebSocket::client(near, Limits::default()).drive(QueueConfig::messages()).into_parts();
    let driver = tokio::spawn(driver);
    let mut far = WebSocket::server(far, Limits::default());
    let frame = CloseFrame::new(CloseCode::RESTART, "back soon");
    far.close(Some(frame.clone())).await.unwrap();
    assert!(receiver.receive().await.unwrap().unwrap().is_close());
    assert!(receiver.receive().await.is_none());
    driver.await.unwrap().unwrap();
    assert_eq!(sender.send(text(0)).await.unwrap_err().close_frame(), Some(&frame));
}

#[test]
fn a_queue_of_values_that_own_memory_holds_64_and_one_of_plain_values_1024() {
    fn taken<T>(queue: QueueConfig<T, u8>, value: impl Fn() -> T) -> usize {
        let (here, _there) = channel::<T, u8>(1);
        let (sender, _receiver, _driver) = here.drive(queue).into_parts();
        (0..5000).take_while(|_| sender.try_send(value()).is_ok()).count()
    }
    assert_eq!(taken(QueueConfig::values(), || "x".repeat(1 << 20)), 64);
    assert_eq!(taken(QueueConfig::values(), || 7u64), 1024);
    assert_eq!(taken(QueueConfig::values().max_messages(NonZeroUsize::new(100).unwrap()), String::new), 100);
    assert_eq!(taken(QueueConfig::values_sized_by(String::len, |_| 1), String::new), 1024);
    assert_eq!(taken(QueueConfig::values_sized_by(String::len, |_| 1), || "x".repeat(1 << 18)), 4);
}

#[test]
fn values_that_come_in_count_with_the_size_of_their_messages() {
    let (here, mut there) = channel::<Message, Message>(1);
    let here = tower::ServiceBuilder::new().codec(JsonCodec::<String>::new()).service(here);
    let (_sender, mut receiver, mut driver) = here.drive(QueueConfig::values()).into_parts();
    let large = Message::text(format!("\"{}\"", "x".repeat(600_000)));
    let mut sent = 0;
    while there.send(large.clone()).now_or_never().is_some() && sent < 64 {
        sent += 1;
        assert!(turn(&mut driver).is_pending());
    }
    assert_eq!(sent, 3, "two of 600 KB fill the inbox, one is in the channel");
    assert_eq!(receiver.receive().now_or_never().unwrap().unwrap().unwrap().len(), 600_000);
    assert!(turn(&mut driver).is_pending());
    assert!(there.send(large).now_or_never().is_some(), "there is room again");
}
