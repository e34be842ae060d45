//! The outgoing queue as a layer.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    task::{Context, Poll, Waker},
};

use futures_util::{FutureExt, SinkExt, StreamExt};
use proptest::prelude::*;
use tower::{Layer, ServiceBuilder};
use tower_transport::{
    Channel, CloseCode, Error, Limits, Message, QueueConfig, ServiceBuilderExt, Transport, TransportExt, WhenFull,
    channel, contract_tests,
    layer::queue::{QueueLayer, Queued},
    test_util::{
        WakeCount,
        fault::{Direction, Faults},
        script::Script,
    },
    transport::websocket::WebSocket,
};

fn nth(i: usize) -> Message {
    Message::text(i.to_string())
}

fn places(places: usize) -> QueueConfig {
    QueueConfig::messages().max_messages(NonZeroUsize::new(places).unwrap())
}

fn queued(capacity: usize, queue: QueueConfig) -> (Queued<Channel>, Channel) {
    let (here, there) = channel::<Message, Message>(capacity);
    (QueueLayer::new(queue).layer(here), there)
}

fn both(queue: QueueConfig) -> (Queued<Channel>, Queued<Channel>) {
    let (here, there) = channel::<Message, Message>(1);
    let layer = QueueLayer::new(queue);
    (layer.layer(here), layer.layer(there))
}

contract_tests!(mod bare_peer, pair = queued(1, places(3)), message = nth);
contract_tests!(mod one_place, pair = queued(1, places(1)), message = nth);
contract_tests!(mod both_ends, pair = both(QueueConfig::messages()), message = nth);
contract_tests!(
    mod by_bytes,
    pair = queued(1, QueueConfig::messages().max_bytes(NonZeroUsize::new(10).unwrap())),
    message = nth
);
contract_tests!(mod coalescing, pair = queued(1, places(3).when_full(WhenFull::coalesce_by(|message: &Message| {
    Some(message.clone())
}))), message = nth);

fn send(here: &mut Queued<Channel>, message: Message) {
    here.feed(message).now_or_never().expect("there is room").unwrap();
}

fn next(there: &mut Channel) -> Option<Message> {
    there.next().now_or_never().flatten().map(Result::unwrap)
}

fn texts(there: &mut Channel, here: &mut Queued<Channel>) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(message) = next(there) {
        texts.push(message.as_text().unwrap().to_owned());
        let _ = here.flush().now_or_never();
    }
    texts
}

#[test]
fn while_nothing_waits_messages_go_straight_through() {
    let (mut here, mut there) = queued(1, places(2));
    for i in 0..10 {
        send(&mut here, nth(i));
        assert_eq!(here.queued(), 0);
        assert_eq!(next(&mut there), Some(nth(i)));
    }
}

#[test]
fn a_reader_alone_moves_on_what_waits_and_is_woken_for_it() {
    let (mut here, mut there) = queued(1, places(4));
    let (wakes, waker) = WakeCount::new();
    let mut reader = Context::from_waker(&waker);
    assert!(here.poll_next_unpin(&mut reader).is_pending());
    for i in 0..3 {
        send(&mut here, nth(i));
    }
    // Nobody flushes, and the writer does not come back.
    for i in 0..3 {
        assert_eq!(next(&mut there), Some(nth(i)));
        if i < 2 {
            assert!(wakes.take() > 0, "the reader was not woken");
        }
        assert!(here.poll_next_unpin(&mut reader).is_pending());
    }
    assert_eq!(here.queued(), 0);
}

#[test]
fn a_writer_that_waits_is_woken_though_the_reader_moved_the_queue_on() {
    let (mut here, mut there) = queued(1, places(1));
    let ((writes, writer), (_, reader)) = (WakeCount::new(), WakeCount::new());
    send(&mut here, nth(0));
    send(&mut here, nth(1));
    assert!(here.poll_ready_unpin(&mut Context::from_waker(&writer)).is_pending());
    assert!(here.poll_next_unpin(&mut Context::from_waker(&reader)).is_pending());
    assert_eq!(next(&mut there), Some(nth(0)));
    assert!(writes.get() > 0);
    assert!(here.poll_ready_unpin(&mut Context::from_waker(&writer)).is_ready());
}

