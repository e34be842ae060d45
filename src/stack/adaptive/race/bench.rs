//! The engine over scripted connectors, on the paused clock.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use http::StatusCode;

use super::*;
use crate::{
    rt,
    stack::adaptive::{Decided, Decisions, Endpoints, shared::Shared},
};

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const HEAD_START: Duration = ms(250);
pub(super) const TTL: Duration = Duration::from_secs(600);

/// The delay and the outcome of each transport.
pub(super) type Script = [(u64, Result<(), Error>); 3];

/// Returns what the script says, and records what was started and dropped.
#[derive(Clone)]
pub(super) struct Scripted {
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
pub(super) struct Bench {
    pub(super) dial: Scripted,
    pub(super) shared: Arc<Shared>,
    pub(super) decisions: Decisions,
    pub(super) endpoints: Endpoints,
    pub(super) head_start: Duration,
}

impl Bench {
    pub(super) fn new(script: Script) -> Self {
        let dial = Scripted { script: Arc::new(Mutex::new(script)), log: Arc::default() };
        let shared = Shared::new(TTL, 8);
        let decisions = shared.subscribe();
        let endpoints = Endpoints::new("https://example.com").unwrap();
        Self { dial, shared, decisions, endpoints, head_start: HEAD_START }
    }

    pub(super) fn race(&self) -> Race<Scripted> {
        let request = Request::get("/").header("x-user", "7").body(()).unwrap();
        let (origin, mut endpoints) = self.endpoints.resolve(request.uri()).unwrap();
        let kinds: Vec<_> = endpoints.iter().map(|endpoint| endpoint.place.kind).collect();
        let order = self.shared.memory().order(&origin, &kinds, self.shared.now());
        endpoints.sort_by_key(|endpoint| order.kinds.iter().position(|kind| *kind == endpoint.place.kind));
        let attempt = Attempt::new(self.shared.clone(), origin, "test".into());
        Race::new(self.dial.clone(), attempt, endpoints, &request, self.head_start)
    }

    pub(super) async fn connect(&self) -> Result<TransportKind, Error> {
        let (kind, response) = self.race().await?;
        assert_eq!(*response.body(), kind);
        Ok(kind)
    }

    pub(super) fn set(&self, kind: TransportKind, time: u64, result: Result<(), Error>) {
        self.dial.script.lock().unwrap()[kind.index()] = (time, result);
    }

    /// Returns what was started and dropped since the last call.
    pub(super) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.dial.log.lock().unwrap())
    }

    /// Returns the decisions since the last call, in a word or two each.
    pub(super) fn decided(&mut self) -> Vec<String> {
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

pub(super) const fn up(time: u64) -> (u64, Result<(), Error>) {
    (time, Ok(()))
}

pub(super) fn status(code: u16) -> Error {
    Error::from_refusal(StatusCode::from_u16(code).unwrap(), Bytes::new())
}
