//! The interface of a contestant.

use std::future::Future;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tower_transport::{Error, Message, Transport};

/// One end of a connection. The scenarios are generic over its type, so that nothing is boxed on a message's path.
pub(crate) trait End: Send + 'static {
    /// Hands over one binary message; a flush sends it.
    fn send(&mut self, payload: &Bytes) -> impl Future<Output = ()> + Send;

    fn flush(&mut self) -> impl Future<Output = ()> + Send;

    /// Receives one message and tells its length; `None` at the end.
    fn receive(&mut self) -> impl Future<Output = Option<usize>> + Send;
}

/// Every transport of this crate.
impl<T> End for T
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin + Send + 'static,
{
    async fn send(&mut self, payload: &Bytes) {
        self.feed(Message::binary(payload.clone())).await.expect("the peer is there");
    }

    async fn flush(&mut self) {
        SinkExt::flush(self).await.expect("the peer is there");
    }

    async fn receive(&mut self) -> Option<usize> {
        self.next().await?.ok().map(|message| message.len())
    }
}

/// Two ends that are connected.
pub(crate) trait Contestant: 'static {
    /// Whether messages may be lost. Then only those are counted that arrive.
    const IS_LOSSY: bool = false;

    type Near: End;
    type Far: End;

    fn pair() -> impl Future<Output = (Self::Near, Self::Far)> + Send;
}

/// Where a server is, and what its certificate is known by: what another process is told.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) url: String,
    pub(crate) trust: String,
}

impl Address {
    pub(crate) fn request(&self) -> http::Request<()> {
        http::Request::get(&self.url).body(()).expect("a good URL")
    }
}

/// A transport between two processes.
pub(crate) trait Network: 'static {
    const IS_LOSSY: bool = false;

    type Near: End;
    type Far: End;
    type Client: Send + Sync;

    /// A server, whose ends come one after the other.
    fn listen() -> impl Future<Output = (Address, UnboundedReceiver<Self::Far>)> + Send;

    /// The connector, created once.
    fn client(address: &Address) -> Self::Client;

    fn connect<'a>(client: &'a Self::Client, address: &'a Address) -> impl Future<Output = Self::Near> + Send + 'a;
}

impl<N: Network> Contestant for N {
    const IS_LOSSY: bool = N::IS_LOSSY;

    type Near = N::Near;
    type Far = N::Far;

    async fn pair() -> (N::Near, N::Far) {
        let (address, mut ends) = N::listen().await;
        let near = N::connect(&N::client(&address), &address).await;
        // Some servers hear of a stream only when something comes on it.
        (near, ends.recv().await.expect("a server"))
    }
}
