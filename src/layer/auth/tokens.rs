use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::Shared;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    Error,
    layer::auth::{
        Reason, Secret, Token, TokenRequest,
        oneshot::{Flight, Oneshot},
    },
    rt::{Instant, Timer},
    sync::Mutex,
};

/// The pace of renewals that servers request, for all connections that share the tokens: this many at once, then one in
/// each interval. A server that requests a token again and again, or finds each one too old, would otherwise have the
/// source called in a tight loop.
const RENEWALS_AT_ONCE: u32 = 8;
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);

/// A source of a client's tokens: any `Service<`[`TokenRequest`]`, Response = `[`Token`]`> + Clone`, including an async
/// function in tower's `service_fn`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source of tokens",
    note = "a source is a `Service<TokenRequest, Response = Token> + Clone`, its error `Into<tower_transport::Error>`"
)]
pub trait TokenSource: Service<TokenRequest, Response = Token, Error: Into<Error>> + Clone {}

impl<S> TokenSource for S where S: Service<TokenRequest, Response = Token, Error: Into<Error>> + Clone {}

/// A source of tokens with a cache: any `Service<`[`TokenRequest`]`, Response = `[`Token`]`>`.
///
/// Clones share the cache, so one `Tokens` serves all connections of a client. Callers get the cached token until it is
/// about to expire ([`with_margin`](Self::with_margin)). One call of the source then serves all waiting callers (single
/// flight). While the source fails, a token that has not expired yet is still returned.
///
/// ```
/// use std::time::Duration;
/// use tower::service_fn;
/// use tower_transport::{Error, layer::auth::{Token, TokenRequest, Tokens}};
///
/// let tokens = Tokens::new(service_fn(|_: TokenRequest| async {
///     // A call of your token endpoint.
///     Ok::<_, Error>(Token::new("secret").expires_in(Duration::from_secs(600)))
/// }));
/// # futures_util::FutureExt::now_or_never(async {
/// assert_eq!(tokens.get().await?.secret().expose(), "secret");
/// # Ok::<(), Error>(()) }).unwrap().unwrap();
/// ```
pub struct Tokens<S: TokenSource> {
    // `Shared` requires this bound: it holds the output of the source's future.
    shared: Arc<SharedSource<S>>,
}

struct SharedSource<S: TokenSource> {
    /// Under its own lock, to be cloned: `clone` is user code, and no other code waits for this lock.
    source: Mutex<S>,
    inner: Mutex<CachedTokens<S>>,
}

struct CachedTokens<S: TokenSource> {
    margin: Duration,
    cache: Cache,
    pace: Pace,
    flight: Flight<Fetch<S>>,
}

/// A token and its number.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) token: Token,
    pub(super) generation: u64,
}

