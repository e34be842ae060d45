//! The Model Context Protocol and the Agent Client Protocol over sessions that survive cuts.
//!
//! ```text
//! cargo run -p agent
//! ```
//!
//! `rmcp` and `agent-client-protocol` take any sink and stream. Here they get the two halves of an `OptimizedTransport`,
//! by the adapters `mcp` and `acp`. Each connection below it lives for 30 ms, so it is cut in the middle of calls. The
//! session resumes, and neither library sees anything of it.

use std::{
    future::ready,
    io,
    net::SocketAddr,
    pin::pin,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use agent_client_protocol::{
    Agent, Client, Lines, on_receive_notification, on_receive_request,
    schema::ProtocolVersion,
    v1::schema::{
        ContentBlock, ContentChunk, InitializeRequest, InitializeResponse, NewSessionRequest, NewSessionResponse,
        PromptRequest, PromptResponse, SessionNotification, SessionUpdate, StopReason,
    },
};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rmcp::{
    RoleClient, RoleServer, ServerHandler, ServiceExt,
    handler::server::wrapper::Parameters,
    model::CallToolRequestParams,
    schemars,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    tool, tool_handler, tool_router,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceBuilder;
use tower_transport::{
    BoxError, Error, Message, ServiceBuilderExt, Transport, TransportExt, codec::JsonCodec, layer::reconnect::Backoff,
    stack::OptimizedTransport, transport::accept,
};

const TIME: Duration = Duration::from_secs(2);

/// The halves of a session as rmcp takes them: a message of the protocol is a value of the codec.
fn mcp<Out, In, T>(
    session: T,
) -> (impl Sink<Out, Error = Error> + Send + Unpin + 'static, impl Stream<Item = In> + Send + Unpin + 'static)
where
    Out: Serialize + Send + 'static,
    In: DeserializeOwned + Send + 'static,
    T: Transport<Message, In = Message, TransportError = Error> + Send + Unpin + 'static,
{
    let (sink, stream) = ServiceBuilder::new().codec(JsonCodec::<Out, In>::new()).service(session).into_split();
    // rmcp has no place for an error: of one message, or the last one before the end of the stream.
    (sink, stream.filter_map(|message| ready(message.ok())))
}

/// The halves of a session as the Agent Client Protocol takes them: lines of JSON.
fn acp<T>(
    session: T,
) -> Lines<impl Sink<String, Error = io::Error> + Send + 'static, impl Stream<Item = io::Result<String>> + Send + 'static>
where
    T: Transport<Message, In = Message, TransportError = Error> + Send + Unpin + 'static,
{
    let (sink, stream) = session.into_split();
    let lines = stream.filter_map(|message| {
        ready(match message {
            Ok(message) => message.as_text().map(|line| Ok(line.to_owned())),
            Err(error) => Some(Err(io::Error::other(error))),
        })
    });
    Lines::new(sink.sink_map_err(io::Error::other).with(|line| ready(Ok(Message::text(line)))), lines)
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Numbers {
    a: u64,
    b: u64,
}

/// A server of the Model Context Protocol, with one tool.
struct Calculator;

#[tool_router]
impl Calculator {
    #[tool(description = "Adds two numbers")]
    fn add(&self, Parameters(Numbers { a, b }): Parameters<Numbers>) -> String {
        (a + b).to_string()
    }
}

#[tool_handler]
impl ServerHandler for Calculator {}

/// The server's end of a session of the Model Context Protocol.
async fn serve_mcp<T>(session: T)
where
    T: Transport<Message, In = Message, TransportError = Error> + Send + Unpin + 'static,
{
    let halves = mcp::<TxJsonRpcMessage<RoleServer>, RxJsonRpcMessage<RoleServer>, T>(session);
    match Calculator.serve(halves).await {
        Ok(running) => drop(running.waiting().await),
        Err(error) => eprintln!("a session did not begin: {error}"),
    }
}

/// The agent's end of a session of the Agent Client Protocol: it says again what it was told.
async fn serve_acp<T>(session: T)
where
    T: Transport<Message, In = Message, TransportError = Error> + Send + Unpin + 'static,
{
    let agent = Agent
        .v1()
        .on_receive_request(
            async |request: InitializeRequest, responder, _| {
                responder.respond(InitializeResponse::new(request.protocol_version))
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async |_: NewSessionRequest, responder, _| responder.respond(NewSessionResponse::new("one")),
            on_receive_request!(),
        )
        .on_receive_request(
            async |request: PromptRequest, responder, connection| {
                for block in request.prompt {
                    let update = SessionUpdate::AgentMessageChunk(ContentChunk::new(block));
                    connection.send_notification(SessionNotification::new(request.session_id.clone(), update))?;
                }
                responder.respond(PromptResponse::new(StopReason::EndTurn))
            },
            on_receive_request!(),
        );
    if let Err(error) = agent.connect_to(acp(session)).await {
        eprintln!("a session ended: {error}");
    }
}

/// Connects to a server through a relay that cuts each connection.
async fn session(
    server: SocketAddr,
) -> Result<impl Transport<Message, In = Message, TransportError = Error> + Send + Unpin + 'static, BoxError> {
    let relay = TcpListener::bind("127.0.0.1:0").await?;
    let address = relay.local_addr()?;
    tokio::spawn(async move {
        loop {
            let (mut client, _) = accept(|| relay.accept()).await;
            CONNECTIONS.fetch_add(1, Relaxed);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await?;
                let mut relaying = pin!(tokio::io::copy_bidirectional(&mut client, &mut server));
                loop {
                    match tokio::time::timeout(Duration::from_millis(30), &mut relaying).await {
                        Err(_) if !IS_CALM.load(Relaxed) => break Ok(()),
                        Err(_) => {}
                        Ok(ended) => break ended.map(drop),
                    }
                }
            });
        }
    });
    // Most clients keep the default, which begins at 100 ms and doubles.
    let backoff = Backoff::fixed(Duration::from_millis(2));
    Ok(OptimizedTransport::builder().backoff(backoff).connect(&format!("ws://{address}/")).await?)
}

static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

/// Whether no connection is cut any more.
static IS_CALM: AtomicBool = AtomicBool::new(false);

/// Lets the last connection live. Sessions survive cuts until they are closed: a close that is cut itself ends the
/// session, with an error that counts what the other end may not have.
async fn calm() {
    IS_CALM.store(true, Relaxed);
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Serves sessions of one protocol.
macro_rules! serve {
    ($handler:expr) => {{
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let upgrade = OptimizedTransport::builder().acceptor().upgrade(|session, _| $handler(session));
        tokio::spawn(async move {
            loop {
                let (tcp, _) = accept(|| listener.accept()).await;
                let connection = http1::Builder::new()
                    .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(upgrade.clone()))
                    .with_upgrades();
                tokio::spawn(connection);
            }
        });
        address
    }};
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let server = serve!(serve_mcp);
    let halves = mcp::<TxJsonRpcMessage<RoleClient>, RxJsonRpcMessage<RoleClient>, _>(session(server).await?);
    let client = ().serve(halves).await?;
    let (begun, mut calls) = (Instant::now(), 0_u64);
    while begun.elapsed() < TIME {
        let numbers = serde_json::json!({ "a": calls, "b": 1 });
        let call = CallToolRequestParams::new("add").with_arguments(numbers.as_object().cloned().unwrap_or_default());
        let answer = client.call_tool(call).await?;
        calls += 1;
        let sum = answer.content.first().and_then(|content| content.as_text()).map(|text| text.text.as_str());
        assert_eq!(sum, Some(calls.to_string().as_str()));
    }
    calm().await;
    client.cancel().await?;
    IS_CALM.store(false, Relaxed);
    println!("MCP: {calls} calls of a tool over {} connections, all answered", CONNECTIONS.swap(0, Relaxed));

    let server = serve!(serve_acp);
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let prompts = Client
        .v1()
        .on_receive_notification(
            async move |notification: SessionNotification, _| {
                let _ = said.send(notification.update);
                Ok(())
            },
            on_receive_notification!(),
        )
        .connect_with(acp(session(server).await?), async |agent| {
            agent.send_request(InitializeRequest::new(ProtocolVersion::V1)).block_task().await?;
            let session = agent.send_request(NewSessionRequest::new("/")).block_task().await?.session_id;
            let (begun, mut prompts) = (Instant::now(), 0_u64);
            while begun.elapsed() < TIME {
                let prompt = ContentBlock::from(format!("prompt {prompts}"));
                let ended =
                    agent.send_request(PromptRequest::new(session.clone(), vec![prompt.clone()])).block_task().await?;
                assert_eq!(ended.stop_reason, StopReason::EndTurn);
                let update = heard.recv().await;
                assert!(
                    matches!(&update, Some(SessionUpdate::AgentMessageChunk(chunk)) if chunk.content == prompt),
                    "{update:?}"
                );
                prompts += 1;
            }
            calm().await;
            Ok(prompts)
        })
        .await?;
    println!("ACP: {prompts} prompts over {} connections, all answered", CONNECTIONS.load(Relaxed));
    Ok(())
}
