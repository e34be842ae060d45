//! The methods that this crate adds to tower's `ServiceBuilder`: [`ServiceBuilderExt`].

use tower::ServiceBuilder;
use tower_layer::Stack;

use crate::layer;

/// Adds one method per layer of this crate to tower's [`ServiceBuilder`].
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
/// Put the layer whose type you want to use first, and the layer that must see each message as the peer does last.
///
/// One builder stacks transports, connectors and services alike: a layer type-checks against whatever the layer below
/// it produces. On a connector, layers of a transport go into [`per_connection`](Self::per_connection).
pub trait ServiceBuilderExt<L>: sealed::Push<L> {
    /// On a transport: sends and receives values in place of messages, encoded by a [`Codec`](crate::codec::Codec).
    /// Adds a [`CodecLayer`](crate::layer::codec::CodecLayer) with its defaults.
    fn codec<C>(self, codec: C) -> ServiceBuilder<Stack<layer::codec::CodecLayer<C>, L>> {
        self.push(layer::codec::CodecLayer::new(codec))
    }

    /// On a connector: wraps each transport that it makes in `layer`, which may be a whole stack. Adds a
    /// [`PerConnectionLayer`](crate::layer::per_connection::PerConnectionLayer).
    fn per_connection<P>(self, layer: P) -> ServiceBuilder<Stack<layer::per_connection::PerConnectionLayer<P>, L>> {
        self.push(layer::per_connection::PerConnectionLayer::new(layer))
    }

    /// On a transport: adds `layer` if it is `Some`. Adds an
    /// [`OptionalLayer`](crate::layer::optional::OptionalLayer). (`option_layer` is tower's own method, for services.)
    fn optional<P>(self, layer: Option<P>) -> ServiceBuilder<Stack<layer::optional::OptionalLayer<P>, L>> {
        self.push(layer::optional::OptionalLayer::new(layer))
    }

    /// On a connector: puts a token from `tokens` into each handshake. Adds an
    /// [`AuthLayer`](crate::layer::auth::AuthLayer).
    #[cfg(feature = "auth")]
    #[cfg_attr(docsrs, doc(cfg(feature = "auth")))]
    fn auth<S>(self, tokens: layer::auth::Tokens<S>) -> ServiceBuilder<Stack<layer::auth::AuthLayer<S>, L>>
    where
        S: layer::auth::TokenSource,
    {
        self.push(layer::auth::AuthLayer::new(tokens))
    }

    /// On a transport: packs many small messages into one. Adds a [`BatchLayer`](crate::layer::batch::BatchLayer).
    #[cfg(feature = "batch")]
    #[cfg_attr(docsrs, doc(cfg(feature = "batch")))]
    fn batch(self, policy: layer::batch::BatchPolicy) -> ServiceBuilder<Stack<layer::batch::BatchLayer, L>> {
        self.push(layer::batch::BatchLayer::new(policy))
    }

    /// On a transport: sends the latest value of each key, then everything that is published. Adds a
    /// [`LatestLayer`](crate::layer::latest::LatestLayer).
    #[cfg(feature = "latest")]
    #[cfg_attr(docsrs, doc(cfg(feature = "latest")))]
    fn latest<K, M>(
        self,
        latest: layer::latest::Latest<K, M>,
    ) -> ServiceBuilder<Stack<layer::latest::LatestLayer<K, M>, L>> {
        self.push(layer::latest::LatestLayer::shared(latest))
    }

    /// On a service: caches its answers. Adds `layer`, a [`CacheLayer`](crate::layer::cache::CacheLayer).
    #[cfg(all(feature = "cache", not(target_arch = "wasm32")))]
    #[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
    fn cache<K, V, F>(
        self,
        layer: layer::cache::CacheLayer<K, V, F>,
    ) -> ServiceBuilder<Stack<layer::cache::CacheLayer<K, V, F>, L>> {
        self.push(layer)
    }

    /// On a transport: deflates each message that is large enough, and limits how much a peer can make this end
    /// inflate. Adds a [`CompressionLayer`](crate::layer::compression::CompressionLayer).
    #[cfg(feature = "compression")]
    #[cfg_attr(docsrs, doc(cfg(feature = "compression")))]
    fn compression(
        self,
        deflate: layer::compression::Deflate,
    ) -> ServiceBuilder<Stack<layer::compression::CompressionLayer, L>> {
        self.push(layer::compression::CompressionLayer::new(deflate))
    }

    /// On a transport: pings a peer that was silent for `interval`, and ends the stream if nothing arrives within
    /// `timeout` after the ping. Adds a [`HeartbeatLayer`](crate::layer::heartbeat::HeartbeatLayer).
    #[cfg(feature = "heartbeat")]
    #[cfg_attr(docsrs, doc(cfg(feature = "heartbeat")))]
    fn heartbeat(
        self,
        interval: std::time::Duration,
        timeout: std::time::Duration,
    ) -> ServiceBuilder<Stack<layer::heartbeat::HeartbeatLayer, L>> {
        self.push(layer::heartbeat::HeartbeatLayer::new(interval, timeout))
    }

