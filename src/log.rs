//! Events for operators, through [tracing](https://docs.rs/tracing). Without the feature `tracing`, every function here
//! does nothing. Targets and levels are public: `lib.rs` documents them for users.
//!
//! A rejected handshake logs the status, the reason (with the setting that would allow it), the peer's address if
//! known, the page's origin and the path. Queries, cookies and credentials are never logged. Nothing here is on the
//! message path.
#![allow(dead_code, unused_imports, unused_variables, reason = "which of them are used depends on the features")]

use std::{
    fmt, io, net,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use http::{Extensions, HeaderMap, Request, StatusCode, Uri, header, request};

use crate::{CloseCode, CloseFrame, Error};

// The targets of all events: public modules, which do not change when files move. A filter for one of them is stable,
// and also applies to the targets below it.

pub(crate) const HANDSHAKE: &str = "tower_transport::handshake";
pub(crate) const TRANSPORT: &str = "tower_transport::transport";
pub(crate) const LAYER: &str = "tower_transport::layer";
pub(crate) const HEARTBEAT: &str = "tower_transport::layer::heartbeat";
pub(crate) const RATE_LIMIT: &str = "tower_transport::layer::rate_limit";
pub(crate) const RECONNECT: &str = "tower_transport::layer::reconnect";
pub(crate) const RESUME: &str = "tower_transport::layer::resume";
pub(crate) const SERVICE: &str = "tower_transport::service";
pub(crate) const ADAPTIVE: &str = "tower_transport::stack::adaptive";
pub(crate) const OPTIMIZED: &str = "tower_transport::stack::optimized";
pub(crate) const POOL: &str = "tower_transport::stack::pool";

/// The maximum length of a peer-supplied string in one field.
const LONGEST: usize = 128;

/// Returns the client's address, if the server has put it into the request's extensions.
pub(crate) fn peer(extensions: &Extensions) -> Option<Peer> {
    let address = extensions.get::<net::SocketAddr>().copied().map(Peer::Socket);
    address.or_else(|| extensions.get::<net::IpAddr>().copied().map(Peer::Ip))
}

/// Copies the client's address to other extensions.
pub(crate) fn copy_peer(from: &Extensions, to: &mut Extensions) {
    match peer(from) {
        Some(Peer::Socket(address)) => drop(to.insert(address)),
        Some(Peer::Ip(address)) => drop(to.insert(address)),
        None => {}
    }
}

/// The address of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Socket(net::SocketAddr),
    Ip(net::IpAddr),
}

impl Peer {
    pub(crate) const fn address(self) -> net::IpAddr {
        match self {
            Self::Socket(address) => address.ip(),
            Self::Ip(address) => address,
        }
    }

    const fn port(self) -> Option<u16> {
        match self {
            Self::Socket(address) => Some(address.port()),
            Self::Ip(_) => None,
        }
    }
}

/// A string supplied by the peer, escaped and truncated.
pub(crate) struct Quoted<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = self.0.get(..LONGEST);
        write!(f, "{}", cut.unwrap_or(self.0).escape_ascii())?;
        if cut.is_some() { f.write_str("...") } else { Ok(()) }
    }
}

/// The head of a request, in whichever representation it is available.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    uri: &'a Uri,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> From<&'a request::Parts> for Head<'a> {
    fn from(parts: &'a request::Parts) -> Self {
        Self { uri: &parts.uri, headers: &parts.headers, extensions: &parts.extensions }
    }
}

impl<'a, B> From<&'a Request<B>> for Head<'a> {
    fn from(request: &'a Request<B>) -> Self {
        Self { uri: request.uri(), headers: request.headers(), extensions: request.extensions() }
    }
}

/// The maximum number of events of one kind in each [`WINDOW`] of time.
const MOST: u64 = 100;
/// The length of a window, in seconds.
const WINDOW: u64 = 10;

/// A bound on the events of one kind that peers can cause, so that they cannot fill a disk. The first event of a later
/// window tells how many were left out.
pub(crate) struct Throttle {
    /// The number of the current window, counted from 1. 0 before the first event.
    window: AtomicU64,
    seen: AtomicU64,
}

impl Throttle {
    pub(crate) const fn new() -> Self {
        Self { window: AtomicU64::new(0), seen: AtomicU64::new(0) }
    }

    /// Returns how many events were left out since the last one, if this one may be logged.
    pub(crate) fn admit(&self) -> Option<u64> {
        self.admit_in(window())
    }

