//! Publishers, subscribers and their departures on several threads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Wake, Waker},
    thread,
};

use futures_util::{FutureExt, StreamExt};
use tower_transport::topic::{Event, History, Policy, Start, Topics, TopicsConfig};

/// Reads until `end`, and checks that nothing is missing, twice or out of order.
fn follow(topics: &Topics<u8, u64>, start: Start, leaves: bool, end: u64) {
    let mut subscription = topics.subscription(Policy::drop_oldest());
    let mut seen = subscription.subscribe(&0, start).unwrap();
    let mut read = 0u32;
    while seen.offset() < end {
        let Some(event) = subscription.next().now_or_never() else {
            thread::yield_now();
            continue;
        };
        match event.unwrap().unwrap() {
            Event::Message(publication) => {
                assert_eq!(publication.position().offset(), seen.offset() + 1, "a gap or a repetition");
                seen = publication.position();
            }
            Event::Gap { missed, .. } => {
                seen = tower_transport::topic::Position::new(seen.epoch(), seen.offset() + missed.unwrap());
            }
            _ => unreachable!(),
        }
        read += 1;
        if leaves && read.is_multiple_of(50) {
            subscription = topics.subscription(Policy::drop_oldest());
            subscription.subscribe(&0, Start::After(seen)).unwrap();
        }
    }
}

#[test]
fn publishers_and_subscribers_on_many_threads_agree_on_one_order() {
    const PUBLISHERS: u64 = 3;
    const EACH: u64 = if cfg!(miri) { 100 } else { 5000 };
    let config = TopicsConfig::values().history(History::recent(64.try_into().unwrap()));
    let topics = Topics::<u8, u64>::with_config(config);
    let topic = topics.topic(&0).unwrap();
    thread::scope(|scope| {
        for _ in 0..PUBLISHERS {
            scope.spawn(|| {
                for value in 0..EACH {
                    let _ = topic.publish(value);
                }
            });
        }
        for reader in 0..4 {
            let topics = &topics;
            scope.spawn(move || {
                let start = if reader % 2 == 0 { Start::Live } else { Start::History };
                follow(topics, start, reader > 1, PUBLISHERS * EACH);
            });
        }
    });
    assert_eq!(topic.subscribers(), 0);
}

/// A waker and a message whose code uses the hub again: it would wait for itself under any lock of the hub.
struct Nested {
    topics: Topics<u8, Loud>,
    woken: AtomicUsize,
}

impl Wake for Nested {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, SeqCst);
        use_everything(&self.topics);
    }
}

struct Loud(Option<Topics<u8, Loud>>, Arc<AtomicUsize>);

impl Drop for Loud {
    fn drop(&mut self) {
        self.1.fetch_add(1, SeqCst);
        self.0.iter().for_each(use_everything);
    }
}

fn use_everything(topics: &Topics<u8, Loud>) {
    let mut other = topics.subscribe(&1, Start::Live, Policy::default()).unwrap();
    topics.publish(&1, Loud(None, Arc::default())).unwrap();
    assert!(other.next().now_or_never().is_some());
    let topic = topics.topic(&0).unwrap();
    topic.publish(Loud(None, Arc::default()));
    let _ = (topic.subscribers(), topic.kept(), topics.len());
    topics.expire();
}

#[test]
fn wakers_and_drops_of_messages_may_use_the_hub() {
    for policy in [Policy::drop_oldest(), Policy::close(tower_transport::CloseCode::TRY_AGAIN)] {
        let config = TopicsConfig::values().history(History::recent(2.try_into().unwrap()));
        let topics = Topics::<u8, Loud>::with_config(config);
        let drops = Arc::new(AtomicUsize::new(0));
        let mut slow = topics.subscribe(&0, Start::Live, policy.max_messages(2.try_into().unwrap())).unwrap();
        let nested = Arc::new(Nested { topics: topics.clone(), woken: AtomicUsize::new(0) });
        assert!(slow.poll_next_unpin(&mut Context::from_waker(&Waker::from(nested.clone()))).is_pending());
        for _ in 0..6 {
            topics.publish(&0, Loud(Some(topics.clone()), drops.clone())).unwrap();
        }
        assert_eq!(nested.woken.load(SeqCst), 1);
        slow.unsubscribe(&0);
        assert!(drops.load(SeqCst) >= 4, "{drops:?}");
        let _ = slow.next().now_or_never();
    }
}

#[test]
fn ten_thousand_members_that_leave_do_not_hold_up_a_publisher() {
    const MEMBERS: usize = if cfg!(miri) { 50 } else { 10_000 };
    let topics = Topics::<u8, u64>::with_config(TopicsConfig::values());
    let members: Vec<_> = (0..MEMBERS).map(|_| topics.subscribe(&0, Start::Live, Policy::default()).unwrap()).collect();
    let topic = topics.topic(&0).unwrap();
    let leaving = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            drop(members);
            leaving.store(false, SeqCst);
        });
        // They share no lock for longer than one of them takes: each publication reaches fewer than the one before.
        let mut before = MEMBERS;
        while leaving.load(SeqCst) {
            let reached = topic.publish(1).subscribers();
            assert!(reached <= before);
            before = reached;
        }
    });
    assert_eq!((topic.publish(2).subscribers(), topic.subscribers()), (0, 0));
}