    /// On a transport: limits message sizes, idle time, lifetime and unflushed messages. Adds `layer`, a
    /// [`LimitLayer`](crate::layer::limit::LimitLayer).
    #[cfg(feature = "limit")]
    #[cfg_attr(docsrs, doc(cfg(feature = "limit")))]
    fn limit(self, layer: layer::limit::LimitLayer) -> ServiceBuilder<Stack<layer::limit::LimitLayer, L>> {
        self.push(layer)
    }

    /// On a transport that is not driven: adds a bounded outgoing queue with a policy for when it is full. Adds a
    /// [`QueueLayer`](crate::layer::queue::QueueLayer).
    #[cfg(feature = "queue")]
    #[cfg_attr(docsrs, doc(cfg(feature = "queue")))]
    fn queue<Out, In>(
        self,
        queue: crate::Queue<Out, In>,
    ) -> ServiceBuilder<Stack<layer::queue::QueueLayer<Out, In>, L>> {
        self.push(layer::queue::QueueLayer::new(queue))
    }

    /// On a transport: limits messages to a quota. Adds `layer`, a
    /// [`RateLimitLayer`](crate::layer::rate_limit::RateLimitLayer). (`rate_limit` is tower's own method, for
    /// services.)
    #[cfg(feature = "rate-limit")]
    #[cfg_attr(docsrs, doc(cfg(feature = "rate-limit")))]
    fn limit_rate<C, A>(
        self,
        layer: layer::rate_limit::RateLimitLayer<C, A>,
    ) -> ServiceBuilder<Stack<layer::rate_limit::RateLimitLayer<C, A>, L>> {
        self.push(layer)
    }

    /// On a connector: turns it into a transport that connects to `target` and reconnects with `backoff`. Adds a
    /// [`ReconnectLayer`](crate::layer::reconnect::ReconnectLayer) with its defaults.
    #[cfg(feature = "reconnect")]
    #[cfg_attr(docsrs, doc(cfg(feature = "reconnect")))]
    fn reconnect<Out>(
        self,
        target: impl Into<layer::reconnect::Target>,
        backoff: layer::reconnect::Backoff,
    ) -> ServiceBuilder<Stack<layer::reconnect::ReconnectLayer<Out>, L>> {
        self.push(layer::reconnect::ReconnectLayer::new(target, backoff))
    }

    /// On a connector: keeps a session across its connections, with no message lost or duplicated. Adds a
    /// [`ResumeLayer`](crate::layer::resume::ResumeLayer) with its defaults.
    #[cfg(feature = "resume")]
    #[cfg_attr(docsrs, doc(cfg(feature = "resume")))]
    fn resume(self) -> ServiceBuilder<Stack<layer::resume::ResumeLayer, L>> {
        self.push(layer::resume::ResumeLayer::new())
    }

    /// On a transport: passes incoming messages through `service`, in order, one at a time. Adds a
    /// [`ServiceLayer`](crate::layer::service::ServiceLayer).
    #[cfg(feature = "service")]
    #[cfg_attr(docsrs, doc(cfg(feature = "service")))]
    fn inbound_service<S>(
        self,
        service: S,
    ) -> ServiceBuilder<Stack<layer::service::ServiceLayer<S, layer::service::Inbound>, L>> {
        self.push(layer::service::ServiceLayer::inbound(service))
    }

    /// On a transport: passes outgoing messages through `service`, in order, one at a time. Adds a
    /// [`ServiceLayer`](crate::layer::service::ServiceLayer).
    #[cfg(feature = "service")]
    #[cfg_attr(docsrs, doc(cfg(feature = "service")))]
    fn outbound_service<S, M>(
        self,
        service: S,
    ) -> ServiceBuilder<Stack<layer::service::ServiceLayer<S, layer::service::Outbound<M>>, L>>
    where
        S: tower_service::Service<M>,
    {
        self.push(layer::service::ServiceLayer::outbound(service))
    }

    /// On a transport: records spans and metrics, and carries trace context. Adds `layer`, a
    /// [`TraceLayer`](crate::layer::trace::TraceLayer).
    #[cfg(feature = "trace")]
    #[cfg_attr(docsrs, doc(cfg(feature = "trace")))]
    fn trace(self, layer: layer::trace::TraceLayer) -> ServiceBuilder<Stack<layer::trace::TraceLayer, L>> {
        self.push(layer)
    }
}

impl<L> ServiceBuilderExt<L> for ServiceBuilder<L> {}

mod sealed {
    use super::{ServiceBuilder, Stack};

    /// Adds a layer: the only method that the implementations differ in. Sealing the trait lets methods be added later.
    #[expect(unnameable_types, reason = "that is what seals")]
    pub trait Push<L>: Sized {
        fn push<P>(self, layer: P) -> ServiceBuilder<Stack<P, L>>;
    }

    impl<L> Push<L> for ServiceBuilder<L> {
        fn push<P>(self, layer: P) -> ServiceBuilder<Stack<P, L>> {
            self.layer(layer)
        }
    }
}
