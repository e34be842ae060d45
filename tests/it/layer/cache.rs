//! The last value of each key for subscribers, and answers that are kept.

use std::{
    collections::HashMap,
    future::poll_fn,
    num::NonZeroUsize,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, StreamExt, future::join_all};
use proptest::prelude::*;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_transport::{
    Channel, Error, Queue, TransportExt, channel, contract_tests,
    layer::cache::{CacheLayer, Latest, LatestLayer, Subscribed},
};

#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn task() -> (Arc<Task>, Waker) {
    let task = Arc::new(Task::default());
    (task.clone(), task.into())
}

/// A key and a value.
type Price = (u8, u32);

fn prices() -> Latest<u8, Price> {
    Latest::new(|price: &Price| price.0)
}

fn subscribe(latest: &Latest<u8, Price>, capacity: usize) -> (Subscribed<Channel<Price>, u8, Price>, Channel<Price>) {
    let (near, far) = channel(capacity);
    (LatestLayer::shared(latest.clone()).layer(near), far)
}

/// What a server's reading does.
fn read(near: &mut Subscribed<Channel<Price>, u8, Price>) {
    assert!(near.next().now_or_never().is_none());
}

fn received(far: &mut Channel<Price>) -> Vec<Price> {
    std::iter::from_fn(|| far.next().now_or_never().flatten().map(Result::unwrap)).collect()
}

#[test]
fn a_new_subscriber_gets_the_last_value_of_each_key_then_what_is_published() {
    let latest = prices();
    for price in [(1, 10), (2, 20), (1, 11)] {
        latest.publish(price);
    }
    let (mut near, mut far) = subscribe(&latest, 8);
    latest.publish((3, 30));
    read(&mut near);
    assert_eq!(received(&mut far), [(2, 20), (1, 11), (3, 30)]);
    latest.publish((2, 21));
    read(&mut near);
    assert_eq!(received(&mut far), [(2, 21)]);
    read(&mut near);
    assert_eq!(received(&mut far), []);
}

