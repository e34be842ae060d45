//! Guards for the HTTP request before it becomes a transport: ordinary tower layers around the service that upgrades
//! ([`WebSocketService`](crate::transport::websocket::WebSocketService), an axum route), on a server.
//!
//! | layer | feature | admits |
//! |---|---|---|
//! | [`auth::AuthGuardLayer`] | `auth` | requests with valid credentials |
//! | [`client_address::ClientAddressLayer`] | `client-address` | all; finds the client behind trusted proxies |
//! | [`limit::ConnectionLimitLayer`] | `limit` | a limited number of concurrent connections, in total and per key |
//!
//! [`proxy_protocol`] reads what a proxy of TCP writes in front of the request.
//!
//! The upgrade itself refuses pages of other origins.

#[cfg(feature = "auth")]
#[cfg_attr(docsrs, doc(cfg(feature = "auth")))]
pub mod auth;
#[cfg(feature = "client-address")]
#[cfg_attr(docsrs, doc(cfg(feature = "client-address")))]
pub mod client_address;
#[cfg(feature = "limit")]
#[cfg_attr(docsrs, doc(cfg(feature = "limit")))]
pub mod limit;
#[cfg(feature = "proxy-protocol")]
#[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
pub mod proxy_protocol;
