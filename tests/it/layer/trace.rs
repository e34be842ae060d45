//! Spans, metrics and the trace context on the wire.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, StreamExt};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use proptest::prelude::*;
use support::log::{Log, logged_by};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_transport::{
    Channel, CloseCode, CloseFrame, Error, Message, ServiceBuilderExt, TransportExt, channel, contract_tests,
    layer::{
        heartbeat::HeartbeatLayer,
        reconnect::Backoff,
        trace::{
            self, Direction, METRICS, Meter, Metric, QUEUE_MESSAGES, RECONNECTS, ROUND_TRIP, Role, TraceContext,
            TraceLayer, Traced,
        },
    },
};
use tracing_subscriber::fmt::format::FmtSpan;

fn one_in(every: u32) -> NonZeroU32 {
    NonZeroU32::new(every).unwrap()
}

fn send(end: &mut (impl futures_util::Sink<Message, Error = Error> + Unpin), message: impl Into<Message>) {
    end.send(message.into()).now_or_never().unwrap().unwrap();
}

fn receive<S: StreamExt<Item = Result<Message, Error>> + Unpin>(end: &mut S) -> Result<Message, Error> {
    end.next().now_or_never().unwrap().unwrap()
}

/// Both ends, with these layers.
fn pair(near: &TraceLayer, far: &TraceLayer) -> (Traced<Channel>, Traced<Channel>) {
    let (a, b) = channel(8);
    (near.layer(a), far.layer(b))
}

fn propagating() -> TraceLayer {
    TraceLayer::client("test").propagate(true)
}

/// A context that tells its message's number.
fn sampling(every: u32) -> TraceLayer {
    let count = AtomicU64::new(0);
    propagating()
        .sample_one_in(one_in(every))
        .context_of(move |_| TraceContext::new(7, count.fetch_add(1, SeqCst) + 1, true))
}

fn logged(run: impl FnOnce()) -> String {
    let (log, subscriber) = Log::new(tracing::Level::DEBUG, FmtSpan::NEW | FmtSpan::CLOSE);
    tracing::dispatcher::with_default(&subscriber, run);
    log.text()
}

/// The recorded counters, gauges and numbers of histogram entries, by `name{label=value,..}` in the order of the
/// labels' names.
struct Recorded(Snapshotter, Mutex<HashMap<String, f64>>);

impl Recorded {
    fn get(&self, name: &str) -> Option<f64> {
        let mut totals = self.1.lock().unwrap();
        // A snapshot has what came since the one before.
        for (key, _, _, value) in self.0.snapshot().into_vec() {
            let mut labels: Vec<_> =
                key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            labels.sort();
            *totals.entry(format!("{}{{{}}}", key.key().name(), labels.join(","))).or_default() += match value {
                DebugValue::Counter(count) => count as f64,
                DebugValue::Gauge(value) => value.into_inner(),
                DebugValue::Histogram(values) => values.len() as f64,
            };
        }
        totals.get(name).copied()
    }
}

fn measured(run: impl FnOnce(&Recorded)) {
    let recorder = DebuggingRecorder::new();
    let recorded = Recorded(recorder.snapshotter(), Mutex::default());
    metrics::with_local_recorder(&recorder, || run(&recorded));
}

#[test]
fn nothing_is_on_the_wire_by_default_whatever_is_sampled() {
    let (near, mut far) = channel::<Message, Message>(8);
    let mut near = TraceLayer::client("test").sample_one_in(one_in(1)).layer(near);
    let marked = {
        let (near, mut far) = channel::<Message, Message>(8);
        send(&mut sampling(1).layer(near), "x");
        receive(&mut far).unwrap()
    };
    for message in [Message::text("a"), Message::binary(vec![1, 2]), marked] {
        send(&mut near, message.clone());
        assert_eq!(receive(&mut far).unwrap(), message);
        send(&mut far, message.clone());
        assert_eq!(receive(&mut near).unwrap(), message, "and nothing is taken off");
    }
}

