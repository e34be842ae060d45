//! Dialers of the user's own, and handshakes over the user's own byte streams.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, StreamExt};
use http::{Request, StatusCode, Uri};
use hyper::server::conn::http1;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo, service::TowerToHyperService};
use support::{echo, tls, within};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::mpsc,
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn, timeout::TimeoutLayer};
use tower_transport::{
    CloseCode, Error, Limits, Message, TransportExt,
    transport::{
        Drain,
        dial::{Dial, Dialer},
        sse::{SseConnector, SseDuplexConnector, SseDuplexServer},
        websocket::{WebSocket, WebSocketAcceptor, WebSocketConnector, WebSocketService},
    },
};

/// Echoes over WebSocket and over SSE + POST, in memory: each dial makes a pipe to a server of its own.
#[derive(Clone, Default)]
struct InMemory {
    dialed: Arc<Mutex<Vec<Uri>>>,
}

impl Service<Uri> for InMemory {
    type Response = DuplexStream;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<DuplexStream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.dialed.lock().unwrap().push(uri);
        let (near, far) = duplex(1024);
        serve_web_socket(far);
        std::future::ready(Ok(near))
    }
}

fn serve_web_socket(io: impl AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static) {
    let service = TowerToHyperService::new(WebSocketService::new(|socket, _| echo(socket)));
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(io), service).with_upgrades());
}

async fn says_hello(mut socket: WebSocket) {
    socket.send_message(Message::text("hello")).await.unwrap();
    assert_eq!(socket.receive_message().await.unwrap().unwrap(), Message::text("hello"));
}

#[tokio::test(start_paused = true)]
async fn a_web_socket_needs_no_network_and_the_dialer_gets_host_and_port_alone() {
    let dialer = InMemory::default();
    let connector = WebSocketConnector::new().dial_with(dialer.clone());
    says_hello(connector.connect("ws://ada:secret@example.com/chat?token=secret").await.unwrap()).await;
    says_hello(connector.connect("http://[::1]:9000/").await.unwrap()).await;
    assert_eq!(*dialer.dialed.lock().unwrap(), ["http://example.com:80/", "http://[::1]:9000/"]);
    let socket = connector.connect("ws://a/").await.unwrap();
    assert!(socket.get_ref().downcast_ref::<DuplexStream>().is_some());
    assert!(socket.get_ref().downcast_ref::<TcpStream>().is_none() && socket.get_ref().tcp().is_none());
}

#[tokio::test(start_paused = true)]
async fn sse_and_post_dial_twice_without_a_network() {
    let server = SseDuplexServer::new(|session, _| echo(session));
    let dialed = Arc::new(AtomicUsize::new(0));
    let count = dialed.clone();
    let dialer = service_fn(move |_: Uri| {
        count.fetch_add(1, SeqCst);
        let (near, far) = duplex(1024);
        let service = TowerToHyperService::new(server.clone());
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(far), service).into_future());
        std::future::ready(Ok::<_, BoxError>(near))
    });
    let mut client = SseDuplexConnector::new().dial_with(dialer).connect("http://example.com/").await.unwrap();
    assert_eq!(dialed.load(SeqCst), 1);
    client.send_message(Message::text("hello")).await.unwrap();
    assert_eq!(client.receive_message().await.unwrap().unwrap(), Message::text("hello"));
    assert_eq!(dialed.load(SeqCst), 2, "the POSTs have a connection of their own");
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_dials_for_each_redirect_without_a_network() {
    let dialed = Arc::new(Mutex::new(Vec::new()));
    let seen = dialed.clone();
    let dialer = service_fn(move |uri: Uri| {
        let (near, mut far) = duplex(1024);
        let answer: &[u8] = match uri.host() {
            Some("a") => b"HTTP/1.1 302 x\r\nlocation: http://b:81/\r\ncontent-length: 0\r\n\r\n",
            _ => b"HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\n\r\ndata: x\n\n",
        };
        seen.lock().unwrap().push(uri);
        tokio::spawn(async move {
            let _ = far.read(&mut [0; 1024]).await;
            far.write_all(answer).await.unwrap();
        });
        std::future::ready(Ok::<_, BoxError>(near))
    });
    let mut events = SseConnector::new().dial_with(dialer).connect("http://a/").await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().data(), "x");
    assert_eq!(*dialed.lock().unwrap(), ["http://a:80/", "http://b:81/"]);
}

