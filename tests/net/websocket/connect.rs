//! The connector: what goes out, what comes back, and how each failure is told apart.

use std::{convert::Infallible, error::Error as _, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tower::{ServiceBuilder, ServiceExt, service_fn, timeout::TimeoutLayer};
use tower_http::{
    auth::AddAuthorizationLayer,
    request_id::{MakeRequestUuid, SetRequestIdLayer},
    set_header::SetRequestHeaderLayer,
};
use tower_transport::{
    Connect, Error, Limits, Message, TransportExt,
    transport::websocket::{WebSocket, WebSocketConnector, WebSocketService},
};

/// Says who connected, then echoes.
async fn greet(mut socket: WebSocket, parts: http::request::Parts) {
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    let greeting = format!(
        "{} {} {} {} {}",
        parts.uri,
        header("host"),
        header("authorization"),
        header("x-request-id").len(),
        header("x-app"),
    );
    socket.send_message(Message::text(greeting)).await.unwrap();
    while let Some(Ok(message)) = socket.receive_message().await {
        if message.is_data() {
            socket.send_message(message).await.unwrap();
        }
    }
}

fn serve_connection(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let upgrade = WebSocketService::new(greet).subprotocol("v2").unwrap().subprotocol("v1").unwrap();
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(upgrade))
        .with_upgrades();
    tokio::spawn(connection);
}

/// A server of WebSockets; gives its address.
async fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            serve_connection(tcp);
        }
    });
    address
}

/// A server that gives `answer` to whatever it is asked; `None` keeps silent.
async fn answering(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = tcp.read(&mut request).await;
        match answer {
            Some(answer) => tcp.write_all(answer.as_bytes()).await.unwrap(),
            None => std::future::pending().await,
        }
    });
    address
}

fn get(url: &str) -> Request<()> {
    Request::get(url).body(()).unwrap()
}

async fn first_words<C>(connector: C, url: &str) -> String
where
    C: Connect<Transport = WebSocket>,
    C::ConnectError: std::fmt::Debug,
{
    let response = connector.oneshot(get(url)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut socket = response.into_body();
    let greeting = socket.receive_message().await.unwrap().unwrap();
    socket.send_message(Message::binary(vec![7; 100_000])).await.unwrap();
    assert_eq!(socket.receive_message().await.unwrap().unwrap().len(), 100_000);
    socket.close(None).await.unwrap();
    greeting.as_text().unwrap().to_owned()
}

async fn failure(connector: WebSocketConnector, url: &str) -> Error {
    connector.oneshot(get(url)).await.unwrap_err()
}

#[tokio::test]
async fn towers_and_tower_https_own_layers_work_on_the_handshake() {
    let address = server().await;
    let connector = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(5)))
        .map_err(Error::from)
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(AddAuthorizationLayer::bearer("secret"))
        .layer(SetRequestHeaderLayer::overriding(
            http::HeaderName::from_static("x-app"),
            http::HeaderValue::from_static("tests"),
        ))
        .concurrency_limit(1)
        .service(WebSocketConnector::new());
    let greeting = first_words(connector, &format!("ws://{address}/feed?a=b")).await;
    assert_eq!(greeting, format!("/feed?a=b {address} Bearer secret 36 tests"));
}

#[tokio::test]
async fn the_subprotocol_is_the_servers_choice_among_what_is_offered() {
    let url = format!("ws://{}/", server().await);
    let offer = |names: &[&str]| {
        names.iter().fold(WebSocketConnector::new(), |connector, name| connector.subprotocol(name).unwrap())
    };
    for (offered, chosen) in
        [(&["v1", "v2"][..], Some("v2")), (&["v0", "v1"], Some("v1")), (&["v0"], None), (&[], None)]
    {
        let response = offer(offered).oneshot(get(&url)).await.unwrap();
        let header = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL).map(|value| value.to_str().unwrap());
        assert_eq!(header, chosen);
        assert_eq!(response.body().subprotocol(), chosen);
    }
    assert!(WebSocketConnector::new().subprotocol("not a token").unwrap_err().is_config());
}

#[cfg(unix)]
#[tokio::test]
async fn unix_sockets_are_connected_too() {
    let path = std::env::temp_dir().join(format!("tower-transport-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move { serve_connection(listener.accept().await.unwrap().0) });
    let greeting = first_words(WebSocketConnector::new().unix(&path), "ws://any.name/feed").await;
    assert_eq!(greeting, "/feed any.name - 1 -");
    std::fs::remove_file(&path).unwrap();
}

/// An HTTP proxy that knows CONNECT, for one connection.
async fn proxy() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                let allowed = request.headers().get(header::PROXY_AUTHORIZATION);
                if allowed.is_none_or(|value| value != "Basic dXNlcjpwYXNz") {
                    let mut answer = Response::new(Full::new(Bytes::from("who are you?")));
                    *answer.status_mut() = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
                    return Ok::<_, Infallible>(answer);
                }
                let target = request.uri().authority().unwrap().to_string();
                tokio::spawn(async move {
                    let client = hyper::upgrade::on(request).await.unwrap();
                    let mut server = tokio::net::TcpStream::connect(target).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut server).await;
                });
                Ok(Response::new(Full::new(Bytes::new())))
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(service))
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
    address
}

