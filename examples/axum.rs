//! An axum app with a WebSocket route, a page to try it in a browser, and a graceful shutdown on ctrl-c.
//!
//! ```text
//! cargo run --example axum --features axum        # then open http://127.0.0.1:3000; ctrl-c ends it
//! ```

use std::time::Duration;

use axum::{
    Router,
    extract::{Path, State},
    response::{Html, Response},
    routing::{any, get},
};
use tower_transport::{
    BoxError, CloseCode, CloseFrame, Message, QueueConfig, TransportExt,
    transport::{
        Drain,
        websocket::{WebSocket, WebSocketHandshake},
    },
};

const PAGE: &str = r#"<!doctype html>
<meta charset="utf-8">
<title>tower-transport</title>
<h1>Chat with the server</h1>
<form><input autofocus placeholder="say something"> <button>send</button></form>
<pre></pre>
<script>
  const log = line => document.querySelector("pre").textContent += line + "\n";
  const socket = new WebSocket(`ws://${location.host}/chat/browser`);
  socket.onopen = () => log("connected");
  socket.onmessage = event => log(event.data);
  socket.onclose = event => log(`closed: ${event.code} ${event.reason}`);
  document.querySelector("form").onsubmit = event => {
    event.preventDefault();
    socket.send(document.querySelector("input").value);
    event.target.reset();
  };
</script>"#;

/// The extractor works alongside axum's own. Once the server drains, new handshakes are refused, and open sessions
/// close automatically.
async fn chat(State(drain): State<Drain>, Path(name): Path<String>, handshake: WebSocketHandshake) -> Response {
    println!("{name} comes");
    handshake.drain(&drain).on_upgrade(move |socket| async move {
        match session(socket, &name).await {
            Ok(()) => println!("{name} leaves"),
            Err(error) => println!("{name} is gone: {error}"),
        }
    })
}

/// The transport is driven, so that pings are answered whatever the session is doing.
async fn session(socket: WebSocket, name: &str) -> Result<(), tower_transport::Error> {
    let (sender, mut receiver) = socket.drive(QueueConfig::messages()).spawn();
    sender.send(Message::text(format!("hello, {name}"))).await?;
    while let Some(message) = receiver.receive().await {
        if let Some(text) = message?.as_text() {
            let answer: String = text.chars().rev().collect();
            sender.send(Message::text(format!("{text}, or the other way round: {answer}"))).await?;
        }
    }
    Ok(())
}

/// Waits for ctrl-c, or for the signal of a service manager.
async fn stop() {
    #[cfg(unix)]
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let drain = Drain::new();
    let app = Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/chat/{name}", any(chat))
        .with_state(drain.clone())
        .route_service("/ready", drain.readiness());
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("listening on {0}; open http://{0} in a browser", listener.local_addr()?);
    // axum ends its HTTP connections, which no longer include upgraded ones. The drain ends those.
    let restart = CloseFrame::new(CloseCode::RESTART, "the server restarts");
    axum::serve(listener, app).with_graceful_shutdown(drain.start_on(stop(), restart)).await?;
    println!("{}", drain.drain(Duration::from_secs(10)).await);
    Ok(())
}
