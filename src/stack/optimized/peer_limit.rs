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

use crate::{
    Error, Message, Transport,
    message::trailer,
    stack::{
        Capabilities,
        hello::{Hello, Nonce},
    },
};

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

    pub(super) const fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns what was agreed on this connection.
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
