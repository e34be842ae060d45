use std::fmt;

use http::{HeaderValue, Request, header};
use tower_layer::Layer;

use super::{Auth, Secret, TokenSource, Tokens, subprotocol};
use crate::Error;

/// A layer for a connector: each handshake carries a token of a source. See the [module](super) for the complete
/// documentation.
pub struct AuthLayer<S: TokenSource> {
    tokens: Tokens<S>,
    carrier: Carrier,
}

impl<S: TokenSource> AuthLayer<S> {
    /// Sends the token in `Authorization: Bearer`, marked as sensitive.
    #[must_use]
    pub const fn new(tokens: Tokens<S>) -> Self {
        Self { tokens, carrier: Carrier::Header }
    }

    /// Sends the token in a subprotocol instead, `bearer.` followed by its base64url, next to those that the connector
    /// or the request offers. Use it if a header cannot be set, as in a browser. Also offer a real subprotocol: clients
    /// drop a connection whose server chose none, and few servers choose the token (the [guard](crate::handshake::auth)
    /// of this crate does if it is the only one).
    #[must_use]
    pub fn as_subprotocol(mut self) -> Self {
        self.carrier = Carrier::Subprotocol;
        self
    }
}

impl<C, S: TokenSource> Layer<C> for AuthLayer<S> {
    type Service = Auth<C, S>;

    fn layer(&self, connector: C) -> Auth<C, S> {
        Auth::new(connector, self.tokens.clone(), self.carrier)
    }
}

impl<S: TokenSource> Clone for AuthLayer<S> {
    fn clone(&self) -> Self {
        Self { tokens: self.tokens.clone(), carrier: self.carrier }
    }
}

impl<S: TokenSource> fmt::Debug for AuthLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLayer").field("tokens", &self.tokens).field("carrier", &self.carrier).finish()
    }
}

/// The place of the token in the request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Carrier {
    Header,
    Subprotocol,
}

impl Carrier {
    pub(super) fn put(self, token: &Secret, request: &mut Request<()>) -> Result<(), Error> {
        let value = match self {
            Self::Header => format!("Bearer {}", token.expose()),
            Self::Subprotocol => subprotocol::encode(token),
        };
        // The cause would reveal the token.
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| Error::config("the token contains characters that a header cannot carry"))?;
        value.set_sensitive(true);
        let headers = request.headers_mut();
        match self {
            Self::Header => drop(headers.insert(header::AUTHORIZATION, value)),
            Self::Subprotocol => subprotocol::offer(headers, value),
        }
        Ok(())
    }
}