#[tokio::test]
async fn a_unix_socket_of_the_users_own_is_dialed_without_a_box() {
    let path = std::env::temp_dir().join(format!("tower-transport-dial-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((unix, _)) = listener.accept().await {
            serve_web_socket(unix);
        }
    });
    let at = path.clone();
    let dialer = service_fn(move |_: Uri| UnixStream::connect(at.clone()));
    let socket = within(WebSocketConnector::new().dial_with(dialer).connect("ws://localhost/")).await.unwrap();
    assert_eq!(format!("{:?}", socket.get_ref()), "Socket(unix)");
    assert!(socket.get_ref().downcast_ref::<UnixStream>().is_some());
    within(says_hello(socket)).await;
    std::fs::remove_file(path).unwrap();
}

async fn tcp_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            serve_web_socket(tcp);
        }
    });
    address
}

#[tokio::test]
async fn hyper_utils_connector_and_our_own_below_a_layer_are_dialers() {
    fn is_dialer(dialer: impl Dial) -> impl Dial {
        dialer
    }

    let address = tcp_server().await;
    let url = format!("ws://{address}/");
    let hypers = is_dialer(HttpConnector::new().map_response(TokioIo::into_inner));
    let socket = within(WebSocketConnector::new().dial_with(hypers).connect(&url)).await.unwrap();
    assert!(socket.get_ref().tcp().is_some(), "a TCP stream is not boxed");
    within(says_hello(socket)).await;
    let layered = ServiceBuilder::new().layer(TimeoutLayer::new(Duration::from_secs(9))).service(Dialer::new());
    let socket = within(WebSocketConnector::new().dial_with(is_dialer(layered)).connect(&url)).await.unwrap();
    assert!(socket.get_ref().tcp().is_some(), "nor is our socket");
    let boxed = is_dialer(tower::util::BoxCloneService::new(Dialer::new()));
    within(says_hello(WebSocketConnector::new().dial_with(boxed).connect(&url).await.unwrap())).await;
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_dialer_keeps_its_class_and_its_source() {
    async fn fails<E: Into<BoxError> + Clone + Send + 'static>(error: E) -> Error {
        let dialer = service_fn(move |_: Uri| std::future::ready(Err::<DuplexStream, _>(error.clone())));
        let sse = SseDuplexConnector::new().dial_with(dialer.clone()).connect("http://a/").await.unwrap_err();
        let events = SseConnector::new().dial_with(dialer.clone()).connect("http://a/").await.unwrap_err();
        let error = WebSocketConnector::new().dial_with(dialer).connect("ws://a/").await.unwrap_err();
        assert_eq!([sse.kind_name(), events.kind_name()], [error.kind_name(); 2]);
        error
    }

    #[derive(Clone, Debug)]
    struct Gone;

    impl std::fmt::Display for Gone {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the vsock is gone")
        }
    }

    impl std::error::Error for Gone {}

    let own = fails(Error::auth("the SOCKS proxy wants a password")).await;
    assert!(own.is_auth() && own.to_string() == "the SOCKS proxy wants a password", "{own:?}");
    let other = fails("no route").await;
    assert!(other.is_other() && std::error::Error::source(&other).unwrap().to_string() == "no route", "{other:?}");
    let by_kind = |kind: io::ErrorKind| {
        let dialer = service_fn(move |_: Uri| std::future::ready(Err::<DuplexStream, _>(io::Error::new(kind, Gone))));
        async move { WebSocketConnector::new().dial_with(dialer).connect("ws://a/").await.unwrap_err() }
    };
    assert!(by_kind(io::ErrorKind::ConnectionRefused).await.is_refused());
    assert!(by_kind(io::ErrorKind::TimedOut).await.is_timeout());
    let cut = by_kind(io::ErrorKind::BrokenPipe).await;
    assert!(cut.is_closed() && std::error::Error::source(&cut).unwrap().to_string() == "the vsock is gone", "{cut:?}");
    let slow = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(1)))
        .service(service_fn(|_: Uri| std::future::pending::<io::Result<DuplexStream>>()));
    assert!(WebSocketConnector::new().dial_with(slow).connect("ws://a/").await.unwrap_err().is_timeout());
}

