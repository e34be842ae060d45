//! Subscriptions, histories and their lives, one step at a time.

use std::{sync::Arc, task::Context, time::Duration};

use futures_util::{FutureExt, StreamExt};
use tower_transport::{
    CloseCode, Message,
    test_util::WakeCount,
    topic::{Event, History, Policy, Position, Start, Subscription, Topics, TopicsConfig},
};

/// A message, or the number of missing ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Message(u32),
    Missed(u64),
    /// A gap whose size is unknown.
    Gap,
}
use Told::{Gap, Missed};

pub(super) fn next<K>(subscription: &mut Subscription<K, u32>) -> Option<Told> {
    Some(match subscription.next().now_or_never()??.unwrap() {
        Event::Message(publication) => Told::Message(*publication.message()),
        Event::Gap { missed: Some(missed), .. } => Missed(missed),
        Event::Gap { .. } => Gap,
        _ => panic!("an unknown event"),
    })
}

pub(super) fn all<K>(subscription: &mut Subscription<K, u32>) -> Vec<Told> {
    std::iter::from_fn(|| next(subscription)).collect()
}

fn messages(values: impl IntoIterator<Item = u32>) -> Vec<Told> {
    values.into_iter().map(Told::Message).collect()
}

fn hub(history: History) -> Topics<String, u32> {
    let key = |_: &String, value: &u32| (*value >= 100).then_some(value / 100);
    Topics::with_config(TopicsConfig::values().history(history).key_by(key))
}

fn publish(topics: &Topics<String, u32>, topic: &str, values: impl IntoIterator<Item = u32>) {
    for value in values {
        topics.publish(topic, value).unwrap();
    }
}

fn recent(messages: usize) -> History {
    History::recent(messages.try_into().unwrap())
}

#[test]
fn every_subscriber_of_a_topic_gets_its_messages_and_no_others() {
    let topics = hub(History::off());
    let [mut a, mut b] =
        ["prices", "news"].map(|topic| topics.subscribe(topic, Start::Live, Policy::default()).unwrap());
    b.subscribe("prices", Start::Live).unwrap();
    let published = topics.publish("prices", 1).unwrap();
    assert_eq!((published.subscribers(), published.position().unwrap().offset()), (2, 1));
    publish(&topics, "news", [2]);
    publish(&topics, "nobody", [3]);
    assert_eq!((all(&mut a), all(&mut b)), (messages([1]), messages([1, 2])));
    assert!(b.unsubscribe("prices") && !b.unsubscribe("prices"));
    publish(&topics, "prices", [4]);
    assert_eq!((all(&mut a), all(&mut b)), (messages([4]), vec![]));
}

#[test]
fn a_subscriber_that_leaves_a_topic_gets_nothing_of_it_any_more() {
    let topics = hub(recent(8));
    publish(&topics, "a", [1, 2]);
    let mut subscription = topics.subscribe("a", Start::History, Policy::default()).unwrap();
    subscription.subscribe("b", Start::Live).unwrap();
    publish(&topics, "b", [10]);
    assert_eq!(next(&mut subscription), Some(Told::Message(1)));
    subscription.unsubscribe("a");
    publish(&topics, "a", [3]);
    assert_eq!(all(&mut subscription), messages([10]));
    // And joins it again at the place that it asks for, without what had been waiting.
    publish(&topics, "b", [11]);
    subscription.subscribe("b", Start::Live).unwrap();
    publish(&topics, "b", [12]);
    assert_eq!(all(&mut subscription), messages([12]));
}

