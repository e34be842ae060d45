//! JSON-RPC 2.0 as the wire of calls, against a peer that the test plays with plain text.

use std::{
    future::pending,
    task::{Context, Poll},
};

use futures_util::{
    FutureExt, SinkExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tower::{Service, ServiceExt};
use tower_transport::{
    Channel, Error, Message, TransportExt, channel,
    layer::limit::LimitLayer,
    service::peer::{
        CallError, Caller, IncomingCall, JsonRpc, PeerBuilder, Reply,
        json_rpc::{JsonRpcError, JsonRpcRequest, code},
    },
};

type Values = BoxStream<'static, Result<Value, JsonRpcError>>;
type Answer = Result<Reply<Value, Values>, JsonRpcError>;

/// The methods of the specification's examples, and some more.
#[derive(Clone)]
struct Methods;

impl Service<IncomingCall<JsonRpcRequest>> for Methods {
    type Response = Reply<Value, Values>;
    type Error = JsonRpcError;
    type Future = BoxFuture<'static, Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), JsonRpcError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: IncomingCall<JsonRpcRequest>) -> Self::Future {
        async move {
            let request = call.request;
            Ok(Reply::One(match request.method.as_str() {
                "subtract" => match request.params {
                    Some(Value::Object(named)) => {
                        json!(named["minuend"].as_i64().unwrap() - named["subtrahend"].as_i64().unwrap())
                    }
                    _ => {
                        let (minuend, subtrahend): (i64, i64) = request.parse()?;
                        json!(minuend - subtrahend)
                    }
                },
                "sum" => json!(request.parse::<Vec<i64>>()?.into_iter().sum::<i64>()),
                "get_data" => json!(["hello", 5]),
                "update" | "foobar" | "notify_hello" | "notify_sum" if call.is_notification => Value::Null,
                "echo" => request.params.unwrap_or_default(),
                "long" => json!("x".repeat(300)),
                "never" => pending().await,
                "panic" => panic!("the handler panics"),
                "count_subscribe" => {
                    let (to,): (u64,) = request.parse()?;
                    return Ok(Reply::Stream(stream::iter((0..to).map(|number| Ok(json!(number)))).boxed()));
                }
                "endless_subscribe" => return Ok(Reply::Stream(stream::repeat_with(|| Ok(json!(0))).boxed())),
                "failing_subscribe" => {
                    let failing = [Ok(json!(1)), Err(JsonRpcError::new(7, "broken"))];
                    return Ok(Reply::Stream(stream::iter(failing).boxed()));
                }
                method => return Err(JsonRpcError::method_not_found(method)),
            }))
        }
        .boxed()
    }
}

fn protocol() -> JsonRpc {
    ["count", "endless", "failing"]
        .into_iter()
        .fold(JsonRpc::new(), |protocol, name| {
            protocol.subscription(format!("{name}_subscribe"), name, format!("{name}_unsubscribe"))
        })
        .cancel_method("$/cancelRequest")
}

struct Script {
    caller: Caller<JsonRpc>,
    peer: JoinHandle<Result<(), Error>>,
    far: Channel,
}

fn script() -> Script {
    let (near, far) = channel::<Message, Message>(256);
    let (caller, peer) = PeerBuilder::new(protocol()).build(near, Methods);
    Script { caller, peer: tokio::spawn(peer), far }
}

/// The same, over a transport whose messages have at most 300 bytes.
fn narrow_script() -> Script {
    let (near, far) = channel::<Message, Message>(256);
    let near = near.layer(LimitLayer::new().max_outgoing(300));
    let (caller, peer) = PeerBuilder::new(protocol()).build(near, Methods);
    Script { caller, peer: tokio::spawn(peer), far }
}

impl Script {
    async fn send(&mut self, text: &str) {
        self.far.send(Message::text(text)).await.unwrap();
    }

    async fn receive(&mut self) -> Value {
        let message = self.far.next().await.unwrap().unwrap();
        serde_json::from_str(message.as_text().unwrap()).unwrap()
    }

