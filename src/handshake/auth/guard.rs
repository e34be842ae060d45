use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response, StatusCode, header};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::extract::Places;
use crate::{
    Error,
    layer::auth::{Credentials, Oneshot, Verdict, Verify, subprotocol},
    log,
};

/// A layer for services of HTTP requests: admits requests whose credentials the verifier `V` accepts. See the
/// [module](super) for the complete documentation.
#[derive(Clone)]
pub struct AuthGuardLayer<V> {
    verifier: V,
    config: Arc<Config>,
}

#[derive(Clone, Debug)]
struct Config {
    places: Places,
    challenges: Challenges,
    is_optional: bool,
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
        AuthGuard { service, guard: self.clone() }
    }
}

debug_fields!([V] AuthGuardLayer<V> { config });

/// A service that only gets requests with valid credentials, created by [`AuthGuardLayer`].
#[derive(Clone)]
pub struct AuthGuard<S, V> {
    service: S,
    guard: AuthGuardLayer<V>,
}

impl<S, V> AuthGuard<S, V> {
    accessors! {
        service: S, "service",
        get_mut: "Requests sent to it directly are not checked.",
        into_inner: ".",
    }
}

impl<S, V, B, R> Service<Request<B>> for AuthGuard<S, V>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    R: Default,
    V: Verify + Service<Credentials, Response: Clone + Send + Sync + 'static>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S, V, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let config = self.guard.config.clone();
        let (mut parts, body) = request.into_parts();
        // Looked at before the token is taken out of the headers.
        let echo = subprotocol::alone(&parts.headers);
        let step = match config.places.take(&mut parts) {
            Ok(Some(credentials)) => {
                let clone = self.service.clone();
                Step::Verify {
                    verifying: Oneshot::new(self.guard.verifier.clone(), credentials),
                    // The instance that was ready must make the call.
                    service: mem::replace(&mut self.service, clone),
                    request: Some(Request::from_parts(parts, body)),
                }
            }
            Ok(None) if config.is_optional => {
                Step::Pass { future: self.service.call(Request::from_parts(parts, body)) }
            }
            Ok(None) => {
                const MISSING: &str = "the request has no credentials in any place that AuthGuardLayer looks at";

                log::refused("http", StatusCode::UNAUTHORIZED, MISSING, &parts);
                Step::Refuse { response: Some(config.challenges.missing()) }
            }
            Err(_) => {
                log::refused("http", StatusCode::BAD_REQUEST, "the credentials are malformed or given twice", &parts);
                Step::Refuse { response: Some(config.challenges.malformed()) }
            }
        };
        ResponseFuture { step, config, echo }
    }
}

impl<S: fmt::Debug, V> fmt::Debug for AuthGuard<S, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthGuard").field("service", &self.service).field("guard", &self.guard).finish()
    }
}

pin_project! {
    /// The future of [`AuthGuard`]: the verifier, then the service.
    #[must_use = "futures do nothing unless awaited"]
    pub struct ResponseFuture<S: Service<Request<B>>, V: Verify, B> {
        #[pin]
        step: Step<S, V, B>,
        config: Arc<Config>,
        // The subprotocol to answer with, for a client that offers its token as the only subprotocol.
        echo: Option<HeaderValue>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S: Service<Request<B>>, V: Verify, B> {
        Refuse { response: Option<S::Response> },
        Verify { #[pin] verifying: Oneshot<V, Credentials>, service: S, request: Option<Request<B>> },
        Pass { #[pin] future: S::Future },
    }
}

impl<S, V, B, R> Future for ResponseFuture<S, V, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
    V: Verify + Service<Credentials, Response: Clone + Send + Sync + 'static>,
{
    type Output = Result<Response<R>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let future = match this.step.as_mut().project() {
                StepProj::Refuse { response } => {
                    return response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)));
                }
                StepProj::Pass { future } => {
                    let mut response = ready!(future.poll(cx))?;
                    choose_token(&mut response, this.echo.take());
                    return Poll::Ready(Ok(response));
                }
                StepProj::Verify { verifying, service, request } => match ready!(verifying.poll(cx)) {
                    Ok(principal) => {
                        let Some(mut request) = request.take() else { return Poll::Pending };
                        request.extensions_mut().insert(principal);
                        service.call(request)
                    }
                    Err(error) => {
                        let response: Response<R> = this.config.challenges.of(&error);
                        if let Some(request) = request {
                            let reason = format!("the verifier says: {error}");
                            log::refused("http", response.status(), &reason, &*request);
                        }
                        return Poll::Ready(Ok(response));
                    }
                },
            };
            this.step.set(Step::Pass { future });
        }
    }
}

