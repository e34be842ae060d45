//! One table of URLs, each connector: every part of a URL is used or refused.

use std::{future::Future, pin::Pin};

use http::{Request, Response};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};
use tower::ServiceExt;
use tower_transport::{
    Connect, Error,
    layer::reconnect::Target,
    stack::{AdaptiveConnector, Endpoints, TransportKind},
    transport::{
        sse::{SseConnector, SseDuplexConnector},
        websocket::WebSocketConnector,
        webtransport::{Certificate, WebTransportConnector, WebTransportServer},
    },
};

type Outcome = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

type Connector = fn(Request<()>) -> Outcome;

fn connect<C>(connector: C, request: Request<()>) -> Outcome
where
    C: Connect<ConnectError = Error, Future: Send> + Send + 'static,
    C::Transport: Send,
{
    Box::pin(async move { connector.oneshot(request).await.map(|_: Response<_>| ()) })
}

fn by_websocket(request: Request<()>) -> Outcome {
    connect(WebSocketConnector::new(), request)
}

fn by_sse(request: Request<()>) -> Outcome {
    connect(SseConnector::new(), request)
}

fn by_sse_duplex(request: Request<()>) -> Outcome {
    connect(SseDuplexConnector::new(), request)
}

fn by_webtransport(request: Request<()>) -> Outcome {
    connect(WebTransportConnector::new(), request)
}

fn by_adaptive(request: Request<()>) -> Outcome {
    connect(AdaptiveConnector::new(Endpoints::of_request()), request)
}

/// With a base that has another user.
fn by_adaptive_with_a_base(request: Request<()>) -> Outcome {
    let base = format!("{}://bob:x@localhost:9", request.uri().scheme_str().unwrap());
    let endpoints = Endpoints::new(&base).or_else(|_| Endpoints::new("http://localhost:9")).unwrap();
    connect(AdaptiveConnector::new(endpoints), request)
}

/// A connector, and the scheme that it is tried with.
const CONNECTORS: [(&str, Connector); 9] = [
    ("ws", by_websocket),
    ("wss", by_websocket),
    ("http", by_sse),
    ("http", by_sse_duplex),
    ("https", by_webtransport),
    ("http", by_adaptive),
    ("https", by_adaptive),
    ("ws", by_adaptive_with_a_base),
    ("https", by_adaptive_with_a_base),
];

#[tokio::test]
async fn a_part_of_a_url_that_cannot_be_used_is_refused_by_each_connector() {
    for (scheme, connector) in CONNECTORS {
        for (rest, says) in [
            ("localhost:99999/", "port"),
            ("localhost:65536/", "port"),
            ("1.2.3.4.5/", "address"),
            ("[fe80::1%25]:9/", "zone"),
            ("a%3Ab:c@localhost:9/", "colon"),
        ] {
            let url = format!("{scheme}://{rest}");
            let error = connector(Request::get(&url).body(()).unwrap()).await.unwrap_err();
            assert!(error.is_config() && error.to_string().contains(says), "{url}: {error}");
        }
        let request = Request::get(format!("{scheme}://ada:pw@localhost:9/")).header("authorization", "Bearer x");
        let error = connector(request.body(()).unwrap()).await.unwrap_err();
        assert!(error.is_config() && error.to_string().contains("Authorization"), "{error}");
        assert!(connector(Request::get("ftp://localhost/").body(()).unwrap()).await.unwrap_err().is_config());
    }
}

async fn head(mut tcp: TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn each_part_of_a_url_is_on_the_wire_of_each_connector_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for (scheme, connector) in
        [("WS", by_websocket as fn(Request<()>) -> Outcome), ("HTTP", by_sse), ("hTTp", by_sse_duplex)]
    {
        let request = Request::get(format!("{scheme}://ada:p%40w@0x7f.1:{port}/\u{fc}/./x?\u{fc}='1'#tail"));
        let connecting = tokio::spawn(connector(request.body(()).unwrap()));
        let head = head(listener.accept().await.unwrap().0).await;
        assert!(head.starts_with("GET /%C3%BC/x?%C3%BC=%271%27 HTTP/1.1\r\n"), "{head}");
        for line in [format!("host: 127.0.0.1:{port}\r\n"), "authorization: Basic YWRhOnBAdw==\r\n".to_owned()] {
            assert!(head.contains(&line), "{line} in {head}");
        }
        connecting.abort();
    }
}

