//! Topics for one session: the requests of a peer, and what is published.

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    num::NonZeroUsize,
    task::{Context, Poll},
};

use futures_util::{FutureExt, SinkExt, StreamExt, stream};
use tokio::sync::oneshot;
use tower::{Layer, ServiceBuilder, service_fn};
use tower_service::Service;
use tower_transport::{
    Channel, CloseCode, Error, Message, QueueConfig, ServiceBuilderExt, TransportExt, channel,
    codec::JsonCodec,
    contract_tests,
    layer::topic::{Requests, SubscribeRequest, TopicLayer, TopicProtocol, TopicSession},
    test_util::WakeCount,
    topic::{Event, History, Policy, Position, Start, Topics, TopicsConfig},
};

use super::rejecting::rejecting;

/// Requests: `(topic, 1)` subscribes, 2 unsubscribes, 3 asks for many at once. Other messages are direct.
/// Answers: `(topic, 100)` granted, 101 refused, 102 left, 103 not there, 104 a gap.
type Pair = (u8, u32);

#[derive(Clone)]
struct Pairs;

impl TopicProtocol for Pairs {
    type Topic = u8;
    type Message = u32;
    type In = Pair;
    type Out = Pair;

    fn read(&mut self, message: Pair, requests: &mut Requests<u8, Pair>) -> Option<Pair> {
        match message {
            (topic, 1) => requests.subscribe(topic, Start::Live),
            (topic, 2) => requests.unsubscribe(topic),
            (topics, 3) => (0..topics).for_each(|topic| requests.subscribe(topic, Start::History)),
            (topic, 4) => requests.send((topic, 4)),
            _ => return Some(message),
        }
        None
    }

    fn event(&mut self, event: Event<u8, u32>, mut send: impl FnMut(Pair)) {
        match event {
            Event::Message(publication) => send((*publication.topic(), *publication.message())),
            event => send((*event.topic(), 104)),
        }
    }

    fn subscribed(&mut self, topic: &u8, outcome: Result<Position, Error>, mut send: impl FnMut(Pair)) {
        send((*topic, if outcome.is_ok() { 100 } else { 101 }));
    }

    fn unsubscribed(&mut self, topic: &u8, had: bool, mut send: impl FnMut(Pair)) {
        send((*topic, if had { 102 } else { 103 }));
    }
}

fn topics() -> Topics<u8, u32> {
    Topics::with_config(TopicsConfig::values().history(History::recent(8.try_into().unwrap())))
}

fn layer(topics: &Topics<u8, u32>) -> TopicLayer<Pairs> {
    TopicLayer::new(topics.clone(), Pairs, Policy::drop_oldest())
}

/// Polls as a server that reads does.
fn read<S: stream::Stream + Unpin>(near: &mut S) {
    assert!(near.next().now_or_never().is_none());
}

fn received(far: &mut Channel<Pair>) -> Vec<Pair> {
    std::iter::from_fn(|| far.next().now_or_never().flatten().map(Result::unwrap)).collect()
}

fn send(far: &mut Channel<Pair>, messages: impl IntoIterator<Item = Pair>) {
    for message in messages {
        far.send(message).now_or_never().unwrap().unwrap();
    }
}

type Near = TopicSession<Channel<Pair>, Pairs, tower_transport::layer::topic::Everyone>;

fn pair() -> (Near, Near) {
    let (here, there) = channel(1);
    (layer(&topics()).layer(here), layer(&topics()).layer(there))
}

contract_tests!(mod contract, pair = pair(), message = |i| (200, 1000 + i as u32));

#[test]
fn requests_are_answered_in_order_and_direct_messages_pass() {
    let topics = topics();
    let (near, mut far) = channel(32);
    let mut near = layer(&topics).layer(near);
    send(&mut far, [(1, 1), (2, 1), (7, 70), (2, 2), (3, 2), (9, 4)]);
    assert_eq!(near.next().now_or_never().unwrap().unwrap().unwrap(), (7, 70));
    topics.publish(&1, 11).unwrap();
    read(&mut near);
    topics.publish(&1, 12).unwrap();
    topics.publish(&2, 22).unwrap();
    read(&mut near);
    assert_eq!(received(&mut far), [(1, 100), (2, 100), (1, 11), (2, 102), (3, 103), (9, 4), (1, 12)]);
    near.send((7, 71)).now_or_never().unwrap().unwrap();
    assert_eq!(received(&mut far), [(7, 71)]);
}

