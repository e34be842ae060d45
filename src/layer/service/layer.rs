use std::{fmt, marker::PhantomData, num::NonZeroUsize};

use futures_core::Stream;
use tower_layer::Layer;
use tower_service::Service;

use super::{InboundService, OutboundService};
use crate::BoxError;

/// The direction of [`ServiceLayer::inbound`].
#[derive(Clone, Copy, Debug)]
pub enum Inbound {}

/// The direction of [`ServiceLayer::outbound`], for messages of type `M`.
pub struct Outbound<M>(PhantomData<fn(M)>);

impl<M> fmt::Debug for Outbound<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outbound")
    }
}

/// A layer that passes each message in one direction through a tower service. See the [module](super) for the complete
/// documentation.
///
/// Each transport gets a clone of the service. State that the clones share (the permits of a `ConcurrencyLimit`, the
/// state of a circuit breaker) is shared by all transports of the layer. For separate state, create a layer per
/// connection.
pub struct ServiceLayer<S, D> {
    service: S,
    concurrency: NonZeroUsize,
    refusals_to_stream: bool,
    direction: PhantomData<fn() -> D>,
}

impl<S, D> ServiceLayer<S, D> {
    const fn new(service: S) -> Self {
        Self { service, concurrency: NonZeroUsize::MIN, refusals_to_stream: false, direction: PhantomData }
    }

    /// Sets how many messages of each transport may be with the service. Defaults to 1. Answers that wait for their
    /// turn or for room below count. The order is kept for any value.
    #[must_use]
    pub fn concurrency(mut self, limit: NonZeroUsize) -> Self {
        self.concurrency = limit;
        self
    }
}

impl<S> ServiceLayer<S, Inbound> {
    /// Creates a layer that passes incoming messages through `service`. Outgoing messages are not affected.
    #[must_use]
    pub const fn inbound(service: S) -> Self {
        Self::new(service)
    }
}

impl<S, M> ServiceLayer<S, Outbound<M>> {
    /// Creates a layer that passes outgoing messages through `service`. Incoming messages are not affected.
    #[must_use]
    pub const fn outbound(service: S) -> Self
    where
        S: Service<M>,
    {
        Self::new(service)
    }

    /// Returns late refusals as error items of the stream, instead of as an error of the next sink call (the default).
    /// Use it for [driven](crate::TransportExt::drive) transports: a driver treats a failed flush as the end of the
    /// connection, but passes an error item on to the receiver.
    ///
    /// At most [`MAX_REFUSALS`](super::MAX_REFUSALS) wait to be read; further ones are only counted, by
    /// [`OutboundService::refused`].
    #[must_use]
    pub fn refusals_to_stream(mut self) -> Self {
        self.refusals_to_stream = true;
        self
    }
}

impl<T, S, In, E> Layer<T> for ServiceLayer<S, Inbound>
where
    T: Stream<Item = Result<In, E>>,
    S: Service<In, Error: Into<BoxError>> + Clone,
{
    type Service = InboundService<T, S, In>;

    fn layer(&self, inner: T) -> Self::Service {
        InboundService::new(inner, self.service.clone(), self.concurrency)
    }
}

impl<T, S, M> Layer<T> for ServiceLayer<S, Outbound<M>>
where
    S: Service<M, Error: Into<BoxError>> + Clone,
{
    type Service = OutboundService<T, S, M>;

    fn layer(&self, inner: T) -> Self::Service {
        OutboundService::new(inner, self.service.clone(), self.concurrency, self.refusals_to_stream)
    }
}

impl<S: Clone, D> Clone for ServiceLayer<S, D> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone(), direction: PhantomData, ..*self }
    }
}

debug_fields!([S, D] ServiceLayer<S, D> { concurrency, refusals_to_stream });
