//! Many messages before each flush: by one task that feeds, and by many that share a driven transport.

use futures_util::SinkExt;
use tokio::net::TcpStream;
use tower_transport::{Error, Message, QueueConfig, Transport, TransportExt};

use crate::{
    IN_FLIGHT,
    contestant::{Contestant, Library},
    loopback::{Loopback, on_one_thread, payload},
    rounds::Sample,
    scenario::flow::Flow,
};

/// One task that feeds 64 messages and flushes once.
pub(crate) fn fed<L: Library, S: Contestant>(size: usize, messages: usize) -> Sample {
    on_one_thread(async move {
        let (client, server) = Loopback::bind().await.connect().await;
        let flow = Flow::new(1, messages);
        let (mut client, payload, writer) = (L::client(client), payload(size), flow.clone());
        tokio::spawn(async move {
            let mut waiting = 0;
            for turn in writer.turns() {
                if waiting == IN_FLIGHT || writer.begins(turn) {
                    assert!(client.flush().await.is_ok(), "the peer is there");
                    waiting = 0;
                }
                writer.before(turn).await;
                assert!(client.feed(L::message(&payload)).await.is_ok(), "the peer is there");
                waiting += 1;
            }
            assert!(client.flush().await.is_ok(), "the peer is there");
            // Kept open until the other end has read everything: a reset would throw away what is on its way.
            let _ = futures_util::StreamExt::next(&mut client).await;
        });
        flow.receive(&mut S::server(server), size).await
    })
}

/// 64 tasks, each with a `Sender` of one driven transport.
pub(crate) fn senders<L, S>(size: usize, messages: usize) -> Sample
where
    L: Library<Message = Message, Socket: Transport<Message, In = Message, TransportError = Error> + 'static>,
    S: Contestant,
{
    driven::<L, S>(size, messages, IN_FLIGHT, QueueConfig::messages())
}

/// One task with a `Sender` of a driven transport, in whose queue 64 messages wait at most.
pub(crate) fn feeder<L, S>(size: usize, messages: usize) -> Sample
where
    L: Library<Message = Message, Socket: Transport<Message, In = Message, TransportError = Error> + 'static>,
    S: Contestant,
{
    driven::<L, S>(size, messages, 1, QueueConfig::messages().max_messages(IN_FLIGHT.try_into().expect("not zero")))
}

fn driven<L, S>(size: usize, messages: usize, tasks: usize, queue: QueueConfig) -> Sample
where
    L: Library<Message = Message, Socket: Transport<Message, In = Message, TransportError = Error> + 'static>,
    S: Contestant,
{
    on_one_thread(async move {
        let (client, server): (TcpStream, TcpStream) = Loopback::bind().await.connect().await;
        let (flow, payload) = (Flow::new(tasks, messages), payload(size));
        let (sender, _receiver, driver) = L::client(client).drive(queue).into_parts();
        tokio::spawn(driver);
        for _ in 0..tasks {
            let (sender, payload, flow) = (sender.clone(), payload.clone(), flow.clone());
            tokio::spawn(async move {
                for turn in flow.turns() {
                    flow.before(turn).await;
                    sender.send(L::message(&payload)).await.expect("the connection is there");
                }
            });
        }
        flow.receive(&mut S::server(server), size).await
    })
}
