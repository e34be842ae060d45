//! JSON Web Tokens (RFC 7519): verification by `jsonwebtoken`, with safe choices for everything that is easy to get
//! wrong.

mod jwks;
mod key;
mod verifier;

pub use self::{
    jwks::{JwksVerifier, KeySource, Verifying},
    key::JwtKey,
    verifier::{Claims, JwtRules, JwtVerifier},
};
