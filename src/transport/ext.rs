use std::{
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;

use crate::{
    CloseFrame, Error, MaybeSend,
    transport::{BoxTransport, Driven, QueueConfig, SplitSink, SplitStream, Transport, signal, split},
};

/// Extension methods for every [`Transport`].
///
/// The methods have names of their own, so futures' `StreamExt` and `SinkExt` and tower's `ServiceExt` can be imported
/// next to this trait. The futures that they return give [`Error`](crate::Error), whatever the transport's error type
/// is, so generic code can use `?`:
///
/// ```
/// use tower_transport::{Error, Message, Transport, TransportExt};
///
/// async fn ask(mut transport: impl Transport<Message, In = Message> + Unpin) -> Result<Option<Message>, Error> {
///     transport.send_message(Message::text("ready?")).await?;
///     Ok(transport.receive_message().await.transpose()?)
/// }
/// # let _ = ask(tower_transport::channel::<Message, Message>(1).0);
/// ```
pub trait TransportExt<Out>: Transport<Out> {
    /// Sends one message: waits until the transport is ready, gives it the message and flushes.
    ///
    /// To send many messages, use `feed` and `flush` of futures' `SinkExt`, or [`drive`](Self::drive), which shares
    /// flushes automatically. A flush is a system call and costs more than the message.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before the transport was ready, the message is not sent. If it is dropped later, the
    /// message is accepted and goes out with the next flush.
    fn send_message(&mut self, message: Out) -> SendMessage<'_, Self, Out>
    where
        Self: Unpin,
    {
        SendMessage { transport: self, message: Some(message) }
    }

    /// Receives one message. Returns `None` at the end of the transport.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    fn receive_message(&mut self) -> ReceiveMessage<'_, Self, Out>
    where
        Self: Unpin,
    {
        ReceiveMessage { transport: self, out: PhantomData }
    }

    /// Closes the transport with this code and reason, after flushing accepted messages.
    ///
    /// It works above any codec: the frame travels next to the messages, by [`signal::close_frame`]. A transport that
    /// has no close codes, or does not read that signal, is closed in its own way. For a driven transport, see
    /// [`Sender::close`](crate::Sender::close).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the transport half closed. Call this method or `poll_close` again to continue.
    ///
    /// ```
    /// # futures_util::FutureExt::now_or_never(async {
    /// use tower_transport::{CloseCode, CloseFrame, TransportExt, channel};
    ///
    /// let (mut here, mut there) = channel::<u32, u32>(1);
    /// here.close_with(CloseFrame::new(CloseCode::AWAY, "see you")).await?;
    /// assert!(there.receive_message().await.is_none());
    /// assert_eq!(there.close_frame().map(|frame| frame.code()), Some(CloseCode::AWAY));
    /// # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
    /// ```
    fn close_with(&mut self, frame: CloseFrame) -> CloseWith<'_, Self, Out>
    where
        Self: Unpin,
    {
        CloseWith { transport: self, frame, out: PhantomData }
    }

    /// Splits the transport into two halves without a task, for one reader and one writer.
    ///
    /// Both halves poll the same transport, one at a time. While one half is in the middle of a poll, a poll of the
    /// other returns `Pending` and is woken afterwards, and a message that is sent waits for the next poll of the
    /// writing half. No lock is held during a poll, so code of the transport or of a message may use the other half. A
    /// wake-up that one half caused for the other is passed on. Work that must happen while neither half polls (the
    /// answer to a ping, a heartbeat) does not happen; use [`drive`](Self::drive) for that, and for many writers.
    fn into_split(self) -> (SplitSink<Self, Out>, SplitStream<Self>)
    where
        Self: Sized,
    {
        split::split(self)
    }

    /// Drives the transport: returns many writers, one reader, and a driver that owns the transport and moves messages
    /// between it and them.
    ///
    /// Nothing moves until the driver is polled. [`Driven::spawn`] spawns it as a tokio task; [`Driven::into_parts`]
    /// returns it, to be spawned or polled elsewhere. See [`Driver`](crate::Driver) for its guarantees.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tower_transport::{Message, QueueConfig, TransportExt, channel};
    ///
    /// let (here, mut there) = channel::<Message, Message>(8);
    /// let (sender, _receiver, driver) = here.drive(QueueConfig::messages()).into_parts();
    /// tokio::spawn(driver);
    ///
    /// let second = sender.clone();
    /// sender.send(Message::text("from one task")).await?;
    /// second.send(Message::text("from another")).await?;
    /// assert_eq!(there.receive_message().await.unwrap()?, Message::text("from one task"));
    /// assert_eq!(there.receive_message().await.unwrap()?, Message::text("from another"));
    /// # Ok::<(), tower_transport::Error>(()) }).unwrap();
    /// ```
    fn drive(self, queue: QueueConfig<Out, Self::In>) -> Driven<Self, Out, Self::In>
    where
        Self: Sized,
    {
        Driven::new(self, queue)
    }

    /// Makes a stream of bytes of this transport of [`Message`](crate::Message)s, for protocols that run over
    /// `AsyncRead + AsyncWrite`: HTTP/2 and gRPC, MQTT, SSH. [`ByteStream`](super::ByteStream) has the rules of
    /// flushing and of the end.
    #[cfg(feature = "byte-stream")]
    #[cfg_attr(docsrs, doc(cfg(feature = "byte-stream")))]
    fn into_io(self) -> super::ByteStream<Self>
    where
        Self: Sized,
    {
        super::ByteStream::new(self)
    }

    /// Boxes the transport, for code that must name or store its type.
    fn into_boxed(self) -> BoxTransport<Out, Self::In>
    where
        Self: Sized + MaybeSend + 'static,
        Out: MaybeSend + 'static,
    {
        BoxTransport::new(self)
    }

    /// Wraps the transport in `layer`, or in a whole `ServiceBuilder` stack (which is a layer itself).
    fn layer<L>(self, layer: L) -> L::Service
    where
        Self: Sized,
        L: Layer<Self>,
    {
        layer.layer(self)
    }
}

impl<T, Out> TransportExt<Out> for T where T: Transport<Out> + ?Sized {}

/// The future of [`TransportExt::send_message`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct SendMessage<'a, T: ?Sized, Out> {
    transport: &'a mut T,
    message: Option<Out>,
}