#[test]
fn a_message_without_readiness_is_refused() {
    let (mut here, _there) = queued(1, places(1));
    assert!(here.start_send_unpin(nth(0)).unwrap_err().is_full());
}

#[test]
fn pings_overtake_data_and_wait_where_data_is_dropped() {
    for policy in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let (mut here, mut there) = queued(1, places(1).when_full(policy));
        send(&mut here, nth(0));
        send(&mut here, nth(1));
        for _ in 0..64 {
            send(&mut here, Message::Ping("!".into()));
        }
        assert!(here.feed(Message::Ping("!".into())).now_or_never().is_none(), "one too many");
        assert_eq!(here.dropped(), 0);
        assert_eq!(next(&mut there), Some(nth(0)));
        for _ in 0..64 {
            let _ = here.flush().now_or_never();
            assert_eq!(next(&mut there), Some(Message::Ping("!".into())));
        }
        assert_eq!(texts(&mut there, &mut here), [""; 0]);
        let _ = here.flush().now_or_never();
        assert_eq!(next(&mut there), Some(nth(1)));
    }
}

#[test]
fn a_close_message_stays_behind_the_data_and_is_never_dropped() {
    let key = WhenFull::coalesce_by(|_: &Message| Some(0));
    for policy in [WhenFull::Block, WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Close(CloseCode::AWAY), key] {
        let waits = matches!(policy, WhenFull::Block | WhenFull::CoalesceBy(_));
        let (mut here, mut there) = queued(1, places(2).when_full(policy));
        send(&mut here, nth(0));
        send(&mut here, nth(1));
        if !waits {
            send(&mut here, nth(2));
        }
        send(&mut here, Message::Close(None));
        assert_eq!(here.dropped(), 0);
        assert!(here.feed(nth(3)).now_or_never().unwrap().unwrap_err().is_closed());
        for expected in [nth(0), nth(1), nth(2)].into_iter().take(if waits { 2 } else { 3 }) {
            assert_eq!(next(&mut there), Some(expected));
            let _ = here.flush().now_or_never();
        }
        assert_eq!(next(&mut there), Some(Message::Close(None)));
    }
}

#[test]
fn closing_hands_on_what_waits_first() {
    let (mut here, mut there) = queued(1, places(4));
    for i in 0..3 {
        send(&mut here, nth(i));
    }
    let mut read = Vec::new();
    while here.close().now_or_never().is_none() {
        assert!(here.feed(nth(9)).now_or_never().unwrap().unwrap_err().is_closed());
        read.push(next(&mut there).unwrap());
    }
    read.extend(next(&mut there));
    assert_eq!(read, [nth(0), nth(1), nth(2)]);
    assert!(there.next().now_or_never().unwrap().is_none());
}

#[tokio::test]
async fn a_full_queue_that_closes_tells_the_peer_why_and_drops_what_waits() {
    let (near, far) = tokio::io::duplex(64);
    let limits = Limits::new();
    let layer = QueueLayer::new(places(2).when_full(WhenFull::Close(CloseCode::TRY_AGAIN)));
    let mut here = layer.layer(WebSocket::server(near, limits));
    let mut far = WebSocket::client(far, limits);
    let error = loop {
        if let Err(error) = here.feed(Message::binary(vec![0; 60_000])).await {
            break error;
        }
    };
    assert!(error.is_full() && error.to_string().contains("1013"), "{error}");
    assert_eq!(here.dropped(), 3);
    assert!(here.feed(nth(0)).await.unwrap_err().is_closed());
    let ours = async { while here.next().await.is_some() {} };
    let theirs = async { while far.next().await.is_some() {} };
    tokio::join!(ours, theirs);
    assert_eq!(far.close_frame().unwrap().code(), CloseCode::TRY_AGAIN);
}

