use tower_layer::Layer;

use super::PerConnection;

/// A layer that applies a transport layer to each connection that a connector makes. See the [module](super) for the
/// complete documentation.
#[derive(Clone, Debug)]
pub struct PerConnectionLayer<L> {
    layer: L,
}

impl<L> PerConnectionLayer<L> {
    /// Creates a layer that applies `layer` to each transport: one layer, or a whole `ServiceBuilder` stack.
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
