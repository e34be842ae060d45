use std::{
    fmt,
    time::{Duration, SystemTime},
};

use tower_layer::Layer;

use super::{Expiring, NoRenewal, state::Session};
use crate::{
    layer::auth::{Principal, Verify},
    rt::Instant,
};

/// On a server's transport: the session ends when what the peer showed expires. See the [module](crate::layer::auth) for the
/// whole story.
///
/// It is made for one session, of its principal. Without [`renewal`](Self::renewal), or if that comes to nothing, the peer gets a
/// close message of code 4401 at the expiry, and this end's stream an error that [`is_auth`](crate::Error::is_auth), then the
/// end; a peer that does not take the close is cut after 10 s.
#[derive(Clone)]
pub struct ExpiryLayer<V = NoRenewal> {
    subject: Option<Box<str>>,
    expires: Option<Instant>,
    renewal: Option<(V, Duration)>,
}

impl ExpiryLayer {
    /// Ends the session at the principal's expiry. Reads both clocks, once.
    pub fn new(principal: &impl Principal) -> Self {
        Self { subject: principal.subject().map(Into::into), expires: expiry(principal), renewal: None }
    }
}

impl<V> ExpiryLayer<V> {
    /// Asks for a new token `before` the old one expires (or at half the time that is left, if that is later), and has it
    /// verified; it must be for the same subject. Only for peers that understand the question:
    /// [`RenewLayer`](crate::layer::auth::RenewLayer), or what `docs/wire.md` says.
    #[must_use]
    pub fn renewal<W>(self, verifier: W, before: Duration) -> ExpiryLayer<W>
    where
        W: Verify<Response: Principal>,
    {
        ExpiryLayer { subject: self.subject, expires: self.expires, renewal: Some((verifier, before)) }
    }
}

/// When that is, on the clock that timers have. What no clock can show is never.
pub(super) fn expiry(principal: &impl Principal) -> Option<Instant> {
    let left = principal.expires_at()?.duration_since(SystemTime::now()).unwrap_or_default();
    /// About what tokio's timers can wait for at most: two years. Nobody's connection lasts so long.
    const FAR: Duration = Duration::from_secs(86_400 * 730);
    (left < FAR).then(|| Instant::now() + left)
}

impl<T, V> Layer<T> for ExpiryLayer<V>
where
    V: Verify,
{
    type Service = Expiring<T, V>;

    fn layer(&self, inner: T) -> Expiring<T, V> {
        let before = self.renewal.as_ref().map(|(_, before)| *before);
        let verifier = self.renewal.as_ref().map(|(verifier, _)| verifier.clone());
        Expiring::new(inner, Session::new(self.subject.as_deref(), self.expires, before), verifier)
    }
}

impl<V> fmt::Debug for ExpiryLayer<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpiryLayer")
            .field("expires", &self.expires)
            .field("renewal", &self.renewal.as_ref().map(|(_, before)| before))
            .finish_non_exhaustive()
    }
}
