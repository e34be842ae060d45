//! A bare hyper server: one route upgrades, the rest is plain HTTP, and ctrl-c shuts it down gracefully. A client of
//! this crate tries both. The server is then stopped as by ctrl-c, the client is told, and the example ends.
//!
//! ```text
//! cargo run --example hyper
//! ```

use std::{convert::Infallible, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::oneshot};
use tower::{Service, ServiceExt, service_fn};
use tower_transport::{
    BoxError, Message, TransportExt,
    transport::{
        Drain, Drained, accept,
        websocket::{WebSocketConnector, WebSocketService},
    },
};

/// Serves until `stop` is ready, then ends all connections.
async fn serve(listener: TcpListener, stop: impl Future<Output = ()>) -> Result<Drained, BoxError> {
    let drain = Drain::new();
    let upgrade = WebSocketService::new(|mut socket, parts| async move {
        println!("server: upgraded {}, speaking {:?}", parts.uri, socket.subprotocol());
        while let Some(Ok(message)) = socket.receive_message().await {
            if message.is_data() && socket.send_message(message).await.is_err() {
                break;
            }
        }
        println!("server: closed with {:?}", socket.close_frame());
    })
    .subprotocol("echo.v1")?
    .drain(&drain);
    // The upgrade is a service like any other, and can be routed to.
    let router = service_fn(move |request: Request<Incoming>| {
        let mut upgrade = upgrade.clone();
        async move {
            match request.uri().path() {
                "/echo" => upgrade.call(request).await,
                _ => Ok::<_, Infallible>(Response::new("the WebSocket is at /echo\n".into())),
            }
        }
    });
    let mut stop = std::pin::pin!(stop);
    loop {
        let (tcp, _) = tokio::select! {
            accepted = accept(|| listener.accept()) => accepted,
            () = &mut stop => break,
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new()) // cuts a client that never ends its request
            .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(router.clone()))
            .with_upgrades();
        tokio::spawn(drain.watch(connection, |connection| connection.graceful_shutdown()));
    }
    // No client should wait in the backlog of a process that shuts down.
    drop(listener);
    // 1012, and a time to return, at which clients of this crate reconnect. Handlers have ten seconds.
    Ok(drain.drain(Duration::from_secs(10)).await)
}

/// Waits for ctrl-c or the signal of a service manager. Here the end of the example counts too.
async fn stop(done: oneshot::Receiver<()>) {
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
        _ = done => {}
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (done, is_done) = oneshot::channel();
    let server = tokio::spawn(serve(listener, stop(is_done)));

    let connector = WebSocketConnector::new().subprotocol("echo.v1")?;
    let request = Request::get(format!("ws://{address}/echo")).body(())?;
    let response = connector.clone().oneshot(request).await?;
    println!("client: {} {:?}", response.status(), response.headers());
    let mut socket = response.into_body();
    socket.send_message(Message::text("over hyper")).await?;
    println!("client: {:?}", socket.receive_message().await);

    // A response that does not upgrade is an error with the server's own text.
    let error = connector.oneshot(Request::get(format!("ws://{address}/")).body(())?).await.unwrap_err();
    println!("client: {error}: {:?}", error.response_body());

    // The server stops: this session is told, and ends.
    let _ = done.send(());
    while let Some(message) = socket.receive_message().await {
        println!("client: {message:?}");
    }
    println!("server: {}", server.await??);
    Ok(())
}
