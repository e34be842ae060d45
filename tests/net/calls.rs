//! Calls over real sockets that are cut: each one ends, and says whether it may have been executed.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::timeout;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_transport::{
    BoxTransport, Error, Message, ServiceBuilderExt, TransportExt,
    codec::JsonCodec,
    layer::{
        codec::CodecLayer,
        reconnect::{Backoff, Keep, ReconnectLayer, WhenLost},
    },
    service::{Client, Server, Tagged},
    transport::websocket::{WebSocketConnector, WebSocketService},
};

use crate::{proxy::Proxy, serve::serve};

/// The numbers that the server has doubled.
type Executed = Arc<Mutex<HashSet<u64>>>;

async fn server(in_order: bool) -> (SocketAddr, Executed) {
    let executed = Executed::default();
    let seen = executed.clone();
    let double = service_fn(move |number: u64| {
        seen.lock().unwrap().insert(number);
        async move {
            if number.is_multiple_of(3) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok::<_, Error>(2 * number)
        }
    });
    let upgrade = WebSocketService::new(move |socket, _| {
        let double = double.clone();
        async move {
            // A connection that is cut ends its server with an error.
            let _ = match in_order {
                true => Server::in_order(CodecLayer::new(JsonCodec::<u64>::new()).layer(socket), double).await,
                false => {
                    let codec = CodecLayer::new(JsonCodec::<Tagged<u64>>::new());
                    Server::as_they_finish(codec.layer(socket), double).await
                }
            };
        }
    });
    (serve(upgrade).await, executed)
}

fn policies() -> [(&'static str, WhenLost<Message>); 3] {
    [("fail", WhenLost::Fail), ("drop", WhenLost::Drop), ("keep", WhenLost::Keep(Keep::messages()))]
}

fn reconnecting(address: SocketAddr, when_lost: WhenLost<Message>) -> ReconnectLayer {
    let uri: http::Uri = format!("ws://{address}/").parse().unwrap();
    ReconnectLayer::new(uri, Backoff::fixed(Duration::from_millis(5))).when_lost(when_lost)
}

fn in_order(address: SocketAddr, when_lost: WhenLost<Message>) -> Client<BoxTransport<u64, u64>, u64, u64> {
    let stack = ServiceBuilder::new().codec(JsonCodec::new()).layer(reconnecting(address, when_lost));
    Client::in_order(stack.service(WebSocketConnector::new()).into_boxed())
}

/// Cuts in the handshake, between calls and in the middle of frames.
fn budgets() -> Vec<usize> {
    (0..40).map(|cut| 150 + cut * 37 % 900).collect()
}

/// Makes eight calls at once, and returns their outcomes by their numbers.
async fn eight_calls<S>(name: &str, client: &S, round: u64) -> Vec<(u64, Result<u64, Error>)>
where
    S: Service<u64, Response = u64, Error = Error> + Clone,
{
    let calls = (8 * round..8 * round + 8).map(|number| {
        let client = client.clone();
        async move { (number, client.oneshot(number).await) }
    });
    let ended = timeout(Duration::from_secs(60), futures_util::future::join_all(calls)).await;
    ended.unwrap_or_else(|_| panic!("{name}: a call hangs"))
}

/// Checks the outcome of each call against what the server has executed.
fn check(name: &str, outcomes: Vec<(u64, Result<u64, Error>)>, executed: &Executed) {
    let executed = executed.lock().unwrap();
    let (mut answered, mut uncertain) = (0, 0);
    for (number, outcome) in outcomes {
        match outcome {
            Ok(answer) => {
                assert_eq!(answer, 2 * number, "{name}: another call's answer");
                answered += 1;
            }
            Err(error) => {
                assert!(error.is_closed(), "{name}: {error:?}");
                uncertain += usize::from(error.may_have_been_executed());
                let is_known = error.may_have_been_executed() || !executed.contains(&number);
                assert!(is_known, "{name}: {number} was executed, which the error denies: {error:?}");
            }
        }
    }
    assert!(answered > 0 && uncertain > 0, "{name}: {answered} answered, {uncertain} lost");
}

#[tokio::test]
async fn in_order_each_call_over_connections_that_are_cut_ends_with_its_own_answer_or_a_cause() {
    for (name, when_lost) in policies() {
        let (address, executed) = server(true).await;
        let proxy = Proxy::start(address, budgets()).await;
        let mut client = in_order(proxy.address, when_lost.clone());
        let mut outcomes = Vec::new();
        for round in 0..100 {
            outcomes.extend(eight_calls(name, &client, round).await);
            // A client in order ends at a loss with calls in flight; its user makes another.
            if outcomes.last().is_some_and(|(_, outcome)| outcome.is_err()) {
                client = in_order(proxy.address, when_lost.clone());
            }
        }
        assert!(proxy.cuts.load(Relaxed) > 5, "{name}: nothing was cut");
        check(name, outcomes, &executed);
    }
}

#[tokio::test]
async fn by_tag_each_call_over_connections_that_are_cut_ends_with_its_own_answer_or_a_cause() {
    for (name, when_lost) in policies() {
        let (address, executed) = server(false).await;
        let proxy = Proxy::start(address, budgets()).await;
        let codec = CodecLayer::new(JsonCodec::<Tagged<u64>>::new());
        let stack = ServiceBuilder::new().layer(codec).layer(reconnecting(proxy.address, when_lost));
        let client = Client::by_tag(stack.service(WebSocketConnector::new()).into_boxed());
        let mut outcomes = Vec::new();
        for round in 0..100 {
            outcomes.extend(eight_calls(name, &client, round).await);
        }
        assert!(proxy.cuts.load(Relaxed) > 5, "{name}: nothing was cut");
        check(name, outcomes, &executed);
    }
}
