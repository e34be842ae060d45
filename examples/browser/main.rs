//! The server of the pages in this folder. It serves one of them, and the chat that all of them speak.
//!
//! ```text
//! examples/browser/build leptos
//! cargo run --example browser --features axum,optimized -- leptos
//! # then open http://127.0.0.1:3000 in two windows; ctrl-c ends it
//! ```

use std::path::{Path, PathBuf};

use axum::{Router, extract::State, routing::get};
use http::{StatusCode, Uri, header::CONTENT_TYPE};
use tokio::sync::broadcast::{self, error::RecvError};
use tower_transport::{
    BoxError, Message,
    stack::{OptimizedAcceptor, OptimizedTransport},
    transport::websocket::WebSocket,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let page = arguments.next().unwrap_or_else(|| "plain".to_owned());
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/browser").join(&page).join("dist");
    if !folder.join("index.html").exists() {
        println!("not built yet: run `examples/browser/build {page}`");
    }

    // Sessions, batches, compression and heartbeats are negotiated with each page. A page whose connection was cut
    // resumes its session.
    let acceptor: OptimizedAcceptor = OptimizedTransport::builder().acceptor();
    let room = broadcast::Sender::new(256);
    let upgrade = acceptor.upgrade(move |session, _parts| chat(session, room));

    let app = Router::new().route_service("/chat", upgrade).fallback(get(file)).with_state(folder);
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("listening on {0}; open http://{0} in a browser", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// Passes on to everybody what somebody says. It ends when the page closes the session.
async fn chat(session: OptimizedTransport<WebSocket>, room: broadcast::Sender<Message>) {
    let mut said = room.subscribe();
    println!("somebody came: {} in the room", room.receiver_count());
    let (sender, mut receiver) = session.split();
    loop {
        tokio::select! {
            message = receiver.receive() => match message {
                Some(Ok(message)) if message.is_data() => drop(room.send(message)),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
            message = said.recv() => match message {
                Ok(message) => if sender.send(message).await.is_err() { break },
                // This page reads more slowly than the others talk, and misses messages.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break,
            },
        }
    }
    drop(said);
    println!("somebody left: {} in the room", room.receiver_count());
}

/// Serves a file of the built page.
async fn file(
    State(folder): State<PathBuf>,
    uri: Uri,
) -> Result<([(http::HeaderName, &'static str); 1], Vec<u8>), StatusCode> {
    let path = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    // No name leads out of the folder.
    if path.split('/').any(|name| name.is_empty() || name.starts_with('.') || name.contains(['\\', ':'])) {
        return Err(StatusCode::NOT_FOUND);
    }
    let kind = match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("wasm") => "application/wasm",
        _ => return Err(StatusCode::NOT_FOUND),
    };
    let content = std::fs::read(folder.join(path)).map_err(|_| StatusCode::NOT_FOUND)?;
    Ok(([(CONTENT_TYPE, kind)], content))
}
