use std::{
    fmt, mem,
    task::{Context, Poll},
};

use http::Request;
use tower_service::Service;

use super::{ResponseFuture, TokenSource, Tokens, layer::Carrier};
use crate::{Connect, Error};

/// A connector whose handshakes carry a token, created by [`AuthLayer`](super::AuthLayer).
pub struct Auth<C, S: TokenSource> {
    connector: C,
    tokens: Tokens<S>,
    carrier: Carrier,
}

impl<C, S: TokenSource> Auth<C, S> {
    pub(super) const fn new(connector: C, tokens: Tokens<S>, carrier: Carrier) -> Self {
        Self { connector, tokens, carrier }
    }

    /// Returns the tokens.
    pub fn tokens(&self) -> &Tokens<S> {
        &self.tokens
    }

    /// Returns a reference to the inner connector.
    pub fn get_ref(&self) -> &C {
        &self.connector
    }

    /// Returns a mutable reference to the inner connector. Its handshakes carry no token.
    pub fn get_mut(&mut self) -> &mut C {
        &mut self.connector
    }

    /// Returns the inner connector.
    pub fn into_inner(self) -> C {
        self.connector
    }
}

impl<C, S> Service<Request<()>> for Auth<C, S>
where
    C: Connect + Clone,
    S: TokenSource,
{
    type Response = http::Response<C::Transport>;
    type Error = Error;
    type Future = ResponseFuture<C, S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        // The instance that was ready must make the call.
        let clone = self.connector.clone();
        let connector = mem::replace(&mut self.connector, clone);
        ResponseFuture::new(connector, self.tokens.clone(), self.carrier, request)
    }
}

impl<C: Clone, S: TokenSource> Clone for Auth<C, S> {
    fn clone(&self) -> Self {
        Self { connector: self.connector.clone(), tokens: self.tokens.clone(), carrier: self.carrier }
    }
}

impl<C: fmt::Debug, S: TokenSource> fmt::Debug for Auth<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("connector", &self.connector).field("tokens", &self.tokens).finish_non_exhaustive()
    }
}
