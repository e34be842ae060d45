//! The methods that this crate adds to tower's `ServiceBuilder`: [`ServiceBuilderExt`].

use tower::ServiceBuilder;
use tower_layer::Stack;

use crate::layer::{codec::CodecLayer, per_connection::PerConnectionLayer};

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
/// One builder stacks transports, connectors and services alike: a layer type-checks against whatever the layer below it
/// produces. On a connector, layers of a transport go into [`per_connection`](Self::per_connection).
pub trait ServiceBuilderExt<L>: sealed::Sealed<L> + Sized {
    /// On a transport: sends and receives values in place of messages, encoded by a [`Codec`](crate::codec::Codec). Adds a [`CodecLayer`] with
    /// its defaults.
    fn codec<C>(self, codec: C) -> ServiceBuilder<Stack<CodecLayer<C>, L>>;

    /// On a connector: wraps each transport that it makes in `layer`, which may be a whole stack. Adds a [`PerConnectionLayer`].
    fn per_connection<P>(self, layer: P) -> ServiceBuilder<Stack<PerConnectionLayer<P>, L>>;

    /// On a connector: puts a token from `tokens` into each handshake. Adds an [`AuthLayer`](crate::layer::auth::AuthLayer).
    #[cfg(feature = "auth")]
    #[cfg_attr(docsrs, doc(cfg(feature = "auth")))]
    fn auth<S>(
        self,
        tokens: crate::layer::auth::Tokens<S>,
    ) -> ServiceBuilder<Stack<crate::layer::auth::AuthLayer<S>, L>>
    where
        S: crate::layer::auth::TokenSource;

    /// On a transport: packs many small messages into one. Adds a [`BatchLayer`](crate::layer::batch::BatchLayer).
    #[cfg(feature = "batch")]
    #[cfg_attr(docsrs, doc(cfg(feature = "batch")))]
    fn batch(
        self,
        policy: crate::layer::batch::BatchPolicy,
    ) -> ServiceBuilder<Stack<crate::layer::batch::BatchLayer, L>>;

    /// On a transport: sends the latest value of each key, then everything that is published. Adds a
    /// [`LatestLayer`](crate::layer::latest::LatestLayer).
    #[cfg(feature = "latest")]
    #[cfg_attr(docsrs, doc(cfg(feature = "latest")))]
    fn latest<K, M>(
        self,
        latest: crate::layer::latest::Latest<K, M>,
    ) -> ServiceBuilder<Stack<crate::layer::latest::LatestLayer<K, M>, L>>;

    /// On a service: caches its answers. Adds `layer`, a [`CacheLayer`](crate::layer::cache::CacheLayer).
    #[cfg(all(feature = "cache", not(target_arch = "wasm32")))]
    #[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
    fn cache<K, V, F>(
        self,
        layer: crate::layer::cache::CacheLayer<K, V, F>,
    ) -> ServiceBuilder<Stack<crate::layer::cache::CacheLayer<K, V, F>, L>>;

    /// On a transport: deflates each message that is large enough, and limits how much a peer can make this end inflate. Adds a
    /// [`CompressionLayer`](crate::layer::compression::CompressionLayer).
    #[cfg(feature = "compression")]
    #[cfg_attr(docsrs, doc(cfg(feature = "compression")))]
    fn compression(
        self,
        deflate: crate::layer::compression::Deflate,
    ) -> ServiceBuilder<Stack<crate::layer::compression::CompressionLayer, L>>;

    /// On a transport: pings a peer that was silent for `interval`, and ends the stream if nothing arrives within `timeout` after
    /// the ping. Adds a [`HeartbeatLayer`](crate::layer::heartbeat::HeartbeatLayer).
    #[cfg(feature = "heartbeat")]
    #[cfg_attr(docsrs, doc(cfg(feature = "heartbeat")))]
    fn heartbeat(
        self,
        interval: std::time::Duration,
        timeout: std::time::Duration,
    ) -> ServiceBuilder<Stack<crate::layer::heartbeat::HeartbeatLayer, L>>;

    /// On a transport: limits message sizes, idle time, lifetime and unflushed messages. Adds `layer`, a
    /// [`LimitLayer`](crate::layer::limit::LimitLayer).
    #[cfg(feature = "limit")]
    #[cfg_attr(docsrs, doc(cfg(feature = "limit")))]
    fn limit(self, layer: crate::layer::limit::LimitLayer)
    -> ServiceBuilder<Stack<crate::layer::limit::LimitLayer, L>>;