#[test]
fn the_context_of_a_sampled_message_arrives_with_it_and_others_bring_none() {
    let (mut near, mut far) = pair(&sampling(3), &propagating());
    for i in 0..7u64 {
        let message = if i % 2 == 0 { Message::text(i.to_string()) } else { Message::binary(vec![i as u8]) };
        send(&mut near, message.clone());
        assert_eq!(receive(&mut far).unwrap(), message);
        let context = far.received().map(|received| *received.context().unwrap());
        assert_eq!(context, if i % 3 == 0 { TraceContext::new(7, i / 3 + 1, true) } else { None });
    }
}

#[test]
fn only_a_sampled_message_is_longer_on_the_wire() {
    let (near, mut far) = channel::<Message, Message>(8);
    let mut near = sampling(2).layer(near);
    send(&mut near, "one");
    send(&mut near, "two");
    let wire = receive(&mut far).unwrap();
    let Message::Binary(bytes) = &wire else { panic!("text cannot carry a mark") };
    let mut expected = b"one\0".to_vec();
    expected.extend_from_slice(&7u128.to_be_bytes());
    expected.extend_from_slice(&1u64.to_be_bytes());
    expected.extend_from_slice(&[1, 1, 1, 5, 0xf8, b't', b't', b'x', 1, 0xff]);
    assert_eq!(bytes, &expected, "the bytes of docs/wire.md");
    assert_eq!(receive(&mut far).unwrap(), Message::text("two"));
}

#[test]
fn a_plain_message_that_ends_like_a_mark_comes_out_as_it_went_in() {
    let (near, mut far) = channel::<Message, Message>(8);
    send(&mut sampling(1).layer(near), "x");
    let looks_marked = receive(&mut far).unwrap();
    let (mut near, mut far) = pair(&propagating(), &propagating());
    send(&mut near, looks_marked.clone());
    assert_eq!(receive(&mut far).unwrap(), looks_marked);
    assert!(far.received().is_none());
}

#[test]
fn control_messages_are_never_marked() {
    let (near, mut far) = channel::<Message, Message>(8);
    let mut near = sampling(1).layer(near);
    for message in [Message::Ping("a".into()), Message::Pong("b".into()), Message::Close(None)] {
        send(&mut near, message.clone());
        assert_eq!(receive(&mut far).unwrap(), message);
    }
}

/// `before`, then a mark of this layer.
fn forged(before: &[u8], kind: u8) -> Message {
    Message::binary([before, &[kind, 5, 0xf8, b't', b't', b'x', 1, 0xff]].concat())
}

fn body(text: &[u8], version: u8, ids: u8, shape: u8) -> Vec<u8> {
    [text, &[version], &[ids; 24], &[1, shape]].concat()
}

#[test]
fn a_bad_mark_costs_its_own_message_and_no_other() {
    let (mut near, far) = channel::<Message, Message>(8);
    let mut far = propagating().layer(far);
    let bad = [
        forged(b"", 1),
        forged(&[1; 26], 1),
        forged(b"payload", 9),
        forged(&body(b"x", 0, 1, 2), 1),
        forged(&body(&[0xff], 0, 1, 1), 1),
    ];
    for message in bad {
        send(&mut near, message);
        assert!(receive(&mut far).unwrap_err().is_protocol());
        send(&mut near, "good");
        assert_eq!(receive(&mut far).unwrap(), Message::text("good"));
    }
}

#[test]
fn a_context_that_w3c_calls_invalid_is_ignored_and_its_message_taken() {
    let (mut near, far) = channel::<Message, Message>(8);
    let mut far = propagating().layer(far);
    for before in [body(b"x", 0, 0, 1), body(b"x", 1, 1, 1), body(b"x", 0xff, 1, 1)] {
        send(&mut near, forged(&before, 1));
        assert_eq!(receive(&mut far).unwrap(), Message::text("x"));
        assert!(far.received().is_none());
    }
}

#[test]
fn traceparents_are_read_as_w3c_says() {
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert_eq!(good.parse::<TraceContext>().unwrap().to_string(), good);
    let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-09-what-comes-then";
    assert_eq!(later.parse::<TraceContext>().unwrap().to_string(), good);
    let bad = [
        "",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
    ];
    for text in bad {
        assert!(text.parse::<TraceContext>().is_err(), "{text}");
    }
}

