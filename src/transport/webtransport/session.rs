use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use web_transport_quinn as wtq;

use super::{endpoints::Endpoints, error};
use crate::{
    CloseFrame, Error, Limits,
    log::Peer,
    rt,
    sync::Mutex,
    transport::{
        drain::{Drain, Member},
        permit::ConnectionPermit,
    },
};

/// A WebTransport session, either end: one QUIC connection, with any number of streams in it. A clone is the same
/// session.
///
/// [`WebTransportConnector::connect_session`](super::WebTransportConnector::connect_session) and
/// [`Incoming::accept`](super::Incoming::accept) create one; each [`WebTransportStream`](super::WebTransportStream) has
/// [its session](super::WebTransportStream::session).
///
/// # The end
///
/// A session ends when either end calls [`close`](Self::close) with a code and a reason, when nothing was received from
/// the peer for [`SessionLimits::idle`](super::SessionLimits::idle), or when the last handle to it is dropped: its
/// clones, and the streams in it. Every stream in it then ends with an error for which [`is_closed`](Error::is_closed)
/// is true and which carries the peer's close frame, if there is one.
///
/// # Close codes
///
/// A close code of WebTransport has 32 bits. Codes of this crate are sent unchanged (4001 is 4001), and received codes
/// that a [`CloseFrame`] can represent arrive as one. Others are named in the error's text.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    quic: wtq::Session,
    limits: Limits,
    subprotocol: Option<Box<str>>,
    held: Held,
    /// Whether this end closed the session: the layer below reports the same reason for a lost peer.
    is_closed_here: AtomicBool,
}

/// How long [`Session::closed`] waits for the task below to read a close frame that has arrived, in milliseconds.
const FRAME_WITHIN_MS: u32 = 100;

/// The values that a session holds until it is gone.
enum Held {
    Client {
        _endpoints: Arc<Endpoints>,
    },
    Server {
        registry: Arc<Registry>,
        drain: Option<Drain>,
        /// The value that guards want back.
        _permit: Option<ConnectionPermit>,
    },
}

impl Session {
    /// Creates the client's end.
    pub(super) fn connected(
        quic: wtq::Session,
        limits: Limits,
        subprotocol: Option<Box<str>>,
        endpoints: Arc<Endpoints>,
    ) -> Self {
        Self::new(quic, limits, subprotocol, Held::Client { _endpoints: endpoints })
    }

    /// Creates the server's end.
    pub(super) fn accepted(
        quic: wtq::Session,
        limits: Limits,
        subprotocol: Option<Box<str>>,
        registry: Arc<Registry>,
        permit: Option<ConnectionPermit>,
        drain: Option<Drain>,
    ) -> Self {
        let held = Held::Server { registry: registry.clone(), drain, _permit: permit };
        let session = Self::new(quic, limits, subprotocol, held);
        registry.0.lock().insert(session.0.quic.stable_id(), Arc::downgrade(&session.0));
        session
    }

    fn new(quic: wtq::Session, limits: Limits, subprotocol: Option<Box<str>>, held: Held) -> Self {
        Self(Arc::new(Inner { quic, limits, subprotocol, held, is_closed_here: AtomicBool::new(false) }))
    }

    /// Returns the session of the layer below.
    pub(super) fn quic(&self) -> &wtq::Session {
        &self.0.quic
    }

    /// Returns the membership of a new stream in the server's drain.
    pub(super) fn member(&self) -> Option<Member> {
        let Held::Server { drain: Some(drain), .. } = &self.0.held else { return None };
        let seat = drain.enter();
        seat.set_peer(Some(Peer::Socket(self.remote_address())));
        Some(Member::new(seat, self.0.limits.close))
    }

    /// Returns the limits of each stream.
    pub(super) fn limits(&self) -> Limits {
        self.0.limits
    }