    /// Threads may disagree about a window for a moment. Then an event more or less is logged.
    fn admit_in(&self, window: u64) -> Option<u64> {
        // The number of the last window's events is read and reset in one step, so that it is reported once.
        if self.window.swap(window, Relaxed) != window {
            return Some(self.seen.swap(1, Relaxed).saturating_sub(MOST));
        }
        (self.seen.fetch_add(1, Relaxed) < MOST).then_some(0)
    }
}

/// Returns the number of the current window.
fn window() -> u64 {
    // Only with `rt` there is a clock in a page. The features that log there need `rt`.
    #[cfg(all(target_arch = "wasm32", not(feature = "rt")))]
    return 1;
    #[cfg(not(all(target_arch = "wasm32", not(feature = "rt"))))]
    {
        #[cfg(target_arch = "wasm32")]
        use crate::rt::Instant;
        use std::sync::OnceLock;
        #[cfg(not(target_arch = "wasm32"))]
        use std::time::Instant;
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_secs() / WINDOW + 1
    }
}

/// An event that a peer can cause, at most [`MOST`] times in a window. Events of a level that is off do not count.
#[cfg(feature = "tracing")]
macro_rules! throttled {
    ($level:ident, target: $target:expr, $($rest:tt)*) => {
        // Asked first: events that nobody sees must not use up the window of those that somebody does.
        if tracing::event_enabled!(target: $target, throttled!(@ $level)) {
            static THROTTLE: Throttle = Throttle::new();
            if let Some(left_out) = THROTTLE.admit() {
                let left_out = (left_out > 0).then_some(left_out);
                tracing::$level!(target: $target, left_out, $($rest)*);
            }
        }
    };
    (@ warn) => { tracing::Level::WARN };
    (@ info) => { tracing::Level::INFO };
    (@ debug) => { tracing::Level::DEBUG };
}

/// Counts a handshake that a server answered.
fn count_handshake(transport: &'static str, status: StatusCode) {
    #[cfg(feature = "trace")]
    metrics::counter!(
        crate::layer::trace::HANDSHAKES,
        "network.protocol.name" => transport,
        "http.response.status_code" => status.as_u16().to_string()
    )
    .increment(1);
}

/// Logs and counts that a server accepted a handshake, which took `time`.
pub(crate) fn accepted(transport: &'static str, status: StatusCode, time: Duration, peer: Option<Peer>) {
    count_handshake(transport, status);
    #[cfg(feature = "trace")]
    metrics::histogram!(crate::layer::trace::HANDSHAKE_SECONDS, "network.protocol.name" => transport)
        .record(time.as_secs_f64());
    #[cfg(feature = "tracing")]
    tracing::debug!(
        target: HANDSHAKE,
        ?time,
        network.protocol.name = transport,
        network.peer.address = peer.map(Peer::address).map(tracing::field::display),
        network.peer.port = peer.and_then(Peer::port),
        "accepted a handshake"
    );
}

/// Logs that a client was accepted, and did not complete the upgrade.
pub(crate) fn upgrade_failed(transport: &'static str, peer: Option<Peer>) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        target: HANDSHAKE,
        {
            network.protocol.name = transport,
            network.peer.address = peer.map(Peer::address).map(tracing::field::display),
            network.peer.port = peer.and_then(Peer::port),
        },
        "a client did not complete its upgrade"
    );
}

/// Logs that a heartbeat ended a connection.
pub(crate) fn heartbeat_timed_out(interval: Duration, timeout: Duration) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: HEARTBEAT, ?interval, ?timeout, "heartbeat: the peer is dead, the connection is ended");
}

/// Logs that a rate limit held up or rejected a message: the first one of a connection, and the [`FREQUENT`]th.
pub(crate) fn rate_limited(number: u32, is_rejected: bool, what: &str, burst: u32, interval: Duration) {
    #[cfg(feature = "tracing")]
    match (number, is_rejected) {
        (1, true) => {
            throttled!(debug, target: RATE_LIMIT, what, burst, ?interval, "rate limit: a message was rejected");
        }
        (1, false) => {
            throttled!(debug, target: RATE_LIMIT, what, burst, ?interval, "rate limit: a message has to wait");
        }
        // A message that waits is what the user asked for; a peer that ignores its rejections is not.
        (FREQUENT, true) => throttled!(
            warn, target: RATE_LIMIT, rejected = number, what, burst, ?interval,
            "rate limit: one connection or service keeps exceeding its limit"
        ),
        _ => {}
    }
}

/// The number of rejections of one connection that is worth a person's attention.
const FREQUENT: u32 = 100;

