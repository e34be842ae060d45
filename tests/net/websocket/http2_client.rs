//! WebSockets of our own client within shared HTTP/2 connections.

use super::http2::echoing;
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, future::join_all};
use http::{Request, Response, StatusCode, Version, header, request};
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use support::{
    echo,
    proxy::Proxy,
    serve::{serve, serve_both},
    tls::localhost,
    within,
};
use tokio::{
    io::DuplexStream,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tower::{ServiceExt, service_fn};
use tower_transport::{
    CloseCode, CloseFrame, Limits, Message, TransportExt,
    transport::{
        dial::{Dial, Dialer},
        websocket::{Http2, PerMessageDeflate, WebSocket, WebSocketConnector, WebSocketService},
    },
};

/// A server of HTTP/2 whose connections are counted, and can be shut down gracefully.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    shutdown: watch::Sender<usize>,
}

impl Server {
    async fn start(configure: impl Fn(&mut http2::Builder<TokioExecutor>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (shutdown, stop) = watch::channel(0);
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let number = counted.fetch_add(1, SeqCst) + 1;
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.timer(TokioTimer::new()).enable_connect_protocol();
                configure(&mut builder);
                let connection = builder.serve_connection(TokioIo::new(tcp), TowerToHyperService::new(echoing()));
                let mut stop = stop.clone();
                tokio::spawn(async move {
                    let mut connection = std::pin::pin!(connection);
                    tokio::select! {
                        _ = &mut connection => return,
                        _ = stop.wait_for(|last| *last >= number) => connection.as_mut().graceful_shutdown(),
                    }
                    let _ = connection.await;
                });
            }
        });
        Self { address, connections, shutdown }
    }

    fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

fn connector() -> WebSocketConnector {
    WebSocketConnector::new().http2(Http2::new().prior_knowledge())
}

async fn echoes(socket: &mut WebSocket) {
    for n in [0, 1, 126, 65_536, 1 << 20] {
        let message = Message::binary(vec![7; n]);
        let (mut sink, mut stream) = socket.split();
        let (sent, received) = tokio::join!(sink.send(message.clone()), stream.next());
        sent.unwrap();
        assert!(received.unwrap().unwrap() == message, "{n}");
    }
}

