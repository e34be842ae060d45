//! A layer of a transport on a connector.

use std::time::Duration;

use tower::{ServiceBuilder, ServiceExt};
use tower_transport::{ServiceBuilderExt, transport::websocket::WebSocketConnector};

async fn connect(request: http::Request<()>) {
    let connector = ServiceBuilder::new()
        .heartbeat(Duration::from_secs(20), Duration::from_secs(20))
        .service(WebSocketConnector::new());
    connector.oneshot(request).await.unwrap();
}

fn main() {}
