//! Every native connector through a real SOCKS 5 server (microsocks) and a real HTTP proxy (tinyproxy).

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use axum::{Router, extract::ConnectInfo, middleware::Next};
use futures_util::StreamExt;
use http::StatusCode;
use support::{echo, tls};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tower_transport::{
    Error, Message, Transport, TransportExt,
    stack::{
        OptimizedTransport, TransportKind,
        adaptive::{AdaptiveConnector, Endpoints},
    },
    transport::{
        sse::{Event, EventStream, SseConnector, SseDuplexConnector, SseDuplexServer},
        websocket::{WebSocketConnector, WebSocketService},
    },
};

use crate::within;

/// A proxy as a process. All its connections leave from an address of its own, by which the server recognizes it.
struct Proxy {
    process: Child,
    folder: PathBuf,
    address: SocketAddr,
}

impl Proxy {
    /// Starts a program with the arguments for this address and this folder. Returns `None` where the tests do without
    /// foreign peers, and where the program is not installed, which fails in CI.
    async fn start(program: &str, arguments: impl FnOnce(SocketAddr, &Path) -> Vec<String>) -> Option<Self> {
        if std::env::var_os("TOWER_TRANSPORT_NO_PEERS").is_some() {
            println!("skipped: TOWER_TRANSPORT_NO_PEERS is set");
            return None;
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join(program).exists()) {
            assert!(std::env::var_os("CI").is_none(), "{program} is missing: run tests/install");
            println!("skipped: {program} is not installed (tests/install)");
            return None;
        }
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let folder = std::env::temp_dir().join(format!("tower-transport-way-out-{}", address.port()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new(program);
        command.args(arguments(address, &folder)).stdout(Stdio::null()).stderr(Stdio::null());
        let proxy = Self { process: command.spawn().unwrap(), folder, address };
        within(async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        Some(proxy)
    }

    async fn socks(credentials: &[&str]) -> Option<Self> {
        Self::start("microsocks", |address, _| {
            let port = address.port().to_string();
            let own = ["-i", "127.0.0.1", "-p", &port, "-b", PROXIES];
            own.iter().chain(credentials).map(|&argument| argument.to_owned()).collect()
        })
        .await
    }

    async fn http(settings: &str) -> Option<Self> {
        Self::start("tinyproxy", |address, folder| {
            let file = folder.join("tinyproxy.conf");
            let port = address.port();
            let own = format!("Port {port}\nListen 127.0.0.1\nBind {PROXIES}\nTimeout 60\nMaxClients 100\n");
            std::fs::write(&file, own + settings).unwrap();
            vec!["-d".to_owned(), "-c".to_owned(), file.display().to_string()]
        })
        .await
    }

    fn url(&self, scheme: &str, credentials: &str) -> http::Uri {
        format!("{scheme}://{credentials}{}", self.address).parse().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The address from which the proxies connect.
const PROXIES: &str = "127.0.0.9";

/// A server that accepts connections of the proxies only.
async fn server() -> SocketAddr {
    let acceptor = OptimizedTransport::builder().acceptor();
    let events = || async {
        let event = || Ok::<_, std::convert::Infallible>(Event::new("an event"));
        EventStream::new(futures_util::stream::once(async move { event() }).chain(futures_util::stream::pending()))
    };
    let app = Router::new()
        .route("/events", axum::routing::get(events))
        .route_service("/ws", WebSocketService::new(|socket, _| echo(socket)))
        .route_service("/sse", SseDuplexServer::new(|session, _| echo(session)))
        .route_service("/session", acceptor.upgrade(|session, _| echo(session)))
        .layer(axum::middleware::from_fn(
            async |ConnectInfo(client): ConnectInfo<SocketAddr>, request: axum::extract::Request, next: Next| {
                match client.ip().to_string() == PROXIES {
                    true => next.run(request).await,
                    false => axum::response::IntoResponse::into_response(StatusCode::IM_A_TEAPOT),
                }
            },
        ));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    address
}

async fn echoes(mut transport: impl Transport<Message, In = Message, TransportError = Error> + Unpin) {
    for message in [Message::text("hello"), Message::binary(vec![7; 300_000])] {
        transport.send_message(message.clone()).await.unwrap();
        loop {
            let answer = transport.receive_message().await.unwrap().unwrap();
            if answer.is_data() {
                assert!(answer == message, "another message came back");
                break;
            }
        }
    }
}

/// The needs of every connector of its dialer.
macro_rules! every_connector {
    ($host:expr, |$connector:ident| $configured:expr) => {{
        let host = $host;
        let $connector = WebSocketConnector::new();
        let socket = $configured;
        echoes(socket.connect(&format!("ws://{host}/ws")).await.unwrap()).await;
        let $connector = SseConnector::new();
        let mut events = $configured.connect(&format!("http://{host}/events")).await.unwrap();
        assert_eq!(events.receive_message().await.unwrap().unwrap().data(), "an event");
        let $connector = SseDuplexConnector::new();
        let sse = $configured;
        echoes(Box::pin(sse.connect(&format!("http://{host}/sse")).await.unwrap())).await;
        let url = format!("ws://{host}/session");
        echoes(OptimizedTransport::builder().connect_with(socket.clone(), &*url).await.unwrap()).await;
        let endpoints = Endpoints::new(&format!("http://{host}/")).unwrap().without(TransportKind::WebTransport);
        let adaptive = AdaptiveConnector::new(endpoints.clone()).web_socket(socket).sse(sse);
        echoes(Box::pin(
            OptimizedTransport::builder()
                .connect_with(adaptive, &endpoints)
                .await
                .unwrap_or_else(|error| panic!("{error:?}")),
        ))
        .await;
    }};
}

#[tokio::test]
async fn every_connector_goes_through_a_socks_server() {
    let Some(proxy) = Proxy::socks(&[]).await else { return };
    let server = server().await;
    within(async {
        // An address, a name that this end resolves, and one that the proxy resolves.
        every_connector!(server, |connector| connector.proxy(&proxy.url("socks5", "")).unwrap());
        let named = format!("localhost:{}", server.port());
        every_connector!(&named, |connector| connector.proxy(&proxy.url("socks5", "")).unwrap());
        every_connector!(&named, |connector| connector.proxy(&proxy.url("socks5h", "")).unwrap());
        let direct = WebSocketConnector::new().connect(&format!("ws://{server}/ws")).await.unwrap_err();
        assert_eq!(direct.status(), Some(StatusCode::IM_A_TEAPOT), "the server recognizes the proxy");
    })
    .await;
}

#[tokio::test]
async fn every_connector_goes_through_an_http_proxy() {
    let Some(proxy) = Proxy::http("").await else { return };
    let server = server().await;
    within(async {
        every_connector!(server, |connector| connector.proxy(&proxy.url("http", "")).unwrap());
        let named = format!("localhost:{}", server.port());
        every_connector!(&named, |connector| connector.proxy(&proxy.url("http", "")).unwrap());
    })
    .await;
}

#[tokio::test]
async fn tls_to_the_server_goes_through_a_socks_server() {
    let Some(proxy) = Proxy::socks(&[]).await else { return };
    let (server, (acceptor, config)) = (server().await, tls::localhost());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((near, client)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                assert_eq!(client.ip().to_string(), PROXIES);
                let mut near = acceptor.accept(near).await.unwrap();
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket
                    .bind(client.ip().to_string().parse::<std::net::IpAddr>().map(|ip| (ip, 0).into()).unwrap())
                    .unwrap();
                let mut far = socket.connect(server).await.unwrap();
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    let connector = WebSocketConnector::new().tls(config).proxy(&proxy.url("socks5h", "")).unwrap();
    within(async { echoes(connector.connect(&format!("wss://localhost:{port}/ws")).await.unwrap()).await }).await;
}

/// A refusal of the proxy, and everything that the connector shows of it.
async fn refused(connector: WebSocketConnector, url: &str) -> (Error, String) {
    let error = within(connector.connect(url)).await.unwrap_err();
    let shown = format!("{error} {error:?} {connector:?}");
    assert!(!shown.contains("tainted"), "a secret is shown: {shown}");
    (error, shown)
}

#[tokio::test]
async fn credentials_reach_a_socks_server_and_its_refusals_name_it() {
    let Some(proxy) = Proxy::socks(&["-u", "ada", "-P", "tainted p@ss"]).await else { return };
    let server = server().await;
    let by = |credentials: &str| WebSocketConnector::new().proxy(&proxy.url("socks5h", credentials)).unwrap();
    let url = format!("ws://{server}/ws");
    within(async { echoes(by("ada:tainted%20p%40ss@").connect(&url).await.unwrap()).await }).await;
    let name = format!("socks5h://{}", proxy.address);
    for credentials in ["ada:tainted@", ""] {
        let (error, shown) = refused(by(credentials), &url).await;
        assert!(error.is_auth() && error.to_string().contains(&name), "{credentials}: {shown}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (error, shown) = refused(by("ada:tainted%20p%40ss@"), &format!("ws://{closed}/")).await;
    assert!(error.is_refused() && error.to_string().contains(&name), "{shown}");
}

#[tokio::test]
async fn credentials_reach_an_http_proxy_and_its_refusals_name_it_and_the_status() {
    let Some(proxy) = Proxy::http("BasicAuth ada tainted\nConnectPort 443\n").await else { return };
    let server = server().await;
    let by = |credentials: &str| WebSocketConnector::new().proxy(&proxy.url("http", credentials)).unwrap();
    let url = format!("ws://{server}/ws");
    let name = format!("http://{}", proxy.address);
    let (error, shown) = refused(by("ada:tainted-more@"), &url).await;
    assert!(error.is_auth() && error.to_string().contains(&name) && error.to_string().contains("401"), "{shown}");
    // Only port 443 is allowed.
    let (error, shown) = refused(by("ada:tainted@"), &url).await;
    assert!(error.status() == Some(StatusCode::FORBIDDEN) && error.to_string().contains("403"), "{shown}");
    assert!(error.to_string().contains(&name) && error.to_string().contains(&server.to_string()), "{shown}");
}

/// The environment belongs to the process, so the test runs itself in another one.
#[tokio::test]
async fn the_environment_names_the_proxies() {
    const CHILD: &str = "TOWER_TRANSPORT_SERVER";

    if let Ok(server) = std::env::var(CHILD) {
        let host: &str = &server;
        within(async { every_connector!(host, |connector| connector.proxy_from_env().unwrap()) }).await;
        println!("all through the proxy");
        return;
    }
    let (Some(socks), Some(http)) = (Proxy::socks(&[]).await, Proxy::http("").await) else { return };
    let server = server().await;
    let run = |variables: Vec<(&'static str, String)>| async move {
        let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command.args(["--exact", "way_out::the_environment_names_the_proxies", "--nocapture"]);
        command.envs(variables).env(CHILD, server.to_string()).kill_on_drop(true);
        let output = within(command.output()).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success() && text.contains("all through the proxy"), text)
    };
    for variables in [
        vec![("HTTP_PROXY", http.address.to_string())],
        vec![("ALL_PROXY", socks.url("socks5", "").to_string()), ("HTTPS_PROXY", "http://127.0.0.1:1".to_owned())],
        vec![("http_proxy", socks.url("socks5h", "").to_string()), ("NO_PROXY", "10.0.0.0/8,example.com".to_owned())],
    ] {
        let (through, text) = run(variables.clone()).await;
        assert!(through, "{variables:?}: {text}");
    }
    let exempt = vec![("HTTP_PROXY", http.address.to_string()), ("NO_PROXY", "127.0.0.0/8".to_owned())];
    let (through, text) = run(exempt).await;
    assert!(!through && text.contains("418"), "the server is dialed directly: {text}");
}