    async fn settle(&mut self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    async fn assert_silent(&mut self) {
        self.settle().await;
        assert!(self.far.next().now_or_never().is_none());
    }
}

/// Section 7 of the specification, each example as it stands there. The texts of errors are ours.
#[tokio::test]
async fn the_examples_of_the_specification() {
    let mut script = script();
    for (sent, answer) in [
        (r#"{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}"#, json!({"result": 19, "id": 1})),
        (r#"{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}"#, json!({"result": -19, "id": 2})),
        (
            r#"{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}"#,
            json!({"result": 19, "id": 3}),
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": "4"}"#,
            json!({"result": 19, "id": "4"}),
        ),
        (r#"{"jsonrpc": "2.0", "method": "unknown", "id": "1"}"#, json!({"error": -32601, "id": "1"})),
        (r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#, json!({"error": -32700, "id": null})),
        (r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#, json!({"error": -32600, "id": null})),
        (
            r#"[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method"]"#,
            json!({"error": -32700, "id": null}),
        ),
        ("[]", json!({"error": -32600, "id": null})),
    ] {
        script.send(sent).await;
        assert_eq!(without_texts(script.receive().await), with_version(answer), "{sent}");
    }

    for notification in [
        r#"{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}"#,
        r#"{"jsonrpc": "2.0", "method": "foobar"}"#,
        r#"[{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
            {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}]"#,
    ] {
        script.send(notification).await;
        script.assert_silent().await;
    }

    for (batch, answers) in [
        ("[1]", vec![json!({"error": -32600, "id": null})]),
        ("[1,2,3]", vec![json!({"error": -32600, "id": null}); 3]),
        (
            r#"[
                {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
                {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
                {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
                {"foo": "boo"},
                {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
                {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
            ]"#,
            vec![
                json!({"result": 7, "id": "1"}),
                json!({"result": 19, "id": "2"}),
                json!({"error": -32600, "id": null}),
                json!({"error": -32601, "id": "5"}),
                json!({"result": ["hello", 5], "id": "9"}),
            ],
        ),
    ] {
        script.send(batch).await;
        let Value::Array(mut received) = script.receive().await else { panic!("{batch} is not answered by a batch") };
        let mut expected: Vec<_> = answers.into_iter().map(with_version).collect();
        // "The Response objects being returned from a batch call MAY be returned in any order".
        received = received.into_iter().map(without_texts).collect();
        for list in [&mut received, &mut expected] {
            list.sort_by_key(ToString::to_string);
        }
        assert_eq!(received, expected, "{batch}");
    }
}

/// Reduces an error object to its code.
fn without_texts(mut answer: Value) -> Value {
    if let Some(error) = answer.get_mut("error") {
        *error = error["code"].clone();
    }
    answer
}

fn with_version(mut answer: Value) -> Value {
    answer["jsonrpc"] = json!("2.0");
    answer
}

#[tokio::test]
async fn calls_of_this_end_have_numbers_and_typed_errors() {
    let mut script = script();
    let call = tokio::spawn(script.caller.clone().oneshot(JsonRpcRequest::new("add", json!([1, 2]))));
    let sent = script.receive().await;
    assert_eq!((&sent["jsonrpc"], &sent["method"], &sent["params"]), (&json!("2.0"), &json!("add"), &json!([1, 2])));
    script.send(&json!({"jsonrpc": "2.0", "id": sent["id"], "result": 3}).to_string()).await;
    assert_eq!(call.await.unwrap().unwrap(), 3);

    let call = tokio::spawn(script.caller.clone().oneshot(JsonRpcRequest::new("add", Value::Null)));
    let sent = script.receive().await;
    assert!(sent.get("params").is_none());
    let error = json!({"code": -32602, "message": "two numbers", "data": [1]});
    script.send(&json!({"jsonrpc": "2.0", "id": sent["id"], "error": error}).to_string()).await;
    let Err(CallError::Failed(failure)) = call.await.unwrap() else { panic!("no failure") };
    assert_eq!(failure, JsonRpcError { code: -32602, message: "two numbers".into(), data: Some(json!([1])) });

    script.caller.notify(JsonRpcRequest::new("hello", json!({"from": "us"}))).unwrap();
    assert_eq!(script.receive().await, json!({"jsonrpc": "2.0", "method": "hello", "params": {"from": "us"}}));
}

#[tokio::test]
async fn both_ends_use_the_same_numbers_without_confusion() {
    let mut script = script();
    let call = tokio::spawn(script.caller.clone().oneshot(JsonRpcRequest::new("theirs", Value::Null)));
    let id = script.receive().await["id"].clone();
    script.send(&json!({"jsonrpc": "2.0", "method": "sum", "params": [1], "id": id}).to_string()).await;
    assert_eq!(script.receive().await, json!({"jsonrpc": "2.0", "id": id, "result": 1}));
    script.send(&json!({"jsonrpc": "2.0", "id": id, "result": 2}).to_string()).await;
    assert_eq!(call.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_cancelled_call_is_answered_and_its_handler_is_dropped() {
    let mut script = script();
    script.send(r#"{"jsonrpc": "2.0", "method": "never", "id": 5}"#).await;
    script.assert_silent().await;
    script.send(r#"{"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 5}}"#).await;
    let answer = script.receive().await;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(5), &json!(code::CANCELLED)));
    // The number is free again.
    script.send(r#"{"jsonrpc": "2.0", "method": "sum", "params": [5], "id": 5}"#).await;
    assert_eq!(script.receive().await["result"], 5);

    let call = script.caller.clone().oneshot(JsonRpcRequest::new("slow", Value::Null));
    let call = tokio::spawn(call);
    let id = script.receive().await["id"].clone();
    call.abort();
    let cancel = script.receive().await;
    assert_eq!(cancel, json!({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": id}}));
}

#[tokio::test]
async fn a_number_that_is_in_flight_is_not_taken_twice() {
    let mut script = script();
    script.send(r#"{"jsonrpc": "2.0", "method": "never", "id": 5}"#).await;
    script.send(r#"{"jsonrpc": "2.0", "method": "sum", "params": [5], "id": 5}"#).await;
    let answer = script.receive().await;
    assert_eq!(answer["error"]["code"], code::INVALID_REQUEST);
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_a_wrong_parameter_an_invalid_one() {
    let mut script = script();
    script.send(r#"{"jsonrpc": "2.0", "method": "panic", "id": 1}"#).await;
    assert_eq!(script.receive().await["error"]["code"], code::INTERNAL_ERROR);
    script.send(r#"{"jsonrpc": "2.0", "method": "sum", "params": ["a"], "id": 2}"#).await;
    assert_eq!(script.receive().await["error"]["code"], code::INVALID_PARAMS);
}

#[tokio::test]
async fn a_subscription_gives_its_items_as_notifications_and_tells_its_end() {
    let mut script = script();
    script.send(r#"{"jsonrpc": "2.0", "method": "count_subscribe", "params": [2], "id": "a"}"#).await;
    let answer = script.receive().await;
    assert_eq!(answer["id"], "a");
    let id = &answer["result"];
    for number in 0..2 {
        let item = json!({"jsonrpc": "2.0", "method": "count", "params": {"subscription": id, "result": number}});
        assert_eq!(script.receive().await, item);
    }
    let end = script.receive().await;
    assert_eq!((&end["method"], &end["params"]["subscription"]), (&json!("count"), id));
    assert!(end["params"]["error"]["message"].as_str().unwrap().contains("ended"));

    script.send(r#"{"jsonrpc": "2.0", "method": "failing_subscribe", "id": "b"}"#).await;
    let id = script.receive().await["result"].clone();
    assert_eq!(script.receive().await["params"]["result"], 1);
    let error = json!({"subscription": id, "error": {"code": 7, "message": "broken"}});
    assert_eq!(script.receive().await["params"], error);
}

#[tokio::test]
async fn an_unsubscribe_ends_the_stream() {
    let mut script = script();
    script.send(r#"{"jsonrpc": "2.0", "method": "endless_subscribe", "id": 1}"#).await;
    let id = script.receive().await["result"].clone();
    let unsubscribe = json!({"jsonrpc": "2.0", "method": "endless_unsubscribe", "params": [id], "id": 2});
    script.send(&unsubscribe.to_string()).await;
    let answer = loop {
        let message = script.receive().await;
        if message.get("id").is_some() {
            break message;
        }
    };
    assert_eq!(answer, json!({"jsonrpc": "2.0", "result": true, "id": 2}));
    script.settle().await;
    while script.far.next().now_or_never().is_some() {}
    script.assert_silent().await;
    script.send(&unsubscribe.to_string()).await;
    assert_eq!(script.receive().await["result"], false);
}

#[tokio::test]
async fn a_subscription_of_this_end_reads_and_unsubscribes() {
    let mut script = script();
    let mut stream = script.caller.stream(JsonRpcRequest::new("count_subscribe", json!([9])), false).await.unwrap();
    let sent = script.receive().await;
    script.send(&json!({"jsonrpc": "2.0", "id": sent["id"], "result": "0xcd"}).to_string()).await;
    for number in 0..3 {
        let item = json!({"jsonrpc": "2.0", "method": "count", "params": {"subscription": "0xcd", "result": number}});
        script.send(&item.to_string()).await;
        assert_eq!(stream.next().await.unwrap().unwrap(), number);
    }
    drop(stream);
    let unsubscribe = script.receive().await;
    assert_eq!((&unsubscribe["method"], &unsubscribe["params"]), (&json!("count_unsubscribe"), &json!(["0xcd"])));
    script.send(&json!({"jsonrpc": "2.0", "id": unsubscribe["id"], "result": true}).to_string()).await;
    script.settle().await;
    assert_eq!(script.caller.in_flight(), 0);
}

#[tokio::test]
async fn a_subscription_that_is_dropped_before_it_has_a_name_is_unsubscribed_when_it_has_one() {
    let mut script = script();
    let stream = script.caller.stream(JsonRpcRequest::new("count_subscribe", json!([9])), false).await.unwrap();
    let sent = script.receive().await;
    drop(stream);
    script.settle().await;
    script.send(&json!({"jsonrpc": "2.0", "id": sent["id"], "result": 7}).to_string()).await;
    let unsubscribe = script.receive().await;
    assert_eq!((&unsubscribe["method"], &unsubscribe["params"]), (&json!("count_unsubscribe"), &json!([7])));
}

#[tokio::test]
async fn a_subscription_that_nobody_reads_ends_with_an_error_and_is_unsubscribed() {
    let mut script = script();
    let mut stream = script.caller.stream(JsonRpcRequest::new("count_subscribe", json!([9])), false).await.unwrap();
    let sent = script.receive().await;
    script.send(&json!({"jsonrpc": "2.0", "id": sent["id"], "result": 7}).to_string()).await;
    for number in 0..20 {
        let item = json!({"jsonrpc": "2.0", "method": "count", "params": {"subscription": 7, "result": number}});
        script.send(&item.to_string()).await;
    }
    assert_eq!(script.receive().await["method"], "count_unsubscribe");
    for number in 0..16 {
        assert_eq!(stream.next().await.unwrap().unwrap(), number);
    }
    let Err(CallError::Unanswered(error)) = stream.next().await.unwrap() else { panic!("no error") };
    assert!(error.is_full(), "{error}");
    assert!(!script.peer.is_finished());
}

#[tokio::test]
async fn what_json_rpc_cannot_say_fails_as_not_executed() {
    let mut script = script();
    for (method, has_more) in [("count_subscribe", true), ("no_subscription", false)] {
        let mut stream = script.caller.stream(JsonRpcRequest::new(method, Value::Null), has_more).await.unwrap();
        let error = stream.next().await.unwrap().unwrap_err();
        assert!(!error.may_have_been_executed(), "{error}");
    }
    script.assert_silent().await;
}

#[tokio::test]
async fn an_answer_that_is_too_large_to_send_becomes_an_error_of_its_call() {
    let mut script = narrow_script();
    for id in [json!(1), json!("a name"), json!(1)] {
        script.send(&json!({"jsonrpc": "2.0", "method": "long", "id": id}).to_string()).await;
        let answer = script.receive().await;
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code::INTERNAL_ERROR), &id));
    }
    script.send(r#"{"jsonrpc":"2.0","method":"sum","params":[1,2],"id":1}"#).await;
    assert_eq!(script.receive().await["result"], 3);
    script.assert_silent().await;
}

#[tokio::test]
async fn a_batch_whose_answers_are_too_large_to_send_together_becomes_an_error_of_each_call() {
    let mut script = narrow_script();
    let long = "x".repeat(150);
    let echo = |id| json!({"jsonrpc": "2.0", "method": "echo", "params": [long], "id": id});
    script.send(&json!([echo(1), echo(2)]).to_string()).await;
    let answers = script.receive().await;
    let mut ids: Vec<_> = answers.as_array().unwrap().iter().map(|answer| answer["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
    assert!(answers.as_array().unwrap().iter().all(|answer| answer["error"]["code"] == code::INTERNAL_ERROR));
    // The numbers are free again.
    script.send(&echo(1).to_string()).await;
    assert_eq!(script.receive().await["result"], json!([long]));
    script.assert_silent().await;
}

#[tokio::test]
async fn a_subscription_that_is_too_large_to_send_fails_as_not_executed_and_leaves_nothing() {
    let script = narrow_script();
    for _ in 0..2000 {
        let subscribe = JsonRpcRequest::new("count_subscribe", json!(["x".repeat(300)]));
        let mut stream = script.caller.clone().stream(subscribe, false).await.unwrap();
        let error = stream.next().await.unwrap().unwrap_err();
        assert!(!error.may_have_been_executed(), "{error}");
    }
    assert_eq!(script.caller.in_flight(), 0);
}

#[tokio::test]
async fn a_batch_that_is_too_long_is_answered_by_one_error() {
    let mut script = script();
    let batch = vec![json!({"jsonrpc": "2.0", "method": "never", "id": 1}); 1025];
    script.send(&Value::Array(batch).to_string()).await;
    assert_eq!(script.receive().await["error"]["code"], code::INVALID_REQUEST);
    script.assert_silent().await;
}

#[tokio::test]
async fn answers_that_nobody_waits_for_are_ignored() {
    let mut script = script();
    for text in [
        r#"{"jsonrpc": "2.0", "result": 1, "id": 99}"#,
        r#"{"jsonrpc": "2.0", "result": 1, "id": "a"}"#,
        r#"{"jsonrpc": "2.0", "error": {"code": 1, "message": "x"}, "id": null}"#,
        r#"{"jsonrpc": "2.0", "method": "count", "params": {"subscription": 3, "result": 1}}"#,
    ] {
        script.send(text).await;
        script.assert_silent().await;
    }
}
