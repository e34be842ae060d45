//! The last value of each key for subscribers.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    pin::pin,
    sync::{Arc, OnceLock},
    task::Context,
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, StreamExt};
use proptest::prelude::*;
use tower::Layer;
use tower_transport::{
    Channel, Error, QueueConfig, TransportExt, channel, contract_tests,
    layer::latest::{Latest, LatestLayer, Subscribed},
    test_util::WakeCount,
};

use super::rejecting::rejecting;

/// A key and a value.
type Price = (u8, u32);

fn prices() -> Latest<u8, Price> {
    Latest::new(|price: &Price| price.0)
}

fn subscribe(latest: &Latest<u8, Price>, capacity: usize) -> (Subscribed<Channel<Price>, u8, Price>, Channel<Price>) {
    let (near, far) = channel(capacity);
    (LatestLayer::shared(latest.clone()).layer(near), far)
}

/// Polls as a server that reads does.
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
    let (task, waker) = WakeCount::new();
    assert!(a.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(latest.subscribers(), 2);
    drop(b);
    assert_eq!(latest.subscribers(), 1);
    latest.publish((1, 10));
    assert_eq!(task.get(), 1);
    read(&mut a);
    assert_eq!(received(&mut far_a), [(1, 10)]);
}

#[test]
fn a_slow_subscriber_gets_fewer_values_and_never_an_old_one_after_a_new_one() {
    let latest = prices();
    let (mut near, mut far) = subscribe(&latest, 1);
    latest.publish((1, 0));
    let (task, waker) = WakeCount::new();
    let mut cx = Context::from_waker(&waker);
    assert!(near.poll_next_unpin(&mut cx).is_pending());
    for value in 1..1000 {
        latest.publish((1, value));
        latest.publish((2, value));
        assert!(near.poll_next_unpin(&mut cx).is_pending());
    }
    let mut came = Vec::new();
    loop {
        task.take();
        let some = received(&mut far);
        if some.is_empty() {
            break;
        }
        came.extend(some);
        let is_woken = task.get() > 0;
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
    let (sender, _receiver, driver) = near.drive(QueueConfig::values()).into_parts();
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
            let (_sender, _receiver, driver) = near.drive(QueueConfig::values()).into_parts();
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
    /// Whatever the steps, a subscriber's view of the store is the store as soon as it has caught up, and per key
    /// values only rise.
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

#[test]
fn a_value_that_is_rejected_is_told_once_and_the_next_values_are_sent() {
    for error in [
        || Error::too_large("over").into_rejection(),
        // A transport that does not mark it ends nothing by it either.
        || Error::too_large("over"),
        || Error::codec("no form"),
        || Error::rate_limited("one a minute"),
    ] {
        let latest = prices();
        let (near, mut far) = channel(8);
        let near = rejecting(near, move |price: &Price| (price.1 == 0).then(error));
        let mut near = LatestLayer::shared(latest.clone()).layer(near);
        latest.publish((1, 10));
        latest.publish((2, 0));
        latest.publish((3, 0));
        latest.publish((4, 40));
        for _ in 0..2 {
            let rejected = near.next().now_or_never().unwrap().unwrap().unwrap_err();
            assert!(rejected.is_rejection(), "{rejected:?}");
        }
        assert!(near.next().now_or_never().is_none());
        assert_eq!(received(&mut far), [(1, 10), (4, 40)]);
        latest.publish((2, 20));
        assert!(near.next().now_or_never().is_none());
        assert_eq!(received(&mut far), [(2, 20)]);
        near.send((9, 9)).now_or_never().unwrap().unwrap();
        assert_eq!(received(&mut far), [(9, 9)]);
    }
}

#[test]
fn a_value_of_the_snapshot_that_is_rejected_is_no_error_of_the_users_send() {
    let latest = prices();
    for price in [(1, 10), (2, 0), (3, 30)] {
        latest.publish(price);
    }
    let (near, mut far) = channel(8);
    let near = rejecting(near, |price: &Price| (price.1 == 0).then(|| Error::codec("no form")));
    let mut near = LatestLayer::shared(latest.clone()).layer(near);
    near.send((9, 9)).now_or_never().unwrap().unwrap();
    assert_eq!(received(&mut far), [(1, 10), (3, 30), (9, 9)]);
    assert!(near.send((9, 0)).now_or_never().unwrap().unwrap_err().is_codec(), "the user's own");
    assert!(near.next().now_or_never().unwrap().unwrap().unwrap_err().is_codec());
    assert!(near.next().now_or_never().is_none());
}

#[test]
fn a_subscriber_whose_sink_fails_for_good_gets_no_more_values() {
    let latest = prices();
    let (near, mut far) = channel(8);
    let near = rejecting(near, |price: &Price| (price.1 == 0).then(|| Error::io("the cable")));
    let mut near = LatestLayer::shared(latest.clone()).layer(near);
    for price in [(1, 0), (2, 20)] {
        latest.publish(price);
        assert!(near.next().now_or_never().is_none());
    }
    assert_eq!(received(&mut far), []);
}
