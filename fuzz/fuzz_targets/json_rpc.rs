//! Text messages for both ends of a JSON-RPC peer, one a line: requests, answers, batches, subscriptions, or anything.
//! A call and a subscription of this end are in flight. Whatever comes, the peer neither panics nor stops answering.
#![no_main]

use std::{
    future::{Ready, ready},
    task::{Context, Poll},
};

use futures_util::{FutureExt, SinkExt, StreamExt, stream};
use libfuzzer_sys::fuzz_target;
use tower_service::Service;
use tower_transport::{
    Message, channel,
    service::peer::{
        IncomingCall, JsonRpc, PeerBuilder, Reply,
        json_rpc::{JsonRpcError, JsonRpcRequest},
    },
};

type Values = stream::Iter<std::vec::IntoIter<Result<serde_json::Value, JsonRpcError>>>;

#[derive(Clone)]
struct Handler;

impl Service<IncomingCall<JsonRpcRequest>> for Handler {
    type Response = Reply<serde_json::Value, Values>;
    type Error = JsonRpcError;
    type Future = Ready<Result<Self::Response, JsonRpcError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), JsonRpcError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: IncomingCall<JsonRpcRequest>) -> Self::Future {
        ready(match call.request.method.as_str() {
            "s" => Ok(Reply::Stream(stream::iter(vec![Ok(1.into()), Ok(2.into())]))),
            "e" => Err(JsonRpcError::new(1, "e")),
            _ => Ok(Reply::One(call.request.params.unwrap_or_default())),
        })
    }
}

fuzz_target!(|input: &str| {
    let (mut far, near) = channel::<Message, Message>(1024);
    let protocol = JsonRpc::new().subscription("s", "i", "u").cancel_method("c");
    let (mut caller, mut peer) = PeerBuilder::new(protocol).build(near, Handler);
    let mut call = caller.clone();
    let ready = call.poll_ready(&mut Context::from_waker(futures_util::task::noop_waker_ref()));
    assert!(ready.is_ready());
    let _call = call.call(JsonRpcRequest::new("a", serde_json::Value::Null));
    let mut subscription = caller
        .stream(JsonRpcRequest::new("s", serde_json::Value::Null), false)
        .now_or_never()
        .expect("there is a place")
        .expect("it has not ended");
    for line in input.lines().take(500) {
        let _ = far.send(Message::text(line.to_owned())).now_or_never();
    }
    for _ in 0..20 {
        while let Some(Some(_)) = subscription.next().now_or_never() {}
        let _ = (&mut peer).now_or_never();
        while let Some(Some(_)) = far.next().now_or_never() {}
    }
    // A valid request still has its answer.
    let request = r#"{"jsonrpc":"2.0","method":"x","params":["the last"],"id":"last"}"#;
    if far.send(Message::text(request)).now_or_never().is_some_and(|sent| sent.is_ok()) {
        for _ in 0..20 {
            let _ = (&mut peer).now_or_never();
            while let Some(Some(Ok(message))) = far.next().now_or_never() {
                if message.as_text().is_some_and(|text| text.contains("the last")) {
                    return;
                }
            }
        }
        panic!("the peer no longer answers");
    }
});
