//! The metrics and logs of the ready-made stack, as an operator sees them: a scrape in Prometheus' format against the
//! queries of the dashboard, and the log at its default level.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::Request;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use support::log::logged;
use tower::{ServiceExt, service_fn};
use tower_transport::{
    Error, Message, TransportExt, channel,
    layer::{
        heartbeat::HeartbeatLayer,
        reconnect::{Backoff, State},
        trace::{METRICS, MetricKind, ROUND_TRIP, SECONDS_BUCKETS},
    },
    service::Server,
    stack::{OptimizedAcceptor, OptimizedBuilder, OptimizedTransport, pool::PoolBuilder},
    transport::websocket::WebSocketConnector,
};

use crate::serve::serve_http;

/// The name and the labels of every series of a scrape.
type Scrape = BTreeMap<String, Vec<BTreeSet<String>>>;

fn recorder() -> PrometheusRecorder {
    let seconds = Matcher::Suffix("_seconds".into());
    PrometheusBuilder::new().set_buckets_for_metric(seconds, SECONDS_BUCKETS).unwrap().build_recorder()
}

/// Reads a scrape: lines of `name{label="value",..} value`. No value of ours contains a comma or a quote.
fn parse(text: &str) -> Scrape {
    let mut scrape = Scrape::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap().split(',').filter(|label| !label.is_empty());
        let labels = labels.map(|label| label.split_once('=').unwrap().0.to_owned()).collect();
        scrape.entry(name.to_owned()).or_default().push(labels);
    }
    scrape
}

/// The series that a table of metrics promises.
fn promised() -> Scrape {
    let mut scrape = Scrape::new();
    for metric in METRICS {
        let labels: BTreeSet<_> = metric.labels.iter().map(|label| label.replace('.', "_")).collect();
        let mut put = |suffix: &str, more: &[&str]| {
            let labels = labels.iter().cloned().chain(more.iter().map(|&label| label.to_owned())).collect();
            scrape.entry(format!("{}{suffix}", metric.name)).or_default().push(labels);
        };
        match metric.kind {
            MetricKind::Histogram => {
                put("_sum", &[]);
                put("_count", &[]);
                put("_bucket", &["le"]);
            }
            _ => put("", &[]),
        }
    }
    scrape
}

/// Returns the end of the group whose opening character is the first of `text`.
fn group(text: &str, open: char, close: char) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == open) - i32::from(c == close);
        if depth == 0 {
            return &text[1..at];
        }
    }
    panic!("not closed: {text}");
}

fn words(list: &str) -> BTreeSet<String> {
    list.split(',').map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()).collect()
}

/// Every metric of a query with the labels that the query needs: those that select series, and those of the `by` around
/// it.
fn needs(query: &str, by: &BTreeSet<String>, found: &mut Vec<(String, BTreeSet<String>)>) {
    let mut rest = query;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("sum by ") {
            let labels = group(after, '(', ')');
            let inner = after[labels.len() + 2..].trim_start();
            let body = group(inner, '(', ')');
            needs(body, &words(labels), found);
            rest = &inner[body.len() + 2..];
        } else if rest.starts_with("tower_transport_") {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            let mut labels = by.clone();
            if after.starts_with('{') {
                let selectors = group(after, '{', '}');
                labels.extend(words(selectors).iter().map(|label| label.split(['=', '!']).next().unwrap().to_owned()));
            }
            found.push((name.to_owned(), labels));
            rest = after;
        } else {
            rest = &rest[rest.chars().next().unwrap().len_utf8()..];
        }
    }
}

fn dashboard() -> serde_json::Value {
    serde_json::from_str(include_str!("../../../docs/grafana-dashboard.json")).unwrap()
}

