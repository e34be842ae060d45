//! What guards the HTTP request before it becomes a transport: ordinary tower layers over the service that upgrades
//! ([`WebSocketUpgrade`](crate::transport::websocket::WebSocketUpgrade), an axum route), on a server.
//!
//! | layer | lets in |
//! |---|---|
//! | [`auth::AuthGuardLayer`] | who shows good credentials |
//! | [`limit::ConnectionLimitLayer`] | so many at a time, in total and of one key |
//!
//! Pages of other origins are refused by the upgrade itself.

pub mod auth;
pub mod limit;
