//! JSON-RPC peers that others wrote, in both roles: Python `jsonrpcclient` and `jsonrpcserver` over `websockets`,
//! Node's `rpc-websockets`, jsonrpsee, and `vscode-jsonrpc`, which speaks LSP's framing over TCP.

use std::{
    future::pending,
    net::SocketAddr,
    num::NonZeroU32,
    process::Stdio,
    sync::{Arc, Mutex},
};

use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, join_all},
    stream::{self, BoxStream},
};
use jsonrpsee::{
    RpcModule,
    core::{
        client::{ClientT, SubscriptionClientT},
        params::BatchRequestBuilder,
    },
    rpc_params,
    server::{PendingSubscriptionSink, Server},
    types::ErrorObject,
    ws_client::WsClientBuilder,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::oneshot,
};
use tokio_util::codec::Framed;
use tower::{ServiceExt, service_fn};
use tower_transport::{
    Message, Transport,
    service::peer::{
        Caller, IncomingCall, JsonRpc, PeerBuilder, Reply,
        json_rpc::{ContentLength, JsonRpcError, JsonRpcRequest, code},
    },
    transport::websocket::{WebSocketConnector, WebSocketService},
};

use crate::{
    process::{Language, command},
    serve::serve,
    within,
};

type Values = BoxStream<'static, Result<Value, JsonRpcError>>;
type Answer = Result<Reply<Value, Values>, JsonRpcError>;

fn protocol() -> JsonRpc {
    JsonRpc::new().subscription("subscribe_count", "count", "unsubscribe_count").cancel_method("$/cancelRequest")
}

/// Our peer over `transport`, with the methods that the scripts have as well.
fn start<T>(transport: T) -> Caller<JsonRpc>
where
    T: Transport<Message, In = Message, TransportError: Send> + Send + Unpin + 'static,
{
    let notes = Arc::new(Mutex::new(Vec::new()));
    let (sender, itself) = oneshot::channel::<Caller<JsonRpc>>();
    let itself = itself.shared();
    let methods = service_fn(move |call: IncomingCall<JsonRpcRequest>| -> BoxFuture<'static, Answer> {
        let (notes, itself) = (notes.clone(), itself.clone());
        async move {
            let request = call.request;
            Ok(Reply::One(match request.method.as_str() {
                "sum" => json!(request.parse::<Vec<i64>>()?.into_iter().sum::<i64>()),
                "echo" => request.params.unwrap_or_default(),
                "fail" => {
                    let why = Some(json!({ "why": "a test" }));
                    return Err(JsonRpcError { data: why, ..JsonRpcError::new(7, "as asked") });
                }
                "note" => {
                    let (text,): (String,) = request.parse()?;
                    notes.lock().unwrap().push(text);
                    Value::Null
                }
                "notes" => json!(*notes.lock().unwrap()),
                "never" => pending().await,
                "twice" => {
                    let (number,): (i64,) = request.parse()?;
                    let caller = itself.await.expect("the peer has started");
                    let twice = caller.oneshot(JsonRpcRequest::new("sum", json!([number, number]))).await;
                    twice.map_err(|error| JsonRpcError::new(code::INTERNAL_ERROR, error.to_string()))?
                }
                "subscribe_count" => {
                    let (to,): (u64,) = request.parse()?;
                    return Ok(Reply::Stream(stream::iter((0..to).map(|number| Ok(json!(number)))).boxed()));
                }
                method => return Err(JsonRpcError::method_not_found(method)),
            }))
        }
        .boxed()
    });
    // There is no credit on this wire: a stream may run as far ahead as the window.
    let window = NonZeroU32::new(2048).unwrap();
    let (caller, peer) = PeerBuilder::new(protocol()).window(window).build(transport, methods);
    let _ = sender.send(caller.clone());
    tokio::spawn(peer);
    caller
}

/// Our server over WebSockets.
async fn serve_websockets() -> SocketAddr {
    serve(WebSocketService::new(|socket, _| async move {
        start(socket);
    }))
    .await
}

/// Our server with LSP's framing over TCP.
async fn serve_framed() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            start(Framed::new(socket, ContentLength::new()));
        }
    });
    address
}

