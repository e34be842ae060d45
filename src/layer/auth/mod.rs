//! Who the peer is: the tokens of a client, the verification of a server, and sessions that end with their token.
//!
//! | end | what | does |
//! |---|---|---|
//! | client | tower-http's `AddAuthorizationLayer` on the connector | a token, name and password or header that never changes: nothing of ours is needed |
//! | client | [`AuthLayer`] on the connector, [`Tokens`] | tokens of a source: cached, replaced before they expire and after a 401; as a header or a subprotocol |
//! | client | [`FirstMessageLayer`] on the transport | the token as the first message |
//! | client | [`RenewLayer`] on the transport | a new token when the server asks for one |
//! | server | [`handshake::auth`](crate::handshake::auth) on the upgrade | lets in by header, cookie, subprotocol, query |
//! | server | [`FirstMessageGuard`] | lets in by the first message |
//! | server | [`ExpiryLayer`] on the transport | ends or renews the session when the token expires |
//! | server | [`JwtVerifier`], [`JwksVerifier`], [`StaticTokens`], any [`Verify`] | says whether credentials are good |
//!
//! # Why
//!
//! tower-http sets a header that is known when the stack is built. A client that lives for days reconnects with a token of
//! an hour; a browser can set no header of a WebSocket's handshake; and a session must not outlive what let it in.
//!
//! # Where it waits
//!
//! [`Auth`]: a connect waits for the token, then for the connector. [`FirstMessage`]: `poll_ready` and `poll_flush` wait for the
//! token; the stream does not. [`Expiring`] and [`Renew`] wait for nothing of their own; a new token is fetched and verified
//! while messages pass. [`FirstMessageGuard`] waits for the first message and the verifier, together at most its deadline.
//!
//! # Where it belongs in the stack
//!
//! [`AuthLayer`]: anywhere on a connector, below what reconnects, so that each attempt asks for the token. The transports: below
//! the codec, since what they add are messages; below `reconnect` (in `per_connection`), since what they know belongs to one
//! connection; above compression and batch or below them, but on both ends alike.
//!
//! # Errors
//!
//! [`is_auth`](crate::Error::is_auth) for a peer that is not let in, with [`status`](crate::Error::status) 401 or 403, or with the close
//! frame; those of a token source and a verifier keep their own kind. No error, `Debug` text or answer has a secret in it: a
//! token is a [`Secret`], whose text is had by [`expose`](Secret::expose) alone.
//!
//! | close code | means |
//! |---|---|
//! | 4401 | unauthorized: no token, one that is not good, or one that has expired |
//! | 4403 | forbidden: the peer is known, and may not |
//! | 1013 | the verifier could not tell; come back later |
//! | 1008, 1009 | pings, or a token nobody asked for, in place of a token; a first message that is too large |
//!
//! A token goes to whoever the request's URI names, and over `ws://` for all to read: use `wss://`.
//!
//! # Cancel safety
//!
//! Dropping a connect leaves a fetch of the token to the others who wait for it. All else is state of the transports: a
//! `send` or `next` that is dropped loses nothing.
//!
//! # What it adds to the wire
//!
//! `Authorization`, or a subprotocol; a first message; with [`renewal`](ExpiryLayer::renewal), two marks. `docs/wire.md` has them.
//!
//! # Cost
//!
//! [`Expiring`] reads no clock and allocates nothing for a message: its timer raises a flag, and that is what is looked at.
//! [`Renew`] and a session that can be renewed look at the last 8 bytes of binary messages besides. A session allocates a few
//! hundred bytes when it is made.
//!
//! # Example
//!
//! A token that is fetched, on each handshake:
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
//! A session that says who it is by its first message, and is renewed before its token expires:
//!
//! ```
//! # #[cfg(not(target_arch = "wasm32"))]
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use std::{future::ready, time::{Duration, SystemTime}};
//! use tower::{Layer, ServiceBuilder, service_fn};
//! use tower_transport::{
//!     Error, Message, TransportExt, channel,
//!     layer::auth::{
//!         Credentials, ExpiryLayer, FirstMessageGuard, FirstMessageLayer, Principal, RenewLayer, Token, TokenRequest, Tokens,
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
//! # Unlike tower-http's `AddAuthorizationLayer`, `ValidateRequestHeaderLayer` and `AsyncRequireAuthorizationLayer`
//!
//! The first has one token for ever: use it where that is so. The others look at the `Authorization` header of a request and
//! leave the rest to you; [`AuthGuardLayer`](crate::handshake::auth::AuthGuardLayer) knows the places where a WebSocket's client
//! can put a token, takes it out of them, and asks a service.

mod alias;
mod credentials;
mod expiry;
mod first;
mod future;
#[cfg(not(target_arch = "wasm32"))]
mod jwt;
mod layer;
mod oneshot;
mod secret;
mod service;
#[cfg(not(target_arch = "wasm32"))]
mod static_tokens;
pub(crate) mod subprotocol;
mod token;
mod tokens;
#[cfg(not(target_arch = "wasm32"))]
mod verdict;

#[cfg(not(target_arch = "wasm32"))]
pub use self::{
    alias::KeySource,
    expiry::{Expiring, ExpiryLayer, NoRenewal},
    first::FirstMessageGuard,
    jwt::{Claims, JwksVerifier, JwtKey, JwtRules, JwtVerifier, Verifying},
    static_tokens::StaticTokens,
};
pub use self::{
    alias::{TokenSource, Verify},
    credentials::{Credentials, Principal, forbidden},
    expiry::{Renew, RenewLayer},
    first::{FirstMessage, FirstMessageLayer, Form},
    future::ResponseFuture,
    layer::AuthLayer,
    secret::Secret,
    service::Auth,
    token::{Reason, Token, TokenRequest},
    tokens::{FixedToken, Getting, Tokens},
};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use self::{oneshot::Oneshot, verdict::Verdict};

/// The longest token that is looked at, in bytes.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) const MAX_TOKEN: usize = 8 << 10;
