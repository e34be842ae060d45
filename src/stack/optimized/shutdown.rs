//! The graceful shutdown of a server's session by its drain.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    CloseFrame, Error, Message, Transport,
    layer::own::LayerSink,
    transport::drain::{Member, Seat},
};

type PollItem = Poll<Option<Result<Message, Error>>>;

/// A session's membership in the drain of its server.
pub(super) struct GracefulShutdown {
    member: Member,
    sink: LayerSink<Message>,
}

impl GracefulShutdown {
    /// Creates the membership. `patience` is the time that a close may take.
    pub(super) fn new(seat: Arc<Seat>, patience: Duration) -> Self {
        Self { member: Member::new(seat, patience), sink: LayerSink::new() }
    }

    fn close(&mut self, frame: CloseFrame) {
        let error = Error::closed("the server is shutting down").with_close_frame(Some(frame.clone()));
        self.sink.close(frame, error);
    }

    pub(super) fn poll_next<T>(&mut self, mut inner: Pin<&mut T>, cx: &mut Context<'_>) -> PollItem
    where
        T: Transport<Message, In = Message, TransportError = Error>,
    {
        loop {
            if let Some(error) = self.member.cut() {
                self.sink.abort(error.clone(), error.clone());
                return Poll::Ready(self.sink.take_error().map(|_| Err(error)));
            }
            if self.sink.is_open()
                && let Some(frame) = self.member.poll_reader(cx)
            {
                self.close(frame);
            }
            let polled = match self.sink.is_open() {
                true => inner.as_mut().poll_next(cx),
                // The owner is told when the peer is, because an owner that is told drops the transport.
                false => self.sink.poll_closed(inner.as_mut(), cx).map(|()| None),
            };
            match polled {
                // The drain has started between the check above and the registration of the waker: check again.
                Poll::Pending if self.member.reader_waits(cx) => {}
                Poll::Ready(None) if !self.sink.is_open() => return Poll::Ready(self.sink.take_error().map(Err)),
                polled => return polled,
            }
        }
    }

    pub(super) fn poll_ready<T>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Transport<Message, In = Message, TransportError = Error>,
    {
        self.poll_sink(cx, |sink, cx| sink.poll_ready(inner, cx))
    }

    pub(super) fn check_open(&mut self) -> Result<(), Error> {
        // A session that only writes is closed at its next message: no reading half does it.
        self.member.wrote();
        self.sink.check_open()
    }

    pub(super) fn poll_flush<T>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Transport<Message, In = Message, TransportError = Error>,
    {
        self.poll_sink(cx, |sink, cx| sink.poll_flush(inner, cx))
    }

    pub(super) fn poll_close<T>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Transport<Message, In = Message, TransportError = Error>,
    {
        self.sink.poll_close(inner, cx)
    }

    #[inline]
    fn poll_sink(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut LayerSink<Message>, &mut Context<'_>) -> Poll<Result<(), Error>>,
    ) -> Poll<Result<(), Error>> {
        if let Some(error) = self.member.cut() {
            return Poll::Ready(Err(error));
        }
        if self.sink.is_open()
            && let Some(frame) = self.member.poll_writer()
        {
            self.close(frame);
        }
        let polled = poll(&mut self.sink, cx);
        if self.member.writer_waits(&polled, cx) {
            // The drain may have started before the waker was registered, and then nobody wakes this half.
            cx.waker().wake_by_ref();
        }
        polled
    }
}

debug_fields!(GracefulShutdown { sink });

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