impl<S> Tokens<S>
where
    S: TokenSource,
{
    /// Creates a cache for `source` that replaces tokens 30 s before they expire.
    pub fn new(source: S) -> Self {
        Self::with_margin(source, Duration::from_secs(30))
    }

    /// Creates a cache for `source` that replaces tokens `margin` before they expire (or after half their life, if that
    /// is later). The margin covers the time that a connect may take and the difference between clocks.
    pub fn with_margin(source: S, margin: Duration) -> Self {
        let inner = CachedTokens { margin, cache: Cache::new(), pace: Pace::default(), flight: Flight::new() };
        Self { shared: Arc::new(SharedSource { source: Mutex::new(source), inner: Mutex::new(inner) }) }
    }

    /// Returns a valid token: the cached one, or a new one.
    ///
    /// # Errors
    ///
    /// Returns the error of the source, wrapped in an error of the same kind.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future leaves the fetch to the other callers that wait for it. Without others, the fetch is
    /// dropped.
    pub fn get(&self) -> Getting<S> {
        self.newer_than(0, Cache::reason)
    }

    /// Returns a token newer than `generation`, for a session that was asked for one.
    pub(super) fn renew(&self, generation: u64) -> Getting<S> {
        self.newer_than(generation, |_| Reason::Renewal)
    }

    fn newer_than(&self, generation: u64, reason: impl Fn(&Cache) -> Reason) -> Getting<S> {
        let found = |inner: &CachedTokens<S>| {
            let lease = inner.cache.fresh(Instant::now()).filter(|lease| lease.generation > generation);
            let ready = lease.map(|lease| Step::Ready { lease: Some(lease) });
            let step = ready.or_else(|| Some(Step::Waiting { flight: inner.flight.running()? }));
            step.map(|step| Getting { step })
        };
        let getting = found(&self.shared.inner.lock());
        if let Some(getting) = getting {
            return getting;
        }
        // Cloned before the cache is locked, because a clone is user code.
        let source = self.shared.source.lock().clone();
        let mut inner = self.shared.inner.lock();
        // Another call may have been faster. The clone is then dropped after the lock.
        if let Some(getting) = found(&inner) {
            return getting;
        }
        let reason = reason(&inner.cache);
        let mut wait = Timer::new();
        if reason == Reason::Renewal {
            let now = Instant::now();
            match inner.pace.next(now) {
                start if start > now => wait.set_at(start),
                _ => inner.pace.begin(now),
            }
        }
        let fetch = Oneshot::new(source, TokenRequest { reason });
        let flight = inner.flight.start(Fetch { wait, fetch, reason, shared: self.shared.clone() });
        Getting { step: Step::Waiting { flight } }
    }
}

impl<S: TokenSource> Tokens<S> {
    /// Forgets the cached token: the next caller gets a new one.
    pub fn forget(&self) {
        let mut inner = self.shared.inner.lock();
        let generation = inner.cache.generation();
        inner.cache.refuse(generation);
    }

    pub(super) fn refuse(&self, generation: u64) {
        self.shared.inner.lock().cache.refuse(generation);
    }

    pub(super) fn generation(&self) -> u64 {
        self.shared.inner.lock().cache.generation()
    }
}

impl Tokens<FixedToken> {
    /// Creates a source of one fixed token, for an API that requires a source.
    pub fn fixed(secret: impl Into<Secret>) -> Self {
        Self::new(FixedToken(Token::new(secret)))
    }
}

pin_project! {
    /// One call of the source, whose response goes into the cache.
    struct Fetch<S: TokenSource> {
        // Set until a renewal may call the source.
        wait: Timer,
        #[pin]
        fetch: Oneshot<S, TokenRequest>,
        reason: Reason,
        shared: Arc<SharedSource<S>>,
    }
}

impl<S> Future for Fetch<S>
where
    S: TokenSource,
{
    type Output = Result<Lease, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.wait.is_set() {
            ready!(this.wait.poll(cx));
            // Counted when it begins: one whose connection ends meanwhile delays no other.
            this.shared.inner.lock().pace.begin(Instant::now());
        }
        let fetched = ready!(this.fetch.poll(cx));
        let mut inner = this.shared.inner.lock();
        inner.flight.land();
        // Landed before the result is known to anyone: a caller that comes now starts a new flight, or finds the token.
        let now = Instant::now();
        let error = match fetched {
            Ok(token) => {
                let margin = inner.margin;
                return Poll::Ready(Ok(inner.cache.put(token, margin, now)));
            }
            Err(error) => error,
        };
        let usable = inner.cache.usable(now).filter(|_| *this.reason != Reason::Renewal);
        // The error may own a user value, which must not be dropped under the lock.
        drop(inner);
        Poll::Ready(usable.ok_or_else(|| error.context("the token source failed")))
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S: TokenSource> {
        Ready { lease: Option<Lease> },
        Waiting { #[pin] flight: Shared<Fetch<S>> },
    }
}

pin_project! {
    /// The future of [`Tokens::get`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Getting<S: TokenSource> {
        #[pin]
        step: Step<S>,
    }
}

