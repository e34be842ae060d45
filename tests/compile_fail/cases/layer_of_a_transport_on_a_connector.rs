//! A codec fits the transport, not the connector: it goes into `.per_connection(..)`.

use tower::{ServiceBuilder, ServiceExt};
use tower_transport::{ServiceBuilderExt, codec::RkyvCodec, transport::websocket::WebSocketConnector};

async fn connect(request: http::Request<()>) {
    let connector = ServiceBuilder::new().codec(RkyvCodec::<String>::new()).service(WebSocketConnector::new());
    connector.oneshot(request).await.unwrap();
}

fn main() {}
