use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use tower_transport::{
    Message, TransportExt,
    layer::{
        heartbeat::HeartbeatLayer,
        reconnect::Backoff,
        resume::{ResumeLayer, Verdict},
    },
    stack::{Capabilities, OptimizedAcceptor, OptimizedBuilder, OptimizedTransport},
};

use crate::transports::{
    carrier::{Carrier, Cuts, Route, Wire},
    cuts::budgets,
    stack::watch,
    value::noise,
};

fn builder<C: Carrier>() -> OptimizedBuilder {
    let heartbeat = HeartbeatLayer::new(Duration::from_millis(100), Duration::from_millis(400));
    OptimizedTransport::builder()
        .heartbeat(if C::NEEDS_ANSWERS { heartbeat.answer_pings() } else { heartbeat })
        .resume(ResumeLayer::new().ack_delay(Duration::from_millis(5)))
        .backoff(Backoff::fixed(Duration::from_millis(2)))
}

/// Sends back what comes in.
async fn echo(transport: OptimizedTransport<Wire>) {
    let (sender, mut receiver) = transport.split();
    while let Some(Ok(message)) = receiver.receive().await {
        if message.is_data() && sender.send(message).await.is_err() {
            return;
        }
    }
}

async fn connect<C: Carrier>(budgets: Vec<usize>) -> (OptimizedTransport<Wire>, Cuts) {
    let Route { dial, url, mut arrivals, cuts } = C::open(budgets).await;
    let acceptor: OptimizedAcceptor<Wire> = builder::<C>().acceptor();
    tokio::spawn(async move {
        while let Some(arrival) = arrivals.recv().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(Some(session)) = acceptor.accept_over(arrival.wire, arrival.is_known).await {
                    echo(session).await;
                }
            });
        }
    });
    // The first connection may be cut too.
    (builder::<C>().connect_lazily(dial, url), cuts)
}

/// Compressible or not, tiny or not.
fn nth(number: u64) -> Message {
    match number % 50 {
        7 => Message::text("so it goes ".repeat(500)),
        9 => Message::binary(noise(5000, number)),
        size => Message::binary([&number.to_le_bytes()[..], &noise(size as usize, number)].concat()),
    }
}

async fn round_trips(transport: OptimizedTransport<Wire>, messages: u64) {
    let (sender, mut receiver) = transport.split();
    let saying = tokio::spawn(async move {
        for number in 0..messages {
            sender.send(nth(number)).await.unwrap();
        }
        sender
    });
    for number in 0..messages {
        let message = loop {
            let message = receiver.receive().await.expect("it goes on").unwrap();
            if message.is_data() {
                break message;
            }
        };
        assert!(message == nth(number), "number {number}");
    }
    drop(saying.await.unwrap());
}

pub(crate) async fn the_recommended_stack_agrees_on_all_it_has<C: Carrier>() {
    let (mut transport, _) = connect::<C>(Vec::new()).await;
    transport.send_message(Message::text("hello")).await.unwrap();
    assert_eq!(transport.receive_message().await.unwrap().unwrap(), Message::text("hello"));
    let agreed = transport.capabilities();
    assert!(agreed.batch() && agreed.compression() && agreed.resume(), "{agreed:?}");
    assert_eq!(transport.handle().resume().unwrap().verdict(), Some(Verdict::New));
    round_trips(transport, 2000).await;
}

pub(crate) async fn the_recommended_stack_loses_nothing_where_it_is_cut<C: Carrier>() {
    let (transport, cuts) = connect::<C>(budgets::<C>(5, 2)).await;
    let watching = watch(transport.handle().resume().unwrap());
    round_trips(transport, 2000).await;
    assert!(cuts.load(Relaxed) > 0, "nothing was cut");
    assert!(!watching.is_finished(), "the session was lost");
}

pub(crate) async fn a_peer_that_knows_nothing_gets_plain_messages<C: Carrier>() {
    // A client that offers nothing.
    let Route { dial, url, mut arrivals, .. } = C::open(Vec::new()).await;
    let request = http::Request::get(&url).body(()).unwrap();
    let near = tower::ServiceExt::oneshot(dial, request).await.unwrap();
    assert!(!near.headers().contains_key(http::header::SEC_WEBSOCKET_PROTOCOL));
    let arrival = arrivals.recv().await.unwrap();
    assert!(!arrival.is_known);
    let acceptor: OptimizedAcceptor<Wire> = builder::<C>().acceptor();
    let session = acceptor.accept_over(arrival.wire, false).await.unwrap().unwrap();
    assert_eq!(session.capabilities(), Capabilities::NONE);
    tokio::spawn(echo(session));
    let mut near = near.into_body();
    for message in [Message::text("plain"), nth(7), nth(9)] {
        near.send_message(message.clone()).await.unwrap();
        assert!(near.receive_message().await.unwrap().unwrap() == message);
    }
}
