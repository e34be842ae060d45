//! `ConnectionLimitLayer` limits connections without the help of any handler.

use std::{net::Ipv4Addr, time::Duration};

use axum::{Router, routing::any};
use futures_util::{SinkExt, StreamExt, future::BoxFuture};
use http::{Method, Request, StatusCode};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_transport::{
    Connect, Error, Message, Transport, TransportExt,
    handshake::limit::{ConnectionLimitLayer, ConnectionPermit},
    stack::{AdaptiveTransport, OptimizedAcceptor, OptimizedTransport, TransportKind, adaptive::SessionServer},
    transport::{
        sse::{Event, EventStream, SseConnector, SseDuplexConnector, SseDuplexServer},
        websocket::{WebSocketConnector, WebSocketHandshake, WebSocketService},
        webtransport::{Certificate, WebTransportConnector, WebTransportServer},
    },
};

use super::{serve, serve_axum};
use support::{echo, within};

const LIMIT: usize = 2;
const TRIED: usize = 20;

/// A client that keeps what it has opened.
type Open = Box<dyn FnMut() -> BoxFuture<'static, Result<Box<dyn Send>, Error>>>;

fn client<C>(connector: C, url: String) -> Open
where
    C: Connect<ConnectError = Error, Transport: Send + 'static> + Clone + Send + 'static,
    C::Future: Send,
{
    Box::new(move || {
        let (connector, url) = (connector.clone(), url.clone());
        Box::pin(async move {
            let request = Request::get(url).body(()).unwrap();
            Ok(Box::new(connector.oneshot(request).await?) as Box<dyn Send>)
        })
    })
}

