//! The engine over scripted connectors, on the paused clock.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use http::StatusCode;

use super::*;
use crate::{
    rt,
    stack::adaptive::{Decided, Endpoints, Reason, shared::Shared, watch::Decisions},
};
use TransportKind::{Sse, WebSocket, WebTransport};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const HEAD_START: Duration = ms(250);
const TTL: Duration = Duration::from_secs(600);

/// After how long what comes of it.
type Script = [(u64, Result<(), Error>); 3];

/// Gives what the script says, and notes what was started and dropped.
#[derive(Clone)]
struct Scripted {
    script: Arc<Mutex<Script>>,
    log: Arc<Mutex<Vec<String>>>,
}

struct Noted(TransportKind, Arc<Mutex<Vec<String>>>, bool);

impl Drop for Noted {
    fn drop(&mut self) {
        if !self.2 {
            self.1.lock().unwrap().push(format!("{} dropped", self.0.word()));
        }
    }
}

impl Dial for Scripted {
    type Transport = TransportKind;

    fn dial(&self, kind: TransportKind, request: Request<()>) -> Dialling<TransportKind> {
        assert_eq!(request.headers()["x-user"], "7");
        self.log.lock().unwrap().push(format!("{} {}", kind.word(), request.uri()));
        let noted = Noted(kind, self.log.clone(), false);
        let (time, result) = self.script.lock().unwrap()[kind.index()].clone();
        Box::pin(async move {
            let mut noted = noted;
            rt::sleep(ms(time)).await;
            noted.2 = true;
            result.map(|()| Response::new(kind))
        })
    }
}

/// A connector of scripts.
struct Bench {
    dial: Scripted,
    shared: Arc<Shared>,
    decisions: Decisions,
    endpoints: Endpoints,
    head_start: Duration,
}

impl Bench {
    fn new(script: Script) -> Self {
        let dial = Scripted { script: Arc::new(Mutex::new(script)), log: Arc::default() };
        let shared = Shared::new(TTL, 8);
        let decisions = shared.subscribe();
        let endpoints = Endpoints::new("https://example.com").unwrap();
        Self { dial, shared, decisions, endpoints, head_start: HEAD_START }
    }

    fn race(&self) -> Race<Scripted> {
        let request = Request::get("/").header("x-user", "7").body(()).unwrap();
        let (origin, mut endpoints) = self.endpoints.resolve(request.uri()).unwrap();
        let kinds: Vec<_> = endpoints.iter().map(|endpoint| endpoint.place.kind).collect();
        let order = self.shared.memory().order(&origin, &kinds, self.shared.now());
        endpoints.sort_by_key(|endpoint| order.kinds.iter().position(|kind| *kind == endpoint.place.kind));
        let attempt = Attempt::new(self.shared.clone(), origin, "test".into());
        Race::new(self.dial.clone(), attempt, endpoints, &request, self.head_start)
    }

    async fn connect(&self) -> Result<TransportKind, Error> {
        let (kind, response) = self.race().await?;
        assert_eq!(*response.body(), kind);
        Ok(kind)
    }

    fn set(&self, kind: TransportKind, time: u64, result: Result<(), Error>) {
        self.dial.script.lock().unwrap()[kind.index()] = (time, result);
    }

    /// What was started and dropped since the last look.
    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.dial.log.lock().unwrap())
    }

    /// What was decided since the last look, in a word or two each.
    fn decided(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        while let Some(Some(Decided { decision, .. })) = self.decisions.next().now_or_never() {
            words.push(match decision {
                Decision::Remembered { kind } => format!("remembered {}", kind.word()),
                Decision::Started { kind, after } => format!("started {} {}", kind.word(), after.as_millis()),
                Decision::FellBack { kind, reason, after, .. } => {
                    format!("fell back {} {} {}", kind.word(), reason.word(), after.as_millis())
                }
                Decision::Stopped { kind, reason, after, .. } => {
                    format!("stopped {} {} {}", kind.word(), reason.word(), after.as_millis())
                }
                Decision::Connected { kind, after } => format!("connected {} {}", kind.word(), after.as_millis()),
                Decision::Failed { after, .. } => format!("failed {}", after.as_millis()),
                Decision::LostMidSession { kind, .. } => format!("lost {}", kind.word()),
                Decision::Missed { decisions } => format!("missed {decisions}"),
            });
        }
        words
    }
}