async fn call(caller: &Caller<JsonRpc>, method: &str, params: Value) -> Result<Value, JsonRpcError> {
    let answer = caller.clone().oneshot(JsonRpcRequest::new(method, params)).await;
    answer.map_err(|error| error.failure().cloned().unwrap_or_else(|| panic!("{method}: {error:?}")))
}

/// Calls every method of a foreign server.
async fn our_client_is_answered(caller: Caller<JsonRpc>) {
    assert_eq!(call(&caller, "sum", json!([1, 2, 3])).await.unwrap(), 6);
    let fields = json!({ "text": "h\u{e9}llo \u{2713}", "list": [1, [2.5, null]], "deep": { "a": true } });
    assert_eq!(call(&caller, "echo", fields.clone()).await.unwrap(), fields);
    let error = call(&caller, "fail", Value::Null).await.unwrap_err();
    assert_eq!((error.code, &*error.message), (7, "as asked"));
    assert_eq!(call(&caller, "nothing", Value::Null).await.unwrap_err().code, code::METHOD_NOT_FOUND);
    let sums = join_all((0..200).map(|number| {
        let caller = caller.clone();
        async move { call(&caller, "sum", json!([number, 1])).await.unwrap() }
    }));
    assert!(sums.await.into_iter().eq((1..=200).map(Value::from)));
    assert_eq!(caller.in_flight(), 0);
}

/// Notifies a foreign server, and asks what it was told.
async fn our_client_is_heard(caller: Caller<JsonRpc>) {
    for text in ["one", "two"] {
        caller.notify(JsonRpcRequest::new("note", json!([text]))).unwrap();
    }
    assert_eq!(call(&caller, "notes", Value::Null).await.unwrap(), json!(["one", "two"]));
}

/// A foreign server that is a process, and the port on which it listens.
async fn listening(mut command: Command) -> (u16, Child) {
    let mut process = command.arg("serve").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let port = lines.next_line().await.unwrap().expect("the peer prints its port");
    (port.parse().unwrap(), process)
}

async fn our_websocket(port: u16) -> Caller<JsonRpc> {
    start(WebSocketConnector::new().connect(&format!("ws://127.0.0.1:{port}/")).await.unwrap())
}

/// Calls a foreign server over WebSockets, which `command` starts.
async fn our_client_calls(command: Command) {
    let (port, _process) = listening(command).await;
    let caller = our_websocket(port).await;
    our_client_is_answered(caller.clone()).await;
    our_client_is_heard(caller).await;
}

async fn succeeds(mut command: Command, address: String) {
    let status = command.arg("call").arg(address).status().await.unwrap();
    assert!(status.success(), "{status}");
}

fn python() -> Option<Command> {
    command(Language::Python, "json_rpc_peer.py", "jsonrpcclient")
}

fn node(library: &str, package: &str) -> Option<Command> {
    let mut command = command(Language::Node, "json_rpc.cjs", package)?;
    command.arg(library);
    Some(command)
}

#[tokio::test]
async fn pythons_jsonrpcclient_calls_our_server_alone_and_in_batches() {
    let Some(python) = python() else { return };
    let address = serve_websockets().await;
    within(succeeds(python, format!("ws://{address}/"))).await;
}

#[tokio::test]
async fn our_client_calls_pythons_jsonrpcserver() {
    let Some(python) = python() else { return };
    within(our_client_calls(python)).await;
}

#[tokio::test]
async fn nodes_rpc_websockets_calls_our_server() {
    let Some(node) = node("rpc-websockets", "rpc-websockets") else { return };
    let address = serve_websockets().await;
    within(succeeds(node, format!("ws://{address}/"))).await;
}

#[tokio::test]
async fn our_client_calls_nodes_rpc_websockets() {
    let Some(node) = node("rpc-websockets", "rpc-websockets") else { return };
    within(our_client_calls(node)).await;
}

#[tokio::test]
async fn vscodes_jsonrpc_calls_our_server_over_tcp_cancels_and_is_called_back() {
    let Some(node) = node("vscode", "vscode-jsonrpc") else { return };
    let address = serve_framed().await;
    within(succeeds(node, address.to_string())).await;
}