#[test]
fn a_publication_wakes_every_subscriber_that_reads_and_none_that_is_gone() {
    let latest = prices();
    let (mut a, mut far_a) = subscribe(&latest, 8);
    let (b, _far_b) = subscribe(&latest, 8);
    let (task, waker) = task();
    assert!(a.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(latest.subscribers(), 2);
    drop(b);
    assert_eq!(latest.subscribers(), 1);
    latest.publish((1, 10));
    assert_eq!(task.0.load(SeqCst), 1);
    read(&mut a);
    assert_eq!(received(&mut far_a), [(1, 10)]);
}

#[test]
fn a_slow_subscriber_gets_fewer_values_and_never_an_old_one_after_a_new_one() {
    let latest = prices();
    let (mut near, mut far) = subscribe(&latest, 1);
    latest.publish((1, 0));
    let (task, waker) = task();
    let mut cx = Context::from_waker(&waker);
    assert!(near.poll_next_unpin(&mut cx).is_pending());
    for value in 1..1000 {
        latest.publish((1, value));
        latest.publish((2, value));
        assert!(near.poll_next_unpin(&mut cx).is_pending());
    }
    let mut came = Vec::new();
    loop {
        task.0.store(0, SeqCst);
        let some = received(&mut far);
        if some.is_empty() {
            break;
        }
        came.extend(some);
        let is_woken = task.0.load(SeqCst) > 0;
        assert!(is_woken || came.ends_with(&[(2, 999)]), "there is room, so the reader's task goes on");
        assert!(near.poll_next_unpin(&mut cx).is_pending());
    }
    assert!(came.len() <= 6, "{came:?}");
    assert_eq!(came[came.len() - 2..], [(1, 999), (2, 999)]);
}

#[test]
fn what_the_user_sends_comes_after_the_snapshot() {
    let latest = prices();
    for key in 0..100 {
        latest.publish((key, 1));
    }
    let (mut near, mut far) = subscribe(&latest, 7);
    let mut came = Vec::new();
    let mut send = pin!(near.send((200, 2)));
    while send.as_mut().now_or_never().is_none() {
        came.extend(received(&mut far));
    }
    came.extend(received(&mut far));
    let snapshot: Vec<_> = (0..100).map(|key| (key, 1)).collect();
    assert_eq!(came[..100], snapshot);
    assert_eq!(came[100..], [(200, 2)]);
    assert_eq!(latest.get(&200), None, "and is not recorded");
}

#[test]
fn a_subscriber_that_only_talks_gets_its_values_all_the_same() {
    let latest = prices();
    let (mut near, mut far) = subscribe(&latest, 8);
    for value in 0..4 {
        latest.publish((1, value));
        far.send((9, value)).now_or_never().unwrap().unwrap();
        assert_eq!(near.next().now_or_never().unwrap().unwrap().unwrap(), (9, value));
    }
    assert_eq!(received(&mut far), [(1, 0), (1, 1), (1, 2), (1, 3)]);
}

#[test]
fn keys_are_bounded_and_what_had_to_go_is_counted() {
    let latest = Latest::with_max_keys(NonZeroUsize::new(3).unwrap(), |price: &Price| price.0);
    for key in 0..10 {
        latest.publish((key, 1));
    }
    assert_eq!((latest.len(), latest.evicted()), (3, 7));
    assert_eq!(latest.remove(&8), Some((8, 1)));
    let (mut near, mut far) = subscribe(&latest, 8);
    read(&mut near);
    assert_eq!(received(&mut far), [(7, 1), (9, 1)]);
}

#[test]
fn a_stream_can_be_forwarded_into_the_store() {
    let latest = prices();
    let (mut publisher, relay) = channel::<Price, Price>(8);
    publisher.send((1, 10)).now_or_never().unwrap().unwrap();
    publisher.send((1, 11)).now_or_never().unwrap().unwrap();
    drop(publisher);
    relay.forward(latest.clone()).now_or_never().unwrap().unwrap();
    assert_eq!(latest.get(&1), Some((1, 11)));
}

#[test]
fn after_a_cut_or_a_close_nothing_more_is_sent_and_the_stream_ends() {
    let latest = prices();
    let (mut near, far) = subscribe(&latest, 1);
    drop(far);
    latest.publish((1, 1));
    assert!(near.next().now_or_never().unwrap().is_none());
    assert!(near.send((1, 1)).now_or_never().unwrap().unwrap_err().is_closed());

    let (mut near, mut far) = subscribe(&latest, 8);
    near.close().now_or_never().unwrap().unwrap();
    latest.publish((1, 2));
    read(&mut near);
    assert_eq!(received(&mut far), [], "closed before it was read");
}

#[tokio::test(start_paused = true)]
async fn a_driven_subscriber_needs_no_reader() {
    let latest = prices();
    latest.publish((1, 1));
    let (near, mut far) = subscribe(&latest, 8);
    let (sender, _receiver, driver) = near.drive(Queue::values()).into_parts();
    tokio::spawn(driver);
    assert_eq!(far.next().await.unwrap().unwrap(), (1, 1));
    latest.publish((2, 2));
    assert_eq!(far.next().await.unwrap().unwrap(), (2, 2));
    sender.send((3, 3)).await.unwrap();
    assert_eq!(far.next().await.unwrap().unwrap(), (3, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_are_published_while_others_subscribe_reach_everyone_in_order_and_to_the_last() {
    const VALUES: u32 = 20_000;
    let latest = prices();
    let publisher = latest.clone();
    let publish = tokio::spawn(async move {
        for value in 1..=VALUES {
            publisher.publish(((value % 3) as u8, value));
            if value % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    let subscribers = (0..8).map(|_| {
        let latest = latest.clone();
        tokio::spawn(async move {
            let (near, mut far) = subscribe(&latest, 4);
            let (_sender, _receiver, driver) = near.drive(Queue::values()).into_parts();
            let driver = tokio::spawn(driver);
            let mut last = HashMap::new();
            while last.len() < 3 || last.values().max() != Some(&VALUES) {
                let (key, value) = far.next().await.unwrap().unwrap();
                assert!(last.insert(key, value).is_none_or(|before| before < value), "old after new");
            }
            driver.abort();
        })
    });
    for subscriber in subscribers.collect::<Vec<_>>() {
        tokio::time::timeout(Duration::from_secs(60), subscriber).await.expect("the last value arrives").unwrap();
    }
    publish.await.unwrap();
}

contract_tests!(
    mod subscribed,
    pair = {
        let (here, there) = channel::<Price, Price>(1);
        (LatestLayer::shared(prices()).layer(here), there)
    },
    message = |i| (0, i as u32)
);

proptest! {
    /// Whatever the steps, a subscriber's view of the store is the store as soon as it has caught up, and per key values only rise.
    #[test]
    fn a_subscriber_that_catches_up_knows_what_the_store_knows(
        steps in proptest::collection::vec((0u8..6, 0u8..12), 1..200),
        capacity in 1usize..5,
    ) {
        let latest = prices();
        let (mut near, mut far) = subscribe(&latest, capacity);
        let mut view = HashMap::new();
        let see = |far: &mut Channel<Price>, view: &mut HashMap<u8, u32>| {
            let came = received(far);
            for &(key, value) in &came {
                assert!(view.insert(key, value).is_none_or(|before| before < value));
            }
            came.len()
        };
        for (value, (step, key)) in steps.into_iter().enumerate() {
            match step {
                0 => read(&mut near),
                1 => { see(&mut far, &mut view); }
                _ => latest.publish((key, value as u32)),
            }
        }
        loop {
            read(&mut near);
            if see(&mut far, &mut view) == 0 {
                break;
            }
        }
        for key in 0..12 {
            prop_assert_eq!(latest.get(&key).map(|price| price.1), view.get(&key).copied());
        }
    }
}

/// Counts its calls, and answers with their number when it is let.
#[derive(Clone, Default)]
struct Slow {
    calls: Arc<AtomicUsize>,
    open: Arc<AtomicBool>,
    fail: Arc<AtomicBool>,
    wakers: Arc<Mutex<Vec<Waker>>>,
}

impl Slow {
    fn open(&self) {
        self.open.store(true, SeqCst);
        self.wakers.lock().unwrap().drain(..).for_each(Waker::wake);
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    fn service(&self) -> impl Service<u32, Response = usize, Error = Error, Future: Send> + Clone + Send + 'static {
        let slow = self.clone();
        service_fn(move |_: u32| {
            let slow = slow.clone();
            let number = slow.calls.fetch_add(1, SeqCst) + 1;
            poll_fn(move |cx| {
                if !slow.open.load(SeqCst) {
                    slow.wakers.lock().unwrap().push(cx.waker().clone());
                    return Poll::Pending;
                }
                if slow.fail.load(SeqCst) { Poll::Ready(Err(Error::timeout("down"))) } else { Poll::Ready(Ok(number)) }
            })
        })
    }
}

type Layered = CacheLayer<u32, usize, fn(&u32) -> Option<u32>>;

fn by_number() -> Layered {
    CacheLayer::shared(|number: &u32| (*number < 1000).then_some(*number))
}

#[tokio::test(start_paused = true)]
async fn a_hundred_calls_at_once_are_one_call_of_the_service() {
    let slow = Slow::default();
    let cache = by_number().layer(slow.service());
    let calls = join_all((0..100).map(|_| cache.clone().oneshot(7)));
    let opened = async {
        tokio::task::yield_now().await;
        slow.open();
    };
    let (answers, ()) = tokio::join!(calls, opened);
    assert!(answers.into_iter().all(|answer| answer.unwrap() == 1));
    assert_eq!((slow.calls(), cache.misses(), cache.hits()), (1, 1, 99));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_for_its_time_and_then_asked_for_once() {
    let slow = Slow::default();
    slow.open();
    let cache = by_number().time_to_live(Duration::from_secs(60)).layer(slow.service());
    assert_eq!(cache.clone().oneshot(7).await.unwrap(), 1);
    tokio::time::advance(Duration::from_millis(59_999)).await;
    assert_eq!(cache.clone().oneshot(7).await.unwrap(), 1);
    tokio::time::advance(Duration::from_millis(1)).await;
    let answers = join_all((0..100).map(|_| cache.clone().oneshot(7))).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap() == 2));
    assert_eq!(cache.clone().oneshot(8).await.unwrap(), 3, "another key");
    assert_eq!(slow.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_error_reaches_all_who_waited_and_is_not_kept() {
    let slow = Slow::default();
    slow.fail.store(true, SeqCst);
    let cache = by_number().layer(slow.service());
    let calls = join_all((0..10).map(|_| cache.clone().oneshot(7)));
    let opened = async {
        tokio::task::yield_now().await;
        slow.open();
    };
    let (answers, ()) = tokio::join!(calls, opened);
    assert!(answers.into_iter().all(|answer| answer.unwrap_err().is_timeout()));
    assert_eq!(slow.calls(), 1);
    slow.fail.store(false, SeqCst);
    assert_eq!(cache.clone().oneshot(7).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn when_the_call_that_asks_is_dropped_one_of_those_who_wait_asks_anew() {
    let slow = Slow::default();
    let cache = by_number().layer(slow.service());
    let (mut first, mut second) = (cache.clone().oneshot(7), cache.clone().oneshot(7));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.poll_unpin(&mut cx).is_pending() && second.poll_unpin(&mut cx).is_pending());
    assert_eq!(slow.calls(), 1);
    drop(first);
    slow.open();
    assert_eq!(second.await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_has_no_key_passes_by_and_a_hit_waits_for_nothing() {
    let slow = Slow::default();
    slow.open();
    let mut cache = by_number().layer(slow.service());
    assert_eq!(cache.call(5000).await.unwrap(), 1);
    assert_eq!(cache.call(5000).await.unwrap(), 2);
    assert_eq!(cache.call(7).await.unwrap(), 3);
    slow.open.store(false, SeqCst);
    assert_eq!(cache.call(7).now_or_never().unwrap().unwrap(), 3);
    assert!(cache.call(8).now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_shared_store_is_shared_by_all_services_of_a_layer_and_another_is_not() {
    let slow = Slow::default();
    slow.open();
    let shared = by_number();
    assert_eq!(shared.layer(slow.service()).oneshot(7).await.unwrap(), 1);
    assert_eq!(shared.clone().layer(slow.service()).oneshot(7).await.unwrap(), 1);
    let own: Layered = CacheLayer::per_service(|number: &u32| Some(*number));
    assert_eq!(own.layer(slow.service()).oneshot(7).await.unwrap(), 2);
    assert_eq!(own.layer(slow.service()).oneshot(7).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn answers_are_bounded_by_their_number_or_weight() {
    let slow = Slow::default();
    slow.open();
    for layer in [by_number().capacity(10), by_number().capacity(1000).weigh(|_, _| 100)] {
        let cache = layer.layer(slow.service());
        for _ in 0..20 {
            for number in 0..1000 {
                cache.clone().oneshot(number).await.unwrap();
            }
        }
        assert!(cache.entries() <= 600, "{} entries; moka tidies up after some hundreds", cache.entries());
    }
    let none = by_number().capacity(0).layer(slow.service());
    assert_ne!(none.clone().oneshot(7).await.unwrap(), none.clone().oneshot(7).await.unwrap());
}

/// Looks at the store that it is in, whatever is done to it.
struct Looking {
    key: u32,
    store: Arc<OnceLock<Latest<LookingKey, Looking>>>,
}

struct LookingKey(u32, Arc<OnceLock<Latest<LookingKey, Looking>>>);

fn look(store: &OnceLock<Latest<LookingKey, Looking>>) {
    if let Some(store) = store.get() {
        let _ = (store.len(), store.evicted(), store.subscribers());
    }
}

impl Clone for Looking {
    fn clone(&self) -> Self {
        look(&self.store);
        Self { key: self.key, store: self.store.clone() }
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        look(&self.store);
    }
}

impl Clone for LookingKey {
    fn clone(&self) -> Self {
        look(&self.1);
        Self(self.0, self.1.clone())
    }
}

impl Drop for LookingKey {
    fn drop(&mut self) {
        look(&self.1);
    }
}

impl PartialEq for LookingKey {
    fn eq(&self, other: &Self) -> bool {
        look(&self.1);
        self.0 == other.0
    }
}

impl Eq for LookingKey {}

impl std::hash::Hash for LookingKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        look(&self.1);
        self.0.hash(state);
    }
}

#[test]
fn keys_and_messages_that_look_at_the_store_do_not_deadlock() {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let slot = Arc::new(OnceLock::new());
        let store = Latest::with_max_keys(2.try_into().unwrap(), |message: &Looking| {
            LookingKey(message.key, message.store.clone())
        });
        let _ = slot.set(store.clone());
        for key in [0, 1, 1, 2, 3] {
            store.publish(Looking { key, store: slot.clone() });
        }
        let key = LookingKey(3, slot.clone());
        assert_eq!(store.get(&key).map(|message| message.key), Some(3));
        assert_eq!(store.remove(&key).map(|message| message.key), Some(3));
        assert!(store.get(&key).is_none());
        done.send(()).unwrap();
    });
    is_done.recv_timeout(std::time::Duration::from_secs(20)).expect("a deadlock, or a panic");
}