impl<T: ?Sized, Out> Unpin for SendMessage<'_, T, Out> {}

impl<T, Out> Future for SendMessage<'_, T, Out>
where
    T: Transport<Out> + Unpin + ?Sized,
{
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut transport = Pin::new(&mut *this.transport);
        if this.message.is_some() {
            ready!(transport.as_mut().poll_ready(cx)).map_err(Into::into)?;
            if let Some(message) = this.message.take() {
                transport.as_mut().start_send(message).map_err(Into::into)?;
            }
        }
        transport.poll_flush(cx).map_err(Into::into)
    }
}

/// The future of [`TransportExt::close_with`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct CloseWith<'a, T: ?Sized, Out> {
    transport: &'a mut T,
    frame: CloseFrame,
    out: PhantomData<fn(Out)>,
}

impl<T, Out> Future for CloseWith<'_, T, Out>
where
    T: Transport<Out> + Unpin + ?Sized,
{
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        signal::with_close_frame(Some(&this.frame), || Pin::new(&mut *this.transport).poll_close(cx))
            .map_err(Into::into)
    }
}

pin_project! {
    /// The future of [`TransportExt::receive_message`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct ReceiveMessage<'a, T: ?Sized, Out> {
        transport: &'a mut T,
        out: PhantomData<fn(Out)>,
    }
}

impl<T, Out> Future for ReceiveMessage<'_, T, Out>
where
    T: Transport<Out> + Unpin + ?Sized,
{
    type Output = Option<Result<T::In, Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut **self.project().transport).poll_next(cx).map(|item| item.map(|item| item.map_err(Into::into)))
    }
}