#[test]
fn messages_and_bytes_are_counted_each_way_and_open_sessions_too() {
    measured(|metrics| {
        let (near, far) = channel::<Message, Message>(8);
        let (mut near, mut far) = (TraceLayer::server("feed").layer(near), far);
        send(&mut near, "12345");
        send(&mut near, vec![0; 100]);
        send(&mut far, "123");
        receive(&mut near).unwrap();
        assert!(near.next().now_or_never().is_none());
        for (name, expected) in [
            ("tower_transport_messages_total{name=feed,network.io.direction=transmit,role=server}", 2.0),
            ("tower_transport_bytes_total{name=feed,network.io.direction=transmit,role=server}", 105.0),
            ("tower_transport_messages_total{name=feed,network.io.direction=receive,role=server}", 1.0),
            ("tower_transport_bytes_total{name=feed,network.io.direction=receive,role=server}", 3.0),
            ("tower_transport_sessions_total{name=feed,role=server}", 1.0),
            ("tower_transport_sessions_open{name=feed,role=server}", 1.0),
        ] {
            assert_eq!(metrics.get(name), Some(expected), "{name}");
        }
        drop(near);
        assert_eq!(metrics.get("tower_transport_sessions_open{name=feed,role=server}"), Some(0.0));
    });
}

#[test]
fn a_connection_that_ends_tells_how_long_it_lasted_and_its_close_code_in_few_series() {
    measured(|metrics| {
        for code in [1008, 3000, 3001, 4321] {
            let (near, mut far) = channel::<Message, Message>(8);
            let mut near = TraceLayer::server("feed").layer(near);
            send(&mut far, Message::Close(Some(CloseFrame::new(CloseCode::new(code).unwrap(), "bye"))));
            receive(&mut near).unwrap();
        }
        drop(TraceLayer::server("feed").layer(channel::<Message, Message>(8).0));
        for (code, expected) in [("1008", 1.0), ("3xxx", 2.0), ("4xxx", 1.0), ("none", 1.0)] {
            let name = format!("tower_transport_closes_total{{code={code},name=feed,role=server}}");
            assert_eq!(metrics.get(&name), Some(expected), "{name}");
        }
        assert_eq!(metrics.get("tower_transport_session_seconds{name=feed,role=server}"), Some(5.0));
    });
}

#[test]
fn what_is_fed_and_never_flushed_is_told_after_256_messages_and_at_the_end() {
    measured(|metrics| {
        let (near, _far) = channel::<u32, u32>(1000);
        let mut near = TraceLayer::client("feed").record_sizes().layer(near);
        let count =
            || metrics.get("tower_transport_messages_total{name=feed,network.io.direction=transmit,role=client}");
        for i in 0..300 {
            near.feed(i).now_or_never().unwrap().unwrap();
        }
        assert_eq!(count(), Some(256.0));
        drop(near);
        assert_eq!(count(), Some(300.0));
    });
}

#[test]
fn values_are_counted_and_pass_unchanged_though_contexts_propagate() {
    let (near, far) = channel::<u64, u64>(8);
    let (mut near, mut far) = (sampling(1).layer(near), propagating().layer(far));
    near.send(7).now_or_never().unwrap().unwrap();
    assert_eq!(far.next().now_or_never().unwrap().unwrap().unwrap(), 7);
    assert_eq!((near.messages_out(), far.messages_in()), (1, 1));
    assert!(far.received().is_none(), "a value carries no context");
}

