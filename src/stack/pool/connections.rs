use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Context, Poll},
    time::Duration,
};

use atomic_waker::AtomicWaker;

use super::{
    metrics::{PoolMetrics, Reason},
    slots::{Admission, Limits, Slots},
};
use crate::{
    Error, Transport,
    layer::reconnect::Backoff,
    log,
    rt::{self, Instant, Timer},
    service::{Client, Correlate},
    sync::{Mutex, MutexGuard},
};

/// The number of ticks per idle timeout. A connection is retired after between 1 and 1.25 times the timeout.
const TICKS: u32 = 4;

/// The shortest tick: with an idle timeout of zero, a connection in use would otherwise be checked in a tight loop.
const SHORTEST_TICK: Duration = Duration::from_millis(10);

/// How long the pool must have had its connections before the delays are reset. Otherwise a server that accepts and
/// drops would be retried in a tight loop.
const HEALTHY: Duration = Duration::from_secs(10);

/// Longer than any connection lives.
const FAR: Duration = Duration::from_secs(86_400 * 365);

/// A connect that runs on its own task.
pub(super) type Connecting<K> = Pin<Box<dyn Future<Output = Result<K, Error>> + Send>>;

/// A client, and the number of its slot: for one call.
pub(super) type Granted<T, Req, Res, C> = (u64, Client<T, Req, Res, C>);

/// The settings of a pool, apart from the limits of its slots.
pub(super) struct Settings<K> {
    /// Starts a connect.
    pub(super) connect: Box<dyn Fn() -> Connecting<K> + Send + Sync>,
    pub(super) min_connections: usize,
    pub(super) idle_timeout: Duration,
    pub(super) max_lifetime: Duration,
    pub(super) max_wait: Duration,
    /// The delays between the keeper's attempts.
    pub(super) backoff: Backoff,
    /// The label of the metrics.
    pub(super) name: Arc<str>,
}

/// The connections of a pool. All handles and calls share them.
///
/// Tasks: one for each connection, from its connect to its end ([`serve`](Self::serve)), and at most one keeper, which
/// replaces lost connections if the pool keeps a minimum ([`keep_minimum`](Self::keep_minimum)).
pub(super) struct Connections<T, Req, Res, C> {
    pub(super) slots: Mutex<Slots<Client<T, Req, Res, C>>>,
    settings: Settings<Client<T, Req, Res, C>>,
    has_keeper: AtomicBool,
    /// Wakes the keeper when there may be too few connections, or no handle.
    keeper: AtomicWaker,
    /// The number of handles. Without one, connections end when their calls are done.
    handles: AtomicUsize,
    /// The number of connections made so far.
    connects: AtomicU64,
    pub(super) metrics: PoolMetrics,
}

impl<T, Req, Res, C> Connections<T, Req, Res, C> {
    pub(super) fn new(limits: Limits, settings: Settings<Client<T, Req, Res, C>>) -> Self {
        Self {
            slots: Mutex::new(Slots::new(limits)),
            metrics: PoolMetrics::new(settings.name.clone()),
            settings,
            has_keeper: AtomicBool::new(false),
            keeper: AtomicWaker::new(),
            handles: AtomicUsize::new(0),
            connects: AtomicU64::new(0),
        }
    }

    pub(super) fn connects(&self) -> u64 {
        self.connects.load(Relaxed)
    }

    pub(super) fn max_wait(&self) -> Duration {
        self.settings.max_wait
    }

    pub(super) fn add_handle(&self) {
        self.handles.fetch_add(1, Relaxed);
    }

    pub(super) fn drop_handle(&self) {
        if self.handles.fetch_sub(1, Relaxed) == 1 {
            // Dropped without the lock. A connection ends when its calls are done, and a call that still waits asks
            // again.
            let gone = self.slots.lock().clear();
            drop(gone);
            self.keeper.wake();
        }
    }

    fn has_handles(&self) -> bool {
        self.handles.load(Relaxed) > 0
    }

    /// Returns whether the pool has fewer connections than it must keep, and may open another.
    pub(super) fn is_short(&self) -> bool {
        self.slots.lock().is_short(self.settings.min_connections)
    }

    /// Ends a call on a connection, whose room goes to the next waiting call.
    pub(super) fn release(&self, id: u64) {
        let mut slots = self.slots.lock();
        slots.release(id);
        self.grant(slots);
    }

    /// Abandons a call on a connection. Its room is free once its answer has come.
    pub(super) fn abandon(&self, id: u64) {
        let mut slots = self.slots.lock();
        slots.abandon(id);
        self.grant(slots);
    }

    /// Frees the room of abandoned calls whose answers have come.
    fn discard(&self, id: u64, calls: u64) {
        let mut slots = self.slots.lock();
        (0..calls).for_each(|_| slots.discard(id));
        self.grant(slots);
    }

