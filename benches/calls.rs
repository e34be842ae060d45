//! The cost of a call: `service::Client`, a hand-written driver with oneshots, tokio-tower and tarpc.
//!
//! `cargo bench -p benches --bench calls`. All run in one process on a current-thread runtime, from spawned tasks, with
//! 32 bytes each way; the libraries take turns within each round. The figures are process CPU time and wall time per
//! call (both ends), and the median of the ratios of each round to the hand-written driver. Set `ROUNDS` and `CALLS`
//! for longer runs.

#![allow(clippy::unwrap_used)] // What fails here ends the bench.

use std::{
    collections::{HashMap, VecDeque},
    future::{Future, poll_fn},
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use cpu_time::ProcessTime;
use futures_util::{FutureExt, SinkExt, StreamExt, stream::FuturesUnordered};
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tower::{Service, ServiceExt, service_fn};
use tower_transport::{
    Error, Transport, channel,
    service::{Client, Server, Tagged},
};

type Payload = [u8; 32];
const PAYLOAD: Payload = [7; 32];
const DEPTHS: [usize; 2] = [1, 64];

type Run = Pin<Box<dyn Future<Output = ()> + Send>>;
type Case = (&'static str, &'static str, fn(usize, usize) -> Run);

/// Name, base of the ratio, and what runs.
const CASES: &[Case] = &[
    ("channel: hand-written, in order", "channel: hand-written, in order", |depth, calls| Box::pin(hand(depth, calls))),
    ("channel: Client, in order", "channel: hand-written, in order", |depth, calls| Box::pin(client(depth, calls))),
    ("channel: Client, driven", "channel: hand-written, in order", |depth, calls| Box::pin(driven(depth, calls))),
    ("channel: Client + Server, in order", "channel: hand-written, in order", |depth, calls| {
        Box::pin(client_and_server(depth, calls))
    }),
    ("channel: tokio-tower pipeline", "channel: hand-written, in order", |depth, calls| {
        Box::pin(tokio_tower_pipeline(depth, calls))
    }),
    ("tarpc, its own channel", "channel: hand-written, in order", |depth, calls| Box::pin(tarpc_channel(depth, calls))),
    ("channel: hand-written, by tag", "channel: hand-written, by tag", |depth, calls| {
        Box::pin(hand_by_tag(depth, calls))
    }),
    ("channel: Client, by tag", "channel: hand-written, by tag", |depth, calls| Box::pin(client_by_tag(depth, calls))),
    ("duplex: hand-written, in order", "duplex: hand-written, in order", |depth, calls| {
        Box::pin(hand_framed(depth, calls))
    }),
    ("duplex: Client, in order", "duplex: hand-written, in order", |depth, calls| {
        Box::pin(client_framed(depth, calls))
    }),
];

const GOALS: &[(&str, &str, usize, f64)] = &[
    ("depth1-vs-hand", "channel: Client, in order", 1, 0.75),
    ("depth64-vs-hand", "channel: Client, in order", 64, 0.85),
    ("depth1-by-tag-vs-hand", "channel: Client, by tag", 1, 0.75),
    ("depth64-by-tag-vs-hand", "channel: Client, by tag", 64, 0.85),
    ("depth1-duplex-vs-hand", "duplex: Client, in order", 1, 0.75),
    ("depth64-duplex-vs-hand", "duplex: Client, in order", 64, 0.85),
];

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn main() {
    // `cargo test` runs this too, and wants to know only that it runs.
    let bench = std::env::args().any(|argument| argument == "--bench");
    let rounds = setting("ROUNDS", if bench { 15 } else { 1 });
    let calls = setting("CALLS", if bench { 20_000 } else { 640 });
    let only = std::env::var("ONLY").unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut ratios: HashMap<(&str, usize), f64> = HashMap::new();
    for depth in DEPTHS {
        let mut figures = vec![Vec::new(); CASES.len()];
        for round in 0..=rounds {
            for ((name, _, run), figures) in CASES.iter().zip(&mut figures) {
                if !name.contains(&only) {
                    continue;
                }
                let (cpu, wall) = (ProcessTime::now(), Instant::now());
                runtime.block_on(async { tokio::spawn(run(depth, calls)).await.unwrap() });
                // The first round warms up.
                if round > 0 {
                    figures.push((cpu.elapsed(), wall.elapsed()));
                }
            }
        }
        println!("\ndepth {depth}, {rounds} rounds of {calls} calls, ns per call and ratio to hand-written\n");
        println!("| case | CPU | ratio | wall | ratio |\n|---|---|---|---|---|");
        for ((name, base, _), own) in CASES.iter().zip(&figures) {
            let base = &figures[CASES.iter().position(|(name, ..)| name == base).unwrap()];
            if own.is_empty() || base.is_empty() {
                continue;
            }
            let time = |pick: fn(&(Duration, Duration)) -> Duration| {
                median(own.iter().map(|figure| pick(figure).as_nanos() as f64 / calls as f64))
            };
            let ratio = |pick: fn(&(Duration, Duration)) -> Duration| {
                median(own.iter().zip(base).map(|(own, base)| pick(own).as_secs_f64() / pick(base).as_secs_f64()))
            };
            ratios.insert((name, depth), ratio(|figure| figure.0));
            let (cpu, wall) = (time(|figure| figure.0), time(|figure| figure.1));
            let (cpu_ratio, wall_ratio) = (ratio(|figure| figure.0), ratio(|figure| figure.1));
            println!("| {name} | {cpu:.0} | {cpu_ratio:.2} | {wall:.0} | {wall_ratio:.2} |");
        }
    }
    println!();
    for (name, case, depth, bound) in GOALS {
        if let Some(value) = ratios.get(&(*case, *depth)) {
            let met = if value <= bound { "met" } else { "missed" };
            println!("goal calls/{name} {value:.2} <= {bound} {met}");
        }
    }
    allocations();
}

/// Allocations of a call in steady state, both ends ours.
fn allocations() {
    let (here, there) = channel(128);
    let mut server = Server::as_they_finish(there, echo());
    let mut client = Client::by_tag(here);
    let mut round = || {
        for _ in 0..1000 {
            let mut call = client.ready().now_or_never().unwrap().unwrap().call(PAYLOAD);
            assert!((&mut call).now_or_never().is_none());
            assert!((&mut server).now_or_never().is_none());
            assert!(call.now_or_never().is_some());
        }
    };
    round();
    let count = allocation_counter::measure(round).count_total as f64 / 1000.0;
    println!("goal calls/allocations {count:.2} <= 0 {}", if count <= 0.0 { "met" } else { "missed" });
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn echo() -> impl Service<Payload, Response = Payload, Error = Error, Future: Send> + Clone + Send + Unpin {
    service_fn(|payload: Payload| std::future::ready(Ok(payload)))
}

/// Calls from as many tasks as the depth.
async fn lanes<S, Req>(client: S, depth: usize, calls: usize, request: fn() -> Req)
where
    S: Service<Req, Future: Send, Error: std::fmt::Debug> + Clone + Send + 'static,
    S::Response: AsRef<[u8]> + Send,
    Req: Send + 'static,
{
    let lanes: Vec<_> = (0..depth)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move {
                for _ in 0..calls / depth {
                    poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
                    assert_eq!(client.call(request()).await.unwrap().as_ref(), PAYLOAD);
                }
            })
        })
        .collect();
    drop(client);
    for lane in lanes {
        lane.await.unwrap();
    }
}

