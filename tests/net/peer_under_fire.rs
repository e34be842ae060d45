//! 10,000 calls and 1,000 streams at once, in both directions, over WebSockets that are cut: with a session none is lost,
//! without one each that is lost says whether it may have been executed. `SEED` sets the seed.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use support::{
    fire::{Ends, Fire, Ledger, Random, Wire, seed},
    within,
};
use tower::{Layer, ServiceBuilder};
use tower_transport::{
    Error, Message, ServiceBuilderExt, Transport, TransportExt,
    codec::JsonCodec,
    layer::reconnect::{Backoff, ReconnectLayer},
    service::peer::{Caller, Frame, Frames, PeerBuilder},
    stack::{OptimizedAcceptor, OptimizedTransport},
    transport::websocket::{WebSocketConnector, WebSocketService},
};

use crate::{proxy::Proxy, serve::serve};

const CALLS: usize = 10_000;
const STREAMS: usize = 1_000;
const CUTS: usize = 30;

/// Creates one end, whose future is for its task.
fn end<T>(transport: T, ledger: &Ledger) -> (Caller<Wire>, impl Future<Output = Result<(), Error>> + Send + use<T>)
where
    T: Transport<Message, In = Message, TransportError: Send> + Send + Unpin + 'static,
{
    let all = NonZeroUsize::new(CALLS + STREAMS).unwrap();
    let settings = PeerBuilder::new(Frames::new()).max_calls(all).max_incoming_calls(all);
    let transport = ServiceBuilder::new().codec(JsonCodec::<Frame<u64, u64, String>>::new()).service(transport);
    settings.build(transport, ledger.service())
}

/// The callers of the server's ends, the newest one last.
type Servers = Arc<Mutex<Vec<Caller<Wire>>>>;

/// A proxy that cuts its connections at random.
async fn cutting(server: SocketAddr, seed: u64) -> Proxy {
    let mut rng = Random(seed);
    Proxy::start(server, (0..CUTS).map(|_| 2_000 + rng.below(60_000) as usize).collect()).await
}

async fn fire(fire: Fire, client: Caller<Wire>, servers: Servers, ledger: &Ledger, proxy: &Proxy) -> Ends {
    within(async {
        while servers.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let (near, newest) = (client.clone(), servers.clone());
    let ends =
        fire.run(
            ledger,
            move |number| {
                if number % 2 == 0 { near.clone() } else { newest.lock().unwrap().last().unwrap().clone() }
            },
        );
    let ends = within(ends).await;
    println!("{ends:?}, {} cuts", proxy.cuts.load(Relaxed));
    assert_eq!(ends.all(), fire.all());
    assert!(proxy.cuts.load(Relaxed) > 3, "it was not cut");
    let mut callers = servers.lock().unwrap().clone();
    callers.push(client);
    within(async {
        while callers.iter().any(|caller| caller.in_flight() > 0) || ledger.running() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    ends
}

#[tokio::test]
async fn a_session_that_is_cut_under_fire_loses_no_call() {
    let rules = Fire { seed: seed(4), first: 0, calls: CALLS, streams: STREAMS, may_lose: false, pace_ms: 500 };
    let (ledger, servers) = (Ledger::new(rules.all()), Servers::default());
    let (accepted, of_server) = (servers.clone(), ledger.clone());
    let acceptor: OptimizedAcceptor = OptimizedTransport::builder().acceptor();
    let upgrade = acceptor.upgrade(move |session, _| {
        let (caller, peer) = end(session, &of_server);
        accepted.lock().unwrap().push(caller);
        async move { drop(peer.await) }
    });
    let proxy = cutting(serve(upgrade).await, rules.seed).await;
    let builder = OptimizedTransport::builder().backoff(Backoff::fixed(Duration::from_millis(2)));
    let transport = within(builder.connect(&format!("ws://{}/", proxy.address))).await.unwrap();
    let (client, peer) = end(transport, &ledger);
    tokio::spawn(peer);
    let ends = fire(rules, client, servers.clone(), &ledger, &proxy).await;
    assert_eq!((ends.lost, ends.lost_unexecuted, servers.lock().unwrap().len()), (0, 0, 1));
}

#[tokio::test]
async fn a_connection_that_is_cut_under_fire_tells_each_lost_call_whether_it_may_have_been_executed() {
    let rules = Fire { seed: seed(5), first: 0, calls: CALLS, streams: STREAMS, may_lose: true, pace_ms: 3000 };
    let (ledger, servers) = (Ledger::new(rules.all()), Servers::default());
    let (accepted, of_server) = (servers.clone(), ledger.clone());
    let upgrade = WebSocketService::new(move |socket, _| {
        let (caller, peer) = end(socket, &of_server);
        accepted.lock().unwrap().push(caller);
        async move { drop(peer.await) }
    });
    let proxy = cutting(serve(upgrade).await, rules.seed).await;
    let target = format!("ws://{}/", proxy.address).parse::<http::Uri>().unwrap();
    let reconnect = ReconnectLayer::<Message>::new(target, Backoff::fixed(Duration::from_millis(2)));
    let (client, peer) = end(reconnect.layer(WebSocketConnector::new()).into_boxed(), &ledger);
    tokio::spawn(peer);
    let ends = fire(rules, client, servers, &ledger, &proxy).await;
    assert!(ends.lost > 0 && ends.answered > 0, "{ends:?}");
}
