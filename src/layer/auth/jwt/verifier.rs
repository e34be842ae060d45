use std::{
    fmt,
    future::{Ready, ready},
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
};

use serde::de::DeserializeOwned;
use tower_service::Service;

use super::{Claims, JwtKey, JwtRules, decode};
use crate::{Error, layer::auth::Credentials};

/// Verifies JWTs with given keys: a `Service<`[`Credentials`]`, Response = `[`Claims`]`<X>>` that answers at once.
///
/// The algorithm is the key's, never the token's: `alg: none` is refused, and so is a token "signed" by HS256 with an
/// RSA public key. A header that requires extensions (`crit`) and a token over 8 KiB are refused.
///
/// ```
/// use tower_transport::layer::auth::{JwtKey, JwtRules, JwtVerifier};
///
/// # fn main() -> Result<(), tower_transport::Error> {
/// let key = JwtKey::hs256(b"32 bytes that only the two of us know")?;
/// let verifier: JwtVerifier = JwtVerifier::new(key, JwtRules::new().audience("feed"));
/// # Ok(()) }
/// ```
pub struct JwtVerifier<X = ()> {
    shared: Arc<(Vec<JwtKey>, JwtRules)>,
    extra: PhantomData<fn() -> X>,
}

impl<X> JwtVerifier<X> {
    /// Creates a verifier with one key.
    #[must_use]
    pub fn new(key: JwtKey, rules: JwtRules) -> Self {
        Self::with_keys(vec![key], rules)
    }

    /// Creates a verifier with several keys. A token is verified with the key that has the id that it names (`kid`). If
    /// it names none, it is verified with the only key that has its algorithm.
    #[must_use]
    pub fn with_keys(keys: Vec<JwtKey>, rules: JwtRules) -> Self {
        Self { shared: Arc::new((keys, rules)), extra: PhantomData }
    }
}

impl<X: DeserializeOwned> JwtVerifier<X> {
    /// Verifies a token and returns its claims. It blocks for the duration of the cryptography: about 100 µs at most.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_auth`](Error::is_auth) is true if the token is refused. Its message states the
    /// reason, and reveals nothing of the token.
    pub fn verify(&self, credentials: &Credentials) -> Result<Claims<X>, Error> {
        let (keys, rules) = &*self.shared;
        Ok(decode::decode(decode::token(credentials)?, keys, rules)?)
    }
}

impl<X: DeserializeOwned> Service<Credentials> for JwtVerifier<X> {
    type Response = Claims<X>;
    type Error = Error;
    type Future = Ready<Result<Claims<X>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, credentials: Credentials) -> Self::Future {
        ready(self.verify(&credentials))
    }
}

impl<X> Clone for JwtVerifier<X> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), extra: PhantomData }
    }
}

impl<X> fmt::Debug for JwtVerifier<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keys, rules) = &*self.shared;
        f.debug_struct("JwtVerifier").field("keys", keys).field("rules", rules).finish_non_exhaustive()
    }
}
