//! Calls under fire: many calls and streams at once, given up, timed out, stalled and cut at random, whose outcomes are
//! checked one by one. For any pair of peers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{
    SinkExt, StreamExt,
    stream::{self, BoxStream},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::{Service, ServiceExt, service_fn};
use tower_transport::service::peer::{CallError, CallStream, Caller, Frames, IncomingCall, Reply};

pub type Wire = Frames<u64, u64, String>;
pub type Numbers = BoxStream<'static, Result<u64, String>>;

/// splitmix64.
#[derive(Clone, Copy, Debug)]
pub struct Random(pub u64);

impl Random {
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub const fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    pub fn time(&mut self, below_ms: u64) -> Duration {
        Duration::from_millis(self.below(below_ms))
    }
}

/// Returns the seed of a test: that of the variable `SEED`, or `default`. Prints it.
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(default);
    println!("SEED={seed}");
    seed
}

/// The kinds of calls. The last digit of a request tells its kind to the handler.
mod kind {
    pub(super) const PROMPT: u64 = 0;
    pub(super) const SLOW: u64 = 1;
    pub(super) const FAILING: u64 = 2;
    pub(super) const NEVER: u64 = 3;
    /// The first of those that are streams.
    pub(super) const COUNT: u64 = 4;
    pub(super) const ENDLESS: u64 = 5;
    pub(super) const SUM: u64 = 6;
    pub(super) const ECHO: u64 = 7;
    pub(super) const DEAF: u64 = 8;
    pub(super) const ALL: u64 = 9;
}

fn answer(request: u64) -> u64 {
    Random(request).number()
}

fn count(request: u64) -> u64 {
    answer(request) % 60
}

/// The service of an end.
pub trait Handler:
    Service<IncomingCall<u64>, Response = Reply<u64, Numbers>, Error = String, Future: Send> + Send + Unpin + 'static
{
}

impl<S> Handler for S where
    S: Service<IncomingCall<u64>, Response = Reply<u64, Numbers>, Error = String, Future: Send>
        + Send
        + Unpin
        + 'static
{
}

/// How often each call was executed, and how many handlers run.
#[derive(Clone, Debug)]
pub struct Ledger {
    executed: Arc<[AtomicUsize]>,
    running: Arc<AtomicUsize>,
}

/// A handler that runs.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Ledger {
    /// Creates the ledger of a number of calls.
    pub fn new(calls: usize) -> Self {
        Self { executed: (0..calls).map(|_| AtomicUsize::new(0)).collect(), running: Arc::default() }
    }

    /// Returns how many handlers run, or have streams that do.
    pub fn running(&self) -> usize {
        self.running.load(SeqCst)
    }

    fn begin(&self, request: u64) -> Running {
        self.executed[(request / kind::ALL) as usize].fetch_add(1, SeqCst);
        self.running.fetch_add(1, SeqCst);
        Running(self.running.clone())
    }

    /// Makes the service of an end.
    pub fn service(&self) -> impl Handler + use<> {
        let ledger = self.clone();
        service_fn(move |call: IncomingCall<u64>| {
            let running = ledger.begin(call.request);
            handle(call, running)
        })
    }
}

