use std::{fmt, sync::Arc};

use tower_layer::Layer;

use super::{AuthGuard, extract::Places, refusal::Challenges};
use crate::Error;

/// On a service of HTTP requests: lets in who shows credentials that `V` finds good. See the [module](super) for the whole story.
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
    /// Asks `verifier` about the credentials of the `Authorization` header (`Bearer`, `Basic`) or of a subprotocol
    /// (`bearer.` and the token in base64url).
    pub fn new(verifier: V) -> Self {
        let config = Config { places: Places::default(), challenges: Challenges::new(), is_optional: false };
        Self { verifier, config: Arc::new(config) }
    }

    /// Also takes a token from the cookie of this name, where the request shows no other credentials.
    ///
    /// Browsers send cookies along for pages of other sites, too: keep the check of the origin on (it is, unless you
    /// called `allow_any_origin`), and set `SameSite` and `HttpOnly` on the cookie.
    #[must_use]
    pub fn cookie(mut self, name: &str) -> Self {
        Arc::make_mut(&mut self.config).places.cookie = Some(name.into());
        self
    }

    /// Also takes a token from the query parameter of this name (`access_token`: RFC 6750, section 2.3).
    ///
    /// **Think twice.** URLs end up in the logs of proxies and in histories, and a token with them. Here it is taken out of
    /// the URL before anyone else sees the request; before that, nobody can. Use tokens that live for seconds, or the
    /// subprotocol.
    #[must_use]
    pub fn query(mut self, name: &str) -> Self {
        Arc::make_mut(&mut self.config).places.query = Some(name.into());
        self
    }

    /// Lets in who shows no credentials, without a principal: for what comes after, such as a
    /// [first message](crate::layer::auth::FirstMessageGuard). Credentials that are not good are refused all the same.
    #[must_use]
    pub fn optional(mut self) -> Self {
        Arc::make_mut(&mut self.config).is_optional = true;
        self
    }

    /// Names the realm in the challenges (RFC 9110, section 11.5).
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) for what is not visible ASCII, and for quotes and backslashes.
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
