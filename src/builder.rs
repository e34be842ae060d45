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
///
/// # Names and arguments
///
/// A method has the name of its layer: `batch` adds a `BatchLayer`. tower and tower-http have a `rate_limit` and a
/// `compression` of their own, so those methods are [`limit_rate`](Self::limit_rate) and [`compress`](Self::compress).
/// The two traits named `ServiceBuilderExt` can be used together: import this one or tower-http's `as _`.
///
/// The arguments are those that the layer cannot do without, as in tower's own methods. For any other setting,
/// configure the layer and add it by tower's `layer`:
///
/// ```
/// # #[cfg(feature = "heartbeat")] {
/// use std::time::Duration;
/// use tower::ServiceBuilder;
/// use tower_transport::{ServiceBuilderExt, layer::heartbeat::HeartbeatLayer};
///
/// let seconds = Duration::from_secs;
/// let plain = ServiceBuilder::new().heartbeat(seconds(20), seconds(5));
/// let marked = ServiceBuilder::new().layer(HeartbeatLayer::new(seconds(20), seconds(5)).application_level());
/// # let _ = (plain, marked);
/// # }
/// ```
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

    /// On a client's transport: sends a token from `tokens` as the first message. Adds a
    /// [`FirstMessageLayer`](crate::layer::auth::FirstMessageLayer).
    #[cfg(feature = "auth")]
    #[cfg_attr(docsrs, doc(cfg(feature = "auth")))]
    fn first_message<S>(
        self,
        tokens: layer::auth::Tokens<S>,
    ) -> ServiceBuilder<Stack<layer::auth::FirstMessageLayer<S>, L>>
    where
        S: layer::auth::TokenSource,
    {
        self.push(layer::auth::FirstMessageLayer::new(tokens))
    }

    /// On a client's transport: sends a new token from `tokens` when the server asks for one. Adds a
    /// [`RenewLayer`](crate::layer::auth::RenewLayer).
    #[cfg(feature = "auth")]
    #[cfg_attr(docsrs, doc(cfg(feature = "auth")))]
    fn renew<S>(self, tokens: layer::auth::Tokens<S>) -> ServiceBuilder<Stack<layer::auth::RenewLayer<S>, L>>
    where
        S: layer::auth::TokenSource,
    {
        self.push(layer::auth::RenewLayer::new(tokens))
    }

    /// On a server's transport: ends the session when the token of `principal` expires. Adds an
    /// [`ExpiryLayer`](crate::layer::auth::ExpiryLayer), which can also renew the session.
    #[cfg(all(feature = "auth", not(target_arch = "wasm32")))]
    #[cfg_attr(docsrs, doc(cfg(feature = "auth")))]
    fn expiry(self, principal: &impl layer::auth::Principal) -> ServiceBuilder<Stack<layer::auth::ExpiryLayer, L>> {
        self.push(layer::auth::ExpiryLayer::new(principal))
    }

    /// On a server's HTTP service: accepts only handshakes that `verifier` authenticates. Adds an
    /// [`AuthGuardLayer`](crate::handshake::auth::AuthGuardLayer).
    #[cfg(all(feature = "auth", not(target_arch = "wasm32")))]
    #[cfg_attr(docsrs, doc(cfg(feature = "auth")))]
    fn auth_guard<V>(self, verifier: V) -> ServiceBuilder<Stack<crate::handshake::auth::AuthGuardLayer<V>, L>> {
        self.push(crate::handshake::auth::AuthGuardLayer::new(verifier))
    }

    /// On a server's HTTP service: accepts at most `total` connections at a time. Adds a
    /// [`ConnectionLimitLayer`](crate::handshake::limit::ConnectionLimitLayer), which can also limit them by key.
    #[cfg(all(feature = "limit", not(target_arch = "wasm32")))]
    #[cfg_attr(docsrs, doc(cfg(feature = "limit")))]
    fn connection_limit(self, total: usize) -> ServiceBuilder<Stack<crate::handshake::limit::ConnectionLimitLayer, L>> {
        self.push(crate::handshake::limit::ConnectionLimitLayer::new(total))
    }

    /// On a transport: packs many small messages into one. Adds a [`BatchLayer`](crate::layer::batch::BatchLayer).
    #[cfg(feature = "batch")]
    #[cfg_attr(docsrs, doc(cfg(feature = "batch")))]
    fn batch(self, policy: layer::batch::BatchPolicy) -> ServiceBuilder<Stack<layer::batch::BatchLayer, L>> {
        self.push(layer::batch::BatchLayer::new(policy))
    }

    /// On a connector: applies `layer`, an HTTP layer such as those of tower-http, or a stack of them, to each
    /// handshake. Adds an [`HttpLayer`](crate::layer::http::HttpLayer).
    #[cfg(all(any(feature = "websocket", feature = "sse"), not(target_arch = "wasm32")))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "websocket", feature = "sse"))))]
    fn http_layer<P>(self, layer: P) -> ServiceBuilder<Stack<layer::http::HttpLayer<P>, L>> {
        self.push(layer::http::HttpLayer::new(layer))
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

    /// On a transport: lets the peer subscribe to `topics` by the messages of `protocol`, and sends it what is
    /// published. Adds a [`TopicLayer`](crate::layer::topic::TopicLayer) that grants every request; to decide about
    /// them, make the layer yourself.
    #[cfg(feature = "topic")]
    #[cfg_attr(docsrs, doc(cfg(feature = "topic")))]
    fn topics<P: layer::topic::TopicProtocol>(
        self,
        topics: crate::topic::Topics<P::Topic, P::Message>,
        protocol: P,
        policy: crate::topic::Policy,
    ) -> ServiceBuilder<Stack<layer::topic::TopicLayer<P>, L>> {
        self.push(layer::topic::TopicLayer::new(topics, protocol, policy))
    }

    /// On a service: caches its answers by `key`, 10,000 of them for 60 s each. A request for which `key` returns
    /// `None` bypasses the cache. Adds a [`CacheLayer`](crate::layer::cache::CacheLayer) with one store for all
    /// services.
    ///
    /// **Requests with the same key share an answer**: if answers depend on the caller, put the caller into the key.
    #[cfg(all(feature = "cache", not(target_arch = "wasm32")))]
    #[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
    fn cache<Req, K, V, F>(self, key: F) -> ServiceBuilder<Stack<layer::cache::CacheLayer<K, V, F>, L>>
    where
        F: Fn(&Req) -> Option<K>,
    {
        self.push(layer::cache::CacheLayer::shared(key))
    }

    /// On a transport: deflates each message that is large enough, and limits how much a peer can make this end
    /// inflate. Adds a [`CompressionLayer`](crate::layer::compression::CompressionLayer).
    #[cfg(feature = "compression")]
    #[cfg_attr(docsrs, doc(cfg(feature = "compression")))]
    fn compress(
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

    /// On a transport: limits messages to `max_message` bytes, both ways. Adds a
    /// [`LimitLayer`](crate::layer::limit::LimitLayer), which can also limit idle time, lifetime and unflushed
    /// messages.
    #[cfg(feature = "limit")]
    #[cfg_attr(docsrs, doc(cfg(feature = "limit")))]
    fn limit(self, max_message: usize) -> ServiceBuilder<Stack<layer::limit::LimitLayer, L>> {
        self.push(layer::limit::LimitLayer::new().max_message(max_message))
    }

    /// On a transport: a heartbeat of your own messages, for protocols that have one (`{"op":"ping"}`). `ping` makes
    /// the ping of a number, which counts from 1, and `is_answer` tells the peer's answers from its other messages. The
    /// times are those of [`heartbeat`](Self::heartbeat). Adds a
    /// [`CustomHeartbeatLayer`](crate::layer::heartbeat::CustomHeartbeatLayer).
    #[cfg(feature = "heartbeat")]
    #[cfg_attr(docsrs, doc(cfg(feature = "heartbeat")))]
    fn custom_heartbeat<Out, In, P, A>(
        self,
        interval: std::time::Duration,
        timeout: std::time::Duration,
        ping: P,
        is_answer: A,
    ) -> ServiceBuilder<Stack<layer::heartbeat::CustomHeartbeatLayer<P, A>, L>>
    where
        P: FnMut(u32) -> Out,
        A: FnMut(&In) -> bool,
    {
        self.push(layer::heartbeat::HeartbeatLayer::new(interval, timeout).custom(ping, is_answer))
    }

    /// On a transport that is not driven: adds a bounded outgoing queue with a policy for when it is full. Adds a
    /// [`QueueLayer`](crate::layer::queue::QueueLayer).
    #[cfg(feature = "queue")]
    #[cfg_attr(docsrs, doc(cfg(feature = "queue")))]
    fn queue<Out, In>(
        self,
        queue: crate::QueueConfig<Out, In>,
    ) -> ServiceBuilder<Stack<layer::queue::QueueLayer<Out, In>, L>> {
        self.push(layer::queue::QueueLayer::new(queue))
    }

    /// On a transport: limits the messages of each connection to `quota`. Adds a
    /// [`RateLimitLayer::per_connection`](crate::layer::rate_limit::RateLimitLayer::per_connection). (`rate_limit` is
    /// tower's own method, for services.)
    #[cfg(feature = "rate-limit")]
    #[cfg_attr(docsrs, doc(cfg(feature = "rate-limit")))]
    fn limit_rate(
        self,
        quota: layer::rate_limit::Quota,
    ) -> ServiceBuilder<Stack<layer::rate_limit::RateLimitLayer, L>> {
        self.push(layer::rate_limit::RateLimitLayer::per_connection(quota))
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

    /// On a transport: records spans and metrics of a session whose purpose is `name`, on this `role`'s end. Adds a
    /// [`TraceLayer`](crate::layer::trace::TraceLayer), which can also carry trace context. `name` is a label of every
    /// metric, so do not derive it from data that a peer sends.
    #[cfg(feature = "trace")]
    #[cfg_attr(docsrs, doc(cfg(feature = "trace")))]
    fn trace(
        self,
        name: impl Into<std::borrow::Cow<'static, str>>,
        role: layer::trace::Role,
    ) -> ServiceBuilder<Stack<layer::trace::TraceLayer, L>> {
        self.push(layer::trace::TraceLayer::new(name, role))
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