const fn up(time: u64) -> (u64, Result<(), Error>) {
    (time, Ok(()))
}

fn status(code: u16) -> Error {
    Error::from_refusal(StatusCode::from_u16(code).unwrap(), Bytes::new())
}

#[tokio::test(start_paused = true)]
async fn a_first_choice_that_is_quick_is_the_only_one_asked() {
    let mut bench = Bench::new([up(100), up(10), up(10)]);
    assert_eq!(bench.connect().await.unwrap(), WebTransport);
    assert_eq!(bench.log(), ["webtransport https://example.com/wt"]);
    assert_eq!(bench.decided(), ["started webtransport 0", "connected webtransport 100"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_choice_delays_by_its_head_start_alone_and_is_dropped() {
    let mut bench = Bench::new([up(9_000), up(20), up(20)]);
    assert_eq!(bench.connect().await.unwrap(), WebSocket);
    assert_eq!(
        bench.log(),
        ["webtransport https://example.com/wt", "websocket wss://example.com/ws", "webtransport dropped"]
    );
    assert_eq!(bench.decided(), ["started webtransport 0", "started websocket 250", "connected websocket 270"]);
}

#[tokio::test(start_paused = true)]
async fn a_first_choice_that_comes_after_its_head_start_still_wins_if_it_is_first() {
    let bench = Bench::new([up(300), up(200), up(20)]);
    assert_eq!(bench.connect().await.unwrap(), WebTransport);
    assert_eq!(bench.log()[2], "websocket dropped");
}

#[tokio::test(start_paused = true)]
async fn what_fails_makes_room_for_the_next_at_once() {
    let mut bench = Bench::new([(30, Err(Error::timeout("silence"))), (40, Err(status(426))), up(5)]);
    assert_eq!(bench.connect().await.unwrap(), Sse);
    assert_eq!(
        bench.decided(),
        [
            "started webtransport 0",
            "fell back webtransport udp_blocked 30",
            "started websocket 30",
            "fell back websocket upgrade_refused 70",
            "started sse 70",
            "connected sse 75",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn udp_that_is_blocked_costs_one_head_start_and_upgrades_that_are_refused_nothing_more() {
    let mut bench = Bench::new([(10_000, Err(Error::timeout("silence"))), (40, Err(status(200))), up(5)]);
    assert_eq!(bench.connect().await.unwrap(), Sse);
    assert_eq!(bench.decided().last().unwrap(), "connected sse 295");
}

#[tokio::test(start_paused = true)]
async fn an_endless_head_start_tries_one_after_the_other() {
    let mut bench = Bench::new([(9_000, Err(Error::timeout("silence"))), up(20), up(20)]);
    bench.head_start = Duration::MAX;
    assert_eq!(bench.connect().await.unwrap(), WebSocket);
    assert_eq!(bench.decided().last().unwrap(), "connected websocket 9020");
    bench.head_start = Duration::ZERO;
    bench.shared.memory().forget();
    bench.set(WebTransport, 30, Ok(()));
    assert_eq!(bench.connect().await.unwrap(), WebSocket, "all at once: the quickest");
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_is_not_tried_over_another_transport() {
    let mut bench = Bench::new([up(500), (30, Err(status(401))), up(0)]);
    let error = bench.connect().await.unwrap_err();
    assert!(error.is_auth() && error.status() == Some(StatusCode::UNAUTHORIZED), "{error}");
    assert_eq!(
        bench.decided(),
        ["started webtransport 0", "started websocket 250", "stopped websocket auth 280", "failed 280"]
    );
    assert_eq!(bench.log().last().unwrap(), "webtransport dropped");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_is_asked_once_over_tcp() {
    let mut bench = Bench::new([(60_000, Err(Error::timeout(""))), (3, Err(Error::refused("nobody listens"))), up(0)]);
    let error = bench.connect().await.unwrap_err();
    assert!(error.is_refused(), "{error}");
    assert_eq!(bench.decided().last().unwrap(), "failed 253");
    assert!(!bench.log().iter().any(|line| line.starts_with("sse")));
}

#[tokio::test(start_paused = true)]
async fn where_one_lives_elsewhere_it_is_tried_though_the_others_server_is_down() {
    let mut bench = Bench::new([(60_000, Err(Error::timeout(""))), (3, Err(Error::refused("nobody listens"))), up(4)]);
    bench.endpoints = bench.endpoints.sse("https://other.example.com/sse").unwrap();
    assert_eq!(bench.connect().await.unwrap(), Sse);
    let log = bench.log();
    assert_eq!(
        log[2..],
        ["webtransport dropped", "sse https://other.example.com/sse"],
        "what is on the same host went"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_time_gets_it() {
    let busy = status(503).with_retry_after(Duration::from_secs(20));
    let bench = Bench::new([(10, Err(Error::timeout(""))), (10, Err(busy)), up(0)]);
    let error = bench.connect().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(20)));
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_error_names_each() {
    let bench =
        Bench::new([(10, Err(Error::timeout("no QUIC"))), (10, Err(status(404))), (10, Err(Error::closed("cut")))]);
    let error = bench.connect().await.unwrap_err();
    for part in ["WebTransport: no QUIC", "WebSocket: ", "404", "SSE + POST: cut"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_over_udp_is_not_waited_for_to_the_end_once_the_server_has_answered_over_tcp() {
    let mut bench = Bench::new([(10_000, Err(Error::timeout(""))), (5, Err(status(502))), (5, Err(status(502)))]);
    let error = bench.connect().await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::BAD_GATEWAY), "{error}");
    assert_eq!(bench.decided().last().unwrap(), "failed 3260");
    bench.connect().await.unwrap_err();
    assert_eq!(bench.decided().last().unwrap(), "failed 1260", "it is known to be silent");
    bench.set(WebTransport, 1_200, Ok(()));
    assert_eq!(bench.connect().await.unwrap(), WebTransport, "what comes in that time is taken");
    bench.shared.memory().lost(&"https://example.com:443".into(), WebTransport, bench.shared.now());
    bench.set(WebTransport, 9_000, Ok(()));
    bench.connect().await.unwrap_err();
    assert_eq!(bench.decided().last().unwrap(), "failed 1010", "it is started last, and known to be dead");
}

#[tokio::test(start_paused = true)]
async fn the_head_start_of_one_that_is_ruled_out_ends_nobody_elses_attempt() {
    let mut bench = Bench::new([(300, Err(Error::tls("not trusted"))), up(400), up(0)]);
    let endpoints = Endpoints::new("http://example.com").unwrap().web_transport("https://example.com/wt").unwrap();
    bench.endpoints = endpoints.web_socket("wss://example.com/ws").unwrap();
    assert_eq!(bench.connect().await.unwrap(), WebSocket);
    assert_eq!(bench.decided().last().unwrap(), "connected websocket 650");
}

#[tokio::test(start_paused = true)]
async fn silence_over_udp_and_tcp_alike_is_waited_for() {
    let late = || (2_000, Err(Error::timeout("silence")));
    let mut bench = Bench::new([up(9_000), late(), late()]);
    assert_eq!(bench.connect().await.unwrap(), WebTransport);
    assert_eq!(bench.decided().last().unwrap(), "connected webtransport 9000");
}

#[tokio::test(start_paused = true)]
async fn what_worked_is_asked_first_until_its_time_is_over() {
    let mut bench = Bench::new([(10_000, Err(Error::timeout("silence"))), up(20), up(20)]);
    bench.connect().await.unwrap();
    bench.log();
    rt::sleep(TTL - ms(1_000)).await;
    assert_eq!(bench.connect().await.unwrap(), WebSocket);
    assert_eq!(bench.log(), ["websocket wss://example.com/ws"]);
    // The look from the top delays nothing but by the head start, as the first did.
    rt::sleep(ms(2_000)).await;
    bench.decided();
    assert_eq!(bench.connect().await.unwrap(), WebSocket);
    assert_eq!(bench.decided().last().unwrap(), "connected websocket 270");
    bench.set(WebTransport, 10, Ok(()));
    rt::sleep(TTL).await;
    assert_eq!(bench.connect().await.unwrap(), WebTransport);
}

#[tokio::test(start_paused = true)]
async fn a_remembered_transport_that_works_no_more_costs_no_more_than_a_head_start() {
    let mut bench = Bench::new([(5, Err(Error::timeout("silence"))), up(20), up(20)]);
    bench.connect().await.unwrap();
    bench.set(WebSocket, 30_000, Err(Error::timeout("")));
    bench.log();
    bench.decided();
    assert_eq!(bench.connect().await.unwrap(), Sse);
    assert_eq!(
        bench.decided(),
        [
            "started websocket 0",
            "started webtransport 250",
            "fell back webtransport udp_blocked 255",
            "started sse 255",
            "connected sse 275"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_path_that_went_dead_in_a_session_is_tried_last_and_told_once() {
    use crate::stack::adaptive::shared::Session;

    let mut bench = Bench::new([up(5), up(20), up(20)]);
    let race = bench.race();
    let session = Session::new(race.attempt().clone(), WebTransport);
    assert_eq!(race.await.unwrap().0, WebTransport);
    bench.decided();
    for _ in 0..2 {
        session.died(&Error::timeout("no answer to a ping"));
    }
    assert_eq!(bench.decided(), ["lost webtransport"]);
    assert_eq!(bench.connect().await.unwrap(), WebSocket);
    bench.set(WebSocket, 1, Err(status(502)));
    bench.set(Sse, 1, Err(status(502)));
    assert_eq!(bench.connect().await.unwrap(), WebTransport, "last is not never");
    let seen = bench.shared.memory().last("https://example.com:443", WebSocket, bench.shared.now());
    assert!(matches!(seen, Some(super::super::memory::Last::Failed(Reason::UpgradeRefused, _))), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_attempt_drops_what_is_under_way() {
    let bench = Bench::new([up(10_000), up(10_000), up(10_000)]);
    assert!(rt::timeout(ms(300), bench.connect()).await.is_err());
    assert_eq!(bench.log()[2..], ["webtransport dropped", "websocket dropped"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_candidate_the_attempt_fails_at_once() {
    let mut bench = Bench::new([up(1), up(1), up(1)]);
    for kind in TransportKind::ALL {
        bench.endpoints = bench.endpoints.clone().without(kind);
    }
    assert!(bench.connect().await.unwrap_err().is_config());
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_counted_by_transport_and_reason() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    let _here = metrics::set_default_local_recorder(&recorder);
    let bench = Bench::new([(10, Err(Error::timeout(""))), (10, Err(status(426))), up(5)]);
    let race = bench.race();
    let session = crate::stack::adaptive::shared::Session::new(race.attempt().clone(), Sse);
    race.await.unwrap();
    session.died(&Error::timeout(""));
    let mut found: Vec<_> = recorder
        .snapshotter()
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| {
            let mut labels: Vec<_> =
                key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            labels.sort();
            let value = match value {
                DebugValue::Counter(count) => count.to_string(),
                DebugValue::Histogram(values) => {
                    format!("{:?}", values.iter().map(|value| value.0).collect::<Vec<_>>())
                }
                DebugValue::Gauge(value) => value.to_string(),
            };
            format!("{} {} {value}", key.key().name(), labels.join(","))
        })
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "tower_transport_connect_seconds name=test,role=client,transport=sse [0.025]",
            "tower_transport_connects_total name=test,role=client,transport=sse 1",
            "tower_transport_fallbacks_total name=test,reason=udp_blocked,role=client,transport=webtransport 1",
            "tower_transport_fallbacks_total name=test,reason=upgrade_refused,role=client,transport=websocket 1",
            "tower_transport_paths_lost_total name=test,role=client,transport=sse 1",
        ]
    );
}