#[tokio::test(start_paused = true)]
async fn a_dialer_has_the_time_of_the_handshake_and_is_dropped_with_the_attempt() {
    struct Alive(Arc<AtomicUsize>);

    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }

    let alive = Arc::new(AtomicUsize::new(0));
    let count = alive.clone();
    let dialer = service_fn(move |_: Uri| {
        count.fetch_add(1, SeqCst);
        let alive = Alive(count.clone());
        async move {
            let _alive = alive;
            std::future::pending::<io::Result<DuplexStream>>().await
        }
    });
    let limits = Limits::new().handshake(Duration::from_secs(3));
    let connector = WebSocketConnector::new().limits(limits).dial_with(dialer.clone());
    let mut attempt = Box::pin(connector.connect("ws://a/"));
    assert!(attempt.as_mut().now_or_never().is_none());
    assert_eq!(alive.load(SeqCst), 1);
    drop(attempt);
    assert_eq!(alive.load(SeqCst), 0);
    let start = tokio::time::Instant::now();
    assert!(connector.connect("ws://a/").await.unwrap_err().is_timeout());
    assert_eq!((start.elapsed(), alive.load(SeqCst)), (Duration::from_secs(3), 0));
    let sse = SseDuplexConnector::new().dial_with(dialer);
    drop(sse.connect("http://a/").now_or_never());
    assert_eq!(alive.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dialer_that_is_not_ready_is_waited_for() {
    let dialer = ServiceBuilder::new().concurrency_limit(1).service(service_fn(|uri: Uri| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        InMemory::default().call(uri).await
    }));
    let connector = WebSocketConnector::new().dial_with(dialer);
    let (a, b) = tokio::join!(connector.connect("ws://a/"), connector.connect("ws://b/"));
    says_hello(a.unwrap()).await;
    says_hello(b.unwrap()).await;
}

#[tokio::test]
async fn tls_is_done_above_the_users_stream() {
    let (acceptor, config) = tls::localhost();
    let dialed = Arc::new(Mutex::new(Vec::new()));
    let seen = dialed.clone();
    let dialer = service_fn(move |uri: Uri| {
        seen.lock().unwrap().push(uri);
        let (near, far) = duplex(1024);
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            if let Ok(tls) = acceptor.accept(far).await {
                serve_web_socket(tls);
            }
        });
        std::future::ready(Ok::<_, io::Error>(near))
    });
    let connector = WebSocketConnector::new().tls(config).dial_with(dialer);
    let socket = within(connector.connect("wss://localhost/")).await.unwrap();
    assert_eq!(format!("{:?}", socket.get_ref()), "Socket(tls)");
    assert!(socket.get_ref().downcast_ref::<DuplexStream>().is_some(), "the stream below TLS");
    within(says_hello(socket)).await;
    let error = within(connector.connect("wss://another.example/")).await.unwrap_err();
    assert!(error.is_tls(), "the certificate is checked against the host of the URL: {error:?}");
    assert_eq!(*dialed.lock().unwrap(), ["http://localhost:443/", "http://another.example:443/"]);
}

#[tokio::test]
async fn a_url_alone_is_enough_and_one_that_is_wrong_is_an_error() {
    let address = tcp_server().await;
    within(says_hello(WebSocketConnector::new().connect(&format!("ws://{address}/")).await.unwrap())).await;
    for url in ["ws://", "ftp://a/", "ws://a:99999/", "nothing"] {
        assert!(WebSocketConnector::new().connect(url).await.unwrap_err().is_config(), "{url}");
        assert!(SseConnector::new().connect(url).await.unwrap_err().is_config(), "{url}");
        assert!(SseDuplexConnector::new().connect(url).await.unwrap_err().is_config(), "{url}");
    }
}

