//! Lets in who shows good credentials: a layer over the service that upgrades.
//!
//! # Why
//!
//! A WebSocket begins as an HTTP request, and who must not have one is best refused there: with a status, before there is a
//! connection to keep. But a browser can set no header of that request, so its token comes as a cookie or a subprotocol,
//! which layers for HTTP APIs do not look at.
//!
//! # Where credentials are looked for
//!
//! | place | default | what becomes of it |
//! |---|---|---|
//! | `Authorization: Bearer`, `Basic` | on | stays, marked as sensitive |
//! | a subprotocol, `bearer.` and the token in base64url | on | is taken out; the negotiation sees the others ([more](#in-a-browser)) |
//! | a [cookie](AuthGuardLayer::cookie) | off | stays, marked as sensitive; looked at where there are no other credentials |
//! | a [query parameter](AuthGuardLayer::query) | off, and better left so | is taken out of the URL |
//!
//! A request that shows credentials in two of the places, or twice in one, is refused (RFC 6750, section 2).
//!
//! # In a browser
//!
//! A page can set no header of a WebSocket's handshake but the subprotocols. So it offers its own, and the token behind them, in base64url
//! without padding:
//!
//! ```js
//! const bytes = new TextEncoder().encode(token);
//! const encoded = btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
//! const socket = new WebSocket("wss://example.com/feed", ["chat.v1", "bearer." + encoded]);
//! ```
//!
//! Browsers fail a connection for which they have offered subprotocols and the server has chosen none. So the server must speak one of the
//! others ([`WebSocketUpgrade::subprotocol`](crate::transport::websocket::WebSocketUpgrade::subprotocol), `chat.v1` here). If the
//! token is the only subprotocol that is offered, the guard chooses it in its answer, so that the browser connects.
//!
//! # Where it waits
//!
//! For the verifier, once for each request: put a timeout around one that goes over the network. The inner service is waited
//! for as always.
//!
//! # Where it belongs in the stack
//!
//! Around the upgrade, below a limit on connections by address and above one by principal. What is inside finds what the
//! verifier gave in the request's extensions: the handler in `parts.extensions`, a rate limit as its key.
//!
//! # Errors
//!
//! Those of the inner service, as they are. Its own are answers, with an empty body, and no more said than the standard codes say:
//!
//! | answer | `WWW-Authenticate` | for |
//! |---|---|---|
//! | 401 | `Bearer` | no credentials |
//! | 400 | `Bearer error="invalid_request"` | credentials that cannot be read, or doubled |
//! | 401 | `Bearer error="invalid_token"` | an error of the verifier that [`is_auth`](crate::Error::is_auth) |
//! | 403 | `Bearer error="insufficient_scope"` | [`forbidden`](crate::layer::auth::forbidden) |
//! | 503, and `Retry-After` if it is known | | any other error of the verifier |
//!
//! # Cancel safety
//!
//! Dropping the future drops the verification or the inner service's future.
//!
//! # What it adds to the wire
//!
//! The answers above, and the token's subprotocol in the answer to a client that offers no other.
//!
//! # Example
//!
//! ```
//! # #[cfg(feature = "websocket")]
//! # fn main() -> Result<(), tower_transport::Error> {
//! use tower::{Layer, ServiceBuilder};
//! use tower_transport::{
//!     TransportExt,
//!     handshake::auth::AuthGuardLayer,
//!     layer::auth::{Claims, ExpiryLayer, JwtKey, JwtRules, JwtVerifier},
//!     transport::websocket::WebSocketUpgrade,
//! };
//!
//! let key = JwtKey::hs256(b"32 bytes that only the two of us know")?;
//! let verifier: JwtVerifier = JwtVerifier::new(key, JwtRules::new().audience("feed"));
//! let service = ServiceBuilder::new()
//!     .layer(AuthGuardLayer::new(verifier))
//!     .service(WebSocketUpgrade::new(|socket, parts| async move {
//!         let Some(claims) = parts.extensions.get::<Claims>() else { return };
//!         let mut socket = ExpiryLayer::new(claims).layer(socket); // closed with 4401 when the token expires
//!         while let Some(Ok(message)) = socket.receive_message().await {
//!             println!("{:?}: {message:?}", claims.subject);
//!         }
//!     }));
//! # Ok(()) }
//! # #[cfg(not(feature = "websocket"))] fn main() {}
//! ```
//!
//! For pages of a site whose session is in a cookie, with a realm:
//!
//! ```
//! use tower_transport::{handshake::auth::AuthGuardLayer, layer::auth::StaticTokens};
//!
//! let verifier = StaticTokens::new().token("6f1c...", "ada");
//! let guard = AuthGuardLayer::new(verifier).cookie("session").realm("feed")?;
//! # Ok::<(), tower_transport::Error>(())
//! ```
//!
//! # Unlike tower-http's `AsyncRequireAuthorizationLayer`
//!
//! That one gives you the request and takes a request or a response back. This one finds the credentials, asks any
//! `Service<Credentials>`, and answers by the standards.

mod extract;
mod future;
mod layer;
mod refusal;
mod service;

pub use self::{future::ResponseFuture, layer::AuthGuardLayer, service::AuthGuard};
