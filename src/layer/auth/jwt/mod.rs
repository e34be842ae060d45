//! JSON Web Tokens (RFC 7519): verification by `jsonwebtoken`, with safe choices for everything that is easy to get
//! wrong.

mod claims;
mod decode;
mod jwks;
mod key;
mod key_set;
mod rules;
mod verifier;

pub use self::{
    claims::Claims,
    jwks::{JwksVerifier, Verifying},
    key::JwtKey,
    rules::JwtRules,
    verifier::JwtVerifier,
};