#[test]
fn errors_are_counted_by_kind_and_the_end_once() {
    measured(|metrics| {
        let (near, far) = channel::<Message, Message>(8);
        let mut near = propagating().layer(near);
        let mut far = far;
        for _ in 0..3 {
            send(&mut far, forged(b"", 1));
            assert!(receive(&mut near).is_err());
        }
        drop(far);
        for _ in 0..3 {
            assert!(near.feed(Message::text("x")).now_or_never().unwrap().is_err());
        }
        let labels = "error.type=protocol,name=test,network.io.direction=receive,role=client";
        assert_eq!(metrics.get(&format!("tower_transport_errors_total{{{labels}}}")), Some(3.0));
        drop(near);
    });
    measured(|metrics| {
        let (near, _) = channel::<Message, Message>(8);
        let mut near = propagating().layer(near);
        for _ in 0..3 {
            assert!(near.feed(Message::text("x")).now_or_never().unwrap().is_err());
        }
        let labels = "error.type=closed,name=test,network.io.direction=transmit,role=client";
        assert_eq!(metrics.get(&format!("tower_transport_errors_total{{{labels}}}")), Some(1.0));
    });
}

#[test]
fn many_meters_share_a_metric_and_each_takes_its_share_away() {
    measured(|metrics| {
        let (depth, count) = (Arc::new(AtomicU64::new(5)), Arc::new(AtomicU64::new(2)));
        let meter = |depth: &Arc<AtomicU64>, count: &Arc<AtomicU64>| {
            let (depth, count) = (depth.clone(), count.clone());
            let mut round_trip = Some(0.05);
            Meter::new("feed", Role::Client)
                .gauge(QUEUE_MESSAGES, move || depth.load(SeqCst) as f64)
                .counter(RECONNECTS, move || count.load(SeqCst))
                .histogram(ROUND_TRIP, move || round_trip.take())
        };
        let (mut first, mut second) = (meter(&depth, &count), meter(&Arc::new(AtomicU64::new(10)), &count));
        first.publish();
        second.publish();
        let gauge = "tower_transport_queue_messages{name=feed,role=client}";
        let counter = "tower_transport_reconnects_total{name=feed,role=client}";
        assert_eq!(metrics.get(gauge), Some(15.0));
        depth.store(1, SeqCst);
        first.publish();
        second.publish();
        assert_eq!(metrics.get(gauge), Some(11.0));
        count.store(3, SeqCst);
        drop(first);
        assert_eq!(metrics.get(counter), Some(5.0), "the third was told at the end");
        drop(second);
        assert_eq!(metrics.get(gauge), Some(0.0));
    });
}

#[tokio::test(start_paused = true)]
async fn a_meter_publishes_on_its_own() {
    let published = Arc::new(AtomicU64::new(0));
    let seen = published.clone();
    let meter = Meter::new("feed", Role::Client).gauge(QUEUE_MESSAGES, move || {
        seen.fetch_add(1, SeqCst);
        0.0
    });
    let run = tokio::spawn(meter.run(std::time::Duration::from_secs(10)));
    tokio::time::sleep(std::time::Duration::from_secs(35)).await;
    assert_eq!(published.load(SeqCst), 4);
    run.abort();
}

#[test]
fn a_session_and_its_sampled_messages_have_spans() {
    let log = logged(|| {
        let (near, _far) = channel::<Message, Message>(8);
        let layer = TraceLayer::client("orders").peer("203.0.113.7\u{1b}[2J").sample_one_in(one_in(2));
        let mut near = layer.layer(near);
        for text in ["first", "second one", "third one!!"] {
            send(&mut near, text);
        }
    });
    assert_eq!(log.matches("message{network.io.direction=\"transmit\"").count(), 4, "two spans, new and closed: {log}");
    assert!(log.contains(r#"session{name=orders role="client" network.peer.address=203.0.113.7\u{1b}[2J}"#), "{log}");
    assert!(log.contains("size=5") && log.contains("size=11") && !log.contains("size=10"), "{log}");
    assert!(log.contains("trace_id=") && log.contains("span_id="), "{log}");
    assert!(log.contains("messages_out=3 bytes_out=26"), "{log}");
}

#[test]
fn the_span_of_an_incoming_message_names_its_parent() {
    let log = logged(|| {
        let (mut near, mut far) = pair(&sampling(1), &TraceLayer::server("orders").propagate(true));
        send(&mut near, "x");
        receive(&mut far).unwrap();
        far.received().unwrap().span().in_scope(|| tracing::info!("worked on"));
    });
    let line = log.lines().find(|line| line.contains("worked on")).unwrap();
    assert!(line.contains("trace_id=00000000000000000000000000000007 parent_id=0000000000000001"), "{line}");
}

#[test]
fn hooks_see_each_sampled_message_and_where_it_comes_from() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let seen = seen.clone();
        move |_: &tracing::Span, direction, context: Option<&TraceContext>| {
            seen.lock().unwrap().push((direction, context.map(TraceContext::span_id)));
        }
    };
    let (mut near, mut far) = pair(&sampling(2).on_message(hook.clone()), &propagating().on_message(hook));
    for text in ["a", "b", "c"] {
        send(&mut near, text);
        receive(&mut far).unwrap();
    }
    let (out, inward) = (Direction::Out, Direction::In);
    assert_eq!(*seen.lock().unwrap(), [(out, None), (inward, Some(1)), (out, None), (inward, Some(2))]);
}

