//! A bare hyper server: one route upgrades, the rest is plain HTTP. A client of this crate then tries both, and the example
//! ends.
//!
//! ```text
//! cargo run --example hyper
//! ```

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::{Service, ServiceExt, service_fn};
use tower_transport::{
    BoxError, Message, TransportExt,
    transport::{
        accept,
        websocket::{WebSocketConnector, WebSocketUpgrade},
    },
};

async fn serve(listener: TcpListener) -> Result<(), BoxError> {
    let upgrade = WebSocketUpgrade::new(|mut socket, parts| async move {
        println!("server: upgraded {}, speaking {:?}", parts.uri, socket.subprotocol());
        while let Some(Ok(message)) = socket.receive_message().await {
            if message.is_data() && socket.send_message(message).await.is_err() {
                return;
            }
        }
        println!("server: closed with {:?}", socket.close_frame());
    })
    .subprotocol("echo.v1")?;
    // The upgrade is a service like any other: route to it.
    let router = service_fn(move |request: Request<Incoming>| {
        let mut upgrade = upgrade.clone();
        async move {
            match request.uri().path() {
                "/echo" => upgrade.call(request).await,
                _ => Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("the WebSocket is at /echo\n")))),
            }
        }
    });
    loop {
        let (tcp, _) = accept(|| listener.accept()).await;
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(router.clone()))
            .with_upgrades();
        tokio::spawn(connection);
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(serve(listener));

    let connector = WebSocketConnector::new().subprotocol("echo.v1")?;
    let request = Request::get(format!("ws://{address}/echo")).body(())?;
    let response = connector.clone().oneshot(request).await?;
    println!("client: {} {:?}", response.status(), response.headers());
    let mut socket = response.into_body();
    socket.send_message(Message::text("over hyper")).await?;
    println!("client: {:?}", socket.receive_message().await);
    socket.close(None).await?;

    // What is no WebSocket is an error with the server's own words.
    let error = connector.oneshot(Request::get(format!("ws://{address}/")).body(())?).await.unwrap_err();
    println!("client: {error}: {:?}", error.response_body());
    Ok(())
}
