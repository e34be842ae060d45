use std::task::{Context, Poll};

use bytes::{Buf, BufMut, BytesMut};
use futures_util::{FutureExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tower_transport::{Limits, Message, QueueConfig, TransportExt, transport::websocket::WebSocket};

const SENDERS: u32 = 64;
const MESSAGES: u32 = 10_000;

/// A small generator with a seed, so that a failure can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_message_that_64_cancelling_senders_had_accepted_arrives_once_and_in_each_senders_order() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let mut server = WebSocket::server(server, Limits::default());
    let (sender, _receiver, driver) =
        WebSocket::client(client, Limits::default()).drive(QueueConfig::messages()).into_parts();
    let driver = tokio::spawn(driver);

    let mut tasks = Vec::new();
    for id in 0..SENDERS {
        let sender = sender.clone();
        tasks.push(tokio::spawn(async move {
            let mut random = Random(u64::from(id) + 1);
            let (mut accepted, mut cancelled) = (0, 0);
            while accepted < MESSAGES {
                let mut message = BytesMut::new();
                message.put_u32(id);
                message.put_u32(accepted);
                let mut send = sender.send(Message::binary(message));
                // Some are given up: at once, or after they have waited a little.
                let patience = random.below(4);
                let mut polls = 0;
                let sent = std::future::poll_fn(|cx: &mut Context<'_>| match send.poll_unpin(cx) {
                    Poll::Ready(result) => Poll::Ready(Some(result)),
                    Poll::Pending if polls == patience => Poll::Ready(None),
                    Poll::Pending => {
                        polls += 1;
                        Poll::Pending
                    }
                });
                match sent.await {
                    Some(result) => {
                        result.unwrap();
                        accepted += 1;
                    }
                    None => {
                        cancelled += 1;
                        drop(send);
                        tokio::task::yield_now().await;
                    }
                }
            }
            cancelled
        }));
    }
    drop(sender);

    let mut next = [0; SENDERS as usize];
    while let Some(message) = server.next().await {
        let message = message.unwrap();
        if message.is_close() {
            continue;
        }
        let mut bytes = message.into_bytes();
        let (id, number) = (bytes.get_u32(), bytes.get_u32());
        assert_eq!(number, next[id as usize], "sender {id}");
        next[id as usize] += 1;
    }
    assert_eq!(next, [MESSAGES; SENDERS as usize]);
    let mut cancelled = 0;
    for task in tasks {
        cancelled += task.await.unwrap();
    }
    assert!(cancelled > 1000, "only {cancelled} sends were cancelled: the test did not test");
    driver.await.unwrap().unwrap();
}
