//! The end that a server says to all its transports at once.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::{CloseCode, CloseFrame, Error, Message, Transport, layer::closing::Closing, transport::halves::Halves};

type PollItem = Poll<Option<Result<Message, Error>>>;

/// One word for all transports that listen to it: a clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Goodbye(Arc<Said>);

#[derive(Debug, Default)]
struct Said {
    /// A look for each message, cheaper than the token's.
    is_said: AtomicBool,
    token: CancellationToken,
}

impl Goodbye {
    /// Every transport that listens is closed with 1001, as it is polled; all of them are woken.
    pub(super) fn say(&self) {
        self.0.is_said.store(true, Ordering::Release);
        self.0.token.cancel();
    }

    /// Waits until it is said.
    pub(super) async fn said(&self) {
        self.0.token.cancelled().await;
    }

    #[inline]
    pub(super) fn is_said(&self) -> bool {
        self.0.is_said.load(Ordering::Acquire)
    }
}

/// A transport's ear.
pub(super) struct Leave {
    goodbye: Goodbye,
    closing: Closing,
    /// The stream has said why it ends.
    is_told: bool,
    waiting: Pin<Box<WaitForCancellationFutureOwned>>,
    halves: Arc<Halves>,
    both: Waker,
}

impl Leave {
    pub(super) fn new(goodbye: Goodbye) -> Self {
        let (halves, both) = Halves::new();
        let waiting = Box::pin(goodbye.0.token.clone().cancelled_owned());
        Self { goodbye, closing: Closing::new(), is_told: false, waiting, halves, both }
    }

    /// Begins to close, when it is time.
    #[inline]
    fn look(&mut self) {
        if self.goodbye.is_said() {
            self.closing.refuse(CloseCode::AWAY, "the server goes away");
        }
    }

    /// The half that was registered is woken when it is time.
    fn listen(&mut self) {
        // Both halves, for the future has one waker.
        let _ = self.waiting.as_mut().poll(&mut Context::from_waker(&self.both));
    }

    pub(super) fn poll_next<T>(&mut self, mut inner: Pin<&mut T>, cx: &mut Context<'_>) -> PollItem
    where
        T: Transport<Message, In = Message, TransportError = Error>,
    {
        self.look();
        if self.closing.is_open() {
            let polled = inner.as_mut().poll_next(cx);
            if polled.is_ready() {
                return polled;
            }
            self.halves.reader.register(cx.waker());
            self.listen();
            self.look();
            if self.closing.is_open() {
                return Poll::Pending;
            }
        }
        // Told when the peer is: whoever is told lets go of the transport.
        ready!(self.closing.poll_end(inner, cx));
        if !std::mem::replace(&mut self.is_told, true) {
            let frame = CloseFrame::new(CloseCode::AWAY, "the server goes away");
            return Poll::Ready(Some(Err(Error::closed("this server goes away").with_close_frame(Some(frame)))));
        }
        Poll::Ready(None)
    }

    pub(super) fn poll_ready<T>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Transport<Message, In = Message, TransportError = Error>,
    {
        self.poll_sink(cx, |closing, cx| closing.poll_ready(inner, cx))
    }

    pub(super) fn check_open(&mut self) -> Result<(), Error> {
        self.look();
        self.closing.check_open()
    }

    pub(super) fn poll_flush<T>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Transport<Message, In = Message, TransportError = Error>,
    {
        self.poll_sink(cx, |closing, cx| closing.poll_flush(inner, cx))
    }

    pub(super) fn poll_close<T>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Transport<Message, In = Message, TransportError = Error>,
    {
        self.closing.poll_close(inner, cx)
    }

    #[inline]
    fn poll_sink(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Closing, &mut Context<'_>) -> Poll<Result<(), Error>>,
    ) -> Poll<Result<(), Error>> {
        self.look();
        let polled = poll(&mut self.closing, cx);
        if polled.is_pending() && self.closing.is_open() {
            self.halves.writer.register(cx.waker());
            self.listen();
            if self.goodbye.is_said() {
                cx.waker().wake_by_ref();
            }
        }
        polled
    }
}

impl fmt::Debug for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leave").field("closing", &self.closing).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{FutureExt, SinkExt, StreamExt};

    use crate::{
        Channel, CloseCode, Error, Message, TransportExt, channel,
        stack::{OptimizedAcceptor, OptimizedTransport},
    };

    type Session = OptimizedTransport<Channel>;

    async fn session(acceptor: &OptimizedAcceptor<Channel>, capacity: usize) -> (Session, Channel) {
        let (near, far) = channel::<Message, Message>(capacity);
        (acceptor.accept_over(near, false).await.unwrap().unwrap(), far)
    }

    fn acceptor() -> OptimizedAcceptor<Channel> {
        OptimizedTransport::builder().acceptor()
    }

    fn assert_away(error: &Error) {
        assert!(error.is_closed(), "{error:?}");
        assert_eq!(error.close_frame().unwrap().code(), CloseCode::AWAY);
    }

    async fn told(far: &mut Channel) {
        let Some(Ok(Message::Close(Some(frame)))) = far.next().await else { panic!("the peer is not told") };
        assert_eq!(frame.code(), CloseCode::AWAY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_waits_is_woken_and_told_and_the_peer_too() {
        let acceptor = acceptor();
        let (mut session, mut far) = session(&acceptor, 2).await;
        let reading = tokio::spawn(async move {
            let error = session.next().await.unwrap().unwrap_err();
            assert!(session.next().await.is_none());
            assert_away(&session.send(Message::text("late")).await.unwrap_err());
            error
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        acceptor.close();
        told(&mut far).await;
        drop(far);
        assert_away(&reading.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_waits_for_room_is_woken_and_told() {
        let acceptor = acceptor();
        let (mut session, mut far) = session(&acceptor, 1).await;
        session.feed(Message::text("one")).await.unwrap();
        let writing = tokio::spawn(async move {
            let error = session.send(Message::text("two")).await.unwrap_err();
            (session, error)
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        acceptor.close();
        let (mut session, error) = writing.await.unwrap();
        assert_away(&error);
        assert_eq!(far.next().await.unwrap().unwrap(), Message::text("one"), "what was accepted goes first");
        assert_away(&session.next().await.unwrap().unwrap_err());
        told(&mut far).await;
    }

    #[tokio::test(start_paused = true)]
    async fn halves_of_a_split_are_both_told() {
        let acceptor = acceptor();
        let (session, mut far) = session(&acceptor, 2).await;
        let (sender, mut receiver) = session.split();
        sender.send(Message::text("hello")).await.unwrap();
        assert_eq!(far.next().await.unwrap().unwrap(), Message::text("hello"));
        acceptor.close();
        told(&mut far).await;
        assert_away(&receiver.receive().await.unwrap().unwrap_err());
        assert!(sender.send(Message::text("late")).await.unwrap_err().is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_transport_that_is_accepted_too_late_ends_at_once() {
        let acceptor = acceptor();
        acceptor.close();
        let (mut session, mut far) = session(&acceptor, 2).await;
        assert_away(&session.next().now_or_never().unwrap().unwrap().unwrap_err());
        told(&mut far).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_closed_before_is_done() {
        let acceptor = acceptor();
        let (mut session, mut far) = session(&acceptor, 2).await;
        let (closed, seen) = tokio::join!(session.close(), far.receive_message());
        closed.unwrap();
        assert!(seen.is_none_or(|message| message.unwrap().is_close()));
        acceptor.close();
        SinkExt::close(&mut session).await.unwrap();
    }
}
