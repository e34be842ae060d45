//! Heads of handshakes that do not end, or have too many headers, at each end: refused with the limit by name, and in
//! bounded memory. Each test is alone on its thread, which is what is measured.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tower::{Service, ServiceExt};
use tower_transport::{
    Error, Limits,
    transport::{
        sse::{SseConnector, SseDuplexConnector, SseDuplexServer},
        websocket::{WebSocketAcceptor, WebSocketConnector},
        webtransport::{Certificate, WebTransportConnector, WebTransportServer},
    },
};

use crate::{
    allocator::Growth,
    attack::{REQUEST, our_server},
    within,
};

const KIB: usize = 1024;

/// The heads of three responses without an end: headers, one header, and informational responses.
const ENDLESS: [(&str, &str); 3] = [
    ("HTTP/1.1 200 OK\r\n", "x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n"),
    ("HTTP/1.1 200 OK\r\nx: ", "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"),
    ("", "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n"),
];

#[derive(Clone, Copy, Debug)]
enum Client {
    WebSocket,
    Sse,
    SseDuplex,
}

impl Client {
    const ALL: [Self; 3] = [Self::WebSocket, Self::Sse, Self::SseDuplex];

    async fn connect(self, limits: Limits, url: String) -> Result<(), Error> {
        let request = Request::get(url).body(()).unwrap();
        match self {
            Self::WebSocket => WebSocketConnector::new().limits(limits).oneshot(request).await.map(drop),
            Self::Sse => SseConnector::new().limits(limits).oneshot(request).await.map(drop),
            Self::SseDuplex => SseDuplexConnector::new().limits(limits).oneshot(request).await.map(drop),
        }
    }

    /// Connects to a server with a thread of its own, which sends `start`, and then `more` until the client hangs up.
    /// Returns what comes of it, and the number of bytes that it held at most.
    fn attacked(self, limits: Limits, start: &'static str, more: &'static str) -> (Result<(), Error>, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let attacker = thread::spawn(move || {
            let mut tcp = listener.accept().unwrap().0;
            read_head(&mut tcp);
            let more = more.repeat(if more.is_empty() { 0 } else { 4 * KIB / more.len() });
            let _ = tcp.write_all(start.as_bytes());
            while !more.is_empty() && tcp.write_all(more.as_bytes()).is_ok() {}
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(async {
            let growth = Growth::start();
            let connected = within(self.connect(limits, url)).await;
            (connected, growth.peak())
        });
        attacker.join().unwrap();
        outcome
    }
}

fn read_head(tcp: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tcp.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
}

#[test]
fn a_response_head_without_an_end_is_refused_and_holds_no_more_than_its_limit_allows() {
    for client in Client::ALL {
        for (start, more) in ENDLESS {
            let (connected, held) = client.attacked(Limits::new(), start, more);
            let error = connected.unwrap_err();
            println!("{client:?}, `{start}`: {} KiB", held / KIB);
            assert!(error.is_too_large(), "{client:?}: {error:?}");
            let limit = if start.is_empty() { "Limits::handshake_bytes" } else { "Limits::header_bytes" };
            assert!(error.to_string().contains(limit), "{client:?}: {error}");
            assert!(held < 320 * KIB, "{client:?}: {held}");
        }
    }
}

#[test]
fn the_limits_of_a_response_head_are_the_configured_ones() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n";
    for client in Client::ALL {
        for (limits, limit, size) in [
            (Limits::new().headers(3), "Limits::headers", "3"),
            (Limits::new().header_bytes(50), "Limits::header_bytes", "50"),
            (Limits::new().handshake_bytes(1), "Limits::handshake_bytes", ""),
        ] {
            // The bytes of the first read are not too many, wherever it ends.
            let (start, more) = if size.is_empty() { ENDLESS[2] } else { (HEAD, "") };
            let error = client.attacked(limits, start, more).0.unwrap_err();
            assert!(error.is_too_large(), "{client:?}: {error:?}");
            assert!(error.to_string().contains(limit) && error.to_string().contains(size), "{client:?}: {error}");
        }
        // As much as is allowed. It is an event stream, and no more.
        let (connected, _) = client.attacked(Limits::new().headers(4).header_bytes(70), HEAD, "");
        assert!(
            connected.as_ref().is_ok_and(|()| matches!(client, Client::Sse))
                || connected.is_err_and(|error| !error.is_too_large()),
            "{client:?}"
        );
    }
}

#[tokio::test]
async fn a_request_head_without_an_end_is_refused_and_holds_no_more_than_its_limit_allows() {
    let headers = ("GET / HTTP/1.1\r\n", ENDLESS[0].1);
    let one_header = ("GET / HTTP/1.1\r\nx: ", ENDLESS[1].1);
    for (limits, (start, more), limit) in [
        (Limits::new(), headers, "Limits::header_bytes"),
        (Limits::new(), one_header, "Limits::header_bytes"),
        (Limits::new().headers(usize::MAX), headers, "Limits::header_bytes"),
        (Limits::new().handshake_bytes(10 * KIB), one_header, "Limits::handshake_bytes"),
    ] {
        let (mut attacker, io) = duplex(8 * KIB);
        let (mut out, attack) = (Vec::new(), more.repeat(100));
        let growth = Growth::start();
        let acceptor = WebSocketAcceptor::new().limits(limits);
        let attacking = async {
            let _ = attacker.write_all(start.as_bytes()).await;
            while attacker.write_all(attack.as_bytes()).await.is_ok() {}
            let _ = attacker.read_to_end(&mut out).await;
        };
        let (accepted, ()) = within(futures_util::future::join(acceptor.accept(io), attacking)).await;
        let (error, held) = (accepted.map(drop).unwrap_err(), growth.peak());
        println!("request, `{start}`: {} KiB", held / KIB);
        assert!(error.is_too_large() && error.to_string().contains(limit), "{error:?}");
        // With every header that fits into the bytes, 64 bytes for each.
        let room = if limits.headers == usize::MAX { 1024 * KIB } else { 0 };
        assert!(held < 320 * KIB + room, "{held}");
        let is_cut = limit == "Limits::handshake_bytes";
        assert!(is_cut || out.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&out));
    }
}

