//! 64 tasks that write 32 B messages to one connection. They are compared with [`OneWay`](super::one_way::OneWay): one
//! task that writes and flushes each message.

use futures_util::SinkExt;
use tokio::sync::mpsc;
use tower_transport::{Limits, Message, QueueConfig, TransportExt, transport::websocket::WebSocket};

use crate::{
    contestant::{Contestant, Library},
    contestants::Ours,
    loopback::{Loopback, on_one_thread, payload},
    rounds::Sample,
    scenario::flow::Flow,
};

const TASKS: usize = 64;

/// This crate: every task has a clone of the `Sender`.
pub fn ours(messages: usize) -> Sample {
    on_one_thread(async move {
        let (client, server) = Loopback::bind().await.connect().await;
        let (flow, payload) = (Flow::new(TASKS, messages), payload(32));
        let (sender, _receiver, driver) =
            WebSocket::client(client, Limits::default()).drive(QueueConfig::messages()).into_parts();
        tokio::spawn(driver);
        for _ in 0..TASKS {
            let (sender, payload, flow) = (sender.clone(), payload.clone(), flow.clone());
            tokio::spawn(async move {
                for turn in flow.turns() {
                    flow.before(turn).await;
                    sender.send(Message::binary(payload.clone())).await.expect("the connection is there");
                }
            });
        }
        flow.receive(&mut Ours::server(server), 32).await
    })
}

/// The hand-written equivalent: a bounded channel into one task that feeds all waiting messages and flushes once.
pub fn by_hand<L, C>(messages: usize) -> Sample
where
    L: Library,
    C: Contestant,
{
    on_one_thread(async move {
        let (client, server) = Loopback::bind().await.connect().await;
        let (flow, payload) = (Flow::new(TASKS, messages), payload(32));
        let (sender, mut queue) = mpsc::channel(1024);
        tokio::spawn(async move {
            let mut client = L::client(client);
            while let Some(message) = queue.recv().await {
                assert!(client.feed(message).await.is_ok(), "the peer is there");
                while let Ok(message) = queue.try_recv() {
                    assert!(client.feed(message).await.is_ok(), "the peer is there");
                }
                assert!(client.flush().await.is_ok(), "the peer is there");
            }
        });
        for _ in 0..TASKS {
            let (sender, payload, flow) = (sender.clone(), payload.clone(), flow.clone());
            tokio::spawn(async move {
                for turn in flow.turns() {
                    flow.before(turn).await;
                    assert!(sender.send(L::message(&payload)).await.is_ok(), "the connection is there");
                }
            });
        }
        flow.receive(&mut C::server(server), 32).await
    })
}
