//! Two custom layers, written by hand, and the contract checks run on them.
//!
//! `Loud` only changes messages: it upper-cases outgoing text, and counts the bytes in both directions. `Patrol` sends
//! messages of its own, and ends its transport: it pings, and closes the connection of a peer that sends too much.
//! `docs/writing-a-layer.md` explains both.
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
    CloseCode, CloseFrame, Error, Message, Transport, TransportExt, channel,
    layer::own::LayerSink,
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

/// The config of a layer that pings and closes: it pings the peer after every `ping_every` messages that come in, and
/// closes the connection of a peer that sends more than `limit`.
#[derive(Clone, Debug)]
struct PatrolLayer {
    ping_every: u32,
    limit: u32,
}

impl<T> Layer<T> for PatrolLayer {
    type Service = Patrol<T>;

    fn layer(&self, inner: T) -> Patrol<T> {
        Patrol { inner, config: self.clone(), received: 0, sink: LayerSink::new(), rejected: None }
    }
}

pin_project! {
    /// The wrapper. Its `LayerSink` holds the layer's own messages and the end of the transport.
    struct Patrol<T> {
        #[pin]
        inner: T,
        config: PatrolLayer,
        received: u32,
        sink: LayerSink<Message>,
        // The rejection of a ping that was sent behind a message, which is the next item.
        rejected: Option<Error>,
    }
}

impl<T: Transport<Message, In = Message>> Stream for Patrol<T> {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        if this.sink.has_ended() {
            return this.sink.poll_end(this.inner, cx);
        }
        if let Some(rejected) = this.rejected.take() {
            return Poll::Ready(Some(Err(rejected)));
        }
        // The rejection of one message is an item. Any other error is ignored: if the inner transport cannot be
        // written, its stream says why.
        if let Poll::Ready(Err(error)) = this.sink.poll_send(this.inner.as_mut(), cx)
            && error.is_rejection()
        {
            return Poll::Ready(Some(Err(error)));
        }
        let message = match ready!(this.inner.as_mut().poll_next(cx)) {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        *this.received += 1;
        if *this.received > this.config.limit {
            let frame = CloseFrame::new(CloseCode::POLICY, "too many messages");
            this.sink.close(frame, Error::full(format!("the peer sent more than {} messages", this.config.limit)));
            // Returns the error, and begins the close.
            return this.sink.poll_end(this.inner, cx);
        }
        // At most one ping waits: a peer that sends and does not read cannot make this end queue more.
        if this.received.is_multiple_of(this.config.ping_every) && this.sink.is_empty() {
            this.sink.push(Message::Ping(Default::default()));
            // Sent at once: the user may not poll again until the message is handled.
            if let Poll::Ready(Err(error)) = this.sink.poll_send(this.inner, cx)
                && error.is_rejection()
            {
                *this.rejected = Some(error);
            }
        }
        Poll::Ready(Some(Ok(message)))
    }
}

impl<T: Transport<Message>> Sink<Message> for Patrol<T> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.sink.poll_ready(this.inner, cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.project();
        this.sink.start_send(this.inner, message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.sink.poll_flush(this.inner, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.sink.poll_close(this.inner, cx)
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

async fn patrol() -> Result<(), Error> {
    let (here, mut there) = channel::<Message, Message>(8);
    let mut here = ServiceBuilder::new().layer(PatrolLayer { ping_every: 2, limit: 3 }).service(here);

    for number in 1..=4 {
        there.send_message(Message::text(format!("message {number}"))).await?;
    }
    while let Some(item) = here.receive_message().await {
        match item {
            Ok(message) => println!("here received:  {:?}", message.as_text().unwrap_or_default()),
            Err(error) => println!("here the stream ends: {error}"),
        }
    }
    while let Some(message) = there.receive_message().await.transpose()? {
        println!("there received: {message:?}");
    }
    if let Err(error) = here.send_message(Message::text("late")).await {
        println!("here the sink fails: {error}");
    }
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

    let pair = async || {
        let (here, there) = channel::<Message, Message>(1);
        (here.layer(PatrolLayer { ping_every: 1_000, limit: u32::MAX }), there)
    };
    Contract::new(pair, quiet).all().await;
}

fn main() -> Result<(), Error> {
    block_on(conversation())?;
    println!();
    block_on(patrol())?;
    println!("\nboth layers keep the contract:");
    block_on(contract());
    Ok(())
}
