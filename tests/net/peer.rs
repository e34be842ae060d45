//! Calls in both directions over sessions whose connections are cut.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt, stream};
use support::within;
use tokio::sync::{Semaphore, mpsc};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_transport::{
    BoxTransport, Message, ServiceBuilderExt, Transport,
    codec::JsonCodec,
    layer::{codec::CodecLayer, reconnect::Backoff},
    service::peer::{Caller, Frame, Frames, IncomingCall, NoStream, PeerBuilder, Reply},
    stack::{OptimizedAcceptor, OptimizedBuilder, OptimizedTransport},
    transport::{
        Drain,
        websocket::{WebSocketConnector, WebSocketService},
    },
};

use crate::{proxy::Proxy, serve::serve};

type Wire = Frames<u64, u64, String>;

fn builder() -> OptimizedBuilder {
    OptimizedTransport::builder().backoff(Backoff::fixed(Duration::from_millis(2)))
}

/// Begins a peer that doubles numbers, counts up to those over a million, and sums what it is sent.
fn begin<T>(transport: T, executed: Arc<AtomicU64>) -> Caller<Wire>
where
    T: Transport<Message, In = Message, TransportError: Send> + Send + Unpin + 'static,
{
    let transport = ServiceBuilder::new().codec(JsonCodec::<Frame<u64, u64, String>>::new()).service(transport);
    let handler = service_fn(move |call: IncomingCall<u64>| {
        executed.fetch_add(1, Relaxed);
        async move {
            if call.request > 1_000_000 {
                return Ok(Reply::Stream(stream::iter(0..call.request - 1_000_000).map(Ok)));
            }
            let rest: Vec<u64> = call.requests.filter_map(async |number| number.ok()).collect().await;
            Ok(Reply::One(call.request * 2 + rest.into_iter().sum::<u64>()))
        }
    });
    let (caller, peer) = PeerBuilder::new(Wire::new()).build(transport, handler);
    tokio::spawn(peer);
    caller
}

async fn server(executed: Arc<AtomicU64>) -> (SocketAddr, mpsc::Receiver<Caller<Wire>>) {
    let (callers, receiver) = mpsc::channel(1);
    let acceptor: OptimizedAcceptor = builder().acceptor();
    let upgrade = acceptor.upgrade(move |transport, _| {
        let (callers, executed) = (callers.clone(), executed.clone());
        async move {
            let caller = begin(transport, executed);
            let _ = callers.send(caller.clone()).await;
            // The session lasts as long as its peer.
            while caller.clone().oneshot(1).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    (serve(upgrade).await, receiver)
}

async fn call_and_stream(mut caller: Caller<Wire>, proxy: &Proxy, cuts: usize) -> u64 {
    let mut calls = 0;
    while proxy.cuts.load(Relaxed) < cuts {
        let round = (0..50).map(|number| {
            let caller = caller.clone();
            async move { assert_eq!(caller.oneshot(number).await.unwrap(), number * 2) }
        });
        futures_util::future::join_all(round).await;

        let numbers = caller.stream(1_000_300, false).await.unwrap();
        let numbers: Vec<u64> = numbers.map(Result::unwrap).collect().await;
        assert!(numbers.into_iter().eq(0..300));

        let mut sum = caller.stream(0, true).await.unwrap();
        for number in 0..100 {
            sum.send(number).await.unwrap();
        }
        sum.close().await.unwrap();
        assert_eq!(sum.next().await.unwrap().unwrap(), (0..100).sum::<u64>());
        calls += 52;
    }
    calls
}

#[tokio::test]
async fn a_session_that_resumes_loses_no_call_in_either_direction() {
    const CUTS: usize = 40;
    let executed = Arc::new(AtomicU64::new(0));
    let (address, mut callers) = server(executed.clone()).await;
    let budgets = (0..CUTS).map(|number| 3_000 + 977 * (number % 31)).collect();
    let proxy = Proxy::start(address, budgets).await;
    let transport = within(builder().connect(&format!("ws://{}/", proxy.address))).await.unwrap();
    let answered = Arc::new(AtomicU64::new(0));
    let client = begin(transport, answered);
    let server = within(callers.recv()).await.unwrap();
    let both = async {
        tokio::join!(call_and_stream(client.clone(), &proxy, CUTS), call_and_stream(server.clone(), &proxy, CUTS))
    };
    let (calls, _) = within(both).await;
    assert_eq!(executed.load(Relaxed), calls, "a call was executed twice, or not at all");
    assert_eq!(client.in_flight(), 0);
}

/// A number that is answered when the test says so.
async fn answered_on(go: Arc<Semaphore>, call: IncomingCall<u64>) -> Result<Reply<u64, NoStream<u64, String>>, String> {
    let _ = go.acquire().await.map_err(|error| error.to_string())?;
    Ok(Reply::One(call.request * 2))
}

#[tokio::test]
async fn a_drain_lets_the_calls_of_both_directions_finish() {
    for is_optimized in [false, true] {
        let (drain, go) = (Drain::new(), Arc::new(Semaphore::new(0)));
        let (callers, mut receiver) = mpsc::channel(1);
        let gate = go.clone();
        let codec = || CodecLayer::new(JsonCodec::<Frame<u64, u64, String>>::new());
        let session = async move |session: BoxTransport<Frame<u64, u64, String>>| {
            let handler = service_fn(move |call| answered_on(gate.clone(), call));
            let (caller, peer) = PeerBuilder::new(Wire::new()).build(session, handler);
            callers.send(caller).await.unwrap();
            peer.await.unwrap();
        };
        let address = if is_optimized {
            let acceptor: OptimizedAcceptor = OptimizedTransport::builder().acceptor().with_drain(&drain);
            let upgrade = acceptor.upgrade(move |socket, _| {
                let session = session.clone();
                async move { session(BoxTransport::new(codec().layer(socket))).await }
            });
            serve(upgrade).await
        } else {
            let upgrade = WebSocketService::new(move |socket, _| {
                let session = session.clone();
                async move { session(BoxTransport::new(codec().layer(socket))).await }
            });
            serve(upgrade.drain(&drain)).await
        };
        let request = http::Request::get(format!("ws://{address}/")).body(()).unwrap();
        let socket = WebSocketConnector::new().oneshot(request).await.unwrap().into_body();
        let gate = go.clone();
        let handler = service_fn(move |call| answered_on(gate.clone(), call));
        let (client, peer) = PeerBuilder::new(Wire::new()).build(codec().layer(socket), handler);
        let peer = tokio::spawn(peer);
        let server = within(receiver.recv()).await.unwrap();

        let calls: Vec<_> = (0..20)
            .map(|number| tokio::spawn([client.clone(), server.clone()][number as usize % 2].clone().oneshot(number)))
            .collect();
        while client.in_flight() + server.in_flight() < 20 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let draining = tokio::spawn({
            let drain = drain.clone();
            async move { drain.drain(Duration::from_secs(20)).await }
        });
        drain.started().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let refused = within(client.clone().oneshot(1)).await.unwrap_err();
        assert!(!refused.may_have_been_executed(), "{refused}");
        go.add_permits(20);
        for (number, call) in (0..).zip(calls) {
            assert_eq!(within(call).await.unwrap().unwrap(), 2 * number, "optimized: {is_optimized}");
        }
        let drained = within(draining).await.unwrap();
        assert_eq!((drained.closed, drained.cut), (1, 0), "optimized: {is_optimized}");
        within(peer).await.unwrap().unwrap();
    }
}
