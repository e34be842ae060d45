//! JSON-RPC 2.0 over a WebSocket: calls, errors, notifications, a batch from a foreign client, and a subscription.
//!
//! ```text
//! cargo run --release --example jsonrpc --features peer,json
//! ```
//!
//! The server keeps an account. A client of this crate deposits, asks, and subscribes to the balance. Another client
//! writes JSON by hand, as any JSON-RPC library does.

use std::{future::ready, pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::{Service, ServiceExt, service_fn};
use tower_transport::{
    BoxError, Message, Transport, TransportExt,
    service::peer::{
        IncomingCall, JsonRpc, PeerBuilder, Reply,
        json_rpc::{JsonRpcError, JsonRpcRequest},
    },
    transport::{
        accept,
        websocket::{WebSocketConnector, WebSocketService},
    },
};

/// The wire of both ends: `follow` is a subscription whose items are notifications of the method `balance`.
fn wire() -> JsonRpc {
    JsonRpc::new().subscription("follow", "balance", "unfollow")
}

type Answers = Pin<Box<dyn Stream<Item = Result<Value, JsonRpcError>> + Send>>;

/// The methods of the server.
fn account(
    balance: Arc<watch::Sender<i64>>,
) -> impl Service<
    IncomingCall<JsonRpcRequest>,
    Response = Reply<Value, Answers>,
    Error = JsonRpcError,
    Future: Send + 'static,
> + Send
+ 'static {
    service_fn(move |call: IncomingCall<JsonRpcRequest>| ready(answer(&balance, call.request)))
}

fn answer(balance: &watch::Sender<i64>, request: JsonRpcRequest) -> Result<Reply<Value, Answers>, JsonRpcError> {
    match request.method.as_str() {
        "deposit" => {
            let (amount,): (i64,) = request.parse()?;
            balance.send_modify(|balance| *balance += amount);
            Ok(Reply::One(Value::Null))
        }
        "balance" => Ok(Reply::One((*balance.borrow()).into())),
        "withdraw" => {
            let (amount,): (i64,) = request.parse()?;
            let is_covered = balance.send_if_modified(|balance| {
                let is_covered = *balance >= amount;
                *balance -= if is_covered { amount } else { 0 };
                is_covered
            });
            match is_covered {
                true => Ok(Reply::One(Value::Null)),
                // Codes from -32000 on are the specification's, all others the application's.
                false => Err(JsonRpcError::new(1, "the account does not have that much")),
            }
        }
        "follow" => {
            // Each item is the balance of that moment: a reader that is late misses what lies between.
            let follow = stream::unfold(balance.subscribe(), async |mut balance| {
                balance.changed().await.ok()?;
                let now = *balance.borrow_and_update();
                Some((Ok(now.into()), balance))
            });
            Ok(Reply::Stream(follow.boxed()))
        }
        method => Err(JsonRpcError::method_not_found(method)),
    }
}

/// The server's end of a connection.
async fn serve<T>(socket: T, balance: Arc<watch::Sender<i64>>)
where
    T: Transport<Message, In = Message, TransportError: Send> + Send + Unpin + 'static,
{
    let (_, peer) = PeerBuilder::new(wire()).build(socket, account(balance));
    if let Err(error) = peer.await {
        eprintln!("a connection ended: {error}");
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/", listener.local_addr()?);
    let balance = Arc::new(watch::Sender::new(0));
    let upgrade = WebSocketService::new(move |socket, _| serve(socket, balance.clone()));
    tokio::spawn(async move {
        loop {
            let (tcp, _) = accept(|| listener.accept()).await;
            let connection = http1::Builder::new()
                .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(upgrade.clone()))
                .with_upgrades();
            tokio::spawn(connection);
        }
    });

    let socket = WebSocketConnector::new().connect(&url).await?;
    // The server calls no method of this client; it would get "method not found".
    let nothing = service_fn(async |call: IncomingCall<JsonRpcRequest>| {
        Err::<Reply<Value, Answers>, _>(JsonRpcError::method_not_found(&call.request.method))
    });
    let (mut caller, peer) = PeerBuilder::new(wire()).build(socket, nothing);
    let peer = tokio::spawn(peer);

    // A notification has no answer. The server begins it before the call behind it.
    caller.notify(JsonRpcRequest::new("deposit", json!([100])))?;
    let now = caller.clone().oneshot(JsonRpcRequest::new("balance", ())).await?;
    println!("the balance is {now}");

    // An error object is the application's answer, and the connection goes on.
    let error = caller.clone().oneshot(JsonRpcRequest::new("withdraw", json!([500]))).await.unwrap_err();
    println!("no withdrawal: {error}");

    // A subscription is a stream. Dropping it unsubscribes.
    let follow = caller.stream(JsonRpcRequest::new("follow", ()), false).await?;
    for amount in [1, 2, 3] {
        caller.clone().oneshot(JsonRpcRequest::new("deposit", json!([amount]))).await?;
    }
    let mut rich = follow.try_skip_while(|balance| ready(Ok(*balance != 106)));
    println!("followed to {}", rich.try_next().await?.ok_or("the subscription ended")?);
    drop(rich);

    // A batch of another client's, which is answered as a whole.
    let mut foreign = WebSocketConnector::new().connect(&url).await?;
    let batch = json!([
        { "jsonrpc": "2.0", "method": "deposit", "params": [4] },
        { "jsonrpc": "2.0", "method": "balance", "id": "a" },
        { "jsonrpc": "2.0", "method": "close", "id": "b" },
    ]);
    foreign.send_message(Message::text(batch.to_string())).await?;
    let answer = foreign.receive_message().await.ok_or("no answer")??;
    println!("the batch is answered by {}", answer.as_text().unwrap_or_default());
    foreign.close(None).await?;

    caller.graceful_shutdown();
    peer.await??;
    Ok(())
}