async fn opened(connector: &WebSocketConnector, url: &str, count: usize) -> Vec<WebSocket> {
    join_all((0..count).map(|_| connector.connect(url))).await.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn websockets_that_are_opened_at_once_share_one_connection() {
    let server = Server::start(|_| {}).await;
    let mut sockets = within(opened(&connector(), &server.url(), 50)).await;
    assert_eq!(server.connections(), 1);
    within(join_all(sockets.iter_mut().map(echoes))).await;
    for socket in &mut sockets {
        let answer = socket.close(Some(CloseFrame::new(CloseCode::NORMAL, "bye"))).await.unwrap();
        assert_eq!(answer.unwrap().reason(), "bye");
    }
}

#[tokio::test]
async fn no_connection_has_more_websockets_than_the_server_and_the_settings_allow() {
    let server = Server::start(|http| _ = http.max_concurrent_streams(3)).await;
    let connector = connector();
    let mut sockets = within(opened(&connector, &server.url(), 7)).await;
    assert_eq!(server.connections(), 3);
    within(join_all(sockets.iter_mut().map(echoes))).await;
    // The place of a WebSocket that has ended is free again.
    sockets.pop().unwrap().close(None).await.unwrap();
    sockets.push(connector.connect(&server.url()).await.unwrap());
    assert_eq!(server.connections(), 3);

    let server = Server::start(|_| {}).await;
    let own = WebSocketConnector::new().http2(Http2::new().prior_knowledge().per_connection(2));
    let _sockets = within(opened(&own, &server.url(), 5)).await;
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn after_a_goaway_open_websockets_go_on_and_new_ones_have_a_new_connection() {
    let server = Server::start(|_| {}).await;
    let connector = connector();
    let mut old = connector.connect(&server.url()).await.unwrap();
    server.shutdown.send(1).unwrap();
    echoes(&mut old).await;
    let mut new = within(connector.connect(&server.url())).await.unwrap();
    assert_eq!(server.connections(), 2);
    echoes(&mut new).await;
    echoes(&mut old).await;
    old.close(None).await.unwrap();
    echoes(&mut new).await;
}

#[tokio::test]
async fn a_connection_that_is_lost_is_replaced() {
    let server = Server::start(|_| {}).await;
    let proxy = Proxy::start(server.address, vec![50_000]).await;
    let connector = connector();
    let url = format!("ws://{}/", proxy.address);
    let mut socket = connector.connect(&url).await.unwrap();
    let mut other = connector.connect(&url).await.unwrap();
    socket.send_message(Message::binary(vec![7; 65_536])).await.unwrap();
    for socket in [&mut socket, &mut other] {
        let end = within(socket.receive_message()).await.unwrap();
        assert!(end.unwrap_err().is_closed());
    }
    let mut socket = within(connector.connect(&url)).await.unwrap();
    echoes(&mut socket).await;
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_close_ends_in_order_however_often() {
    let server = Server::start(|_| {}).await;
    let connector = connector();
    for _ in 0..300 {
        let mut socket = connector.connect(&server.url()).await.unwrap();
        socket.send_message(Message::text("hello")).await.unwrap();
        assert_eq!(socket.close(None).await.unwrap(), None);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_refusal_has_its_status_headers_and_body_and_leaves_the_connection() {
    let refusing = service_fn(|request: Request<hyper::body::Incoming>| async move {
        let mut response = Response::new(format!("not at {}", request.uri().path()));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, "7".parse().unwrap());
        Ok::<_, Infallible>(response)
    });
    let address = serve_both(refusing).await;
    for connector in [WebSocketConnector::new(), connector()] {
        let error = connector.connect(&format!("ws://{address}/x")).await.unwrap_err();
        assert_eq!(error.status(), Some(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(error.response_body().unwrap(), "not at /x");
    }
}

#[tokio::test]
async fn the_request_of_the_user_arrives_whole() {
    let service = WebSocketService::new(|mut socket: WebSocket, parts: request::Parts| async move {
        let header = |name: &str| parts.headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
        let said = format!("{} {} {} {}", parts.uri, header("authorization"), header("x-app"), header("host"));
        let _ = socket.send_message(Message::text(said)).await;
        let _ = socket.close(None).await;
    });
    let service = service.subprotocol("v2").unwrap().per_message_deflate(PerMessageDeflate::new());
    let address = serve_both(service).await;
    let connector =
        connector().subprotocol("v1").unwrap().subprotocol("v2").unwrap().per_message_deflate(PerMessageDeflate::new());
    let request = Request::get(format!("ws://me:pw@{address}/a?b=c")).header("x-app", "tests");
    let response = connector.clone().oneshot(request.body(()).unwrap()).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
    let mut socket = response.into_body();
    assert_eq!(socket.subprotocol(), Some("v2"));
    assert!(socket.extensions().unwrap().starts_with("permessage-deflate"));
    let said = socket.receive_message().await.unwrap().unwrap();
    assert_eq!(said.as_text().unwrap(), format!("http://{address}/a?b=c Basic bWU6cHc= tests -"));

    let request = Request::get(format!("ws://{address}/")).header(header::HOST, "virtual.example:9");
    let mut socket = connector.oneshot(request.body(()).unwrap()).await.unwrap().into_body();
    let said = socket.receive_message().await.unwrap().unwrap();
    assert_eq!(said.as_text().unwrap(), "http://virtual.example:9/ - - -");
}

/// A server over TLS: whether it has HTTP/2, and the extended CONNECT in it.
async fn secure(has_http2: bool, has_connect: bool) -> (String, WebSocketConnector, Arc<Mutex<Vec<Version>>>) {
    let (acceptor, config) = localhost();
    let acceptor = match has_http2 {
        true => acceptor,
        false => {
            let mut config = acceptor.config().as_ref().clone();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Arc::new(config).into()
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // The versions of the connections, in order.
    let versions = Arc::new(Mutex::new(Vec::new()));
    let seen = versions.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(tls) = acceptor.accept(tcp).await else { continue };
            let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            seen.lock().unwrap().push(if is_http2 { Version::HTTP_2 } else { Version::HTTP_11 });
            tokio::spawn(async move {
                let mut http = auto::Builder::new(TokioExecutor::new());
                if has_connect {
                    http.http2().enable_connect_protocol();
                }
                let service = TowerToHyperService::new(echoing());
                let _ = http.serve_connection_with_upgrades(TokioIo::new(tls), service).await;
            });
        }
    });
    let connector = WebSocketConnector::new().tls(config).http2(Http2::new());
    (format!("wss://localhost:{port}/"), connector, versions)
}

#[tokio::test]
async fn over_tls_the_server_chooses_http_2_by_alpn() {
    let (url, connector, versions) = secure(true, true).await;
    let mut sockets = within(opened(&connector, &url, 5)).await;
    echoes(&mut sockets[4]).await;
    assert_eq!(*versions.lock().unwrap(), [Version::HTTP_2]);
}

#[tokio::test]
async fn a_server_without_http_2_is_asked_over_http_1_on_the_same_stream_and_remembered() {
    let (url, connector, versions) = secure(false, true).await;
    for connections in 1..4 {
        let request = Request::get(&url).body(()).unwrap();
        let response = connector.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        echoes(&mut response.into_body()).await;
        assert_eq!(*versions.lock().unwrap(), vec![Version::HTTP_11; connections]);
    }
}

#[tokio::test]
async fn a_server_that_does_not_announce_websockets_over_http_2_is_asked_over_http_1_and_remembered() {
    let (url, connector, versions) = secure(true, false).await;
    let mut sockets = within(opened(&connector, &url, 3)).await;
    echoes(&mut sockets[0]).await;
    let mut expected = vec![Version::HTTP_11; 4];
    expected[0] = Version::HTTP_2;
    assert_eq!(*versions.lock().unwrap(), expected);
}

#[tokio::test]
async fn without_tls_http_2_is_not_tried_unless_the_server_is_known() {
    let server = Server::start(|_| {}).await;
    let error = WebSocketConnector::new().http2(Http2::new()).connect(&server.url()).await.unwrap_err();
    assert!(!error.is_config(), "{error:?}");

    let address = serve(echoing()).await;
    let url = format!("ws://{address}/");
    echoes(&mut WebSocketConnector::new().http2(Http2::new()).connect(&url).await.unwrap()).await;
    let error = within(connector().connect(&url)).await.unwrap_err();
    assert!(error.is_closed() && error.to_string().contains("prior_knowledge"), "{error:?}");
}

#[tokio::test]
async fn another_dialer_or_tls_configuration_starts_without_connections() {
    let (url, shared, versions) = secure(true, true).await;
    let _first = shared.connect(&url).await.unwrap();
    // The certificate is unknown to this one: it must not use the connection that the other has verified.
    let (_, stranger) = localhost();
    let error = shared.clone().tls(stranger).connect(&url).await.unwrap_err();
    assert!(error.is_tls(), "{error:?}");
    let _second = shared.clone().dial_with(Dialer::new()).connect(&url).await.unwrap();
    let _third = shared.connect(&url).await.unwrap();
    assert_eq!(versions.lock().unwrap().len(), 2);
}

/// A server whose streams are answered by `respond`, which gets the number of the request.
async fn raw(respond: impl Fn(usize, h2::server::SendResponse<Bytes>) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (respond, requests) = (Arc::new(respond), Arc::new(AtomicUsize::new(0)));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (respond, requests) = (respond.clone(), requests.clone());
            tokio::spawn(async move {
                let mut builder = h2::server::Builder::new();
                let Ok(mut connection) = builder.enable_connect_protocol().handshake::<_, Bytes>(tcp).await else {
                    // The fallback.
                    return;
                };
                let mut kept = Vec::new();
                while let Some(Ok((request, response))) = connection.accept().await {
                    kept.push(request);
                    respond(requests.fetch_add(1, SeqCst), response);
                }
            });
        }
    });
    format!("ws://{address}/")
}

#[tokio::test]
async fn a_request_that_the_server_has_not_processed_is_sent_again() {
    let url = raw(|number, mut response| match number {
        0 | 1 => response.send_reset(h2::Reason::REFUSED_STREAM),
        _ => drop(response.send_response(Response::builder().status(403).body(()).unwrap(), true)),
    })
    .await;
    let error = within(connector().connect(&url)).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::FORBIDDEN));

    let url = raw(|_, mut response| response.send_reset(h2::Reason::REFUSED_STREAM)).await;
    let error = within(connector().connect(&url)).await.unwrap_err();
    assert!(error.is_closed(), "{error:?}");

    let url = raw(|_, mut response| response.send_reset(h2::Reason::INTERNAL_ERROR)).await;
    let error = within(connector().connect(&url)).await.unwrap_err();
    assert!(error.is_closed(), "{error:?}");
}

