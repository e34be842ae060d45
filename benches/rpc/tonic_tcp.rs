//! tonic over HTTP/2 and TCP. Its messages are bytes as they are, which costs less than prost does.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes};
use futures_util::{FutureExt, future::BoxFuture};
use http::uri::PathAndQuery;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    body::Body,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::NamedService,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tower::{Service, service_fn};

use crate::{PAYLOAD, load::Calls};

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

/// The service that tonic-build would make.
#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "benches.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = service_fn(|request: Request<Bytes>| async { Ok(Response::new(request.into_inner())) });
        async move { Ok(tonic::server::Grpc::new(Raw).unary(echo, request).await) }.boxed()
    }
}

#[derive(Clone)]
pub(crate) struct Tonic(Grpc<Channel>);

impl Calls for Tonic {
    async fn call(&mut self) {
        self.0.ready().await.expect("it is connected");
        let path = PathAndQuery::from_static("/benches.Echo/Echo");
        let answer = self.0.unary(Request::new(Bytes::from_static(&PAYLOAD)), path, Raw).await;
        assert_eq!(answer.expect("an answer").into_inner(), &PAYLOAD[..]);
    }
}

pub(crate) async fn start() -> Tonic {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound port");
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(Server::builder().add_service(Echo).serve_with_incoming(incoming));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a valid address").tcp_nodelay(true);
    Tonic(Grpc::new(endpoint.connect().await.expect("it listens")))
}
