//! Guards for the HTTP request before it becomes a transport: ordinary tower layers around the service that upgrades
//! ([`WebSocketUpgrade`](crate::transport::websocket::WebSocketUpgrade), an axum route), on a server.
//!
//! | layer | admits |
//! |---|---|
//! | [`auth::AuthGuardLayer`] | requests with valid credentials |
//! | [`limit::ConnectionLimitLayer`] | a limited number of concurrent connections, in total and per key |
//!
//! The upgrade itself refuses pages of other origins.

pub mod auth;
pub mod limit;
