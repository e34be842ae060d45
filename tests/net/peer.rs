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
use tokio::sync::mpsc;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_transport::{
    Message, ServiceBuilderExt, Transport,
    codec::JsonCodec,
    layer::reconnect::Backoff,
    service::peer::{Caller, Frame, Frames, IncomingCall, PeerBuilder, Reply},
    stack::{OptimizedAcceptor, OptimizedBuilder, OptimizedTransport},
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
