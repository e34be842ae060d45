//! The client of `chat_server`: sends each line of its input, prints what happens, and reconnects.
//!
//! ```text
//! cargo run -p examples --bin chat_client -- TOKEN
//! ```

use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tower::ServiceBuilder;
use tower_http::auth::AddAuthorizationLayer;
use tower_transport::{
    BoxError, CloseCode, CloseFrame, QueueConfig, ServiceBuilderExt, TransportExt,
    codec::JsonCodec,
    layer::{heartbeat::HeartbeatLayer, reconnect::Backoff},
    transport::websocket::WebSocketConnector,
};

#[derive(serde::Serialize)]
#[serde(tag = "type")]
enum Command {
    Say { text: String },
}

#[derive(serde::Deserialize)]
#[serde(tag = "type")]
enum Event {
    Presence { name: String, online: bool },
    Said { name: String, text: String },
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let token = std::env::args().nth(1).ok_or("the first argument is the token that the server prints")?;
    let transport = ServiceBuilder::new()
        .codec(JsonCodec::<Command, Event>::new())
        .reconnect("ws://127.0.0.1:3000/chat", Backoff::exponential())
        .per_connection(HeartbeatLayer::default())
        .layer(AddAuthorizationLayer::bearer(&token))
        .service(WebSocketConnector::new());
    let (sender, mut receiver) = transport.drive(QueueConfig::values()).spawn();
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(text) => sender.send(Command::Say { text }).await?,
                None => return Ok(sender.close(CloseFrame::new(CloseCode::NORMAL, "bye")).await?),
            },
            event = receiver.receive() => match event.transpose()? {
                Some(Event::Presence { name, online }) => println!("{name} is {}", if online { "in" } else { "out" }),
                Some(Event::Said { name, text }) => println!("{name}: {text}"),
                None => return Err(sender.closed().await.into()),
            },
        }
    }
}