/// Tries, and gives how many are open, with the places that they take. Then all leave, and one more must get in.
async fn limits(limit: &ConnectionLimitLayer, mut open: Open) {
    let mut opened = Vec::new();
    for _ in 0..TRIED {
        match open().await {
            Ok(connection) => opened.push(connection),
            Err(error) => assert_eq!(error.status(), Some(StatusCode::SERVICE_UNAVAILABLE), "{error}"),
        }
        // Handlers have had their time to drop what they do not want.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    println!("limit {LIMIT}, {TRIED} tried: {} open, {} counted", opened.len(), limit.connections());
    assert_eq!((opened.len(), limit.connections()), (LIMIT, LIMIT));
    drop(opened);
    while limit.connections() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(open().await.is_ok());
}

/// Reads until the peer is gone.
async fn read_on<T: Transport<Message> + Unpin>(mut transport: T) {
    while let Some(Ok(_)) = transport.next().await {}
}

fn web_socket(address: std::net::SocketAddr, path: &str) -> Open {
    client(WebSocketConnector::new(), format!("ws://{address}{path}"))
}

#[tokio::test]
async fn a_handler_that_ignores_its_parts_is_limited() {
    let limit = ConnectionLimitLayer::new(LIMIT);
    let address = serve(limit.layer(WebSocketService::new(|socket, _parts| read_on(socket)))).await;
    within(limits(&limit, web_socket(address, "/"))).await;
}

#[tokio::test]
async fn a_handler_that_hands_its_socket_to_another_task_and_ends_is_limited() {
    let limit = ConnectionLimitLayer::new(LIMIT);
    let upgrade = WebSocketService::new(|socket, _| async move {
        tokio::spawn(read_on(socket));
    });
    let address = serve(limit.layer(upgrade)).await;
    within(limits(&limit, web_socket(address, "/"))).await;
}

#[tokio::test]
async fn a_handler_that_keeps_its_parts_past_the_connection_does_not_keep_its_place() {
    let limit = ConnectionLimitLayer::new(LIMIT);
    let upgrade = WebSocketService::new(|socket, parts: http::request::Parts| async move {
        assert!(parts.extensions.get::<ConnectionPermit>().is_none());
        read_on(socket).await;
        std::future::pending::<()>().await;
        drop(parts);
    });
    let address = serve(limit.layer(upgrade)).await;
    within(limits(&limit, web_socket(address, "/"))).await;
}

#[tokio::test]
async fn the_axum_extractor_is_limited_and_so_is_a_route_service() {
    async fn handler(handshake: WebSocketHandshake) -> axum::response::Response {
        handshake.on_upgrade(read_on)
    }
    let limit = ConnectionLimitLayer::new(LIMIT);
    let address = serve_axum(Router::new().route("/", any(handler)).layer(limit.clone())).await;
    within(limits(&limit, web_socket(address, "/"))).await;

    let limit = ConnectionLimitLayer::new(LIMIT);
    let upgrade = WebSocketService::new(|socket, _| read_on(socket));
    let address = serve_axum(Router::new().route_service("/", upgrade).layer(limit.clone())).await;
    within(limits(&limit, web_socket(address, "/"))).await;
}

/// A stream of one event that does not end.
fn events() -> EventStream<impl futures_util::Stream<Item = Result<Event, std::convert::Infallible>> + Send> {
    EventStream::new(futures_util::stream::iter([Ok(Event::new("hello"))]).chain(futures_util::stream::pending()))
}

fn event_source(address: std::net::SocketAddr) -> Open {
    client(SseConnector::new(), format!("http://{address}/"))
}

#[tokio::test]
async fn an_event_stream_is_limited_in_hyper_and_in_axum() {
    let limit = ConnectionLimitLayer::new(LIMIT);
    let service = tower::service_fn(|_: Request<hyper::body::Incoming>| async {
        Ok::<_, std::convert::Infallible>(events().into_response())
    });
    let address = serve(limit.layer(service)).await;
    within(limits(&limit, event_source(address))).await;

    let limit = ConnectionLimitLayer::new(LIMIT);
    let app = Router::new().route("/", axum::routing::get(async || events())).layer(limit.clone());
    within(limits(&limit, event_source(serve_axum(app).await))).await;
}

#[tokio::test]
async fn a_body_that_a_client_does_not_read_is_limited() {
    let limit = ConnectionLimitLayer::new(LIMIT);
    let download = async || {
        let chunk = bytes::Bytes::from(vec![b'x'; 64 << 10]);
        let chunks = futures_util::stream::repeat(Ok::<_, std::convert::Infallible>(chunk));
        axum::body::Body::from_stream(chunks)
    };
    let app = Router::new().route("/", axum::routing::get(download));
    let address = serve_axum(app.layer(limit.clone())).await;
    let mut open = Vec::new();
    for _ in 0..LIMIT {
        let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut tcp, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        tokio::io::AsyncReadExt::read_u8(&mut tcp).await.unwrap();
        open.push(tcp);
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(limit.connections(), LIMIT);
    drop(open);
    within(async {
        while limit.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn two_limits_one_around_the_other_both_hold() {
    let (outer, inner) = (ConnectionLimitLayer::new(LIMIT), ConnectionLimitLayer::new(LIMIT + 1));
    let layers = ServiceBuilder::new().layer(outer.clone()).layer(inner.clone());
    let address = serve(layers.service(WebSocketService::new(|socket, _| read_on(socket)))).await;
    within(limits(&outer, web_socket(address, "/"))).await;
    assert!(inner.connections() <= LIMIT);
}

#[tokio::test]
async fn sessions_of_sse_with_post_are_limited() {
    let limit = ConnectionLimitLayer::new(LIMIT);
    let address = serve(limit.layer(SseDuplexServer::new(|session, _| read_on(session)))).await;
    let open = client(SseDuplexConnector::new(), format!("http://{address}/"));
    within(limits(&limit, open)).await;
}

/// Opens as many sessions as the limit allows, over SSE. Each must exchange messages while the server is full, by POSTs
/// that take no place, and another session must not get in.
async fn a_full_server_serves_its_sessions(limit: &ConnectionLimitLayer, url: &str) {
    let get = || Request::get(url).body(()).unwrap();
    let mut sessions = Vec::new();
    for _ in 0..LIMIT {
        sessions.push(SseDuplexConnector::new().oneshot(get()).await.unwrap().into_body());
    }
    for text in ["first", "second"] {
        for session in &mut sessions {
            session.send(Message::text(text)).await.unwrap();
            let echo = session.receive_message().await.unwrap().unwrap();
            assert_eq!(echo.as_text(), Some(text));
            assert_eq!(limit.connections(), LIMIT);
        }
        let error = SseDuplexConnector::new().oneshot(get()).await.unwrap_err();
        assert_eq!(error.status(), Some(StatusCode::SERVICE_UNAVAILABLE), "{error}");
    }
}

#[tokio::test]
async fn a_full_server_accepts_the_posts_of_its_sse_sessions() {
    let limit = ConnectionLimitLayer::new(LIMIT);
    let address = serve(limit.layer(SseDuplexServer::new(|session, _| echo(session)))).await;
    within(a_full_server_serves_its_sessions(&limit, &format!("http://{address}/"))).await;
}

#[tokio::test]
async fn a_key_with_all_its_connections_may_send_the_posts_of_its_sse_sessions() {
    let limit = ConnectionLimitLayer::new(LIMIT).per_key(1, |_| Some(()));
    let address = serve(limit.layer(SseDuplexServer::new(|session, _| echo(session)))).await;
    let get = || Request::get(format!("http://{address}/")).body(()).unwrap();
    within(async {
        let mut session = SseDuplexConnector::new().oneshot(get()).await.unwrap().into_body();
        session.send(Message::text("up")).await.unwrap();
        assert_eq!(session.receive_message().await.unwrap().unwrap().as_text(), Some("up"));
        let error = SseDuplexConnector::new().oneshot(get()).await.unwrap_err();
        assert_eq!(error.status(), Some(StatusCode::TOO_MANY_REQUESTS), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_full_session_server_accepts_the_posts_of_its_sse_sessions_with_the_limit_around_it_and_in_its_guard() {
    for is_around in [true, false] {
        let limit = ConnectionLimitLayer::new(LIMIT);
        // Any subprotocol is accepted, and the handler gets the bare transport.
        let acceptor: OptimizedAcceptor<AdaptiveTransport> = OptimizedTransport::builder().acceptor();
        let server = SessionServer::new(acceptor, |session, _| echo(session));
        let address = match is_around {
            true => serve(limit.layer(server.http())).await,
            false => serve(server.guard(limit.clone()).http()).await,
        };
        within(a_full_server_serves_its_sessions(&limit, &format!("http://{address}/sse"))).await;
    }
}

#[tokio::test]
async fn the_head_of_a_post_with_messages_opens_nothing_and_takes_no_place() {
    type Body = http_body_util::Full<bytes::Bytes>;
    let limit = ConnectionLimitLayer::new(0);
    let service = limit.layer(SseDuplexServer::new(|session, _| read_on(session)));
    let upgrade = limit.layer(WebSocketService::new(|socket, _| read_on(socket)));
    let request = |method, kind: &str| {
        Request::builder()
            .method(method)
            .uri("/")
            .header("host", "a")
            .header("content-type", kind)
            .header("accept", "text/event-stream")
            .header("tower-transport-sequence", "0")
            .header("tower-transport-session", "AAAAAAAAAAAAAAAAAAAAAA")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(Body::default())
            .unwrap()
    };
    let messages = "application/vnd.tower-transport.messages";
    // A preflight of a page of another origin, without which a browser sends no POST, takes no place either.
    for (method, kind, sse, web_socket) in [
        (Method::POST, messages, StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED),
        (Method::OPTIONS, messages, StatusCode::NO_CONTENT, StatusCode::METHOD_NOT_ALLOWED),
        (Method::POST, "text/plain", StatusCode::SERVICE_UNAVAILABLE, StatusCode::SERVICE_UNAVAILABLE),
        (Method::GET, messages, StatusCode::SERVICE_UNAVAILABLE, StatusCode::SERVICE_UNAVAILABLE),
        (Method::PUT, messages, StatusCode::SERVICE_UNAVAILABLE, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let response = service.clone().oneshot(request(method.clone(), kind)).await.unwrap();
        assert_eq!(response.status(), sse, "{method} {kind}");
        let response = upgrade.clone().oneshot(request(method.clone(), kind)).await.unwrap();
        assert_eq!(response.status(), web_socket, "{method} {kind}");
        assert_eq!(service.get_ref().session_count(), 0);
    }
}

#[tokio::test]
async fn an_optimized_acceptor_is_limited() {
    let acceptor: OptimizedAcceptor = OptimizedTransport::builder().acceptor();
    let limit = ConnectionLimitLayer::new(LIMIT);
    let address = serve(limit.layer(acceptor.upgrade(|session, _| read_on(session)))).await;
    let open: Open = Box::new(move || {
        Box::pin(async move {
            let transport = OptimizedTransport::connect(&format!("ws://{address}/")).await?;
            Ok(Box::new(transport) as Box<dyn Send>)
        })
    });
    within(limits(&limit, open)).await;
}

/// A server of all three transports, behind the limit, and a client of each.
async fn session_server(limit: &ConnectionLimitLayer) -> Vec<(TransportKind, Open)> {
    let acceptor: OptimizedAcceptor<AdaptiveTransport> = OptimizedTransport::builder().acceptor();
    let server = SessionServer::new(acceptor, |session, _| read_on(session)).guard(limit.clone());
    let http = serve(server.http()).await;
    let certificate = Certificate::development(&["localhost", "127.0.0.1"]).unwrap();
    let connector = WebTransportConnector::new().certificate_hashes([certificate.hash()]);
    let endpoint = WebTransportServer::bind((Ipv4Addr::LOCALHOST, 0).into(), certificate).unwrap();
    let udp = endpoint.local_addr().unwrap();
    tokio::spawn(server.web_transport(endpoint));
    vec![
        (TransportKind::WebSocket, web_socket(http, "/ws")),
        (TransportKind::Sse, client(SseDuplexConnector::new(), format!("http://{http}/sse"))),
        (TransportKind::WebTransport, client(connector, format!("https://{udp}/wt"))),
    ]
}

#[tokio::test]
async fn a_session_server_is_limited_over_each_of_its_transports() {
    let limit = ConnectionLimitLayer::new(LIMIT);
    for (kind, open) in session_server(&limit).await {
        println!("{kind}");
        within(limits(&limit, open)).await;
        within(async {
            while limit.connections() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_web_transport_session_holds_the_place_in_the_parts_of_its_request() {
    let certificate = Certificate::development(&["127.0.0.1"]).unwrap();
    let connector = WebTransportConnector::new().certificate_hashes([certificate.hash()]);
    let mut server = WebTransportServer::bind((Ipv4Addr::LOCALHOST, 0).into(), certificate).unwrap();
    let url = format!("https://{}/", server.local_addr().unwrap());
    let held = std::sync::Arc::new(());
    let request = Request::get(url).body(()).unwrap();
    let connecting = tokio::spawn(async move { connector.connect_session(request).await.map(drop) });
    let mut incoming = within(server.accept()).await.unwrap();
    incoming.parts_mut().extensions.insert(ConnectionPermit::new(held.clone()));
    let session = within(incoming.accept()).await.unwrap();
    let clone = session.clone();
    drop(session);
    assert_eq!(std::sync::Arc::strong_count(&held), 2);
    drop(clone);
    assert_eq!(std::sync::Arc::strong_count(&held), 1);
    drop(connecting);
}

#[tokio::test]
async fn a_service_that_answers_any_method_with_an_event_stream_is_limited_for_each_method() {
    let layer = ConnectionLimitLayer::new(LIMIT);
    let service =
        layer.layer(service_fn(|_: Request<()>| std::future::ready(Ok::<_, Error>(events().into_response()))));
    for method in [Method::GET, Method::OPTIONS, Method::POST] {
        let open = || {
            let kind = "application/vnd.tower-transport.messages";
            let request = Request::builder().method(method.clone()).header("content-type", kind).body(()).unwrap();
            service.clone().oneshot(request)
        };
        let mut opened = Vec::new();
        for _ in 0..TRIED {
            let response = open().await.unwrap();
            match response.status() {
                StatusCode::OK => opened.push(response),
                status => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
            }
        }
        assert_eq!((opened.len(), layer.connections()), (LIMIT, LIMIT), "{method}");
        drop(opened);
        assert_eq!((layer.connections(), open().await.unwrap().status()), (0, StatusCode::OK), "{method}");
    }
    // Its keys are counted as well.
    let layer = ConnectionLimitLayer::new(TRIED).per_key(1, |_| Some(()));
    let service =
        layer.layer(service_fn(|_: Request<()>| std::future::ready(Ok::<_, Error>(events().into_response()))));
    let ask = || service.clone().oneshot(Request::options("/").body(()).unwrap());
    let kept = ask().await.unwrap();
    assert_eq!(ask().await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
    drop(kept);
    assert_eq!(ask().await.unwrap().status(), StatusCode::OK);
}