impl<S> Getting<S>
where
    S: TokenSource,
{
    pub(super) fn poll_lease(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Lease, Error>> {
        match self.project().step.project() {
            StepProj::Ready { lease } => lease.take().map_or(Poll::Pending, |lease| Poll::Ready(Ok(lease))),
            StepProj::Waiting { flight } => flight.poll(cx),
        }
    }
}

impl<S> Future for Getting<S>
where
    S: TokenSource,
{
    type Output = Result<Token, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_lease(cx).map_ok(|lease| lease.token)
    }
}

impl<S: TokenSource> Clone for Tokens<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<S: TokenSource> fmt::Debug for Tokens<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.shared.inner.lock();
        let (margin, cache) = (inner.margin, inner.cache.clone());
        // The writer may be the user's.
        drop(inner);
        f.debug_struct("Tokens").field("margin", &margin).field("cache", &cache).finish_non_exhaustive()
    }
}

debug_fields!([S: TokenSource] Getting<S> {});

/// The source of [`Tokens::fixed`].
#[derive(Clone, Debug)]
pub struct FixedToken(Token);

impl Service<TokenRequest> for FixedToken {
    type Response = Token;
    type Error = Infallible;
    type Future = Ready<Result<Token, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: TokenRequest) -> Self::Future {
        ready(Ok(self.0.clone()))
    }
}

/// The pace of renewals (GCRA). Pure: times are passed in.
#[derive(Debug, Default)]
struct Pace {
    /// When the renewals so far would have ended at one per interval.
    used_until: Option<Instant>,
}

impl Pace {
    /// Returns when the next renewal may begin, which may be in the past.
    fn next(&self, now: Instant) -> Instant {
        let burst = RENEWAL_INTERVAL * (RENEWALS_AT_ONCE - 1);
        self.used_until.and_then(|time| time.checked_sub(burst)).unwrap_or(now)
    }

    fn begin(&mut self, now: Instant) {
        self.used_until = Some(self.used_until.map_or(now, |time| time.max(now)) + RENEWAL_INTERVAL);
    }
}

/// The last token and its validity. Pure: times are passed in.
#[derive(Clone, Debug)]
struct Cache {
    last: Option<Kept>,
    /// The number of tokens so far.
    generation: u64,
    /// Whether the last token was refused.
    is_refused: bool,
}

#[derive(Clone, Debug)]
struct Kept {
    lease: Lease,
    /// When the token should be replaced.
    stale: Option<Instant>,
    /// When the token becomes unusable.
    expired: Option<Instant>,
}

impl Cache {
    const fn new() -> Self {
        Self { last: None, generation: 0, is_refused: false }
    }

    /// Returns the number of the newest token, or 0 if there was no token yet.
    fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns a token that does not need to be replaced yet.
    fn fresh(&self, now: Instant) -> Option<Lease> {
        let kept = self.last.as_ref()?;
        kept.stale.is_none_or(|stale| now < stale).then(|| kept.lease.clone())
    }

    /// Returns a token that is still valid, if only for a moment.
    fn usable(&self, now: Instant) -> Option<Lease> {
        let kept = self.last.as_ref()?;
        kept.expired.is_none_or(|expired| now < expired).then(|| kept.lease.clone())
    }

    /// Returns the reason for the next request.
    fn reason(&self) -> Reason {
        match (self.generation, self.is_refused) {
            (0, _) => Reason::First,
            (_, true) => Reason::Refused,
            (_, false) => Reason::Expired,
        }
    }

    fn put(&mut self, token: Token, margin: Duration, now: Instant) -> Lease {
        self.generation += 1;
        self.is_refused = false;
        let life = token.life();
        // A token that lives no longer than the margin is used for half its life.
        let margin = |life: Duration| margin.min(life / 2);
        let lease = Lease { token, generation: self.generation };
        self.last = Some(Kept {
            lease: lease.clone(),
            stale: life.and_then(|life| now.checked_add(life - margin(life))),
            expired: life.and_then(|life| now.checked_add(life)),
        });
        lease
    }

    /// Marks a token as refused. Several reports about the same token count once.
    fn refuse(&mut self, generation: u64) {
        if self.last.as_ref().is_some_and(|kept| kept.lease.generation == generation) {
            self.last = None;
            self.is_refused = true;
        }
    }
}
