//! The browser's WebSocket, for clients that run in a page: the names and semantics of the native client.
//!
//! ```no_run
//! # async fn connect() -> Result<(), tower_transport::BoxError> {
//! use tower::ServiceExt;
//! use tower_transport::{Message, TransportExt, transport::websocket::WebSocketConnector};
//!
//! let request = http::Request::get("wss://example.com/feed").body(())?;
//! let mut socket = WebSocketConnector::new().oneshot(request).await?.into_body();
//! socket.send_message(Message::text("hello")).await?;
//! # Ok(()) }
//! ```
//!
//! The layers go on top of it as they do natively: reconnect, resume, codec, batch, compression, auth. The heartbeat
//! needs
//! [`application_level`](crate::layer::heartbeat::HeartbeatLayer::application_level), because a page cannot send pings.
//! [`WebSocket`] says what else a page cannot do. The server's end exists natively only.

mod connector;
mod socket;
mod transport;

pub use self::{
    connector::{Connecting, WebSocketConnector},
    transport::WebSocket,
};
