//! A value that rkyv does not know.

use tower::ServiceBuilder;
use tower_transport::{Message, ServiceBuilderExt, TransportExt, channel, codec::RkyvCodec};

struct Order {
    id: u64,
}

async fn send() {
    let (here, _there) = channel::<Message, Message>(1);
    let mut transport = ServiceBuilder::new().codec(RkyvCodec::<Order>::new()).service(here);
    transport.send_message(Order { id: 1 }).await.unwrap();
}

fn main() {}
