//! Authentication: the tokens of a client, the verification on a server, and sessions that end with their token.
//!
//! | end | type | function |
//! |---|---|---|
//! | client | tower-http's `AddAuthorizationLayer` on the connector | credentials that never change; needs no module |
//! | client | [`AuthLayer`] (connector), [`Tokens`] | tokens of a source, cached, replaced in time or after a 401 |
//! | client | [`FirstMessageLayer`] on the transport | sends the token as the first message |
//! | client | [`RenewLayer`] on the transport | sends a new token when the server asks for one |
//! | server | [`handshake::auth`] on the upgrade | authenticates by header, cookie, subprotocol or query |
//! | server | [`FirstMessageGuard`] | authenticates by the first message |
//! | server | [`ExpiryLayer`] on the transport | ends or renews the session when the token expires |
//! | server | [`StaticTokens`], any [`Verify`]; feature `jwt`: `JwtVerifier`, `JwksVerifier` | decides on credentials |
//!
//! # Why
//!
//! tower-http sets a header that is known when the stack is built. But a client that lives for days reconnects with a
//! token that lives for an hour, a browser cannot set a header of a WebSocket handshake, and a session must not outlive
//! the credentials that it began with.
//!
//! # Backpressure
//!
//! With [`Auth`], a connect waits for the token, then for the connector. With [`FirstMessage`], `poll_ready` and
//! `poll_flush` wait for the token; the stream does not. [`Expiring`] and [`Renew`] add no waiting: a new token is
//! fetched and verified while messages pass. [`FirstMessageGuard`] waits for the first message and the verifier,
//! together at most its deadline.
//!
//! # Position in the stack
//!
//! [`AuthLayer`] goes anywhere on a connector, below the reconnecting layer, so that each attempt asks for the token.
//! The layers for transports go below the codec, because they add messages. They go below `reconnect` (in
//! `per_connection`), because their state belongs to one connection. They may go above or below compression and batch,
//! but in the same place on both ends.
//!
//! # Errors
//!
//! Returns an error for which [`is_auth`](crate::Error::is_auth) is true if a peer is refused, with
//! [`status`](crate::Error::status) 401 or 403, or with the close frame. Errors of a token source or a verifier keep
//! their own kind. No error, `Debug` text or response contains a secret: a token is a [`Secret`], and only
//! [`expose`](Secret::expose) returns its text.
//!
//! | close code | meaning |
//! |---|---|
//! | 4401 | unauthorized: the token is missing, invalid or expired |
//! | 4403 | forbidden: the peer is authenticated but lacks permission |
//! | 1013 | the verifier could not decide; try again later |
//! | 1008, 1009 | pings in place of a token, or a token that was not requested; a first message that is too large |
//!
//! A token goes to the server that the request's URI names, and over `ws://` it can be read by everyone on the path:
//! use `wss://`.
//!
//! # Cancel safety
//!
//! Dropping a connect leaves a fetch of the token to the other callers that wait for it. All other state is in the
//! transports: dropping a `send` or a `next` loses nothing.
//!
//! # On the wire
//!
//! The layers add `Authorization` or a subprotocol, a first message, and, with [`renewal`](ExpiryLayer::renewal), two
//! marks. [`docs/wire.md`](crate::guide::wire) documents them.
//!
//! # Cost
//!
//! [`Expiring`] reads no clock and allocates nothing for a message: its timer raises a flag, and only the flag is
//! checked. [`Renew`] and a session that can be renewed also inspect the last 8 bytes of binary messages. A session
//! allocates a few hundred bytes when it is created.
//!
//! # Example
//!
//! A client that fetches a token for each handshake:
//!
//! ```
//! # async fn connect() -> Result<(), tower_transport::BoxError> {
//! # #[cfg(all(feature = "websocket", not(target_arch = "wasm32")))] {
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_transport::{
//!     Error, ServiceBuilderExt,
//!     layer::auth::{Token, TokenRequest, Tokens},
//!     transport::websocket::WebSocketConnector,
//! };
//!
//! let tokens = Tokens::new(service_fn(|_: TokenRequest| async {
//!     // A call of your token endpoint.
//!     Ok::<_, Error>(Token::new("secret").expires_in(Duration::from_secs(3600)))
//! }));
//! let connector = ServiceBuilder::new().auth(tokens).service(WebSocketConnector::new());
//! let socket = connector.oneshot(http::Request::get("wss://example.com/feed").body(())?).await?.into_body();
//! # }
//! # Ok(()) }
//! ```
//!
//! A session that authenticates by its first message, and is renewed before its token expires:
//!
//! ```
//! # #[cfg(not(target_arch = "wasm32"))]
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use std::{future::ready, time::{Duration, SystemTime}};
//! use tower::{Layer, ServiceBuilder, service_fn};
//! use tower_transport::{
//!     Error, Message, TransportExt, channel,
//!     layer::auth::{
//!         Credentials, ExpiryLayer, FirstMessageGuard, FirstMessageLayer, Principal, RenewLayer, Token, TokenRequest,
//!         Tokens,
//!     },
//! };
//!
//! #[derive(Clone)]
//! struct User { name: String, until: SystemTime }
//!
//! impl Principal for User {
//!     fn subject(&self) -> Option<&str> {
//!         Some(&self.name)
//!     }
//!
//!     fn expires_at(&self) -> Option<SystemTime> {
//!         Some(self.until)
//!     }
//! }
//!
//! let (near, far) = channel(8);
//!
//! let tokens = Tokens::new(service_fn(|_: TokenRequest| ready(Ok::<_, Error>(Token::new("let me in")))));
//! let mut client = ServiceBuilder::new()
//!     .layer(RenewLayer::new(tokens.clone()))
//!     .layer(FirstMessageLayer::new(tokens))
//!     .service(near);
//! client.send_message(Message::text("hello")).await?;
//!
//! let verifier = service_fn(|credentials: Credentials| {
//!     let is_good = credentials.bearer().is_some_and(|token| token.expose() == "let me in");
//!     let user = User { name: "ada".to_owned(), until: SystemTime::now() + Duration::from_secs(3600) };
//!     ready(is_good.then_some(user).ok_or(Error::auth("who are you?")))
//! });
//! let (server, user) = FirstMessageGuard::new(verifier).deadline(Duration::from_secs(2)).accept(far).await?;
//! let mut server = ExpiryLayer::new(&user).renewal(verifier, Duration::from_secs(60)).layer(server);
//! assert_eq!(user.name, "ada");
//! assert_eq!(server.receive_message().await.unwrap()?, Message::text("hello"));
//! # Ok::<(), Error>(()) }).unwrap();
//! ```
//!
//! # Compared with tower-http's layers for authorization
//!
//! `AddAuthorizationLayer` has one token that never changes; use it if that is enough. `ValidateRequestHeaderLayer` and
//! `AsyncRequireAuthorizationLayer` inspect the `Authorization` header of a request and leave the rest to you.
//! [`AuthGuardLayer`](crate::handshake::auth::AuthGuardLayer) knows the places where a WebSocket's client can put a
//! token, takes it out of them, and calls a service.
//!
//! [`handshake::auth`]: crate::handshake::auth

#[cfg(not(target_arch = "wasm32"))]
mod expiry;
mod first_message;
#[cfg(not(target_arch = "wasm32"))]
mod first_message_guard;
#[cfg(all(feature = "jwt", not(target_arch = "wasm32")))]
mod jwt;
mod layer;
mod oneshot;
mod renew;
#[cfg(not(target_arch = "wasm32"))]
mod static_tokens;
pub(crate) mod subprotocol;
mod token;
mod tokens;
mod verify;

#[cfg(all(feature = "jwt", not(target_arch = "wasm32")))]
#[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
pub use self::jwt::{Claims, JwksVerifier, JwtKey, JwtRules, JwtVerifier, KeySource, Verifying};
#[cfg(not(target_arch = "wasm32"))]
pub use self::{
    expiry::{Expiring, ExpiryLayer, NoRenewal},
    first_message_guard::FirstMessageGuard,
    static_tokens::StaticTokens,
};
pub use self::{
    first_message::{FirstMessage, FirstMessageLayer, Form},
    layer::{Auth, AuthLayer, ResponseFuture},
    renew::{Renew, RenewLayer},
    token::{Reason, Secret, Token, TokenRequest},
    tokens::{FixedToken, Getting, TokenSource, Tokens},
    verify::{Credentials, Principal, Verify, forbidden},
};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use self::{
    oneshot::Oneshot,
    verify::{MAX_TOKEN, Verdict},
};
