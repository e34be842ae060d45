//! Sessions over real sockets: what one message, one client or one peer cannot do to them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_transport::{
    BoxTransport, CloseCode, CloseFrame, Error, Limits, Message, ServiceBuilderExt, Transport, TransportExt,
    layer::{
        compression::{CompressionLayer, Deflate},
        reconnect::{Backoff, Keep, ReconnectLayer, WhenLost},
        resume::{Accepted, ResumeLayer, Session, SessionStore, Verdict},
    },
    stack::{OptimizedAcceptor, OptimizedBuilder, OptimizedTransport},
    transport::{
        sse::{SseDuplexConnector, SseDuplexServer},
        websocket::{WebSocket, WebSocketConnector, WebSocketService},
        webtransport::{Certificate, WebTransportConnector, WebTransportServer},
    },
};

use crate::serve::{serve, serve_http};
use support::within;

/// A server of plain layers, whose new sessions go to `handler`. Its address, and how many connections it had.
async fn sessions<F>(
    store: SessionStore<WebSocket>,
    handler: impl Fn(Session<WebSocket>) -> F + Clone + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let upgrade = WebSocketService::new(move |socket: WebSocket, _| {
        counted.fetch_add(1, SeqCst);
        async move {
            if let Ok(Accepted::New(session)) = store.accept(socket).await {
                handler(session).await;
            }
        }
    });
    (serve(upgrade).await, connections)
}

fn backoff() -> Backoff {
    Backoff::fixed(Duration::from_millis(5))
}

fn reconnecting(address: SocketAddr) -> ReconnectLayer {
    ReconnectLayer::new(format!("ws://{address}/").parse::<http::Uri>().unwrap(), backoff())
}

fn client(address: SocketAddr) -> impl Transport<Message, In = Message, TransportError = Error> + Unpin + Send + use<> {
    Box::pin(
        ServiceBuilder::new().layer(reconnecting(address)).layer(ResumeLayer::new()).service(WebSocketConnector::new()),
    )
}

fn builder() -> OptimizedBuilder {
    OptimizedTransport::builder().backoff(backoff())
}

async fn connect(builder: OptimizedBuilder, address: SocketAddr) -> OptimizedTransport {
    within(builder.connect(&format!("ws://{address}/"))).await.unwrap()
}

/// The next message of a user.
async fn next<T>(transport: &mut T) -> Message
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    loop {
        let message = within(transport.next()).await.expect("it goes on").unwrap();
        if message.is_data() {
            return message;
        }
    }
}

/// Answers each message with one over the limit of its connection, and a small one behind it; says what became of the
/// first.
async fn says_too_much<T>(told: tokio::sync::mpsc::UnboundedSender<Error>, mut transport: T)
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    while let Some(Ok(message)) = transport.next().await {
        if message.is_data() {
            let refused = transport.send(Message::binary(vec![7; 5 << 20])).await;
            told.send(refused.expect_err("5 MiB are over the limit of 4 MiB")).unwrap();
            transport.send(Message::text("behind it")).await.unwrap();
        }
    }
}

async fn is_told_and_goes_on<T>(mut client: T, mut told: UnboundedReceiver<Error>)
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    for _ in 0..3 {
        within(client.send(Message::text("more"))).await.unwrap();
        let error = within(told.recv()).await.unwrap();
        assert!(error.is_too_large() && error.is_rejection(), "{error:?}");
        assert_eq!(next(&mut client).await, Message::text("behind it"));
    }
}

#[tokio::test]
async fn a_handler_of_plain_layers_is_told_of_a_message_over_its_limit_and_its_session_goes_on() {
    let (to_test, told) = unbounded_channel();
    let handler = move |session| says_too_much(to_test.clone(), session);
    let (address, connections) = sessions(SessionStore::new(), handler).await;
    is_told_and_goes_on(client(address), told).await;
    assert_eq!(connections.load(SeqCst), 1);
}

