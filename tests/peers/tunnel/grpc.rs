use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Instant,
};

use bytes::{Buf, BufMut, Bytes};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use support::serve::serve;
use tokio::{
    io::{copy_bidirectional, duplex},
    sync::mpsc,
};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::NamedService,
    transport::{Channel, Endpoint, Server},
};
use tower::{Service, service_fn};
use tower_transport::{TransportExt, stack::OptimizedAcceptor};

use super::{builder, cutting, is_over, payload};

/// Messages as they are: what prost would make code for.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// A service with one unary call and one with a stream both ways, as tonic-build would make it.
#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "tests.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let unary = service_fn(|request: Request<Bytes>| async { Ok(Response::new(request.into_inner())) });
        let streaming = service_fn(|request: Request<Streaming<Bytes>>| async {
            let stream: BoxStream<'static, Result<Bytes, Status>> = request.into_inner().boxed();
            Ok(Response::new(stream))
        });
        async move {
            let mut grpc = tonic::server::Grpc::new(Raw);
            Ok(match request.uri().path() {
                "/tests.Echo/Unary" => grpc.unary(unary, request).await,
                "/tests.Echo/Stream" => grpc.streaming(streaming, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        }
        .boxed()
    }
}

/// tonic's own server. Returns the address of the sessions, and how many there were.
async fn server() -> (SocketAddr, Arc<AtomicUsize>) {
    let (connections, incoming) = mpsc::channel(8);
    let incoming = futures_util::stream::unfold(incoming, |mut incoming| async move {
        incoming.recv().await.map(|connection| (Ok::<_, Infallible>(connection), incoming))
    });
    tokio::spawn(Server::builder().add_service(Echo).serve_with_incoming(incoming));
    let sessions = Arc::new(AtomicUsize::new(0));
    let count = sessions.clone();
    let acceptor: OptimizedAcceptor = builder().acceptor();
    let address = serve(acceptor.upgrade(move |session, _| async move {
        count.fetch_add(1, Relaxed);
        // tonic asks a connection for its address, so it takes streams of tokio only.
        let (near, mut far) = duplex(64 * 1024);
        connections.send(near).await.unwrap();
        let _ = copy_bidirectional(&mut session.into_io(), &mut far).await;
    }))
    .await;
    (address, sessions)
}

async fn calls(channel: Channel, caller: u32, is_over: impl Fn() -> bool) -> u32 {
    let mut grpc = tonic::client::Grpc::new(channel);
    let mut number = caller;
    while !is_over() {
        let sent = Bytes::from(payload(number));
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/tests.Echo/Unary");
        let answer = grpc.unary(Request::new(sent.clone()), path, Raw).await.expect("a call failed");
        assert!(answer.into_inner() == sent, "another answer");
        number += 4;
    }
    number / 4
}

async fn stream(channel: Channel, is_over: impl Fn() -> bool) -> u32 {
    let mut grpc = tonic::client::Grpc::new(channel);
    let (sender, requests) = mpsc::channel::<Bytes>(16);
    let requests = futures_util::stream::unfold(requests, |mut requests| async move {
        requests.recv().await.map(|request| (request, requests))
    });
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/tests.Echo/Stream");
    let answers = grpc.streaming(Request::new(requests), path, Raw).await.expect("the stream did not open");
    let mut answers = answers.into_inner();
    // The calls have their share of the line.
    let room = tokio::sync::Semaphore::new(4);
    let room = &room;
    let send = async move {
        let mut number = 0;
        while !is_over() {
            room.acquire().await.unwrap().forget();
            sender.send(payload(number).into()).await.unwrap();
            number += 1;
        }
        number
    };
    let receive = async {
        let mut number = 0;
        while let Some(answer) = answers.message().await.expect("the stream failed") {
            assert!(answer == payload(number), "a gap, a duplicate or another order");
            number += 1;
            room.add_permits(1);
        }
        number
    };
    let (sent, received) = tokio::join!(send, receive);
    assert_eq!(sent, received, "the end of the stream came too early");
    received
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tonic_sees_none_of_the_cuts_of_its_session() {
    let (server, sessions) = server().await;
    let proxy = Arc::new(cutting(server).await);
    let connects = Arc::new(AtomicUsize::new(0));
    let (count, url) = (connects.clone(), format!("ws://{}/", proxy.address));
    let connector = service_fn(move |_: http::Uri| {
        count.fetch_add(1, Relaxed);
        let url = url.clone();
        async move { Ok::<_, tower_transport::Error>(TokioIo::new(builder().connect(&url).await?.into_io())) }
    });
    let channel = Endpoint::from_static("http://session").connect_with_connector(connector).await.unwrap();
    let started = Instant::now();
    let over = || {
        let proxy = proxy.clone();
        move || is_over(&proxy, started)
    };
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..4 {
        tasks.spawn(calls(channel.clone(), caller, over()));
    }
    let streamed = stream(channel, over()).await;
    let called: u32 = tasks.join_all().await.into_iter().sum();
    println!("{called} calls and {streamed} messages of a stream in {:?}", started.elapsed());
    assert_eq!((connects.load(Relaxed), sessions.load(Relaxed)), (1, 1), "a reconnect was seen");
}
