use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt, future::Shared};
use jsonwebtoken::jwk::Jwk;
use pin_project_lite::pin_project;
use serde::{Deserialize, de::DeserializeOwned};
use tower_service::Service;

use super::{
    Claims, JwtKey, JwtRules,
    verifier::{self, Problem},
};
use crate::{
    Error,
    layer::auth::{Credentials, oneshot::Flight},
    log,
    rt::{self, Handle, Instant},
    sync::Mutex,
};

/// A source of a key set: any `Service<()> + Clone` whose response is the JSON of a JWKS (RFC 7517). The service and
/// its future are `Send` and `'static`, because a fetch runs on its own task.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not fetch a key set",
    note = "a source of keys is a `Service<()> + Clone + Send + 'static`",
    note = "its response is `AsRef<[u8]>`, its error `Into<tower_transport::Error>`, its future `Send + 'static`"
)]
pub trait KeySource:
    Service<(), Response: AsRef<[u8]>, Error: Into<Error>, Future: Send + 'static> + Clone + Send + 'static
{
}

impl<S> KeySource for S where
    S: Service<(), Response: AsRef<[u8]>, Error: Into<Error>, Future: Send + 'static> + Clone + Send + 'static
{
}

/// Verifies JWTs with a key set (JWKS, RFC 7517) that your service fetches: a `Service<()>` whose response is the JSON,
/// as `Bytes`, `Vec<u8>` or `String`.
///
/// Clones share the set. It is fetched with the first token, and again when it is an hour old
/// ([`max_age`](Self::max_age)). A token with a key that is not in the set (a rotation) also causes a fetch, but at
/// most once a minute ([`interval`](Self::interval)), whatever peers send. One fetch serves all waiting calls. While
/// fetches fail, the set stays in use for at most 24 times its maximum age. A set is limited to 256 KiB and 64 keys;
/// symmetric keys and keys that cannot be read are skipped.
///
/// A fetch runs on its own task, so that a peer that disconnects does not end it, and takes at most 30 s
/// ([`fetch_timeout`](Self::fetch_timeout)). The interval starts at its end. Outside a tokio runtime the fetch runs in
/// the calls that wait for it.
///
/// The documentation of [`JwtVerifier`](super::JwtVerifier) applies here too. After a failed fetch the error is one for
/// which [`is_auth`](Error::is_auth) is false: the peer is answered with 503 (or closed with 1013), not refused.
pub struct JwksVerifier<S: KeySource, X = ()> {
    shared: Arc<SharedKeys<S>>,
    extra: PhantomData<fn() -> X>,
}

struct SharedKeys<S: KeySource> {
    inner: Mutex<FetchedKeys<S>>,
    rules: JwtRules,
}

struct FetchedKeys<S: KeySource> {
    /// `None` while a fetch has it. It is moved, so that no user code runs under the lock, not even a clone.
    source: Option<S>,
    set: KeySet,
    flight: Flight<Fetch<S>>,
    fetch_timeout: Duration,
}

impl<S, X> JwksVerifier<S, X>
where
    S: KeySource,
{
    /// Creates a verifier with the keys that `source` fetches.
    pub fn new(source: S, rules: JwtRules) -> Self {
        let inner = FetchedKeys {
            source: Some(source),
            set: KeySet::new(),
            flight: Flight::new(),
            fetch_timeout: Duration::from_secs(30),
        };
        Self { shared: Arc::new(SharedKeys { inner: Mutex::new(inner), rules }), extra: PhantomData }
    }

    /// Sets the minimum interval between fetches for unknown keys, for all clones. Defaults to 1 minute. After a failed
    /// fetch, a tenth of it applies.
    #[must_use]
    pub fn interval(self, time: Duration) -> Self {
        self.shared.inner.lock().set.interval = time;
        self
    }

    /// Sets the maximum age of the set, for all clones. Defaults to 1 hour. A withdrawn key may be accepted for this
    /// long, and for 24 times as long while fetches fail. A token that is verified with older keys waits for a new set,
    /// unless the last fetch failed.
    #[must_use]
    pub fn max_age(self, time: Duration) -> Self {
        self.shared.inner.lock().set.max_age = time;
        self
    }

    /// Sets how long a fetch may take, for all clones. Defaults to 30 s. A fetch that takes longer has failed. Without
    /// timers (`enable_time`) there is no limit.
    #[must_use]
    pub fn fetch_timeout(self, time: Duration) -> Self {
        self.shared.inner.lock().fetch_timeout = time;
        self
    }
}

impl<S: KeySource> SharedKeys<S> {
    /// Returns the fetch in progress, or one that may begin now.
    fn fetch(self: &Arc<Self>, now: Instant) -> Option<Shared<Fetch<S>>> {
        let mut inner = self.inner.lock();
        if let Some(running) = inner.flight.running() {
            return Some(running);
        }
        if !inner.set.may_fetch(now) {
            return None;
        }
        let loan = Loan { source: Some(inner.source.take()?), shared: self.clone() };
        let runtime = Handle::try_current().ok();
        // Not where it panics: dropping the loan takes the lock that is held here.
        let deadline = rt::has_timers().then(|| rt::sleep(inner.fetch_timeout));
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
        let (keys, is_old, is_failing) = {
            // The keys are an `Arc`, so a fetch that ends meanwhile changes nothing here.
            let inner = self.shared.inner.lock();
            (inner.set.keys(now), inner.set.is_old(now), inner.set.is_failing)
        };
        // Outside the lock, because verifying a signature takes a while.
        let verified =
            verifier::token(&credentials).and_then(|token| verifier::decode::<X>(token, &keys, &self.shared.rules));
        let flight = match verified {
            // After a rotation, or a token of a stranger: which of them, only a fetch can tell.
            Err(Problem::UnknownKey) => self.shared.fetch(now),
            // A source that failed may hang now, and would delay each handshake. A task fetches on.
            Ok(_) if is_old => self.shared.fetch(now).filter(|_| !is_failing || Handle::try_current().is_err()),
            _ => None,
        };
        let step = match (flight, verified) {
            (Some(flight), verified) => Step::Waiting { flight, credentials, verified: verified.ok() },
            // There was never a set, or it is too old: the peer is not to blame.
            (None, Err(Problem::UnknownKey)) if keys.is_empty() => {
                Step::Ready { result: Some(Err(Error::other("no key set is available; its fetch failed recently"))) }
            }
            (None, verified) => Step::Ready { result: Some(verified.map_err(Problem::into_error)) },
        };
        Verifying { step, shared: self.shared.clone() }
    }
}

