//! 10,000 calls and 1,000 streams at once, in both directions, over links that stall and are cut: each ends exactly once,
//! with an answer that is checked or with a cause, and nothing is left. `SEED` sets the seed.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use support::fire::{Ends, Fire, Ledger, Random, Wire, seed};
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};
use tower::{Layer, Service, ServiceBuilder, service_fn};
use tower_transport::{
    Channel, Error, Message, ServiceBuilderExt, Transport, TransportExt, channel,
    codec::JsonCodec,
    layer::{
        reconnect::{Backoff, ReconnectLayer},
        resume::{Accepted, ResumeLayer, SessionStore},
    },
    service::peer::{Caller, Frame, Frames, PeerBuilder},
    test_util::fault::{Direction, Fault, Faults},
};

const CALLS: usize = 10_000;
const STREAMS: usize = 1_000;

fn builder() -> PeerBuilder<Wire> {
    let all = NonZeroUsize::new(CALLS + STREAMS).unwrap();
    PeerBuilder::new(Frames::new()).max_calls(all).max_incoming_calls(all)
}

type PeerTask = JoinHandle<Result<(), Error>>;

fn begin<T>(transport: T, ledger: &Ledger) -> (Caller<Wire>, PeerTask)
where
    T: Transport<Frame<u64, u64, String>, In = Frame<u64, u64, String>> + Send + 'static,
{
    let (caller, peer) = builder().build(transport, ledger.service());
    (caller, tokio::spawn(peer))
}

fn encoded<T>(transport: T) -> impl Transport<Frame<u64, u64, String>, In = Frame<u64, u64, String>> + Send + 'static
where
    T: Transport<Message, In = Message, TransportError: Send> + Send + Unpin + 'static,
{
    ServiceBuilder::new().codec(JsonCodec::<Frame<u64, u64, String>>::new()).service(transport)
}

/// Stalls a direction of the newest link again and again, and cuts every second time.
fn harass(links: Arc<Mutex<Faults>>, mut rng: Random, is_cutting: bool) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let link = links.lock().unwrap().clone();
            let direction = if rng.below(2) == 0 { Direction::Incoming } else { Direction::Outgoing };
            link.stall(direction);
            sleep(rng.time(6)).await;
            link.resume(direction);
            sleep(rng.time(6)).await;
            if is_cutting && rng.below(2) == 0 {
                link.cut();
            }
        }
    })
}

async fn nothing_is_left(callers: &[Caller<Wire>], ledger: &Ledger) {
    // The other end is told of the last cancellations, and drops their handlers.
    sleep(Duration::from_secs(1)).await;
    for caller in callers {
        assert_eq!(caller.in_flight(), 0);
    }
    assert_eq!(ledger.running(), 0);
}

fn fire(seed: u64, round: usize, may_lose: bool) -> Fire {
    Fire { seed, first: round * (CALLS + STREAMS), calls: CALLS, streams: STREAMS, may_lose, pace_ms: 100 }
}

#[test]
fn over_a_link_that_stalls_every_call_ends_and_memory_returns_to_what_it_was() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (seed, rounds) = (seed(1), 3);
    let ledger = Ledger::new(rounds * (CALLS + STREAMS));
    let links = Arc::new(Mutex::new(Faults::new()));
    let ((near, _near), (far, _far)) = runtime.block_on(async {
        let (near, far) = channel(64);
        let link = links.lock().unwrap().layer();
        (begin(link.layer(near), &ledger), begin(far, &ledger))
    });
    let run = |round| {
        runtime.block_on(async {
            let harassing = harass(links.clone(), Random(seed), false);
            let fire = fire(seed, round, false);
            let (one, other) = (near.clone(), far.clone());
            let ends = fire.run(&ledger, move |number| if number % 2 == 0 { one.clone() } else { other.clone() }).await;
            harassing.abort();
            for direction in [Direction::Incoming, Direction::Outgoing] {
                links.lock().unwrap().resume(direction);
            }
            nothing_is_left(&[near.clone(), far.clone()], &ledger).await;
            assert_eq!((ends.all(), ends.lost, ends.lost_unexecuted), (fire.all(), 0, 0));
            assert!(ends.answered > fire.all() / 3 && ends.given_up > 100 && ends.timed_out > 100, "{ends:?}");
            println!("{ends:?}");
        });
    };
    // Two rounds until queues and tables are as long as they get.
    run(0);
    run(1);
    let last = allocation_counter::measure(|| run(2));
    println!("{} bytes in all, {} of them left", last.bytes_total, last.bytes_current);
    assert!(last.bytes_current < 64 * 1024, "{last:?}");
}

