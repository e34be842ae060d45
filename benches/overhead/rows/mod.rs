//! The rows, one line each. A new layer adds its line to [`layers`].

pub(crate) mod auth;
pub(crate) mod batch;
mod cache;
pub(crate) mod compression;
mod heartbeat;
pub(crate) mod limit;
mod queue;
pub(crate) mod rate_limit;
pub(crate) mod reconnect;
mod resume;
mod service;
pub(crate) mod stack;
mod trace;

use std::{
    future::{Future, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use tower::{
    Service, ServiceBuilder,
    layer::layer_fn,
    limit::{ConcurrencyLimit, RateLimit, rate::Rate},
    load_shed::LoadShed,
    service_fn,
    timeout::Timeout,
};
use tower_layer::{Identity, Layer};
use tower_transport::{
    Channel, Message, TransportExt, channel,
    codec::RkyvCodec,
    layer::{codec::CodecLayer, per_connection::PerConnectionLayer},
};

use crate::pass_through::PassThroughLayer;

pub(crate) use self::heartbeat::HEARTBEAT;
pub(crate) use self::queue::QUEUE;

/// A way that messages go, from its setup to its end.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) run: fn(messages: usize),
}

/// The bare transport first, then layers over it.
pub(crate) fn layers() -> Vec<Row> {
    [
        pass_through(),
        codecs(),
        auth::rows(),
        batch::rows(),
        cache::rows(),
        compression::rows(),
        heartbeat::rows(),
        limit::rows(),
        queue::rows(),
        rate_limit::rows(),
        reconnect::rows(),
        resume::rows(),
        service::rows(),
        stack::rows(),
        trace::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn pass_through() -> Vec<Row> {
    vec![
        Row { name: BARE, run: |messages| through(Identity::new(), message(), messages) },
        Row { name: ONE, run: |messages| through(PassThroughLayer, message(), messages) },
        Row { name: TEN, run: |messages| through(ten(), message(), messages) },
        Row {
            name: "+ BoxTransport",
            run: |messages| through(layer_fn(TransportExt::<Message>::into_boxed), message(), messages),
        },
    ]
}

pub(crate) const BARE: &str = "bare channel";
pub(crate) const ONE: &str = "+ 1 pass-through";
pub(crate) const TEN: &str = "+ 10 pass-through";
pub(crate) use self::trace::ALONE as TRACE;

/// A value there and back to a value: encoded at one end, decoded at the other.
fn codecs() -> Vec<Row> {
    Vec::from([
        Row {
            name: "+ codec, rkyv",
            run: |messages| through(CodecLayer::new(RkyvCodec::<Trade>::new()), Trade::EXAMPLE, messages),
        },
        Row {
            name: "+ codec, rkyv views",
            run: |messages| through(CodecLayer::new(RkyvCodec::<Trade, Trade>::views()), Trade::EXAMPLE, messages),
        },
        Row {
            name: "+ codec, JSON",
            run: |messages| {
                through(CodecLayer::new(tower_transport::codec::JsonCodec::<Trade>::new()), Trade::EXAMPLE, messages)
            },
        },
    ])
}

/// The bare connector first.
pub(crate) fn connectors() -> Vec<Row> {
    vec![
        Row { name: "bare connector", run: |connects| connect(connector(), connects) },
        Row {
            name: "+ per_connection",
            run: |connects| connect(PerConnectionLayer::new(PassThroughLayer).layer(connector()), connects),
        },
    ]
}

pub(crate) fn all() -> impl Iterator<Item = Row> {
    [layers(), connectors(), towers()].into_iter().flatten()
}

/// The bare service first, then tower's own middleware over it.
pub(crate) fn towers() -> Vec<Row> {
    vec![
        Row { name: "bare Service", run: |calls| call(service_fn(echo), calls) },
        Row { name: "+ tower LoadShed", run: |calls| call(LoadShed::new(service_fn(echo)), calls) },
        Row { name: "+ tower ConcurrencyLimit", run: |calls| call(ConcurrencyLimit::new(service_fn(echo), 64), calls) },
        Row {
            name: "+ tower RateLimit",
            run: |calls| call(RateLimit::new(service_fn(echo), Rate::new(u64::MAX, Duration::from_secs(3600))), calls),
        },
        Row {
            name: "+ tower Timeout",
            run: |calls| call(Timeout::new(service_fn(echo), Duration::from_secs(3600)), calls),
        },
    ]
}

/// 32 bytes that own nothing: what a codec costs, not what a value does.
#[derive(Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, serde::Serialize, serde::Deserialize)]
struct Trade {
    id: u64,
    time: u64,
    price: f64,
    size: f64,
}

impl Trade {
    const EXAMPLE: Self = Self { id: 4_711, time: 1_763_900_000_000, price: 101.25, size: 300.0 };
}

/// 32 bytes, shared: a clone allocates nothing.
fn message() -> Message {
    Message::binary(Bytes::from_static(&[7; 32]))
}

fn ten() -> impl Layer<Channel, Service: Sink<Message> + Stream + Unpin> {
    ServiceBuilder::new()
        .layer(PassThroughLayer)
        .layer(PassThroughLayer)
        .layer(PassThroughLayer)
        .layer(PassThroughLayer)
        .layer(PassThroughLayer)
        .layer(PassThroughLayer)
        .layer(PassThroughLayer)
        .layer(PassThroughLayer)
        .layer(PassThroughLayer)
        .layer(PassThroughLayer)
}

/// Sends each message out through `layer` at one end of a channel, and in through it at the other. Both ends are polled
/// by hand, so that no runtime is in the figures.
fn through<L, M>(layer: L, value: M, messages: usize)
where
    L: Layer<Channel, Service: Sink<M> + Stream + Unpin>,
    M: Clone,
{
    let (here, there) = channel::<Message, Message>(8);
    pump(layer.layer(here), layer.layer(there), &value, messages);
}

/// The part of [`through`] that is counted: how long governor calibrates its clock before it differs from run to run.
#[inline(never)]
fn pump<M: Clone>(mut here: impl Sink<M> + Unpin, mut there: impl Stream + Unpin, value: &M, messages: usize) {
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..messages {
        assert!(matches!(here.poll_ready_unpin(&mut cx), Poll::Ready(Ok(()))));
        assert!(here.start_send_unpin(black_box(value).clone()).is_ok());
        assert!(matches!(here.poll_flush_unpin(&mut cx), Poll::Ready(Ok(()))));
        let Poll::Ready(Some(received)) = there.poll_next_unpin(&mut cx) else { panic!("the message is there") };
        black_box(received);
    }
}

fn echo(message: Message) -> impl Future<Output = Result<Message, std::convert::Infallible>> {
    ready(Ok(message))
}

/// A connector whose connects cost nothing.
fn connector() -> impl Service<Request<()>, Response = Response<()>> {
    service_fn(|_| ready(Ok::<_, std::convert::Infallible>(Response::new(()))))
}

fn connect<S: Service<Request<()>>>(connector: S, connects: usize) {
    repeat(connector, || Request::new(()), connects);
}

fn call<S: Service<Message>>(service: S, calls: usize) {
    let message = message();
    repeat(service, || black_box(&message).clone(), calls);
}

fn repeat<S: Service<R>, R>(mut service: S, request: impl Fn() -> R, calls: usize) {
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..calls {
        assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))));
        let answer = pin!(service.call(request()));
        let Poll::Ready(Ok(answer)) = answer.poll(&mut cx) else { panic!("the answer is ready") };
        black_box(answer);
    }
}
