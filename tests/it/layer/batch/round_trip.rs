//! Whatever is sent comes out as it went in; whatever is received is no panic.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use proptest::prelude::*;
use tower::Layer;
use tower_transport::{
    Message, channel,
    layer::batch::{BatchLayer, BatchPolicy},
};

use super::{MARK, batch, next};

fn data() -> impl Strategy<Value = Message> {
    let binary = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 100..400),
        // A message that looks like a batch.
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| [&bytes[..], &MARK].concat()),
    ];
    prop_oneof![binary.prop_map(Message::binary), "\\PC{0,30}".prop_map(Message::text)]
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        8 => data(),
        1 => prop::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| Message::Ping(bytes.into())),
    ]
}

fn policy() -> impl Strategy<Value = BatchPolicy> {
    (0..9u16, 0..500usize).prop_map(|(count, bytes)| BatchPolicy::on_flush(count).max_bytes(bytes))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

proptest! {
    #[test]
    fn any_messages_by_any_policy_come_out_as_they_went_in(
        messages in prop::collection::vec((message(), prop::bool::weighted(0.2)), 0..60),
        policy in policy(),
        capacity in 1..4usize,
    ) {
        let (near, far) = channel(capacity);
        let (mut near, mut far) = (BatchLayer::new(policy).layer(near), BatchLayer::default().layer(far));
        let sending = async {
            for (message, flush) in &messages {
                near.feed(message.clone()).await.unwrap();
                if *flush {
                    near.flush().await.unwrap();
                }
            }
            near.close().await.unwrap();
        };
        let receiving = async { far.by_ref().map(Result::unwrap).collect::<Vec<_>>().await };
        let ((), got) = tower_transport::test_util::contract::block_on(async { tokio::join!(sending, receiving) });
        let data = |all: Vec<Message>| all.into_iter().partition::<Vec<_>, _>(Message::is_data);
        prop_assert_eq!(data(got), data(messages.into_iter().map(|(message, _)| message).collect()));
    }

    #[test]
    fn what_is_fed_and_never_flushed_arrives_all_the_same(
        messages in prop::collection::vec(data(), 1..40),
        policy in policy(),
        capacity in 1..4usize,
    ) {
        let _ = policy;
        runtime().block_on(async {
            let (near, far) = channel(capacity);
            let near = BatchLayer::new(BatchPolicy::new(7, Duration::from_millis(2)).max_bytes(200)).layer(near);
            let mut far = BatchLayer::default().layer(far);
            let (mut sink, mut stream) = tower_transport::TransportExt::<Message>::into_split(near);
            tokio::spawn(async move { stream.next().await });
            let writer = messages.clone();
            tokio::spawn(async move {
                for message in writer {
                    sink.feed(message).await.unwrap();
                }
                std::future::pending::<()>().await;
            });
            for message in messages {
                assert_eq!(far.next().await.unwrap().unwrap(), message);
            }
        });
    }

    #[test]
    fn a_batch_that_was_changed_is_an_error_or_messages_and_never_a_panic(
        messages in prop::collection::vec(data(), 1..20),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        at_the_end in prop::bool::ANY,
    ) {
        let mut bytes = batch(&messages).into_bytes().to_vec();
        let body = bytes.len() - MARK.len();
        for (index, value) in changes {
            // Half of the changes go where lengths are.
            let place = if at_the_end { body - 1 - index.index(body.min(12)) } else { index.index(body) };
            bytes[place] = value;
        }
        if at_the_end {
            let from = cut.index(body);
            bytes.drain(from..body.min(from + 2));
        }
        let whole = Bytes::from(bytes);
        let (mut far, near) = channel(1);
        let mut near = BatchLayer::default().layer(near);
        far.send(Message::Binary(whole.clone())).now_or_never().unwrap().unwrap();
        drop(far);
        let mut total = 0;
        while let Some(item) = near.next().now_or_never().unwrap() {
            match item {
                Ok(message) => total += message.len(),
                Err(error) => prop_assert!(error.is_protocol(), "{error:?}"),
            }
        }
        prop_assert!(total < whole.len());
    }
}

#[test]
fn batches_of_batches_come_out_through_as_many_layers() {
    let (near, far) = channel(1);
    let layer = BatchLayer::new(BatchPolicy::on_flush(3));
    let mut near = layer.layer(layer.layer(near));
    let mut far = layer.layer(layer.layer(far));
    for round in 0..20 {
        let messages: Vec<_> = (0..round % 5 + 1).map(|i| Message::binary(vec![i; 5])).collect();
        for message in &messages {
            near.feed(message.clone()).now_or_never().unwrap().unwrap();
        }
        near.flush().now_or_never();
        let mut got = Vec::new();
        while got.len() < messages.len() {
            got.extend(next(&mut far));
            near.flush().now_or_never();
        }
        assert_eq!(got, messages);
    }
}
