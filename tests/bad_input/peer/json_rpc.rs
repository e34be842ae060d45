//! Lies and floods in JSON-RPC 2.0.

use futures_util::{FutureExt, StreamExt, stream};
use serde_json::{Value, json};
use tower_transport::{
    Message,
    service::peer::{
        IncomingCall, JsonRpc, PeerBuilder, Reply,
        json_rpc::{JsonRpcError, JsonRpcRequest, code},
    },
};

use super::{KIB, MIB, Victim};
use crate::allocator::Growth;

fn victim() -> Victim<JsonRpc> {
    let protocol = JsonRpc::new().subscription("subscribe", "item", "unsubscribe").cancel_method("cancel");
    Victim::new(PeerBuilder::new(protocol), |call: IncomingCall<JsonRpcRequest>| {
        async move {
            match call.request.method.as_str() {
                "echo" => Ok(Reply::One(call.request.params.unwrap_or_default())),
                "subscribe" => Ok(Reply::Stream(stream::pending().boxed())),
                "never" => std::future::pending().await,
                method => Err(JsonRpcError::method_not_found(method)),
            }
        }
        .boxed()
    })
}

impl Victim<JsonRpc> {
    fn text(&mut self, text: impl Into<String>) -> bool {
        self.send(Message::text(text.into()))
    }

    fn json(&mut self) -> Option<Value> {
        let message = self.receive()?;
        Some(serde_json::from_str(message.as_text().unwrap()).unwrap())
    }

