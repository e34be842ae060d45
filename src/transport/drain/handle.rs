use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use atomic_waker::AtomicWaker;
use http::StatusCode;
use tokio::sync::Notify;

use crate::{CloseFrame, rt, transport::refusal::Refusal};

/// A handle that closes all connections of a server gracefully.
///
/// Pass a clone to each entry point of the server: [`WebSocketService::drain`], axum's extractor
/// `WebSocketHandshake::drain`, `SseDuplexServer::drain`, and [`watch`](Self::watch) for the HTTP connections
/// themselves. `OptimizedAcceptor::drain` returns the handle of its sessions. All clones are the same handle.
///
/// When the drain [starts](Self::start):
///
/// 1. New upgrades are rejected with 503 and `Retry-After`.
///
/// 2. Each transport closes with the close frame that you choose, after it has sent the messages it has accepted. For a
///    [driven](crate::TransportExt::drive) transport, that includes the queue. Its stream continues until the peer has
///    closed too, and then ends. Its sink returns an error for which [`is_closed`](crate::Error::is_closed) is true.
///    Handlers therefore end without code of their own. This works above any codec, because the transport at the bottom
///    of the stack closes itself.
///
/// 3. [`close`](Self::close) waits until every connection is gone and every handler has ended.
///
/// 4. After the time limit that you choose, it cuts the remaining connections: handlers are dropped at their current
///    await point, and transports end with an error.
///
/// # Which code
///
/// | frame | for |
/// |---|---|
/// | 1001 ([`AWAY`](crate::CloseCode::AWAY)) | a server that shuts down |
/// | 1012 ([`RESTART`](crate::CloseCode::RESTART)) | a server that restarts |
///
/// The reconnect layer reconnects after both. In browsers, the page decides.
///
/// # Example
///
/// ```no_run
/// # async fn serve() -> Result<(), tower_transport::BoxError> {
/// use std::time::Duration;
///
/// use hyper::server::conn::http1;
/// use hyper_util::{rt::{TokioIo, TokioTimer}, service::TowerToHyperService};
/// use tower_transport::{
///     CloseCode, CloseFrame, TransportExt,
///     transport::{Drain, accept, websocket::WebSocketService},
/// };
///
/// let drain = Drain::new();
/// let echo = WebSocketService::new(|mut socket, _parts| async move {
///     while let Some(Ok(message)) = socket.receive_message().await {
///         if message.is_data() && socket.send_message(message).await.is_err() {
///             return;
///         }
///     }
/// })
/// .drain(&drain);
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
/// loop {
///     let (tcp, _) = tokio::select! {
///         accepted = accept(|| listener.accept()) => accepted,
///         _ = tokio::signal::ctrl_c() => break,
///     };
///     let connection = http1::Builder::new()
///         .timer(TokioTimer::new())
///         .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(echo.clone()))
///         .with_upgrades();
///     tokio::spawn(drain.watch(connection, |connection| connection.graceful_shutdown()));
/// }
/// drop(listener); // nobody waits in its backlog
/// let drained = drain.close(CloseFrame::new(CloseCode::RESTART, "new version"), Duration::from_secs(10)).await;
/// println!("{drained}");
/// # Ok(()) }
/// ```
///
/// # Handlers with work to finish
///
/// A handler that has ended its transport may continue until the time limit. A handler that works without polling its
/// transport can watch [`started`](Self::started).
///
/// # Cost
///
/// Each connection costs an entry in a map, and each poll reads an integer. Nothing is allocated per message.
///
/// [`WebSocketService::drain`]: crate::transport::websocket::WebSocketService::drain
#[derive(Clone, Default)]
pub struct Drain(Arc<Registry>);

/// The state that all clones of a [`Drain`] share.
///
/// ```text
///           start                  cut: the time limit is over
///   OPEN ----------> STARTED ------------------------------------> CUT
/// ```
///
/// The phase never goes back, so a connection that misses a wake-up sees it in its next poll. A connection registers
/// its waker first and reads the phase after that; a change of the phase comes before the wake-ups.
#[derive(Default)]
struct Registry {
    /// The phase: [`OPEN`], [`STARTED`] or [`CUT`]. Each poll of a connection reads it once.
    phase: AtomicU8,
    start: OnceLock<Start>,
    seats: Mutex<Seats>,
    /// The notification that the drain has started.
    started: Notify,
    /// The notification that the last seat was released.
    emptied: Notify,
}

