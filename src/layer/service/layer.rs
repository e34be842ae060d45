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

/// Puts a tower service in the way of each message, in one direction. See the [module](super) for the whole story.
///
/// Each transport gets a clone of the service. What the clones share (the permits of a `ConcurrencyLimit`, the state of a
/// circuit breaker) is shared by all transports of the layer; make a layer per connection for a state per connection.
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

    /// Sets how many messages each transport has with the service at most; 1 by default. Answers that wait for their turn or
    /// for room below count. The order is kept whatever it is.
    #[must_use]
    pub fn concurrency(mut self, limit: NonZeroUsize) -> Self {
        self.concurrency = limit;
        self
    }
}

impl<S> ServiceLayer<S, Inbound> {
    /// Messages that come in pass through `service`; those that go out do not.
    #[must_use]
    pub const fn inbound(service: S) -> Self {
        Self::new(service)
    }
}

impl<S, M> ServiceLayer<S, Outbound<M>> {
    /// Messages that go out pass through `service`; those that come in do not.
    #[must_use]
    pub const fn outbound(service: S) -> Self
    where
        S: Service<M>,
    {
        Self::new(service)
    }

    /// Gives refusals that come late as error items of the stream, in place of an error of the next sink call (the default). For
    /// transports that are [driven](crate::TransportExt::drive): a driver takes a failed flush for the end of the
    /// connection, and passes an error item on to the receiver.
    ///
    /// At most [`MAX_REFUSALS`](super::MAX_REFUSALS) wait to be read; what is over is only counted, by
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

impl<S, D> fmt::Debug for ServiceLayer<S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceLayer")
            .field("concurrency", &self.concurrency)
            .field("refusals_to_stream", &self.refusals_to_stream)
            .finish_non_exhaustive()
    }
}