/// The handshake of both ends over a pipe of `size` bytes.
async fn both_ends(size: usize) -> (WebSocket<DuplexStream>, WebSocket<DuplexStream>) {
    let (near, far) = duplex(size);
    let connector = WebSocketConnector::new().subprotocol("v1").unwrap();
    let acceptor = WebSocketAcceptor::new().subprotocol("v1").unwrap();
    let request = Request::get("ws://example.com/chat?x=1").header("x-app", "tests").body(()).unwrap();
    let (response, accepted) = tokio::join!(connector.handshake(near, request), acceptor.accept(far));
    let (response, (parts, server)) = (response.unwrap(), accepted.unwrap());
    assert_eq!(
        (response.status(), &parts.headers["x-app"]),
        (StatusCode::SWITCHING_PROTOCOLS, &"tests".parse().unwrap())
    );
    assert_eq!(
        (parts.uri.path(), parts.uri.query(), &parts.headers["host"]),
        ("/chat", Some("x=1"), &"example.com".parse().unwrap())
    );
    let client = response.into_body();
    assert_eq!([client.subprotocol(), server.subprotocol()], [Some("v1"); 2]);
    (client, server)
}

#[tokio::test(start_paused = true)]
async fn both_ends_of_a_handshake_need_nothing_but_a_byte_stream() {
    for size in [1, 16, 64 * 1024] {
        let (mut client, mut server) = both_ends(size).await;
        let (sent, received) = tokio::join!(client.send_message(Message::text("hello")), server.receive_message());
        sent.unwrap();
        assert_eq!(received.unwrap().unwrap(), Message::text("hello"), "{size}");
        let (closed, told) = tokio::join!(server.close(None), async { client.by_ref().collect::<Vec<_>>().await });
        assert!(closed.is_ok(), "{size}: {closed:?}");
        assert!(told.iter().all(Result::is_ok), "{size}: {told:?}");
    }
}

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A masked text frame "hi".
const HI: &[u8] = b"\x81\x82\0\0\0\0hi";

#[tokio::test(start_paused = true)]
async fn bytes_behind_the_handshake_are_not_lost() {
    let (mut near, far) = duplex(1024);
    near.write_all(&[REQUEST.as_bytes(), HI].concat()).await.unwrap();
    let (_, mut server) = WebSocketAcceptor::new().accept(far).await.unwrap();
    assert_eq!(server.receive_message().await.unwrap().unwrap(), Message::text("hi"));

    let (near, _far) = duplex(1024);
    let mut server = WebSocket::server_from_partially_read(near, HI, Limits::new());
    assert_eq!(server.receive_message().await.unwrap().unwrap(), Message::text("hi"));
    let (near, _far) = duplex(1024);
    let mut client = WebSocket::client_from_partially_read(near, b"\x81\x02hi".to_vec(), Limits::new());
    assert_eq!(client.receive_message().await.unwrap().unwrap(), Message::text("hi"));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_no_handshake_is_answered_and_is_an_error_with_its_status() {
    let refused = async |request: String| {
        let (mut near, far) = duplex(4096);
        near.write_all(request.as_bytes()).await.unwrap();
        let error = WebSocketAcceptor::new().accept(far).await.unwrap_err();
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        (error, answer)
    };
    for (request, status) in [
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 426),
        (REQUEST.replace("host: a\r\n", ""), 400),
        (REQUEST.replace("host: a", "host: a\r\norigin: https://evil.example"), 403),
        (REQUEST.replace("GET", "PUT"), 405),
    ] {
        let (error, answer) = refused(request).await;
        assert_eq!(error.status().map(|status| status.as_u16()), Some(status), "{error:?}");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(error.is_auth(), status == 403);
    }
    let (error, answer) = refused("\x16\x03\x01\0\0\r\n\r\n".to_owned()).await;
    assert!(error.is_protocol() && answer.starts_with("HTTP/1.1 400 "), "{error:?} {answer}");
}

