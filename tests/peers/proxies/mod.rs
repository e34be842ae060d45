//! nginx, HAProxy and Envoy with the configurations of the deployment guide, between our clients and our servers, over
//! TLS. Only addresses, files and times are replaced.

mod client_address;
mod proxy;
mod site;

use std::time::Duration;

use futures_util::future::join;
use http::{Request, StatusCode};
use tower::{Layer, ServiceExt};
use tower_transport::{
    Error, Message, Transport, TransportExt,
    layer::heartbeat::HeartbeatLayer,
    layer::reconnect::Backoff,
    stack::OptimizedTransport,
    transport::{
        sse::{SseConnector, SseDuplexConnector},
        websocket::{Http2, PerMessageDeflate, WebSocket, WebSocketConnector},
    },
};

use self::{
    proxy::{Kind, Proxy},
    site::Site,
};
use crate::within;

/// The idle timeouts of the proxies in these tests, and the interval of everything that keeps a connection alive.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
const ALIVE: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(7);

#[test]
fn the_guide_shows_the_configurations_that_are_tested() {
    let guide = include_str!("../../../docs/guide/deployment.md");
    for kind in [Kind::Nginx, Kind::Haproxy, Kind::Envoy] {
        assert!(guide.contains(kind.configuration()), "the guide has another configuration of {kind:?}");
    }
}

/// One test for each proxy.
macro_rules! with_each_proxy {
    ($($test:ident)*) => {
        mod nginx { with_each_proxy!(@ Nginx $($test)*); }
        mod haproxy { with_each_proxy!(@ Haproxy $($test)*); }
        mod envoy { with_each_proxy!(@ Envoy $($test)*); }
    };
    (@ $kind:ident $($test:ident)*) => {$(
        #[tokio::test]
        async fn $test() {
            let site = super::Site::start().await;
            let Some(proxy) = super::Proxy::start(super::Kind::$kind, &site).await else { return };
            super::within(super::$test(site, proxy)).await;
        }
    )*};
}

with_each_proxy! {
    a_websocket_carries_two_megabytes_both_ways
    a_compressed_websocket_carries_two_megabytes_both_ways
    websockets_share_an_http_2_connection_where_the_proxy_accepts_that
    a_page_of_the_same_origin_is_accepted_and_another_is_not
    heartbeats_keep_an_idle_websocket_open
    an_idle_websocket_without_heartbeats_is_cut
    sse_with_post_carries_two_megabytes_both_ways
    sse_with_post_survives_idle_time
    events_arrive_at_once_and_the_stream_survives_idle_time
    a_reload_of_the_proxy_loses_no_message
}

async fn websocket(site: &Site, proxy: &Proxy) -> WebSocket {
    let request = Request::get(proxy.url("wss", "/ws")).body(()).unwrap();
    WebSocketConnector::new().tls(site.client()).oneshot(request).await.unwrap().into_body()
}

/// Sends a message through the proxy and back.
async fn echoed<T>(transport: &mut T, message: Message)
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    transport.send_message(message.clone()).await.unwrap();
    loop {
        let answer = transport.receive_message().await.unwrap().unwrap();
        if answer.is_data() {
            assert!(answer == message, "another message came back");
            return;
        }
    }
}

fn large() -> Message {
    Message::binary((0..2_000_000).map(|i| (i % 251) as u8).collect::<Vec<_>>())
}

async fn a_websocket_carries_two_megabytes_both_ways(site: Site, proxy: Proxy) {
    let mut socket = websocket(&site, &proxy).await;
    echoed(&mut socket, Message::text("hello")).await;
    echoed(&mut socket, large()).await;
}

async fn a_compressed_websocket_carries_two_megabytes_both_ways(site: Site, proxy: Proxy) {
    let request = Request::get(proxy.url("wss", "/ws")).body(()).unwrap();
    let connector = WebSocketConnector::new().tls(site.client()).per_message_deflate(PerMessageDeflate::new());
    let mut socket = connector.oneshot(request).await.unwrap().into_body();
    let negotiated = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!(socket.extensions(), Some(negotiated));
    echoed(&mut socket, Message::text("hello, ".repeat(1000))).await;
    echoed(&mut socket, large()).await;
}