#[tokio::test]
async fn a_handler_of_the_stack_is_told_of_a_message_over_its_limit_and_its_session_goes_on() {
    let (to_test, told) = unbounded_channel();
    let acceptor: OptimizedAcceptor = builder().acceptor();
    let address = serve(acceptor.upgrade(move |transport, _| says_too_much(to_test, transport))).await;
    let transport = connect(builder(), address).await;
    let handle = transport.handle();
    is_told_and_goes_on(transport, told).await;
    assert_eq!(handle.reconnect().unwrap().connections(), 1);
}

async fn echo<T>(mut transport: T)
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    while let Some(item) = transport.next().await {
        let echo = match item {
            Ok(message) if message.is_data() => message,
            Ok(_) => continue,
            Err(error) if error.is_rejection() => Message::text(error.kind_name()),
            Err(_) => return,
        };
        if transport.send(echo).await.is_err() {
            return;
        }
    }
}

fn compressible() -> Message {
    Message::text("again and again ".repeat(6400))
}

#[tokio::test]
async fn the_stack_tells_the_sender_of_a_message_that_shrinks_below_the_servers_limit_and_is_over_it() {
    let acceptor: OptimizedAcceptor = builder().limits(Limits::new().message(64 << 10)).acceptor();
    let address = serve(acceptor.upgrade(|transport, _| echo(transport))).await;
    let mut transport = connect(builder(), address).await;
    let handle = transport.handle();
    for round in ["first", "second"] {
        let error = within(transport.send(compressible())).await.unwrap_err();
        assert!(error.is_too_large() && error.is_rejection(), "{error:?}");
        within(transport.send(round.into())).await.unwrap();
        assert_eq!(next(&mut transport).await, Message::text(round));
    }
    assert_eq!(handle.reconnect().unwrap().connections(), 1);
}

#[tokio::test]
async fn plain_layers_do_not_send_a_message_again_that_the_servers_inflater_rejects() {
    let store = SessionStore::new();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let upgrade = WebSocketService::new(move |socket: WebSocket, _| {
        counted.fetch_add(1, SeqCst);
        let inflated = CompressionLayer::new(Deflate::new().max_inflated(64 << 10)).layer(socket);
        async move {
            if let Ok(Accepted::New(session)) = store.accept(inflated).await {
                echo(session).await;
            }
        }
    });
    let address = serve(upgrade).await;
    let mut client = Box::pin(
        ServiceBuilder::new()
            .layer(reconnecting(address))
            .layer(ResumeLayer::new())
            .per_connection(CompressionLayer::new(Deflate::new()))
            .service(WebSocketConnector::new()),
    );
    within(client.send(compressible())).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("too_large"), "the handler is told");
    within(client.send("behind it".into())).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("behind it"));
    assert_eq!(connections.load(SeqCst), 2, "one rejection, one new connection");
}

#[tokio::test]
async fn a_strangers_message_of_the_limit_that_ends_like_a_mark_does_no_harm_to_those_it_is_relayed_to() {
    const LIMIT: usize = 4 << 20;
    let (to_relay, relayed) = unbounded_channel::<Message>();
    let relayed = Arc::new(tokio::sync::Mutex::new(relayed));
    let acceptor: OptimizedAcceptor = builder().acceptor();
    // A plain peer says what the others get.
    let upgrade = acceptor.upgrade(move |mut transport, _| async move {
        if !transport.capabilities().is_known() {
            while let Some(Ok(message)) = transport.next().await {
                if message.is_data() {
                    to_relay.send(message).unwrap();
                }
            }
            return;
        }
        while let Some(message) = relayed.lock().await.recv().await {
            transport.send(message).await.unwrap();
        }
    });
    let address = serve(upgrade).await;
    let mut victim = connect(builder(), address).await;
    let request = http::Request::get(format!("ws://{address}/")).body(()).unwrap();
    let mut stranger = WebSocketConnector::new().oneshot(request).await.unwrap().into_body();
    for less in 0..=8 {
        let mark = [0, 3, 0xf8, b't', b't', b'x', 1, 0xff];
        let message = Message::binary([vec![7; LIMIT - less - mark.len()], mark.to_vec()].concat());
        within(stranger.send(message.clone())).await.unwrap();
        assert!(next(&mut victim).await == message, "{less} bytes less than the limit");
    }
    assert_eq!(victim.handle().reconnect().unwrap().connections(), 1);
}