/// A connector of links, whose far ends come out of the receiver.
fn dial(
    links: Arc<Mutex<Faults>>,
) -> (
    impl Service<http::Request<()>, Response = http::Response<Fault<Channel>>, Error = Error, Future: Send> + Send + Unpin,
    mpsc::UnboundedReceiver<Channel>,
) {
    let (dialed, incoming) = mpsc::unbounded_channel();
    let connector = service_fn(move |_: http::Request<()>| {
        let (near, far) = channel::<Message, Message>(64);
        let faults = Faults::new();
        let near = faults.layer().layer(near);
        *links.lock().unwrap() = faults;
        dialed.send(far).unwrap();
        std::future::ready(Ok::<_, Error>(http::Response::new(near)))
    });
    (connector, incoming)
}

fn reconnect() -> ReconnectLayer<Message> {
    ReconnectLayer::new("ws://example.com/", Backoff::fixed(Duration::from_millis(2)))
}

/// The callers of the server's ends of a link, the newest one last.
type Servers = Arc<Mutex<Vec<Caller<Wire>>>>;

async fn under_cuts(
    near: Caller<Wire>,
    servers: Servers,
    links: Arc<Mutex<Faults>>,
    ledger: Ledger,
    fire: Fire,
) -> Ends {
    while servers.lock().unwrap().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    let harassing = harass(links.clone(), Random(fire.seed), true);
    let (client, newest) = (near.clone(), servers.clone());
    let pick = move |number| {
        if number % 2 == 0 { client.clone() } else { newest.lock().unwrap().last().unwrap().clone() }
    };
    let ends = fire.run(&ledger, pick).await;
    harassing.abort();
    for direction in [Direction::Incoming, Direction::Outgoing] {
        links.lock().unwrap().resume(direction);
    }
    let mut callers = servers.lock().unwrap().clone();
    println!("{ends:?}, {} connections of calls", callers.len());
    callers.push(near);
    nothing_is_left(&callers, &ledger).await;
    assert_eq!(ends.all(), fire.all());
    ends
}

#[tokio::test(start_paused = true)]
async fn without_a_session_a_lost_connection_tells_each_call_whether_it_may_have_been_executed() {
    let seed = seed(2);
    let ledger = Ledger::new(CALLS + STREAMS);
    let links = Arc::new(Mutex::new(Faults::new()));
    let (connector, mut incoming) = dial(links.clone());
    let (near, _near) = begin(encoded(reconnect().layer(connector).into_boxed()), &ledger);
    let servers = Servers::default();
    let (accepted, of_server) = (servers.clone(), ledger.clone());
    tokio::spawn(async move {
        while let Some(far) = incoming.recv().await {
            accepted.lock().unwrap().push(begin(encoded(far), &of_server).0);
        }
    });
    let ends = under_cuts(near, servers.clone(), links, ledger, fire(seed, 0, true)).await;
    assert!(servers.lock().unwrap().len() > 3, "it was not cut");
    assert!(ends.answered > 1000 && ends.lost > 100 && ends.lost_unexecuted > 0, "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn over_a_session_that_resumes_cuts_cost_no_call() {
    let seed = seed(3);
    let ledger = Ledger::new(CALLS + STREAMS);
    let links = Arc::new(Mutex::new(Faults::new()));
    let (connector, mut incoming) = dial(links.clone());
    let client = reconnect().layer(ResumeLayer::new().layer(connector)).into_boxed();
    let (near, _near) = begin(encoded(client), &ledger);
    let (servers, resumed) = (Servers::default(), Arc::new(AtomicUsize::new(0)));
    let (accepted, counted, of_server) = (servers.clone(), resumed.clone(), ledger.clone());
    tokio::spawn(async move {
        let store = SessionStore::new();
        while let Some(far) = incoming.recv().await {
            let (store, accepted, counted) = (store.clone(), accepted.clone(), counted.clone());
            let ledger = of_server.clone();
            tokio::spawn(async move {
                match store.accept(far).await {
                    Ok(Accepted::New(session)) => accepted.lock().unwrap().push(begin(encoded(session), &ledger).0),
                    Ok(Accepted::Resumed) => drop(counted.fetch_add(1, SeqCst)),
                    // Cut in the handshake.
                    Err(error) => assert!(error.is_closed(), "{error}"),
                }
            });
        }
    });
    let ends = under_cuts(near, servers.clone(), links, ledger, fire(seed, 0, false)).await;
    assert!(resumed.load(SeqCst) > 3, "it was not cut");
    assert_eq!((ends.lost, ends.lost_unexecuted, servers.lock().unwrap().len()), (0, 0, 1));
    assert!(ends.answered > CALLS / 3, "{ends:?}");
}
