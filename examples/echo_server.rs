//! A plain WebSocket echo server with this crate's defaults, for conformance suites and load generators. Ctrl-c shuts
//! it down gracefully.
//!
//! ```text
//! cargo run --release --example echo_server 127.0.0.1:9001
//! cargo run --release --example echo_server 127.0.0.1:9001 16777216            # messages and frames of up to 16 MiB
//! cargo run --release --example echo_server 127.0.0.1:9001 16777216 deflate    # and permessage-deflate
//! ```

use std::{pin::pin, time::Duration};

use futures_util::{SinkExt, StreamExt, future::poll_fn};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower_transport::{
    BoxError, CloseCode, CloseFrame, Error, Limits,
    transport::{
        Drain, accept,
        websocket::{PerMessageDeflate, WebSocket, WebSocketService},
    },
};

/// Sends text and binary messages back. Messages that have arrived together are answered together, with one flush.
async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        let mut message = message?;
        loop {
            if message.is_data() {
                socket.feed(message).await?;
            }
            // Checks whether another message has already arrived.
            let more = poll_fn(|cx| std::task::Poll::Ready(socket.poll_next_unpin(cx))).await;
            match more {
                std::task::Poll::Ready(Some(next)) => message = next?,
                std::task::Poll::Ready(None) => return Ok(()),
                std::task::Poll::Pending => break,
            }
        }
        socket.flush().await?;
    }
    Ok(())
}

/// Compresses every message, with each setting that a client may ask for.
fn compression() -> PerMessageDeflate {
    PerMessageDeflate::new().min_size(0).context_takeover(true).peer_context_takeover(true)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let listener = TcpListener::bind(&address).await?;
    println!("listening on {}", listener.local_addr()?);

    let limits = match std::env::args().nth(2) {
        Some(bytes) => Limits::new().message(bytes.parse()?).frame(bytes.parse()?),
        None => Limits::new(),
    };
    let upgrade = WebSocketService::new(|socket, _parts| async move {
        match echo(socket).await {
            Err(error) if !error.is_closed() => eprintln!("{error}"),
            _ => {}
        }
    })
    .limits(limits);
    let upgrade = match std::env::args().nth(3).as_deref() {
        Some("deflate") => upgrade.per_message_deflate(compression()),
        Some(other) => return Err(format!("`{other}` is not an option: try `deflate`").into()),
        None => upgrade,
    };
    let drain = Drain::new();
    let upgrade = upgrade.drain(&drain);
    let mut stop = pin!(tokio::signal::ctrl_c());
    loop {
        let (tcp, _) = tokio::select! {
            accepted = accept(|| listener.accept()) => accepted,
            _ = &mut stop => break,
        };
        let _ = tcp.set_nodelay(true); // fails if the client has left; its connection reports that
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(10))
            .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(upgrade.clone()))
            .with_upgrades();
        tokio::spawn(drain.watch(connection, |connection| connection.graceful_shutdown()));
    }
    drop(listener);
    let frame = CloseFrame::new(CloseCode::AWAY, "the server shuts down");
    println!("{}", drain.close(frame, Duration::from_secs(5)).await);
    Ok(())
}
