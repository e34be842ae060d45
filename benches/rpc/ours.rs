//! Both ends are a `Peer` of this crate, with the crate's own wire.

use std::future::ready;

use harness::loopback::Loopback;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_transport::{
    Limits, ServiceBuilderExt, Transport,
    codec::MessagePackCodec,
    service::peer::{Caller, Frame, Frames, PeerBuilder, unary},
    transport::websocket::WebSocket,
};

use crate::{PAYLOAD, Payload, load::Calls};

pub(crate) type Wire = Frames<Payload, Payload, String>;
pub(crate) type Messages = Frame<Payload, Payload, String>;

pub(crate) fn start<T>(transport: T) -> Caller<Wire>
where
    T: Transport<Messages, In = Messages, TransportError: Send> + Send + 'static,
{
    let echo = service_fn(|payload: Payload| ready(Ok::<_, String>(payload)));
    let (caller, peer) = PeerBuilder::new(Wire::new()).build(transport, unary(echo));
    tokio::spawn(peer);
    caller
}

impl Calls for Caller<Wire> {
    async fn call(&mut self) {
        let answer = self.ready().await.expect("a place");
        assert_eq!(Service::call(answer, PAYLOAD).await.expect("an answer"), PAYLOAD);
    }
}

/// Both ends of a WebSocket over TCP, with a codec.
pub(crate) async fn ends() -> [impl Transport<Messages, In = Messages, TransportError: Send> + Send + Unpin + 'static; 2]
{
    let (client, server) = Loopback::bind().await.connect().await;
    let codec = || ServiceBuilder::new().codec(MessagePackCodec::<Messages>::new());
    [
        codec().service(WebSocket::client(client, Limits::default())),
        codec().service(WebSocket::server(server, Limits::default())),
    ]
}

pub(crate) async fn web_socket() -> Caller<Wire> {
    let [client, server] = ends().await;
    start(server);
    start(client)
}

pub(crate) async fn channel() -> Caller<Wire> {
    let (here, there) = tower_transport::channel(128);
    start(there);
    start(here)
}
