//! tower's `option_layer` is for services.

use std::time::Duration;

use tower::ServiceBuilder;
use tower_transport::{Message, TransportExt, channel, layer::heartbeat::HeartbeatLayer};

async fn send() {
    let (here, _there) = channel::<Message, Message>(1);
    let layer = Some(HeartbeatLayer::new(Duration::from_secs(20), Duration::from_secs(20)));
    let mut transport = ServiceBuilder::new().option_layer(layer).service(here);
    transport.send_message(Message::text("hello")).await.unwrap();
}

fn main() {}
