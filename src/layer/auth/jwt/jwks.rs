use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt, future::Shared};
use pin_project_lite::pin_project;
use serde::de::DeserializeOwned;
use tower_service::Service;

use super::{
    Claims, JwtKey, JwtRules,
    decode::{self, Problem},
    key_set::{self, KeySet},
};
use crate::{
    Error,
    layer::auth::{Credentials, KeySource, oneshot::Flight},
    rt::{self, Handle, Instant},
};

/// Verifies JWTs with a key set (JWKS, RFC 7517) that a service of yours fetches: a `Service<()>` whose response is the JSON, as
/// `Bytes`, `Vec<u8>` or `String`.
///
/// A clone shares the set. It is fetched with the first token, again when it is an hour old ([`max_age`](Self::max_age)), and when a
/// token names a key that is not in it (a rotation), but for that at most once a minute ([`interval`](Self::interval)), whatever
/// peers send; one fetch serves all who wait. While fetches fail, the set stays in use for at most 24 times its age limit.
/// Of a set, at most 256 KiB and 64 keys are taken; symmetric keys and keys that cannot be read are not.
///
/// A fetch runs on a task of its own, so that a peer that hangs up does not end it, and takes at most 30 s
/// ([`fetch_timeout`](Self::fetch_timeout)). The interval counts from its end. Outside of a tokio runtime it runs in the calls that
/// wait for it.
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
    /// `None` while a fetch has it. It moves, so that nothing of the user's runs under the lock, not even a clone.
    source: Option<S>,
    set: KeySet,
    flight: Flight<Fetch<S>>,
    fetch_timeout: Duration,
}

impl<S, X> JwksVerifier<S, X>
where
    S: KeySource,
{
    /// Verifies with the keys that `source` fetches.
    pub fn new(source: S, rules: JwtRules) -> Self {
        let inner = Inner {
            source: Some(source),
            set: KeySet::new(),
            flight: Flight::new(),
            fetch_timeout: Duration::from_secs(30),
        };
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

    /// Sets how long a fetch may take, for all clones. Defaults to 30 s. A fetch that takes longer has failed.
    #[must_use]
    pub fn fetch_timeout(self, time: Duration) -> Self {
        self.shared.lock().fetch_timeout = time;
        self
    }
}

impl<S: KeySource> State<S> {
    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        // Only our own code runs under it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fetch that is on its way, or one that may begin now.
    fn fetch(self: &Arc<Self>, now: Instant) -> Option<Shared<Fetch<S>>> {
        let mut inner = self.lock();
        if let Some(running) = inner.flight.running() {
            return Some(running);
        }
        if !inner.set.may_fetch(now) {
            return None;
        }
        let loan = Loan { source: Some(inner.source.take()?), shared: self.clone() };
        let runtime = Handle::try_current().ok();
        let deadline = runtime.is_some().then(|| rt::sleep(inner.fetch_timeout));
        let flight = inner.flight.start(Fetch { loan, fetching: None, deadline });
        drop(inner);
        if let Some(runtime) = runtime {
            // The callers that wait for it may be dropped.
            runtime.spawn(flight.clone().map(drop));
        }
        Some(flight)
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
            Err(Problem::UnknownKey) => self.shared.fetch(now),
            Ok(_) if is_old => self.shared.fetch(now),
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
        loan: Loan<S>,
        #[pin]
        fetching: Option<S::Future>,
        #[pin]
        deadline: Option<rt::Sleep>,
    }
}

/// The source, which goes back to the verifier however a fetch ends.
struct Loan<S: KeySource> {
    source: Option<S>,
    shared: Arc<State<S>>,
}

impl<S: KeySource> Loan<S> {
    fn give_back(&mut self, keys: Result<Arc<[JwtKey]>, Error>) -> Result<(), Error> {
        let now = Instant::now();
        let mut inner = self.shared.lock();
        inner.flight.land();
        inner.source = self.source.take();
        match keys {
            Ok(keys) => {
                inner.set.put(keys, now);
                Ok(())
            }
            Err(error) => {
                inner.set.failed(now);
                Err(error.context("the key set was not fetched"))
            }
        }
    }
}

impl<S: KeySource> Drop for Loan<S> {
    fn drop(&mut self) {
        if self.source.is_some() {
            let _ = self.give_back(Err(Error::other("the fetch was dropped")));
        }
    }
}

impl<S> Future for Fetch<S>
where
    S: KeySource,
{
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let fetched = loop {
            let polled = match (this.fetching.as_mut().as_pin_mut(), &mut this.loan.source) {
                (Some(fetching), _) => fetching.poll(cx).map(|fetched| fetched.map_err(Into::into)),
                (None, None) => return Poll::Pending,
                (None, Some(source)) => match source.poll_ready(cx) {
                    Poll::Ready(Ok(())) => {
                        let fetching = source.call(());
                        this.fetching.set(Some(fetching));
                        continue;
                    }
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                    Poll::Pending => Poll::Pending,
                },
            };
            match (polled, this.deadline.as_mut().as_pin_mut()) {
                (Poll::Ready(fetched), _) => break fetched,
                (Poll::Pending, Some(deadline)) => {
                    ready!(deadline.poll(cx));
                    break Err(Error::timeout(
                        "the source of the key set did not answer in time (JwksVerifier::fetch_timeout)",
                    ));
                }
                (Poll::Pending, None) => return Poll::Pending,
            }
        };
        let keys = fetched.and_then(|json| key_set::parse(json.as_ref()));
        this.fetching.set(None);
        Poll::Ready(this.loan.give_back(keys))
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