/// Logs that a client's connection was lost, or an attempt failed. The first of a row is for an operator.
pub(crate) fn reconnecting(attempt: u32, cause: &Error, after: Duration, was_connected: bool) {
    #[cfg(feature = "tracing")]
    {
        macro_rules! event {
            ($level:ident, $what:literal) => {
                tracing::$level!(target: RECONNECT, attempt, error = %cause, ?after, $what)
            };
        }
        match attempt {
            _ if was_connected => event!(info, "reconnect: the connection was lost"),
            // Once for each outage. The backoff has reached some seconds by then.
            REPEATED => event!(warn, "reconnect: the attempts to connect keep failing"),
            _ => event!(debug, "reconnect: an attempt to connect failed"),
        }
    }
}

/// The number of the attempt at which an outage is worth a person's attention.
const REPEATED: u32 = 6;

/// Logs that a client has a connection again.
pub(crate) fn reconnected(connections: u64) {
    #[cfg(feature = "tracing")]
    if connections == 1 {
        tracing::debug!(target: RECONNECT, "reconnect: connected");
    } else {
        tracing::info!(target: RECONNECT, connections, "reconnect: connected again");
    }
}

/// Logs that a client makes no further attempt.
pub(crate) fn reconnect_failed(cause: &Error) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: RECONNECT, error = %cause, "reconnect: gave up, there is no further attempt");
}

/// Logs that a client's session could not be resumed.
pub(crate) fn resume_fresh(lost: u64) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: RESUME, lost, "resume: the server does not have the session any more, and a new one begins"
    );
}

/// Logs that a client's session goes on.
pub(crate) fn resume_resumed(replayed: u64) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: RESUME, replayed, "resume: the session goes on");
}

/// Logs that a client came back to a server that does not have its session any more.
pub(crate) fn session_lost() {
    #[cfg(feature = "tracing")]
    throttled!(info, target: RESUME, "resume: a client came back, but its session was over");
}

/// Logs that a session ended because its client did not come back.
pub(crate) fn session_expired(ttl: Duration) {
    #[cfg(feature = "tracing")]
    throttled!(info, target: RESUME, ?ttl, "resume: a session ended, its client did not come back (SessionStore::ttl)");
}

/// Logs that a session without a connection had to make room for another one.
pub(crate) fn session_evicted(sessions: usize, sessions_per_key: usize) {
    #[cfg(feature = "tracing")]
    throttled!(
        warn, target: RESUME, sessions, sessions_per_key,
        "resume: a session ended to make room for a new one (SessionStore::sessions, sessions_per_key)"
    );
}

/// Logs that a key set could not be fetched.
pub(crate) fn keys_not_fetched(error: &Error) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: HANDSHAKE, %error, "the key set of a JwksVerifier could not be fetched");
}

/// Logs that a pool has another connection.
pub(crate) fn pool_connected(connections: usize) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: POOL, connections, "pool: connected");
}

/// Logs that a pool failed to connect.
pub(crate) fn pool_not_connected(error: &Error) {
    #[cfg(feature = "tracing")]
    throttled!(warn, target: POOL, %error, "pool: an attempt to connect failed");
}

/// Logs that a handshake, or a request that should have been one, was rejected.
pub(crate) fn refused<'a>(transport: &'static str, status: StatusCode, reason: &str, head: impl Into<Head<'a>>) {
    count_handshake(transport, status);
    #[cfg(feature = "tracing")]
    {
        let Head { uri, headers, extensions } = head.into();
        let peer = peer(extensions);
        use tracing::field::display;

        macro_rules! event {
            ($level:ident) => {
                throttled!(
                    $level,
                    target: HANDSHAKE,
                    network.protocol.name = transport,
                    http.response.status_code = status.as_u16(),
                    reason,
                    network.peer.address = peer.map(Peer::address).map(display),
                    network.peer.port = peer.and_then(Peer::port),
                    origin = headers.get(header::ORIGIN).map(|origin| display(Quoted(origin.as_bytes()))),
                    url.path = %Quoted(uri.path().as_bytes()),
                    "refused a handshake"
                )
            };
        }
        match status {
            status if status.is_server_error() => event!(warn),
            // With a proxy that does not forward the upgrade, every client gets a 426.
            StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::UPGRADE_REQUIRED => event!(info),
            _ => event!(debug),
        }
    }
}

/// Logs that this end closes a connection because of something the peer sent.
pub(crate) fn closing(transport: &'static str, code: CloseCode, error: &Error, peer: Option<Peer>) {
    #[cfg(feature = "tracing")]
    {
        macro_rules! event {
            ($level:ident) => {
                throttled!(
                    $level,
                    target: TRANSPORT,
                    network.protocol.name = transport,
                    code = code.get(),
                    %error,
                    network.peer.address = peer.map(Peer::address).map(tracing::field::display),
                    network.peer.port = peer.and_then(Peer::port),
                    "closed a connection because of what the peer sent"
                )
            };
        }
        if code == CloseCode::TOO_BIG { event!(info) } else { event!(debug) }
    }
}

