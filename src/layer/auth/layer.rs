use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, StatusCode, header};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Getting, Secret, TokenSource, Tokens, subprotocol};
use crate::{Connect, Error};

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
        Auth { connector, tokens: self.tokens.clone(), carrier: self.carrier }
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
enum Carrier {
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

/// A connector whose handshakes carry a token, created by [`AuthLayer`](super::AuthLayer).
pub struct Auth<C, S: TokenSource> {
    connector: C,
    tokens: Tokens<S>,
    carrier: Carrier,
}

impl<C, S: TokenSource> Auth<C, S> {
    /// Returns the tokens.
    pub fn tokens(&self) -> &Tokens<S> {
        &self.tokens
    }

    accessors! {
        connector: C, "connector",
        get_mut: "Its handshakes carry no token.",
        into_inner: ".",
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

debug_fields!([C: fmt::Debug, S: TokenSource] Auth<C, S> { connector, tokens });

pin_project! {
    /// The future of [`Auth`](super::Auth): a token, the connect, and both once more after a 401.
    #[must_use = "futures do nothing unless awaited"]
    pub struct ResponseFuture<C: Connect, S: TokenSource> {
        connector: C,
        tokens: Tokens<S>,
        carrier: Carrier,
        request: Request<()>,
        // The generation of the token that the connect presents.
        generation: u64,
        is_second: bool,
        #[pin]
        step: Step<C, S>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<C: Connect, S: TokenSource> {
        Token { #[pin] getting: Getting<S> },
        Ready { request: Option<Request<()>> },
        Connect { #[pin] connect: C::Future },
    }
}

impl<C, S> ResponseFuture<C, S>
where
    C: Connect,
    S: TokenSource,
{
    fn new(connector: C, tokens: Tokens<S>, carrier: Carrier, request: Request<()>) -> Self {
        let step = Step::Token { getting: tokens.get() };
        Self { connector, tokens, carrier, request, generation: 0, is_second: false, step }
    }
}

impl<C, S> Future for ResponseFuture<C, S>
where
    C: Connect,
    S: TokenSource,
{
    type Output = Result<http::Response<C::Transport>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.step.as_mut().project() {
                StepProj::Token { getting } => {
                    let lease = ready!(getting.poll_lease(cx))?;
                    *this.generation = lease.generation;
                    // The user's request is kept without a token, for a second attempt with another one.
                    let mut request = this.request.clone();
                    this.carrier.put(lease.token.secret(), &mut request)?;
                    Step::Ready { request: Some(request) }
                }
                StepProj::Ready { request } => {
                    ready!(this.connector.poll_ready(cx)).map_err(Into::into)?;
                    let Some(request) = request.take() else { return Poll::Pending };
                    Step::Connect { connect: this.connector.call(request) }
                }
                // A token may be refused before its time, for a server can revoke it. One more attempt, with a new one.
                StepProj::Connect { connect } => {
                    let error = match ready!(connect.poll(cx)) {
                        Ok(response) => return Poll::Ready(Ok(response)),
                        Err(error) => error.into(),
                    };
                    if error.status() != Some(StatusCode::UNAUTHORIZED) {
                        return Poll::Ready(Err(error));
                    }
                    this.tokens.refuse(*this.generation);
                    // A new token that is refused too is not a stale one: asking again would never end.
                    if std::mem::replace(this.is_second, true) {
                        return Poll::Ready(Err(error));
                    }
                    Step::Token { getting: this.tokens.get() }
                }
            };
            this.step.set(next);
        }
    }
}

debug_fields!([C: Connect, S: TokenSource] ResponseFuture<C, S> { is_second });
