//! A layer that is on or off at run time.

use std::time::Duration;

use futures_util::FutureExt;
use tower::{Layer, ServiceBuilder};
use tower_transport::{
    Channel, Message, ServiceBuilderExt, TransportExt, channel, contract_tests,
    layer::{
        heartbeat::{Heartbeat, HeartbeatLayer},
        optional::{Optional, OptionalLayer},
    },
};

const LAYER: HeartbeatLayer = HeartbeatLayer::new(Duration::from_secs(20), Duration::from_secs(5));

type End = Optional<Heartbeat<Channel>, Channel>;

fn end(layer: Option<HeartbeatLayer>, transport: Channel) -> End {
    ServiceBuilder::new().optional(layer).service(transport)
}

fn pair(layer: Option<HeartbeatLayer>) -> (End, End) {
    let (here, there) = channel::<Message, Message>(1);
    (end(layer.clone(), here), end(layer, there))
}

fn nth(i: usize) -> Message {
    Message::text(i.to_string())
}

contract_tests!(mod on, pair = pair(Some(LAYER)), message = nth, on = paused_tokio);
contract_tests!(mod off, pair = pair(None), message = nth, on = paused_tokio);

#[tokio::test(start_paused = true)]
async fn a_layer_that_is_on_works_as_it_does_alone() {
    let (here, mut there) = channel::<Message, Message>(1);
    let mut here = end(Some(LAYER), here);
    assert!(here.is_on());
    assert!(tokio::time::timeout(Duration::from_secs(21), here.receive_message()).await.is_err());
    assert!(matches!(there.receive_message().await, Some(Ok(Message::Ping(_)))));
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_is_off_is_absent() {
    let (here, mut there) = channel::<Message, Message>(1);
    let mut here = end(None, here);
    assert!(!here.is_on());
    assert!(tokio::time::timeout(Duration::from_secs(9999), here.receive_message()).await.is_err());
    assert!(there.receive_message().now_or_never().is_none());
    let Optional::Off { transport } = OptionalLayer::from(None::<HeartbeatLayer>).layer(there) else { panic!("on") };
    drop(transport);
    assert!(here.receive_message().await.is_none());
}
