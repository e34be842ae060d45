use std::{
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use subtle::ConstantTimeEq;
use tower_service::Service;

use super::{Credentials, Secret};
use crate::Error;

/// Verifies opaque tokens from a list: a `Service<`[`Credentials`]`, Response = P>`.
///
/// A presented token is compared with each token of the list, in a time that does not depend on where the two differ.
/// Only the lengths can be discovered by measuring. Use it for lists of about ten tokens, each random and long (32
/// bytes, in hexadecimal or base64).
///
/// ```
/// use tower_transport::layer::auth::StaticTokens;
///
/// let verifier = StaticTokens::new().token("6f1c...", "the dashboard").token("a07e...", "the robot");
/// ```
#[derive(Clone)]
pub struct StaticTokens<P> {
    tokens: Arc<Vec<(Secret, P)>>,
}

impl<P: Clone> StaticTokens<P> {
    /// Creates an empty list, which refuses every token.
    #[must_use]
    pub fn new() -> Self {
        Self { tokens: Arc::default() }
    }

    /// Adds a token. A peer that presents `token` is `principal`.
    #[must_use]
    pub fn token(mut self, token: impl Into<Secret>, principal: P) -> Self {
        Arc::make_mut(&mut self.tokens).push((token.into(), principal));
        self
    }

    /// Returns the principal of a token.
    fn find(&self, shown: &Secret) -> Option<P> {
        let mut found = None;
        for (token, principal) in &*self.tokens {
            // All tokens are compared, even after a match.
            if bool::from(token.expose().as_bytes().ct_eq(shown.expose().as_bytes())) {
                found = Some(principal);
            }
        }
        found.cloned()
    }
}

impl<P: Clone> Default for StaticTokens<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Clone> Service<Credentials> for StaticTokens<P> {
    type Response = P;
    type Error = Error;
    type Future = Ready<Result<P, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, credentials: Credentials) -> Self::Future {
        let principal = credentials.bearer().and_then(|token| self.find(token));
        ready(principal.ok_or_else(|| Error::auth("the token is not in the list of accepted tokens")))
    }
}

impl<P> fmt::Debug for StaticTokens<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticTokens").field("tokens", &self.tokens.len()).finish()
    }
}
