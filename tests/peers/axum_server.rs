//! axum's own WebSocket as the server of our connector.

use axum::{
    Router,
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    routing::{MethodRouter, get},
};
use tokio::net::TcpListener;

use crate::{LIMIT, our_client, within};

/// How many pings a storm has.
const PINGS: usize = 1000;

async fn start() -> String {
    let app = Router::new()
        .route("/echo", route(echo))
        .route("/oversize", route(oversize))
        .route("/close", route(close))
        .route("/pings", route(pings));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("ws://{address}")
}

fn route<F>(session: fn(WebSocket) -> F) -> MethodRouter
where
    F: Future<Output = Result<(), axum::Error>> + Send + 'static,
{
    get(move |upgrade: WebSocketUpgrade| async move {
        // A failure shows at the client.
        upgrade.max_message_size(LIMIT).protocols(["chat"]).on_upgrade(move |socket| async move {
            let _ = session(socket).await;
        })
    })
}

async fn echo(mut socket: WebSocket) -> Result<(), axum::Error> {
    while let Some(message) = socket.recv().await {
        let message = message?;
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn oversize(mut socket: WebSocket) -> Result<(), axum::Error> {
    socket.send(Message::Binary(vec![0; LIMIT + 1].into())).await?;
    echo(socket).await
}

async fn close(mut socket: WebSocket) -> Result<(), axum::Error> {
    socket.send(Message::Close(Some(CloseFrame { code: 4001, reason: "enough".into() }))).await?;
    echo(socket).await
}

async fn pings(mut socket: WebSocket) -> Result<(), axum::Error> {
    for i in 0..PINGS {
        socket.send(Message::Ping(i.to_string().into())).await?;
    }
    while let Some(message) = socket.recv().await {
        if matches!(message?, Message::Pong(bytes) if bytes == (PINGS - 1).to_string()) {
            socket.send(Message::Text("answered".into())).await?;
        }
    }
    Ok(())
}

macro_rules! our_client {
    ($($scenario:ident)*) => {$(
        #[tokio::test]
        async fn $scenario() {
            within(async { our_client::$scenario(&start().await).await }).await;
        }
    )*};
}

// axum does not send fragments, and only drops a connection that sends too much.
our_client! {
    is_echoed_from_empty_to_limit_sized
    refuses_what_is_over_its_own_limit
    answers_a_storm_of_pings
    is_answered_its_ping
    learns_why_the_server_closed
    closes_with_its_own_code
    agrees_on_a_subprotocol
}