async fn handle(mut call: IncomingCall<u64>, running: Running) -> Result<Reply<u64, Numbers>, String> {
    let request = call.request;
    let mut rng = Random(request);
    let numbers = |length: u64| {
        let mut rng = rng;
        stream::iter(0..length)
            .then(move |number| {
                let pause = if rng.below(8) == 0 { rng.time(4) } else { Duration::ZERO };
                async move {
                    if !pause.is_zero() {
                        sleep(pause).await;
                    }
                    Ok(request + number)
                }
            })
            .boxed()
    };
    match request % kind::ALL {
        kind::PROMPT => Ok(Reply::One(answer(request))),
        kind::SLOW => {
            sleep(rng.time(40)).await;
            Ok(Reply::One(answer(request)))
        }
        kind::FAILING => Err(format!("failed: {request}")),
        kind::COUNT | kind::ENDLESS => {
            let length = if request % kind::ALL == kind::COUNT { count(request) } else { u64::MAX };
            let numbers = numbers(length);
            Ok(Reply::Stream(numbers.inspect(move |_| assert!(running.0.load(SeqCst) > 0)).boxed()))
        }
        kind::SUM => {
            let mut sum = 0_u64;
            while let Some(number) = call.requests.next().await {
                sum = sum.wrapping_add(number.map_err(|error| error.to_string())?);
                if rng.below(16) == 0 {
                    sleep(rng.time(4)).await;
                }
            }
            Ok(Reply::One(sum))
        }
        kind::ECHO => {
            let echoes = call.requests.map(|number| number.map(answer).map_err(|error| error.to_string()));
            Ok(Reply::Stream(echoes.inspect(move |_| assert!(running.0.load(SeqCst) > 0)).boxed()))
        }
        // Whether or not it has requests: they are never read.
        _ => std::future::pending().await,
    }
}

/// The end of a call.
#[derive(Debug)]
enum Outcome {
    Answered,
    GivenUp,
    TimedOut,
    /// The connection was lost. The flag says whether the call may have been executed.
    Lost(bool),
}

/// The rules of a run.
#[derive(Clone, Copy, Debug)]
pub struct Fire {
    pub seed: u64,
    /// The place of the first call in the ledger.
    pub first: usize,
    pub calls: usize,
    pub streams: usize,
    /// Whether calls may fail because their connection was lost.
    pub may_lose: bool,
    /// The milliseconds within which all calls begin. Those that are given up or time out do so within as long again.
    pub pace_ms: u64,
}

/// The number of calls of a run by their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    pub answered: usize,
    pub given_up: usize,
    pub timed_out: usize,
    pub lost_unexecuted: usize,
    pub lost: usize,
}

impl Ends {
    pub const fn all(&self) -> usize {
        self.answered + self.given_up + self.timed_out + self.lost_unexecuted + self.lost
    }
}

impl Fire {
    pub const fn all(&self) -> usize {
        self.calls + self.streams
    }

    /// Makes all calls at once, each from the caller that `pick` returns for it when it begins, and checks how each ends.
    /// The ledger is that of the handlers.
    pub async fn run<F>(self, ledger: &Ledger, pick: F) -> Ends
    where
        F: Fn(u64) -> Caller<Wire> + Clone + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for number in 0..self.all() as u64 {
            let mut rng = Random(self.seed << 32 | number);
            let is_stream = number % (self.all() / self.streams) as u64 == 0;
            let first = if is_stream { kind::COUNT } else { kind::PROMPT };
            let kinds = if is_stream { kind::ALL - kind::COUNT } else { kind::COUNT };
            let index = self.first as u64 + number;
            let request = index * kind::ALL + first + rng.below(kinds);
            let pick = pick.clone();
            tasks.spawn(async move {
                // Not all at the same instant, so that cuts and stalls fall between them.
                sleep(rng.time(self.pace_ms)).await;
                (index, self.make(pick(number), request, is_stream, rng).await)
            });
        }
        let mut ends = Ends::default();
        while let Some(ended) = tasks.join_next().await {
            let (index, outcome) = ended.expect("a call ended in a way that is not allowed");
            let executed = ledger.executed[index as usize].load(SeqCst);
            assert!(executed <= 1, "call {index} was executed {executed} times, then {outcome:?}");
            match outcome {
                Outcome::Answered => {
                    assert_eq!(executed, 1, "call {index} was answered without a handler");
                    ends.answered += 1;
                }
                Outcome::GivenUp => ends.given_up += 1,
                Outcome::TimedOut => ends.timed_out += 1,
                Outcome::Lost(true) => ends.lost += 1,
                Outcome::Lost(false) => {
                    assert_eq!(executed, 0, "call {index} was executed, and its error says that it was not");
                    ends.lost_unexecuted += 1;
                }
            }
        }
        ends
    }

    async fn make(self, mut caller: Caller<Wire>, request: u64, is_stream: bool, mut rng: Random) -> Outcome {
        let never_ends = [kind::NEVER, kind::ENDLESS, kind::DEAF].contains(&(request % kind::ALL));
        let has_timeout = rng.below(4) == 0;
        if has_timeout {
            caller = caller.timeout(rng.time(self.pace_ms));
        }
        let gives_up = rng.below(4) == 0 || (never_ends && !has_timeout);
        let patience = if gives_up { rng.time(self.pace_ms) } else { Duration::from_secs(600) };
        let ended = timeout(patience, async {
            if is_stream { stream_ends(caller, request, rng).await } else { call_ends(caller, request).await }
        });
        match ended.await {
            Err(_) if gives_up => Outcome::GivenUp,
            Err(_) => panic!("call {request} never ends"),
            Ok(Ok(())) => Outcome::Answered,
            Ok(Err(CallError::Failed(failure))) => panic!("call {request} failed: {failure}"),
            Ok(Err(CallError::Unanswered(error))) if error.is_timeout() && has_timeout => Outcome::TimedOut,
            Ok(Err(CallError::Unanswered(error))) if error.is_closed() && self.may_lose => {
                Outcome::Lost(error.may_have_been_executed())
            }
            Ok(Err(error)) => panic!("call {request} ended with {error:?}"),
        }
    }
}

