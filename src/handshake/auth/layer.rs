use std::{fmt, sync::Arc};

use tower_layer::Layer;

use super::{AuthGuard, extract::Places, refusal::Challenges};
use crate::Error;

/// A layer for services of HTTP requests: admits requests whose credentials the verifier `V` accepts. See the
/// [module](super) for the complete documentation.
#[derive(Clone)]
pub struct AuthGuardLayer<V> {
    pub(super) verifier: V,
    pub(super) config: Arc<Config>,
}

#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) places: Places,
    pub(super) challenges: Challenges,
    pub(super) is_optional: bool,
}

impl<V> AuthGuardLayer<V> {
    /// Creates a layer that asks `verifier` about the credentials in the `Authorization` header (`Bearer`, `Basic`) or
    /// in a subprotocol (`bearer.` followed by the token in base64url).
    pub fn new(verifier: V) -> Self {
        let config = Config { places: Places::default(), challenges: Challenges::new(), is_optional: false };
        Self { verifier, config: Arc::new(config) }
    }

    /// Also accepts a token in the cookie of this name, if the request has no other credentials.
    ///
    /// Browsers also send cookies with requests from pages of other sites. Keep the origin check on (it is on unless
    /// you called `allow_any_origin`), and set `SameSite` and `HttpOnly` on the cookie.
    #[must_use]
    pub fn cookie(mut self, name: &str) -> Self {
        Arc::make_mut(&mut self.config).places.cookie = Some(name.into());
        self
    }

    /// Also accepts a token in the query parameter of this name (`access_token`: RFC 6750, section 2.3).
    ///
    /// **Think twice.** URLs, and tokens in them, end up in proxy logs and in histories. The layer removes the token
    /// from the URL before other code sees the request, but it cannot protect the token before that. Use tokens that
    /// live for seconds, or the subprotocol.
    #[must_use]
    pub fn query(mut self, name: &str) -> Self {
        Arc::make_mut(&mut self.config).places.query = Some(name.into());
        self
    }

    /// Admits requests without credentials, without a principal, for a later check such as a [first
    /// message](crate::layer::auth::FirstMessageGuard). Invalid credentials are still refused.
    #[must_use]
    pub fn optional(mut self) -> Self {
        Arc::make_mut(&mut self.config).is_optional = true;
        self
    }

    /// Sets the realm in the challenges (RFC 9110, section 11.5).
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if `realm` contains a character that is not
    /// visible ASCII, a quote or a backslash.
    pub fn realm(mut self, realm: &str) -> Result<Self, Error> {
        Arc::make_mut(&mut self.config).challenges = Challenges::of_realm(realm)?;
        Ok(self)
    }
}

impl<S, V: Clone> Layer<S> for AuthGuardLayer<V> {
    type Service = AuthGuard<S, V>;

    fn layer(&self, service: S) -> AuthGuard<S, V> {
        AuthGuard::new(service, self.clone())
    }
}

impl<V> fmt::Debug for AuthGuardLayer<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthGuardLayer").field("config", &self.config).finish_non_exhaustive()
    }
}
