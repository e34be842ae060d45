//! Nothing is allocated for a receiver.

use futures_util::{FutureExt, StreamExt};
use tower_transport::{
    Message,
    topic::{History, Policy, Start, Topics, TopicsConfig},
};

#[test]
fn a_publication_allocates_the_same_for_one_receiver_and_for_a_thousand() {
    let config = TopicsConfig::messages().history(History::recent(16.try_into().unwrap()));
    let topics = Topics::<String>::with_config(config);
    let topic = topics.topic("a").unwrap();
    let message = Message::binary(vec![7; 100]);
    let count = |receivers: usize| {
        let mut readers: Vec<_> =
            (0..receivers).map(|_| topics.subscribe("a", Start::Live, Policy::drop_oldest()).unwrap()).collect();
        let mut round = || {
            topic.publish(message.clone());
            for reader in &mut readers {
                let event = reader.next().now_or_never().unwrap().unwrap().unwrap();
                assert_eq!(event.into_publication().unwrap().into_message(), message);
            }
        };
        // Queues, histories and tables grow to their size.
        (0..64).for_each(|_| round());
        allocation_counter::measure(round).count_total
    };
    assert_eq!((count(1), count(1000)), (count(1), count(1)));
}

#[test]
fn a_reader_that_stalls_at_its_bound_costs_no_allocation_either() {
    let topics = Topics::<String>::new();
    let policy = Policy::drop_oldest().max_messages(8.try_into().unwrap());
    let topic = topics.topic("a").unwrap();
    let message = Message::binary(vec![7; 100]);
    let count = |readers: usize| {
        let stalled: Vec<_> = (0..readers).map(|_| topics.subscribe("a", Start::Live, policy).unwrap()).collect();
        (0..64).for_each(|_| assert_eq!(topic.publish(message.clone()).subscribers(), readers));
        let allocations = allocation_counter::measure(|| assert!(topic.publish(message.clone()).position().is_some()));
        assert!(stalled.iter().all(|reader| (reader.queued(), reader.dropped()) == (8, 57)));
        allocations.count_total
    };
    assert_eq!(count(1), count(100));
}
