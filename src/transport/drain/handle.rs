use std::{fmt, pin::pin, sync::Arc, time::Duration};

use http::StatusCode;

use super::registry::{ConnectionId, OpenConnection, Registry, Seat};
use crate::{CloseCode, CloseFrame, Message, rt, transport::refusal::Refusal};

/// A handle that closes all connections of a server gracefully.
///
/// Pass a clone to each entry point of the server: [`WebSocketService::drain`], axum's extractor
/// `WebSocketHandshake::drain`, `SseDuplexServer::drain`, and [`watch`](Self::watch) for the HTTP connections
/// themselves. `OptimizedAcceptor::drain` returns the handle of its sessions. All clones are the same handle.
///
/// When the drain [starts](Self::start):
///
/// 1. [Readiness](Self::readiness) fails, and new connections are rejected with 503 and `Retry-After`.
///
/// 2. Each transport closes with the close frame that you choose, after it has sent the messages it has accepted. For a
///    [driven](crate::TransportExt::drive) transport, that includes the queue. Its stream continues until the peer has
///    closed too, and then ends. Its sink returns an error for which [`is_closed`](crate::Error::is_closed) is true.
///    Handlers therefore end without code of their own. This works above any codec, because the transport at the bottom
///    of the stack closes itself. A `service::Server` takes no more requests, finishes those in flight and sends their
///    answers before its transport closes.
///
/// 3. [`drain`](Self::drain) and [`close`](Self::close) wait until every connection is gone and every handler has
///    ended.
///
/// 4. After the time limit that you choose, they cut the remaining connections: handlers are dropped at their current
///    await point, and transports end with an error. [`Drained`] counts both.
///
/// A handler that wants every message its client has sent reads until its stream ends, although its own messages are
/// refused by then. A handler that returns at the first error of its sink drops the transport, and what is unread.
///
/// # Return hints
///
/// Clients that all lose their server at once would all come back at once. So each session is told its own time to
/// return, and the times are spread evenly over [a window](Self::spread_returns). The hint is at the end of the close
/// frame's reason ([`CloseFrame::with_return_after`]), which other clients show as text. The reconnect layer of this
/// crate waits for that time. A client that is rejected meanwhile waits for the `Retry-After` of the answer.
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
///     TransportExt,
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
/// let drained = drain.drain(Duration::from_secs(10)).await;
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
/// # Bounds
///
/// The list of connections is as long as the number of connections, which the limits of each entry point bound.
///
/// [`WebSocketService::drain`]: crate::transport::websocket::WebSocketService::drain
#[derive(Clone, Default)]
pub struct Drain(Arc<Registry>);

/// The outcome of a [`Drain`]'s connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// The number of connections that have closed in time, together with their handlers, since the drain started.
    pub closed: usize,
    /// The number of connections that were cut.
    pub cut: usize,
    /// The number of new connections that were rejected since the drain started.
    pub refused: usize,
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = if self.closed == 1 { "connection" } else { "connections" };
        write!(f, "{} {connections} closed, {} cut", self.closed, self.cut)?;
        if self.refused > 0 { write!(f, ", {} refused", self.refused) } else { Ok(()) }
    }
}

impl Drain {
    /// Creates a handle without connections.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the window over which clients return. Defaults to 5 seconds. With zero, each client returns after its own
    /// backoff.
    ///
    /// Each session that the drain closes is told a time of its own within this window, at which it is to connect
    /// again: see [Return hints](#return-hints). Choose the window by the rate of handshakes that the remaining or new
    /// processes can take: 10,000 clients over 10 seconds are 1,000 handshakes a second.
    #[must_use]
    pub fn spread_returns(self, window: Duration) -> Self {
        self.0.set_spread(window);
        self
    }

    /// Starts the drain: rejects new connections, and closes each existing one with `frame` and a [return
    /// hint](#return-hints). Only the first call has an effect.
    ///
    /// It returns immediately. [`close`](Self::close) also waits for the connections to end.
    pub fn start(&self, frame: CloseFrame) {
        self.0.begin(frame);
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

    /// Drains the server before a restart: [`close`](Self::close) with code 1012
    /// ([`RESTART`](crate::CloseCode::RESTART)).
    ///
    /// # Cancel safety
    ///
    /// The same as [`close`](Self::close).
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.close(CloseFrame::new(CloseCode::RESTART, "the server restarts"), deadline).await
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
        let open = self.0.start().map_or(0, |start| start.open).max(self.connections());
        let cut = if rt::timeout(within, self.emptied()).await.is_ok() {
            0
        } else {
            let cut = self.connections();
            self.cut();
            // Handlers that can be dropped are dropped as soon as their task runs.
            let _ = rt::timeout(within.min(AFTER_CUT), self.emptied()).await;
            cut
        };
        Drained { closed: open.saturating_sub(cut), cut, refused: self.0.refused() }
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        self.0.cut();
    }

    /// Returns whether the drain has [started](Self::start).
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.0.is_started()
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
            if let Some(start) = self.0.start() {
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
        self.0.connections()
    }

