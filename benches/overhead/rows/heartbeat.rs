use tower_transport::layer::heartbeat::HeartbeatLayer;

use super::{Row, message, through};

pub(super) fn rows() -> Vec<Row> {
    vec![Row { name: HEARTBEAT, run: |messages| through(HeartbeatLayer::default(), message(), messages) }]
}

pub(crate) const HEARTBEAT: &str = "+ heartbeat";
