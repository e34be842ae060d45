use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::Shared;
use pin_project_lite::pin_project;
use serde::de::DeserializeOwned;
use tower_service::Service;

use super::{
    Claims, JwtRules,
    decode::{self, Problem},
    key_set::KeySet,
};
use crate::{
    Error,
    layer::auth::{
        Credentials, KeySource,
        oneshot::{Flight, Oneshot},
    },
    rt::Instant,
};

/// Verifies JWTs with a key set (JWKS, RFC 7517) that a service of yours fetches: a `Service<()>` whose response is the JSON, as
/// `Bytes`, `Vec<u8>` or `String`.
///
/// A clone shares the set. It is fetched with the first token, again when it is an hour old ([`max_age`](Self::max_age)), and when a
/// token names a key that is not in it (a rotation), but for that at most once a minute ([`interval`](Self::interval)), whatever
/// peers send; one fetch serves all who wait. While fetches fail, the set stays in use for at most 24 times its age limit.
/// Of a set, at most 256 KiB and 64 keys are taken; symmetric keys are not.
///
/// What is said of [`JwtVerifier`](super::JwtVerifier) is true here, too. A failed fetch is an error that is not
/// [`is_auth`](Error::is_auth): the peer is answered 503 (or closed with 1013), not refused.
pub struct JwksVerifier<S: KeySource, X = ()> {
    shared: Arc<State<S>>,
    extra: PhantomData<fn() -> X>,
}

struct State<S: KeySource> {
    inner: Mutex<Inner<S>>,
    rules: JwtRules,
}

struct Inner<S: KeySource> {
    source: S,
    set: KeySet,
    flight: Flight<Fetch<S>>,
}

impl<S, X> JwksVerifier<S, X>
where
    S: KeySource,
{
    /// Verifies with the keys that `source` fetches.
    pub fn new(source: S, rules: JwtRules) -> Self {
        let inner = Inner { source, set: KeySet::new(), flight: Flight::new() };
        Self { shared: Arc::new(State { inner: Mutex::new(inner), rules }), extra: PhantomData }
    }

    /// Sets how often unknown keys may cause a fetch at most, for all clones. After a fetch that failed it is a tenth of that.
    #[must_use]
    pub fn interval(self, time: Duration) -> Self {
        self.shared.lock().set.interval = time;
        self
    }

    /// Sets how old the set may get, for all clones: so long may a key that was withdrawn still be good here.
    #[must_use]
    pub fn max_age(self, time: Duration) -> Self {
        self.shared.lock().set.max_age = time;
        self
    }
}

impl<S: KeySource> State<S> {
    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        // A source's `clone` that panicked leaves the state as it was.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Inner<S>
where
    S: KeySource,
{
    /// The fetch that is on its way, or one that may begin now.
    fn fetch(&mut self, shared: &Arc<State<S>>, now: Instant) -> Option<Shared<Fetch<S>>> {
        if let Some(running) = self.flight.running() {
            return Some(running);
        }
        let fetch = Fetch { fetch: Oneshot::new(self.source.clone(), ()), shared: shared.clone() };
        self.set.may_fetch(now).then(|| self.flight.start(fetch))
    }
}

impl<S, X> Service<Credentials> for JwksVerifier<S, X>
where
    S: KeySource,
    X: DeserializeOwned,
{
    type Response = Claims<X>;
    type Error = Error;
    type Future = Verifying<S, X>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, credentials: Credentials) -> Self::Future {
        let now = Instant::now();
        let (keys, is_old) = {
            let inner = self.shared.lock();
            (inner.set.keys(now), inner.set.is_old(now))
        };
        // Outside the lock: a signature takes a while.
        let verified =
            decode::token(&credentials).and_then(|token| decode::decode::<X>(token, &keys, &self.shared.rules));
        let flight = match verified {
            Err(Problem::UnknownKey) => self.shared.lock().fetch(&self.shared, now),
            Ok(_) if is_old => self.shared.lock().fetch(&self.shared, now),
            _ => None,
        };
        let step = match (flight, verified) {
            (Some(flight), verified) => Step::Waiting { flight, credentials, verified: verified.ok() },
            // There was never a set, or it is too old: who asks cannot be blamed.
            (None, Err(Problem::UnknownKey)) if keys.is_empty() => {
                Step::Ready { result: Some(Err(Error::other("there is no key set now; its fetch failed a while ago"))) }
            }
            (None, verified) => Step::Ready { result: Some(verified.map_err(Into::into)) },
        };
        Verifying { step, shared: self.shared.clone() }
    }
}

pin_project! {
    /// One fetch, whose answer goes into the set.
    struct Fetch<S: KeySource> {
        #[pin]
        fetch: Oneshot<S, ()>,
        shared: Arc<State<S>>,
    }
}

impl<S> Future for Fetch<S>
where
    S: KeySource,
{
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let fetched = ready!(this.fetch.poll(cx));
        let mut inner = this.shared.lock();
        inner.flight.land();
        let now = Instant::now();
        let result = fetched.and_then(|json| inner.set.put(json.as_ref(), now));
        Poll::Ready(result.map_err(|error| {
            inner.set.failed(now);
            error.context("the key set was not fetched")
        }))
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S: KeySource, X> {
        Ready { result: Option<Result<Claims<X>, Error>> },
        Waiting {
            #[pin]
            flight: Shared<Fetch<S>>,
            credentials: Credentials,
            // By keys that are old, and serve as long as there are no newer ones.
            verified: Option<Claims<X>>,
        },
    }
}

pin_project! {
    /// The future of [`JwksVerifier`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Verifying<S: KeySource, X> {
        #[pin]
        step: Step<S, X>,
        shared: Arc<State<S>>,
    }
}

impl<S, X> Future for Verifying<S, X>
where
    S: KeySource,
    X: DeserializeOwned,
{
    type Output = Result<Claims<X>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.step.project() {
            StepProj::Ready { result } => result.take().map_or(Poll::Pending, Poll::Ready),
            StepProj::Waiting { flight, credentials, verified } => match (ready!(flight.poll(cx)), verified.take()) {
                (Err(_), Some(claims)) => Poll::Ready(Ok(claims)),
                (Err(error), None) => Poll::Ready(Err(error)),
                (Ok(()), _) => {
                    let keys = this.shared.lock().set.keys(Instant::now());
                    let claims =
                        decode::token(credentials).and_then(|token| decode::decode(token, &keys, &this.shared.rules));
                    Poll::Ready(claims.map_err(Into::into))
                }
            },
        }
    }
}

impl<S: KeySource, X> Clone for JwksVerifier<S, X> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), extra: PhantomData }
    }
}

impl<S: KeySource, X> fmt::Debug for JwksVerifier<S, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.shared.lock();
        f.debug_struct("JwksVerifier")
            .field("set", &inner.set)
            .field("rules", &self.shared.rules)
            .finish_non_exhaustive()
    }
}

impl<S: KeySource, X> fmt::Debug for Verifying<S, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifying").finish_non_exhaustive()
    }
}