/// An opening message, by `docs/wire.md`.
fn hello(window: u32) -> Message {
    let window = [window; 2].map(u32::to_le_bytes).concat();
    let mark = [1, 3, 0xf8, b't', b't', b'x', 1, 0xff];
    Message::binary([&[1, 0][..], &[0; 32], &window, &[0; 32], &1_u64.to_le_bytes(), &mark].concat())
}

#[tokio::test]
async fn a_client_that_names_a_window_without_bound_and_reads_nothing_is_let_go_by_an_echo() {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = taken.clone();
    let (ended, mut end) = unbounded_channel();
    let handler = move |mut session: Session<WebSocket>| {
        let (counted, ended) = (counted.clone(), ended.clone());
        async move {
            let error = loop {
                match session.next().await {
                    Some(Ok(message)) if message.is_data() => {
                        counted.fetch_add(1, SeqCst);
                        if let Err(error) = session.send(message).await {
                            break error;
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break error,
                    None => return,
                }
            };
            let _ = ended.send(error);
        }
    };
    let (address, _) = sessions(SessionStore::new(), handler).await;
    let request = http::Request::get(format!("ws://{address}/")).body(()).unwrap();
    let mut peer = WebSocketConnector::new().oneshot(request).await.unwrap().into_body();
    peer.send(hello(u32::MAX)).await.unwrap();
    let (mut sink, mut stream) = StreamExt::split(peer);
    tokio::spawn(async move { while let Some(Ok(_)) = stream.next().await {} });
    tokio::spawn(async move { while sink.send(Message::binary(vec![7; 1 << 20])).await.is_ok() {} });
    let error = within(end.recv()).await.unwrap();
    assert!(error.is_closed() || error.is_protocol(), "{error:?}");
    assert!(taken.load(SeqCst) <= 4, "{taken:?} MiB");
}

#[tokio::test]
async fn a_client_of_the_stack_with_a_window_without_bound_that_reads_nothing_makes_the_server_hold_its_own_bound() {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = taken.clone();
    let acceptor: OptimizedAcceptor = builder().acceptor();
    let upgrade = acceptor.upgrade(move |mut transport, _| async move {
        while let Some(Ok(message)) = transport.next().await {
            counted.fetch_add(usize::from(message.is_data()), SeqCst);
            if message.is_data() && transport.send(message).await.is_err() {
                return;
            }
        }
    });
    let address = serve(upgrade).await;
    let resume = ResumeLayer::new().replay_messages(u32::MAX as usize).replay_bytes(u32::MAX as usize);
    let mut transport = connect(builder().resume(resume), address).await;
    let sending = async {
        for _ in 0..64 {
            transport.send(Message::binary(vec![7; 1 << 20])).await.unwrap();
        }
    };
    // It sends as long as the server takes anything, and never reads for its user.
    let _ = timeout(Duration::from_secs(2), sending).await;
    assert!(taken.load(SeqCst) <= 8, "{taken:?} MiB");
    // Once it reads, all goes on.
    for _ in 0..taken.load(SeqCst).max(1) {
        assert_eq!(next(&mut transport).await.len(), 1 << 20);
    }
}

/// Sessions of clients that vanish do not keep new clients out, without any owner or key.
async fn are_all_accepted<C>(connects: usize, address: SocketAddr, mut connect: impl FnMut() -> C)
where
    C: Service<http::Request<()>, Error = Error>,
{
    for number in 0..connects {
        let request = http::Request::get(format!("ws://{address}/")).body(()).unwrap();
        let connected = within(connect().oneshot(request)).await;
        assert!(connected.is_ok(), "connect {number}: {:?}", connected.err());
    }
}

#[tokio::test]
async fn more_sequential_connects_than_a_store_has_places_are_all_accepted() {
    let store = SessionStore::new();
    let (address, connections) = sessions(store.clone(), echo).await;
    are_all_accepted(1_200, address, || ResumeLayer::new().layer(WebSocketConnector::new())).await;
    let mut client = client(address);
    within(client.send("still served".into())).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("still served"));
    assert_eq!(connections.load(SeqCst), 1_201);
    assert!(store.len() <= 1024, "{}", store.len());
}

#[tokio::test]
async fn one_address_that_opens_many_sessions_ends_its_own_and_not_those_of_others() {
    const MALLORY: &str = "192.0.2.66";

    let (ended, mut ends) = unbounded_channel();
    let acceptor: OptimizedAcceptor = builder().max_sessions(16).acceptor();
    let upgrade = acceptor.upgrade(move |mut transport, parts| async move {
        while let Some(Ok(message)) = transport.next().await {
            let _ = transport.send(message).await;
        }
        let _ = ended.send(parts.uri.path()[1..].to_owned());
    });
    // The client's address is in the path here; a server takes it from its listener.
    let server = ServiceBuilder::new()
        .map_request(|mut request: http::Request<hyper::body::Incoming>| {
            let address: std::net::IpAddr = request.uri().path()[1..].parse().unwrap();
            request.extensions_mut().insert(SocketAddr::new(address, 4711));
            request
        })
        .service(upgrade);
    let address = serve_http(server).await;
    let open_and_vanish = async |client: &str| {
        let mut transport = within(builder().connect(&format!("ws://{address}/{client}"))).await.unwrap();
        within(transport.send("used".into())).await.unwrap();
        assert_eq!(next(&mut transport).await, Message::text("used"));
    };
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        open_and_vanish(client).await;
    }
    for _ in 0..48 {
        open_and_vanish(MALLORY).await;
    }
    assert_eq!(acceptor.sessions(), 16);
    for _ in 0..35 {
        assert_eq!(within(ends.recv()).await.unwrap(), MALLORY);
    }
    assert!(ends.try_recv().is_err());
}