/// A handshake request with this number of headers in addition, of 20 bytes each.
fn request_with(headers: usize) -> String {
    REQUEST.replace("\r\n\r\n", &format!("\r\n{}\r\n", "x: yyyyyyyyyyyyyyy\r\n".repeat(headers)))
}

#[tokio::test]
async fn a_server_behind_hyper_refuses_the_head_that_hyper_accepted_and_names_the_limit() {
    for (limits, headers, limit) in [
        (Limits::new().headers(15), 11, Some("Limits::headers")),
        (Limits::new().headers(15), 10, None),
        (Limits::new().header_bytes(600), 40, Some("Limits::header_bytes")),
        (Limits::new().header_bytes(600), 10, None),
    ] {
        let (address, mut sockets) = our_server(limits).await;
        let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        tcp.write_all(request_with(headers).as_bytes()).await.unwrap();
        match limit {
            None => drop(within(sockets.recv()).await.expect("a session")),
            Some(limit) => {
                tcp.shutdown().await.unwrap();
                let mut answer = String::new();
                within(tcp.read_to_string(&mut answer)).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 431") && answer.contains(limit), "{answer}");
                assert!(sockets.try_recv().is_err(), "a session began");
            }
        }
    }
}

#[tokio::test]
async fn a_server_of_sse_and_post_refuses_large_heads_of_both_kinds_of_requests() {
    let limits = Limits::new().headers(10).header_bytes(400);
    let mut server = SseDuplexServer::new(|_, _| async {}).limits(limits);
    for (headers, size, status) in [(8, 1, 200), (9, 1, 431), (1, 400, 431)] {
        for method in ["GET", "POST"] {
            let mut request = Request::builder().method(method).uri("/").header("host", "a");
            request = request.header("accept", "text/event-stream");
            for _ in 0..headers {
                request = request.header("x", "y".repeat(size));
            }
            let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
            let answer = server.call(request).await.unwrap();
            // A POST without a session is refused in any case.
            let expected = if method == "POST" && status == 200 { 415 } else { status };
            assert_eq!(answer.status().as_u16(), expected, "{method} with {headers} headers of {size} bytes");
        }
    }
}

#[tokio::test]
async fn a_server_of_webtransport_refuses_a_large_head() {
    let certificate = Certificate::development(&[]).unwrap();
    let hash = certificate.hash();
    let server = WebTransportServer::bind("127.0.0.1:0".parse().unwrap(), certificate).unwrap();
    let mut server = server.limits(Limits::new().headers(10).header_bytes(400));
    let url = format!("https://{}/", server.local_addr().unwrap());
    tokio::spawn(async move {
        while let Some(incoming) = server.accept().await {
            tokio::spawn(async move { incoming.accept().await.unwrap().closed().await });
        }
    });
    for (headers, size, is_accepted) in [(10, 1, true), (11, 1, false), (1, 500, false)] {
        let mut request = Request::get(&url).body(()).unwrap();
        for header in 0..headers {
            let name = http::HeaderName::try_from(format!("x{header}")).unwrap();
            request.headers_mut().insert(name, "y".repeat(size).parse().unwrap());
        }
        let connector = WebTransportConnector::new().certificate_hashes([hash]);
        match within(connector.connect_session(request)).await {
            Ok(_) => assert!(is_accepted, "{headers} headers of {size} bytes"),
            Err(error) => {
                assert!(!is_accepted, "{headers} headers of {size} bytes: {error:?}");
                assert_eq!(error.status().map(|status| status.as_u16()), Some(431), "{error:?}");
            }
        }
    }
}