pin_project! {
    /// One fetch, whose result goes into the set.
    struct Fetch<S: KeySource> {
        loan: Loan<S>,
        #[pin]
        fetching: Option<S::Future>,
        #[pin]
        deadline: Option<rt::Sleep>,
    }
}

/// The source, which returns to the verifier however a fetch ends.
struct Loan<S: KeySource> {
    source: Option<S>,
    shared: Arc<SharedKeys<S>>,
}

impl<S: KeySource> Loan<S> {
    fn give_back(&mut self, keys: Result<Arc<[JwtKey]>, Error>) -> Result<(), Error> {
        let now = Instant::now();
        let mut inner = self.shared.inner.lock();
        inner.flight.land();
        inner.source = self.source.take();
        match keys {
            Ok(keys) => {
                inner.set.put(keys, now);
                Ok(())
            }
            Err(error) => {
                inner.set.failed(now);
                // A subscriber is the user's code.
                drop(inner);
                log::keys_not_fetched(&error);
                Err(error.context("the key set could not be fetched"))
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
        let keys = fetched.and_then(|json| parse(json.as_ref()));
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
            // The claims, verified with old keys, which are used if there are no newer ones.
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
        shared: Arc<SharedKeys<S>>,
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
                    let keys = this.shared.inner.lock().set.keys(Instant::now());
                    let claims = verifier::token(credentials)
                        .and_then(|token| verifier::decode(token, &keys, &this.shared.rules));
                    Poll::Ready(claims.map_err(Problem::into_error))
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
        // The writer may be the user's: nothing is formatted under the lock.
        let set = self.shared.inner.lock().set.clone();
        f.debug_struct("JwksVerifier").field("set", &set).field("rules", &self.shared.rules).finish_non_exhaustive()
    }
}

debug_fields!([S: KeySource, X] Verifying<S, X> {});

/// The largest set that is read, in bytes.
const MAX_SIZE: usize = 256 << 10;

/// The maximum number of keys that are kept.
const MAX_KEYS: usize = 64;

/// How long keys are trusted at least. A maximum age of zero means a fetch for each token, whose keys must be of use.
const LEAST_TRUST: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
struct KeySet {
    interval: Duration,
    max_age: Duration,
    keys: Arc<[JwtKey]>,
    fetched: Option<Instant>,
    /// The earliest time of the next fetch.
    next: Option<Instant>,
    /// Whether the last fetch failed.
    is_failing: bool,
}

impl KeySet {
    fn new() -> Self {
        Self {
            interval: Duration::from_secs(60),
            max_age: Duration::from_secs(3600),
            keys: Arc::default(),
            fetched: None,
            next: None,
            is_failing: false,
        }
    }

    /// Returns the keys, unless they are too old to be trusted: a day, by default.
    fn keys(&self, now: Instant) -> Arc<[JwtKey]> {
        match self.age(now) {
            Some(age) if age < self.max_age.saturating_mul(24).max(LEAST_TRUST) => self.keys.clone(),
            _ => Arc::default(),
        }
    }

    /// Returns whether the set should be fetched even if it has the key.
    fn is_old(&self, now: Instant) -> bool {
        self.age(now).is_none_or(|age| age >= self.max_age)
    }

    fn age(&self, now: Instant) -> Option<Duration> {
        self.fetched.map(|fetched| now.saturating_duration_since(fetched))
    }

    /// Asks for permission to fetch. For unknown keys, permission is given once per interval.
    fn may_fetch(&mut self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// Stores a fetched set.
    fn put(&mut self, keys: Arc<[JwtKey]>, now: Instant) {
        self.keys = keys;
        self.fetched = Some(now);
        self.next = now.checked_add(self.interval);
        self.is_failing = false;
    }

    /// Records a fetch that failed or was dropped before its end: the next one need not wait as long.
    fn failed(&mut self, now: Instant) {
        self.next = now.checked_add(self.interval / 10);
        self.is_failing = true;
    }
}

/// Reads a set. Each key is read separately, so that a key that is not understood does not affect the others.
fn parse(json: &[u8]) -> Result<Arc<[JwtKey]>, Error> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }

    if json.len() > MAX_SIZE {
        return Err(Error::too_large(format!("the key set is larger than {MAX_SIZE} bytes")));
    }
    let set: Set = serde_json::from_slice(json)
        .map_err(|error| Error::codec("the key set is not a valid JWKS (RFC 7517, section 5)").with_source(error))?;
    let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    Ok(keys.filter_map(|key| JwtKey::of_jwk(&key)).take(MAX_KEYS).collect())
}
