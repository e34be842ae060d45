//! The life of one connection, on its own task.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
};

use super::{keeper, shared::Shared};
use crate::{
    Error, Transport,
    rt::{self, Instant, Timer},
    service::{Client, Correlate},
};

/// The number of ticks per idle timeout. A connection is retired after between 1 and 1.25 times the timeout.
const TICKS: u32 = 4;

/// Opens a connection, which the shelf has counted as connecting.
pub(super) fn open<T, Req, Res, C>(shared: &Arc<Shared<T, Req, Res, C>>)
where
    C: Correlate<Req, Res> + Send + 'static,
    T: Transport<C::Out, In = C::In> + Send + 'static,
    C::In: Send,
    Req: Send + 'static,
    Res: Send + 'static,
{
    rt::spawn(live(shared.clone()));
}

async fn live<T, Req, Res, C>(shared: Arc<Shared<T, Req, Res, C>>)
where
    C: Correlate<Req, Res> + Send + 'static,
    T: Transport<C::Out, In = C::In> + Send + 'static,
    C::In: Send,
    Req: Send + 'static,
    Res: Send + 'static,
{
    if let Some((id, client)) = attempt(&shared).await {
        serve(&shared, id, client).await;
    }
    keeper::keep(&shared);
}

/// Makes a connection, which the shelf has counted as connecting.
pub(super) async fn attempt<T, Req, Res, C>(
    shared: &Arc<Shared<T, Req, Res, C>>,
) -> Option<(u64, Client<T, Req, Res, C>)> {
    let attempt = Attempt(Some(shared));
    match (shared.connect)().await {
        Ok(client) => {
            shared.connects.fetch_add(1, Relaxed);
            Some((attempt.opened(client.clone()), client))
        }
        Err(error) => {
            attempt.failed(error);
            None
        }
    }
}

/// Reads for all calls of a connection until it ends.
pub(super) async fn serve<T, Req, Res, C>(shared: &Arc<Shared<T, Req, Res, C>>, id: u64, client: Client<T, Req, Res, C>)
where
    C: Correlate<Req, Res>,
    T: Transport<C::Out, In = C::In>,
{
    let mut drive = pin!(client.drive());
    // The shelf has the handle now.
    drop(client);
    let mut watch = Watch::new(shared);
    poll_fn(|cx| {
        if drive.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        watch.poll(id, cx);
        Poll::Pending
    })
    .await;
    shared.retire(id);
}

/// A connect in progress. However it ends, including by a panic, it stops counting.
struct Attempt<'a, T, Req, Res, C>(Option<&'a Arc<Shared<T, Req, Res, C>>>);

impl<T, Req, Res, C> Attempt<'_, T, Req, Res, C> {
    fn opened(mut self, client: Client<T, Req, Res, C>) -> u64 {
        let Some(shared) = self.0.take() else { return 0 };
        let (id, wakers) = shared.shelf().opened(client);
        wakers.into_iter().for_each(Waker::wake);
        id
    }

    fn failed(mut self, error: Error) {
        self.end(error);
    }

    fn end(&mut self, error: Error) {
        if let Some(shared) = self.0.take() {
            let wakers = shared.shelf().failed(error);
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

impl<T, Req, Res, C> Drop for Attempt<'_, T, Req, Res, C> {
    fn drop(&mut self) {
        self.end(Error::other("a connect of the pool was cancelled"));
    }
}

/// Watches a connection's idle time and age, and retires it when either limit is reached.
struct Watch<'a, T, Req, Res, C> {
    shared: &'a Arc<Shared<T, Req, Res, C>>,
    tick: Timer,
    end: Instant,
}

impl<'a, T, Req, Res, C> Watch<'a, T, Req, Res, C> {
    fn new(shared: &'a Arc<Shared<T, Req, Res, C>>) -> Self {
        let mut tick = Timer::new();
        tick.set(shared.tick());
        let now = Instant::now();
        let end = now.checked_add(shared.max_lifetime).unwrap_or_else(|| now + FAR);
        Self { shared, tick, end }
    }

    fn poll(&mut self, id: u64, cx: &mut Context<'_>) {
        while self.tick.poll(cx).is_ready() {
            let is_old = Instant::now() >= self.end;
            let is_idle = self.shared.shelf().tick(id, self.shared.min_connections) >= TICKS;
            if is_old || is_idle || !self.shared.has_handles() {
                self.shared.retire(id);
                return;
            }
            self.tick.set(self.shared.tick().min(self.end.saturating_duration_since(Instant::now())));
        }
    }
}

/// Longer than any connection lives.
const FAR: std::time::Duration = std::time::Duration::from_secs(86_400 * 365);

impl<T, Req, Res, C> Shared<T, Req, Res, C> {
    fn tick(&self) -> std::time::Duration {
        (self.idle_timeout / TICKS).min(self.max_lifetime)
    }
}