    /// Gives room on connections to waiting calls. The calls are told without the lock, because that wakes their tasks.
    /// Without a handle, connections that are unused then end.
    fn grant<'a>(&'a self, mut slots: MutexGuard<'a, Slots<Client<T, Req, Res, C>>>) {
        while let Some((waiting, id, client)) = slots.grant() {
            drop(slots);
            // If the call was dropped in the meantime, the next one gets its room.
            let unused = waiting.send(Ok((id, client))).is_err();
            slots = self.slots.lock();
            if unused {
                slots.release(id);
            }
        }
        // Checked under the lock: the last handle is dropped before it clears the slots, so a connection that is added
        // before that is cleared, and one that is added after it is found here.
        if !self.has_handles() {
            let unused = slots.take_unused();
            drop(slots);
            drop(unused);
        }
    }

    /// Records a failed connect, which fails the calls that waited for it.
    fn connect_failed(&self, connect: u64, error: &Error) {
        let failed = self.slots.lock().failed(connect);
        for waiting in failed {
            // A call that was dropped does not need the error.
            let _ = waiting.send(Err(error.clone()));
        }
    }

    /// The time between two checks of a connection's idle time and age.
    fn tick(&self) -> Duration {
        (self.settings.idle_timeout / TICKS).max(SHORTEST_TICK).min(self.settings.max_lifetime)
    }
}

