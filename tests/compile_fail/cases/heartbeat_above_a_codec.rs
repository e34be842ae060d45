//! A layer of messages above a codec, where there are values.

use std::time::Duration;

use tower::ServiceBuilder;
use tower_transport::{Message, ServiceBuilderExt, TransportExt, channel, codec::JsonCodec};

async fn send() {
    let (here, _there) = channel::<Message, Message>(1);
    let mut transport = ServiceBuilder::new()
        .heartbeat(Duration::from_secs(20), Duration::from_secs(20))
        .codec(JsonCodec::<String>::new())
        .service(here);
    transport.send_message("hello".to_owned()).await.unwrap();
}

fn main() {}
