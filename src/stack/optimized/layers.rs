//! The layers of the stack, except reconnect, resume and trace, which each end adds differently.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_layer::Layer;

use crate::{
    Error, Message, Transport,
    layer::{
        batch::{BatchLayer, BatchPolicy, Batched},
        compression::{Compressed, CompressionLayer},
        heartbeat::{Heartbeat, HeartbeatLayer},
        limit::{LimitLayer, Limited},
        optional::{Optional, OptionalLayer},
        rate_limit::{RateLimit, RateLimitLayer},
    },
    message::trailer,
    stack::{
        Capabilities,
        hello::{Hello, Nonce},
    },
};

/// The outermost layers, which survive a reconnect: limits, then the rate limit.
pub(super) type Outer<X> = Limited<Optional<RateLimit<X, Message>, X>>;

/// The layers of one connection. To a peer that knows the stack: batch, then compression, then the heartbeat next to
/// the transport. To any other peer: the heartbeat alone.
///
/// A batch layer that is not agreed on is absent. The compression layer and, with a peer that knows the stack, the
/// heartbeat are always there, because marks are escaped and pings are answered although they are off.
pub(super) type Wire<T> =
    Optional<PeerLimit<Optional<Batched<Packed<T>>, Packed<T>>>, Greeted<Optional<Heartbeat<T>, T>>>;

type Packed<T> = Compressed<Heartbeat<T>>;

#[cfg(not(target_arch = "wasm32"))]
/// A server's session or bare connection, with tracing.
pub(super) type ServerLink<T> = crate::layer::trace::Traced<Optional<crate::layer::resume::Session<Wire<T>>, Wire<T>>>;

#[derive(Clone, Debug)]
pub(super) struct OuterConfig {
    pub(super) limit: LimitLayer,
    pub(super) rate_limit: Option<RateLimitLayer>,
}

impl OuterConfig {
    pub(super) fn layer<X>(&self, stack: X) -> Outer<X>
    where
        X: Transport<Message, In = Message, TransportError = Error>,
    {
        self.limit.layer(OptionalLayer::new(self.rate_limit.as_ref()).layer(stack))
    }
}

/// The minimum that a peer is assumed to accept, whatever it announces: the messages that open and resume a session
/// must pass.
const LEAST: usize = 256;

/// The features that one end has on.
#[derive(Clone, Debug)]
pub(super) struct WireConfig {
    pub(super) batch: Option<BatchPolicy>,
    pub(super) compression: Option<CompressionLayer>,
    pub(super) heartbeat: Option<HeartbeatLayer>,
    pub(super) resume: bool,
    pub(super) trace_context: bool,
    /// The largest message that may come in, in bytes.
    pub(super) max_message: usize,
    /// The number of additional bytes that the transport below accepts. Zero if the transport was created elsewhere.
    pub(super) headroom: usize,
}

impl WireConfig {
    /// Returns the hello of this end.
    pub(super) fn hello(&self) -> Hello {
        let capabilities = Capabilities::KNOWN
            .with_batch(self.batch.is_some())
            .with_compression(self.compression.is_some())
            .with_compression_context(self.compression.as_ref().is_some_and(CompressionLayer::keeps_context))
            .with_resume(self.resume)
            .with_trace_context(self.trace_context);
        // The hello has 32 bits for a size; a larger limit of this end is announced as the largest that fits.
        let most = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
        // A hello with a maximum of 0 is not valid.
        Hello { capabilities, max_message: most(self.max_message).max(1), headroom: most(self.headroom), nonce: None }
    }

    /// Combines this end's hello with the peer's into an agreement.
    pub(super) fn agree(&self, theirs: Hello) -> Agreement {
        Agreement {
            capabilities: theirs.capabilities.and(self.hello().capabilities),
            theirs: Some(theirs),
            first: None,
            proof: None,
        }
    }

