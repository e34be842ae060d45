//! A custom layer, written by hand: it upper-cases outgoing text, and counts the bytes in both directions. The contract
//! checks are then run on it.
//!
//! `cargo run --example custom_layer --features test-util`

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use futures_util::{Sink, Stream};
use pin_project_lite::pin_project;
use tower::{Layer, ServiceBuilder};
use tower_transport::{
    Error, Message, TransportExt, channel,
    test_util::contract::{Check, Contract, block_on},
};

/// The configuration that a stack is built from.
#[derive(Clone, Default)]
struct LoudLayer {
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    sent: AtomicUsize,
    received: AtomicUsize,
}

impl<T> Layer<T> for LoudLayer {
    type Service = Loud<T>;

    fn layer(&self, inner: T) -> Loud<T> {
        Loud { inner, counts: self.counts.clone() }
    }
}

pin_project! {
    /// The wrapper: a `Sink` and a `Stream` over another, and therefore a transport. It needs no bound here, not even
    /// `Send`.
    struct Loud<T> {
        #[pin]
        inner: T,
        counts: Arc<Counts>,
    }
}

impl<T, E> Stream for Loud<T>
where
    T: Stream<Item = Result<Message, E>>,
{
    type Item = Result<Message, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        let item = ready!(this.inner.poll_next(cx));
        if let Some(Ok(message)) = &item {
            this.counts.received.fetch_add(message.len(), Relaxed);
        }
        Poll::Ready(item)
    }
}

impl<T: Sink<Message>> Sink<Message> for Loud<T> {
    type Error = T::Error;

    // This layer has no buffer: ready, flushed and closed are those of the inner transport.
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.project().inner.poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), T::Error> {
        let this = self.project();
        let message = message.as_text().map(|text| Message::text(text.to_uppercase())).unwrap_or(message);
        this.counts.sent.fetch_add(message.len(), Relaxed);
        this.inner.start_send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.project().inner.poll_close(cx)
    }
}

async fn conversation() -> Result<(), Error> {
    let layer = LoudLayer::default();
    let (here, mut there) = channel::<Message, Message>(8);
    let mut here = ServiceBuilder::new().layer(layer.clone()).service(here);

    here.send_message(Message::text("is anybody there?")).await?;
    if let Some(message) = there.receive_message().await.transpose()? {
        println!("there received: {:?}", message.as_text().unwrap_or_default());
        there.send_message(Message::text("no need to shout")).await?;
    }
    if let Some(message) = here.receive_message().await.transpose()? {
        println!("here received:  {:?}", message.as_text().unwrap_or_default());
    }
    println!("bytes: {} sent, {} received", layer.counts.sent.load(Relaxed), layer.counts.received.load(Relaxed));
    Ok(())
}

async fn contract() {
    // A channel of one detects a layer that sends without checking for room.
    let pair = async || {
        let (here, there) = channel::<Message, Message>(1);
        (here.layer(LoudLayer::default()), there)
    };
    let quiet = |i| Message::text(format!("message {i}"));
    let loud = |i| Message::text(format!("MESSAGE {i}"));
    let contract = Contract::new(pair, quiet).outgoing(quiet, loud);
    for check in Check::ALL {
        contract.check(check).await;
        println!("  {:<14} {}", check.name(), check.rule());
    }
}

fn main() -> Result<(), Error> {
    block_on(conversation())?;
    println!("\nthe layer keeps the contract:");
    block_on(contract());
    Ok(())
}
