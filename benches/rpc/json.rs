//! JSON-RPC 2.0 over a WebSocket: ours, and jsonrpsee.

use std::{future::ready, sync::Arc};

use harness::loopback::Loopback;
use jsonrpsee::{
    RpcModule,
    core::client::{Client, ClientT},
    rpc_params,
    server::{Server, ServerHandle},
    ws_client::WsClientBuilder,
};
use serde_json::json;
use tower::{Service, ServiceExt, service_fn};
use tower_transport::{
    Limits,
    service::peer::{Caller, JsonRpc, PeerBuilder, json_rpc::JsonRpcRequest, unary},
    transport::websocket::WebSocket,
};

use crate::load::Calls;

/// 32 characters.
const TEXT: &str = "01234567890123456789012345678901";

impl Calls for Caller<JsonRpc> {
    async fn call(&mut self) {
        let caller = self.ready().await.expect("a place");
        let answer = Service::call(caller, JsonRpcRequest::new("echo", json!([TEXT]))).await;
        assert_eq!(answer.expect("an answer"), TEXT);
    }
}

pub(crate) async fn ours() -> Caller<JsonRpc> {
    let (client, server) = Loopback::bind().await.connect().await;
    let start = |socket| {
        let echo = service_fn(|request: JsonRpcRequest| {
            ready(request.parse::<(String,)>().map(|(text,)| serde_json::Value::from(text)))
        });
        let (caller, peer) = PeerBuilder::new(JsonRpc::new()).build(socket, unary(echo));
        tokio::spawn(peer);
        caller
    };
    start(WebSocket::server(server, Limits::default()));
    start(WebSocket::client(client, Limits::default()))
}

/// The client, and the server that lives as long.
#[derive(Clone)]
pub(crate) struct Jsonrpsee(Arc<(Client, ServerHandle)>);

impl Calls for Jsonrpsee {
    async fn call(&mut self) {
        let answer: String = self.0.0.request("echo", rpc_params![TEXT]).await.expect("an answer");
        assert_eq!(answer, TEXT);
    }
}

pub(crate) async fn jsonrpsee() -> Jsonrpsee {
    let mut module = RpcModule::new(());
    module
        .register_method("echo", |params, (), _| params.parse::<(String,)>().map(|(text,)| text))
        .expect("a new name");
    let server = Server::builder().build("127.0.0.1:0").await.expect("a free port");
    let url = format!("ws://{}", server.local_addr().expect("a bound port"));
    let handle = server.start(module);
    Jsonrpsee(Arc::new((WsClientBuilder::default().build(url).await.expect("the server accepts"), handle)))
}