/// HAProxy and Envoy do (RFC 8441), and forward an upgrade of HTTP/1.1. nginx does not, and the connector falls back.
async fn websockets_share_an_http_2_connection_where_the_proxy_accepts_that(site: Site, proxy: Proxy) {
    let connector = WebSocketConnector::new().tls(site.client()).http2(Http2::new());
    let expected = if matches!(proxy.kind(), Kind::Nginx) { 101 } else { 200 };
    let mut sockets = Vec::new();
    for _ in 0..5 {
        let request = Request::get(proxy.url("wss", "/ws")).header("origin", proxy.url("https", ""));
        let response = connector.clone().oneshot(request.body(()).unwrap()).await.unwrap();
        assert_eq!(response.status(), expected);
        sockets.push(response.into_body());
    }
    for socket in &mut sockets {
        echoed(socket, Message::text("hello")).await;
    }
    echoed(&mut sockets[0], large()).await;
    for mut socket in sockets {
        socket.close(None).await.unwrap();
    }
    let request = Request::get(proxy.url("wss", "/ws")).header("origin", "https://elsewhere.example");
    let error = connector.oneshot(request.body(()).unwrap()).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::FORBIDDEN));
}

async fn a_page_of_the_same_origin_is_accepted_and_another_is_not(site: Site, proxy: Proxy) {
    let open = async |origin: String| {
        let request = Request::get(proxy.url("wss", "/ws")).header("origin", origin).body(()).unwrap();
        WebSocketConnector::new().tls(site.client()).oneshot(request).await
    };
    open(proxy.url("https", "")).await.unwrap();
    let error = open("https://elsewhere.example".to_owned()).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::FORBIDDEN));
}

async fn heartbeats_keep_an_idle_websocket_open(site: Site, proxy: Proxy) {
    let mut socket = HeartbeatLayer::new(ALIVE, QUIET).layer(websocket(&site, &proxy).await);
    let idle = tokio::time::timeout(QUIET, socket.receive_message()).await;
    assert!(idle.is_err(), "{idle:?}");
    echoed(&mut socket, Message::text("still here")).await;
}

async fn an_idle_websocket_without_heartbeats_is_cut(site: Site, proxy: Proxy) {
    let mut socket = websocket(&site, &proxy).await;
    let end = socket.receive_message().await;
    assert!(end.as_ref().is_none_or(|end| end.is_err()), "{end:?}");
}

async fn sse_with_post(site: &Site, proxy: &Proxy) -> impl Transport<Message, In = Message, TransportError = Error> {
    let request = Request::get(proxy.url("https", "/sse")).body(()).unwrap();
    SseDuplexConnector::new().tls(site.client()).oneshot(request).await.unwrap().into_body()
}

async fn sse_with_post_carries_two_megabytes_both_ways(site: Site, proxy: Proxy) {
    let mut session = Box::pin(sse_with_post(&site, &proxy).await);
    echoed(&mut session, Message::text("hello")).await;
    echoed(&mut session, large()).await;
}

async fn sse_with_post_survives_idle_time(site: Site, proxy: Proxy) {
    let mut session = Box::pin(sse_with_post(&site, &proxy).await);
    let idle = tokio::time::timeout(QUIET, session.receive_message()).await;
    assert!(idle.is_err(), "{idle:?}");
    echoed(&mut session, Message::text("still here")).await;
}

async fn events_arrive_at_once_and_the_stream_survives_idle_time(site: Site, proxy: Proxy) {
    let request = Request::get(proxy.url("https", "/events")).body(()).unwrap();
    let mut events = SseConnector::new().tls(site.client()).oneshot(request).await.unwrap().into_body();
    // The second event is only sent once the first has been seen, so neither may wait in a buffer.
    assert_eq!(events.receive_message().await.unwrap().unwrap().data(), "first");
    let idle = tokio::time::timeout(QUIET, events.receive_message()).await;
    assert!(idle.is_err(), "{idle:?}");
    site.publish("second").await;
    assert_eq!(events.receive_message().await.unwrap().unwrap().data(), "second");
}

/// The proxy ends the connections of its old processes after a reload; the session goes on over another connection.
async fn a_reload_of_the_proxy_loses_no_message(site: Site, proxy: Proxy) {
    const MESSAGES: usize = 400;

    let connector = WebSocketConnector::new().tls(site.client());
    let builder = OptimizedTransport::builder().backoff(Backoff::fixed(Duration::from_millis(50)));
    let transport = builder.connect_with(connector, &*proxy.url("wss", "/session")).await.unwrap();
    let handle = transport.handle();
    let (sender, mut receiver) = transport.split();
    let write = async {
        for number in 0..MESSAGES {
            if number == MESSAGES / 4 {
                proxy.reload();
            }
            sender.send(Message::text(number.to_string())).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let read = async {
        for number in 0..MESSAGES {
            let answer = receiver.receive().await.unwrap().unwrap();
            assert_eq!(answer, Message::text(number.to_string()), "a gap or a duplicate");
        }
    };
    join(write, read).await;
    assert!(handle.reconnect().unwrap().connections() > 1, "the proxy did not end the old connection");
}