    /// On a transport that is not driven: adds a bounded outgoing queue with a policy for when it is full. Adds a
    /// [`QueueLayer`](crate::layer::queue::QueueLayer).
    #[cfg(feature = "queue")]
    #[cfg_attr(docsrs, doc(cfg(feature = "queue")))]
    fn queue<Out, In>(
        self,
        queue: crate::Queue<Out, In>,
    ) -> ServiceBuilder<Stack<crate::layer::queue::QueueLayer<Out, In>, L>>;

    /// On a transport: limits messages to a quota. Adds `layer`, a [`RateLimitLayer`](crate::layer::rate_limit::RateLimitLayer).
    /// (`rate_limit` is tower's own method, for services.)
    #[cfg(feature = "rate-limit")]
    #[cfg_attr(docsrs, doc(cfg(feature = "rate-limit")))]
    fn limit_rate<C, A>(
        self,
        layer: crate::layer::rate_limit::RateLimitLayer<C, A>,
    ) -> ServiceBuilder<Stack<crate::layer::rate_limit::RateLimitLayer<C, A>, L>>;

    /// On a connector: turns it into a transport that connects to `target` and reconnects with `backoff`. Adds a
    /// [`ReconnectLayer`](crate::layer::reconnect::ReconnectLayer) with its defaults.
    #[cfg(feature = "reconnect")]
    #[cfg_attr(docsrs, doc(cfg(feature = "reconnect")))]
    fn reconnect<Out>(
        self,
        target: impl Into<crate::layer::reconnect::Target>,
        backoff: crate::layer::reconnect::Backoff,
    ) -> ServiceBuilder<Stack<crate::layer::reconnect::ReconnectLayer<Out>, L>>;

    /// On a connector: keeps a session across its connections, with no message lost or duplicated. Adds a
    /// [`ResumeLayer`](crate::layer::resume::ResumeLayer) with its defaults.
    #[cfg(feature = "resume")]
    #[cfg_attr(docsrs, doc(cfg(feature = "resume")))]
    fn resume(self) -> ServiceBuilder<Stack<crate::layer::resume::ResumeLayer, L>>;

    /// On a transport: passes incoming messages through `service`, in order, one at a time. Adds a
    /// [`ServiceLayer`](crate::layer::service::ServiceLayer).
    #[cfg(feature = "service")]
    #[cfg_attr(docsrs, doc(cfg(feature = "service")))]
    fn inbound_service<S>(
        self,
        service: S,
    ) -> ServiceBuilder<Stack<crate::layer::service::ServiceLayer<S, crate::layer::service::Inbound>, L>>;

    /// On a transport: passes outgoing messages through `service`, in order, one at a time. Adds a
    /// [`ServiceLayer`](crate::layer::service::ServiceLayer).
    #[cfg(feature = "service")]
    #[cfg_attr(docsrs, doc(cfg(feature = "service")))]
    fn outbound_service<S, M>(
        self,
        service: S,
    ) -> ServiceBuilder<Stack<crate::layer::service::ServiceLayer<S, crate::layer::service::Outbound<M>>, L>>
    where
        S: tower_service::Service<M>;

    /// On a transport: records spans and metrics, and carries trace context. Adds `layer`, a [`TraceLayer`](crate::layer::trace::TraceLayer).
    #[cfg(feature = "trace")]
    #[cfg_attr(docsrs, doc(cfg(feature = "trace")))]
    fn trace(self, layer: crate::layer::trace::TraceLayer)
    -> ServiceBuilder<Stack<crate::layer::trace::TraceLayer, L>>;
}

impl<L> ServiceBuilderExt<L> for ServiceBuilder<L> {
    fn codec<C>(self, codec: C) -> ServiceBuilder<Stack<CodecLayer<C>, L>> {
        self.layer(CodecLayer::new(codec))
    }

    fn per_connection<P>(self, layer: P) -> ServiceBuilder<Stack<PerConnectionLayer<P>, L>> {
        self.layer(PerConnectionLayer::new(layer))
    }

