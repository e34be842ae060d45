use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
    time::Duration,
};

use tower_layer::Layer;
use tower_service::Service;

use super::{
    Expiring,
    lifetime::{Lifetime, expiry},
};
use crate::{
    Error, MessageStream,
    layer::auth::{Credentials, Principal, Verify},
    rt::Instant,
};

/// A layer for a server's transport: ends the session when the peer's credentials expire. See the
/// [module](crate::layer::auth) for the complete documentation.
///
/// The layer is made for one session, with its principal. At expiry, unless a [`renewal`](Self::renewal) succeeded, the
/// peer gets a close message of code 4401. This end's stream returns an error for which
/// [`is_auth`](crate::Error::is_auth) is true, and ends. A peer that does not read the close is cut after 10 s.
#[derive(Clone)]
pub struct ExpiryLayer<V = NoRenewal> {
    subject: Option<Box<str>>,
    expires: Option<Instant>,
    renewal: Option<(V, Duration)>,
}

impl ExpiryLayer {
    /// Creates a layer that ends the session at the principal's expiry. Reads both clocks once.
    pub fn new(principal: &impl Principal) -> Self {
        Self { subject: principal.subject().map(Into::into), expires: expiry(principal), renewal: None }
    }
}

impl<V> ExpiryLayer<V> {
    /// Requests a new token `before` the old one expires (or at half of the remaining time, if that is later) and has
    /// it verified. It must be for the same subject. Use it only for peers that understand the request:
    /// [`RenewLayer`](crate::layer::auth::RenewLayer), or an implementation of [`docs/wire.md`](crate::guide::wire).
    #[must_use]
    pub fn renewal<W>(self, verifier: W, before: Duration) -> ExpiryLayer<W>
    where
        W: Verify<Response: Principal>,
    {
        ExpiryLayer { subject: self.subject, expires: self.expires, renewal: Some((verifier, before)) }
    }
}

impl<T, V> Layer<T> for ExpiryLayer<V>
where
    T: MessageStream,
    V: Verify,
{
    type Service = Expiring<T, V>;

    fn layer(&self, inner: T) -> Expiring<T, V> {
        let before = self.renewal.as_ref().map(|(_, before)| *before);
        let verifier = self.renewal.as_ref().map(|(verifier, _)| verifier.clone());
        Expiring::new(inner, Lifetime::new(self.subject.as_deref(), self.expires, before), verifier)
    }
}

debug_fields!([V] ExpiryLayer<V>, |this| { expires, renewal: this.renewal.as_ref().map(|(_, before)| before) });

/// The verifier of sessions that are not renewed. It refuses every token.
#[derive(Clone, Copy, Debug)]
pub struct NoRenewal(());

impl Service<Credentials> for NoRenewal {
    type Response = Infallible;
    type Error = Error;
    type Future = Ready<Result<Infallible, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Credentials) -> Self::Future {
        ready(Err(Error::auth("session renewal is disabled here (ExpiryLayer::renewal)")))
    }
}

impl Principal for Infallible {}