#[test]
fn a_publication_wakes_the_task_that_reads() {
    let topics = topics();
    let (near, mut far) = channel(8);
    let mut near = layer(&topics).subscribed_to(1, Start::Live).layer(near);
    let (task, waker) = WakeCount::new();
    assert!(near.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
    topics.publish(&1, 11).unwrap();
    assert_eq!(task.get(), 1);
    read(&mut near);
    assert_eq!(received(&mut far), [(1, 11)]);
}

#[test]
fn a_session_may_begin_with_a_topic_and_its_history() {
    let topics = topics();
    for value in 1..=10 {
        topics.publish(&1, value).unwrap();
    }
    let (near, mut far) = channel(32);
    let mut near = layer(&topics).subscribed_to(1, Start::History).layer(near);
    topics.publish(&1, 11).unwrap();
    read(&mut near);
    // One left the history before the session came to read it.
    assert_eq!(received(&mut far), [vec![(1, 104)], (4..=11).map(|value| (1, value)).collect()].concat());
}

/// Grants even topics, after as many polls as there are in the queue.
#[derive(Clone)]
struct Even(VecDeque<()>);

impl Service<SubscribeRequest<u8>> for Even {
    type Response = ();
    type Error = Error;
    type Future = Ready<Result<(), Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.0.pop_front() {
            Some(()) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: SubscribeRequest<u8>) -> Self::Future {
        ready(if request.topic.is_multiple_of(2) { Ok(()) } else { Err(Error::auth("odd")) })
    }
}

#[test]
fn a_tower_service_decides_about_each_topic() {
    let topics = topics();
    let (near, mut far) = channel(32);
    let mut near = layer(&topics).authorize(Even(vec![(); 3].into())).layer(near);
    send(&mut far, [(1, 1), (2, 1)]);
    for _ in 0..4 {
        read(&mut near);
    }
    topics.publish(&1, 11).unwrap();
    topics.publish(&2, 22).unwrap();
    read(&mut near);
    assert_eq!(received(&mut far), [(1, 101), (2, 100), (2, 22)]);
}

#[tokio::test]
async fn a_decision_that_takes_time_holds_up_the_peer_and_not_what_is_published() {
    let topics = topics();
    let (near, mut far) = channel(32);
    let (decide, decided) = oneshot::channel::<()>();
    let decided = std::sync::Arc::new(std::sync::Mutex::new(Some(decided)));
    let slow = service_fn(move |_: SubscribeRequest<u8>| {
        let decided = decided.lock().unwrap().take();
        async move {
            decided.unwrap().await.map_err(|_| Error::auth("nobody decided"))?;
            Ok::<_, Error>(())
        }
    });
    let mut near = layer(&topics).authorize(slow).subscribed_to(1, Start::Live).layer(near);
    send(&mut far, [(2, 1), (2, 2), (7, 70)]);
    read(&mut near);
    topics.publish(&1, 11).unwrap();
    read(&mut near);
    assert_eq!(received(&mut far), [(1, 11)]);
    decide.send(()).unwrap();
    assert_eq!(near.next().await.unwrap().unwrap(), (7, 70));
    read(&mut near);
    assert_eq!(received(&mut far), [(2, 100), (2, 102)]);
}

#[test]
fn a_peer_that_is_too_slow_is_closed_with_the_code_of_the_policy() {
    let topics = Topics::<u8, u32>::with_config(TopicsConfig::values());
    let (here, mut there) = channel::<Message, Message>(64);
    let policy = Policy::close(CloseCode::TRY_AGAIN).max_messages(2.try_into().unwrap());
    let layer = TopicLayer::new(topics.clone(), Pairs, policy).subscribed_to(1, Start::Live);
    // Above a codec, which has no close message among its values.
    let mut near = ServiceBuilder::new().layer(layer).codec(JsonCodec::<Pair>::new()).service(here);
    for value in 0..3 {
        topics.publish(&1, value).unwrap();
    }
    let error = near.next().now_or_never().unwrap().unwrap().unwrap_err();
    assert!(error.is_full(), "{error}");
    assert!(near.send((1, 1)).now_or_never().unwrap().unwrap_err().is_closed());
    let _ = near.next().now_or_never();
    let Some(Some(Ok(Message::Close(Some(frame))))) = there.next().now_or_never() else { panic!("no close") };
    assert_eq!(frame.code(), CloseCode::TRY_AGAIN);
}

#[test]
fn a_message_with_too_many_requests_closes_the_transport() {
    let (near, mut far) = channel(64);
    let most = NonZeroUsize::new(5).unwrap();
    let mut near = layer(&topics()).max_requests(most).layer(near);
    send(&mut far, [(5, 3)]);
    read(&mut near);
    assert_eq!(received(&mut far).len(), 5);
    send(&mut far, [(6, 3)]);
    assert!(near.next().now_or_never().unwrap().unwrap().unwrap_err().is_protocol());
    assert_eq!(received(&mut far), []);
}

#[test]
fn a_published_message_that_is_rejected_is_told_once_and_the_next_ones_are_sent() {
    let topics = topics();
    let (near, mut far) = channel(8);
    let near = rejecting(near, |pair: &Pair| (pair.1 == 0).then(|| Error::codec("no form")));
    let mut near = layer(&topics).subscribed_to(1, Start::Live).layer(near);
    for value in [10, 0, 30] {
        topics.publish(&1, value).unwrap();
    }
    assert!(near.next().now_or_never().unwrap().unwrap().unwrap_err().is_rejection());
    read(&mut near);
    assert_eq!(received(&mut far), [(1, 10), (1, 30)]);
}

#[test]
fn a_peer_without_end_still_gets_what_is_published_and_a_stalled_one_keeps_its_bound() {
    let topics = topics();
    let (near, mut far) = channel(1);
    let policy = Policy::drop_oldest().max_messages(4.try_into().unwrap());
    let mut near = TopicLayer::new(topics.clone(), Pairs, policy).subscribed_to(1, Start::Live).layer(near);
    for value in 0..1000 {
        topics.publish(&1, value).unwrap();
        send(&mut far, [(7, 70)]);
        assert_eq!(near.next().now_or_never().unwrap().unwrap().unwrap(), (7, 70));
    }
    assert_eq!(near.subscription().queued(), 4);
    assert!(near.subscription().dropped() >= 950);
    let mut told = Vec::new();
    for _ in 0..100 {
        told.extend(received(&mut far));
        read(&mut near);
    }
    assert_eq!(told.last(), Some(&(1, 999)));
    assert!(told.contains(&(1, 104)) && told.len() < 50, "{told:?}");
}

#[tokio::test]
async fn a_driven_session_sends_what_is_published() {
    let topics = topics();
    let (near, mut far) = channel::<Pair, Pair>(8);
    let near = layer(&topics).layer(near);
    let (sender, mut receiver) = near.drive(QueueConfig::values()).spawn();
    far.send((1, 1)).await.unwrap();
    assert_eq!(far.next().await.unwrap().unwrap(), (1, 100));
    for value in 0..100 {
        topics.publish(&1, value).unwrap();
    }
    for value in 0..100 {
        assert_eq!(far.next().await.unwrap().unwrap(), (1, value));
    }
    sender.send((7, 70)).await.unwrap();
    assert_eq!(far.next().await.unwrap().unwrap(), (7, 70));
    far.send((7, 71)).await.unwrap();
    assert_eq!(receiver.receive().await.unwrap().unwrap(), (7, 71));
    drop((sender, receiver));
    assert!(far.next().await.is_none());
}