    /// Adds the layers of one connection.
    pub(super) fn layer<T: Transport<Message, In = Message>>(&self, transport: T, agreement: Agreement) -> Wire<T> {
        let Agreement { capabilities, theirs, first, proof } = agreement;
        let Some(hello) = theirs else {
            // A stranger's binary messages are data, whatever they end in. A page has no other pings.
            let heartbeat = self.heartbeat.clone().filter(|_| !cfg!(target_arch = "wasm32"));
            let heartbeat = OptionalLayer::new(heartbeat.map(HeartbeatLayer::plain));
            return Optional::Off { transport: Greeted::new(heartbeat.layer(transport), first) };
        };
        // Pings are answered in any case: the peer does not know that this end sends none.
        let heartbeat = self.heartbeat.clone().unwrap_or_else(HeartbeatLayer::answer_only);
        // A page can send no other pings, and this peer answers them.
        #[cfg(target_arch = "wasm32")]
        let heartbeat = heartbeat.application_level();
        let beating = heartbeat.answer_application_level().layer(transport);
        let compression = self.compression.as_ref().filter(|_| capabilities.compression());
        let compressed = match compression {
            Some(layer) => layer.with_context(capabilities.compression_context()).layer(beating),
            None => CompressionLayer::off().layer(beating),
        };
        let batch = self.batch.filter(|_| capabilities.batch()).map(|policy| {
            // A batch must pass both ends' limits.
            let policy = policy.within(self.max_message.min(hello.max_message as usize));
            BatchLayer::new(policy.with_alone_from(compression.map_or(usize::MAX, CompressionLayer::alone_from)))
        });
        let batched = OptionalLayer::new(batch).layer(compressed);
        // A peer that announces less than the messages which open a session would make every connection fail.
        let most = (hello.max_message as usize).saturating_add(hello.headroom as usize).max(LEAST);
        Optional::On {
            transport: PeerLimit::new(batched, most, Agreed { capabilities, max_message: hello.max_message }, proof),
        }
    }
}

/// Returns what was agreed on a connection to a peer that knows the stack, and the monitor of its heartbeat.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn inspect<T>(wire: &Wire<T>) -> Option<(Agreed, crate::layer::heartbeat::Monitor)> {
    let Optional::On { transport: limited } = wire else { return None };
    let compressed = match limited.get_ref() {
        Optional::On { transport: batched } => batched.get_ref(),
        Optional::Off { transport: compressed } => compressed,
    };
    Some((limited.agreed(), compressed.get_ref().monitor()))
}

/// The result of the exchange of hellos.
pub(super) struct Agreement {
    capabilities: Capabilities,
    /// The peer's hello. `None` if the peer does not know the subprotocol.
    theirs: Option<Hello>,
    /// The message that the peer sent in place of a hello.
    first: Option<Message>,
    /// The proof that this end's nonce asks the peer for.
    proof: Option<Proof>,
}

impl Agreement {
    /// Makes the peer repeat this nonce in its next message. Returns the proof that it did.
    pub(super) fn prove(&mut self, nonce: Nonce) -> Proof {
        self.proof.insert(Proof::new(nonce)).clone()
    }

    /// Creates the agreement with a peer that does not know the stack. `first` is the message that it has already sent.
    pub(super) const fn plain(first: Option<Message>) -> Self {
        Self { capabilities: Capabilities::NONE, theirs: None, first, proof: None }
    }

    pub(super) fn agreed(&self) -> Agreed {
        let max_message = self.theirs.map_or(u32::MAX, |hello| hello.max_message);
        Agreed { capabilities: self.capabilities, max_message }
    }
}

pin_project! {
    /// A transport whose first message was already read while the stack detected whether the peer knows it.
    #[derive(Debug)]
    pub(super) struct Greeted<T> {
        #[pin]
        inner: T,
        first: Option<Box<Message>>,
    }
}

impl<T> Greeted<T> {
    pub(super) fn new(inner: T, first: Option<Message>) -> Self {
        Self { inner, first: first.map(Box::new) }
    }
}

impl<T> Stream for Greeted<T>
where
    T: Transport<Message, In = Message, TransportError = Error>,
{
    type Item = Result<Message, Error>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        match this.first.take() {
            Some(first) => Poll::Ready(Some(Ok(*first))),
            None => this.inner.poll_next(cx),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.inner.size_hint();
        let held = usize::from(self.first.is_some());
        (least.saturating_add(held), most.and_then(|most| most.checked_add(held)))
    }
}

impl<T> Sink<Message> for Greeted<T>
where
    T: Transport<Message, TransportError = Error>,
{
    type Error = Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_ready(cx)
    }

    #[inline]
    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.project().inner.start_send(message)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_close(cx)
    }
}