#[tokio::test]
async fn a_stack_serves_new_clients_after_more_connects_than_it_has_places() {
    let acceptor: OptimizedAcceptor = builder().max_sessions(16).acceptor();
    let address = serve(acceptor.upgrade(|transport, _| echo(transport))).await;
    for number in 0..64 {
        let mut transport = connect(builder(), address).await;
        if number % 2 == 0 {
            within(transport.send("used".into())).await.unwrap();
            assert_eq!(next(&mut transport).await, Message::text("used"));
        }
    }
    assert!(acceptor.sessions() <= 16);
}

/// A server that closes each connection with 1009 while its client writes: it reads a little, sends the close frame and
/// closes the socket with data unread, which resets the connection. Its sessions are by `docs/wire.md`, and receive
/// nothing.
async fn closes_while_it_is_written_to(has_sessions: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let is_first = counted.fetch_add(1, SeqCst) == 0;
            tokio::spawn(close_while_it_is_written_to(tcp, has_sessions.then_some(is_first)));
        }
    });
    (address, connections)
}

/// The answer to a client's hello, by `docs/wire.md`.
fn welcome(is_first: bool) -> Vec<u8> {
    let (token, window) = ([u8::from(is_first); 16], [64 << 20_u32; 2].map(u32::to_le_bytes).concat());
    let mark = [2, 3, 0xf8, b't', b't', b'x', 1, 0xff];
    [&[1, u8::from(!is_first)][..], &[7; 16], &token, &window, &[0; 32], &mark].concat()
}

async fn close_while_it_is_written_to(mut tcp: TcpStream, session: Option<bool>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(tcp.read_u8().await.unwrap());
    }
    let request = String::from_utf8(request).unwrap();
    let key =
        request.lines().find_map(|line| line.to_lowercase().starts_with("sec-websocket-key:").then(|| &line[18..]));
    let accept = tungstenite::handshake::derive_accept_key(key.unwrap().trim().as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    tcp.write_all(answer.as_bytes()).await.unwrap();
    if let Some(is_first) = session {
        // The client's hello: 90 bytes, and 6 of a masked frame.
        tcp.read_exact(&mut [0; 96]).await.unwrap();
        let welcome = welcome(is_first);
        tcp.write_all(&[&[0x82, welcome.len() as u8][..], &welcome].concat()).await.unwrap();
    }
    tcp.read_exact(&mut [0; 1000]).await.unwrap();
    tcp.write_all(&[0x88, 2, 0x03, 0xf1]).await.unwrap();
}

