//! The whole layered stack, at both ends.

use std::{num::NonZeroU32, time::Duration};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tower::ServiceBuilder;
use tower_transport::{
    BoxTransport, ServiceBuilderExt, TransportExt,
    layer::{
        batch::BatchPolicy,
        compression::{CompressionLayer, Deflate},
        heartbeat::HeartbeatLayer,
        rate_limit::{Quota, RateLimitLayer},
        reconnect::Backoff,
        resume::{Accepted, ResumeHandle, ResumeLayer, SessionId, SessionStore, Verdict},
    },
};

use crate::transports::{
    carrier::{Carrier, Cuts, Route, Wire},
    value::{Value, codec},
};

pub(crate) type End = BoxTransport<Value>;

/// How much may be unacknowledged.
const REPLAY: usize = 1 << 20;

fn batch() -> BatchPolicy {
    BatchPolicy::new(32, Duration::from_millis(1))
}

/// One that is met, and waits a little.
fn rate() -> RateLimitLayer {
    let quota = Quota::per_second(NonZeroU32::new(20_000).unwrap());
    RateLimitLayer::per_connection(quota.allow_burst(NonZeroU32::new(200).unwrap())).outbound()
}

fn deflate() -> Deflate {
    Deflate::new().min_size(256)
}

/// Soon enough for a link that is dead without a word; a machine that is busy for so long costs a connection, and no
/// message.
fn heartbeat<C: Carrier>() -> HeartbeatLayer {
    let layer = HeartbeatLayer::new(Duration::from_millis(100), Duration::from_millis(400));
    if C::NEEDS_ANSWERS { layer.answer_pings() } else { layer }
}

/// A client, and a server that has begun.
pub(crate) struct Both {
    pub(crate) client: End,
    pub(crate) resume: ResumeHandle,
    /// The server's sessions. One that its client never heard of is among them, where a cut was early.
    pub(crate) sessions: UnboundedReceiver<(SessionId, End)>,
    pub(crate) cuts: Cuts,
}

/// Both ends over a carrier that is cut so.
pub(crate) async fn both<C: Carrier>(budgets: Vec<usize>) -> Both {
    let Route { dial, url, mut arrivals, cuts } = C::open(budgets).await;

    let resume = ResumeHandle::new();
    let client = ServiceBuilder::new()
        .codec(codec())
        .batch(batch())
        .layer(rate())
        .reconnect(url, Backoff::fixed(Duration::from_millis(2)))
        .layer(ResumeLayer::new().handle(resume.clone()).ack_delay(Duration::from_millis(5)).replay_bytes(REPLAY))
        .per_connection(CompressionLayer::new(deflate()))
        .per_connection(heartbeat::<C>())
        .service(dial)
        .into_boxed();

    let store = SessionStore::<Wire>::new().ack_delay(Duration::from_millis(5)).replay_bytes(REPLAY);
    let (begun, sessions) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(arrival) = arrivals.recv().await {
            let wire = ServiceBuilder::new()
                .layer(CompressionLayer::new(deflate()))
                .layer(heartbeat::<C>())
                .service(arrival.wire)
                .into_boxed();
            let (store, begun) = (store.clone(), begun.clone());
            tokio::spawn(async move {
                if let Ok(Accepted::New(session)) = store.accept(wire).await {
                    let id = session.id();
                    let end = ServiceBuilder::new().codec(codec()).batch(batch()).layer(rate()).service(session);
                    let _ = begun.send((id, end.into_boxed()));
                }
            });
        }
    });
    Both { client, resume, sessions, cuts }
}

/// Fails when the session of `resume` is lost.
pub(crate) fn watch(resume: &ResumeHandle) -> tokio::task::JoinHandle<()> {
    let mut verdicts = resume.verdicts();
    tokio::spawn(async move {
        loop {
            let verdict = verdicts.changed().await;
            assert!(!matches!(verdict, Verdict::Fresh { .. }), "{verdict:?}");
        }
    })
}