pub(super) struct Start {
    pub(super) frame: CloseFrame,
    pub(super) at: rt::Instant,
    /// The number of connections that were open.
    open: usize,
}

#[derive(Default)]
struct Seats {
    next: u64,
    taken: HashMap<u64, Arc<Wakers>>,
}

const OPEN: u8 = 0;
const STARTED: u8 = 1;
const CUT: u8 = 2;

/// The outcome of a [`Drain`]'s connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// The number of connections that have closed in time, together with their handlers, since the drain started.
    pub closed: usize,
    /// The number of connections that were cut.
    pub cut: usize,
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = if self.closed == 1 { "connection" } else { "connections" };
        write!(f, "{} {connections} closed, {} cut", self.closed, self.cut)
    }
}

impl Drain {
    /// Creates a handle without connections.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts the drain: rejects new connections, and closes each existing one with `frame`. Only the first call has an
    /// effect.
    ///
    /// It returns immediately. [`close`](Self::close) also waits for the connections to end.
    pub fn start(&self, frame: CloseFrame) {
        let mut is_first = false;
        let open = self.connections();
        // The frame is set before the phase, so a connection that sees the phase finds the frame.
        self.0.start.get_or_init(|| {
            is_first = true;
            Start { frame, at: rt::Instant::now(), open }
        });
        if is_first {
            self.0.enter_phase(STARTED);
            self.0.started.notify_waiters();
        }
    }

    /// Waits for `signal`, then [starts](Self::start) the drain. The future owns a clone of this handle and has no
    /// other output, so it fits where a server expects the signal of its shutdown.
    ///
    /// ```no_run
    /// # async fn serve(app: axum::Router, drain: tower_transport::transport::Drain) -> std::io::Result<()> {
    /// use tower_transport::{CloseCode, CloseFrame};
    ///
    /// # let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    /// let restart = CloseFrame::new(CloseCode::RESTART, "new version");
    /// let stop = drain.start_on(tokio::signal::ctrl_c(), restart);
    /// axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before `signal` has resolved starts nothing.
    pub fn start_on<F: Future>(&self, signal: F, frame: CloseFrame) -> impl Future<Output = ()> + use<F> {
        let drain = self.clone();
        async move {
            signal.await;
            drain.start(frame);
        }
    }

    /// [Starts](Self::start) the drain, and waits at most `within` until all connections are gone and their handlers
    /// have ended. Then it cuts the remaining ones. Connections that are being opened meanwhile are waited for and cut
    /// as well.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the connections keep closing and none of them is cut. Another call resumes the wait.
    pub async fn close(&self, frame: CloseFrame, within: Duration) -> Drained {
        self.start(frame);
        // Connections may have ended since a start that came earlier, such as that of a signal.
        let open = self.0.start.get().map_or(0, |start| start.open).max(self.connections());
        if rt::timeout(within, self.emptied()).await.is_ok() {
            return Drained { closed: open, cut: 0 };
        }
        let cut = self.connections();
        self.cut();
        // Handlers that can be dropped are dropped as soon as their task runs.
        let _ = rt::timeout(within.min(AFTER_CUT), self.emptied()).await;
        Drained { closed: open.saturating_sub(cut), cut }
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        self.0.enter_phase(CUT);
    }

