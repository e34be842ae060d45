use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::{connector::Connector, handle::OptimizedHandle, layers::Outer, metrics::StackMetrics};
#[cfg(not(target_arch = "wasm32"))]
use super::{layers::ServerLink, shutdown::GracefulShutdown};
#[cfg(not(target_arch = "wasm32"))]
use crate::layer::optional::Optional;
use crate::{
    Error, MaybeSend, Message, QueueConfig, Receiver, Sender, Transport, TransportExt,
    layer::reconnect::{Reconnect, State},
    rt,
    stack::Capabilities,
    transport::websocket::WebSocket,
};

type ClientStack<T> = Outer<Reconnect<Connector<T>>>;
#[cfg(not(target_arch = "wasm32"))]
type ServerStack<T> = Outer<ServerLink<T>>;
/// Boxed once, because a stack takes some kilobytes and is moved into a driver and into a task.
#[cfg(not(target_arch = "wasm32"))]
type Stack<T> = Optional<Pin<Box<ClientStack<T>>>, Pin<Box<ServerStack<T>>>>;
#[cfg(target_arch = "wasm32")]
type Stack<T> = Pin<Box<ClientStack<T>>>;

/// The recommended stack over a WebSocket (or any other transport of messages), on either end. The [module](super)
/// describes its layers.
///
/// It is a [`Transport`](crate::Transport) of [`Message`]s. Your own layers, such as a codec, go on top.
// The bounds are needed to name the connector's future.
pub struct OptimizedTransport<T = WebSocket>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin + MaybeSend + 'static,
{
    inner: Stack<T>,
    /// On a server, the link to the acceptor's shutdown.
    #[cfg(not(target_arch = "wasm32"))]
    shutdown: Option<Box<GracefulShutdown>>,
    handle: OptimizedHandle,
    queue: QueueConfig<Message>,
    metrics: Arc<StackMetrics>,
}

impl<T> OptimizedTransport<T>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin + MaybeSend + 'static,
{
    pub(super) fn client(
        stack: ClientStack<T>,
        handle: OptimizedHandle,
        queue: QueueConfig<Message>,
        metrics: Arc<StackMetrics>,
    ) -> Self {
        let stack = Box::pin(stack);
        #[cfg(not(target_arch = "wasm32"))]
        return Self { inner: Optional::On { transport: stack }, shutdown: None, handle, queue, metrics };
        #[cfg(target_arch = "wasm32")]
        return Self { inner: stack, handle, queue, metrics };
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn server(
        stack: ServerStack<T>,
        shutdown: GracefulShutdown,
        handle: OptimizedHandle,
        queue: QueueConfig<Message>,
        metrics: Arc<StackMetrics>,
    ) -> Self {
        let (inner, shutdown) = (Optional::Off { transport: Box::pin(stack) }, Some(Box::new(shutdown)));
        Self { inner, shutdown, handle, queue, metrics }
    }

    /// Returns the capabilities of the latest connection.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.handle.capabilities()
    }

    /// Returns a handle to the status of this transport.
    #[must_use]
    pub fn handle(&self) -> OptimizedHandle {
        self.handle.clone()
    }

    /// Splits the transport into two halves. The whole stack is [driven](TransportExt::drive) by a task that is spawned
    /// here. Any number of tasks may write by clones of the [`Sender`], whose queue is bounded
    /// ([`OptimizedBuilder::queue`](super::OptimizedBuilder::queue)). Queued messages share one flush.
    ///
    /// The task ends with the transport, or when the last sender is dropped and everything that was queued is sent.
    ///
    /// # Panics
    ///
    /// Panics natively outside a tokio runtime, as `tokio::spawn` does.
    #[must_use = "dropping the halves closes the transport"]
    pub fn split(self) -> (Sender<Message>, Receiver<Message>) {
        let (queue, metrics) = (self.queue.clone(), self.metrics.clone());
        // Not `spawn` of the driver alone: the guard of the metrics has to live as long as the task.
        let (sender, receiver, driver) = self.drive(queue).into_parts();
        // A client that has not connected yet has not found a recorder yet.
        metrics.start();
        let watched = metrics.watch(sender.depth());
        rt::detach(async move {
            let _watched = watched;
            // The sender and the receiver have reported the outcome to their owners already.
            let _ = driver.await;
        });
        (sender, receiver)
    }

    /// Waits for a client's first connection, or for the first attempt to fail.
    pub(super) async fn connected(mut self) -> Result<Self, Error> {
        std::future::poll_fn(|cx| {
            // Polling makes it connect. An error here is also recorded in the state.
            let _ = Pin::new(&mut self).poll_flush(cx);
            match self.handle.state() {
                State::Connected => Poll::Ready(Ok(())),
                State::Reconnecting { cause, .. } | State::Failed { cause } => Poll::Ready(Err(cause)),
                State::Connecting { .. } | State::Disconnected => Poll::Pending,
            }
        })
        .await?;
        Ok(self)
    }
}

impl<T> Stream for OptimizedTransport<T>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin + MaybeSend + 'static,
{
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let inner = Pin::new(&mut this.inner);
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(shutdown) = &mut this.shutdown {
            return shutdown.poll_next(inner, cx);
        }
        inner.poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl<T> Sink<Message> for OptimizedTransport<T>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin + MaybeSend + 'static,
{
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        let inner = Pin::new(&mut this.inner);
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(shutdown) = &mut this.shutdown {
            return shutdown.poll_ready(inner, cx);
        }
        inner.poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        // This check comes before all layers: a compressed or batched message counts with its size at the other end.
        let (len, limit) = (message.len(), self.handle.status.max_message());
        if len > limit as usize && message.is_data() {
            return Err(too_large(len, limit));
        }
        let this = &mut *self;
        let inner = Pin::new(&mut this.inner);
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(shutdown) = &mut this.shutdown {
            return shutdown.start_send(inner, message);
        }
        inner.start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        let inner = Pin::new(&mut this.inner);
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(shutdown) = &mut this.shutdown {
            return shutdown.poll_flush(inner, cx);
        }
        inner.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        let inner = Pin::new(&mut this.inner);
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(shutdown) = &mut this.shutdown {
            return shutdown.poll_close(inner, cx);
        }
        inner.poll_close(cx)
    }
}

impl<T> fmt::Debug for OptimizedTransport<T>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin + MaybeSend + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptimizedTransport").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// Returns the error of a message of `len` bytes for a peer that accepts `limit`.
fn too_large(len: usize, limit: u32) -> Error {
    Error::too_large(format!(
        "an outgoing message of {len} bytes is over the {limit} bytes that the peer accepts, and was not sent: send \
         less at once, or raise the peer's Limits::message"
    ))
    .into_rejection()
}