async fn call_ends(caller: Caller<Wire>, request: u64) -> Result<(), CallError<String>> {
    match caller.oneshot(request).await {
        Err(CallError::Failed(failure)) if request % kind::ALL == kind::FAILING => {
            assert_eq!(failure, format!("failed: {request}"));
            Ok(())
        }
        answered => {
            assert_eq!(answered?, answer(request));
            Ok(())
        }
    }
}

async fn stream_ends(mut caller: Caller<Wire>, request: u64, mut rng: Random) -> Result<(), CallError<String>> {
    let kind = request % kind::ALL;
    let length = rng.below(60);
    let mut stream = caller.stream(request, kind >= kind::SUM).await?;
    match kind {
        kind::COUNT | kind::ENDLESS => {
            let mut number = 0;
            while let Some(item) = stream.next().await {
                assert_eq!(item?, request + number);
                number += 1;
                if rng.below(16) == 0 {
                    sleep(rng.time(4)).await;
                }
            }
            assert_eq!((kind, number), (kind::COUNT, count(request)));
        }
        kind::SUM => {
            send(&mut stream, 0..length).await?;
            assert_eq!(stream.next().await.expect("a sum")?, (0..length).sum::<u64>());
            assert!(stream.next().await.is_none());
        }
        kind::ECHO => {
            let (mut sink, mut echoes) = stream.split();
            let sending = async {
                for number in 0..length {
                    if sink.send(number).await.is_err() {
                        return;
                    }
                }
                let _ = sink.close().await;
            };
            let receiving = async {
                let mut number = 0;
                while let Some(echo) = echoes.next().await {
                    assert_eq!(echo?, answer(number));
                    number += 1;
                }
                assert_eq!(number, length);
                Ok::<_, CallError<String>>(())
            };
            tokio::join!(sending, receiving).1?;
        }
        _ => {
            send(&mut stream, 0..1000).await?;
            panic!("a handler that reads nothing had room for 1,000 requests");
        }
    }
    Ok(())
}

/// Sends requests as there is credit. A call that is over says why by its stream.
async fn send(stream: &mut CallStream<Wire>, numbers: std::ops::Range<u64>) -> Result<(), CallError<String>> {
    for number in numbers {
        if stream.send(number).await.is_err() {
            return match stream.next().await {
                Some(Err(error)) => Err(error),
                other => panic!("the requests of a call ended, and the call did not: {other:?}"),
            };
        }
    }
    drop(stream.close().await);
    Ok(())
}