#[tokio::test(start_paused = true)]
async fn a_head_without_end_is_read_up_to_64_kib() {
    let (mut near, far) = duplex(1024);
    let sends = async {
        near.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx: ").await.unwrap();
        let mut sent = 0;
        while near.write_all(&[b'x'; 1024]).await.is_ok() {
            sent += 1024;
        }
        sent
    };
    let acceptor = WebSocketAcceptor::new();
    let (sent, accepted) = tokio::join!(sends, acceptor.accept(far));
    assert!((60 << 10..80 << 10).contains(&sent), "{sent}");
    assert!(accepted.unwrap_err().is_too_large());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_or_stalls_ends_its_handshake_alone() {
    for sent in ["", "GET / HT"] {
        let (mut near, far) = duplex(1024);
        near.write_all(sent.as_bytes()).await.unwrap();
        drop(near);
        let error = WebSocketAcceptor::new().accept(far).await.unwrap_err();
        assert!(error.is_closed(), "{sent:?}: {error:?}");
        let (mut near, far) = duplex(1024);
        near.write_all(sent.as_bytes()).await.unwrap();
        let start = tokio::time::Instant::now();
        assert!(WebSocketAcceptor::new().accept(far).await.unwrap_err().is_timeout());
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }
    let (near, _far) = duplex(1024);
    let request = Request::get("ws://a/").body(()).unwrap();
    assert!(WebSocketConnector::new().handshake(near, request).await.unwrap_err().is_timeout());
}

#[tokio::test(start_paused = true)]
async fn a_drain_closes_accepted_streams_and_refuses_new_ones() {
    let drain = Drain::new();
    let acceptor = WebSocketAcceptor::new().drain(&drain);
    let accept = async |acceptor: &WebSocketAcceptor| {
        let (near, far) = duplex(1024);
        let request = Request::get("ws://a/").body(()).unwrap();
        let connector = WebSocketConnector::new();
        let (response, accepted) = tokio::join!(connector.handshake(near, request), acceptor.accept(far));
        Ok::<_, Error>((response?.into_body(), accepted?.1))
    };
    let (mut client, mut server) = accept(&acceptor).await.unwrap();
    tokio::spawn(async move { while let Some(Ok(_)) = server.next().await {} });
    let frame = tower_transport::CloseFrame::new(CloseCode::RESTART, "restart");
    let (drained, told) = tokio::join!(drain.close(frame, Duration::from_secs(5)), client.next());
    assert_eq!(drained.cut, 0);
    assert!(told.unwrap().unwrap().is_close());
    assert_eq!(accept(&acceptor).await.unwrap_err().status(), Some(StatusCode::SERVICE_UNAVAILABLE));
}

/// A stream that hands over one byte a read.
struct Slow(DuplexStream);

impl AsyncRead for Slow {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        futures_util::ready!(Pin::new(&mut self.0).poll_read(cx, &mut one))?;
        buf.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &buf[..buf.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_one_byte_at_a_time_carries_everything() {
    let (ends, mut servers) = mpsc::unbounded_channel();
    let dialer = service_fn(move |_: Uri| {
        let (near, far) = duplex(7);
        ends.send(far).unwrap();
        std::future::ready(Ok::<_, io::Error>(Slow(near)))
    });
    let serve = async {
        let (_, mut server) = WebSocketAcceptor::new().accept(Slow(servers.recv().await.unwrap())).await.unwrap();
        while let Some(Ok(message)) = server.next().await {
            if message.is_data() {
                server.send(message).await.unwrap();
            }
        }
    };
    let talk = async {
        let mut socket = WebSocketConnector::new().dial_with(dialer).connect("ws://a/").await.unwrap();
        socket.send_message(Message::text("x".repeat(500))).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("x".repeat(500)));
        socket.close(None).await.unwrap();
    };
    tokio::join!(serve, talk);
}
