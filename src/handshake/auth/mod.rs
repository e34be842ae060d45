//! Admits requests with valid credentials: a layer around the service that upgrades.
//!
//! # Why
//!
//! A WebSocket begins as an HTTP request. A client without permission is best refused there, with a status, before
//! there is a connection to keep. But a browser cannot set a header of that request, so its token comes as a cookie or
//! a subprotocol, which layers for HTTP APIs do not check.
//!
//! # Places for credentials
//!
//! | place | default | handling |
//! |---|---|---|
//! | `Authorization: Bearer`, `Basic` | on | kept, marked as sensitive |
//! | a subprotocol: `bearer.`, then the token in base64url | on | removed ([more](#in-a-browser)) |
//! | a [cookie](AuthGuardLayer::cookie) | off | kept, marked as sensitive; used if there are no others |
//! | a [query parameter](AuthGuardLayer::query) | off, and best left off | removed from the URL |
//!
//! A request with credentials in two of these places, or twice in one, is refused (RFC 6750, section 2).
//!
//! # In a browser
//!
//! The subprotocols are the only header of a WebSocket handshake that a page can set. The page therefore offers its own
//! subprotocol, followed by the token in base64url without padding:
//!
//! ```js
//! const bytes = new TextEncoder().encode(token);
//! const encoded = btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
//! const socket = new WebSocket("wss://example.com/feed", ["chat.v1", "bearer." + encoded]);
//! ```
//!
//! A browser fails the connection if it has offered subprotocols and the server has chosen none. The server must
//! therefore speak one of the others
//! ([`WebSocketService::subprotocol`](crate::transport::websocket::WebSocketService::subprotocol), `chat.v1` here). If
//! the token is the only subprotocol on offer, the guard chooses it in its answer, so that the browser connects.
//!
//! # Backpressure
//!
//! A request waits for the verifier once. Put a timeout around a verifier that uses the network. The readiness of the
//! inner service is passed through.
//!
//! # Position in the stack
//!
//! The layer goes around the upgrade, below a limit on connections by address and above one by principal. Inner
//! services find the verifier's result in the request's extensions: the handler in `parts.extensions`, a rate limit as
//! its key.
//!
//! # Errors
//!
//! Returns the errors of the inner service unchanged. The guard's refusals are responses with an empty body, and reveal
//! no more than the standard codes:
//!
//! | answer | `WWW-Authenticate` | for |
//! |---|---|---|
//! | 401 | `Bearer` | no credentials |
//! | 400 | `Bearer error="invalid_request"` | credentials that cannot be read or are given twice |
//! | 401 | `Bearer error="invalid_token"` | the verifier's error [`is_auth`](crate::Error::is_auth) |
//! | 403 | `Bearer error="insufficient_scope"` | [`forbidden`](crate::layer::auth::forbidden) |
//! | 503, with `Retry-After` if it is known | | any other error of the verifier |
//!
//! # Cancel safety
//!
//! Dropping the future drops the verification or the inner service's future.
//!
//! # On the wire
//!
//! The layer sends the responses above, and chooses the token's subprotocol in the answer to a client that offers no
//! other.
//!
//! # Example
//!
//! ```
//! # #[cfg(all(feature = "jwt", feature = "websocket"))]
//! # fn main() -> Result<(), tower_transport::Error> {
//! use tower::{Layer, ServiceBuilder};
//! use tower_transport::{
//!     TransportExt,
//!     handshake::auth::AuthGuardLayer,
//!     layer::auth::{Claims, ExpiryLayer, JwtKey, JwtRules, JwtVerifier},
//!     transport::websocket::WebSocketService,
//! };
//!
//! let key = JwtKey::hs256(b"32 bytes that only the two of us know")?;
//! let verifier: JwtVerifier = JwtVerifier::new(key, JwtRules::new().audience("feed"));
//! let service = ServiceBuilder::new()
//!     .layer(AuthGuardLayer::new(verifier))
//!     .service(WebSocketService::new(|socket, parts| async move {
//!         let Some(claims) = parts.extensions.get::<Claims>() else { return };
//!         let mut socket = ExpiryLayer::new(claims).layer(socket); // closed with 4401 when the token expires
//!         while let Some(Ok(message)) = socket.receive_message().await {
//!             println!("{:?}: {message:?}", claims.subject);
//!         }
//!     }));
//! # Ok(()) }
//! # #[cfg(not(all(feature = "jwt", feature = "websocket")))] fn main() {}
//! ```
//!
//! A guard for pages of a site that keeps its session in a cookie, with a realm:
//!
//! ```
//! use tower_transport::{handshake::auth::AuthGuardLayer, layer::auth::StaticTokens};
//!
//! let verifier = StaticTokens::new().token("6f1c...", "ada");
//! let guard = AuthGuardLayer::new(verifier).cookie("session").realm("feed")?;
//! # Ok::<(), tower_transport::Error>(())
//! ```
//!
//! # Compared with tower-http's `AsyncRequireAuthorizationLayer`
//!
//! `AsyncRequireAuthorizationLayer` passes you the request and takes a request or a response back. This layer finds the
//! credentials, calls any `Service<Credentials>`, and answers by the standards.

mod extract;
mod guard;

pub use self::guard::{AuthGuard, AuthGuardLayer, ResponseFuture};
