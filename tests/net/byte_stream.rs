//! Protocols over bytes, on sessions whose connections are cut.

use std::{convert::Infallible, net::SocketAddr, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, client::conn::http2 as client, server::conn::http2 as server};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::within;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tower_transport::{
    TransportExt,
    layer::reconnect::Backoff,
    stack::{OptimizedAcceptor, OptimizedBuilder, OptimizedTransport},
    transport::websocket::{WebSocketConnector, WebSocketService},
};

use crate::{proxy::Proxy, serve::serve};

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

/// TCP in, a session in between, TCP out: each direction ends on its own.
#[tokio::test]
async fn a_tunnel_of_tcp_carries_the_end_of_each_direction() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
