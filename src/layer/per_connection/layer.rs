use tower_layer::Layer;

use super::PerConnection;

/// Puts a transport layer on each connection that a connector makes. See the [module](super) for the whole story.
#[derive(Clone, Debug)]
pub struct PerConnectionLayer<L> {
    layer: L,
}

impl<L> PerConnectionLayer<L> {
    /// Each transport gets `layer`: one layer, or a whole `ServiceBuilder` stack of them.
    #[must_use]
    pub const fn new(layer: L) -> Self {
        Self { layer }
    }
}

impl<S, L: Clone> Layer<S> for PerConnectionLayer<L> {
    type Service = PerConnection<S, L>;

    fn layer(&self, connector: S) -> PerConnection<S, L> {
        PerConnection::new(connector, self.layer.clone())
    }
}
