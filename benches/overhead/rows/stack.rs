//! Six layers at once.

use std::{num::NonZeroU32, time::Duration};

use futures_core::Stream;
use futures_sink::Sink;
use tower::{ServiceBuilder, layer::layer_fn};
use tower_layer::Layer;
use tower_transport::{
    Channel, Message,
    layer::{
        heartbeat::HeartbeatLayer,
        limit::LimitLayer,
        queue::QueueLayer,
        rate_limit::{Quota, RateLimitLayer},
        trace::TraceLayer,
    },
};

use super::{Row, message, reconnect::as_shipped, through};

pub(crate) const SIX: &str = "+ stack of six";
/// The same, whose rate limit reads the operating system's clock in place of the processor's counter: so that its reads
/// are counted like those of others.
pub(crate) const SIX_COUNTED: &str = "+ stack of six, system's clock";

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row { name: SIX, run: |messages| through(six(|limit| limit), message(), messages) },
        Row { name: SIX_COUNTED, run: |messages| through(six(RateLimitLayer::runtime_clock), message(), messages) },
    ]
}

/// Outgoing messages pass the six layers of one end, and incoming ones those of the other. The rate limit checks
/// outgoing messages. The reconnect layer is as `OptimizedBuilder::new()` builds it.
fn six(clock: fn(RateLimitLayer) -> RateLimitLayer) -> impl Layer<Channel, Service: Sink<Message> + Stream + Unpin> {
    const HOUR: Duration = Duration::from_secs(3600);
    // So many that nothing ever waits.
    let quota = Quota::per_second(NonZeroU32::new(1000).expect("it is not zero")).allow_burst(NonZeroU32::MAX);
    ServiceBuilder::new()
        .layer(TraceLayer::client("bench"))
        .layer(LimitLayer::new().idle_timeout(HOUR).lifetime(24 * HOUR))
        .layer(clock(RateLimitLayer::per_connection(quota).outbound()))
        .layer(QueueLayer::default())
        .layer(layer_fn(as_shipped))
        .layer(HeartbeatLayer::default())
}
