use std::{
    future::{Future, poll_fn, ready},
    hash::Hash,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use moka::{future::Cache as Moka, ops::compute::Op};
use tower_service::Service;

use super::answers::Config;
use crate::{BoxError, Error, rt::Instant};

/// Answers by key, until they expire.
pub(super) struct Store<K, V> {
    answers: Moka<K, Answer<V>>,
    time_to_live: Duration,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// The time is stored next to the answer, because the clock of this crate is not moka's: a paused clock is paused here
/// too. moka's own expiry frees the memory.
#[derive(Clone)]
struct Answer<V> {
    value: V,
    since: Instant,
}

/// moka rejects more than a thousand years.
const LONGEST: Duration = Duration::from_secs(86_400 * 365 * 999);

impl<K, V> Store<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(config: &Config<K, V>) -> Self {
        let mut builder = Moka::builder().max_capacity(config.capacity).time_to_live(config.time_to_live.min(LONGEST));
        if let Some(weigh) = config.weigh.clone() {
            builder = builder.weigher(move |key, answer: &Answer<V>| weigh(key, &answer.value));
        }
        Self {
            answers: builder.build(),
            time_to_live: config.time_to_live,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    pub(super) fn hits(&self) -> u64 {
        self.hits.load(Relaxed)
    }

    pub(super) fn misses(&self) -> u64 {
        self.misses.load(Relaxed)
    }

    pub(super) fn len(&self) -> u64 {
        self.answers.entry_count()
    }

    fn is_fresh(&self, answer: &Answer<V>) -> bool {
        answer.since.elapsed() < self.time_to_live
    }

    /// Returns the answer, if it is available without waiting.
    pub(super) fn hit(&self, key: &K) -> Option<V> {
        let found = pin!(self.answers.get(key)).poll(&mut Context::from_waker(Waker::noop()));
        match found {
            Poll::Ready(Some(answer)) if self.is_fresh(&answer) => {
                self.hits.fetch_add(1, Relaxed);
                Some(answer.value)
            }
            _ => None,
        }
    }

    /// Returns the answer to the first caller's request; the other callers wait for it.
    pub(super) async fn ask<S, Req>(self: Arc<Self>, key: K, inner: S, request: Req) -> Result<V, Error>
    where
        K: Clone,
        S: Service<Req, Response = V>,
        S::Error: Into<BoxError>,
    {
        let expire = |entry: Option<moka::Entry<K, Answer<V>>>| match entry {
            Some(entry) if !self.is_fresh(entry.value()) => ready(Op::Remove),
            _ => ready(Op::Nop),
        };
        if self.answers.contains_key(&key) {
            self.answers.entry_by_ref(&key).and_compute_with(expire).await;
        }
        let mut asked = false;
        let ask = async {
            asked = true;
            let value = ask(inner, request).await?;
            Ok(Answer { value, since: Instant::now() })
        };
        let answer = self.answers.try_get_with(key, ask).await;
        let counter = if asked { &self.misses } else { &self.hits };
        counter.fetch_add(1, Relaxed);
        answer.map(|answer| answer.value).map_err(|error: Arc<Error>| Error::clone(&error))
    }
}

/// Waits until the service is ready, and calls it.
pub(super) async fn ask<S, Req>(mut service: S, request: Req) -> Result<S::Response, Error>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
{
    let erase = |error: S::Error| Error::from(error.into());
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(erase)?;
    service.call(request).await.map_err(erase)
}