    /// Returns whether the drain has [started](Self::start).
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.0.phase() != OPEN
    }

    /// Waits until the drain has [started](Self::start), and returns the chosen close frame.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect: it only observes.
    pub async fn started(&self) -> CloseFrame {
        loop {
            let mut started = pin!(self.0.started.notified());
            started.as_mut().enable();
            if let Some(start) = self.0.start.get() {
                return start.frame.clone();
            }
            started.await;
        }
    }

    /// Waits until there are no connections.
    pub(crate) async fn emptied(&self) {
        loop {
            // Registered before the count is read: a connection that ends in between is not missed.
            let mut emptied = pin!(self.0.emptied.notified());
            emptied.as_mut().enable();
            if self.connections() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Returns the number of connections, including [watched](Self::watch) HTTP connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.seats().taken.len()
    }

    /// Takes a seat for a connection, unless the drain has started.
    pub(crate) fn admit(&self) -> Result<Arc<Seat>, Refusal> {
        const AWAY: Refusal =
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "this server is shutting down (Drain::start)");

        // The seat is taken first, so that a drain that starts in between waits for it.
        let seat = self.enter();
        if self.is_started() { Err(AWAY) } else { Ok(seat) }
    }

    /// Takes a seat for a connection.
    pub(crate) fn enter(&self) -> Arc<Seat> {
        let wakers = Arc::<Wakers>::default();
        let mut seats = self.0.seats();
        let id = seats.next;
        seats.next += 1;
        seats.taken.insert(id, wakers.clone());
        drop(seats);
        Arc::new(Seat { drain: self.clone(), id, wakers })
    }
}

/// The time that dropped handlers may take to end.
const AFTER_CUT: Duration = Duration::from_secs(1);

impl Registry {
    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Acquire)
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter_phase(&self, phase: u8) {
        self.phase.fetch_max(phase, Ordering::AcqRel);
        // Not under the lock: a waker is user code.
        let seats: Vec<_> = self.seats().taken.values().cloned().collect();
        seats.iter().for_each(|wakers| wakers.wake());
    }

    fn leave(&self, id: u64) {
        let mut seats = self.seats();
        let left = seats.taken.remove(&id);
        let is_empty = seats.taken.is_empty();
        drop(seats);
        drop(left);
        if is_empty {
            self.emptied.notify_waiters();
        }
    }
}

debug_fields!(Drain, |this| { connections: this.connections(), is_started: this.is_started() });

/// The tasks of one connection. Each is woken when the drain starts and when it cuts.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    pub(super) reader: AtomicWaker,
    pub(super) writer: AtomicWaker,
    pub(super) handler: AtomicWaker,
}

impl Wakers {
    pub(super) fn wake(&self) {
        self.reader.wake();
        self.writer.wake();
        self.handler.wake();
    }
}

/// A place among the connections of a [`Drain`], held by the transport and by its handler, and released when both are
/// gone.
pub(crate) struct Seat {
    drain: Drain,
    id: u64,
    pub(super) wakers: Arc<Wakers>,
}

impl Seat {
    #[inline]
    pub(super) fn is_started(&self) -> bool {
        self.drain.0.phase() != OPEN
    }

    #[inline]
    pub(super) fn is_cut(&self) -> bool {
        self.drain.0.phase() == CUT
    }

    /// Returns the close frame and the time of the start, once the drain has started.
    pub(super) fn start(&self) -> Option<&Start> {
        self.drain.0.start.get()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.drain.0.leave(self.id);
    }
}

debug_fields!(Seat { id });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CloseCode;

    #[tokio::test(start_paused = true)]
    async fn connections_that_end_between_the_start_and_the_wait_are_counted() {
        let (drain, frame) = (Drain::new(), CloseFrame::new(CloseCode::RESTART, ""));
        let (early, in_time, _late) = (drain.enter(), drain.enter(), drain.enter());
        drain.start(frame.clone());
        drop(early);
        let in_time = async move { drop(in_time) };
        let (drained, ()) = tokio::join!(drain.close(frame, Duration::from_secs(1)), in_time);
        assert_eq!(drained, Drained { closed: 2, cut: 1 });
    }

    #[test]
    fn one_connection_is_not_printed_as_connections() {
        let printed = |closed, cut| Drained { closed, cut }.to_string();
        assert_eq!(printed(1, 1), "1 connection closed, 1 cut");
        assert_eq!(printed(2, 0), "2 connections closed, 0 cut");
    }
}