#[test]
fn what_the_transport_refuses_is_counted_and_told_to_who_handed_it_on() {
    let (near, far) = tokio::io::duplex(64);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let limits = Limits::new().message(100_000);
        let mut here = QueueLayer::new(places(8)).layer(WebSocket::client(near, limits));
        let mut far = WebSocket::server(far, limits);
        // Full; so what follows waits in the queue.
        while here.queued() == 0 {
            here.feed(Message::binary(vec![0; 60_000])).await.unwrap();
        }
        here.feed(Message::binary(vec![0; 100_001])).await.unwrap();
        here.feed(nth(7)).await.unwrap();
        let reader = async {
            while let Some(message) = far.next().await {
                if message.unwrap() == nth(7) {
                    return;
                }
            }
        };
        let writer = async {
            let error = here.next().await.unwrap().unwrap_err();
            assert!(error.is_too_large(), "{error}");
            assert_eq!(here.dropped(), 1);
            here.flush().await.unwrap();
        };
        tokio::join!(reader, writer);
    });
}

#[test]
fn when_the_transport_fails_what_waits_is_counted() {
    let faults = Faults::new();
    let stack = ServiceBuilder::new().queue(places(8)).layer(faults.layer());
    let (here, _there) = channel::<Message, Message>(1);
    let mut here = stack.service(here);
    faults.stall(Direction::Outgoing);
    for i in 0..5 {
        here.feed(nth(i)).now_or_never().unwrap().unwrap();
    }
    let stats = here.stats();
    assert_eq!((stats.queued(), stats.queued_bytes(), stats.dropped()), (5, 5, 0));
    faults.cut();
    assert!(here.flush().now_or_never().unwrap().unwrap_err().is_closed());
    assert_eq!((stats.queued(), stats.queued_bytes(), stats.dropped()), (0, 0, 5));
    assert!(here.feed(nth(0)).now_or_never().unwrap().unwrap_err().is_closed());
}

#[test]
fn a_failure_that_is_no_end_is_told_once_and_the_end_from_then_on() {
    let (transport, _script) = Script::<Message>::new().stall().fail_send(Error::io("disk on fire")).build();
    let mut here = QueueLayer::new(places(8)).layer(transport);
    here.feed(nth(0)).now_or_never().unwrap().unwrap();
    _script.release();
    assert!(here.flush().now_or_never().unwrap().unwrap_err().is_io());
    assert_eq!(here.dropped(), 1);
    let error = here.feed(nth(0)).now_or_never().unwrap().unwrap_err();
    assert!(error.is_closed());
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "disk on fire");
}