impl<T, Req, Res, C> Connections<T, Req, Res, C>
where
    C: Correlate<Req, Res> + Send + 'static,
    T: Transport<C::Out, In = C::In> + Send + 'static,
    C::In: Send,
    Req: Send + 'static,
    Res: Send + 'static,
{
    /// Finds a connection for a call, or a place in line. Opens another connection if needed.
    pub(super) fn admit(self: &Arc<Self>) -> Admission<Client<T, Req, Res, C>> {
        let (admission, connect) = self.slots.lock().admit();
        self.open(connect);
        admission
    }

    /// Opens connections until there are as many as the pool keeps.
    pub(super) fn fill(self: &Arc<Self>) {
        while self.is_short() {
            let Some(connect) = self.slots.lock().begin() else { return };
            self.open(Some(connect));
        }
    }

    /// Opens a connection, if the slots have begun a connect.
    fn open(self: &Arc<Self>, connect: Option<u64>) {
        let Some(connect) = connect else { return };
        #[cfg(feature = "trace")]
        if let Some(gauges) = self.metrics.start() {
            let this = Arc::downgrade(self);
            rt::spawn(gauges.run(move || this.upgrade().map(|this| this.slots.lock().counts())));
        }
        let this = self.clone();
        rt::spawn(async move {
            match this.connect(connect).await {
                Some((id, client)) => this.serve(id, client).await,
                None => this.keep_minimum(),
            }
        });
    }

    /// Makes a connection by the connect of this number, which the slots have begun.
    async fn connect(&self, connect: u64) -> Option<Granted<T, Req, Res, C>> {
        let attempt = Attempt { connections: Some(self), connect };
        match (self.settings.connect)().await {
            Ok(client) => {
                self.connects.fetch_add(1, Relaxed);
                Some((attempt.succeeded(client.clone()), client))
            }
            Err(error) => {
                attempt.failed(&error);
                None
            }
        }
    }

    /// Reads for all calls of a connection until it ends.
    async fn serve(self: &Arc<Self>, id: u64, client: Client<T, Req, Res, C>) {
        // However it ends, including by a panic of the transport.
        let _end = OnDrop(|| {
            let (handle, connect) = self.slots.lock().ended(id);
            self.open(connect);
            self.keep_minimum();
            if handle.is_some() {
                self.metrics.retired(Reason::Lost);
            }
            // Last, because it may drop the transport.
            drop(handle);
        });
        // A driver reads all the time, so a connection that ends is detected without a call.
        let mut drive = pin!(client.drive());
        // The slots have the handle now.
        drop(client);
        let mut tick = Timer::new();
        tick.set(self.tick());
        let now = Instant::now();
        let end = now.checked_add(self.settings.max_lifetime).unwrap_or_else(|| now + FAR);
        let mut discarded = 0;
        poll_fn(|cx| {
            if drive.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            // The client wakes its driver for each of them.
            let before = std::mem::replace(&mut discarded, drive.discarded());
            if discarded > before {
                self.discard(id, discarded - before);
            }
            self.poll_age(id, &mut tick, end, cx);
            Poll::Pending
        })
        .await;
    }

    /// Retires a connection that is idle or old. Its current calls go on.
    fn poll_age(self: &Arc<Self>, id: u64, tick: &mut Timer, end: Instant, cx: &mut Context<'_>) {
        while tick.poll(cx).is_ready() {
            let is_old = Instant::now() >= end;
            let is_idle = self.slots.lock().tick(id, self.settings.min_connections) >= TICKS;
            if is_old || is_idle || !self.has_handles() {
                self.retire(id, if is_old { Reason::Old } else { Reason::Idle });
                return;
            }
            tick.set(self.tick().min(end.saturating_duration_since(Instant::now())));
        }
    }

    /// Gives this connection no more calls.
    pub(super) fn retire(&self, id: u64, reason: Reason) {
        let handle = self.slots.lock().remove(id);
        if handle.is_some() {
            self.metrics.retired(reason);
        }
        // Without the lock: dropping the last handle of a client wakes its driver.
        drop(handle);
        self.keeper.wake();
    }

    /// Called when a connection has ended or failed to open. Wakes the keeper, or starts it if it is not running.
    fn keep_minimum(self: &Arc<Self>) {
        // One keeper at most: each failed call of an outage would otherwise leave a task that connects.
        if self.settings.min_connections > 0 && self.has_handles() && !self.has_keeper.swap(true, SeqCst) {
            rt::spawn(self.clone().run_keeper());
        }
        self.keeper.wake();
    }

    /// Replaces lost connections, one attempt after the other, until the last handle is gone or no delay is left.
    async fn run_keeper(self: Arc<Self>) {
        let _running = KeeperRuns(&self.has_keeper);
        let mut delays = self.settings.backoff.delays();
        // The number of attempts that may follow a successful connection without a delay, to fill the pool.
        let mut at_once = 0;
        loop {
            let since = Instant::now();
            if !self.wait_until_short(&mut at_once).await {
                return;
            }
            if since.elapsed() >= HEALTHY {
                delays = self.settings.backoff.delays();
            }
            if at_once > 0 {
                at_once -= 1;
            } else {
                // No delay is left: the next call that finds no connection starts another keeper.
                let Some(delay) = delays.next() else { return };
                let mut timer = Timer::new();
                timer.set(delay);
                if self.while_wanted(poll_fn(|cx| timer.poll(cx))).await.is_none() {
                    return;
                }
                at_once = self.settings.min_connections.saturating_sub(1);
            }
            // A call may have opened a connection during the delay.
            let begun = if self.is_short() { self.slots.lock().begin() } else { None };
            let Some(connect) = begun else { continue };
            let Some(made) = self.while_wanted(self.connect(connect)).await else { return };
            let Some((id, client)) = made else {
                at_once = 0;
                continue;
            };
            let this = self.clone();
            rt::spawn(async move { this.serve(id, client).await });
        }
    }

    /// Waits until there are too few connections. Returns `false` if there is no handle.
    async fn wait_until_short(&self, at_once: &mut usize) -> bool {
        poll_fn(|cx| {
            self.keeper.register(cx.waker());
            if !self.has_handles() {
                return Poll::Ready(false);
            }
            if self.is_short() {
                return Poll::Ready(true);
            }
            *at_once = 0;
            Poll::Pending
        })
        .await
    }

    /// Returns the output of `future`, unless the last handle is dropped first.
    async fn while_wanted<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.keeper.register(cx.waker());
            match self.has_handles() {
                true => future.as_mut().poll(cx).map(Some),
                false => Poll::Ready(None),
            }
        })
        .await
    }
}

/// A connect in progress. However it ends, including by a panic, it stops counting.
struct Attempt<'a, T, Req, Res, C> {
    connections: Option<&'a Connections<T, Req, Res, C>>,
    /// The number that the slots gave it.
    connect: u64,
}

impl<T, Req, Res, C> Attempt<'_, T, Req, Res, C> {
    /// Adds the connection and returns its id.
    fn succeeded(mut self, client: Client<T, Req, Res, C>) -> u64 {
        let Some(connections) = self.connections.take() else { return 0 };
        let mut slots = connections.slots.lock();
        let id = slots.opened(client);
        let open = slots.open();
        connections.grant(slots);
        log::pool_connected(open);
        id
    }

    fn failed(mut self, error: &Error) {
        log::pool_not_connected(error);
        if let Some(connections) = self.connections.take() {
            connections.metrics.connect_failed();
            connections.connect_failed(self.connect, error);
        }
    }
}

impl<T, Req, Res, C> Drop for Attempt<'_, T, Req, Res, C> {
    fn drop(&mut self) {
        if let Some(connections) = self.connections.take() {
            connections.connect_failed(self.connect, &Error::other("a connect of the pool was cancelled"));
        }
    }
}

/// Runs a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Clears the flag when the keeper ends, even in case of a panic.
struct KeeperRuns<'a>(&'a AtomicBool);

impl Drop for KeeperRuns<'_> {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}
