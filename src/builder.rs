//! The methods that this crate adds to tower's `ServiceBuilder`: [`ServiceBuilderExt`].

use tower::ServiceBuilder;
use tower_layer::Stack;

use crate::layer::{codec::CodecLayer, per_connection::PerConnectionLayer};

/// One method per layer of this crate, named by effect, on tower's own [`ServiceBuilder`].
///
/// # Order
///
/// As in tower: the first layer added is outermost. An outgoing message meets it first, an incoming one last.
///
/// ```text
/// ServiceBuilder::new()             you
///                             out |     ^ in
///     .codec(..)                1 v     | 3     values above, messages below
///                             +---------------+
///     .layer(compression)     | 2 v     ^ 2   |
///                             +---------------+
///     .layer(heartbeat)         3 v     | 1     next to the wire
///                                 |     |
///     .service(transport)      the transport
/// ```
///
/// Put first what you want to talk to, and last what must see each message as the peer does.
///
/// One builder stacks transports, connectors and services alike; a layer fits by what its neighbour below makes. On a
/// connector, layers of the transport go into [`per_connection`](Self::per_connection).
pub trait ServiceBuilderExt<L>: sealed::Sealed<L> + Sized {
    /// Values in place of messages, by a [`Codec`](crate::codec::Codec): [`CodecLayer`] with its defaults.
    fn codec<C>(self, codec: C) -> ServiceBuilder<Stack<CodecLayer<C>, L>>;

    /// On a connector: each transport that it makes gets `layer`, or a whole stack of layers: [`PerConnectionLayer`].
    fn per_connection<P>(self, layer: P) -> ServiceBuilder<Stack<PerConnectionLayer<P>, L>>;

    // trait: auth

    // trait: batch

    // trait: cache

    // trait: compression

    /// Pings a peer that was silent for `interval`, and ends the stream where nothing comes within `timeout` of that:
    /// [`HeartbeatLayer`](crate::layer::heartbeat::HeartbeatLayer).
    #[cfg(feature = "heartbeat")]
    #[cfg_attr(docsrs, doc(cfg(feature = "heartbeat")))]
    fn heartbeat(
        self,
        interval: std::time::Duration,
        timeout: std::time::Duration,
    ) -> ServiceBuilder<Stack<crate::layer::heartbeat::HeartbeatLayer, L>>;

    // trait: limit

    /// A bounded outgoing queue with its policy, for a transport that is not driven:
    /// [`QueueLayer`](crate::layer::queue::QueueLayer).
    #[cfg(feature = "queue")]
    #[cfg_attr(docsrs, doc(cfg(feature = "queue")))]
    fn queue<Out, In>(
        self,
        queue: crate::Queue<Out, In>,
    ) -> ServiceBuilder<Stack<crate::layer::queue::QueueLayer<Out, In>, L>>;

    // trait: rate_limit

    // trait: reconnect

    // trait: resume

    // trait: service

    // trait: trace
}

impl<L> ServiceBuilderExt<L> for ServiceBuilder<L> {
    fn codec<C>(self, codec: C) -> ServiceBuilder<Stack<CodecLayer<C>, L>> {
        self.layer(CodecLayer::new(codec))
    }

    fn per_connection<P>(self, layer: P) -> ServiceBuilder<Stack<PerConnectionLayer<P>, L>> {
        self.layer(PerConnectionLayer::new(layer))
    }

    // impl: auth

    // impl: batch

    // impl: cache

    // impl: compression

    #[cfg(feature = "heartbeat")]
    fn heartbeat(
        self,
        interval: std::time::Duration,
        timeout: std::time::Duration,
    ) -> ServiceBuilder<Stack<crate::layer::heartbeat::HeartbeatLayer, L>> {
        self.layer(crate::layer::heartbeat::HeartbeatLayer::new(interval, timeout))
    }

    // impl: limit

    #[cfg(feature = "queue")]
    fn queue<Out, In>(
        self,
        queue: crate::Queue<Out, In>,
    ) -> ServiceBuilder<Stack<crate::layer::queue::QueueLayer<Out, In>, L>> {
        self.layer(crate::layer::queue::QueueLayer::new(queue))
    }

    // impl: rate_limit

    // impl: reconnect

    // impl: resume

    // impl: service

    // impl: trace
}

mod sealed {
    #[expect(unnameable_types, reason = "that is what seals")]
    pub trait Sealed<L> {}

    impl<L> Sealed<L> for tower::ServiceBuilder<L> {}
}