/// Writes, and never reads, until the transport fails.
async fn write_until_it_fails<T>(transport: &mut T) -> Error
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    within(async {
        loop {
            match transport.send(Message::binary(vec![7; 64 << 10])).await {
                Err(error) if !error.is_rejection() => return error,
                _ => {}
            }
        }
    })
    .await
}

fn is_for_a_message(error: &Error) -> bool {
    error.close_frame().is_some_and(|frame| frame.code() == CloseCode::TOO_BIG)
}

#[tokio::test]
async fn a_session_sees_the_close_code_of_a_peer_that_closes_the_socket_while_this_end_writes() {
    let (address, connections) = closes_while_it_is_written_to(true).await;
    let layer = ResumeLayer::new().replay_bytes(64 << 20).replay_messages(1 << 20);
    let mut connector = layer.layer(WebSocketConnector::new());
    for connection in 1..=4 {
        let request = http::Request::get(format!("ws://{address}/")).body(()).unwrap();
        let response = within(connector.ready().await.unwrap().call(request)).await.unwrap();
        let verdict = *response.extensions().get::<Verdict>().unwrap();
        let error = write_until_it_fails(&mut response.into_body()).await;
        assert!(is_for_a_message(&error), "{connection}: {error:?}");
        assert_eq!(error.is_too_large(), connection == 3, "{connection}: {error:?}");
        assert_eq!(matches!(verdict, Verdict::Resumed { .. }), connection > 1, "{connection}: {verdict:?}");
        if connection == 3 {
            break;
        }
    }
    assert_eq!(connections.load(SeqCst), 3);
    assert_eq!(connector.handle().id(), None, "the session is given up");
}

#[tokio::test]
async fn a_client_with_sessions_that_only_writes_ends_with_the_close_code_that_the_peer_sent_before_it_closed_the_socket()
 {
    let (address, connections) = closes_while_it_is_written_to(true).await;
    let resume = ResumeLayer::new().replay_bytes(64 << 20).replay_messages(1 << 20);
    let mut client =
        Box::pin(ServiceBuilder::new().layer(reconnecting(address)).layer(resume).service(WebSocketConnector::new()));
    let error = write_until_it_fails(&mut client).await;
    assert!(is_for_a_message(&error), "{error:?}");
    assert_eq!(connections.load(SeqCst), 1);
}

#[tokio::test]
async fn a_client_that_only_writes_ends_with_the_close_code_that_the_peer_sent_before_it_closed_the_socket() {
    for when_lost in [WhenLost::Fail, WhenLost::Keep(Keep::messages())] {
        let (address, connections) = closes_while_it_is_written_to(false).await;
        let layer = reconnecting(address).when_lost(when_lost);
        let mut client = Box::pin(ServiceBuilder::new().layer(layer).service(WebSocketConnector::new()));
        let error = write_until_it_fails(&mut client).await;
        assert!(is_for_a_message(&error), "{error:?}");
        assert_eq!(connections.load(SeqCst), 1);
    }
}

/// A handler that closes with 1009 while its client writes, and never reads the rest. Its session is by `docs/wire.md`.
async fn close_in_between<T>(mut transport: T, session: Option<bool>)
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    if let Some(is_first) = session {
        let _hello = transport.next().await;
        transport.send(Message::binary(welcome(is_first))).await.unwrap();
    }
    let _first = transport.next().await;
    let _ = transport.send(Message::Close(Some(CloseFrame::new(CloseCode::TOO_BIG, "")))).await;
}

/// A client of a server whose handler is [`close_in_between`], over another transport than TCP's own.
struct Other {
    url: String,
    connector: BoxCloneSyncService<http::Request<()>, http::Response<BoxTransport<Message>>, Error>,
    connections: Arc<AtomicUsize>,
}

impl Other {
    fn new<C, T>(url: String, connector: C, connections: Arc<AtomicUsize>) -> Self
    where
        C: Service<http::Request<()>, Response = http::Response<T>, Error = Error, Future: Send>,
        C: Clone + Send + Sync + 'static,
        T: Transport<Message, In = Message, TransportError = Error> + Send + 'static,
    {
        let connector = connector.map_response(|response: http::Response<T>| response.map(TransportExt::into_boxed));
        Self { url, connector: BoxCloneSyncService::new(connector), connections }
    }

