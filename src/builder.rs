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

    /// On a connector: each handshake carries a token of a source: [`AuthLayer`](crate::layer::auth::AuthLayer).
    #[cfg(feature = "auth")]
    #[cfg_attr(docsrs, doc(cfg(feature = "auth")))]
    fn auth<S>(
        self,
        tokens: crate::layer::auth::Tokens<S>,
    ) -> ServiceBuilder<Stack<crate::layer::auth::AuthLayer<S>, L>>
    where
        S: crate::layer::auth::TokenSource;

    // trait: batch

    // trait: cache

    // trait: compression

    // trait: heartbeat

    // trait: limit

    // trait: queue

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

    // impl: batch

    // impl: cache

    // impl: compression

    // impl: heartbeat

    // impl: limit

    // impl: queue

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
