//! SOCKS servers that refuse, stall or answer nonsense.

use std::{net::SocketAddr, time::Duration};

use support::{log::logged, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower_transport::{Error, Limits, TransportExt, transport::websocket::WebSocketConnector};

/// A proxy that answers each write of its client with the next of `answers`, and keeps the connection open.
async fn answering(answers: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            for answer in &answers {
                if !matches!(tcp.read(&mut [0; 1024]).await, Ok(1..)) || tcp.write_all(answer).await.is_err() {
                    break;
                }
            }
            let _ = tcp.read_to_end(&mut Vec::new()).await;
        }
    });
    address
}

fn connector(scheme: &str, proxy: SocketAddr, credentials: &str) -> WebSocketConnector {
    WebSocketConnector::new().proxy(&format!("{scheme}://{credentials}{proxy}").parse().unwrap()).unwrap()
}

async fn failure(credentials: &str, answers: &[&[u8]]) -> (Error, SocketAddr) {
    let proxy = answering(answers.iter().map(|answer| answer.to_vec()).collect()).await;
    let error = within(connector("socks5h", proxy, credentials).connect("ws://example.com/")).await.unwrap_err();
    (error, proxy)
}

#[tokio::test]
async fn each_answer_of_a_socks_server_has_its_kind_and_names_the_proxy() {
    let none: &[u8] = &[5, 0];
    let reply = |code: u8| [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
    for (credentials, answers, kind, says) in [
        ("", vec![none, &reply(1)], "refused", "General SOCKS server failure"),
        ("", vec![none, &reply(2)], "auth", "ruleset"),
        ("", vec![none, &reply(3)], "refused", "Network unreachable"),
        ("", vec![none, &reply(4)], "refused", "Host unreachable"),
        ("", vec![none, &reply(5)], "refused", "Connection refused"),
        ("", vec![none, &reply(6)], "refused", "TTL expired"),
        ("", vec![none, &reply(7)], "config", "Command not supported"),
        ("", vec![none, &reply(8)], "config", "Address type not supported"),
        ("", vec![none, &reply(99)], "protocol", "SOCKS 5"),
        ("", vec![none, &[5, 0, 0, 9, 0, 0, 0, 0, 0, 0]], "protocol", "SOCKS 5"),
        ("", vec![&[5, 255]], "auth", "other credentials"),
        ("ada:tainted@", vec![&[5, 255]], "auth", "other credentials"),
        ("ada:tainted@", vec![&[5, 2], &[1, 1]], "auth", "rejected the user and the password"),
        ("ada:tainted@", vec![&[5, 2], &[9, 0]], "protocol", "SOCKS 5"),
        ("", vec![b"HTTP/1.1 400 Bad Request\r\n\r\n"], "protocol", "SOCKS 5"),
        ("", vec![&[4, 0]], "protocol", "SOCKS 5"),
    ] {
        let (error, proxy) = failure(credentials, &answers).await;
        let shown = format!("{error}; {error:?}");
        assert_eq!(error.kind_name(), kind, "{answers:?}: {shown}");
        assert!(error.to_string().contains(says), "{answers:?}: {shown}");
        assert!(error.to_string().contains(&format!("socks5h://{proxy}")), "{answers:?}: {shown}");
        assert!(!shown.contains("tainted"), "{shown}");
    }
}

#[tokio::test]
async fn a_socks_server_that_leaves_is_a_closed_connection_and_one_that_is_absent_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let hang_up = tokio::spawn(async move { listener.accept().await.unwrap().0.read(&mut [0; 9]).await.map(drop) });
    let error = within(connector("socks5h", proxy, "").connect("ws://example.com/")).await.unwrap_err();
    assert!(error.is_closed() && error.to_string().contains(&proxy.to_string()), "{error:?}");
    hang_up.await.unwrap().unwrap();
    for scheme in ["socks5", "socks5h", "http"] {
        let error = within(connector(scheme, proxy, "").connect("ws://127.0.0.1/")).await.unwrap_err();
        assert!(error.is_refused() && error.to_string().contains(&format!("{scheme}://{proxy}")), "{error:?}");
    }
}

#[tokio::test]
async fn a_socks_server_that_keeps_silent_runs_into_the_handshake_limit() {
    for answers in [vec![], vec![vec![5]], vec![vec![5, 0], vec![5, 0, 0, 3, 255]]] {
        let proxy = answering(answers).await;
        let limits = Limits::new().handshake(Duration::from_millis(200));
        let error =
            within(connector("socks5h", proxy, "").limits(limits).connect("ws://example.com/")).await.unwrap_err();
        assert!(error.is_timeout() && error.to_string().contains("Limits::handshake"), "{error:?}");
    }
}

#[tokio::test]
async fn the_handshake_reads_no_byte_of_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let serve = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut request = [0; 3];
        tcp.read_exact(&mut request).await.unwrap();
        assert_eq!(request, [5, 1, 0]);
        tcp.write_all(&[5, 0]).await.unwrap();
        let mut request = [0; 18];
        tcp.read_exact(&mut request).await.unwrap();
        assert_eq!(request, *b"\x05\x01\0\x03\x0bexample.com\x23\x28");
        // The bound address may be a name, and the server's first byte may come with it.
        tcp.write_all(b"\x05\0\0\x03\x05proxy\0\x01hello").await.unwrap();
        tcp
    };
    let dial = async {
        use tower::ServiceExt;

        let dialer = tower_transport::transport::dial::Dialer::new();
        let dialer = dialer.proxy(&format!("socks5h://{proxy}").parse().unwrap()).unwrap();
        let mut socket = dialer.oneshot("http://example.com:9000/".parse().unwrap()).await.unwrap();
        assert!(socket.tcp().is_some(), "a TCP stream is not boxed");
        let mut hello = [0; 5];
        socket.read_exact(&mut hello).await.unwrap();
        assert_eq!(hello, *b"hello");
    };
    within(async { tokio::join!(serve, dial) }).await;
}

#[tokio::test]
async fn the_password_of_a_proxy_is_in_no_log() {
    use tower_transport::{
        layer::reconnect::Backoff,
        stack::{OptimizedTransport, adaptive::AdaptiveConnector},
    };

    let text = logged(tracing::Level::TRACE, async {
        let socks = answering(vec![vec![5, 255]]).await;
        let http = answering(vec![b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n".to_vec()]).await;
        for (scheme, proxy) in [("socks5h", socks), ("http", http)] {
            let connector = connector(scheme, proxy, "ada:tainted@");
            let adaptive = AdaptiveConnector::default().web_socket(connector.clone()).limits(Limits::new());
            drop(within(adaptive.connect("http://127.0.0.1:1/")).await);
            let mut transport = OptimizedTransport::builder()
                .backoff(Backoff::fixed(Duration::from_millis(1)))
                .connect_lazily(connector, "ws://127.0.0.1:1/");
            let _ = tokio::time::timeout(Duration::from_millis(100), transport.receive_message()).await;
        }
    })
    .await;
    assert!(!text.is_empty() && !text.contains("tainted") && !text.contains("YWRhOnRhaW50ZWQ"), "{text}");
}

#[tokio::test]
async fn dropping_the_attempt_drops_the_connection_to_the_proxy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let connector = connector("socks5h", proxy, "");
    let attempt = tokio::spawn(async move { connector.connect("ws://example.com/").await.map(drop) });
    let (mut tcp, _): (TcpStream, _) = within(listener.accept()).await.unwrap();
    tcp.read_exact(&mut [0; 3]).await.unwrap();
    attempt.abort();
    assert_eq!(within(tcp.read(&mut [0; 1])).await.unwrap(), 0);
}