#[tokio::test]
async fn our_client_calls_vscodes_jsonrpc_over_tcp_cancels_and_is_called_back() {
    let Some(node) = node("vscode", "vscode-jsonrpc") else { return };
    within(async {
        let (port, _process) = listening(node).await;
        let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let caller = start(Framed::new(socket, ContentLength::new()));
        our_client_is_answered(caller.clone()).await;
        our_client_is_heard(caller.clone()).await;

        // A call that is dropped is cancelled at the other end.
        let never = call(&caller, "never", Value::Null);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(50), never).await.is_err());
        assert_eq!(call(&caller, "cancelled", Value::Null).await.unwrap(), 1);
        // The other end asks this one, while it is asked.
        assert_eq!(call(&caller, "twice", json!([21])).await.unwrap(), 42);
    })
    .await;
}

#[tokio::test]
async fn jsonrpsee_calls_and_subscribes_to_our_server() {
    let address = serve_websockets().await;
    within(async {
        let client = WsClientBuilder::default().build(format!("ws://{address}/")).await.unwrap();
        assert_eq!(client.request::<i64, _>("sum", rpc_params![1, 2, 3]).await.unwrap(), 6);
        let error = client.request::<Value, _>("fail", rpc_params![]).await.unwrap_err().to_string();
        assert!(error.contains("as asked"), "{error}");
        for text in ["one", "two"] {
            client.notification("note", rpc_params![text]).await.unwrap();
        }
        assert_eq!(client.request::<Value, _>("notes", rpc_params![]).await.unwrap(), json!(["one", "two"]));

        let mut batch = BatchRequestBuilder::new();
        for number in 0..10 {
            batch.insert("sum", rpc_params![number, 1]).unwrap();
        }
        let sums = client.batch_request::<i64>(batch).await.unwrap();
        assert!(sums.into_ok().unwrap().eq(1..=10));

        let subscribed = client.subscribe::<u64, _>("subscribe_count", rpc_params![100], "unsubscribe_count").await;
        let numbers: Vec<u64> = subscribed.unwrap().take(100).map(Result::unwrap).collect().await;
        assert!(numbers.into_iter().eq(0..100));
        // Calls go on beside a subscription, and after one that was dropped.
        drop(client.subscribe::<u64, _>("subscribe_count", rpc_params![5], "unsubscribe_count").await.unwrap());
        assert_eq!(client.request::<i64, _>("sum", rpc_params![4]).await.unwrap(), 4);
    })
    .await;
}

#[tokio::test]
async fn our_client_calls_and_subscribes_to_jsonrpsee() {
    // Its servers pass over notifications.
    let mut module = RpcModule::new(());
    module
        .register_method("sum", |params, _, _| params.parse::<Vec<i64>>().map(|numbers| numbers.iter().sum::<i64>()))
        .unwrap();
    module.register_method("echo", |params, _, _| params.parse::<Value>().unwrap()).unwrap();
    module
        .register_method("fail", |_, _, _| {
            Err::<(), _>(ErrorObject::owned(7, "as asked", Some(json!({ "why": "a test" }))))
        })
        .unwrap();
    let subscription = |params: jsonrpsee::types::Params<'static>, pending: PendingSubscriptionSink, _, _| async move {
        let to: u64 = params.one().unwrap();
        let sink = pending.accept().await.unwrap();
        for number in 0..to {
            if sink.send(serde_json::value::to_raw_value(&number).unwrap()).await.is_err() {
                return;
            }
        }
        sink.closed().await;
    };
    module.register_subscription("subscribe_count", "count", "unsubscribe_count", subscription).unwrap();
    let server = Server::builder().build("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let running = server.start(module);

    within(async {
        let mut caller = our_websocket(address.port()).await;
        our_client_is_answered(caller.clone()).await;
        let count = |to: u64| JsonRpcRequest::new("subscribe_count", json!([to]));
        let numbers = caller.stream(count(100), false).await.unwrap();
        // Two at once, and one is left early: it is unsubscribed, and the other goes on.
        let others: Vec<Value> =
            caller.stream(count(1000), false).await.unwrap().take(3).map(Result::unwrap).collect().await;
        assert_eq!(others, [0, 1, 2]);
        let numbers: Vec<Value> = numbers.take(100).map(Result::unwrap).collect().await;
        assert!(numbers.into_iter().eq((0..100u64).map(Value::from)));
        assert_eq!(call(&caller, "sum", json!([4])).await.unwrap(), 4);
    })
    .await;
    running.stop().unwrap();
}