/// The other end of all but tarpc: echoes, and flushes when there is nothing to read.
async fn peer<T, M>(mut transport: T, answer: fn(T::In) -> M)
where
    T: Transport<M> + Unpin,
{
    while let Some(Ok(message)) = transport.next().await {
        let mut next = Some(message);
        while let Some(message) = next {
            if transport.feed(answer(message)).await.is_err() {
                return;
            }
            next = match transport.next().now_or_never() {
                Some(Some(Ok(message))) => Some(message),
                Some(_) => return,
                None => None,
            };
        }
        if transport.flush().await.is_err() {
            return;
        }
    }
}

async fn client(depth: usize, calls: usize) {
    let (here, there) = channel::<Payload, Payload>(128);
    tokio::spawn(peer(there, |payload| payload));
    lanes(Client::in_order(here), depth, calls, || PAYLOAD).await;
}

async fn driven(depth: usize, calls: usize) {
    let (here, there) = channel::<Payload, Payload>(128);
    tokio::spawn(peer(there, |payload| payload));
    let client = Client::in_order(here);
    tokio::spawn(client.drive());
    lanes(client, depth, calls, || PAYLOAD).await;
}

async fn client_and_server(depth: usize, calls: usize) {
    let (here, there) = channel::<Payload, Payload>(128);
    tokio::spawn(Server::in_order(there, echo()));
    lanes(Client::in_order(here), depth, calls, || PAYLOAD).await;
}

