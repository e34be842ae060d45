//! Stacks as programs build them: in fields, behind names, in generic code, next to the traits of other libraries.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt};
use http::{Request, Response};
use serde::{Deserialize, Serialize};
use tower::{
    ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn, timeout::TimeoutLayer,
    util::BoxCloneSyncService,
};
use tower_http::{sensitive_headers::SetSensitiveRequestHeadersLayer, set_header::SetRequestHeaderLayer};
use tower_transport::{
    BoxTransport, Channel, Connect, Error, Message, QueueConfig, Receiver, Sender, ServiceBuilderExt, Transport,
    TransportExt, channel,
    codec::JsonCodec,
    layer::{
        batch::BatchPolicy,
        codec::Coded,
        compression::Deflate,
        heartbeat::{Heartbeat, HeartbeatLayer},
        limit::Limited,
        rate_limit::Quota,
        reconnect::{Backoff, ReconnectLayer, WhenLost},
        trace::Role,
    },
    service::{Client, Server},
    transport::websocket::WebSocketService,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
}

const QUOTA: Quota = Quota::per_second(NonZeroU32::new(500).unwrap());
const SECOND: Duration = Duration::from_secs(1);

type OnceConnector<T> = Arc<Mutex<Option<T>>>;

/// A connector that makes one connection, over a channel, and the other end of it.
fn connector() -> (impl Connect<Transport = Channel, ConnectError = Error, Future: Send> + Clone + Send + Sync, Channel)
{
    let (near, far) = channel::<Message, Message>(8);
    let near: OnceConnector<Channel> = Arc::new(Mutex::new(Some(near)));
    let connect = service_fn(move |_: Request<()>| {
        let transport = near.lock().unwrap().take().ok_or_else(|| Error::refused("one connection only"));
        async { transport.map(Response::new) }
    });
    (connect, far)
}

/// The server's end of an application: four layers, whose type can be named.
type ServerEnd<T> = Coded<Limited<Heartbeat<T>>, JsonCodec<Order>>;

fn server_end<T: Transport<Message, In = Message>>(transport: T) -> ServerEnd<T> {
    ServiceBuilder::new()
        .codec(JsonCodec::new())
        .limit(64 * 1024)
        .heartbeat(SECOND * 20, SECOND * 20)
        .service(transport)
}

/// 1. A connector with four layers for each connection, and two for the handshake.
#[tokio::test]
async fn a_connector_with_layers_on_two_planes() {
    let (connect, far) = connector();
    let mut connector = ServiceBuilder::new()
        .per_connection(
            ServiceBuilder::new()
                .codec(JsonCodec::<Order>::new())
                .limit(64 * 1024)
                .compress(Deflate::new())
                .heartbeat(SECOND * 20, SECOND * 20),
        )
        .layer(TimeoutLayer::new(SECOND * 5))
        .layer(SetRequestHeaderLayer::overriding(http::header::USER_AGENT, http::HeaderValue::from_static("test")))
        .service(connect);
    let mut near = connector.ready().await.unwrap().oneshot(Request::new(())).await.unwrap().into_body();
    let mut far = ServiceBuilder::new().codec(JsonCodec::<Order>::new()).compress(Deflate::new()).service(far);
    near.send_message(Order { id: 1 }).await.unwrap();
    assert_eq!(far.receive_message().await.unwrap().unwrap(), Order { id: 1 });
}

/// 2. The stack of the module `layer`.
#[tokio::test]
async fn a_client_that_reconnects_with_a_timeout_is_unpin_and_small() {
    fn is_unpin<T: Unpin>(_: &T) {}
    let (connect, mut far) = connector();
    let reconnect = ReconnectLayer::new("ws://localhost/feed", Backoff::exponential());
    let mut client = ServiceBuilder::new()
        .codec(JsonCodec::<Order>::new())
        .trace("feed", Role::Client)
        .limit(64 * 1024)
        .limit_rate(QUOTA)
        .layer(reconnect.when_lost(WhenLost::Drop))
        .resume()
        .per_connection(
            ServiceBuilder::new()
                .batch(BatchPolicy::on_flush(64))
                .compress(Deflate::new())
                .heartbeat(SECOND * 20, SECOND * 20),
        )
        .layer(TimeoutLayer::new(SECOND * 5))
        .service(connect);
    is_unpin(&client);
    // Its parts, from the largest: the reconnecting layer 1,320 bytes, the spans and metrics 620, the rate limit 290.
    let size = size_of_val(&client);
    assert!(size <= 2_800, "{size} bytes");
    // The other end does not know the resume layer, so no session begins. It has heard a hello, though.
    assert!(client.next().now_or_never().is_none());
    assert!(far.receive_message().await.unwrap().is_ok());
}

