//! The output of a subscriber of tracing while a test runs.

use std::{
    io,
    sync::{Arc, LazyLock, Mutex},
};

use tracing::{Dispatch, Level, subscriber::NoSubscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{MakeWriter, format::FmtSpan},
};

/// The output of a subscriber, shared by its clones.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Returns the output and a subscriber that writes to it: events up to `level`, and `spans`.
    pub fn new(level: Level, spans: FmtSpan) -> (Self, Dispatch) {
        Self::filtered(&level.to_string(), spans)
    }

    /// As [`new`](Self::new), with the directives of `RUST_LOG`.
    pub fn filtered(directives: &str, spans: FmtSpan) -> (Self, Dispatch) {
        // With a single subscriber, an event or a span that another thread reaches first is judged by that thread,
        // which has no subscriber, and stays off for all. A second subscriber prevents that.
        static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));
        LazyLock::force(&SECOND);
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(directives))
            .with_span_events(spans)
            .with_ansi(false)
            .without_time()
            .with_writer(log.clone());
        (log, subscriber.finish().into())
    }

    /// Returns what was written so far.
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Returns what this crate logs up to `level` while `run` runs.
pub async fn logged(level: Level, run: impl Future<Output = ()>) -> String {
    logged_by(&level.to_string(), run).await
}

/// Returns what this crate logs with these directives of `RUST_LOG` while `run` runs.
pub async fn logged_by(directives: &str, run: impl Future<Output = ()>) -> String {
    let (log, subscriber) = Log::filtered(directives, FmtSpan::NONE);
    let guard = tracing::dispatcher::set_default(&subscriber);
    run.await;
    drop(guard);
    let all = log.text();
    all.lines().filter(|line| line.contains("tower_transport")).map(|line| format!("{line}\n")).collect()
}