async fn client_by_tag(depth: usize, calls: usize) {
    let (here, there) = channel::<Tagged<Payload>, Tagged<Payload>>(128);
    tokio::spawn(peer(there, |message| message));
    lanes(Client::by_tag(here), depth, calls, || PAYLOAD).await;
}

fn framed() -> (Framed<tokio::io::DuplexStream, LengthDelimitedCodec>, impl Future<Output = ()> + Send) {
    let (here, there) = tokio::io::duplex(64 * 1024);
    let there = Framed::new(there, LengthDelimitedCodec::new());
    (Framed::new(here, LengthDelimitedCodec::new()), peer(there, BytesMut::freeze))
}

async fn client_framed(depth: usize, calls: usize) {
    let (here, peer) = framed();
    tokio::spawn(peer);
    lanes(Client::<_, Bytes, _>::in_order(here), depth, calls, || Bytes::from_static(&PAYLOAD)).await;
}

// --- written by hand -----------------------------------------------------------------------------

/// A handle to a driver task: a request goes there with a oneshot for its answer.
struct Hand<Req, Res>(mpsc::Sender<(Req, oneshot::Sender<Res>)>);

impl<Req, Res> Clone for Hand<Req, Res> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Req: Send + 'static, Res: Send + 'static> Hand<Req, Res> {
    async fn lanes(self, depth: usize, calls: usize, request: fn() -> Req)
    where
        Res: AsRef<[u8]>,
    {
        let lanes: Vec<_> = (0..depth)
            .map(|_| {
                let hand = self.clone();
                tokio::spawn(async move {
                    for _ in 0..calls / depth {
                        let (answer, future) = oneshot::channel();
                        assert!(hand.0.send((request(), answer)).await.is_ok());
                        assert_eq!(future.await.unwrap().as_ref(), PAYLOAD);
                    }
                })
            })
            .collect();
        drop(self);
        for lane in lanes {
            lane.await.unwrap();
        }
    }
}

async fn drive_by_hand<T, Req, Res>(mut transport: T, mut requests: mpsc::Receiver<(Req, oneshot::Sender<Res>)>)
where
    T: Transport<Req, In = Res> + Unpin,
{
    let mut waiting = VecDeque::new();
    loop {
        tokio::select! {
            request = requests.recv() => {
                let Some((request, answer)) = request else { return };
                waiting.push_back(answer);
                if transport.feed(request).await.is_err() { return }
                while let Ok((request, answer)) = requests.try_recv() {
                    waiting.push_back(answer);
                    if transport.feed(request).await.is_err() { return }
                }
                if transport.flush().await.is_err() { return }
            }
            answer = transport.next() => {
                let (Some(Ok(message)), Some(answer)) = (answer, waiting.pop_front()) else { return };
                let _ = answer.send(message);
            }
        }
    }
}

