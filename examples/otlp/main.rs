//! Traces over OpenTelemetry's protocol (OTLP): a client's message and the server's work on it are one trace.
//!
//! ```text
//! cargo run -p otlp                                                          # prints what a collector gets
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 cargo run -p otlp         # sends it to your collector
//! ```
//!
//! Metrics go another way: the example `metrics` has them in Prometheus' format, which a collector scrapes.

use std::{
    env,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Json, Router, extract::State, response::Response, routing::any};
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider},
};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use serde_json::Value;
use tokio::net::TcpListener;
use tower::ServiceExt;
use tower_transport::{
    BoxError, CloseCode, CloseFrame, Error, Message, TransportExt,
    layer::trace::{TraceContext, TraceLayer},
    transport::websocket::{WebSocket, WebSocketConnector, WebSocketHandshake},
};
use tracing::{Instrument, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Traces each message (in `OptimizedTransport`: `builder().trace(..)`), and passes OpenTelemetry's ids on: those of
/// the sender's span become the parent of the receiver's. In production, sample one message in a thousand or so.
fn traced(layer: TraceLayer) -> TraceLayer {
    layer
        .sample_one_in(NonZeroU32::MIN)
        .propagate(true)
        .context_of(|span| {
            let context = span.context();
            let ids = context.span().span_context().clone();
            let (trace, span) = (ids.trace_id().to_bytes(), ids.span_id().to_bytes());
            TraceContext::new(u128::from_be_bytes(trace), u64::from_be_bytes(span), ids.is_sampled())
        })
        .on_message(|span, _direction, sender| {
            let Some(sender) = sender else { return };
            let (trace, parent) = (sender.trace_id().to_be_bytes(), sender.span_id().to_be_bytes());
            let flags = if sender.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
            let (trace, parent) = (TraceId::from_bytes(trace), SpanId::from_bytes(parent));
            let remote = SpanContext::new(trace, parent, flags, true, TraceState::NONE);
            // Fails only for a span that has been entered.
            let _ = span.set_parent(Context::new().with_remote_span_context(remote));
        })
}

/// Answers each order within the span of its message.
async fn session(socket: WebSocket) -> Result<(), Error> {
    let mut transport = socket.layer(traced(TraceLayer::server("orders")));
    while let Some(order) = transport.receive_message().await {
        let (order, received) = (order?, transport.received().map(|received| received.span().clone()));
        if order.is_data() {
            let answer = async { Message::text("bought") }; // such as an entry in a database
            let answer = answer.instrument(info_span!(parent: received.unwrap_or(Span::none()), "buy")).await;
            transport.send_message(answer).await?;
        }
    }
    Ok(())
}

async fn orders(handshake: WebSocketHandshake) -> Response {
    handshake.on_upgrade(|socket| async { session(socket).await.unwrap_or_else(|error| println!("{error}")) })
}

async fn client(address: &str) -> Result<(), BoxError> {
    let request = axum::http::Request::get(format!("ws://{address}/orders")).body(())?;
    let socket = WebSocketConnector::new().oneshot(request).await?.into_body();
    let mut transport = socket.layer(traced(TraceLayer::client("orders")));
    transport.send_message(Message::text("buy 100 XYZ")).await?;
    println!("{:?}\n", transport.receive_message().await.transpose()?);
    transport.close_with(CloseFrame::new(CloseCode::NORMAL, "")).await?;
    Ok(())
}

/// A collector's end of OTLP, which keeps the spans that it gets.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Value>>>);

async fn collect(State(collector): State<Collector>, Json(export): Json<Value>) -> Json<Value> {
    let children = |of: &Value, name: &str| of[name].as_array().cloned().unwrap_or_default();
    let scopes = children(&export, "resourceSpans").into_iter().flat_map(|spans| children(&spans, "scopeSpans"));
    let mut spans = collector.0.lock().unwrap_or_else(PoisonError::into_inner);
    spans.extend(scopes.flat_map(|scope| children(&scope, "spans")));
    Json(Value::Object(serde_json::Map::new()))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let collector = Collector::default();
    let app = Router::new().route("/orders", any(orders)).route("/v1/traces", any(collect));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let app = app.with_state(collector.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });

    let mut exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpJson);
    let is_yours = env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some();
    if !is_yours {
        exporter = exporter.with_endpoint(format!("http://{address}/v1/traces"));
    }
    let resource = Resource::builder().with_service_name("orders").build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter.build()?).with_resource(resource).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("orders"));
    // Only the spans of this crate and of this program.
    let ours = Targets::new().with_targets([("tower_transport", tracing::Level::INFO), ("otlp", tracing::Level::INFO)]);
    tracing_subscriber::registry().with(layer.with_filter(ours)).init();

    client(&address).await?;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await; // until the server's session has ended
    // Sends what is left. It blocks, so it must not run on a thread of the runtime.
    tokio::task::spawn_blocking(move || provider.shutdown()).await??;
    if !is_yours {
        check(&collector.0.lock().unwrap_or_else(PoisonError::into_inner))?;
    }
    Ok(())
}

/// Prints the spans, and checks that the server's work belongs to the client's trace.
fn check(spans: &[Value]) -> Result<(), BoxError> {
    for span in spans {
        println!(
            "{:8} trace {} span {} parent {}",
            span["name"], span["traceId"], span["spanId"], span["parentSpanId"]
        );
    }
    let parent = |of: &Value| spans.iter().find(|span| span["spanId"] == of["parentSpanId"]);
    let work = spans.iter().find(|span| span["name"] == "buy").ok_or("the server's work was not exported")?;
    let received = parent(work).ok_or("the span of the received message was not exported")?;
    let sent = parent(received).ok_or("the received message has no sender")?;
    let session = parent(sent).ok_or("the sent message has no session")?;
    let names = [received, sent, session].map(|span| &span["name"]);
    assert_eq!(names, ["message", "message", "session"], "the way from the client's session to the server's work");
    assert_eq!(work["traceId"], session["traceId"], "one trace");
    println!("\nthe server's work belongs to the client's trace");
    Ok(())
}