#[tokio::test]
async fn a_proxy_is_asked_to_connect_and_its_refusal_is_told() {
    let (server, proxy) = (server().await, proxy().await);
    let by = |proxy: String| WebSocketConnector::new().proxy(&proxy.parse().unwrap()).unwrap();
    let url = format!("ws://{server}/feed");
    let greeting = first_words(by(format!("http://user:pass@{proxy}")), &url).await;
    assert_eq!(greeting, format!("/feed {server} - 1 -"));

    let error = failure(by(format!("http://{proxy}")), &url).await;
    assert!(error.is_auth() && error.to_string().contains("proxy"), "{error}");
    assert_eq!(error.status(), Some(StatusCode::PROXY_AUTHENTICATION_REQUIRED));
    assert_eq!(error.response_body().unwrap(), "who are you?");
    assert!(!format!("{:?}", by("http://user:pass@localhost".into())).contains("pass"), "a secret in Debug");
}

#[tokio::test]
async fn a_proxy_that_answers_connect_without_a_tunnel_is_an_error_at_once() {
    let proxy = answering(Some("HTTP/1.1 204 No Content\r\n\r\n")).await;
    let connector = WebSocketConnector::new().proxy(&format!("http://{proxy}").parse().unwrap()).unwrap();
    // Under the default of 10 s it would be a timeout.
    let error = failure(connector, "ws://example.com/feed").await;
    assert_eq!(error.status(), Some(StatusCode::NO_CONTENT), "{error:?}");
    assert!(error.to_string().contains("proxy"), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = failure(WebSocketConnector::new(), &format!("ws://{address}/")).await;
    assert!(error.is_refused(), "{error:?}");
    assert!(error.source().is_some());
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_dns_error_that_says_the_name() {
    let error = failure(WebSocketConnector::new(), "ws://no-such-host.invalid/").await;
    assert!(error.is_dns() && error.to_string().contains("no-such-host.invalid"), "{error:?}");
}

#[tokio::test]
async fn another_status_is_told_with_its_body() {
    let address = answering(Some("HTTP/1.1 503 No\r\ncontent-length: 9\r\n\r\ncome back")).await;
    let error = failure(WebSocketConnector::new(), &format!("ws://{address}/")).await;
    assert!(error.is_status(), "{error:?}");
    assert_eq!(error.status(), Some(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(error.response_body().unwrap(), "come back");

    let address = answering(Some("HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n")).await;
    assert!(failure(WebSocketConnector::new(), &format!("ws://{address}/")).await.is_auth());
}

#[tokio::test]
async fn another_status_is_told_with_its_headers() {
    let address = answering(Some(
        "HTTP/1.1 401 No\r\nwww-authenticate: Bearer realm=\"feed\"\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         retry-after: Sun, 06 Nov 1994 08:50:37 GMT\r\ncontent-length: 0\r\n\r\n",
    ))
    .await;
    let error = failure(WebSocketConnector::new(), &format!("ws://{address}/")).await;
    assert_eq!(error.response_headers().unwrap()[header::WWW_AUTHENTICATE], "Bearer realm=\"feed\"");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));

    let address = answering(Some("HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n")).await;
    let error = failure(WebSocketConnector::new(), &format!("ws://{address}/")).await;
    assert_eq!(
        (error.status(), &error.response_headers().unwrap()["location"]),
        (Some(StatusCode::FOUND), &"/login".parse().unwrap())
    );
}

#[tokio::test]
async fn an_answer_may_have_more_headers_than_hyper_takes_by_default_and_a_limit_names_itself() {
    let answer = |headers: usize| {
        let headers: String = (0..headers).map(|number| format!("x-{number}: 1\r\n")).collect();
        &*format!("HTTP/1.1 503 No\r\n{headers}content-length: 0\r\n\r\n").leak()
    };
    let address = answering(Some(answer(124))).await;
    let error = failure(WebSocketConnector::new(), &format!("ws://{address}/")).await;
    assert_eq!(error.response_headers().map(http::HeaderMap::len), Some(125), "{error:?}");

    let address = answering(Some(answer(600))).await;
    let error = failure(WebSocketConnector::new(), &format!("ws://{address}/")).await;
    assert!(error.is_too_large() && error.to_string().contains("512 headers"), "{error}");
}

/// aiohttp, gorilla and others look at the first line alone.
#[tokio::test]
async fn all_subprotocols_are_offered_in_one_header_line() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connector = WebSocketConnector::new().subprotocol("v2").unwrap().subprotocol("v1").unwrap();
    let request = Request::get(format!("ws://{address}/"))
        .header(header::SEC_WEBSOCKET_PROTOCOL, "layer")
        .header(header::SEC_WEBSOCKET_PROTOCOL, "v1, last");
    let connecting = tokio::spawn(connector.oneshot(request.body(()).unwrap()));
    let (mut tcp, _) = listener.accept().await.unwrap();
    let mut head = [0; 4096];
    let length = tcp.read(&mut head).await.unwrap();
    let head = String::from_utf8(head[..length].to_vec()).unwrap().to_ascii_lowercase();
    let offers: Vec<_> = head.lines().filter(|line| line.starts_with("sec-websocket-protocol")).collect();
    assert_eq!(offers, ["sec-websocket-protocol: layer, v1, last, v2"]);
    connecting.abort();
}

#[tokio::test]
async fn an_answer_that_is_no_websockets_is_a_protocol_error() {
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    ] {
        let address = answering(Some(answer)).await;
        let error = failure(WebSocketConnector::new(), &format!("ws://{address}/")).await;
        assert!(error.is_protocol(), "{answer}: {error:?}");
    }
    let address = answering(Some("")).await;
    assert!(failure(WebSocketConnector::new(), &format!("ws://{address}/")).await.is_closed(), "cut");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_keeps_silent_is_a_timeout_that_names_the_limit() {
    let address = answering(None).await;
    let start = tokio::time::Instant::now();
    let connector = WebSocketConnector::new().limits(Limits::new().handshake(Duration::from_secs(7)));
    let error = failure(connector, &format!("ws://{address}/")).await;
    assert!(error.is_timeout() && error.to_string().contains("7s"), "{error}");
    assert_eq!(start.elapsed().as_secs(), 7, "on the paused clock");
}

#[tokio::test]
async fn a_url_that_cannot_work_is_a_config_error() {
    for url in ["ftp://localhost/", "/feed"] {
        assert!(failure(WebSocketConnector::new(), url).await.is_config(), "{url}");
    }
}
mod tls {
    use tokio_rustls::rustls::ClientConfig;

    use super::*;

    /// A TLS server for `localhost`, and the client configuration that trusts it alone.
    async fn server() -> (u16, Arc<ClientConfig>) {
        let (acceptor, client) = support::tls::localhost();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                if let Ok(tls) = acceptor.accept(tcp).await {
                    serve_connection(tls);
                }
            }
        });
        (port, client)
    }

    #[tokio::test]
    async fn wss_with_own_roots() {
        let (port, config) = server().await;
        let greeting =
            first_words(WebSocketConnector::new().tls(config), &format!("wss://localhost:{port}/feed")).await;
        assert_eq!(greeting, format!("/feed localhost:{port} - 1 -"));
    }

    /// A configuration that is shared with a client of HTTP/2, and a server that would choose it.
    #[tokio::test]
    async fn wss_with_a_configuration_that_offers_http_2() {
        for offered in [&[&b"h2"[..]][..], &[b"h2", b"http/1.1"]] {
            let (port, config) = server().await;
            let mut shared = ClientConfig::clone(&config);
            shared.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
            let connector = WebSocketConnector::new().tls(Arc::new(shared));
            first_words(connector, &format!("wss://localhost:{port}/feed")).await;
        }
    }

    #[tokio::test]
    async fn wss_through_a_proxy() {
        let (port, config) = server().await;
        let proxy = format!("http://user:pass@{}", proxy().await);
        let connector = WebSocketConnector::new().proxy(&proxy.parse().unwrap()).unwrap().tls(config);
        first_words(connector, &format!("wss://localhost:{port}/feed")).await;
    }

    #[tokio::test]
    async fn a_certificate_of_another_name_or_an_unknown_root_is_a_tls_error() {
        let (port, config) = server().await;
        let error = failure(WebSocketConnector::new().tls(config), &format!("wss://127.0.0.1:{port}/")).await;
        assert!(error.is_tls(), "{error:?}");
        {
            let error = failure(WebSocketConnector::new(), &format!("wss://localhost:{port}/")).await;
            assert!(error.is_tls(), "{error:?}");
        }
    }

    #[tokio::test]
    async fn wss_to_a_server_without_tls_is_told_apart_from_a_refusal() {
        let address = answering(Some("HTTP/1.1 400 Bad Request\r\n\r\n")).await;
        let (_, config) = server().await;
        let error = failure(WebSocketConnector::new().tls(config), &format!("wss://{address}/")).await;
        assert!(error.is_tls(), "{error:?}");
    }
}