async fn hand(depth: usize, calls: usize) {
    let (here, there) = channel::<Payload, Payload>(128);
    tokio::spawn(peer(there, |payload| payload));
    let (hand, requests) = mpsc::channel(128);
    tokio::spawn(drive_by_hand(here, requests));
    Hand(hand).lanes(depth, calls, || PAYLOAD).await;
}

async fn hand_framed(depth: usize, calls: usize) {
    let (here, peer) = framed();
    tokio::spawn(peer);
    let (hand, requests) = mpsc::channel(128);
    tokio::spawn(drive_by_hand::<_, Bytes, BytesMut>(here, requests));
    Hand(hand).lanes(depth, calls, || Bytes::from_static(&PAYLOAD)).await;
}

async fn hand_by_tag(depth: usize, calls: usize) {
    let (mut here, there) = channel::<Tagged<Payload>, Tagged<Payload>>(128);
    tokio::spawn(peer(there, |message| message));
    let (hand, mut requests) = mpsc::channel::<(Payload, oneshot::Sender<Payload>)>(128);
    tokio::spawn(async move {
        let mut waiting = HashMap::new();
        let mut tag = 0;
        loop {
            tokio::select! {
                request = requests.recv() => {
                    let mut next = request;
                    if next.is_none() { return }
                    while let Some((value, answer)) = next {
                        tag += 1;
                        waiting.insert(tag, answer);
                        if here.feed(Tagged { tag, value }).await.is_err() { return }
                        next = requests.try_recv().ok();
                    }
                    if here.flush().await.is_err() { return }
                }
                answer = here.next() => {
                    let Some(Ok(Tagged { tag, value })) = answer else { return };
                    if let Some(answer) = waiting.remove(&tag) {
                        let _ = answer.send(value);
                    }
                }
            }
        }
    });
    Hand(hand).lanes(depth, calls, || PAYLOAD).await;
}

// --- the others ----------------------------------------------------------------------------------

/// Its client is not `Clone`, and keeps the waker of one task: so one task has all the calls.
async fn tokio_tower_pipeline(depth: usize, calls: usize) {
    let (here, there) = channel::<Payload, Payload>(128);
    tokio::spawn(peer(there, |payload| payload));
    type Failed = tokio_tower::Error<tower_transport::Channel<Payload>, Payload>;
    type Pipeline = tokio_tower::pipeline::Client<tower_transport::Channel<Payload>, Failed, Payload>;
    let mut client = Pipeline::new(here);
    let mut waiting = FuturesUnordered::<<Pipeline as Service<Payload>>::Future>::new();
    for _ in 0..calls {
        if waiting.len() == depth {
            assert_eq!(waiting.next().await.unwrap().unwrap(), PAYLOAD);
        }
        poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
        waiting.push(client.call(PAYLOAD));
    }
    while let Some(answer) = waiting.next().await {
        assert_eq!(answer.unwrap(), PAYLOAD);
    }
}

mod rpc {
    #[tarpc::service]
    pub trait Echo {
        async fn echo(payload: super::Payload) -> super::Payload;
    }

    #[derive(Clone)]
    pub(crate) struct Echoes;

    impl Echo for Echoes {
        async fn echo(self, _: tarpc::context::Context, payload: super::Payload) -> super::Payload {
            payload
        }
    }
}

async fn tarpc_channel(depth: usize, calls: usize) {
    use rpc::Echo;
    use tarpc::server::{BaseChannel, Channel};

    let (here, there) = tarpc::transport::channel::bounded(128);
    tokio::spawn(BaseChannel::with_defaults(there).execute(rpc::Echoes.serve()).for_each(|answer| {
        tokio::spawn(answer);
        std::future::ready(())
    }));
    let tarpc::client::NewClient { client, dispatch } = rpc::EchoClient::new(tarpc::client::Config::default(), here);
    tokio::spawn(dispatch);
    let lanes: Vec<_> = (0..depth)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..calls / depth {
                    assert_eq!(client.echo(tarpc::context::current(), PAYLOAD).await.unwrap(), PAYLOAD);
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
}