/// Returns the problems of the dashboard's queries with a scrape. `optional`: those of the panels below the row of
/// optional ones, too.
fn missing(scrape: &Scrape, optional: bool) -> Vec<String> {
    let dashboard = dashboard();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        if panel["type"] == "row" && !optional {
            break;
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((panel["title"].as_str().unwrap(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["definition"].as_str() {
            let (metric, label) = query
                .strip_prefix("label_values(")
                .and_then(|query| query.strip_suffix(')')?.split_once(", "))
                .unwrap();
            queries.push(("a variable", format!("sum by ({label}) ({metric})")));
        }
    }
    assert!(queries.len() > 25, "{queries:?}");
    let mut problems = Vec::new();
    for (panel, query) in queries {
        let mut found = Vec::new();
        needs(&query, &BTreeSet::new(), &mut found);
        assert!(!found.is_empty(), "{panel}: {query}");
        for (name, labels) in found {
            match scrape.get(&name) {
                None => problems.push(format!("{panel}: there is no {name}")),
                Some(series) if !series.iter().any(|has| has.is_superset(&labels)) => {
                    problems.push(format!("{panel}: {name} has {series:?} and not {labels:?}"));
                }
                Some(_) => {}
            }
        }
    }
    problems
}

#[test]
fn the_dashboard_asks_for_no_metric_and_no_label_that_the_table_of_metrics_does_not_have() {
    assert_eq!(missing(&promised(), true), [""; 0]);
}

#[test]
fn a_query_needs_the_labels_of_its_selectors_and_of_the_aggregation_around_it() {
    let mut found = Vec::new();
    let query = r#"sum by (a) (rate(tower_transport_x{b=~"$b",c!="d"}[5m])) / (sum by (e) (tower_transport_y) + 1)"#;
    needs(query, &BTreeSet::new(), &mut found);
    assert_eq!(found, [("tower_transport_x".into(), words("a,b,c")), ("tower_transport_y".into(), words("e"))]);
}

fn builder() -> OptimizedBuilder {
    let beat = Duration::from_millis(30);
    OptimizedTransport::builder()
        .named("orders")
        .heartbeat(HeartbeatLayer::new(beat, Duration::from_secs(10)))
        .backoff(Backoff::fixed(Duration::from_millis(1)))
}

#[tokio::test]
async fn a_scrape_of_an_optimized_transport_alone_fills_the_dashboard() {
    let recorder = recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let acceptor: OptimizedAcceptor = builder().acceptor();
    let upgrade = acceptor.upgrade(|session, _| async move {
        let (sender, mut receiver) = session.split();
        while let Some(Ok(message)) = receiver.receive().await {
            if message.is_data() && sender.send(message).await.is_err() {
                return;
            }
        }
    });
    let address = serve_http(upgrade.clone()).await;
    let plain = Request::get("/").body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    assert_eq!(upgrade.oneshot(plain).await.unwrap().status(), 426);

    let transport = builder().connect(&format!("ws://{address}/")).await.unwrap();
    let handle = transport.handle();
    let (sender, mut receiver) = transport.split();
    let mut echo = async || {
        sender.send(Message::text("hello ".repeat(100))).await.unwrap();
        while !receiver.receive().await.unwrap().unwrap().is_data() {}
    };
    echo().await;
    while handle.rtt().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    handle.reconnect().unwrap().reconnect_now();
    echo().await;
    assert_eq!(handle.reconnect().unwrap().connections(), 2);
    // A client of another kind is gone without a close, so that there is an error.
    let request = Request::get(format!("ws://{address}/")).body(()).unwrap();
    drop(WebSocketConnector::new().oneshot(request).await.unwrap().into_body());
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The server ends the session.
    acceptor.close();
    while matches!(handle.state(), State::Connected) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop((sender, receiver, acceptor));
    tokio::time::sleep(Duration::from_millis(50)).await;

    let text = recorder.handle().render();
    assert_eq!(missing(&parse(&text), false), [""; 0], "{text}");
    for series in [
        r#"tower_transport_reconnects_total{name="orders",role="client"} 1"#,
        r#"tower_transport_resumed_total{name="orders",role="client"} 1"#,
        r#"tower_transport_handshakes_total{network_protocol_name="websocket",http_response_status_code="426"} 1"#,
        r#"tower_transport_connects_total{name="orders",role="client",network_protocol_name="websocket"} 2"#,
    ] {
        assert!(text.contains(series), "{series} is not in\n{text}");
    }
}

/// Returns the counts of a metric since the last call: increments of a counter, entries of a histogram.
fn count(recorded: &Snapshotter, name: &str, role: &str) -> usize {
    let is_ours = |key: &metrics::Key| key.name() == name && key.labels().any(|label| label.value() == role);
    let snapshot = recorded.snapshot().into_vec().into_iter().filter(|(key, ..)| is_ours(key.key()));
    snapshot
        .map(|(_, _, _, value)| match value {
            DebugValue::Counter(count) => count as usize,
            DebugValue::Histogram(values) => values.len(),
            DebugValue::Gauge(value) => value.into_inner() as usize,
        })
        .sum()
}

type Channels = OptimizedTransport<tower_transport::Channel>;

/// A client of an echo over channels.
async fn over_channels(builder: OptimizedBuilder, acceptor: OptimizedAcceptor<tower_transport::Channel>) -> Channels {
    let connector = service_fn(move |_: Request<()>| {
        let (here, there) = channel::<Message, Message>(64);
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(Some(mut session)) = acceptor.accept_over(there, true).await else { return };
            while let Some(Ok(_)) = session.receive_message().await {}
        });
        let response = http::Response::builder()
            .header(http::header::SEC_WEBSOCKET_PROTOCOL, OptimizedAcceptor::SUBPROTOCOL)
            .body(here)
            .unwrap();
        std::future::ready(Ok::<_, tower_transport::Error>(response))
    });
    builder.connect_with(connector, "ws://channel/").await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_round_trip_is_recorded_once() {
    let recorder = DebuggingRecorder::new();
    let recorded = recorder.snapshotter();
    let _here = metrics::set_default_local_recorder(&recorder);
    let beat = |seconds| {
        let heartbeat = HeartbeatLayer::new(Duration::from_secs(seconds), Duration::from_secs(5));
        OptimizedTransport::builder().heartbeat(heartbeat.application_level())
    };
    let mut transport = over_channels(beat(20), silent_acceptor()).await;
    let _ = tokio::time::timeout(Duration::from_secs(70), transport.receive_message()).await;
    let round_trips = count(&recorded, ROUND_TRIP, "client");
    assert_eq!(round_trips, 3, "after 20 s, 40 s and 60 s");

    // More often than anything is published.
    let mut transport = over_channels(beat(1), silent_acceptor()).await;
    let _ = tokio::time::timeout(Duration::from_millis(10_500), transport.receive_message()).await;
    assert_eq!(count(&recorded, ROUND_TRIP, "client"), 10);
}

fn silent_acceptor() -> OptimizedAcceptor<tower_transport::Channel> {
    OptimizedTransport::builder().heartbeat(None::<HeartbeatLayer>).acceptor()
}

#[tokio::test(start_paused = true)]
async fn a_server_reports_the_sessions_that_it_holds_and_those_that_were_resumed() {
    use tower_transport::layer::trace::{FRESH, RESUME_SESSIONS, RESUME_WAITING, RESUMED};
    let recorder = DebuggingRecorder::new();
    let recorded = recorder.snapshotter();
    let _here = metrics::set_default_local_recorder(&recorder);
    let mut transport = over_channels(builder(), silent_acceptor()).await;
    transport.handle().reconnect().unwrap().reconnect_now();
    let _ = tokio::time::timeout(Duration::from_secs(6), transport.receive_message()).await;
    let counts = [RESUMED, FRESH, RESUME_SESSIONS, RESUME_WAITING].map(|name| (name, "server"));
    let snapshot = recorded.snapshot().into_vec();
    let found = counts.map(|(name, role)| {
        let is_ours = |key: &metrics::Key| key.name() == name && key.labels().any(|label| label.value() == role);
        match &snapshot.iter().find(|(key, ..)| is_ours(key.key())).unwrap().3 {
            DebugValue::Counter(count) => *count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(_) => f64::NAN,
        }
    });
    assert_eq!(found, [1.0, 0.0, 1.0, 0.0]);
}

#[tokio::test(start_paused = true)]
async fn the_depth_of_a_queue_is_reported_and_taken_away_with_it() {
    use tower_transport::layer::trace::QUEUE_MESSAGES;
    let recorder = DebuggingRecorder::new();
    let recorded = recorder.snapshotter();
    let _here = metrics::set_default_local_recorder(&recorder);
    let gauge = |recorded: &Snapshotter| {
        let found = recorded.snapshot().into_vec().into_iter().find(|(key, ..)| {
            key.key().name() == QUEUE_MESSAGES && key.key().labels().any(|label| label.value() == "client")
        });
        match found.unwrap().3 {
            DebugValue::Gauge(value) => value.into_inner(),
            other => panic!("{other:?}"),
        }
    };
    // The peer never reads: it is given the hello of a stack without features, and that is all.
    let stuck = service_fn(|_: Request<()>| {
        let (here, there) = channel::<Message, Message>(1);
        tokio::spawn(async move {
            let _there = there;
            std::future::pending::<()>().await;
        });
        std::future::ready(Ok::<_, tower_transport::Error>(http::Response::new(here)))
    });
    let builder = OptimizedTransport::builder().heartbeat(None::<HeartbeatLayer>);
    let (sender, receiver) = builder.connect_with(stuck, "ws://channel/").await.unwrap().split();
    for i in 0..10 {
        sender.send(Message::text(i.to_string())).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(gauge(&recorded) >= 5.0);
    drop((sender, receiver));
    tokio::time::sleep(Duration::from_secs(100)).await;
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(before <= 2, "{before}: the task that reports ends with its stack");
}

#[tokio::test(start_paused = true)]
async fn without_a_recorder_a_stack_has_no_task_that_reports() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let transport = over_channels(OptimizedTransport::builder(), silent_acceptor()).await;
    assert_eq!(tasks(), 1, "the echo");
    drop(transport);
}

#[tokio::test(start_paused = true)]
async fn a_scrape_of_a_pool_has_every_series_of_pools() {
    let recorder = recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let one = NonZeroUsize::MIN;
    let is_down = Arc::new(AtomicBool::new(true));
    let down = is_down.clone();
    let connector = service_fn(move |_: Request<()>| {
        let is_down = down.swap(false, Relaxed);
        async move {
            if is_down {
                return Err(Error::refused("nobody is there"));
            }
            let (here, there) = channel::<u32, u32>(8);
            let slow = service_fn(async |number: u32| {
                tokio::time::sleep(Duration::from_secs(number.into())).await;
                Ok::<_, Error>(number)
            });
            tokio::spawn(Server::in_order(there, slow));
            Ok(http::Response::new(here))
        }
    });
    let pool = PoolBuilder::new(connector, Request::new(()))
        .named("orders")
        .max_connections(one)
        .calls_per_connection(one)
        .idle_timeout(Duration::from_secs(60))
        .in_order::<u32, u32>();
    assert!(pool.clone().oneshot(1).await.unwrap_err().is_refused());
    let calls = [7, 7].map(|number| tokio::spawn(pool.clone().oneshot(number)));
    tokio::time::sleep(Duration::from_secs(6)).await;
    let text = recorder.handle().render();
    for series in [
        r#"tower_transport_pool_connections{name="orders",role="client",state="used"} 1"#,
        r#"tower_transport_pool_connections{name="orders",role="client",state="idle"} 0"#,
        r#"tower_transport_pool_waiting{name="orders",role="client"} 1"#,
        r#"tower_transport_pool_connect_failures_total{name="orders",role="client"} 1"#,
    ] {
        assert!(text.contains(series), "{series} is not in\n{text}");
    }
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 7);
    }
    tokio::time::sleep(Duration::from_secs(100)).await;
    drop(pool);
    tokio::time::sleep(Duration::from_millis(50)).await;

    let text = recorder.handle().render();
    for series in [
        r#"tower_transport_pool_connections{name="orders",role="client",state="used"} 0"#,
        r#"tower_transport_pool_waiting{name="orders",role="client"} 0"#,
        r#"tower_transport_pool_retired_total{name="orders",role="client",reason="idle"} 1"#,
        // The failed call, and the two that came when there was no connection.
        r#"tower_transport_pool_wait_seconds_count{name="orders",role="client"} 3"#,
        r#"tower_transport_pool_wait_seconds_sum{name="orders",role="client"} 7"#,
    ] {
        assert!(text.contains(series), "{series} is not in\n{text}");
    }
    let scrape = parse(&text);
    for (name, series) in promised().into_iter().filter(|(name, _)| name.contains("_pool_")) {
        assert!(scrape.get(&name).is_some_and(|found| found.contains(&series[0])), "{name} {series:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_default_level_the_log_tells_of_lost_connections_and_lost_sessions_and_of_no_message() {
    let log = logged(tracing::Level::INFO, async {
        // Each connection reaches a server that has no sessions yet.
        let connector = service_fn(|_: Request<()>| {
            let (here, there) = channel::<Message, Message>(64);
            tokio::spawn(async move {
                let Ok(Some(mut session)) = silent_acceptor().accept_over(there, true).await else { return };
                // Ends after one message, without a close.
                let _ = session.receive_message().await;
            });
            let response = http::Response::builder()
                .header(http::header::SEC_WEBSOCKET_PROTOCOL, OptimizedAcceptor::SUBPROTOCOL)
                .body(here)
                .unwrap();
            std::future::ready(Ok::<_, tower_transport::Error>(response))
        });
        let mut transport = builder().connect_with(connector, "ws://channel/").await.unwrap();
        for _ in 0..3 {
            let _ = transport.send_message(Message::text("s3cret")).await;
            let _ = tokio::time::timeout(Duration::from_secs(1), transport.receive_message()).await;
        }
        drop(transport);
    })
    .await;
    for (level, text) in [
        ("INFO", "reconnect: the connection was lost"),
        ("INFO", "reconnect: connected again"),
        ("WARN", "resume: the server does not have the session any more"),
        ("INFO", "resume: a client came back, but its session was over"),
    ] {
        assert!(log.lines().any(|line| line.contains(level) && line.contains(text)), "{level} {text} is not in\n{log}");
    }
    assert!(!log.contains("s3cret") && log.lines().count() < 30, "{log}");
}

#[tokio::test(start_paused = true)]
async fn the_events_of_each_connection_have_the_level_that_the_builder_was_given() {
    let log = logged(tracing::Level::INFO, async {
        let builder = OptimizedTransport::builder()
            .named("loud")
            .trace(|layer| layer.peer("192.0.2.1").event_level(tracing::Level::INFO));
        let mut transport = over_channels(builder, silent_acceptor()).await;
        transport.send_message(Message::text("s3cret")).await.unwrap();
        drop(transport);
    })
    .await;
    let loud = |text: &str| log.lines().any(|line| line.contains("name=loud") && line.contains(text));
    assert!(loud("network.peer.address=192.0.2.1") && loud(": open") && loud("closed messages_in="), "{log}");
    assert!(!log.contains("s3cret"), "{log}");
}