#[test]
fn without_a_subscriber_and_a_bridge_nothing_is_sent_along() {
    tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), || {
        let (near, mut far) = channel::<Message, Message>(8);
        let mut near = propagating().sample_one_in(one_in(1)).layer(near);
        send(&mut near, "x");
        assert_eq!(receive(&mut far).unwrap(), Message::text("x"));
    });
}

#[test]
fn the_levels_of_spans_and_events_are_those_that_were_set() {
    use tracing::Level;

    let run = || {
        let layer = TraceLayer::server("shop").sample_one_in(one_in(1)).span_level(Level::WARN);
        let layer = layer.event_level(Level::INFO).error_level(Level::ERROR);
        let (mut near, _far) = pair(&layer, &TraceLayer::client("silent"));
        near.close().now_or_never().unwrap().unwrap();
        near.send(Message::text("late")).now_or_never().unwrap().unwrap_err();
    };
    let (log, subscriber) = Log::new(Level::INFO, FmtSpan::NEW);
    tracing::dispatcher::with_default(&subscriber, run);
    let log = log.text();
    let has = |level: &str, text: &str| log.lines().any(|line| line.trim().starts_with(level) && line.contains(text));
    assert!(has("WARN", "session{name=shop") && has("INFO", "open") && has("INFO", "closed messages_in=0"), "{log}");
    assert!(has("ERROR", "error.type=\"closed\""), "{log}");
    // The other end keeps the defaults: its span is at INFO, its events are at DEBUG.
    assert_eq!(log.lines().filter(|line| line.contains("session{name=silent")).count(), 1, "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_filter_sets_the_level_of_one_layer_and_leaves_the_others() {
    let run = async || {
        let (near, _silent) = channel::<Message, Message>(1);
        let second = Duration::from_secs(1);
        let mut near = HeartbeatLayer::new(second, second).layer(near);
        assert!(near.receive_message().await.unwrap().unwrap_err().is_timeout());
        let connector = service_fn(|_: http::Request<()>| std::future::ready(Err(Error::config("never"))));
        let connector = connector.map_response(|never: http::Response<Channel>| never);
        let mut transport = ServiceBuilder::new().reconnect("ws://localhost/", Backoff::none()).service(connector);
        assert!(transport.send_message(Message::text("lost")).await.is_err());
    };
    let tells = |log: &str| [log.contains("heartbeat: the peer is dead"), log.contains("reconnect: gave up")];
    // By default a dead peer is at DEBUG, and the end of all attempts at WARN.
    let log = logged_by("info", run()).await;
    assert_eq!(tells(&log), [false, true], "{log}");
    let layers = "info,tower_transport::layer::heartbeat=debug,tower_transport::layer::reconnect=error";
    let log = logged_by(layers, run()).await;
    assert_eq!(tells(&log), [true, false], "{log}");
}

#[test]
fn a_close_reason_of_the_peer_cannot_forge_a_line_of_the_log() {
    let log = logged(|| {
        let (near, mut far) = channel::<Message, Message>(8);
        let mut near = TraceLayer::client("test").layer(near);
        let frame = CloseFrame::new(CloseCode::POLICY, "bye\nINFO all is well \u{1b}[2J");
        send(&mut far, Message::Close(Some(frame)));
        receive(&mut near).unwrap();
    });
    let closed = log.lines().find(|line| line.contains("messages_in=1")).unwrap();
    assert!(closed.contains(r"code=1008 reason=bye\nINFO all is well \u{1b}[2J"), "{log}");
}

#[test]
fn a_span_of_ones_own_can_stand_for_the_session() {
    let log = logged(|| {
        let span = tracing::info_span!("game", table = 7);
        let (near, _far) = channel::<Message, Message>(8);
        drop(TraceLayer::server("poker").span(span).layer(near));
    });
    assert!(log.contains("game{table=7}") && !log.contains("session{"), "{log}");
}

/// Every word in `text` that begins like a metric of ours.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("tower_transport_"))
}