/// A browser that offers subprotocols fails the connection if none is chosen, and the inner service has not seen the
/// token. If the token was the only offer, it is the only one to choose.
fn choose_token<R>(response: &mut Response<R>, token: Option<HeaderValue>) {
    let is_accepted = response.status() == StatusCode::SWITCHING_PROTOCOLS || response.status().is_success();
    if let (true, Some(token)) = (is_accepted, token) {
        response.headers_mut().entry(header::SEC_WEBSOCKET_PROTOCOL).or_insert(token);
    }
}

debug_fields!([S: Service<Request<B>>, V: Verify, B] ResponseFuture<S, V, B> {});

/// The values of `WWW-Authenticate`, created once.
#[derive(Clone, Debug)]
struct Challenges {
    missing: HeaderValue,
    malformed: HeaderValue,
    invalid: HeaderValue,
    forbidden: HeaderValue,
}

impl Challenges {
    const fn new() -> Self {
        Self {
            missing: HeaderValue::from_static("Bearer"),
            malformed: HeaderValue::from_static("Bearer error=\"invalid_request\""),
            invalid: HeaderValue::from_static("Bearer error=\"invalid_token\""),
            forbidden: HeaderValue::from_static("Bearer error=\"insufficient_scope\""),
        }
    }

    fn of_realm(realm: &str) -> Result<Self, Error> {
        let is_text = |c: char| c == ' ' || (c.is_ascii_graphic() && c != '"' && c != '\\');
        if !realm.chars().all(is_text) {
            return Err(Error::config("the realm must be visible ASCII without quotes and backslashes"));
        }
        let challenge = |rest: &str| {
            HeaderValue::try_from(format!("Bearer realm=\"{realm}\"{rest}"))
                .map_err(|error| Error::config("the realm is not a valid header value").with_source(error))
        };
        Ok(Self {
            missing: challenge("")?,
            malformed: challenge(", error=\"invalid_request\"")?,
            invalid: challenge(", error=\"invalid_token\"")?,
            forbidden: challenge(", error=\"insufficient_scope\"")?,
        })
    }

    fn missing<R: Default>(&self) -> Response<R> {
        refuse(StatusCode::UNAUTHORIZED, Some(&self.missing))
    }

    fn malformed<R: Default>(&self) -> Response<R> {
        refuse(StatusCode::BAD_REQUEST, Some(&self.malformed))
    }

    /// Returns the response for an error of the verifier.
    fn of<R: Default>(&self, error: &Error) -> Response<R> {
        match Verdict::of(error) {
            Verdict::Unauthorized => refuse(StatusCode::UNAUTHORIZED, Some(&self.invalid)),
            Verdict::Forbidden => refuse(StatusCode::FORBIDDEN, Some(&self.forbidden)),
            Verdict::Unavailable => {
                let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, None);
                // Whole seconds, rounded up.
                if let Some(time) = error.retry_after() {
                    let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
                    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
                }
                response
            }
        }
    }
}

fn refuse<R: Default>(status: StatusCode, challenge: Option<&HeaderValue>) -> Response<R> {
    let mut response = Response::new(R::default());
    *response.status_mut() = status;
    if let Some(challenge) = challenge {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.clone());
    }
    response
}
