//! Guards for the HTTP request before it becomes a transport: ordinary tower layers around the service that upgrades
//! ([`WebSocketService`](crate::transport::websocket::WebSocketService), an axum route), on a server.
//!
//! | layer | feature | admits |
//! |---|---|---|
//! | [`auth::AuthGuardLayer`] | `auth` | requests with valid credentials |
//! | [`limit::ConnectionLimitLayer`] | `limit` | a limited number of concurrent connections, in total and per key |
//!
//! The upgrade itself refuses pages of other origins.

#[cfg(feature = "auth")]
#[cfg_attr(docsrs, doc(cfg(feature = "auth")))]
pub mod auth;
#[cfg(feature = "limit")]
#[cfg_attr(docsrs, doc(cfg(feature = "limit")))]
pub mod limit;