    fn assert_serves(&mut self) {
        assert!(self.text(r#"{"jsonrpc":"2.0","method":"echo","params":["still here"],"id":"last"}"#));
        let found = std::iter::from_fn(|| self.json())
            .any(|answer| answer == json!({"jsonrpc": "2.0", "result": ["still here"], "id": "last"}));
        assert!(found, "it no longer answers");
    }
}

#[test]
fn identifiers_without_bound_are_not_kept() {
    let mut victim = victim();
    let long = "x".repeat(64 * KIB);
    assert!(victim.text(format!(r#"{{"jsonrpc":"2.0","method":"never","id":"{long}"}}"#)));
    let refused = victim.json().unwrap();
    assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(code::INVALID_REQUEST), &Value::Null));

    let growth = Growth::start();
    let mut sent = 0;
    while sent < 6000 && victim.text(format!(r#"{{"jsonrpc":"2.0","method":"never","id":"{sent}{long}"}}"#)) {
        sent += 1;
    }
    println!("{sent} requests with identifiers of 64 KiB: {} KiB at most", growth.peak() / KIB);
    // The channel itself holds 64 of them, in strings of twice the size.
    assert!(growth.peak() < 10 * MIB, "{}", growth.peak());
    drop(victim.received());
    victim.assert_serves();
}

/// Each batch has one call that never ends, and many entries whose answers have to wait for it.
#[test]
fn batches_that_never_end_hold_a_bounded_number_of_answers() {
    let mut victim = victim();
    let growth = Growth::start();
    let invalid = "1,".repeat(1023);
    for number in 0..1024 {
        assert!(victim.text(format!(r#"[{invalid}{{"jsonrpc":"2.0","method":"never","id":{number}}}]"#)));
        while victim.receive().is_some() {}
    }
    println!("1,024 batches that never end: {} KiB at most", growth.peak() / KIB);
    assert!(growth.peak() < 16 * MIB, "{}", growth.peak());
    victim.assert_serves();
}

#[test]
fn a_subscription_that_is_cancelled_in_its_own_batch_leaves_no_batch_behind() {
    let mut victim = victim();
    let growth = Growth::start();
    for number in 0..20_000_u64 {
        let batch: Vec<_> = std::iter::once(json!({"jsonrpc": "2.0", "method": "subscribe", "id": "a"}))
            // The number that the subscription will have is easily guessed.
            .chain(
                (2 * number..2 * number + 6)
                    .map(|guess| json!({"jsonrpc": "2.0", "method": "unsubscribe", "params": [guess], "id": "b"})),
            )
            .collect();
        assert!(victim.text(Value::from(batch).to_string()));
        let answers = victim.json().expect("the batch is answered");
        assert_eq!(answers.as_array().unwrap().len(), 7);
        let subscribed = answers.as_array().unwrap().iter().find(|answer| answer["id"] == "a").unwrap();
        let name = &subscribed["result"];
        assert!(victim.text(json!({"jsonrpc": "2.0", "method": "unsubscribe", "params": [name], "id": 1}).to_string()));
        assert_eq!(victim.json().unwrap()["result"], true, "{subscribed}");
    }
    println!("20,000 subscriptions, cancelled in their batch: {} KiB at most", growth.peak() / KIB);
    assert!(growth.peak() < 256 * KIB, "{}", growth.peak());
}

#[test]
fn a_server_that_names_a_subscription_again_and_again_costs_no_memory() {
    let mut victim = victim();
    let mut caller = victim.caller.clone();
    let subscribe = JsonRpcRequest::new("subscribe", Value::Null);
    let mut subscription = caller.stream(subscribe, false).now_or_never().unwrap().unwrap();
    let id = victim.json().unwrap()["id"].clone();
    let growth = Growth::start();
    for name in 0..100_000 {
        assert!(victim.text(json!({"jsonrpc": "2.0", "result": name, "id": id}).to_string()));
    }
    println!("a subscription with 100,000 names: {} KiB at most", growth.peak() / KIB);
    assert!(growth.peak() < 96 * KIB, "{}", growth.peak());
    // The first name holds.
    assert!(victim.text(r#"{"jsonrpc":"2.0","method":"item","params":{"subscription":7,"result":"stray"}}"#));
    assert!(victim.text(r#"{"jsonrpc":"2.0","method":"item","params":{"subscription":0,"result":"an item"}}"#));
    victim.run();
    assert_eq!(subscription.next().now_or_never().unwrap().unwrap().unwrap(), "an item");
    drop(subscription);
    assert_eq!(victim.json().unwrap()["params"], json!([0]));
    assert_eq!(victim.caller.in_flight(), 0);
}

#[test]
fn a_server_that_gives_two_subscriptions_one_name_or_a_long_one_fails_the_call_alone() {
    let mut victim = victim();
    let mut subscribe = || {
        let mut caller = victim.caller.clone();
        let subscribe = JsonRpcRequest::new("subscribe", Value::Null);
        let subscription = caller.stream(subscribe, false).now_or_never().unwrap().unwrap();
        (subscription, victim.json().unwrap()["id"].clone())
    };
    let ((mut first, one), (mut second, two), (mut third, three)) = (subscribe(), subscribe(), subscribe());
    let long = "x".repeat(64 * KIB);
    for (name, id) in [("name", one), ("name", two), (long.as_str(), three)] {
        assert!(victim.text(json!({"jsonrpc": "2.0", "result": name, "id": id}).to_string()));
    }
    victim.run();
    for refused in [&mut second, &mut third] {
        let error = refused.next().now_or_never().unwrap().unwrap().unwrap_err();
        assert_eq!(error.failure().unwrap().code, code::INTERNAL_ERROR, "{error}");
    }
    assert!(victim.text(r#"{"jsonrpc":"2.0","method":"item","params":{"subscription":"name","result":1}}"#));
    victim.run();
    assert_eq!(first.next().now_or_never().unwrap().unwrap().unwrap(), 1);
}

#[test]
fn nesting_without_end_is_refused_and_the_connection_goes_on() {
    let mut victim = victim();
    for open in ["[", r#"{"a":"#, r#"[{"jsonrpc":"2.0","method":"echo","id":1,"params":["#] {
        for depth in [129, 200_000] {
            let growth = Growth::start();
            assert!(victim.text(open.repeat(depth)));
            victim.run();
            // The message itself waits in the channel, and is dropped.
            assert!(growth.peak() < 2 * open.len() * depth + 64 * KIB, "{}", growth.peak());
            let refused = victim.json().unwrap();
            assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(code::PARSE_ERROR), &Value::Null));
        }
    }
    victim.assert_serves();
}

#[test]
fn a_batch_over_the_limit_is_not_taken_apart() {
    let mut victim = victim();
    let entries = "{},".repeat(1_000_000);
    let message = Message::text(format!("[{}{{}}]", entries));
    let growth = Growth::start();
    assert!(victim.send(message));
    let refused = victim.json().unwrap();
    println!("a batch of 1,000,001 entries in 3 MB: {} KiB at most", growth.peak() / KIB);
    assert_eq!(refused["error"]["code"], code::INVALID_REQUEST);
    assert!(growth.peak() < MIB, "{}", growth.peak());
    victim.assert_serves();
}

/// JSON whose values are far larger in memory than on the wire.
#[test]
fn a_message_of_small_objects_costs_a_bounded_multiple_of_its_size() {
    let mut victim = victim();
    for (entry, times) in [(r#"{"":0},"#, 110), ("[],", 40), ("0,", 40), (r#""","#, 40), ("[0],", 80)] {
        let entries = entry.repeat(MIB / entry.len());
        let text = format!(r#"{{"jsonrpc":"2.0","method":"nobody","params":[{entries}0]}}"#);
        let (size, message) = (text.len(), Message::text(text));
        let growth = Growth::start();
        assert!(victim.send(message));
        victim.run();
        println!("{} KiB of {entry:?}: {} KiB at most", size / KIB, growth.peak() / KIB);
        assert!(growth.peak() < times * size, "{}", growth.peak());
    }
    victim.assert_serves();
}

#[test]
fn cancellations_of_calls_that_never_were_cost_nothing() {
    let mut victim = victim();
    let growth = Growth::start();
    for id in 0..200_000 {
        assert!(victim.text(format!(r#"{{"jsonrpc":"2.0","method":"cancel","params":{{"id":{id}}}}}"#)));
    }
    assert!(growth.peak() < 128 * KIB, "{}", growth.peak());
    victim.assert_serves();
}