    /// Returns the subprotocol that was negotiated in the handshake.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.0.subprotocol.as_deref()
    }

    /// Returns the peer's address. It changes when the peer moves to another network.
    #[must_use]
    pub fn remote_address(&self) -> std::net::SocketAddr {
        self.0.quic.remote_address()
    }

    /// Closes the session, and all streams in it, with a code and a reason. Undelivered messages of streams may be
    /// lost; close the streams first if that matters. Only the first close counts.
    ///
    /// It returns immediately. [`closed`](Self::closed) waits until the peer knows, or three round trips have passed.
    pub fn close(&self, frame: CloseFrame) {
        if self.0.quic.close_reason().is_none() {
            self.0.is_closed_here.store(true, Ordering::Relaxed);
        }
        self.0.quic.close(frame.code().get().into(), frame.reason().as_bytes());
    }

    /// Returns whether this end closed the session while it was open.
    pub(super) fn is_closed_here(&self) -> bool {
        self.0.is_closed_here.load(Ordering::Relaxed)
    }

    /// Waits for the end of the session, and returns the reason: an error for which [`is_closed`](Error::is_closed) is
    /// true, with the [close frame](Error::close_frame) of the peer if it sent one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect: it only observes.
    pub async fn closed(&self) -> Error {
        let reason = self.0.quic.closed().await;
        self.lost(reason).await
    }

    /// Creates the error of an operation that the end of the session stopped, with the peer's close frame even if that
    /// is still unread.
    pub(super) async fn lost(&self, reason: wtq::SessionError) -> Error {
        error::session(self.found(reason).await)
    }

    /// Returns the peer's close frame in place of a reason that hides it.
    pub(super) async fn found(&self, reason: wtq::SessionError) -> wtq::SessionError {
        self.frame_behind(&reason).await.unwrap_or(reason)
    }

    /// Waits for a close frame that arrived with the end of the connection. Another task of the layer below reads it,
    /// records how that went, and then closes the connection as well, even one that is closed.
    async fn frame_behind(&self, reason: &wtq::SessionError) -> Option<wtq::SessionError> {
        if !self.may_hide_a_frame(reason) {
            return None;
        }
        for _ in 0..FRAME_WITHIN_MS {
            if !self.is_ended_by_peer() {
                let recorded = self.0.quic.close_reason();
                return recorded.filter(|recorded| matches!(recorded, wtq::SessionError::WebTransportError(_)));
            }
            rt::sleep(Duration::from_millis(1)).await;
        }
        None
    }

    /// Returns whether the peer ended the connection for `reason`, which has no words of its own: a close frame that
    /// was sent before may still be unread. An end of QUIC may carry the frame's code, without its text.
    pub(super) fn may_hide_a_frame(&self, reason: &wtq::SessionError) -> bool {
        let is_without_words = match reason {
            wtq::SessionError::WebTransportError(wtq::WebTransportError::Closed(_, words)) => words.is_empty(),
            reason => matches!(reason, wtq::SessionError::ConnectionError(_)),
        };
        is_without_words && self.is_ended_by_peer()
    }

    /// Returns whether the peer ended the connection, and this end has not closed it after that.
    fn is_ended_by_peer(&self) -> bool {
        use quinn::ConnectionError::{ApplicationClosed, ConnectionClosed};

        let quic: &quinn::Connection = &self.0.quic;
        matches!(quic.close_reason(), Some(ApplicationClosed(_) | ConnectionClosed(_)))
    }
}

impl Drop for Inner {
    /// The tasks below hold the connection as well, so it would not close automatically.
    fn drop(&mut self) {
        if let Held::Server { registry, .. } = &self.held {
            registry.0.lock().remove(&self.quic.stable_id());
        }
        self.quic.close(0, b"");
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("remote_address", &self.remote_address())
            .field("subprotocol", &self.subprotocol())
            .finish_non_exhaustive()
    }
}

/// The sessions of a server, so that they can be closed with it.
#[derive(Default)]
pub(super) struct Registry(Mutex<HashMap<usize, Weak<Inner>>>);

impl Registry {
    pub(super) fn close(&self, frame: &CloseFrame) {
        // Not under the lock: a session that is dropped here takes it.
        let sessions = self.0.lock().values().cloned().collect::<Vec<_>>();
        for session in sessions.iter().filter_map(Weak::upgrade) {
            Session(session).close(frame.clone());
        }
    }
}