#[test]
fn every_metric_has_its_row_in_the_docs_and_its_panel_in_the_dashboard() {
    let docs = include_str!("../../../src/layer/trace/mod.rs");
    let dashboard = include_str!("../../../docs/grafana-dashboard.json");
    for Metric { name, .. } in METRICS {
        assert!(docs.contains(&format!("| `{name}` |")), "{name} is not in the table of layer::trace");
        assert!(names(dashboard).any(|found| found.starts_with(name)), "{name} is not in the dashboard");
    }
}

#[test]
fn the_dashboard_is_json_and_asks_for_no_metric_that_does_not_exist() {
    let text = include_str!("../../../docs/grafana-dashboard.json");
    let dashboard: serde_json::Value = serde_json::from_str(text).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 5);
    let known = |name: &str| {
        METRICS.iter().any(|metric| {
            let suffix = name.strip_prefix(metric.name);
            match metric.kind {
                trace::MetricKind::Histogram => matches!(suffix, Some("" | "_sum" | "_count" | "_bucket")),
                _ => suffix == Some(""),
            }
        })
    };
    for name in names(text) {
        assert!(known(name), "{name} is no metric of this crate");
    }
}

fn stack()
-> (impl tower_transport::Transport<Message, In = Message>, impl tower_transport::Transport<Message, In = Message>) {
    let (here, there) = channel::<Message, Message>(1);
    let stack = ServiceBuilder::new().layer(sampling(2));
    (stack.clone().service(here), stack.service(there))
}

contract_tests!(mod mirrored, pair = stack(), message = |i| Message::text(i.to_string()));
contract_tests!(
    mod against_a_bare_end,
    pair = {
        let (here, there) = channel::<Message, Message>(1);
        (TraceLayer::client("test").sample_one_in(one_in(1)).layer(here), there)
    },
    message = |i| Message::binary(vec![i as u8])
);
contract_tests!(
    mod values,
    pair = {
        let (here, there) = channel::<u64, u64>(1);
        (TraceLayer::client("test").layer(here), there)
    },
    message = |i| i as u64
);

proptest! {
    #[test]
    fn any_message_and_context_come_out_as_they_went_in(
        payload: Vec<u8>,
        text: Option<String>,
        trace_id in 1u128..,
        span_id in 1u64..,
        sampled: bool,
    ) {
        let context = TraceContext::new(trace_id, span_id, sampled).unwrap();
        prop_assert_eq!(TraceContext::from_bytes(&context.to_bytes()), Some(context));
        prop_assert_eq!(context.to_string().parse::<TraceContext>().unwrap(), context);

        let layer = propagating().sample_one_in(one_in(1)).context_of(move |_| Some(context));
        let (mut near, mut far) = pair(&layer, &propagating());
        let message = text.map_or_else(|| Message::binary(payload), Message::text);
        send(&mut near, message.clone());
        prop_assert_eq!(receive(&mut far).unwrap(), message);
        let received = far.received().and_then(|received| received.context().copied());
        prop_assert_eq!(received, sampled.then_some(context));
    }

    #[test]
    fn whatever_a_peer_sends_is_a_message_or_an_error_of_the_protocol(before: Vec<u8>, kind in 0u8..3) {
        let (mut near, far) = channel::<Message, Message>(8);
        let mut far = propagating().layer(far);
        send(&mut near, forged(&before, kind));
        if let Err(error) = receive(&mut far) {
            prop_assert!(error.is_protocol());
        }
    }
}