    /// Returns the number of sessions: [`connections`](Self::connections) without [watched](Self::watch) HTTP
    /// connections.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.0.sessions()
    }

    /// Returns the connections, in the order in which they were accepted.
    #[must_use]
    pub fn list(&self) -> Vec<OpenConnection> {
        self.0.list()
    }

    /// Closes one connection with `frame`, in the same way as the drain closes all: after the messages that it has
    /// accepted. Returns `false` if the connection is gone or is already being closed.
    ///
    /// The frame is sent without a return hint, unless you
    /// [add one](CloseFrame::with_return_after). The connection is cut only by a drain whose time limit is over.
    pub fn close_one(&self, id: ConnectionId, frame: CloseFrame) -> bool {
        self.0.close_one(id, frame)
    }

    /// Sends a message to every session, behind the messages that each has accepted. Returns the number of sessions for
    /// which it was queued.
    ///
    /// The message takes the place of one that the handler sends at the bottom of its stack (for an
    /// `OptimizedTransport`, at the top): no codec encodes it, and compression of the stack does not apply. It does not
    /// wait for anyone. Up to 16 messages wait for a session whose handler does not poll its transport; a session with
    /// more is skipped. A session that is closing may end without it.
    pub fn broadcast(&self, message: &Message) -> usize {
        self.0.broadcast(message)
    }

    /// Takes a seat for a connection, unless the drain has started.
    pub(crate) fn admit(&self) -> Result<Arc<Seat>, Refusal> {
        // The seat is taken first, so that a drain that starts in between waits for it.
        let seat = self.enter();
        if self.is_started() { Err(self.refuse()) } else { Ok(seat) }
    }

    /// Counts a rejected connection, and returns the rejection.
    pub(crate) fn refuse(&self) -> Refusal {
        const AWAY: Refusal =
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "this server is shutting down (Drain::start)");

        self.0.refuse();
        AWAY
    }

    /// Takes a seat for a session.
    pub(crate) fn enter(&self) -> Arc<Seat> {
        self.0.enter(false)
    }

    /// Takes a seat for an HTTP connection.
    pub(super) fn enter_http(&self) -> Arc<Seat> {
        self.0.enter(true)
    }
}

/// The time that dropped handlers may take to end.
const AFTER_CUT: Duration = Duration::from_secs(1);

debug_fields!(Drain, |this| { connections: this.connections(), is_started: this.is_started() });

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
        assert_eq!(drained, Drained { closed: 2, cut: 1, refused: 0 });
    }

    #[test]
    fn one_connection_is_not_printed_as_connections() {
        let printed = |closed, cut| Drained { closed, cut, refused: 0 }.to_string();
        assert_eq!(printed(1, 1), "1 connection closed, 1 cut");
        assert_eq!(printed(2, 0), "2 connections closed, 0 cut");
        assert_eq!(Drained { closed: 2, cut: 0, refused: 3 }.to_string(), "2 connections closed, 0 cut, 3 refused");
    }

    #[tokio::test(start_paused = true)]
    async fn the_returns_of_any_number_of_sessions_are_spread_evenly_over_the_window() {
        for count in [1, 7, 100, 1000] {
            let drain = Drain::new().spread_returns(Duration::from_secs(10));
            let seats: Vec<_> = (0..count).map(|_| drain.enter()).collect();
            drain.start(CloseFrame::new(CloseCode::RESTART, "new version"));
            let mut tenths = [0; 10];
            for seat in &seats {
                let frame = seat.frame().unwrap();
                assert!(frame.reason().starts_with("new version; "), "{frame}");
                tenths[frame.return_after().unwrap().as_millis() as usize / 1000] += 1;
            }
            let (least, most) = (tenths.iter().min().unwrap(), tenths.iter().max().unwrap());
            assert!(most - least <= 3, "{count}: {tenths:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_begins_after_the_start_is_closed_and_one_alone_can_be() {
        let drain = Drain::new().spread_returns(Duration::ZERO);
        let (first, second) = (drain.enter(), drain.enter());
        let ids: Vec<_> = drain.list().iter().map(|connection| connection.id).collect();
        let policy = CloseFrame::new(CloseCode::POLICY, "out");
        assert!(drain.close_one(ids[1], policy.clone()) && !drain.close_one(ids[1], policy.clone()));
        assert!(!first.is_started() && second.frame() == Some(policy.clone()) && !drain.is_started());
        let restart = CloseFrame::new(CloseCode::RESTART, "");
        drain.start(restart.clone());
        let restart = restart.with_return_after(Duration::ZERO);
        let late = drain.enter();
        assert_eq!([first.frame(), second.frame(), late.frame()], [Some(restart.clone()), Some(policy), Some(restart)]);
        drop((first, second, late));
        assert!(!drain.close_one(ids[0], CloseFrame::new(CloseCode::AWAY, "")));
        assert_eq!(drain.close(CloseFrame::new(CloseCode::AWAY, ""), Duration::ZERO).await.cut, 0);
    }

    #[test]
    fn a_broadcast_is_bounded_for_each_session_and_skips_http() {
        let drain = Drain::new();
        let (session, http) = (drain.enter(), drain.enter_http());
        assert_eq!((drain.connections(), drain.sessions()), (2, 1));
        for _ in 0..16 {
            assert_eq!(drain.broadcast(&Message::text("soon")), 1);
        }
        assert_eq!(drain.broadcast(&Message::text("soon")), 0);
        assert!(!session.is_quiet() && http.is_quiet());
        assert_eq!(std::iter::from_fn(|| session.take_notice()).count(), 16);
        assert!(session.is_quiet());
    }
}