#[test]
fn the_figures_are_there_while_a_driver_owns_the_transport() {
    let (here, _there) = queued(1, places(2).when_full(WhenFull::DropOldest));
    let stats = here.stats();
    let (sender, _receiver, mut driver) = here.drive(QueueConfig::messages()).into_parts();
    for i in 0..10 {
        sender.send(nth(i)).now_or_never().unwrap().unwrap();
    }
    assert!(driver.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
    // One is with the channel.
    assert_eq!((stats.queued(), stats.dropped()), (2, 7));
}

#[test]
fn each_transport_of_a_layer_has_a_queue_and_keys_of_its_own() {
    let key = WhenFull::coalesce_by(|message: &Message| message.as_text()?.chars().next());
    let layer = QueueLayer::new(places(8).when_full(key)).clone();
    let ((a, _far_a), (b, _far_b)) = (channel::<Message, Message>(1), channel::<Message, Message>(1));
    let (mut a, mut b) = (layer.layer(a), layer.layer(b));
    for here in [&mut a, &mut b] {
        for text in ["x0", "x1", "x2"] {
            send(here, Message::text(text));
        }
    }
    assert_eq!([(a.queued(), a.dropped()), (b.queued(), b.dropped())], [(1, 1), (1, 1)]);
}

#[test]
fn a_queued_transport_is_send_and_sync_when_its_parts_are() {
    fn check<T: Send + Sync + Transport<In = Message>>(_: &T) {}
    check(&queued(1, places(1)).0);
}

/// The operations on a queue, and the movement of its messages.
#[derive(Clone, Debug)]
enum Step {
    /// A message of this key.
    Push(u8),
    Ping,
    /// The peer takes this many, and this half moves the queue on.
    Take(usize, Half),
}

#[derive(Clone, Copy, Debug)]
enum Half {
    Nobody,
    Reader,
    Writer,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let half = prop_oneof![Just(Half::Nobody), Just(Half::Reader), Just(Half::Writer)];
    let step = prop_oneof![
        6 => (0..4u8).prop_map(Step::Push),
        1 => Just(Step::Ping),
        3 => (0..5usize, half).prop_map(|(many, half)| Step::Take(many, half)),
    ];
    prop::collection::vec(step, 0..200)
}

const PLACES: usize = 3;
const PIPE: usize = 2;

/// Slow, and plainly right.
#[derive(Default)]
struct Model {
    pipe: VecDeque<Message>,
    waiting: Vec<Message>,
    dropped: u64,
}

fn key(message: &Message) -> Option<char> {
    message.as_text()?.chars().next()
}

impl Model {
    fn move_on(&mut self) {
        while self.pipe.len() < PIPE && !self.waiting.is_empty() {
            let ping = self.waiting.iter().position(Message::is_control);
            self.pipe.push_back(self.waiting.remove(ping.unwrap_or(0)));
        }
    }

    /// Whether it is taken, if only to be dropped.
    fn push(&mut self, message: Message, policy: &str) -> bool {
        self.move_on();
        let data = self.waiting.iter().filter(|message| message.is_data()).count();
        let blocks = matches!(policy, "Block" | "CoalesceBy");
        if self.pipe.len() < PIPE {
            self.pipe.push_back(message);
            return true;
        }
        if blocks && self.waiting.len() >= PLACES {
            return false;
        }
        let same = self.waiting.iter_mut().find(|waiting| key(waiting).is_some() && key(waiting) == key(&message));
        match (same, policy) {
            (Some(waiting), "CoalesceBy") => {
                *waiting = message;
                self.dropped += 1;
            }
            (_, "DropNewest") if message.is_data() && data >= PLACES => self.dropped += 1,
            (_, "DropOldest") if message.is_data() && data >= PLACES => {
                let oldest = self.waiting.iter().position(Message::is_data).unwrap();
                self.waiting.remove(oldest);
                self.waiting.push(message);
                self.dropped += 1;
            }
            _ => self.waiting.push(message),
        }
        true
    }
}

fn run(policy: WhenFull<Message>, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let name = format!("{policy:?}");
    let (mut here, mut there) = queued(PIPE, places(PLACES).when_full(policy));
    let mut model = Model::default();
    let mut cx = Context::from_waker(Waker::noop());
    for (i, step) in steps.into_iter().enumerate() {
        let message = match step {
            Step::Push(symbol) => Message::text(format!("{symbol} {i}")),
            Step::Ping => Message::Ping(i.to_string().into()),
            Step::Take(many, half) => {
                for _ in 0..many {
                    prop_assert_eq!(next(&mut there), model.pipe.pop_front());
                }
                match half {
                    Half::Nobody => continue,
                    Half::Reader => prop_assert!(here.poll_next_unpin(&mut cx).is_pending()),
                    Half::Writer => prop_assert!(!matches!(here.poll_flush_unpin(&mut cx), Poll::Ready(Err(_)))),
                }
                model.move_on();
                continue;
            }
        };
        let taken = here.feed(message.clone()).now_or_never();
        prop_assert_eq!(taken.is_some(), model.push(message, &name));
        let bytes: usize = model.waiting.iter().map(Message::len).sum();
        prop_assert_eq!(
            (here.queued(), here.queued_bytes(), here.dropped()),
            (model.waiting.len(), bytes, model.dropped)
        );
    }
    loop {
        let message = next(&mut there);
        prop_assert_eq!(&message, &model.pipe.pop_front());
        let _ = here.poll_next_unpin(&mut cx);
        model.move_on();
        if message.is_none() && model.pipe.is_empty() {
            return Ok(());
        }
    }
}

proptest! {
    #[test]
    fn block_is_what_the_model_says(steps in steps()) {
        run(WhenFull::Block, steps)?;
    }

    #[test]
    fn drop_oldest_is_what_the_model_says(steps in steps()) {
        run(WhenFull::DropOldest, steps)?;
    }

    #[test]
    fn drop_newest_is_what_the_model_says(steps in steps()) {
        run(WhenFull::DropNewest, steps)?;
    }

    #[test]
    fn coalesce_by_is_what_the_model_says(steps in steps()) {
        run(WhenFull::coalesce_by(key), steps)?;
    }
}
