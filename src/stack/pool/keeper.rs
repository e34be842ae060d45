//! The single task that replaces the connections that a pool must keep.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, SeqCst},
    },
    task::Poll,
    time::Duration,
};

use super::{connection, shared::Shared};
use crate::{
    Transport,
    rt::{self, Instant, Timer},
    service::Correlate,
};

/// How long the pool must have had its connections before the delays are reset. Otherwise a server that accepts and
/// drops would be retried in a tight loop.
const HEALTHY: Duration = Duration::from_secs(10);

/// Called when a connection has ended or failed to open. Wakes the keeper to check whether there are too few
/// connections, and starts it if it is not running.
pub(super) fn keep<T, Req, Res, C>(shared: &Arc<Shared<T, Req, Res, C>>)
where
    C: Correlate<Req, Res> + Send + 'static,
    T: Transport<C::Out, In = C::In> + Send + 'static,
    C::In: Send,
    Req: Send + 'static,
    Res: Send + 'static,
{
    if shared.min_connections > 0 && shared.has_handles() && !shared.is_kept.swap(true, SeqCst) {
        rt::spawn(run(shared.clone()));
    }
    shared.keeper.wake();
}

async fn run<T, Req, Res, C>(shared: Arc<Shared<T, Req, Res, C>>)
where
    C: Correlate<Req, Res> + Send + 'static,
    T: Transport<C::Out, In = C::In> + Send + 'static,
    C::In: Send,
    Req: Send + 'static,
    Res: Send + 'static,
{
    let _kept = Kept(&shared);
    let mut delays = shared.backoff.delays();
    // The number of attempts that may follow a successful connection without a delay, to fill the pool.
    let mut at_once = 0;
    loop {
        let since = Instant::now();
        let is_short = poll_fn(|cx| {
            shared.keeper.register(cx.waker());
            match shared.has_handles() {
                true if shared.is_short() => Poll::Ready(true),
                true => {
                    at_once = 0;
                    Poll::Pending
                }
                false => Poll::Ready(false),
            }
        });
        if !is_short.await {
            return;
        }
        if since.elapsed() >= HEALTHY {
            delays = shared.backoff.delays();
        }
        if at_once > 0 {
            at_once -= 1;
        } else {
            // No delay is left: the next call that finds no connection starts another keeper.
            let Some(delay) = delays.next() else { return };
            let mut timer = Timer::new();
            timer.set(delay);
            if while_wanted(&shared, poll_fn(|cx| timer.poll(cx))).await.is_none() {
                return;
            }
            at_once = shared.min_connections.saturating_sub(1);
        }
        if !(shared.is_short() && shared.shelf().begin()) {
            continue;
        }
        let Some(made) = while_wanted(&shared, connection::attempt(&shared)).await else { return };
        let Some((id, client)) = made else {
            at_once = 0;
            continue;
        };
        let shared = shared.clone();
        rt::spawn(async move {
            connection::serve(&shared, id, client).await;
            keep(&shared);
        });
    }
}

/// Returns the output of `future`, unless the last handle is dropped first.
async fn while_wanted<T, Req, Res, C, F: Future>(shared: &Shared<T, Req, Res, C>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        shared.keeper.register(cx.waker());
        match shared.has_handles() {
            true => future.as_mut().poll(cx).map(Some),
            false => Poll::Ready(None),
        }
    })
    .await
}

/// Marks the keeper as running while it exists, even in case of a panic.
struct Kept<'a, T, Req, Res, C>(&'a Shared<T, Req, Res, C>);

impl<T, Req, Res, C> Drop for Kept<'_, T, Req, Res, C> {
    fn drop(&mut self) {
        self.0.is_kept.store(false, Relaxed);
    }
}