#[tokio::test]
async fn a_server_that_demands_http_1_gets_it() {
    // The request is refused over HTTP/2, and served by another listener once the connector dials again.
    let http1 = serve(echoing()).await;
    let http2 = raw(|_, mut response| response.send_reset(h2::Reason::HTTP_1_1_REQUIRED)).await;
    let http2: SocketAddr = http2.trim_start_matches("ws://").trim_end_matches('/').parse().unwrap();
    let is_first = Arc::new(AtomicBool::new(true));
    let dialer =
        service_fn(move |_: http::Uri| TcpStream::connect(if is_first.swap(false, SeqCst) { http2 } else { http1 }));
    let connector = WebSocketConnector::new().dial_with(dialer).http2(Http2::new().prior_knowledge());
    echoes(&mut within(connector.connect("ws://example.com/")).await.unwrap()).await;
    echoes(&mut within(connector.connect("ws://example.com/")).await.unwrap()).await;
}

/// A connector over pipes in memory. `serve` gets the number of the connection and its far end.
fn in_memory(serve: impl Fn(usize, DuplexStream) + Clone + Send + 'static) -> WebSocketConnector<impl Dial> {
    let connections = Arc::new(AtomicUsize::new(0));
    let dialer = service_fn(move |_: http::Uri| {
        let (near, far) = tokio::io::duplex(64 * 1024);
        serve(connections.fetch_add(1, SeqCst), far);
        std::future::ready(Ok::<_, Infallible>(near))
    });
    WebSocketConnector::new().dial_with(dialer).http2(Http2::new().prior_knowledge())
}

