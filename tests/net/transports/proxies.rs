//! How each connector over TCP meets a proxy, and a server that refuses it: one table for all three.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use http::{Request, Response, StatusCode, Uri};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};
use tower::ServiceExt;
use tower_transport::{
    Connect, Error, Message, TransportExt,
    transport::{
        sse::{SseConnector, SseDuplexConnector, SseDuplexServer},
        websocket::WebSocketConnector,
    },
};

use crate::transports::{serve::serve_http, within};

type Outcome = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// A connector through a proxy, if there is one.
type Connector = fn(Option<&Uri>, Request<()>) -> Outcome;

fn connect<C>(connector: C, request: Request<()>) -> Outcome
where
    C: Connect<ConnectError = Error, Future: Send> + Send + 'static,
    C::Transport: Send,
{
    Box::pin(async move { connector.oneshot(request).await.map(|_: Response<_>| ()) })
}

macro_rules! by {
    ($connector:ident) => {
        |proxy, request| {
            let connector = $connector::new();
            connect(proxy.map_or(connector.clone(), |proxy| connector.proxy(proxy).unwrap()), request)
        }
    };
}

const CONNECTORS: [(&str, Connector); 3] =
    [("ws", by!(WebSocketConnector)), ("http", by!(SseConnector)), ("http", by!(SseDuplexConnector))];

async fn head(tcp: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap().to_lowercase())
}

/// Answers the first request of each connection with these bytes, and closes it.
async fn answering(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let mut tcp = listener.accept().await.unwrap().0;
            head(&mut tcp).await;
            let _ = tcp.write_all(answer.as_bytes()).await;
        }
    });
    address
}

/// Connects to where it is asked to, and tells each request's head.
async fn tunnelling() -> (SocketAddr, UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, seen) = unbounded_channel();
    tokio::spawn(async move {
        loop {
            let mut near = listener.accept().await.unwrap().0;
            let head = head(&mut near).await.unwrap();
            let to = head.split(' ').nth(1).unwrap().to_owned();
            let _ = heads.send(head);
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                near.write_all(b"HTTP/1.0 200 Connection established\r\n\r\n").await.unwrap();
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (address, seen)
}

#[tokio::test]
async fn each_connector_tells_how_a_proxy_refuses_it() {
    for (answer, status, says) in [
        (
            "HTTP/1.1 407 No\r\nproxy-authenticate: Basic realm=x\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nwho?",
            StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            "proxy",
        ),
        ("HTTP/1.1 503 No\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", StatusCode::SERVICE_UNAVAILABLE, "proxy"),
        ("HTTP/1.1 302 Found\r\nlocation: http://login/\r\nretry-after: 7\r\n\r\n", StatusCode::FOUND, "proxy"),
        ("HTTP/1.1 204 None\r\nretry-after: 7\r\n\r\n", StatusCode::NO_CONTENT, "tunnel"),
    ] {
        let proxy: Uri = format!("http://{}", answering(answer).await).parse().unwrap();
        for (scheme, connector) in CONNECTORS {
            let request = Request::get(format!("{scheme}://server.invalid/")).body(()).unwrap();
            let error = within(connector(Some(&proxy), request)).await.unwrap_err();
            assert_eq!(error.status(), Some(status), "{scheme}: {error:?}");
            assert!(error.to_string().contains(says), "{scheme}: {error}");
            assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "{scheme}: {error:?}");
            let headers = error.response_headers().unwrap();
            assert!(headers.contains_key("retry-after"), "{scheme}: {headers:?}");
        }
    }
}

#[tokio::test]
async fn a_proxy_that_speaks_out_of_turn_or_no_http_is_a_broken_protocol_to_each_connector() {
    for answer in ["SSH-2.0-OpenSSH_9.9\r\n", "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n"] {
        let proxy: Uri = format!("http://{}", answering(answer).await).parse().unwrap();
        for (scheme, connector) in CONNECTORS {
            let request = Request::get(format!("{scheme}://server.invalid/")).body(()).unwrap();
            let error = within(connector(Some(&proxy), request)).await.unwrap_err();
            assert!(error.is_protocol() || error.is_closed(), "{scheme}: {error:?}");
            assert!(error.to_string().contains("proxy"), "{scheme}: {error}");
        }
    }
}

#[tokio::test]
async fn each_connector_tells_the_headers_of_a_server_that_refuses_it() {
    let answer = "HTTP/1.1 401 No\r\nwww-authenticate: Bearer\r\nlocation: /login\r\ncontent-length: 3\r\n\
                  date: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sun, 06 Nov 1994 08:49:44 GMT\r\n\r\nwho";
    let server = answering(answer).await;
    for (scheme, connector) in CONNECTORS {
        let request = Request::get(format!("{scheme}://{server}/")).body(()).unwrap();
        let error = within(connector(None, request)).await.unwrap_err();
        assert!(error.is_auth(), "{scheme}: {error:?}");
        assert_eq!(error.response_headers().unwrap()["www-authenticate"], "Bearer");
        assert_eq!(error.response_headers().unwrap()["location"], "/login");
        assert_eq!(error.response_body().unwrap(), "who");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "{scheme}: {error:?}");
    }
}

/// A server may cut the connection with its refusal, or send a body that it did not announce.
#[tokio::test]
async fn what_comes_behind_a_refusal_does_not_hide_it() {
    for status in [StatusCode::UNAUTHORIZED, StatusCode::PROXY_AUTHENTICATION_REQUIRED] {
        for behind in ["", "\r\n", "unauthorized\n"] {
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n{behind}").leak();
            let server = answering(answer).await;
            let proxy = (status == StatusCode::PROXY_AUTHENTICATION_REQUIRED)
                .then(|| format!("http://{server}").parse::<Uri>().unwrap());
            for (scheme, connector) in CONNECTORS {
                let url = format!("{scheme}://{}/", proxy.as_ref().map_or(server.to_string(), |_| "x.test".to_owned()));
                let refused = within(connector(proxy.as_ref(), Request::get(url).body(()).unwrap())).await;
                let error = refused.unwrap_err();
                assert_eq!(error.status(), Some(status), "{scheme}, {behind:?}: {error:?}");
            }
        }
    }
}

#[tokio::test]
async fn both_connections_of_sse_and_post_go_through_the_proxy_with_its_credentials_and_no_others() {
    let server = serve_http(SseDuplexServer::new(|mut session, _| async move {
        let message = session.receive_message().await.unwrap().unwrap();
        session.send_message(message).await.unwrap();
    }))
    .await;
    let (proxy, mut heads) = tunnelling().await;
    let proxy = format!("http://ada:pw@{proxy}").parse().unwrap();
    let request = Request::get(format!("http://bob:x@{server}/")).body(()).unwrap();
    let connector = SseDuplexConnector::new().proxy(&proxy).unwrap();
    let mut session = connector.oneshot(request).await.unwrap().into_body();
    session.send_message(Message::text("hello")).await.unwrap();
    assert_eq!(session.receive_message().await.unwrap().unwrap(), Message::text("hello"));
    for _ in 0..2 {
        let head = heads.try_recv().unwrap();
        assert!(head.starts_with(&format!("connect {server} http/1.1\r\n")), "{head}");
        assert!(head.contains("proxy-authorization: basic ywrhonb3\r\n"), "{head}");
        assert!(!head.contains("\r\nauthorization"), "{head}");
    }
    assert!(heads.try_recv().is_err());
}