/// Logs that a layer of this end closed a connection.
pub(crate) fn closed_by_layer(frame: &CloseFrame, error: &Error) {
    #[cfg(feature = "tracing")]
    {
        macro_rules! event {
            ($level:ident) => {
                throttled!($level, target: LAYER, code = frame.code().get(), %error, "a layer closed a connection")
            };
        }
        match frame.code() {
            CloseCode::TOO_BIG | CloseCode::POLICY => event!(info),
            _ => event!(debug),
        }
    }
}

/// Logs that a guard admitted a request over no transport. Guards of this crate log the reason.
pub(crate) fn not_admitted(status: StatusCode) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: HANDSHAKE, { http.response.status_code = status.as_u16() }, "a guard refused a session");
}

/// Logs that a full server rejects a client before the client has sent a request.
pub(crate) fn full(transport: &'static str, reason: &str, peer: net::SocketAddr) {
    #[cfg(feature = "tracing")]
    throttled!(
        warn,
        target: HANDSHAKE,
        network.protocol.name = transport,
        reason,
        network.peer.address = %peer.ip(),
        network.peer.port = peer.port(),
        "refused a connection"
    );
}

/// Logs that a server of calls could not send an answer, because the transport rejected it.
pub(crate) fn answer_rejected(error: &Error) {
    #[cfg(feature = "tracing")]
    throttled!(warn, target: SERVICE, %error, "an answer was rejected by the transport");
}

/// Logs that the transport rejected a notification of a peer.
#[cfg(feature = "peer")]
pub(crate) fn notification_rejected(error: &Error) {
    #[cfg(feature = "tracing")]
    throttled!(warn, target: SERVICE, %error, "a notification was rejected by the transport, and is lost");
}

/// Logs that a driver, a server of calls or an event stream gave up a connection whose close took too long.
pub(crate) fn close_cut(error: &Error, lost: usize) {
    #[cfg(feature = "tracing")]
    throttled!(warn, target: TRANSPORT, %error, lost, "cut a connection that could not be closed");
}

/// Logs that a server of calls dropped a request that it could not read.
pub(crate) fn request_unreadable(error: &Error) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: SERVICE, %error, "a request could not be read");
}

/// Logs that one incoming connection failed before it was accepted.
pub(crate) fn connection_failed(error: &io::Error) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: TRANSPORT, %error, "a connection failed before it was accepted");
}

/// Logs that the listener failed.
pub(crate) fn accept_failed(error: &io::Error, again_in: std::time::Duration) {
    #[cfg(feature = "tracing")]
    tracing::error!(
        target: TRANSPORT,
        %error,
        ?again_in,
        "cannot accept connections; is the limit of open files (ulimit -n) reached?"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_events_is_bounded_and_the_next_window_tells_how_many_were_left_out() {
        let throttle = Throttle::new();
        let logged = (0..1000).filter_map(|_| throttle.admit_in(1)).collect::<Vec<_>>();
        assert_eq!(logged, [0; MOST as usize]);
        assert_eq!(throttle.admit_in(2), Some(900));
        assert_eq!(throttle.admit_in(2), Some(0));
        assert_eq!(throttle.admit_in(9), Some(0), "a quiet window leaves nothing out");
    }

    #[test]
    fn words_of_a_peer_are_escaped_and_cut() {
        assert_eq!(Quoted(b"https://a.example").to_string(), "https://a.example");
        assert_eq!(Quoted(b"a\r\nb\x1b[0m\"").to_string(), "a\\r\\nb\\x1b[0m\\\"");
        let long = Quoted(&[b'a'; 5000]).to_string();
        assert_eq!(long.len(), LONGEST + 3);
        assert!(long.ends_with("..."));
    }

    #[test]
    fn the_address_of_a_peer_is_that_of_the_extensions() {
        let mut extensions = Extensions::new();
        assert!(peer(&extensions).is_none());
        extensions.insert(net::IpAddr::from([192, 0, 2, 1]));
        let ip = peer(&extensions).unwrap();
        assert_eq!((ip.address().to_string().as_str(), ip.port()), ("192.0.2.1", None));
        extensions.insert(net::SocketAddr::from(([192, 0, 2, 1], 443)));
        let socket = peer(&extensions).unwrap();
        assert_eq!((socket.address().to_string().as_str(), socket.port()), ("192.0.2.1", Some(443)));
    }
}
