//! The graceful shutdown of a server's session by its drain.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::{
    CloseFrame, Error, Message, Transport,
    layer::own::LayerSink,
    rt::Timer,
    transport::{
        drain::{Member, Seat},
        signal,
    },
};

type PollItem = Poll<Option<Result<Message, Error>>>;

/// A session's membership in the drain of its server.
///
/// When the drain starts, the session sends what it has accepted, then the close frame. Meanwhile the stream goes on
/// with the messages that the peer has sent before it knew: until the peer's close, at most for the time of a close.
/// The stream then returns the error of the drain, and ends.
pub(super) struct GracefulShutdown {
    member: Member,
    sink: LayerSink<Message>,
    /// The time that the peer may take for its last messages, once it was told.
    patience: Duration,
    deadline: Timer,
    /// Whether messages of the peer may still come.
    is_read: bool,
    /// Whether the user has begun to close. From then on, a drain sends nothing of its own.
    is_closing: bool,
}

impl GracefulShutdown {
    /// Creates the membership. `patience` is the time that a close may take.
    pub(super) fn new(seat: Arc<Seat>, patience: Duration) -> Self {
        // A session that is accepted too late has no messages: its client is only told.
        let is_read = !seat.is_started();
        Self {
            member: Member::new(seat, patience),
            sink: LayerSink::new(),
            patience,
            deadline: Timer::new(),
            is_read,
            is_closing: false,
        }
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
            if !self.member.is_quiet()
                && let Some(error) = self.poll_drain(cx)
            {
                return Poll::Ready(self.sink.take_error().map(|_| Err(error)));
            }
            if !self.sink.is_idle() && self.sink.is_open() {
                // A message of the server itself. A rejection concerns nobody who uses this session.
                let _ = self.sink.poll_send(inner.as_mut(), cx);
            }
            let polled = match self.sink.is_open() {
                true => inner.as_mut().poll_next(cx),
                false => self.poll_rest(inner.as_mut(), cx),
            };
            // The drain has started between the check above and the registration of the waker: check again.
            if polled.is_ready() || !self.member.reader_waits(cx) {
                return polled;
            }
        }
    }

    /// Begins the close when it is time. Returns the error if the drain has cut the session.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Option<Error> {
        if let Some(error) = self.member.cut() {
            self.sink.abort(error.clone(), error.clone());
            return Some(error);
        }
        while let Some(message) = self.member.take_notice() {
            self.sink.push(message);
        }
        if !self.is_closing
            && self.sink.is_open()
            && let Some(frame) = self.member.poll_reader(cx)
        {
            self.close(frame);
        }
        None
    }

    /// Returns the last messages of a peer that is being told, then the error of the drain, then the end.
    fn poll_rest<T>(&mut self, mut inner: Pin<&mut T>, cx: &mut Context<'_>) -> PollItem
    where
        T: Transport<Message, In = Message, TransportError = Error>,
    {
        let told = self.sink.poll_closed(inner.as_mut(), cx);
        if self.is_read && told.is_ready() {
            if !self.deadline.is_set() {
                self.deadline.set(self.patience);
            }
            self.is_read = self.deadline.poll(cx).is_pending();
        }
        if self.is_read {
            match inner.poll_next(cx) {
                Poll::Ready(Some(Ok(message))) if !message.is_close() => return Poll::Ready(Some(Ok(message))),
                Poll::Ready(Some(Err(error))) if error.is_rejection() => return Poll::Ready(Some(Err(error))),
                Poll::Ready(_) => self.is_read = false,
                Poll::Pending => return Poll::Pending,
            }
        }
        // The owner is told after the peer, because an owner that is told drops the transport.
        ready!(told);
        Poll::Ready(self.sink.take_error().map(Err))
    }

    pub(super) fn poll_ready<T>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Transport<Message, In = Message, TransportError = Error>,
    {
        self.poll_sink(cx, |sink, cx| sink.poll_ready(inner, cx))
    }

    pub(super) fn start_send<T>(&mut self, inner: Pin<&mut T>, message: Message) -> Result<(), Error>
    where
        T: Transport<Message, In = Message, TransportError = Error>,
    {
        // A session that only writes is closed at its next message: no reading half does it.
        self.member.wrote();
        self.sink.start_send(inner, message)
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
        // A user that closes because of the drain sends its frame, unless it has asked for another one.
        if !std::mem::replace(&mut self.is_closing, true)
            && self.sink.is_open()
            && signal::close_frame().is_none()
            && let Some(frame) = self.member.frame()
        {
            self.close(frame);
        }
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
        if !self.is_closing
            && self.sink.is_open()
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

debug_fields!(GracefulShutdown { sink, is_read });

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
    async fn messages_that_the_peer_sent_before_it_knew_are_read_to_the_last() {
        let acceptor = acceptor();
        let (mut session, mut far) = session(&acceptor, 64).await;
        for number in 0..10 {
            far.send(Message::text(format!("before {number}"))).await.unwrap();
        }
        acceptor.close();
        // The close goes out with the first poll, and the peer sends on until it reads it.
        assert_eq!(session.next().await.unwrap().unwrap(), Message::text("before 0"));
        far.send(Message::text("meanwhile")).await.unwrap();
        told(&mut far).await;
        far.send(Message::Close(None)).await.unwrap();
        for number in 1..10 {
            assert_eq!(session.next().await.unwrap().unwrap(), Message::text(format!("before {number}")));
        }
        assert_eq!(session.next().await.unwrap().unwrap(), Message::text("meanwhile"));
        assert_away(&session.next().await.unwrap().unwrap_err());
        assert!(session.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_stops_sending_does_not_keep_the_session_open() {
        let acceptor = acceptor();
        let (mut session, mut far) = session(&acceptor, 4).await;
        let flood = tokio::spawn(async move { while far.send(Message::text("more")).await.is_ok() {} });
        acceptor.close();
        let start = tokio::time::Instant::now();
        let error = loop {
            match session.next().await.unwrap() {
                Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                Err(error) => break error,
            }
        };
        assert_away(&error);
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        drop(session);
        flood.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_broadcast_reaches_a_session_that_reads_and_one_that_waits_in_between() {
        let acceptor = acceptor();
        let (mut session, mut far) = session(&acceptor, 1).await;
        // The room is promised before the server takes it, and the user's message still goes.
        std::future::poll_fn(|cx| session.poll_ready_unpin(cx)).await.unwrap();
        assert_eq!(acceptor.drain().broadcast(&Message::text("soon")), 1);
        assert!(session.next().now_or_never().is_none());
        session.start_send_unpin(Message::text("mine")).unwrap();
        assert_eq!(far.next().await.unwrap().unwrap(), Message::text("soon"));
        session.flush().await.unwrap();
        assert_eq!(far.next().await.unwrap().unwrap(), Message::text("mine"));
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