/// The agreement of the two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agreed {
    /// The capabilities that both ends have on.
    pub(super) capabilities: Capabilities,
    /// The largest message that the peer accepts, in bytes. [`u32::MAX`] if the peer has not announced it.
    pub(super) max_message: u32,
}

/// The proof that the peer has made its hello for this connection: it repeats a random number of this end's hello. A
/// clone is the same proof.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    nonce: Nonce,
    is_given: Arc<AtomicBool>,
}

impl Proof {
    pub(super) fn new(nonce: Nonce) -> Self {
        Self { nonce, is_given: Arc::default() }
    }

    /// Returns whether the peer has given it.
    pub(super) fn is_given(&self) -> bool {
        self.is_given.load(Relaxed)
    }

    fn check(&self, message: &Message) -> Result<(), Error> {
        if *message != Hello::proof(self.nonce) {
            return Err(Error::protocol(
                "the peer's hello was not made for this connection: the peer has stored the hello of another one",
            ));
        }
        self.is_given.store(true, Relaxed);
        Ok(())
    }
}

pin_project! {
    /// Refuses a message that is larger on the wire than the peer's hello allows, before the peer would close the
    /// connection because of it.
    ///
    /// It sits below the layers that add to each message and survive a connection, and counts what the layers below it
    /// may add.
    ///
    /// It also checks the peer's [`Proof`], which is the first message that comes up here.
    #[derive(Debug)]
    pub(super) struct PeerLimit<T> {
        #[pin]
        inner: T,
        most: usize,
        agreed: Agreed,
        // Taken once it is given.
        proof: Option<Proof>,
    }
}

impl<T> PeerLimit<T> {
    pub(super) const fn new(inner: T, most: usize, agreed: Agreed, proof: Option<Proof>) -> Self {
        Self { inner, most, agreed, proof }
    }

    #[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the server's end is native"))]
    pub(super) const fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns what was agreed on this connection.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the server's end is native"))]
    pub(super) const fn agreed(&self) -> Agreed {
        self.agreed
    }
}

/// Returns the maximum size of this message on the wire.
#[inline]
fn size(message: &Message) -> usize {
    match message {
        // A layer below escapes such a message, which makes it longer.
        Message::Binary(payload) if trailer::ends_like_a_mark(payload) => payload.len() + trailer::LEN,
        message => message.len(),
    }
}

fn refused(size: usize, most: usize) -> Error {
    Error::too_large(format!(
        "an outgoing message has {size} bytes on the wire, over the {most} bytes that the peer accepts, and was not \
         sent; send less at once, or raise the peer's limit"
    ))
    .into_rejection()
}

impl<T> PeerLimit<T>
where
    T: Stream<Item = Result<Message, Error>>,
{
    /// Waits for the peer's proof, if there has to be one. An error, and the end of the connection, is the next item of
    /// the stream.
    pub(super) fn poll_proof(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut this = self.project();
        while let Some(proof) = this.proof.as_ref() {
            match ready!(this.inner.as_mut().poll_next(cx)) {
                Some(Ok(message)) if message.is_data() => {
                    proof.check(&message)?;
                    *this.proof = None;
                }
                Some(Ok(Message::Close(frame))) => {
                    let error = Error::closed("the peer closed the connection after its hello");
                    return Poll::Ready(Err(error.with_close_frame(frame)));
                }
                // As before the hello, a ping or pong may come at any time.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(Error::closed("the connection ended after the peer's hello"))),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T> Stream for PeerLimit<T>
where
    T: Stream<Item = Result<Message, Error>>,
{
    type Item = Result<Message, Error>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.proof.is_some()
            && let Err(error) = ready!(self.as_mut().poll_proof(cx))
        {
            return Poll::Ready(Some(Err(error)));
        }
        self.project().inner.poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl<T: Transport<Message, TransportError = Error>> Sink<Message> for PeerLimit<T> {
    type Error = Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_ready(cx)
    }

    #[inline]
    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.project();
        let size = size(&message);
        // Control messages are bounded by the protocol, and a close must always pass.
        if size > *this.most && message.is_data() {
            return Err(refused(size, *this.most));
        }
        this.inner.start_send(message)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_flush(cx)
    }

    #[inline]
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_close(cx)
    }
}