    #[cfg(feature = "auth")]
    fn auth<S>(
        self,
        tokens: crate::layer::auth::Tokens<S>,
    ) -> ServiceBuilder<Stack<crate::layer::auth::AuthLayer<S>, L>>
    where
        S: crate::layer::auth::TokenSource,
    {
        self.layer(crate::layer::auth::AuthLayer::new(tokens))
    }

    #[cfg(feature = "batch")]
    fn batch(
        self,
        policy: crate::layer::batch::BatchPolicy,
    ) -> ServiceBuilder<Stack<crate::layer::batch::BatchLayer, L>> {
        self.layer(crate::layer::batch::BatchLayer::new(policy))
    }

    #[cfg(feature = "latest")]
    fn latest<K, M>(
        self,
        latest: crate::layer::latest::Latest<K, M>,
    ) -> ServiceBuilder<Stack<crate::layer::latest::LatestLayer<K, M>, L>> {
        self.layer(crate::layer::latest::LatestLayer::shared(latest))
    }

    #[cfg(all(feature = "cache", not(target_arch = "wasm32")))]
    fn cache<K, V, F>(
        self,
        layer: crate::layer::cache::CacheLayer<K, V, F>,
    ) -> ServiceBuilder<Stack<crate::layer::cache::CacheLayer<K, V, F>, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "compression")]
    fn compression(
        self,
        deflate: crate::layer::compression::Deflate,
    ) -> ServiceBuilder<Stack<crate::layer::compression::CompressionLayer, L>> {
        self.layer(crate::layer::compression::CompressionLayer::new(deflate))
    }

    #[cfg(feature = "heartbeat")]
    fn heartbeat(
        self,
        interval: std::time::Duration,
        timeout: std::time::Duration,
    ) -> ServiceBuilder<Stack<crate::layer::heartbeat::HeartbeatLayer, L>> {
        self.layer(crate::layer::heartbeat::HeartbeatLayer::new(interval, timeout))
    }

    #[cfg(feature = "limit")]
    fn limit(
        self,
        layer: crate::layer::limit::LimitLayer,
    ) -> ServiceBuilder<Stack<crate::layer::limit::LimitLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "queue")]
    fn queue<Out, In>(
        self,
        queue: crate::Queue<Out, In>,
    ) -> ServiceBuilder<Stack<crate::layer::queue::QueueLayer<Out, In>, L>> {
        self.layer(crate::layer::queue::QueueLayer::new(queue))
    }

    #[cfg(feature = "rate-limit")]
    fn limit_rate<C, A>(
        self,
        layer: crate::layer::rate_limit::RateLimitLayer<C, A>,
    ) -> ServiceBuilder<Stack<crate::layer::rate_limit::RateLimitLayer<C, A>, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "reconnect")]
    fn reconnect<Out>(
        self,
        target: impl Into<crate::layer::reconnect::Target>,
        backoff: crate::layer::reconnect::Backoff,
    ) -> ServiceBuilder<Stack<crate::layer::reconnect::ReconnectLayer<Out>, L>> {
        self.layer(crate::layer::reconnect::ReconnectLayer::new(target, backoff))
    }

    #[cfg(feature = "resume")]
    fn resume(self) -> ServiceBuilder<Stack<crate::layer::resume::ResumeLayer, L>> {
        self.layer(crate::layer::resume::ResumeLayer::new())
    }

    #[cfg(feature = "service")]
    fn inbound_service<S>(
        self,
        service: S,
    ) -> ServiceBuilder<Stack<crate::layer::service::ServiceLayer<S, crate::layer::service::Inbound>, L>> {
        self.layer(crate::layer::service::ServiceLayer::inbound(service))
    }

    #[cfg(feature = "service")]
    fn outbound_service<S, M>(
        self,
        service: S,
    ) -> ServiceBuilder<Stack<crate::layer::service::ServiceLayer<S, crate::layer::service::Outbound<M>>, L>>
    where
        S: tower_service::Service<M>,
    {
        self.layer(crate::layer::service::ServiceLayer::outbound(service))
    }

    #[cfg(feature = "trace")]
    fn trace(
        self,
        layer: crate::layer::trace::TraceLayer,
    ) -> ServiceBuilder<Stack<crate::layer::trace::TraceLayer, L>> {
        self.layer(layer)
    }
}

mod sealed {
    #[expect(unnameable_types, reason = "that is what seals")]
    pub trait Sealed<L> {}

    impl<L> Sealed<L> for tower::ServiceBuilder<L> {}
}
