//! The layers above the reconnect layer, which survive a reconnect: limits and the rate limit.

use tower_layer::Layer;

use crate::{
    Error, Message, Transport,
    layer::{
        limit::{LimitLayer, Limited},
        rate_limit::{RateLimit, RateLimitLayer},
    },
    stack::optional::{Optional, OptionalLayer},
};

/// Limits, then the rate limit.
pub(super) type Shell<X> = Limited<Optional<RateLimit<X, Message>, X>>;

#[derive(Clone, Debug)]
pub(super) struct ShellConfig {
    pub(super) limit: LimitLayer,
    pub(super) rate_limit: Option<RateLimitLayer>,
}

impl ShellConfig {
    pub(super) fn layer<X>(&self, stack: X) -> Shell<X>
    where
        X: Transport<Message, In = Message, TransportError = Error>,
    {
        let gated = OptionalLayer(self.rate_limit.as_ref()).layer(stack);
        self.limit.layer(gated)
    }
}
