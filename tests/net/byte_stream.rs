//! Protocols over bytes, on sessions whose connections are cut.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, client::conn::http2 as client, server::conn::http2 as server};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::within;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Sender, channel},
};
use tower::ServiceExt;
use tower_transport::{
    TransportExt,
    layer::reconnect::Backoff,
    stack::{OptimizedAcceptor, OptimizedBuilder, OptimizedTransport},
    transport::{
        ByteStream,
        websocket::{WebSocketConnector, WebSocketService},
    },
};

use crate::{
    proxy::Proxy,
    serve::{serve, serve_http},
};

fn builder() -> OptimizedBuilder {
    OptimizedTransport::builder().backoff(Backoff::fixed(Duration::from_millis(2)))
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.expect("the request is whole").to_bytes();
    Ok(Response::new(Full::new(body)))
}

/// An HTTP/2 server that knows nothing of messages, on sessions.
async fn http2_server() -> SocketAddr {
    let acceptor: OptimizedAcceptor = builder().acceptor();
    let upgrade = acceptor.upgrade(|transport, _| async {
        let io = TokioIo::new(transport.into_io());
        let _ = server::Builder::new(TokioExecutor::new()).serve_connection(io, hyper::service::service_fn(echo)).await;
    });
    serve(upgrade).await
}

#[tokio::test]
async fn http2_over_a_session_sees_none_of_its_cuts() {
    const CUTS: usize = 40;
    let budgets = (0..CUTS).map(|number| 3_000 + 977 * (number % 31)).collect();
    let proxy = Proxy::start(http2_server().await, budgets).await;
    let transport = within(builder().connect(&format!("ws://{}/", proxy.address))).await.unwrap();
    let io = TokioIo::new(transport.into_io());
    let (mut requests, connection) = client::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);

    let mut number = 0u32;
    while proxy.cuts.load(Relaxed) < CUTS {
        // Some requests in flight at a time, of sizes that a cut falls into.
        let answers = (0..8).map(|_| {
            number += 1;
            let body = Bytes::from(number.to_be_bytes().repeat(1 + (number as usize * 37) % 2_000));
            let request = Request::post("http://session/").body(Full::new(body.clone())).unwrap();
            let answer = requests.send_request(request);
            async move { (answer.await.unwrap().into_body().collect().await.unwrap().to_bytes(), body) }
        });
        let answers: Vec<_> = answers.collect();
        for (answer, body) in within(futures_util::future::join_all(answers)).await {
            assert!(answer == body, "the answer to request {number} is another one");
        }
    }
    drop(requests);
    within(connection).await.unwrap().unwrap();
}

/// Returns an address whose sessions are of the first server, and of the second one once `is_switched`.
async fn replaced(servers: [Sender<ByteStream<OptimizedTransport>>; 2], is_switched: Arc<AtomicBool>) -> SocketAddr {
    let upgrades = servers.map(|sender| {
        let acceptor: OptimizedAcceptor = builder().session_ttl(Duration::from_millis(300)).acceptor();
        acceptor.upgrade(move |transport, _| async move { sender.send(transport.into_io()).await.unwrap() })
    });
    let service = tower::service_fn(move |request: Request<Incoming>| {
        upgrades[usize::from(is_switched.load(Relaxed))].clone().oneshot(request)
    });
    serve_http(service).await
}

#[tokio::test]
async fn a_new_session_in_place_of_a_lost_one_is_an_error_at_both_ends() {
    let is_switched = Arc::new(AtomicBool::default());
    let ((first, mut old), (second, mut new)) = (channel(1), channel(1));
    let address = replaced([first, second], is_switched.clone()).await;
    let transport = within(builder().connect(&format!("ws://{address}/"))).await.unwrap();
    let handle = transport.handle();
    let mut client = transport.into_io();
    client.write_all(b"begin").await.unwrap();
    client.flush().await.unwrap();
    let mut server = within(old.recv()).await.unwrap();
    let mut read = [0; 5];
    within(server.read_exact(&mut read)).await.unwrap();
    server.write_all(b"again").await.unwrap();
    server.flush().await.unwrap();
    within(client.read_exact(&mut read)).await.unwrap();

    // The server is replaced by one that does not know the session. Nothing is in flight.
    is_switched.store(true, Relaxed);
    handle.reconnect().unwrap().reconnect_now();
    let failed = within(client.read(&mut read)).await.unwrap_err();
    assert_eq!(failed.kind(), std::io::ErrorKind::ConnectionReset, "{failed:?}");
    assert!(failed.to_string().contains("not resumed"), "{failed}");
    assert!(client.write(b"end").await.is_err() && client.flush().await.is_err());
    let mut server_of_new = within(new.recv()).await.unwrap();
    let aborts = async {
        let error = within(server_of_new.read(&mut [0; 5])).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted, "nothing was read, and not the end: {error:?}");
    };
    let (shut_down, ()) = tokio::join!(client.shutdown(), aborts);
    assert!(shut_down.is_err());
    // The old server waits for its client, and then learns that the stream is not complete.
    let error = within(server.read(&mut read)).await.unwrap_err();
    assert!(!error.to_string().is_empty(), "{error:?}");
}

#[tokio::test]
async fn a_cut_without_a_session_is_not_the_end_of_the_stream() {
    let (sender, mut streams) = channel(1);
    let address = serve(WebSocketService::new(move |socket, _| async move {
        sender.send(socket.into_io()).await.unwrap();
    }))
    .await;
    let proxy = Proxy::start(address, vec![2_000]).await;
    let socket = WebSocketConnector::new().connect(&format!("ws://{}/", proxy.address)).await.unwrap();
    let mut client = socket.into_io();
    let _ = within(async { (client.write_all(&[7; 4_000]).await, client.flush().await) }).await;
    let mut server = within(streams.recv()).await.unwrap();
    for stream in [&mut server, &mut client] {
        let read = within(stream.read_to_end(&mut Vec::new())).await;
        assert!(read.is_err(), "{read:?}");
    }
}

/// TCP in, a session in between, TCP out: each direction ends on its own.
#[tokio::test]
async fn a_tunnel_of_tcp_carries_the_end_of_each_direction() {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target_address = target.local_addr().unwrap();
    let far = serve(WebSocketService::new(move |socket, _| async move {
        let mut tcp = TcpStream::connect(target_address).await.unwrap();
        copy_bidirectional(&mut socket.into_io(), &mut tcp).await.unwrap();
    }))
    .await;
    let entry = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let entry_address = entry.local_addr().unwrap();
    let near = tokio::spawn(async move {
        let (mut tcp, _) = entry.accept().await.unwrap();
        let socket = WebSocketConnector::new().connect(&format!("ws://{far}/")).await.unwrap();
        copy_bidirectional(&mut tcp, &mut socket.into_io()).await.unwrap()
    });

    let server = tokio::spawn(async move {
        let (mut tcp, _) = target.accept().await.unwrap();
        let mut request = Vec::new();
        tcp.read_to_end(&mut request).await.unwrap();
        tcp.write_all(&request.repeat(2)).await.unwrap();
    });
    let mut tcp = TcpStream::connect(entry_address).await.unwrap();
    let request = vec![7; 300_000];
    tcp.write_all(&request).await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut answer = Vec::new();
    within(tcp.read_to_end(&mut answer)).await.unwrap();
    assert!(answer == request.repeat(2));
    assert_eq!(within(near).await.unwrap(), (300_000, 600_000));
    within(server).await.unwrap();
}
