use std::{future::ready, num::NonZeroUsize, time::Duration};

use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_transport::{
    Error, ServiceBuilderExt, TransportExt,
    codec::RkyvCodec,
    service::{Client, Server, Tagged},
};

use crate::transports::{carrier::Carrier, value::Value};

fn doubled(mut value: Value) -> Value {
    value.number *= 2;
    value.payload.reverse();
    value
}

fn request(number: u64) -> Value {
    Value { number, payload: (0..number as u8).collect() }
}

pub(crate) async fn a_service_answers_calls_in_order<C: Carrier>() {
    let (near, far) = C::open(Vec::new()).await.connect().await;
    let codec = || RkyvCodec::<Value>::new();
    let far = ServiceBuilder::new().codec(codec()).service(far);
    let serving = tokio::spawn(Server::in_order(far, service_fn(|value| ready(Ok::<_, Error>(doubled(value))))));
    let mut client = Client::in_order(ServiceBuilder::new().codec(codec()).service(near));
    for number in 0..200 {
        assert_eq!(client.ready().await.unwrap().call(request(number)).await.unwrap(), doubled(request(number)));
    }
    // A client that hangs up ends the server, without an error if the transport has a closing handshake.
    drop(client);
    let ended = serving.await.unwrap();
    assert!(ended.as_ref().map_or_else(Error::is_closed, |()| true), "{ended:?}");
}

pub(crate) async fn a_service_answers_many_calls_at_once_as_they_finish<C: Carrier>() {
    let (near, far) = C::open(Vec::new()).await.connect().await;
    let codec = || RkyvCodec::<Tagged<Value>>::new();
    let far = ServiceBuilder::new().codec(codec()).service(far).into_boxed();
    // Each takes another time, so that answers overtake one another.
    let service = service_fn(async |value: Value| {
        tokio::time::sleep(Duration::from_millis(value.number * 7 % 5)).await;
        Ok::<_, Error>(doubled(value))
    });
    tokio::spawn(Server::as_they_finish(far, service).concurrency(NonZeroUsize::new(32).unwrap()));
    let client = Client::by_tag(ServiceBuilder::new().codec(codec()).service(near));
    let calls: Vec<_> = (0..500).map(|number| tokio::spawn(client.clone().oneshot(request(number)))).collect();
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap(), doubled(request(number as u64)));
    }
    assert_eq!((client.in_flight(), client.unknown_answers()), (0, 0));
}
