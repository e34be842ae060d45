//! Who the peer is.

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

pub(crate) use self::{credentials::Verdict, oneshot::Oneshot};
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
pub use self::{
    alias::KeySource,
    expiry::{Expiring, ExpiryLayer, NoRenewal},
    first::FirstMessageGuard,
    jwt::{Claims, JwksVerifier, JwtKey, JwtRules, JwtVerifier, Verifying},
    static_tokens::StaticTokens,
};

/// The longest token that is looked at, in bytes.
pub(crate) const MAX_TOKEN: usize = 8 << 10;
