//! Races over scripted connectors, on the paused clock: the start times of the transports, their outcomes, what
//! attempts know from each other, and the metrics.

use std::{
    collections::HashMap,
    error::Error as _,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use http::StatusCode;
use metrics::{Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit};

use super::*;
use crate::{
    layer::reconnect::{Class, classify},
    rt,
    stack::adaptive::{
        Decided, Decisions, Endpoints,
        attempt::{Observations, Route},
    },
};
use TransportKind::{Sse, WebSocket, WebTransport};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const HEAD_START: Duration = ms(250);
const TTL: Duration = Duration::from_secs(600);

/// The delay and the outcome of each transport.
type Script = [(u64, Result<(), Error>); 3];

/// Returns what the script says, and records what was started and dropped.
#[derive(Clone)]
struct Scripted {
    script: Arc<Mutex<Script>>,
    log: Arc<Mutex<Vec<String>>>,
}

struct Noted(TransportKind, Arc<Mutex<Vec<String>>>, bool);

impl Drop for Noted {
    fn drop(&mut self) {
        if !self.2 {
            self.1.lock().unwrap().push(format!("{} dropped", self.0.as_str()));
        }
    }
}

impl Dial for Scripted {
    type Transport = TransportKind;

    fn dial(&self, kind: TransportKind, request: Request<()>) -> Dialing<TransportKind> {
        assert_eq!(request.headers()["x-user"], "7");
        self.log.lock().unwrap().push(format!("{} {}", kind.as_str(), request.uri()));
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

/// A race over scripted connectors.
struct Races {
    dial: Scripted,
    observations: Arc<Observations>,
    decisions: Decisions,
    endpoints: Endpoints,
    head_start: Duration,
}

impl Races {
    fn new(script: Script) -> Self {
        let dial = Scripted { script: Arc::new(Mutex::new(script)), log: Arc::default() };
        let observations = Observations::new(TTL, 8);
        let decisions = observations.subscribe();
        let endpoints = Endpoints::new("https://example.com").unwrap();
        Self { dial, observations, decisions, endpoints, head_start: HEAD_START }
    }

    fn race(&self) -> Race<Scripted> {
        let request = Request::get("/").header("x-user", "7").body(()).unwrap();
        let (origin, mut endpoints) = self.endpoints.resolve(request.uri()).unwrap();
        let kinds: Vec<_> = endpoints.iter().map(|endpoint| endpoint.candidate.kind).collect();
        let order = self.observations.memory.lock().order(&origin, &kinds, self.observations.now());
        endpoints.sort_by_key(|endpoint| order.kinds.iter().position(|kind| *kind == endpoint.candidate.kind));
        let attempt = Attempt::new(self.observations.clone(), origin, "test".into());
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

    /// Returns what was started and dropped since the last call.
    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.dial.log.lock().unwrap())
    }

    /// Returns the decisions since the last call, in a word or two each.
    fn decided(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        while let Some(Some(Decided { decision, .. })) = self.decisions.next().now_or_never() {
            words.push(match decision {
                Decision::Remembered { kind } => format!("remembered {}", kind.as_str()),
                Decision::Started { kind, after } => format!("started {} {}", kind.as_str(), after.as_millis()),
                Decision::FellBack { kind, reason, after, .. } => {
                    format!("fell back {} {} {}", kind.as_str(), reason.as_str(), after.as_millis())
                }
                Decision::Stopped { kind, reason, after, .. } => {
                    format!("stopped {} {} {}", kind.as_str(), reason.as_str(), after.as_millis())
                }
                Decision::Connected { kind, after } => format!("connected {} {}", kind.as_str(), after.as_millis()),
                Decision::Failed { after, .. } => format!("failed {}", after.as_millis()),
                Decision::LostMidSession { kind, .. } => format!("lost {}", kind.as_str()),
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
    let mut races = Races::new([up(100), up(10), up(10)]);
    assert_eq!(races.connect().await.unwrap(), WebTransport);
    assert_eq!(races.log(), ["webtransport https://example.com/wt"]);
    assert_eq!(races.decided(), ["started webtransport 0", "connected webtransport 100"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_choice_delays_by_its_head_start_alone_and_is_dropped() {
    let mut races = Races::new([up(9_000), up(20), up(20)]);
    assert_eq!(races.connect().await.unwrap(), WebSocket);
    assert_eq!(
        races.log(),
        ["webtransport https://example.com/wt", "websocket wss://example.com/ws", "webtransport dropped"]
    );
    assert_eq!(races.decided(), ["started webtransport 0", "started websocket 250", "connected websocket 270"]);
}

#[tokio::test(start_paused = true)]
async fn a_first_choice_that_comes_after_its_head_start_still_wins_if_it_is_first() {
    let races = Races::new([up(300), up(200), up(20)]);
    assert_eq!(races.connect().await.unwrap(), WebTransport);
    assert_eq!(races.log()[2], "websocket dropped");
}

#[tokio::test(start_paused = true)]
async fn what_fails_makes_room_for_the_next_at_once() {
    let mut races = Races::new([(30, Err(Error::timeout("silence"))), (40, Err(status(426))), up(5)]);
    assert_eq!(races.connect().await.unwrap(), Sse);
    assert_eq!(
        races.decided(),
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
    let mut races = Races::new([(10_000, Err(Error::timeout("silence"))), (40, Err(status(200))), up(5)]);
    assert_eq!(races.connect().await.unwrap(), Sse);
    assert_eq!(races.decided().last().unwrap(), "connected sse 295");
}

#[tokio::test(start_paused = true)]
async fn an_endless_head_start_tries_one_after_the_other() {
    let mut races = Races::new([(9_000, Err(Error::timeout("silence"))), up(20), up(20)]);
    races.head_start = Duration::MAX;
    assert_eq!(races.connect().await.unwrap(), WebSocket);
    assert_eq!(races.decided().last().unwrap(), "connected websocket 9020");
    races.head_start = Duration::ZERO;
    races.observations.memory.lock().forget();
    races.set(WebTransport, 30, Ok(()));
    assert_eq!(races.connect().await.unwrap(), WebSocket, "all at once: the quickest");
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_is_not_tried_over_another_transport() {
    let mut races = Races::new([up(500), (30, Err(status(401))), up(0)]);
    let error = races.connect().await.unwrap_err();
    assert!(error.is_auth() && error.status() == Some(StatusCode::UNAUTHORIZED), "{error}");
    assert_eq!(
        races.decided(),
        ["started webtransport 0", "started websocket 250", "stopped websocket auth 280", "failed 280"]
    );
    assert_eq!(races.log().last().unwrap(), "webtransport dropped");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_is_asked_once_over_tcp() {
    let mut races = Races::new([(60_000, Err(Error::timeout(""))), (3, Err(Error::refused("nobody listens"))), up(0)]);
    let error = races.connect().await.unwrap_err();
    assert!(error.is_refused(), "{error}");
    assert_eq!(races.decided().last().unwrap(), "failed 253");
    assert!(!races.log().iter().any(|line| line.starts_with("sse")));
}

#[tokio::test(start_paused = true)]
async fn where_one_lives_elsewhere_it_is_tried_though_the_others_server_is_down() {
    let mut races = Races::new([(60_000, Err(Error::timeout(""))), (3, Err(Error::refused("nobody listens"))), up(4)]);
    races.endpoints = races.endpoints.sse("https://other.example.com/sse").unwrap();
    assert_eq!(races.connect().await.unwrap(), Sse);
    let log = races.log();
    assert_eq!(
        log[2..],
        ["webtransport dropped", "sse https://other.example.com/sse"],
        "what is on the same host went"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_time_gets_it() {
    let busy = status(503).with_retry_after(Duration::from_secs(20));
    let races = Races::new([(10, Err(Error::timeout(""))), (10, Err(busy)), up(0)]);
    let error = races.connect().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(20)));
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_error_names_each() {
    let races =
        Races::new([(10, Err(Error::timeout("no QUIC"))), (10, Err(status(404))), (10, Err(Error::closed("cut")))]);
    let error = races.connect().await.unwrap_err();
    for part in ["WebTransport: no QUIC", "WebSocket: ", "404", "SSE + POST: cut"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_head_start_of_one_that_is_ruled_out_ends_nobody_elses_attempt() {
    let mut races = Races::new([(300, Err(Error::tls("not trusted"))), up(400), up(0)]);
    let endpoints = Endpoints::new("http://example.com").unwrap().web_transport("https://example.com/wt").unwrap();
    races.endpoints = endpoints.web_socket("wss://example.com/ws").unwrap();
    assert_eq!(races.connect().await.unwrap(), WebSocket);
    assert_eq!(races.decided().last().unwrap(), "connected websocket 650");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_attempt_drops_what_is_under_way() {
    let races = Races::new([up(10_000), up(10_000), up(10_000)]);
    assert!(rt::timeout(ms(300), races.connect()).await.is_err());
    assert_eq!(races.log()[2..], ["webtransport dropped", "websocket dropped"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_candidate_the_attempt_fails_at_once() {
    let mut races = Races::new([up(1), up(1), up(1)]);
    for kind in TransportKind::ALL {
        races.endpoints = races.endpoints.clone().without(kind);
    }
    assert!(races.connect().await.unwrap_err().is_config());
}

#[tokio::test(start_paused = true)]
async fn silence_over_udp_is_not_waited_for_to_the_end_once_the_server_has_answered_over_tcp() {
    let mut races = Races::new([(10_000, Err(Error::timeout(""))), (5, Err(status(502))), (5, Err(status(502)))]);
    let error = races.connect().await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::BAD_GATEWAY), "{error}");
    assert_eq!(races.decided().last().unwrap(), "failed 3260");
    races.connect().await.unwrap_err();
    assert_eq!(races.decided().last().unwrap(), "failed 1260", "it is known to be silent");
    races.set(WebTransport, 1_200, Ok(()));
    assert_eq!(races.connect().await.unwrap(), WebTransport, "what comes in that time is taken");
    races.observations.memory.lock().lost(&"https://example.com:443".into(), WebTransport, races.observations.now());
    races.set(WebTransport, 9_000, Ok(()));
    races.connect().await.unwrap_err();
    assert_eq!(races.decided().last().unwrap(), "failed 1010", "it is started last, and known to be dead");
}

#[tokio::test(start_paused = true)]
async fn silence_over_udp_and_tcp_alike_is_waited_for() {
    let late = || (2_000, Err(Error::timeout("silence")));
    let mut races = Races::new([up(9_000), late(), late()]);
    assert_eq!(races.connect().await.unwrap(), WebTransport);
    assert_eq!(races.decided().last().unwrap(), "connected webtransport 9000");
}

#[tokio::test(start_paused = true)]
async fn what_worked_is_asked_first_until_its_time_is_over() {
    let mut races = Races::new([(10_000, Err(Error::timeout("silence"))), up(20), up(20)]);
    races.connect().await.unwrap();
    races.log();
    rt::sleep(TTL - ms(1_000)).await;
    assert_eq!(races.connect().await.unwrap(), WebSocket);
    assert_eq!(races.log(), ["websocket wss://example.com/ws"]);
    // The attempt from the preferred transport delays nothing beyond the head start, as the first attempt did.
    rt::sleep(ms(2_000)).await;
    races.decided();
    assert_eq!(races.connect().await.unwrap(), WebSocket);
    assert_eq!(races.decided().last().unwrap(), "connected websocket 270");
    races.set(WebTransport, 10, Ok(()));
    rt::sleep(TTL).await;
    assert_eq!(races.connect().await.unwrap(), WebTransport);
}

#[tokio::test(start_paused = true)]
async fn a_remembered_transport_that_works_no_more_costs_no_more_than_a_head_start() {
    let mut races = Races::new([(5, Err(Error::timeout("silence"))), up(20), up(20)]);
    races.connect().await.unwrap();
    races.set(WebSocket, 30_000, Err(Error::timeout("")));
    races.log();
    races.decided();
    assert_eq!(races.connect().await.unwrap(), Sse);
    assert_eq!(
        races.decided(),
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
async fn a_path_that_went_dead_in_a_session_is_tried_last_and_recorded_once() {
    let mut races = Races::new([up(5), up(20), up(20)]);
    let race = races.race();
    let route = Route::new(race.attempt().clone(), WebTransport);
    assert_eq!(race.await.unwrap().0, WebTransport);
    races.decided();
    for _ in 0..2 {
        route.died(&Error::timeout("no answer to a ping"));
    }
    assert_eq!(races.decided(), ["lost webtransport"]);
    assert_eq!(races.connect().await.unwrap(), WebSocket);
    races.set(WebSocket, 1, Err(status(502)));
    races.set(Sse, 1, Err(status(502)));
    assert_eq!(races.connect().await.unwrap(), WebTransport, "last is not never");
    let seen = races.observations.memory.lock().last("https://example.com:443", WebSocket, races.observations.now());
    assert!(matches!(seen, Some(LastOutcome::Failed(Reason::UpgradeRefused, _))), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_counted_by_transport_and_reason() {
    let recorder = Recorder::default();
    let _here = metrics::set_default_local_recorder(&recorder);
    let races = Races::new([(10, Err(Error::timeout(""))), (10, Err(status(426))), up(5)]);
    let race = races.race();
    let route = Route::new(race.attempt().clone(), Sse);
    race.await.unwrap();
    route.died(&Error::timeout(""));
    let mut found = recorder.lines();
    found.sort();
    assert_eq!(
        found,
        [
            "tower_transport_connect_seconds name=test,network.protocol.name=sse,role=client [0.025]",
            "tower_transport_connects_total name=test,network.protocol.name=sse,role=client 1",
            "tower_transport_fallbacks_total name=test,network.protocol.name=websocket,reason=upgrade_refused,\
             role=client 1",
            "tower_transport_fallbacks_total name=test,network.protocol.name=webtransport,reason=udp_blocked,\
             role=client 1",
            "tower_transport_paths_lost_total name=test,network.protocol.name=sse,role=client 1",
        ]
    );
}

/// The calls that a metrics recorder received, as text.
#[derive(Default)]
struct Recorder(Mutex<HashMap<String, Arc<Recorded>>>);

#[derive(Default)]
struct Recorded(Mutex<Vec<f64>>);

impl Recorder {
    fn recorded(&self, key: &Key) -> Arc<Recorded> {
        let mut labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        labels.sort();
        self.0.lock().unwrap().entry(format!("{} {}", key.name(), labels.join(","))).or_default().clone()
    }

    /// Returns a line for each metric: the sum of a counter, or all values of a histogram.
    fn lines(&self) -> Vec<String> {
        let line = |(name, recorded): (&String, &Arc<Recorded>)| {
            let values = recorded.0.lock().unwrap();
            if name.contains("_total") {
                format!("{name} {}", values.iter().sum::<f64>())
            } else {
                format!("{name} {values:?}")
            }
        };
        self.0.lock().unwrap().iter().map(line).collect()
    }
}

impl CounterFn for Recorded {
    fn increment(&self, value: u64) {
        self.0.lock().unwrap().push(value as f64);
    }

    fn absolute(&self, _: u64) {
        unreachable!("nothing here counts absolutely");
    }
}

impl HistogramFn for Recorded {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.recorded(key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.recorded(key))
    }
}

fn failures<const N: usize>(all: [(TransportKind, Error); N]) -> Error {
    let mut failures = Failures::default();
    for (kind, error) in all {
        failures.push(kind, diagnose(kind, &error), error);
    }
    failures.into_error()
}

#[test]
fn the_error_names_each_and_has_the_kind_of_the_one_that_tells_most() {
    let error = failures([
        (TransportKind::WebTransport, Error::timeout("silence")),
        (TransportKind::WebSocket, status(404)),
        (TransportKind::Sse, status(502)),
    ]);
    assert_eq!(error.status().map(|status| status.as_u16()), Some(502));
    assert_eq!(classify(&error), Class::Retry);
    let words = error.to_string();
    for part in ["WebTransport: silence", "WebSocket: the server answered", "404", "SSE + POST: ", "502"] {
        assert!(words.contains(part), "{words}");
    }
    assert!(error.source().is_some_and(|source| source.downcast_ref::<Error>().is_some_and(Error::is_status)));
}

#[test]
fn a_handshake_that_a_server_objects_to_is_told_first_and_a_transport_that_may_work_later_is_retried() {
    let kinds = [TransportKind::WebSocket, TransportKind::Sse];
    for objection in [400, 406, 451] {
        let later = || status(502).with_retry_after(ms(700));
        for errors in [[status(objection), later()], [later(), status(objection)]] {
            let [first, second] = errors;
            let error = failures([(kinds[0], first), (kinds[1], second)]);
            assert_eq!(error.status().map(|status| status.as_u16()), Some(objection));
            assert_eq!((classify(&error), error.retry_after()), (Class::Retry, Some(ms(700))));
            let outer = error.clone().context("one level up").into_unsent();
            assert_eq!(classify(&outer), Class::Retry);
            let words = error.to_string();
            assert!(words.find(&objection.to_string()) < words.find("502"), "{words}");
        }
    }
    let both = failures([(kinds[0], status(400)), (kinds[1], status(404))]);
    assert_eq!((both.status().map(|status| status.as_u16()), classify(&both)), (Some(400), Class::Final));
    // A server that asks for time, or is down, was not asked further.
    let busy = failures([(kinds[0], status(400)), (kinds[1], status(429))]);
    assert_eq!(classify(&busy), Class::Retry);
    let refused = failures([(kinds[1], status(502)), (kinds[0], status(403))]);
    assert!(refused.is_auth() && classify(&refused) == Class::Final);
}

#[test]
fn a_server_that_is_down_is_tried_again_and_a_token_that_is_refused_is_not() {
    let udp = || (TransportKind::WebTransport, Error::timeout("silence"));
    let down = failures([udp(), (TransportKind::WebSocket, Error::refused("nobody listens"))]);
    assert!(down.is_refused() && classify(&down) == Class::Retry);
    let refused = failures([udp(), (TransportKind::WebSocket, status(401))]);
    assert!(refused.is_auth() && classify(&refused) == Class::Final);
    let nowhere = failures([udp(), (TransportKind::WebSocket, status(404)), (TransportKind::Sse, status(404))]);
    assert_eq!(classify(&nowhere), Class::Final);
}

#[test]
fn without_a_candidate_the_setting_is_at_fault() {
    assert!(Failures::default().into_error().is_config());
}