    async fn sse_and_post(has_sessions: bool) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let server = SseDuplexServer::new(move |session, _| {
            let is_first = counted.fetch_add(1, SeqCst) == 0;
            close_in_between(session, has_sessions.then_some(is_first))
        });
        let address = serve_http(server).await;
        Self::new(format!("http://{address}/"), SseDuplexConnector::new(), connections)
    }

    async fn webtransport(has_sessions: bool) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let certificate = Certificate::development(&[]).unwrap();
        let connector = WebTransportConnector::new().certificate_hashes([certificate.hash()]);
        let mut server = WebTransportServer::bind("127.0.0.1:0".parse().unwrap(), certificate).unwrap();
        let url = format!("https://{}/", server.local_addr().unwrap());
        tokio::spawn(async move {
            server
                .serve(move |stream, _| {
                    let is_first = counted.fetch_add(1, SeqCst) == 0;
                    close_in_between(stream, has_sessions.then_some(is_first))
                })
                .await;
        });
        Self::new(url, connector, connections)
    }

    /// A session by hand: the third connection that ends like this is the last.
    async fn sees_the_code_of_each_connection(self) {
        let layer = ResumeLayer::new().replay_bytes(64 << 20).replay_messages(1 << 20);
        let mut connector = layer.layer(self.connector);
        for connection in 1..=3 {
            let request = http::Request::get(&self.url).body(()).unwrap();
            let response = within(connector.ready().await.unwrap().call(request)).await.unwrap();
            let error = write_until_it_fails(&mut response.into_body()).await;
            assert!(is_for_a_message(&error), "{connection}: {error:?}");
            assert_eq!(error.is_too_large(), connection == 3, "{connection}: {error:?}");
        }
        assert_eq!(self.connections.load(SeqCst), 3);
        assert_eq!(connector.handle().id(), None, "the session is given up");
    }

    fn reconnecting(&self) -> ReconnectLayer {
        ReconnectLayer::new(self.url.parse::<http::Uri>().unwrap(), backoff())
    }

    async fn ends_a_client_that_only_writes(self, when_lost: WhenLost<Message>) {
        let layer = self.reconnecting().when_lost(when_lost);
        let mut client = Box::pin(ServiceBuilder::new().layer(layer).service(self.connector));
        let error = write_until_it_fails(&mut client).await;
        assert!(is_for_a_message(&error), "{error:?}");
        assert_eq!(self.connections.load(SeqCst), 1);
    }

    async fn ends_a_client_with_sessions_that_only_writes(self) {
        let resume = ResumeLayer::new().replay_bytes(64 << 20).replay_messages(1 << 20);
        let stack = ServiceBuilder::new().layer(self.reconnecting()).layer(resume);
        let mut client = Box::pin(stack.service(self.connector));
        let error = write_until_it_fails(&mut client).await;
        assert!(is_for_a_message(&error), "{error:?}");
        assert_eq!(self.connections.load(SeqCst), 1);
    }
}

macro_rules! a_close_is_seen_though_a_write_failed {
    ($name:ident) => {
        mod $name {
            use super::*;

            #[tokio::test]
            async fn a_session_sees_the_close_code_of_a_handler_that_closes_while_this_end_writes() {
                Other::$name(true).await.sees_the_code_of_each_connection().await;
            }

            #[tokio::test]
            async fn a_client_with_sessions_that_only_writes_ends_with_it() {
                Other::$name(true).await.ends_a_client_with_sessions_that_only_writes().await;
            }

            #[tokio::test]
            async fn a_client_that_only_writes_ends_with_it() {
                Other::$name(false).await.ends_a_client_that_only_writes(WhenLost::Fail).await;
                Other::$name(false).await.ends_a_client_that_only_writes(WhenLost::Keep(Keep::messages())).await;
            }
        }
    };
}

a_close_is_seen_though_a_write_failed!(sse_and_post);
a_close_is_seen_though_a_write_failed!(webtransport);
