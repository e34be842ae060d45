//! The knowledge that attempts share, and the metrics.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use http::StatusCode;
use metrics::{Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit};

use super::{
    bench::{Bench, TTL, ms, status, up},
    *,
};
use crate::{rt, stack::adaptive::shared::Session};
use TransportKind::{Sse, WebSocket, WebTransport};

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
    // The attempt from the preferred transport delays nothing beyond the head start, as the first attempt did.
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
    assert!(matches!(seen, Some(Last::Failed(Reason::UpgradeRefused, _))), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_counted_by_transport_and_reason() {
    let recorder = Recorder::default();
    let _here = metrics::set_default_local_recorder(&recorder);
    let bench = Bench::new([(10, Err(Error::timeout(""))), (10, Err(status(426))), up(5)]);
    let race = bench.race();
    let session = Session::new(race.attempt().clone(), Sse);
    race.await.unwrap();
    session.died(&Error::timeout(""));
    let mut found = recorder.lines();
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

/// The calls that a metrics recorder received, as text.
#[derive(Default)]
struct Recorder(Mutex<HashMap<String, Arc<Told>>>);

#[derive(Default)]
struct Told(Mutex<Vec<f64>>);

impl Recorder {
    fn told(&self, key: &Key) -> Arc<Told> {
        let mut labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        labels.sort();
        self.0.lock().unwrap().entry(format!("{} {}", key.name(), labels.join(","))).or_default().clone()
    }

    /// Returns a line for each metric: the sum of a counter, or all values of a histogram.
    fn lines(&self) -> Vec<String> {
        let line = |(name, told): (&String, &Arc<Told>)| {
            let values = told.0.lock().unwrap();
            if name.contains("_total") {
                format!("{name} {}", values.iter().sum::<f64>())
            } else {
                format!("{name} {values:?}")
            }
        };
        self.0.lock().unwrap().iter().map(line).collect()
    }
}

impl CounterFn for Told {
    fn increment(&self, value: u64) {
        self.0.lock().unwrap().push(value as f64);
    }

    fn absolute(&self, _: u64) {
        unreachable!("nothing here counts absolutely");
    }
}

impl HistogramFn for Told {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.told(key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.told(key))
    }
}
