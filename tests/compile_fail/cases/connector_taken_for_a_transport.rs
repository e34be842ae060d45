//! A connector is not a transport: it makes one.

use tower_transport::{Message, TransportExt, transport::websocket::WebSocketConnector};

async fn send() {
    let mut transport = WebSocketConnector::new();
    transport.send_message(Message::text("hello")).await.unwrap();
}

fn main() {}