#[test]
fn a_publication_wakes_each_waiting_subscriber_once() {
    let topics = hub(History::off());
    let mut subscription = topics.subscribe("a", Start::Live, Policy::default()).unwrap();
    let (task, waker) = WakeCount::new();
    assert!(subscription.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
    publish(&topics, "b", [1]);
    assert_eq!(task.get(), 0);
    publish(&topics, "a", [1, 2, 3]);
    assert_eq!(task.get(), 1);
    assert_eq!(all(&mut subscription), messages([1, 2, 3]));
}

#[test]
fn a_late_subscriber_gets_the_history_and_one_that_returns_everything_since() {
    let topics = hub(recent(100));
    publish(&topics, "a", 1..=80);
    let mut late = topics.subscribe("a", Start::History, Policy::drop_oldest()).unwrap();
    assert_eq!(next(&mut late), Some(Told::Message(1)));
    publish(&topics, "a", 81..=90);
    assert_eq!(all(&mut late), messages(2..=90));
    publish(&topics, "a", [91]);
    assert_eq!(all(&mut late), messages([91]));

    let seen = topics.topic("a").unwrap().position();
    drop(late);
    publish(&topics, "a", [92, 93]);
    let mut back = topics.subscription(Policy::drop_oldest());
    assert_eq!(back.subscribe("a", Start::After(seen)).unwrap(), seen);
    assert_eq!(all(&mut back), messages([92, 93]));
}

#[test]
fn a_history_that_does_not_reach_back_is_told_with_what_is_missing() {
    let topics = hub(recent(3));
    publish(&topics, "a", [1, 2, 3]);
    let seen = Position::new(topics.topic("a").unwrap().position().epoch(), 1);
    publish(&topics, "a", [4, 5]);
    let returning = |position| {
        let mut back = topics.subscribe("a", Start::After(position), Policy::default()).unwrap();
        all(&mut back)
    };
    assert_eq!(returning(seen), [vec![Missed(1)], messages([3, 4, 5])].concat());
    // A position of another life of the topic, and one that the topic has not reached.
    assert_eq!(returning(Position::new(seen.epoch() ^ 1, 5)), [vec![Gap], messages([3, 4, 5])].concat());
    assert_eq!(returning(Position::new(seen.epoch(), 6)), [vec![Gap], messages([3, 4, 5])].concat());
    assert_eq!(returning(Position::new(seen.epoch(), 5)), []);
}

#[test]
fn a_subscriber_that_reads_a_history_too_slowly_is_told_what_left_it_meanwhile() {
    let topics = hub(recent(40));
    publish(&topics, "a", 1..=40);
    let mut slow = topics.subscribe("a", Start::History, Policy::default()).unwrap();
    assert_eq!(next(&mut slow), Some(Told::Message(1)));
    publish(&topics, "a", 41..=80);
    // It had taken 32 messages; the rest of the old ones are gone.
    assert_eq!(all(&mut slow), [messages(2..=32), vec![Missed(8)], messages(41..=80)].concat());
}

#[test]
fn a_long_history_does_not_hold_up_another_topic() {
    let topics = hub(recent(1000));
    publish(&topics, "long", 0..1000);
    let mut subscription = topics.subscribe("live", Start::Live, Policy::default()).unwrap();
    subscription.subscribe("long", Start::History).unwrap();
    publish(&topics, "live", [7777]);
    let told = all(&mut subscription);
    assert_eq!(told.len(), 1001);
    let place = told.iter().position(|told| *told == Told::Message(7777)).unwrap();
    assert!(place < 100, "{place}");
}

#[test]
fn the_last_message_of_each_key_is_a_history() {
    let topics = hub(History::last_by_key(10.try_into().unwrap()));
    publish(&topics, "a", [101, 201, 102, 301]);
    let seen = topics.topic("a").unwrap().position();
    let mut new = topics.subscribe("a", Start::History, Policy::coalesce()).unwrap();
    assert_eq!(all(&mut new), messages([201, 102, 301]));
    publish(&topics, "a", [202, 302, 203]);
    assert_eq!(all(&mut new), messages([302, 203]));
    assert_eq!((new.replaced(), new.dropped()), (1, 0));
    let mut back = topics.subscribe("a", Start::After(seen), Policy::coalesce()).unwrap();
    assert_eq!(all(&mut back), messages([302, 203]));
    let topic = topics.topic("a").unwrap();
    assert_eq!(topic.get(&2u32).map(|last| *last.message()), Some(203));
    assert!(topic.remove(&2u32) && topic.kept() == 2);
}

#[test]
fn each_policy_keeps_its_bound_and_counts_what_it_drops() {
    let topics = hub(History::off());
    let bound = |policy: Policy| policy.max_messages(3.try_into().unwrap());
    let policies =
        [Policy::drop_oldest(), Policy::drop_newest(), Policy::coalesce(), Policy::close(CloseCode::TRY_AGAIN)];
    let [mut oldest, mut newest, mut last, mut closed] =
        policies.map(|policy| topics.subscribe("a", Start::Live, bound(policy)).unwrap());
    publish(&topics, "a", [101, 201, 102, 301, 103, 401]);
    assert_eq!([&oldest, &newest, &last, &closed].map(Subscription::queued), [3, 3, 3, 0]);
    assert_eq!([&oldest, &newest, &last, &closed].map(Subscription::dropped), [3, 3, 1, 4]);
    assert_eq!(all(&mut oldest), [vec![Missed(3)], messages([301, 103, 401])].concat());
    assert_eq!(all(&mut newest), [messages([101, 201, 102]), vec![Missed(3)]].concat());
    assert_eq!(all(&mut last), [vec![Missed(1)], messages([301, 103, 401])].concat());
    let error = closed.next().now_or_never().unwrap().unwrap().unwrap_err();
    assert_eq!(error.close_frame().unwrap().code(), CloseCode::TRY_AGAIN);
    assert!(error.is_full() && !error.is_rejection());
    assert!(closed.next().now_or_never().unwrap().is_none());
    assert!(closed.subscribe("a", Start::Live).unwrap_err().is_closed());
    assert_eq!(topics.topic("a").unwrap().subscribers(), 3);
}

#[test]
fn bytes_are_a_bound_as_well() {
    let topics = Topics::<u8>::new();
    let mut slow = topics.subscribe(&1, Start::Live, Policy::drop_oldest().max_bytes(100.try_into().unwrap())).unwrap();
    for _ in 0..10 {
        topics.publish(&1, Message::binary(vec![0; 40])).unwrap();
    }
    assert_eq!((slow.queued(), slow.queued_bytes(), slow.dropped()), (3, 120, 7));
    assert!(matches!(slow.next().now_or_never(), Some(Some(Ok(Event::Gap { missed: Some(7), .. })))));
}

#[test]
fn a_topic_ends_with_its_last_subscriber_unless_it_has_a_history() {
    let topics = hub(History::off());
    assert!(topics.subscribe("a", Start::Live, Policy::default()).is_ok());
    assert!(topics.is_empty());
    publish(&topics, "a", [1]);
    assert!(topics.is_empty());
    let topic = topics.topic("a").unwrap();
    let position = topic.position();
    assert_eq!(topics.len(), 1);
    drop(topic);
    // A new life is another epoch, which a returning subscriber is told.
    let mut back = topics.subscribe("a", Start::After(position), Policy::default()).unwrap();
    assert_eq!(all(&mut back), [Gap]);

    let topics = hub(recent(3));
    publish(&topics, "a", [1]);
    assert_eq!(topics.len(), 1);
    topics.expire();
    assert_eq!(topics.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_too_old_leave_the_history_and_with_the_last_one_the_topic() {
    let topics = hub(recent(10).max_age(Duration::from_secs(10)));
    publish(&topics, "a", [1]);
    tokio::time::advance(Duration::from_secs(6)).await;
    publish(&topics, "a", [2]);
    tokio::time::advance(Duration::from_secs(6)).await;
    let mut late = topics.subscribe("a", Start::History, Policy::default()).unwrap();
    assert_eq!(all(&mut late), messages([2]));
    drop(late);
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(topics.len(), 1);
    topics.expire();
    assert!(topics.is_empty());
}

#[test]
fn the_numbers_of_topics_of_a_hub_and_of_a_subscription_are_bounded() {
    let topics = Topics::<u32>::with_config(TopicsConfig::messages().max_topics(3.try_into().unwrap()));
    let mut subscription = topics.subscription(Policy::default().max_topics(2.try_into().unwrap()));
    subscription.subscribe(&1, Start::Live).unwrap();
    subscription.subscribe(&2, Start::Live).unwrap();
    assert!(subscription.subscribe(&3, Start::Live).unwrap_err().is_full());
    subscription.subscribe(&2, Start::Live).unwrap();
    let third = topics.topic(&3).unwrap();
    assert!(topics.topic(&4).unwrap_err().is_full());
    drop(third);
    assert!(topics.topic(&4).is_ok());
}

#[test]
fn a_message_is_shared_and_handed_out_without_a_copy() {
    let topics = Topics::<String, Arc<str>>::with_config(TopicsConfig::values_sized_by(|text| text.len()));
    let mut readers: Vec<_> = (0..10).map(|_| topics.subscribe("a", Start::Live, Policy::default()).unwrap()).collect();
    let text: Arc<str> = "shared".into();
    topics.publish("a", text.clone()).unwrap();
    assert_eq!(Arc::strong_count(&text), 2);
    for reader in &mut readers {
        let event = reader.next().now_or_never().unwrap().unwrap().unwrap();
        assert!(Arc::ptr_eq(&event.into_publication().unwrap().into_message(), &text));
    }
    assert_eq!(Arc::strong_count(&text), 1);
}

#[test]
fn a_busy_stream_lets_other_tasks_run() {
    let topics = hub(recent(5000));
    publish(&topics, "a", 0..5000);
    let mut reader = topics.subscribe("a", Start::History, Policy::default()).unwrap();
    let (task, waker) = WakeCount::new();
    let mut cx = Context::from_waker(&waker);
    let in_a_row = std::iter::from_fn(|| reader.poll_next_unpin(&mut cx).is_ready().then_some(())).count();
    assert_eq!((in_a_row, task.get()), (1024, 1));
}