#[tokio::test]
async fn each_part_of_a_requests_url_is_on_the_wire_of_an_adaptive_connector() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ada, bob) = (Some("Basic YWRhOnBAdw=="), Some("Basic Ym9iOng="));
    for (other, path) in [(TransportKind::Sse, "/ws"), (TransportKind::WebSocket, "/sse")] {
        for (base, user, authorization) in [
            (None, "ada:p%40w@", ada),
            (None, "", None),
            (Some(""), "ada:p%40w@", ada),
            (Some("bob:x@"), "ada:p%40w@", ada),
            (Some("bob:x@"), "", bob),
        ] {
            let endpoints = base.map_or_else(Endpoints::of_request, |base| {
                Endpoints::new(&format!("http://{base}{address}/\u{fc}/x")).unwrap()
            });
            let connector = AdaptiveConnector::new(endpoints.without(other));
            let port = address.port();
            let request = Request::get(format!("hTTp://{user}0x7f.1:{port}/\u{fc}/./x?\u{fc}='1'"));
            let connecting = tokio::spawn(connect(connector, request.body(()).unwrap()));
            let head = head(listener.accept().await.unwrap().0).await;
            assert!(head.starts_with(&format!("GET /%C3%BC/x{path}?%C3%BC=%271%27 HTTP/1.1\r\n")), "{head}");
            assert!(head.contains(&format!("host: {address}\r\n")), "{head}");
            let sent = head.lines().find_map(|line| line.strip_prefix("authorization: "));
            assert_eq!(sent, authorization, "{base:?} {user}");
            connecting.abort();
        }
    }
}

#[tokio::test]
async fn each_part_of_a_url_is_on_the_wire_of_webtransport() {
    let certificate = Certificate::development(&[]).unwrap();
    let connector = WebTransportConnector::new().certificate_hashes([certificate.hash()]);
    let mut server = WebTransportServer::bind("127.0.0.1:0".parse().unwrap(), certificate).unwrap();
    let port = server.local_addr().unwrap().port();
    let request = Request::get(format!("HTTPS://ada:p%40w@0x7f.1:{port}/\u{fc}/./x?\u{fc}='1'"));
    let connecting = tokio::spawn(connect(connector, request.body(()).unwrap()));
    let incoming = server.accept().await.unwrap();
    let parts = incoming.parts();
    assert_eq!(parts.uri.to_string(), format!("https://127.0.0.1:{port}/%C3%BC/x?%C3%BC=%271%27"));
    assert_eq!(parts.headers["authorization"], "Basic YWRhOnBAdw==");
    connecting.abort();
}

/// The zone goes to the resolver and to nobody else.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_address_with_a_zone_is_connected_to() {
    // A machine without IPv6 has nothing to try it with.
    let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
    let port = listener.local_addr().unwrap().port();
    let url = format!("ws://[::1%251]:{port}/");
    let connecting = tokio::spawn(by_websocket(Request::get(url).body(()).unwrap()));
    let head = head(listener.accept().await.unwrap().0).await;
    assert!(head.contains(&format!("host: [::1]:{port}\r\n")), "{head}");
    connecting.abort();
}

#[test]
fn a_string_may_have_what_a_browser_takes_and_is_never_repeated() {
    for url in ["ws://m\u{fc}nchen.example/", "ws://h/a b", "WS://h/\u{fc}"] {
        assert!(Target::parse(url).is_ok(), "{url}");
    }
    let target = Target::parse("ws://m\u{fc}nchen.example/?token=tainted").unwrap();
    assert!(format!("{target:?}").contains("xn--mnchen-3ya.example"), "{target:?}");
    for url in ["ws://tainted tainted/", "ws://[tainted", "ws://tainted:99999 9/"] {
        let error = Target::parse(url).unwrap_err();
        assert!(error.is_config() && !format!("{error} {error:?}").contains("tainted"), "{error:?}");
    }
}