fn serve_echo(stream: DuplexStream) {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.enable_connect_protocol();
    tokio::spawn(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(echoing())));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_answer_gets_no_more_websockets() {
    let connector = in_memory(|number, far| match number {
        // It speaks HTTP/2, and answers no request.
        0 => drop(tokio::spawn(async move {
            let mut builder = h2::server::Builder::new();
            let mut connection = builder.enable_connect_protocol().handshake::<_, Bytes>(far).await.unwrap();
            let mut kept = Vec::new();
            while let Some(Ok(request)) = connection.accept().await {
                kept.push(request);
            }
        })),
        _ => serve_echo(far),
    });
    let error = connector.connect("ws://example.com/").await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    let start = Instant::now();
    echoes(&mut connector.connect("ws://example.com/").await.unwrap()).await;
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_keeps_its_settings_to_itself_is_given_up_in_time() {
    let connector = in_memory(|_, far| {
        drop(tokio::spawn(async move {
            let _far = far;
            std::future::pending::<()>().await;
        }))
    });
    let limits = Limits::new().handshake(Duration::from_secs(3));
    let start = Instant::now();
    let error = connector.limits(limits).connect("ws://example.com/").await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_serves_the_next_websocket_for_30_seconds() {
    let ended = Arc::new(AtomicUsize::new(0));
    let counted = ended.clone();
    let connector = in_memory(move |_, far| {
        let counted = counted.clone();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.enable_connect_protocol();
        let connection = builder.serve_connection(TokioIo::new(far), TowerToHyperService::new(echoing()));
        tokio::spawn(async move {
            connection.await.unwrap();
            counted.fetch_add(1, SeqCst);
        });
    });
    let connect = || connector.connect("ws://example.com/");
    connect().await.unwrap().close(None).await.unwrap();
    sleep(Duration::from_secs(29)).await;
    let socket = connect().await.unwrap();
    sleep(Duration::from_secs(100)).await;
    assert_eq!(ended.load(SeqCst), 0);
    drop(socket);
    sleep(Duration::from_secs(29)).await;
    assert_eq!(ended.load(SeqCst), 0);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(ended.load(SeqCst), 1);
    let mut socket = connect().await.unwrap();
    // Without a connector, the connection ends with its last WebSocket.
    drop(connector);
    socket.send_message(Message::text("on")).await.unwrap();
    assert_eq!(socket.receive_message().await.unwrap().unwrap(), Message::text("on"));
    socket.close(None).await.unwrap();
    drop(socket);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ended.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_went_silent_is_given_up_by_a_ping() {
    let connector = in_memory(|_, far| {
        let (mut near, inner) = tokio::io::duplex(64 * 1024);
        serve_echo(inner);
        tokio::spawn(async move {
            let mut far = far;
            // Nothing passes after 5 seconds, and nobody is told.
            let _ = timeout(Duration::from_secs(5), tokio::io::copy_bidirectional(&mut far, &mut near)).await;
            std::future::pending::<()>().await;
        });
    });
    let mut socket = connector.connect("ws://example.com/").await.unwrap();
    let start = Instant::now();
    let end = socket.receive_message().await.unwrap();
    assert!(end.unwrap_err().is_closed());
    assert!((20..=50).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

/// Fifty WebSockets share a connection. One is not read by its ends, and each fills the other's window.
async fn others_are_unchanged_beside_a_stalled_one(size: usize) {
    let service = WebSocketService::new(move |mut socket: WebSocket, parts: request::Parts| async move {
        if parts.uri.path() == "/stalled" {
            while socket.send_message(Message::binary(vec![7; size])).await.is_ok() {}
        } else {
            echo(socket).await;
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            counted.fetch_add(1, SeqCst);
            let mut http = http2::Builder::new(TokioExecutor::new());
            // The set-up of the deployment guide.
            http.enable_connect_protocol()
                .initial_stream_window_size(256 * 1024)
                .initial_connection_window_size(200 * 256 * 1024)
                .max_send_buf_size(64 * 1024);
            tokio::spawn(http.serve_connection(TokioIo::new(tcp), TowerToHyperService::new(service.clone())));
        }
    });
    let connector = connector();
    let mut stalled = connector.connect(&format!("ws://{address}/stalled")).await.unwrap();
    let mut others = within(opened(&connector, &format!("ws://{address}/"), 49)).await;
    let (mut sent, mut number) = (0, 0);
    // A flush for each message makes a frame of each.
    let mut flush = async || {
        stalled.feed(Message::binary(vec![7; size])).await.unwrap();
        sent += size;
        number += 1;
        stalled.flush().await.unwrap();
        assert!(sent < 64 << 20, "nothing stops the sink");
    };
    while timeout(Duration::from_millis(500), flush()).await.is_ok() {}
    println!("the stalled WebSocket took {number} messages of {size} bytes, {sent} in total");
    assert!(sent <= 256 * 1024 + 5 * 16 * 1024 + Limits::new().write_buffer + 2 * size, "{sent}");
    within(join_all(others.iter_mut().map(async |socket| {
        for _ in 0..3 {
            echoes(socket).await;
        }
    })))
    .await;
    assert_eq!(connections.load(SeqCst), 1);
    // It is alive, too.
    let first = within(stalled.receive_message()).await.unwrap().unwrap();
    assert_eq!(first.len(), size);
}

#[tokio::test]
async fn one_websocket_that_stalls_does_not_stop_the_other_49() {
    others_are_unchanged_beside_a_stalled_one(10_000).await;
}

#[tokio::test]
async fn one_websocket_that_stalls_with_single_bytes_does_not_stop_the_other_49() {
    others_are_unchanged_beside_a_stalled_one(1).await;
}