/// 3. Both ways to serve it, with state, and senders in a map.
#[tokio::test]
async fn a_server_with_four_layers() {
    #[derive(Clone, Default)]
    struct App {
        senders: Arc<Mutex<HashMap<u64, Sender<Order>>>>,
    }

    impl App {
        async fn serve<T>(self, transport: T) -> Result<(), Error>
        where
            T: Transport<Message, In = Message, TransportError: Send> + Send + 'static,
        {
            let (sender, mut receiver) = server_end(transport).drive(QueueConfig::values()).spawn();
            while let Some(order) = receiver.receive().await.transpose()? {
                self.senders.lock().unwrap().insert(order.id, sender.clone());
                sender.send(order).await?;
            }
            Ok(())
        }
    }

    let app = App::default();
    let for_axum = app.clone();
    let _: axum::Router = axum::Router::new().route(
        "/orders",
        axum::routing::get(|handshake: tower_transport::transport::websocket::WebSocketHandshake| async move {
            handshake.on_upgrade(|socket| async move { drop(for_axum.serve(socket).await) })
        }),
    );
    let for_hyper = app.clone();
    let handler = move |socket, _| {
        let app = for_hyper.clone();
        async move { drop(app.serve(socket).await) }
    };
    let _service = ServiceBuilder::new()
        .connection_limit(1000)
        .layer(SetSensitiveRequestHeadersLayer::new([http::header::COOKIE]))
        .service(WebSocketService::new(handler));

    let (near, far) = channel::<Message, Message>(8);
    let serving = tokio::spawn(app.clone().serve(far));
    let mut near = server_end(near);
    near.send_message(Order { id: 7 }).await.unwrap();
    assert_eq!(near.receive_message().await.unwrap().unwrap(), Order { id: 7 });
    assert!(app.senders.lock().unwrap().contains_key(&7));
    drop(near);
    serving.await.unwrap().unwrap();
}

/// 4. Calls, with tower's own layers.
#[tokio::test]
async fn calls_over_a_stack() {
    let (near, far) = channel::<Message, Message>(8);
    let near = ServiceBuilder::new().codec(JsonCodec::<Order, u64>::new()).service(near);
    let far = ServiceBuilder::new().codec(JsonCodec::<u64, Order>::new()).service(far);
    tokio::spawn(Server::in_order(far, service_fn(|order: Order| async move { Ok::<_, Error>(order.id + 1) })));
    let client = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(4))
        .layer(TimeoutLayer::new(SECOND))
        .service(Client::in_order(near));
    assert_eq!(client.oneshot(Order { id: 1 }).await.map_err(Error::from).unwrap(), 2);
}

/// 5. Erased, in fields.
#[tokio::test]
async fn boxed_transports_and_connectors_in_fields() {
    struct Feed {
        connector: BoxCloneSyncService<Request<()>, Response<BoxTransport<Order>>, Error>,
        current: Option<BoxTransport<Order>>,
        driven: Option<(Sender<Order>, Receiver<Order>)>,
    }

    let (connect, far) = connector();
    let connector = ServiceBuilder::new()
        .per_connection(ServiceBuilder::new().codec(JsonCodec::<Order>::new()).heartbeat(SECOND * 20, SECOND * 5))
        .service(connect)
        .map_response(|response: Response<_>| response.map(BoxTransport::new));
    let mut feed = Feed { connector: BoxCloneSyncService::new(connector), current: None, driven: None };
    feed.current = Some(feed.connector.clone().oneshot(Request::new(())).await.unwrap().into_body());
    let mut far = server_end(far);
    feed.current.as_mut().unwrap().send_message(Order { id: 1 }).await.unwrap();
    assert_eq!(far.receive_message().await.unwrap().unwrap(), Order { id: 1 });
    feed.driven = feed.current.take().map(|transport| transport.drive(QueueConfig::values()).spawn());
    far.send_message(Order { id: 2 }).await.unwrap();
    assert_eq!(feed.driven.as_mut().unwrap().1.receive().await.unwrap().unwrap(), Order { id: 2 });
}

