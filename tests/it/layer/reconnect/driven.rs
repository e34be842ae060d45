//! A transport that reconnects, with its defaults, under a driver and the other parts that the docs put above it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Sink, Stream};
use http::Response;
use tokio::time::timeout;
use tower::{Layer, ServiceBuilder};
use tower_transport::{
    BoxTransport, Channel, Error, Message, QueueConfig, Receiver, Sender, Transport, TransportExt,
    layer::{
        batch::{BatchLayer, BatchPolicy},
        queue::QueueLayer,
        reconnect::{ReconnectLayer, WhenLost},
    },
    test_util::fault::Fault,
};

use super::{Peer, Server, layer};

const HOUR: Duration = Duration::from_secs(3600);

/// A connection whose flush waits while it is told to.
struct Slow {
    inner: Fault<Channel>,
    is_held: Arc<AtomicBool>,
}

impl Stream for Slow {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.inner).poll_next(cx)
    }
}

impl Sink<Message> for Slow {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.inner).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        Pin::new(&mut self.inner).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        if self.is_held.load(SeqCst) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// A server whose connections can be kept from flushing.
#[derive(Clone, Default)]
struct Slows {
    server: Server,
    is_held: Arc<AtomicBool>,
}

impl Slows {
    fn stack(
        &self,
        layer: &ReconnectLayer,
    ) -> impl Transport<Message, In = Message, TransportError = Error> + Send + Unpin + use<> {
        let is_held = self.is_held.clone();
        let slow = ServiceBuilder::new().map_response(move |response: Response<Fault<Channel>>| {
            response.map(|inner| Slow { inner, is_held: is_held.clone() })
        });
        layer.layer(slow.service(self.server.clone()))
    }

    /// Sends a message that is flushed and one that is not, and cuts the connection.
    async fn lose(&self, sender: &mut Sender<Message>) -> Peer {
        sender.send("flushed".into()).await.unwrap();
        sender.flush().await.unwrap();
        self.is_held.store(true, SeqCst);
        sender.send("lost".into()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        let mut peer = self.server.accept();
        assert_eq!(peer.take(), ["flushed", "lost"], "given to the connection, and not flushed");
        self.is_held.store(false, SeqCst);
        peer.faults.cut();
        peer
    }
}

/// The default stack, with each of the parts that may sit above it.
fn stacks() -> Vec<(&'static str, Slows, BoxTransport<Message>)> {
    let names = ["alone", "a queue", "a batch", "a delayed batch"];
    let stacks = names.into_iter().map(|name| {
        let server = Slows::default();
        let stack = server.stack(&layer());
        let stack = match name {
            "a queue" => stack.layer(QueueLayer::new(QueueConfig::messages())).into_boxed(),
            "a batch" => stack.layer(BatchLayer::new(BatchPolicy::on_flush(16))).into_boxed(),
            "a delayed batch" => {
                stack.layer(BatchLayer::new(BatchPolicy::new(16, Duration::from_millis(1)))).into_boxed()
            }
            _ => stack.into_boxed(),
        };
        (name, server, stack)
    });
    stacks.collect()
}

async fn receive(receiver: &mut Receiver<Message>) -> Result<Message, Error> {
    timeout(HOUR, receiver.receive()).await.expect("nothing came for an hour").expect("the transport has ended")
}

#[tokio::test(start_paused = true)]
async fn a_driver_goes_on_after_a_loss_and_tells_the_receiver_what_was_lost() {
    for (name, server, transport) in stacks() {
        let (mut sender, mut receiver, driver) = transport.drive(QueueConfig::messages()).into_parts();
        let driver = tokio::spawn(driver);
        drop(server.lose(&mut sender).await);
        let error = receive(&mut receiver).await.unwrap_err();
        assert!(error.is_rejection() && error.is_closed(), "{name}: {error:?}");
        assert!(error.to_string().contains("1 message"), "{name}: {error}");

        timeout(HOUR, sender.send("next".into())).await.expect(name).expect(name);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let mut peer = server.server.accept();
        assert_eq!(peer.take(), ["next"], "{name}");
        peer.put("answer");
        assert_eq!(receive(&mut receiver).await.unwrap(), Message::text("answer"), "{name}");
        assert!(!driver.is_finished(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_of_a_driven_transport_tells_a_loss_once() {
    for (name, server, transport) in stacks() {
        let (mut sender, mut receiver, driver) = transport.drive(QueueConfig::messages()).into_parts();
        tokio::spawn(driver);
        let mut other = sender.clone();
        drop(server.lose(&mut sender).await);
        // One that waits when the loss is found, and one that comes later.
        let error = timeout(HOUR, other.flush()).await.expect(name).unwrap_err();
        assert!(error.is_rejection() && error.is_closed(), "{name}: {error:?}");
        assert!(receive(&mut receiver).await.unwrap_err().is_rejection(), "{name}");
        assert!(sender.flush().await.unwrap_err().is_rejection(), "{name}");
        for sender in [&mut sender, &mut other] {
            timeout(HOUR, sender.flush()).await.expect(name).expect(name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_closes_while_messages_are_lost_still_closes() {
    let server = Slows::default();
    let (mut sender, mut receiver, driver) = server.stack(&layer()).drive(QueueConfig::messages()).into_parts();
    let driver = tokio::spawn(driver);
    let peer = server.lose(&mut sender).await;
    drop((sender, peer));
    while timeout(HOUR, receiver.receive()).await.expect("the driver hangs").is_some() {}
    driver.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_split_transport_goes_on_after_a_loss() {
    use futures_util::{FutureExt, SinkExt, StreamExt};

    let server = Slows::default();
    let (mut sink, mut stream) = TransportExt::into_split(server.stack(&layer().when_lost(WhenLost::Fail)));
    sink.send("flushed".into()).await.unwrap();
    let peer = server.server.accept();
    sink.feed("lost".into()).await.unwrap();
    peer.faults.cut();
    drop(peer);
    assert!(stream.next().now_or_never().is_none());
    assert!(sink.send("refused".into()).await.unwrap_err().is_rejection());
    sink.send("next".into()).await.unwrap();
    let mut peer = server.server.accept();
    assert_eq!(peer.take(), ["next"]);
    peer.put("answer");
    assert_eq!(stream.next().await.unwrap().unwrap(), Message::text("answer"));
}
