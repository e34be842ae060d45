//! The server of the page. It prints `listening on` and its addresses, and runs until it is killed.

#[cfg(not(target_arch = "wasm32"))]
mod native {
    mod adaptive;
    mod web_transport;

    use std::{
        collections::HashMap,
        convert::Infallible,
        io::{BufRead, BufReader},
        net::{Ipv4Addr, SocketAddr},
        process::{Child, Command, Stdio},
        sync::{
            Arc, LazyLock, Mutex,
            atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
        },
        time::{Duration, SystemTime},
    };

    use browser::suite::{
        self, Pings,
        server::{Arrival, Host},
    };
    use bytes::Bytes;
    use futures_util::StreamExt;
    use http::{HeaderValue, Method, Request, Response, StatusCode, request::Parts};
    use http_body_util::Full;
    use hyper::{body::Incoming, server::conn::http1, service::service_fn};
    use hyper_util::{rt::TokioIo, service::TowerToHyperService};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::{
            Barrier,
            mpsc::{UnboundedSender, unbounded_channel},
        },
        task::JoinHandle,
        time::sleep,
    };
    use tower::{Service, ServiceBuilder};
    use tower_transport::{
        CloseCode, CloseFrame, Error, Message, ServiceBuilderExt, Transport, TransportExt,
        codec::JsonCodec,
        handshake::auth::AuthGuardLayer,
        layer::{
            auth::{Credentials, ExpiryLayer, FirstMessageGuard, Principal, StaticTokens},
            compression::Deflate,
            heartbeat::HeartbeatLayer,
            resume::{Accepted, SessionStore},
        },
        stack::{OptimizedAcceptor, OptimizedTransport},
        transport::{
            sse::{SseDuplex, SseDuplexServer},
            websocket::{WebSocket, WebSocketService},
            webtransport::WebTransportStream,
        },
    };

    /// The connections that `carry` has to cut before it lets one live.
    const CUTS: u32 = 25;
    /// The same of the stack.
    const STACK_CUTS: u32 = 1_000;

    /// Returns the number behind `name=` in the query.
    fn number(parts: &Parts, name: &str) -> usize {
        let query = parts.uri.query().unwrap_or_default();
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
    }

    async fn echo<T: Transport<Message, In = Message, TransportError = Error> + Unpin>(mut transport: T) {
        while let Some(Ok(message)) = transport.receive_message().await {
            if message.as_text() == Some("cut") {
                return; // Dropping a transport is a cut.
            }
            if message.is_data() && transport.send_message(message).await.is_err() {
                return;
            }
        }
    }

    async fn handle(mut socket: WebSocket, parts: Parts, store: SessionStore<WebSocket>) {
        match parts.uri.path() {
            "/echo" => echo(socket).await,
            "/close" => {
                let code = CloseCode::new(number(&parts, "code") as u16).unwrap_or(CloseCode::NORMAL);
                let _ = socket.close(Some(CloseFrame::new(code, "as asked"))).await;
            }
            // Records what comes, for `/last`.
            "/closed" => {
                let mut messages = 0;
                while let Some(Ok(message)) = socket.receive_message().await {
                    messages += usize::from(message.is_data());
                }
                *LAST_CLOSE.lock().unwrap() = format!("{messages} messages, {:?}", socket.close_frame());
            }
            "/last" => {
                let last = LAST_CLOSE.lock().unwrap().clone();
                let _ = socket.send_message(Message::text(last)).await;
                echo(socket).await;
            }
            // Reads late, and then echoes.
            "/late" => {
                sleep(Duration::from_millis(number(&parts, "ms") as u64)).await;
                echo(socket).await;
            }
            "/flood" => {
                let payload = vec![7; number(&parts, "bytes")];
                for _ in 0..number(&parts, "count") {
                    if socket.send_message(Message::binary(payload.clone())).await.is_err() {
                        return;
                    }
                }
                echo(socket).await;
            }
            "/stack" => {
                let layers = ServiceBuilder::new()
                    .codec(JsonCodec::<browser::Quote>::new())
                    .batch(browser::batch())
                    .compress(Deflate::new());
                let (sender, mut receiver) = socket.layer(layers).drive(tower_transport::QueueConfig::values()).spawn();
                while let Some(Ok(quote)) = receiver.receive().await {
                    let _ = sender.send(quote).await;
                }
            }
            "/heartbeat" => {
                echo(socket.layer(HeartbeatLayer::answer_only().answer_application_level())).await;
            }
            "/resume" => {
                let Ok(Accepted::New(mut session)) = store.accept(socket).await else { return };
                while let Some(Ok(message)) = session.next().await {
                    if message.is_data() && session.send_message(message).await.is_err() {
                        return;
                    }
                }
            }
            // Both halves of a case have heard all.
            "/meet" => {
                let meet = CASES.lock().unwrap()[&number(&parts, "case")].meet.clone();
                meet.wait().await;
                let _ = socket.send_message(Message::text("met")).await;
            }
            // The result of the server's half of a case, or that it panicked.
            "/outcome" => {
                let case = CASES.lock().unwrap().remove(&number(&parts, "case")).unwrap();
                let outcome = case.half.await.unwrap_or_else(|error| error.to_string());
                let _ = socket.send_message(Message::text(outcome)).await;
            }
            "/cuts" => {
                let _ = socket.send_message(Message::text(CUT.load(Relaxed).to_string())).await;
            }
            // Reads until a page is gone: whole messages of one size, and then one end.
            "/left" => {
                let mut whole = 0;
                let end = loop {
                    match socket.receive_message().await {
                        Some(Ok(Message::Binary(payload))) if payload == vec![7; 65_536] => whole += 1,
                        Some(Ok(Message::Close(frame))) => break format!("close {frame:?}"),
                        Some(Err(error)) if error.is_closed() => break "cut".to_owned(),
                        other => break format!("unexpected {other:?}"),
                    }
                };
                let is_over = socket.receive_message().await.is_none();
                *LAST_CLOSE.lock().unwrap() = format!("{whole} whole, {end}, over: {is_over}");
            }
            // Admits one token, for two seconds.
            "/expiring" => {
                let verifier = tower::service_fn(async |credentials: Credentials| {
                    let is_fresh = credentials.bearer().is_some_and(|token| token.expose() == "fresh");
                    let until = SystemTime::now() + Duration::from_secs(2);
                    if is_fresh { Ok(Guest { until }) } else { Err(Error::auth("the token has expired")) }
                });
                let Ok((socket, guest)) = FirstMessageGuard::new(verifier).accept(socket).await else { return };
                echo(Box::pin(socket.layer(ExpiryLayer::new(&guest)))).await;
            }
            // Stops the other server, which then neither reads nor answers.
            "/stop" => {
                let pid = VICTIM.lock().unwrap().as_ref().unwrap().0.id();
                let status = Command::new("kill").args(["-STOP", &pid.to_string()]).status().unwrap();
                let _ = socket.send_message(Message::text(format!("stopped: {status}"))).await;
            }
            // Kills the other server, and starts it again, without its sessions.
            "/kill" => {
                let restarted = tokio::task::spawn_blocking(|| {
                    let mut victim = VICTIM.lock().unwrap();
                    let port = victim.as_ref().map_or(0, |victim| victim.1);
                    if let Some((mut child, _)) = victim.take() {
                        child.kill().and_then(|()| child.wait()).unwrap();
                    }
                    *victim = Some(start_victim(port));
                });
                restarted.await.unwrap();
                let _ = socket.send_message(Message::text("killed")).await;
            }
            _ => {}
        }
    }

    struct Guest {
        until: SystemTime,
    }

    impl Principal for Guest {
        fn expires_at(&self) -> Option<SystemTime> {
            Some(self.until)
        }
    }

    static LAST_CLOSE: Mutex<String> = Mutex::new(String::new());

    /// The server that is killed, and its port.
    static VICTIM: Mutex<Option<(Child, u16)>> = Mutex::new(None);

    /// Starts this program once more, to serve only the stack.
    fn start_victim(port: u16) -> (Child, u16) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (child, line.trim().parse().unwrap())
    }

    /// Echoes each message of the recommended stack. `leave` ends the session.
    async fn serve_stack(listener: TcpListener) {
        let acceptor: OptimizedAcceptor = OptimizedTransport::builder().named("page").acceptor();
        let upgrade = acceptor.upgrade(|session, _| async {
            let (sender, mut receiver) = session.split();
            while let Some(Ok(message)) = receiver.receive().await {
                if message.as_text() == Some("leave") || sender.send(message).await.is_err() {
                    return;
                }
            }
        });
        let upgrade = upgrade.allow_any_origin();
        while let Ok((tcp, _)) = listener.accept().await {
            let service = TowerToHyperService::new(upgrade.clone());
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service).with_upgrades());
        }
    }

    /// The cases of the suite that run, by the number that the page gives them.
    static CASES: LazyLock<Mutex<HashMap<usize, Case>>> = LazyLock::new(Mutex::default);

    struct Case {
        arrivals: UnboundedSender<Arrival>,
        meet: Arc<Barrier>,
        half: JoinHandle<String>,
        is_of_the_stack: bool,
    }

    macro_rules! start_half {
        ($name:expr, $host:expr; $($case:ident,)*) => {
            match $name {
                $(stringify!($case) => {
                    let host = $host;
                    tokio::spawn(async move { format!("{:?}", suite::server::$case(host).await) })
                })*
                name => panic!("no case {name}"),
            }
        };
    }

    /// Gives a connection of a page to the server's half of its case.
    fn enter<T>(transport: T, is_known: bool, pings: Pings, parts: &Parts)
    where
        T: Transport<Message, In = Message, TransportError = Error> + Send + 'static,
    {
        let mut cases = CASES.lock().unwrap();
        let case = cases.entry(number(parts, "case")).or_insert_with(|| {
            let (sender, arrivals) = unbounded_channel();
            let meet = Arc::new(Barrier::new(2));
            let host = Host { arrivals, pings, meet: meet.clone() };
            let name = parts.uri.path().trim_start_matches('/');
            let half = browser::cases!(start_half! { name, host });
            Case { arrivals: sender, meet, half, is_of_the_stack: name.contains("recommended_stack") }
        });
        let _ = case.arrivals.send(Arrival { wire: transport.into_boxed(), is_known });
    }

    async fn enter_websocket(socket: WebSocket, parts: Parts) {
        let is_known = socket.subprotocol() == Some(OptimizedAcceptor::SUBPROTOCOL);
        enter(socket, is_known, Pings::Messages, &parts);
    }

    async fn enter_duplex(session: SseDuplex, parts: Parts) {
        let is_known = session.subprotocol() == Some(OptimizedAcceptor::SUBPROTOCOL);
        enter(session, is_known, Pings::Messages, &parts);
    }

    async fn enter_stream(stream: WebTransportStream, parts: Parts) {
        let is_known = stream.subprotocol() == Some(OptimizedAcceptor::SUBPROTOCOL);
        enter(stream, is_known, Pings::Its, &parts);
    }

    /// How many connections were cut, by `carry` or by the relay in front of WebTransport.
    static CUT: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Sessions of SSE and POST: echoes, or does what the first message says.
    async fn duplex(mut session: SseDuplex, parts: Parts) {
        match parts.uri.path() {
            "/close" => {
                let frame = CloseFrame::new(CloseCode::new(4001).unwrap(), "as asked");
                let _ = session.close(Some(frame)).await;
            }
            "/flood" => {
                FLOODED.store(0, Relaxed);
                for number in 0..1000_u32 {
                    let mut payload = vec![7; 64 << 10];
                    payload[..4].copy_from_slice(&number.to_le_bytes());
                    if session.send_message(Message::binary(payload)).await.is_err() {
                        return;
                    }
                    FLOODED.fetch_add(1, Relaxed);
                }
                echo(session).await;
            }
            "/flooded" => {
                let flooded = FLOODED.load(Relaxed).to_string();
                let _ = session.send_message(Message::text(flooded)).await;
                echo(session).await;
            }
            _ => echo(session).await,
        }
    }

    static FLOODED: AtomicU32 = AtomicU32::new(0);

    async fn serve_duplex(listener: TcpListener, allows_any_origin: bool) {
        let mut server = SseDuplexServer::new(duplex).subprotocol("chat.v1").unwrap();
        if allows_any_origin {
            server = server.allow_any_origin();
        }
        while let Ok((tcp, _)) = listener.accept().await {
            let service = TowerToHyperService::new(server.clone());
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service));
        }
    }

    /// Serves any service over HTTP/1.1.
    async fn serve_upgrade<S, B>(listener: TcpListener, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
            + Clone
            + Send
            + 'static,
        B: hyper::body::Body<Data = Bytes, Error: Into<tower_transport::BoxError>> + Send + 'static,
    {
        while let Ok((tcp, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service).with_upgrades());
        }
    }

    /// WebSockets for pages of its own origin, from which no page comes.
    async fn serve_strictly(listener: TcpListener) {
        let upgrade = WebSocketService::new(|socket, _| echo(socket));
        while let Ok((tcp, _)) = listener.accept().await {
            let service = TowerToHyperService::new(upgrade.clone());
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service).with_upgrades());
        }
    }

    /// The recommended stack over SSE and POST.
    async fn serve_duplex_stack(listener: TcpListener) {
        let acceptor: OptimizedAcceptor<SseDuplex> = OptimizedTransport::builder().acceptor();
        let server = SseDuplexServer::new(move |session: SseDuplex, _| {
            let acceptor = acceptor.clone();
            async move {
                let is_known = session.subprotocol() == Some(OptimizedAcceptor::SUBPROTOCOL);
                if let Ok(Some(transport)) = acceptor.accept_over(session, is_known).await {
                    echo(transport).await;
                }
            }
        });
        let server = server.subprotocol(OptimizedAcceptor::SUBPROTOCOL).unwrap().allow_any_origin();
        while let Ok((tcp, _)) = listener.accept().await {
            let service = TowerToHyperService::new(server.clone());
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service));
        }
    }

    /// Plain events: three in a response, with ids, and 204 after the ninth.
    async fn events(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let mut response = Response::new(Full::default());
        let headers = response.headers_mut();
        headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
        headers.insert("access-control-allow-headers", HeaderValue::from_static("last-event-id, authorization"));
        if request.method() == Method::OPTIONS {
            return Ok(response);
        }
        let last = request.headers().get("last-event-id").map_or("0", |id| id.to_str().unwrap());
        let last: u32 = last.parse().unwrap();
        if request.uri().path() == "/secret" && request.headers().get("authorization").is_none() {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            *response.body_mut() = Full::from("who are you?");
        } else if last >= 9 {
            *response.status_mut() = StatusCode::NO_CONTENT;
        } else {
            response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
            let events = (last + 1..last + 4).map(|id| format!("retry: 20\nid: {id}\nevent: count\ndata: {id}\n\n"));
            *response.body_mut() = Full::from(events.collect::<String>());
        }
        Ok(response)
    }

    async fn serve_events(listener: TcpListener) {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service_fn(events)));
        }
    }

    /// Carries connections to `server`, and cuts the first ones after a number of bytes that depends on `bytes` and on
    /// their own number.
    async fn cut(listener: TcpListener, server: SocketAddr, cuts: u32, bytes: fn(usize) -> usize) {
        let number = AtomicU32::new(0);
        while let Ok((tcp, _)) = listener.accept().await {
            let number = number.fetch_add(1, Relaxed);
            tokio::spawn(carry(tcp, server, if number < cuts { bytes(number as usize) } else { usize::MAX }));
        }
    }

    async fn carry(mut near: TcpStream, server: SocketAddr, mut left: usize) {
        let Ok(mut far) = TcpStream::connect(server).await else { return };
        let (mut there, mut back) = ([0; 4096], [0; 4096]);
        while left > 0 {
            let (read, target, buffer) = tokio::select! {
                read = near.read(&mut there) => (read, &mut far, &there),
                read = far.read(&mut back) => (read, &mut near, &back),
            };
            let some = read.unwrap_or(0).min(left);
            if some == 0 || target.write_all(&buffer[..some]).await.is_err() {
                return;
            }
            left -= some;
        }
        CUT.fetch_add(1, Relaxed);
    }

    #[tokio::main(flavor = "current_thread")]
    pub(super) async fn main() {
        if let Some(port) = std::env::args().nth(1) {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse().unwrap())).await.unwrap();
            println!("{}", listener.local_addr().unwrap().port());
            // It ends with the program that has started it.
            std::thread::spawn(|| {
                let _ = std::io::stdin().read_line(&mut String::new());
                std::process::exit(0);
            });
            return serve_stack(listener).await;
        }
        let store = SessionStore::new();
        let upgrade = WebSocketService::new(move |socket, parts| handle(socket, parts, store.clone()))
            .subprotocol("chat.v1")
            .and_then(|upgrade| upgrade.subprotocol("chat.v0"))
            .unwrap()
            .allow_any_origin();
        let guard = AuthGuardLayer::new(StaticTokens::new().token("6f1c", "ada"));
        let (main, main_address) = listen().await;
        let (guarded, guarded_address) = listen().await;
        let (cutting, cutting_address) = listen().await;
        let (stack, stack_address) = listen().await;
        let (stack_cutting, stack_cutting_address) = listen().await;
        let (sse, sse_address) = listen().await;
        let (sse_stack, sse_stack_address) = listen().await;
        let (strict, strict_address) = listen().await;
        let (strict_sse, strict_sse_address) = listen().await;
        let (plain_events, events_address) = listen().await;
        let (suite, suite_address) = listen().await;
        let (suite_sse, suite_sse_address) = listen().await;
        let (suite_cutting, suite_cutting_address) = listen().await;
        let (suite_sse_cutting, suite_sse_cutting_address) = listen().await;
        // Accepts in the kernel alone, and says nothing.
        let (_silent, silent_address) = listen().await;

        let open = upgrade.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = main.accept().await {
                let service = TowerToHyperService::new(open.clone());
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service).with_upgrades());
            }
        });
        tokio::spawn(async move {
            while let Ok((tcp, _)) = guarded.accept().await {
                let service = ServiceBuilder::new().layer(guard.clone()).service(upgrade.clone());
                let service = TowerToHyperService::new(service);
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service).with_upgrades());
            }
        });
        tokio::spawn(cut(cutting, main_address, CUTS, |number| 2_000 + number * 7919 % 60_000));
        let cases = WebSocketService::new(enter_websocket).subprotocol(OptimizedAcceptor::SUBPROTOCOL).unwrap();
        tokio::spawn(serve_upgrade(suite, cases.allow_any_origin()));
        let cases = SseDuplexServer::new(enter_duplex).subprotocol(OptimizedAcceptor::SUBPROTOCOL).unwrap();
        tokio::spawn(serve_upgrade(suite_sse, cases.allow_any_origin()));
        // No two handshakes in a row are cut: the server would be taken for one that does not know the stack.
        tokio::spawn(cut(suite_cutting, suite_address, u32::MAX, |number| 1 + number * 7919 % 16_000));
        tokio::spawn(cut(suite_sse_cutting, suite_sse_address, u32::MAX, |number| 1 + number * 7919 % 16_000));
        tokio::spawn(serve_stack(stack));
        tokio::spawn(serve_duplex(sse, true));
        tokio::spawn(serve_duplex(strict_sse, false));
        tokio::spawn(serve_strictly(strict));
        tokio::spawn(serve_duplex_stack(sse_stack));
        tokio::spawn(serve_events(plain_events));
        // A fifth of it is the handshake. The first connection must show that the server knows the stack.
        tokio::spawn(cut(stack_cutting, stack_address, STACK_CUTS, |number| 100 + (number * 7919 + 4_000) % 5_000));
        let (adaptive, hash) = adaptive::serve().await;
        let web_transport = web_transport::serve(hash).await;
        let victim = start_victim(0);
        let victim_port = victim.1;
        *VICTIM.lock().unwrap() = Some(victim);

        let came = browser::talk(&format!("ws://{main_address}/stack")).await.unwrap();
        println!("the client of both targets had {came} values echoed natively");
        print!("listening on main={main_address}&guarded={guarded_address}");
        print!("&cutting={cutting_address}&silent={silent_address}");
        print!("&strict={strict_address}&strict-sse={strict_sse_address}");
        print!("&suite={suite_address}&suite-cutting={suite_cutting_address}");
        print!("&suite-sse={suite_sse_address}&suite-sse-cutting={suite_sse_cutting_address}");
        print!("&sse={sse_address}&sse-stack={sse_stack_address}&events={events_address}");
        print!("&{adaptive}&{web_transport}");
        println!("&stack={stack_address}&stack-cutting={stack_cutting_address}&victim=127.0.0.1:{victim_port}");
        std::future::pending::<()>().await;
    }
}

fn main() {
    #[cfg(not(target_arch = "wasm32"))]
    native::main();
}