/// 6. Generic over the transport, and over what connects.
#[tokio::test]
async fn generic_code_over_transports_and_connectors() {
    struct Session<T> {
        transport: T,
    }

    impl<T: Transport<Order, In = Order> + Unpin> Session<T> {
        async fn ask(&mut self, order: Order) -> Result<Option<Order>, Error> {
            self.transport.send_message(order).await?;
            self.transport.receive_message().await.transpose()
        }
    }

    async fn open(
        connector: impl Connect<Transport = impl Transport<Order, In = Order> + Unpin> + Clone,
    ) -> Result<Session<impl Transport<Order, In = Order> + Unpin>, Error> {
        let transport = connector.oneshot(Request::new(())).await.map_err(Into::into)?.into_body();
        Ok(Session { transport })
    }

    let (connect, far) = connector();
    let connector =
        ServiceBuilder::new().per_connection(ServiceBuilder::new().codec(JsonCodec::<Order>::new())).service(connect);
    let mut session = open(connector).await.unwrap();
    let mut far = server_end(far);
    far.send_message(Order { id: 2 }).await.unwrap();
    assert_eq!(session.ask(Order { id: 1 }).await.unwrap(), Some(Order { id: 2 }));
}

/// A layer that is on or off, at each place of a stack.
#[tokio::test]
async fn optional_layers_keep_one_type() {
    fn end(is_slow: bool, transport: Channel) -> impl Transport<Order, In = Order> + Unpin {
        ServiceBuilder::new()
            .codec(JsonCodec::<Order>::new())
            .optional(is_slow.then(HeartbeatLayer::default))
            .service(transport)
    }
    for is_slow in [false, true] {
        let (near, far) = channel::<Message, Message>(8);
        let (mut near, mut far) = (end(is_slow, near), end(!is_slow, far));
        near.send_message(Order { id: 1 }).await.unwrap();
        assert_eq!(far.receive_message().await.unwrap().unwrap(), Order { id: 1 });
    }
}

/// The names of this crate next to those of the libraries that programs use with it.
mod names {
    // As a program would that wants everything.
    #![allow(unused_imports)]
    use axum::extract::ws::*;
    use futures_util::{SinkExt, StreamExt, TryStreamExt};
    use tokio_tungstenite::tungstenite::*;
    use tower::{Layer, Service, ServiceBuilder, ServiceExt};
    use tower_http::ServiceBuilderExt as _;
    use tower_transport::{
        Message as OurMessage, ServiceBuilderExt as _, TransportExt as _, channel,
        layer::{auth::*, batch::*, compression::*, heartbeat::*, limit::*, rate_limit::*, reconnect::*, resume::*},
        transport::{sse::*, websocket::*, webtransport::*, *},
    };

    use super::QUOTA;

    /// `Send` is core's.
    fn is_send<T: Send>(_: &T) {}

    /// axum's extractor.
    fn _handler(upgrade: WebSocketUpgrade) -> axum::response::Response {
        upgrade.on_upgrade(|_socket| async {})
    }

    /// tungstenite's state machine.
    fn _context(context: protocol::WebSocketContext) {
        let _ = context.can_read();
    }

    #[tokio::test]
    async fn methods_of_both_can_be_called_without_qualification() {
        let (near, far) = channel::<OurMessage, OurMessage>(8);
        let near = ServiceBuilder::new().limit_rate(QUOTA).compress(Deflate::new()).service(near);
        let mut far = ServiceBuilder::new().compress(Deflate::new()).service(far);
        is_send(&near);
        // The halves of futures, and ours.
        let (mut sink, stream) = near.split();
        sink.send(OurMessage::text("futures")).await.unwrap();
        assert_eq!(far.receive_message().await.unwrap().unwrap(), OurMessage::text("futures"));
        let (mut to_near, from_near) = far.into_split();
        to_near.feed(OurMessage::text("ours")).await.unwrap();
        to_near.flush().await.unwrap();
        // The box of futures, and ours.
        let mut stream = stream.boxed();
        assert_eq!(stream.try_next().await.unwrap(), Some(OurMessage::text("ours")));
        drop((sink, stream, to_near, from_near));
        let (near, mut far) = channel::<OurMessage, OurMessage>(8);
        let mut near = near.into_boxed();
        near.send_message(OurMessage::text("boxed")).await.unwrap();
        assert_eq!(far.next().await.unwrap().unwrap(), OurMessage::text("boxed"));
        // tower-http's layer, by the method of its trait, and tower's box.
        let echo = tower::service_fn(|request: http::Request<String>| async move {
            Ok::<_, std::convert::Infallible>(http::Response::new(request.into_body()))
        });
        let service = ServiceBuilder::new().compression().service(echo);
        let response = service.oneshot(http::Request::new("plain".to_owned())).await.unwrap();
        assert_eq!(response.status(), 200);
    }
}
