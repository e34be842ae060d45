use std::{num::NonZeroU32, sync::OnceLock};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tower_transport::layer::trace::TraceLayer;

use super::{Row, message, through};

/// Two sessions: what goes out is seen at the one end, and what comes in at the other.
pub(super) fn rows() -> Vec<Row> {
    vec![
        Row { name: ALONE, run: |messages| through(TraceLayer::client("bench"), message(), messages) },
        Row {
            name: "+ trace, propagating, no one",
            run: |messages| through(sampling(1000).propagate(true), message(), messages),
        },
        Row {
            name: "+ trace, recorder",
            run: |messages| recorded(|| through(TraceLayer::client("bench"), message(), messages)),
        },
        Row {
            name: "+ trace, recorder and sizes",
            run: |messages| recorded(|| through(TraceLayer::client("bench").record_sizes(), message(), messages)),
        },
        Row {
            name: "+ trace, subscriber, 1 in 1000",
            run: |messages| subscribed(|| through(sampling(1000).propagate(true), message(), messages)),
        },
        Row {
            name: "+ trace, subscriber, each",
            run: |messages| subscribed(|| through(sampling(1).propagate(true), message(), messages)),
        },
    ]
}

/// Without a recorder and without a subscriber.
pub(crate) const ALONE: &str = "+ trace";

fn sampling(every: u32) -> TraceLayer {
    TraceLayer::client("bench").sample_one_in(NonZeroU32::new(every).unwrap_or(NonZeroU32::MIN))
}

fn recorded(run: impl FnOnce()) {
    static RECORDER: OnceLock<PrometheusRecorder> = OnceLock::new();
    metrics::with_local_recorder(RECORDER.get_or_init(|| PrometheusBuilder::new().build_recorder()), run);
}

/// Writes to nowhere, as text.
fn subscribed(run: impl FnOnce()) {
    use tracing_subscriber::fmt::format::FmtSpan;
    let subscriber =
        tracing_subscriber::fmt().with_span_events(FmtSpan::CLOSE).with_ansi(false).with_writer(std::io::sink).finish();
    tracing::subscriber::with_default(subscriber, run);
}
